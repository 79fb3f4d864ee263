//! The coupling net, 3x3 convolution - ReLU - 1x1 convolution - ReLU - 3x3 convolution, and its gradients.
//!
//! Each convolution is a product over pixels: the first gathers the nine taps of its few channels, the last computes
//! nine products for each pixel, which are then added where they belong. A block of pixels goes through all three
//! while it is in cache.

use rayon::prelude::*;

use super::blocks::Blocks;
use super::gradient::gradient;
use super::isa::Isa;
use super::matrix::{Layout, Matrix, PANEL, Weights};
use super::product::{Finish, product};
use super::scratch::Scratch;
use super::taps::{self, Side, TAPS};
use super::{Grid, reduce};

/// Weights and biases, everything that is per channel folded into them.
///
/// `bias_rows` below is 1, or the pixels of an image: then a bias is a map that all images share, which is how an
/// edge-aware convolution enters.
#[derive(Debug, Clone, Copy)]
pub struct NetWeights<'a> {
    /// [9 c_in, hidden], row = tap * c_in + channel, tap = (dy + 1) * 3 + dx + 1.
    pub w1: &'a [f32],
    /// [bias_rows, hidden]
    pub b1: &'a [f32],
    /// [hidden, hidden], in and out.
    pub w2: &'a [f32],
    /// [hidden]
    pub b2: &'a [f32],
    /// [hidden, 9 c_out], column = tap * c_out + channel.
    pub w3: &'a [f32],
    /// [bias_rows, c_out]
    pub b3: &'a [f32],
    /// Channels of the input.
    pub c_in: usize,
    /// Width of the hidden layers.
    pub hidden: usize,
    /// Channels of the output.
    pub c_out: usize,
}

/// The hidden activations of a batch, for [`backward`].
#[derive(Default)]
pub struct Hidden {
    h1: Scratch,
    h2: Scratch,
}

impl Hidden {
    /// Memory held.
    pub fn bytes(&self) -> usize {
        size_of_val::<[f32]>(&self.h1) + size_of_val::<[f32]>(&self.h2)
    }
}

/// Gradients, in the shapes of what they belong to.
#[derive(Debug, Clone, PartialEq)]
pub struct NetGradients {
    /// [rows, c_in]
    pub dx: Vec<f32>,
    /// Of [`NetWeights::w1`].
    pub w1: Vec<f32>,
    /// Of [`NetWeights::b1`].
    pub b1: Vec<f32>,
    /// Of [`NetWeights::w2`].
    pub w2: Vec<f32>,
    /// Of [`NetWeights::b2`].
    pub b2: Vec<f32>,
    /// Of [`NetWeights::w3`].
    pub w3: Vec<f32>,
    /// Of [`NetWeights::b3`].
    pub b3: Vec<f32>,
}

/// f32 that a group of images holds at once: about a core's second cache, so that the weight gradients find what the
/// other gradients left.
const GROUP: usize = 1 << 19;

impl NetWeights<'_> {
    fn check(&self, grid: Grid, x: &[f32]) {
        let NetWeights { c_in, hidden, c_out, .. } = *self;
        assert_eq!(x.len(), grid.rows() * c_in, "the input is [rows, {c_in}]");
        assert_eq!(self.w1.len(), TAPS * c_in * hidden, "w1 is [9 c_in, hidden]");
        assert_eq!(self.w2.len(), hidden * hidden, "w2 is [hidden, hidden]");
        assert_eq!(self.w3.len(), hidden * TAPS * c_out, "w3 is [hidden, 9 c_out]");
        assert_eq!(self.b2.len(), hidden, "b2 is [hidden]");
        for (bias, columns) in [(self.b1, hidden), (self.b3, c_out)] {
            let rows = bias.len() / columns;
            assert!(
                bias.len() == rows * columns && (rows == 1 || rows == grid.pixels()),
                "a bias has 1 row or one a pixel"
            );
        }
    }

    fn blocks(&self, grid: Grid) -> Blocks {
        Blocks::new(grid, 2 * self.hidden + TAPS * (2 * self.c_in + self.c_out), GROUP)
    }

    fn layouts(&self, height: usize) -> Layouts {
        Layouts {
            taps: Layout::padded_rows(TAPS * self.c_in, height),
            hidden: Layout::panels(self.hidden, height),
            products: Layout::padded_rows(TAPS * self.c_out, height),
        }
    }
}

struct Layouts {
    taps: Layout,
    hidden: Layout,
    products: Layout,
}

/// The net's output [rows, c_out]; `keep` receives the hidden activations.
pub fn forward(grid: Grid, x: &[f32], w: &NetWeights, mut keep: Option<&mut Hidden>) -> Vec<f32> {
    w.check(grid, x);
    let isa = Isa::active();
    let mut y = vec![0.0; grid.rows() * w.c_out];
    if grid.rows() == 0 {
        return y;
    }
    let blocks = w.blocks(grid);
    let layouts = w.layouts(blocks.height);
    let w1 = Weights::new(w.w1, w.hidden, grid.rows());
    let w2 = Weights::new(w.w2, w.hidden, grid.rows());
    let w3 = Weights::new(w.w3, TAPS * w.c_out, grid.rows());
    let mut z = layouts.products.take(blocks.group_rows());
    if let Some(hidden) = &mut keep {
        for buffer in [&mut hidden.h1, &mut hidden.h2] {
            buffer.resize(blocks.count() * layouts.hidden.block);
        }
    }

    for group in blocks.groups() {
        let spread = group.blocks.len() < rayon::current_num_threads();
        let block = |index: usize, z: &mut [f32], h1: &mut [f32], h2: &mut [f32]| {
            let rows = group.block(index, blocks.height);
            let count = rows.len();
            let mut taps = layouts.taps.take(count);
            taps::gather(isa, grid, rows.clone(), x, w.c_in, Side::Forward, &mut taps, layouts.taps);
            let taps = Matrix::new(&taps, layouts.taps, count);
            let bias = Finish::Bias { map: w.b1, first: rows.start, relu: true };
            product(isa, taps, w1.matrix(), h1, layouts.hidden, bias, spread);
            let h1 = Matrix::new(h1, layouts.hidden, count);
            let bias = Finish::Bias { map: w.b2, first: 0, relu: true };
            product(isa, h1, w2.matrix(), h2, layouts.hidden, bias, spread);
            let h2 = Matrix::new(h2, layouts.hidden, count);
            product(isa, h2, w3.matrix(), z, layouts.products, Finish::Store, spread);
        };
        let z = &mut z[..group.blocks.len() * layouts.products.block];
        let least = if spread { usize::MAX } else { tasks_for(w, blocks.height) };
        let z_blocks = z.par_chunks_mut(layouts.products.block).with_min_len(least);
        let size = layouts.hidden.block;
        match &mut keep {
            Some(hidden) => {
                let kept = group.blocks.start * size..group.blocks.end * size;
                let h1 = hidden.h1[kept.clone()].par_chunks_mut(size);
                let h2 = hidden.h2[kept].par_chunks_mut(size);
                z_blocks.zip(h1).zip(h2).enumerate().for_each(|(index, ((z, h1), h2))| block(index, z, h1, h2));
            }
            None => z_blocks.enumerate().for_each(|(index, z)| {
                let (mut h1, mut h2) = (super::scratch::take(size), super::scratch::take(size));
                block(index, z, &mut h1, &mut h2);
            }),
        }
        let y = &mut y[group.rows.start * w.c_out..group.rows.end * w.c_out];
        taps::scatter_group(isa, grid, &group, z, layouts.products, Some(w.b3), w.c_out, Side::Forward, y);
    }
    y
}

/// The gradients for the cotangent `dy` [rows, c_out] of the output, from the `hidden` that [`forward`] kept for the
/// same `grid` and `w`.
pub fn backward(grid: Grid, x: &[f32], w: &NetWeights, hidden: &Hidden, dy: &[f32]) -> NetGradients {
    w.check(grid, x);
    assert_eq!(dy.len(), grid.rows() * w.c_out, "the cotangent is [rows, {}]", w.c_out);
    let isa = Isa::active();
    let NetWeights { c_in, hidden: width, c_out, .. } = *w;
    let mut gradients = NetGradients {
        dx: vec![0.0; x.len()],
        w1: vec![0.0; w.w1.len()],
        b1: vec![0.0; w.b1.len()],
        w2: vec![0.0; w.w2.len()],
        b2: vec![0.0; w.b2.len()],
        w3: vec![0.0; w.w3.len()],
        b3: reduce::grouped_sums(dy, c_out, w.b3.len() / c_out),
    };
    if grid.rows() == 0 {
        return gradients;
    }
    let blocks = w.blocks(grid);
    let layouts = w.layouts(blocks.height);
    assert_eq!(hidden.h1.len(), blocks.count() * layouts.hidden.block, "hidden activations of these sizes");
    let w1 = Weights::pack_transposed(w.w1, width);
    let w2 = Weights::pack_transposed(w.w2, width);
    let w3 = Weights::pack_transposed(w.w3, TAPS * c_out);
    let rows = blocks.group_rows();
    let mut taps = layouts.taps.take(rows);
    let mut dtaps = layouts.taps.take(rows);
    let mut dh1 = layouts.hidden.take(rows);
    let mut dh2 = layouts.hidden.take(rows);
    let mut dz = layouts.products.take(rows);
    let mut b1 = PanelSums::new(width, w.b1.len() / width);
    let mut b2 = PanelSums::new(width, 1);

    for group in blocks.groups() {
        let count = group.blocks.len();
        let spread = count < rayon::current_num_threads();
        let least = if spread { usize::MAX } else { tasks_for(w, blocks.height) };
        let kept = group.blocks.start * layouts.hidden.block..group.blocks.end * layouts.hidden.block;
        let (h1, h2) = (&hidden.h1[kept.clone()], &hidden.h2[kept]);
        let taps_blocks = taps[..count * layouts.taps.block].par_chunks_mut(layouts.taps.block);
        let dtaps_blocks = dtaps[..count * layouts.taps.block].par_chunks_mut(layouts.taps.block);
        let dh1_blocks = dh1[..count * layouts.hidden.block].par_chunks_mut(layouts.hidden.block);
        let dh2_blocks = dh2[..count * layouts.hidden.block].par_chunks_mut(layouts.hidden.block);
        let dz_blocks = dz[..count * layouts.products.block].par_chunks_mut(layouts.products.block);
        let both = h1.par_chunks(layouts.hidden.block).zip(h2.par_chunks(layouts.hidden.block));
        let work = taps_blocks.zip(dtaps_blocks).zip(dh1_blocks.zip(dh2_blocks)).zip(dz_blocks.zip(both));
        work.with_min_len(least).enumerate().for_each(|(index, (((taps, dtaps), (dh1, dh2)), (dz, (h1, h2))))| {
            let rows = group.block(index, blocks.height);
            let count = rows.len();
            taps::gather(isa, grid, rows.clone(), x, c_in, Side::Forward, taps, layouts.taps);
            taps::gather(isa, grid, rows, dy, c_out, Side::Backward, dz, layouts.products);
            let gate = Finish::Gate(Matrix::new(h2, layouts.hidden, count));
            let dz = Matrix::new(dz, layouts.products, count);
            product(isa, dz, w3.matrix(), dh2, layouts.hidden, gate, spread);
            let gate = Finish::Gate(Matrix::new(h1, layouts.hidden, count));
            let dh2 = Matrix::new(dh2, layouts.hidden, count);
            product(isa, dh2, w2.matrix(), dh1, layouts.hidden, gate, spread);
            let dh1 = Matrix::new(dh1, layouts.hidden, count);
            product(isa, dh1, w1.matrix(), dtaps, layouts.taps, Finish::Store, spread);
        });
        let all = group.rows.len();
        let of = |data, layout| Matrix::new(data, layout, all);
        let (dh1, dh2) = (of(&dh1, layouts.hidden), of(&dh2, layouts.hidden));
        let add = group.rows.start > 0;
        let NetGradients { w1: dw1, w2: dw2, w3: dw3, .. } = &mut gradients;
        let of_first = || {
            gradient(isa, of(&taps, layouts.taps), dh1, dw1, add);
            b1.add(isa, dh1);
        };
        let of_second = || {
            gradient(isa, of(h1, layouts.hidden), dh2, dw2, add);
            b2.add(isa, dh2);
        };
        let of_third = || gradient(isa, of(h2, layouts.hidden), of(&dz, layouts.products), dw3, add);
        rayon::join(of_second, || rayon::join(of_third, of_first));
        let dx = &mut gradients.dx[group.rows.start * c_in..group.rows.end * c_in];
        taps::scatter_group(isa, grid, &group, &dtaps, layouts.taps, None, c_in, Side::Backward, dx);
    }
    gradients.b1 = b1.finish();
    gradients.b2 = b2.finish();
    gradients
}

/// Blocks that make a task worth handing to another thread.
fn tasks_for(w: &NetWeights, height: usize) -> usize {
    let of_a_row = w.hidden * (TAPS * (w.c_in + w.c_out) + w.hidden);
    (1 << 19) / (of_a_row * height) + 1
}

/// Sums of the columns of activations in panels, apart for each row of a bias map.
struct PanelSums {
    /// [panel, bias row, PANEL]
    sums: Vec<f64>,
    columns: usize,
    period: usize,
}

impl PanelSums {
    fn new(columns: usize, period: usize) -> Self {
        PanelSums { sums: vec![0.0; columns.div_ceil(PANEL) * period * PANEL], columns, period }
    }

    /// Adds whole images.
    fn add(&mut self, isa: Isa, m: Matrix) {
        let period = self.period;
        let least = (1 << 15) / (m.rows * PANEL) + 1;
        self.sums.par_chunks_mut(period * PANEL).with_min_len(least).enumerate().for_each(|(panel, sums)| {
            let mut row = 0;
            while row < m.rows {
                let height = m.layout.height.min(m.rows - row);
                let from = row / m.layout.height * m.layout.block + panel * m.layout.panel;
                add_rows(isa, &m.data[from..][..height * PANEL], sums, row % period);
                row += height;
            }
        });
    }

    /// [bias rows, columns]
    fn finish(self) -> Vec<f32> {
        let mut sums = Vec::with_capacity(self.period * self.columns);
        for row in 0..self.period {
            for column in 0..self.columns {
                let at = (column / PANEL * self.period + row) * PANEL + column % PANEL;
                sums.push(self.sums[at] as f32);
            }
        }
        sums
    }
}

super::isa::per_isa! {
    /// Adds rows of a panel to their rows of `sums`, the first one to row `first`.
    fn add_rows<S>(rows: &[f32], sums: &mut [f64], first: usize) {
        let add = |sum: &mut [f64; PANEL], row: &[f32; PANEL]| {
            for (sum, x) in sum.iter_mut().zip(row) {
                *sum += f64::from(*x);
            }
        };
        let (rows, _) = rows.as_chunks::<PANEL>();
        let (sums, _) = sums.as_chunks_mut::<PANEL>();
        if let [sum] = sums {
            // A copy stays in registers.
            let mut all = *sum;
            for row in rows {
                add(&mut all, row);
            }
            *sum = all;
        } else {
            let period = sums.len();
            for (index, row) in rows.iter().enumerate() {
                add(&mut sums[(first + index) % period], row);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::reference::{
        GRIDS, assert_close, conv, conv_backward, image, on_each_isa, one, same_on_any_threads, values, wide,
    };
    use super::*;

    struct Case {
        grid: Grid,
        c_in: usize,
        hidden: usize,
        c_out: usize,
        x: Vec<f32>,
        dy: Vec<f32>,
        parameters: [Vec<f32>; 6],
    }

    impl Case {
        fn new(grid: Grid, c_in: usize, hidden: usize, c_out: usize, bias_rows: usize) -> Self {
            let scaled = |seed, len, depth: usize| {
                let mut values = values(seed, len);
                values.iter_mut().for_each(|x| *x *= (3.0 / depth as f32).sqrt());
                values
            };
            let parameters = [
                scaled(1, TAPS * c_in * hidden, TAPS * c_in),
                scaled(2, bias_rows * hidden, 12),
                scaled(3, hidden * hidden, hidden),
                scaled(4, hidden, 12),
                scaled(5, hidden * TAPS * c_out, TAPS * hidden),
                scaled(6, bias_rows * c_out, 12),
            ];
            let (x, dy) = (values(7, grid.rows() * c_in), values(8, grid.rows() * c_out));
            Case { grid, c_in, hidden, c_out, x, dy, parameters }
        }

        fn weights(&self) -> NetWeights<'_> {
            let [w1, b1, w2, b2, w3, b3] = &self.parameters;
            NetWeights { w1, b1, w2, b2, w3, b3, c_in: self.c_in, hidden: self.hidden, c_out: self.c_out }
        }

        fn run(&self, grid: Grid, x: &[f32], dy: &[f32]) -> (Vec<f32>, NetGradients) {
            let mut hidden = Hidden::default();
            let y = forward(grid, x, &self.weights(), Some(&mut hidden));
            (y, backward(grid, x, &self.weights(), &hidden, dy))
        }
    }

    fn cases() -> Vec<Case> {
        let mut cases = Vec::new();
        for (index, grid) in GRIDS.into_iter().enumerate() {
            for (c_in, hidden, c_out) in [(1, 5, 2), (2, 33, 4), (6, 64, 11)] {
                cases.push(Case::new(grid, c_in, hidden, c_out, [1, grid.pixels()][(index + c_in) % 2]));
            }
        }
        // More than one block for each thread, and a depth of several sums.
        cases.push(Case::new(Grid { batch: 9, height: 10, width: 9 }, 3, 40, 6, 1));
        cases
    }

    #[test]
    fn equals_the_definition() {
        for case in cases() {
            let Case { grid, c_in, hidden, c_out, .. } = case;
            let [w1, b1, w2, b2, w3, b3] = case.parameters.each_ref().map(|x| wide(x));
            let (x, dy) = (wide(&case.x), wide(&case.dy));
            let relu = |x: Vec<f64>| x.into_iter().map(|x| x.max(0.0)).collect::<Vec<_>>();
            let at1 = |tap: usize, c: usize, o: usize| (tap * c_in + c) * hidden + o;
            let at3 = |tap: usize, c: usize, o: usize| (c * TAPS + tap) * c_out + o;
            let h1 = relu(conv(grid, &x, |t, c, o| w1[at1(t, c, o)], &b1, c_in, hidden));
            let mut h2 = vec![0.0; h1.len()];
            for row in 0..grid.rows() {
                for o in 0..hidden {
                    let sum: f64 = (0..hidden).map(|i| h1[row * hidden + i] * w2[i * hidden + o]).sum();
                    h2[row * hidden + o] = (sum + b2[o]).max(0.0);
                }
            }
            let y = conv(grid, &h2, |t, c, o| w3[at3(t, c, o)], &b3, hidden, c_out);

            let third = conv_backward(grid, &h2, &w3, at3, &dy, b3.len() / c_out, hidden, c_out);
            let gate = |d: f64, h: f64| if h > 0.0 { d } else { 0.0 };
            let dh2: Vec<f64> = third.dx.iter().zip(&h2).map(|(d, h)| gate(*d, *h)).collect();
            let (mut dw2, mut db2, mut dh1) = (vec![0.0; w2.len()], vec![0.0; hidden], vec![0.0; h1.len()]);
            for row in 0..grid.rows() {
                for o in 0..hidden {
                    let d = dh2[row * hidden + o];
                    db2[o] += d;
                    for i in 0..hidden {
                        dw2[i * hidden + o] += d * h1[row * hidden + i];
                        dh1[row * hidden + i] += d * w2[i * hidden + o];
                    }
                }
            }
            let dh1: Vec<f64> = dh1.iter().zip(&h1).map(|(d, h)| gate(*d, *h)).collect();
            let first = conv_backward(grid, &x, &w1, at1, &dh1, b1.len() / hidden, c_in, hidden);

            on_each_isa(|_| {
                let (found, gradients) = case.run(grid, &case.x, &case.dy);
                assert_close(&found, &y, 2e-6);
                assert_close(&gradients.w3, &third.w, 2e-6);
                assert_close(&gradients.b3, &third.b, 2e-6);
                assert_close(&gradients.w2, &dw2, 2e-6);
                assert_close(&gradients.b2, &db2, 2e-6);
                assert_close(&gradients.w1, &first.w, 2e-6);
                assert_close(&gradients.b1, &first.b, 2e-6);
                assert_close(&gradients.dx, &first.dx, 2e-6);
            });
        }
    }

    #[test]
    fn an_image_alone_gives_the_same_bits() {
        for case in cases() {
            let Case { grid, c_in, c_out, .. } = case;
            on_each_isa(|_| {
                let (y, gradients) = case.run(grid, &case.x, &case.dy);
                assert_eq!(forward(grid, &case.x, &case.weights(), None), y, "keeping changes bits");
                for i in 0..grid.batch {
                    let (x, dy) = (image(grid, &case.x, c_in, i), image(grid, &case.dy, c_out, i));
                    let (alone, of_image) = case.run(one(grid), x, dy);
                    assert_eq!(alone, image(grid, &y, c_out, i));
                    assert_eq!(of_image.dx, image(grid, &gradients.dx, c_in, i));
                }
            });
        }
    }

    #[test]
    fn any_number_of_threads_gives_the_same_bits() {
        // The last one has work for many threads in few rows.
        let wide = Case::new(Grid { batch: 1, height: 4, width: 4 }, 6, 320, 12, 1);
        for case in cases().into_iter().chain([wide]) {
            same_on_any_threads(|| case.run(case.grid, &case.x, &case.dy));
        }
    }

    #[test]
    fn fused_multiply_add_gives_the_same_bits_in_any_width() {
        if Isa::detect() != Isa::Avx512 {
            return;
        }
        for case in cases() {
            let run = |isa| Isa::force(isa, || case.run(case.grid, &case.x, &case.dy));
            assert!(run(Isa::Avx2) == run(Isa::Avx512));
        }
    }

    #[test]
    fn groups_are_whole_images() {
        let grid = Grid { batch: 5, height: 2, width: 3 };
        let groups = Blocks::new(grid, 10, 130).groups().collect::<Vec<_>>();
        assert_eq!(groups.iter().map(|group| group.rows.clone()).collect::<Vec<_>>(), [0..12, 12..24, 24..30]);
        assert_eq!(groups.last().map(|group| group.blocks.end), Some(Blocks::new(grid, 10, 130).count()));
    }
}
