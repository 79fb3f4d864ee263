//! What the kernels are tested against: plain loops in f64, and the conditions under which a kernel must not change.

use super::taps::TAPS;
use super::{Grid, Isa, crew};

/// Grids of odd sizes: one pixel, a line, a column, not square, several blocks.
pub const GRIDS: [Grid; 7] = [
    Grid { batch: 1, height: 1, width: 1 },
    Grid { batch: 3, height: 1, width: 7 },
    Grid { batch: 2, height: 6, width: 1 },
    Grid { batch: 5, height: 3, width: 5 },
    Grid { batch: 3, height: 2, width: 2 },
    Grid { batch: 1, height: 9, width: 11 },
    Grid { batch: 7, height: 8, width: 8 },
];

/// Values in [-1, 1), the same for the same seed.
pub fn values(seed: u64, len: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u32 << 23) as f32 - 1.0
    };
    (0..8).for_each(|_| _ = next());
    (0..len).map(|_| next()).collect()
}

/// The same values in f64.
pub fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| f64::from(x)).collect()
}

/// Runs `body` once on every instruction set of this machine.
pub fn on_each_isa(body: impl Fn(Isa)) {
    for isa in Isa::available() {
        Isa::force(isa, || body(isa));
    }
}

/// Runs `body` in a pool of `threads` threads, on `isa`.
pub fn in_pool<R: Send>(threads: usize, isa: Isa, body: impl FnOnce() -> R + Send) -> R {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
    pool.install(|| Isa::force(isa, body))
}

/// On every instruction set: `body` gives the same on 1, 2 and 3 threads.
pub fn same_on_any_threads<R: PartialEq + Send>(body: impl Fn() -> R + Sync) {
    for isa in Isa::available() {
        let alone = in_pool(1, isa, &body);
        for threads in [2, 3] {
            assert!(alone == in_pool(threads, isa, &body), "{isa:?}: {threads} threads change bits");
            let attended = in_pool(threads, isa, || crew::attended(&body));
            assert!(alone == attended, "{isa:?}: {threads} threads that wait awake change bits");
        }
    }
}

/// `found` is `expected` within `tolerance`, relative to the largest of `expected` (at least 1e-3).
#[track_caller]
pub fn assert_close(found: &[f32], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "lengths");
    let scale = expected.iter().fold(1e-3, |scale: f64, x| scale.max(x.abs()));
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        let error = (f64::from(*found) - expected).abs() / scale;
        assert!(error <= tolerance, "value {index}: found {found}, expected {expected}, error {error:.1e}");
    }
}

/// The rows of image `image` of x [rows, columns].
pub fn image<T>(grid: Grid, x: &[T], columns: usize, image: usize) -> &[T] {
    let size = grid.pixels() * columns;
    &x[image * size..(image + 1) * size]
}

/// One image of the grid.
pub fn one(grid: Grid) -> Grid {
    Grid { batch: 1, ..grid }
}

/// The row that tap `tap` of row `row` reaches.
fn reach(grid: Grid, row: usize, tap: usize) -> Option<usize> {
    let (line, column) = (row % grid.pixels() / grid.width, row % grid.width);
    let (line, column) = ((line + tap / 3).checked_sub(1)?, (column + tap % 3).checked_sub(1)?);
    (line < grid.height && column < grid.width)
        .then(|| row / grid.pixels() * grid.pixels() + line * grid.width + column)
}

/// y[p, o] = b[p % bias rows, o] + sum over taps and c of x[p + tap, c] weight(tap, c, o)
pub fn conv(
    grid: Grid,
    x: &[f64],
    weight: impl Fn(usize, usize, usize) -> f64,
    b: &[f64],
    c_in: usize,
    c_out: usize,
) -> Vec<f64> {
    let mut y = Vec::with_capacity(grid.rows() * c_out);
    for row in 0..grid.rows() {
        for o in 0..c_out {
            let mut sum = b[row % (b.len() / c_out) * c_out + o];
            for tap in 0..TAPS {
                if let Some(from) = reach(grid, row, tap) {
                    sum += (0..c_in).map(|c| x[from * c_in + c] * weight(tap, c, o)).sum::<f64>();
                }
            }
            y.push(sum);
        }
    }
    y
}

/// The gradients of [`conv`] for the cotangent `dy`: of x, of the weights as `at(tap, c, o)` indexes them, of b.
pub struct ConvGradients {
    pub dx: Vec<f64>,
    pub w: Vec<f64>,
    pub b: Vec<f64>,
}

#[allow(clippy::too_many_arguments, reason = "the definition has as many")]
/// The gradients of [`conv`]; weight (tap, c, o) is `w[at(tap, c, o)]`.
pub fn conv_backward(
    grid: Grid,
    x: &[f64],
    w: &[f64],
    at: impl Fn(usize, usize, usize) -> usize,
    dy: &[f64],
    bias_rows: usize,
    c_in: usize,
    c_out: usize,
) -> ConvGradients {
    let mut gradients =
        ConvGradients { dx: vec![0.0; x.len()], w: vec![0.0; w.len()], b: vec![0.0; bias_rows * c_out] };
    for row in 0..grid.rows() {
        for o in 0..c_out {
            let d = dy[row * c_out + o];
            gradients.b[row % bias_rows * c_out + o] += d;
            for tap in 0..TAPS {
                if let Some(from) = reach(grid, row, tap) {
                    for c in 0..c_in {
                        gradients.dx[from * c_in + c] += d * w[at(tap, c, o)];
                        gradients.w[at(tap, c, o)] += d * x[from * c_in + c];
                    }
                }
            }
        }
    }
    gradients
}
