//! The arithmetic of a coupling: the first half of the channels is kept, the second is changed by what a net made of
//! the first, h. Additive: h is [rows, C/2] and y2 = x2 + h. Affine: h is [rows, C] with shift = h[0::2] and
//! raw = h[1::2], and y2 = (x2 + shift) s(raw).

use rayon::prelude::*;

use super::elementary::{exp, ln_ratio, softplus_of};
use super::isa::{Isa, per_isa};
use super::pairs::{BLOCK, Layout, per_example};
use super::reduce;

/// What a coupling does to the changed half.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// y2 = x2 + h
    Additive,
    /// s = sigmoid(raw + 2): Glow. Never written as a quotient by s, which underflows.
    Sigmoid,
    /// s = 1/2 + 3/2 sigmoid(raw - ln 2): within [1/2, 2], and 1 at raw = 0.
    Bounded,
}

/// Gradients of a coupling.
#[derive(Debug, Clone, PartialEq)]
pub struct CouplingGradients {
    /// [rows, C]. The kept half is dy's: [`add_to_kept`] adds what comes through the net.
    pub dx: Vec<f32>,
    /// In the shape of h.
    pub dh: Vec<f32>,
}

/// The outputs of [`forward`].
#[derive(Debug, Clone, PartialEq)]
pub struct Forward {
    /// [rows, C]
    pub y: Vec<f32>,
    /// ln |det dy/dx| of each example, nats.
    pub log_det: Vec<f64>,
}

impl Kind {
    /// Columns of h.
    pub fn parameters(self, channels: usize) -> usize {
        if self == Kind::Additive { channels / 2 } else { channels }
    }
}

/// A scale s, ln s, 1 / s and d ln s / d raw.
struct Scale {
    scale: f32,
    log: f32,
    inverse: f32,
    slope: f32,
}

/// [`Kind::Sigmoid`] and [`Kind::Bounded`] as constants, so that the loops have no branch.
const SIGMOID: usize = 0;
const BOUNDED: usize = 1;

#[inline(always)]
fn scale<const KIND: usize>(raw: f32) -> Scale {
    if KIND == SIGMOID {
        let t = -(raw + 2.0);
        let e = exp(t);
        let scale = 1.0 / (1.0 + e);
        // 1 - s without cancellation; e may be infinite.
        let slope = if e > 1e30 { 1.0 } else { e * scale };
        Scale { scale, log: -softplus_of(t, e), inverse: 1.0 + e, slope }
    } else {
        let e = 2.0 * exp(-raw);
        let gate = 1.0 / (1.0 + e);
        let rest = if e > 1e30 { 1.0 } else { e * gate };
        let scale = 0.5 + 1.5 * gate;
        let inverse = 1.0 / scale;
        Scale { scale, log: ln_ratio((scale - 1.0) / (scale + 1.0)), inverse, slope: 1.5 * gate * rest * inverse }
    }
}

/// Calls a function of either affine kind.
macro_rules! of_kind {
    ($kind:expr, $function:ident($($argument:expr),*)) => {
        if $kind == Kind::Bounded { $function::<BOUNDED>($($argument),*) } else { $function::<SIGMOID>($($argument),*) }
    };
}

/// Rows of a task: about this many values.
const TASK: usize = 1 << 14;

/// Applies a coupling to x [rows, C].
pub fn forward(kind: Kind, batch: usize, x: &[f32], h: &[f32], channels: usize) -> Forward {
    check(kind, x, h, channels);
    let isa = Isa::active();
    let (half, parameters) = (channels / 2, kind.parameters(channels));
    let mut y = x.to_vec();
    let pixels = pixels(x, batch, channels);
    if pixels == 0 {
        return Forward { y, log_det: vec![0.0; batch] };
    }
    // Tasks of whole rows that start with the image: an image's sum has one order, whatever the batch.
    let rows = (TASK / channels).clamp(1, pixels);
    let images = TASK / (pixels * channels) + 1;
    let work = y.par_chunks_mut(pixels * channels).zip(h.par_chunks(pixels * parameters)).with_min_len(images);
    let log_det = work.map(|(y, h)| {
        let tasks = y.par_chunks_mut(rows * channels).zip(h.par_chunks(rows * parameters));
        let sums: Vec<f64> = tasks.map(|(y, h)| change(isa, kind, y, h, half)).collect();
        sums.iter().sum()
    });
    let log_det = log_det.collect();
    Forward { y, log_det }
}

/// Rebuilds x from y [rows, C].
pub fn inverse(kind: Kind, y: &[f32], h: &[f32], channels: usize) -> Vec<f32> {
    check(kind, y, h, channels);
    let isa = Isa::active();
    let mut x = y.to_vec();
    let rows = (TASK / channels).max(1);
    let tasks = x.par_chunks_mut(rows * channels).zip(h.par_chunks(rows * kind.parameters(channels)));
    tasks.for_each(|(x, h)| restore(isa, kind, x, h, channels / 2));
    x
}

/// Applies a coupling to rows x [.., 2 half] in place; gives the sum of ln s.
pub(super) fn change(isa: Isa, kind: Kind, x: &mut [f32], h: &[f32], half: usize) -> f64 {
    if kind == Kind::Additive {
        add(isa, x, h, half, 1.0);
        return 0.0;
    }
    of_kind!(kind, affine(isa, x, h, half))
}

/// Undoes [`change`].
pub(super) fn restore(isa: Isa, kind: Kind, y: &mut [f32], h: &[f32], half: usize) {
    if kind == Kind::Additive {
        return add(isa, y, h, half, -1.0);
    }
    of_kind!(kind, affine_inverse(isa, y, h, half))
}

/// The gradients for the cotangents `dy` [rows, C] of y and `log_det_cotangent` [batch], from the output y.
pub fn backward(
    kind: Kind,
    batch: usize,
    y: &[f32],
    h: &[f32],
    dy: &[f32],
    log_det_cotangent: &[f32],
    channels: usize,
) -> CouplingGradients {
    check(kind, y, h, channels);
    assert_eq!(dy.len(), y.len(), "the cotangent has the shape of y");
    assert_eq!(log_det_cotangent.len(), batch, "a cotangent for each example");
    let isa = Isa::active();
    let half = channels / 2;
    let mut dx = dy.to_vec();
    if kind == Kind::Additive {
        return CouplingGradients { dx, dh: changed(dy, channels) };
    }
    let mut dh = vec![0.0; h.len()];
    let pixels = pixels(y, batch, channels);
    let rows = (TASK / channels).max(1);
    let size = rows * channels;
    let tasks = dx.par_chunks_mut(size).zip(dh.par_chunks_mut(size)).zip(y.par_chunks(size).zip(h.par_chunks(size)));
    tasks.enumerate().for_each(|(task, ((dx, dh), (y, h)))| {
        of_kind!(kind, affine_backward(isa, y, h, log_det_cotangent, pixels, task * rows, half, dx, dh));
    });
    CouplingGradients { dx, dh }
}

/// Adds `dkept` [rows, C/2] to the kept half of `dx` [rows, C].
pub fn add_to_kept(dx: &mut [f32], dkept: &[f32], channels: usize) {
    let half = channels / 2;
    assert_eq!(dx.len(), 2 * dkept.len(), "half of the channels");
    for (dx, dkept) in dx.chunks_exact_mut(channels).zip(dkept.chunks_exact(half)) {
        for (dx, dkept) in dx.iter_mut().zip(dkept) {
            *dx += dkept;
        }
    }
}

/// The kept halves of x [rows, C]: [rows, C/2].
pub fn kept(x: &[f32], channels: usize) -> Vec<f32> {
    halves(x, channels, 0)
}

fn changed(x: &[f32], channels: usize) -> Vec<f32> {
    halves(x, channels, channels / 2)
}

fn halves(x: &[f32], channels: usize, first: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(x.len() / 2);
    for row in x.chunks_exact(channels) {
        out.extend_from_slice(&row[first..first + channels / 2]);
    }
    out
}

fn check(kind: Kind, x: &[f32], h: &[f32], channels: usize) {
    assert!(channels >= 2 && channels.is_multiple_of(2), "an even number of channels, not {channels}");
    assert!(x.len().is_multiple_of(channels), "rows of {channels} channels");
    let rows = x.len() / channels;
    assert_eq!(h.len(), rows * kind.parameters(channels), "parameters for {rows} rows");
}

fn pixels(x: &[f32], batch: usize, channels: usize) -> usize {
    let rows = x.len() / channels;
    assert!(rows.is_multiple_of(batch.max(1)), "{rows} rows are not {batch} images");
    rows / batch.max(1)
}

per_isa! {
    /// x2 += sign h
    fn add<S>(x: &mut [f32], h: &[f32], half: usize, sign: f32) {
        for (x, h) in x.chunks_exact_mut(2 * half).zip(h.chunks_exact(half)) {
            for (x, h) in x[half..].iter_mut().zip(h) {
                *x += sign * h;
            }
        }
    }
}

/// Calls `run(offset, at, len)` for each run of the values `start..start + len` of the changed half of [rows, 2 half]:
/// value `offset` of these lies at `at`.
#[inline(always)]
fn runs(start: usize, len: usize, half: usize, mut run: impl FnMut(usize, usize, usize)) {
    let (row, column) = (start / half, start % half);
    let mut at = (2 * row + 1) * half + column;
    let mut count = (half - column).min(len);
    let mut done = 0;
    while done < len {
        run(done, at, count);
        done += count;
        // To the end of the row, and past the next one's kept half.
        at += count + half;
        count = half.min(len - done);
    }
}

/// The changed values `start..start + len`.
#[inline(always)]
fn read_changed(x: &[f32], half: usize, start: usize, len: usize) -> [f32; BLOCK] {
    let mut values = [0.0; BLOCK];
    runs(start, len, half, |offset, at, count| {
        for (to, from) in values[offset..offset + count].iter_mut().zip(&x[at..at + count]) {
            *to = *from;
        }
    });
    values
}

#[inline(always)]
fn write_changed(x: &mut [f32], half: usize, start: usize, len: usize, values: &[f32; BLOCK]) {
    runs(start, len, half, |offset, at, count| {
        for (to, from) in x[at..at + count].iter_mut().zip(&values[offset..offset + count]) {
            *to = *from;
        }
    });
}

per_isa! {
    /// y2 = (x2 + shift) s in place; gives the sum of ln s.
    fn affine<S, const KIND: usize>(y: &mut [f32], h: &[f32], half: usize) -> f64 {
        let mut logs = [0.0; BLOCK];
        let mut log_det = 0.0;
        for start in (0..h.len() / 2).step_by(BLOCK) {
            let len = BLOCK.min(h.len() / 2 - start);
            let (shift, raw) = Layout::Interleaved.read(h, half, start, len);
            let mut values = read_changed(y, half, start, len);
            for (((value, shift), raw), log) in values.iter_mut().zip(&shift).zip(&raw).zip(&mut logs) {
                let s = scale::<KIND>(*raw);
                *value = (*value + shift) * s.scale;
                *log = s.log;
            }
            write_changed(y, half, start, len, &values);
            log_det += reduce::sum(&logs[..len]);
        }
        log_det
    }
}

per_isa! {
    /// x2 = y2 / s - shift in place.
    fn affine_inverse<S, const KIND: usize>(x: &mut [f32], h: &[f32], half: usize) {
            for start in (0..h.len() / 2).step_by(BLOCK) {
            let len = BLOCK.min(h.len() / 2 - start);
            let (shift, raw) = Layout::Interleaved.read(h, half, start, len);
            let mut values = read_changed(x, half, start, len);
            for ((value, shift), raw) in values.iter_mut().zip(&shift).zip(&raw) {
                *value = *value * scale::<KIND>(*raw).inverse - shift;
            }
            write_changed(x, half, start, len, &values);
        }
    }
}

per_isa! {
    /// dx2 = dshift = dy2 s and draw = (dy2 y2 + cotangent) d ln s / d raw. `dx` holds dy; `first` is the
    /// batch's row of the first row.
    fn affine_backward<S, const KIND: usize>(
        y: &[f32], h: &[f32], cotangent: &[f32], pixels: usize, first: usize, half: usize,
        dx: &mut [f32], dh: &mut [f32],
    ) {
        for start in (0..h.len() / 2).step_by(BLOCK) {
            let len = BLOCK.min(h.len() / 2 - start);
            let (_, mut raw) = Layout::Interleaved.read(h, half, start, len);
            let cotangents = per_example(cotangent, pixels * half, first * half + start, len);
            let y = read_changed(y, half, start, len);
            let mut d = read_changed(dx, half, start, len);
            for (((d, y), raw), cotangent) in d.iter_mut().zip(&y).zip(&mut raw).zip(&cotangents) {
                let s = scale::<KIND>(*raw);
                *raw = (*d * y + cotangent) * s.slope;
                *d *= s.scale;
            }
            write_changed(dx, half, start, len, &d);
            Layout::Interleaved.write(dh, half, start, len, &d, &raw);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Grid;
    use super::super::reference::{GRIDS, assert_close, image, on_each_isa, one, same_on_any_threads, values};
    use super::*;

    const KINDS: [Kind; 3] = [Kind::Additive, Kind::Sigmoid, Kind::Bounded];

    struct Case {
        kind: Kind,
        grid: Grid,
        channels: usize,
        x: Vec<f32>,
        h: Vec<f32>,
    }

    fn cases() -> Vec<Case> {
        let mut cases = Vec::new();
        let large = Grid { batch: 3, height: 40, width: 41 };
        for kind in KINDS {
            for grid in GRIDS.into_iter().chain([large]) {
                for channels in [2, 6, 12, 48, 600] {
                    if grid == large && channels > 12 {
                        continue;
                    }
                    let x = values(1, grid.rows() * channels);
                    let mut h = values(2, grid.rows() * kind.parameters(channels));
                    h.iter_mut().for_each(|h| *h *= 3.0);
                    cases.push(Case { kind, grid, channels, x, h });
                }
            }
        }
        cases
    }

    /// ln s in f64.
    fn log_scale(kind: Kind, raw: f64) -> f64 {
        match kind {
            Kind::Additive => 0.0,
            Kind::Sigmoid => -(-(raw + 2.0)).exp().ln_1p(),
            Kind::Bounded => (0.5 + 1.5 / (1.0 + 2.0 * (-raw).exp())).ln(),
        }
    }

    /// y and the log-determinants in f64.
    fn definition(case: &Case, x: &[f64], h: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let half = case.channels / 2;
        let (mut y, mut log_det) = (x.to_vec(), vec![0.0; case.grid.batch]);
        for row in 0..case.grid.rows() {
            for c in 0..half {
                let at = row * case.channels + half + c;
                let value = row * half + c;
                if case.kind == Kind::Additive {
                    y[at] += h[value];
                } else {
                    let log = log_scale(case.kind, h[2 * value + 1]);
                    y[at] = (y[at] + h[2 * value]) * log.exp();
                    log_det[row / case.grid.pixels()] += log;
                }
            }
        }
        (y, log_det)
    }

    fn wide(x: &[f32]) -> Vec<f64> {
        super::super::reference::wide(x)
    }

    #[test]
    fn equals_the_definition_and_inverts() {
        for case in cases() {
            let (y, log_det) = definition(&case, &wide(&case.x), &wide(&case.h));
            on_each_isa(|_| {
                let found = forward(case.kind, case.grid.batch, &case.x, &case.h, case.channels);
                assert_close(&found.y, &y, 1e-6);
                // Roundings of ln s in f32 add up.
                let tolerance = 1e-8 * (case.grid.pixels() * case.channels) as f64 + 1e-6;
                for (found, expected) in found.log_det.iter().zip(&log_det) {
                    assert!((found - expected).abs() <= tolerance, "log_det {found}, expected {expected}");
                }
                let rebuilt = inverse(case.kind, &found.y, &case.h, case.channels);
                assert_close(&rebuilt, &wide(&case.x), 2e-6);
            });
        }
    }

    #[test]
    fn gradients_equal_finite_differences() {
        for case in cases().into_iter().filter(|case| case.x.len() < 200) {
            let batch = case.grid.batch;
            let (dy, cotangent) = (values(3, case.x.len()), values(4, batch));
            let objective = |x: &[f64], h: &[f64]| {
                let (y, log_det) = definition(&case, x, h);
                let of_y: f64 = y.iter().zip(&dy).map(|(y, dy)| y * f64::from(*dy)).sum();
                of_y + log_det.iter().zip(&cotangent).map(|(l, c)| l * f64::from(*c)).sum::<f64>()
            };
            let (x, h) = (wide(&case.x), wide(&case.h));
            let difference = |of_h: bool, at: usize| {
                let at_step = |step: f64| {
                    let (mut x, mut h) = (x.clone(), h.clone());
                    if of_h {
                        h[at] += step
                    } else {
                        x[at] += step
                    }
                    objective(&x, &h)
                };
                (at_step(1e-5) - at_step(-1e-5)) / 2e-5
            };
            let dx: Vec<f64> = (0..x.len()).map(|at| difference(false, at)).collect();
            let dh: Vec<f64> = (0..h.len()).map(|at| difference(true, at)).collect();
            on_each_isa(|_| {
                let y = forward(case.kind, batch, &case.x, &case.h, case.channels).y;
                let found = backward(case.kind, batch, &y, &case.h, &dy, &cotangent, case.channels);
                assert_close(&found.dx, &dx, 2e-6);
                assert_close(&found.dh, &dh, 2e-6);
            });
        }
    }

    #[test]
    fn an_image_alone_any_threads_and_any_instruction_set_give_the_same_bits() {
        for case in cases() {
            let Case { kind, grid, channels, ref x, ref h } = case;
            let (dy, cotangent) = (values(3, x.len()), values(4, grid.batch));
            let run = |grid: Grid, x: &[f32], h: &[f32], dy: &[f32], cotangent: &[f32]| {
                let found = forward(kind, grid.batch, x, h, channels);
                let gradients = backward(kind, grid.batch, &found.y, h, dy, cotangent, channels);
                let rebuilt = inverse(kind, &found.y, h, channels);
                (found, gradients, rebuilt)
            };
            let portable = Isa::force(Isa::Portable, || run(grid, x, h, &dy, &cotangent));
            on_each_isa(|isa| assert!(portable == run(grid, x, h, &dy, &cotangent), "{isa:?} changes bits"));
            same_on_any_threads(|| run(grid, x, h, &dy, &cotangent));
            let parameters = kind.parameters(channels);
            for i in 0..grid.batch {
                let (x, dy) = (image(grid, x, channels, i), image(grid, &dy, channels, i));
                let alone = run(one(grid), x, image(grid, h, parameters, i), dy, &cotangent[i..=i]);
                assert_eq!(alone.0.y, image(grid, &portable.0.y, channels, i));
                assert_eq!(alone.0.log_det[0].to_bits(), portable.0.log_det[i].to_bits());
                assert_eq!(alone.1.dx, image(grid, &portable.1.dx, channels, i));
                assert_eq!(alone.1.dh, image(grid, &portable.1.dh, parameters, i));
                assert_eq!(alone.2, image(grid, &portable.2, channels, i));
            }
        }
    }

    #[test]
    fn scales_have_their_limits() {
        let bounded = scale::<BOUNDED>(0.0);
        assert_eq!((bounded.scale, bounded.log, bounded.inverse), (1.0, 0.0, 1.0));
        for raw in [-1e6, -200.0, -100.0, -50.0, 0.0, 50.0, 200.0, 1e6] {
            let s = scale::<BOUNDED>(raw);
            assert!((0.5..=2.0).contains(&s.scale) && s.log.is_finite() && s.slope.is_finite(), "bounded at {raw}");
            let s = scale::<SIGMOID>(raw);
            assert!((0.0..=1.0).contains(&s.scale) && (0.0..=1.0).contains(&s.slope), "sigmoid at {raw}");
            assert!((s.log - raw.min(-2.0) - 2.0).abs() < 0.7, "ln sigmoid at {raw} is {}", s.log);
        }
        assert_eq!(scale::<SIGMOID>(-200.0).scale, 0.0);
        assert!(scale::<SIGMOID>(f32::NAN).scale.is_nan() && scale::<BOUNDED>(f32::NAN).log.is_nan());
    }

    #[test]
    fn halves_are_taken_and_added() {
        let x = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0];
        assert_eq!(kept(&x, 4), [1.0, 2.0, 5.0, 6.0]);
        let mut dx = x;
        add_to_kept(&mut dx, &[10.0, 20.0, 30.0, 40.0], 4);
        assert_eq!(dx, [11.0, 22.0, 3.0, 4.0, 35.0, 46.0, 7.0, 8.0]);
    }
}
