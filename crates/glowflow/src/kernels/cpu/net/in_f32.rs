//! [The net](super) in f32.

use std::ops::Range;

use rayon::prelude::*;

use super::super::Grid;
use super::super::blocks::Blocks;
use super::super::gradient::gradient;
use super::super::isa::{Isa, per_isa};
use super::super::matrix::{Layout, Matrix, PANEL, Weights};
use super::super::product::{Finish, product};
use super::super::scratch::{self, Scratch};
use super::super::taps::{self, Side, TAPS};
use super::run::WORTH_SHARING;
use super::unfold::{self, Unfold};
use super::{Hidden, Input, NetGradients, NetWeights, Sizes};

/// Weights packed for [`forward`].
pub struct Forward {
    w1: Weights,
    w2: Weights,
    w3: Weights,
    b1: Vec<f32>,
    b2: Vec<f32>,
    pub b3: Vec<f32>,
    pub sizes: Sizes,
}

impl Forward {
    /// Of checked weights.
    pub fn new(w: &NetWeights) -> Self {
        let Sizes { hidden, c_out, .. } = w.sizes;
        Forward {
            w1: Weights::pack_scaled(w.w1, hidden, w.s1),
            w2: Weights::pack_scaled(w.w2, hidden, w.s2),
            w3: Weights::pack_scaled(w.w3, TAPS * c_out, w.s3),
            b1: w.b1.to_vec(),
            b2: w.b2.to_vec(),
            b3: w.b3.to_vec(),
            sizes: w.sizes,
        }
    }
}

/// Weights packed for [`backward`].
pub struct Backward {
    w1: Weights,
    w2: Weights,
    w3: Weights,
}

impl Backward {
    /// Of checked weights.
    pub fn new(w: &NetWeights) -> Self {
        let Sizes { hidden, c_out, .. } = w.sizes;
        Backward {
            w1: Weights::pack_transposed_scaled(w.w1, hidden, w.s1),
            w2: Weights::pack_transposed_scaled(w.w2, hidden, w.s2),
            w3: Weights::pack_transposed_scaled(w.w3, TAPS * c_out, w.s3),
        }
    }
}

/// f32 that a group of images holds at once, so that the weight gradients find near what the other gradients left.
const GROUP: usize = 1 << 21;
/// Blocks of the batch, at least: enough for the threads of most machines.
const LEAST: usize = 4;

/// How the rows of a batch in training are cut.
pub fn blocks(grid: Grid) -> Blocks {
    Blocks::new(grid, LEAST)
}

/// Where the values of a block lie.
pub struct Layouts {
    pub taps: Layout,
    pub hidden: Layout,
    pub products: Layout,
}

impl Layouts {
    /// Of blocks of `height` rows.
    pub fn new(sizes: Sizes, height: usize) -> Self {
        Layouts {
            taps: Layout::padded_rows(TAPS * sizes.c_in, height),
            hidden: Layout::panels(sizes.hidden, height),
            products: Layout::padded_rows(TAPS * sizes.c_out, height),
        }
    }
}

impl Forward {
    /// Rows of the first and the last bias.
    pub fn bias_rows(&self) -> [usize; 2] {
        [self.b1.len() / self.sizes.hidden, self.b3.len() / self.sizes.c_out]
    }

    /// Rows `rows` of x: `h1` and `h2` become their hidden activations, `z` the products of the last convolution, in rows
    /// as `products` says. `spread` lets other threads help.
    #[allow(clippy::too_many_arguments, reason = "as many as a block has operands")]
    pub fn block(
        &self,
        isa: Isa,
        grid: Grid,
        x: Input,
        rows: Range<usize>,
        taps: &mut Scratch,
        h1: &mut [f32],
        h2: &mut [f32],
        z: &mut [f32],
        products: Layout,
        spread: bool,
    ) {
        let layouts = Layouts::new(self.sizes, products.height);
        let (first, count) = (rows.start, rows.len());
        taps::gather(isa, grid, rows, x.values, x.row, self.sizes.c_in, Side::Forward, taps, layouts.taps);
        let taps = Matrix::new(taps, layouts.taps, count);
        let bias = Finish::Bias { map: &self.b1, first, relu: true };
        product(isa, taps, self.w1.matrix(), h1, layouts.hidden, bias, spread);
        let h1 = Matrix::new(h1, layouts.hidden, count);
        let bias = Finish::Bias { map: &self.b2, first: 0, relu: true };
        product(isa, h1, self.w2.matrix(), h2, layouts.hidden, bias, spread);
        let h2 = Matrix::new(h2, layouts.hidden, count);
        product(isa, h2, self.w3.matrix(), z, products, Finish::Store, spread);
    }
}

/// See [`super::backward`]; `b3` is the gradient of its bias.
#[allow(clippy::too_many_arguments, reason = "as many as the net has operands")]
pub fn backward(
    grid: Grid,
    x: &[f32],
    w: &NetWeights,
    packed: &Backward,
    hidden: &Hidden,
    dy: &[f32],
    b3: Vec<f32>,
) -> NetGradients {
    let isa = Isa::active();
    let sizes = w.sizes;
    let Sizes { c_in, hidden: width, c_out } = sizes;
    let mut dx = vec![0.0; x.len()];
    let mut sums = [w.w1.len(), w.w2.len(), w.w3.len()].map(scratch::take);
    if grid.rows() == 0 {
        sums.iter_mut().for_each(|sums| sums.fill(0.0));
    }
    let [dw1, dw2, dw3] = &mut sums;
    let blocks = blocks(grid);
    let layouts = Layouts::new(sizes, blocks.height);
    assert_eq!(hidden.h1.len(), blocks.count(grid.rows()) * layouts.hidden.block, "hidden activations of these sizes");
    let most = GROUP / (2 * width + TAPS * (2 * c_in + c_out));
    let groups: Vec<_> = blocks.groups(grid.rows(), most).collect();
    let rows = groups.first().map_or(0, |group| group.blocks.len() * blocks.height);
    let mut taps = layouts.taps.take(rows);
    let mut dtaps = layouts.taps.take(rows);
    let mut dh1 = layouts.hidden.take(rows);
    let mut dh2 = layouts.hidden.take(rows);
    let mut dz = layouts.products.take(rows);
    let mut b1 = PanelSums::new(width, w.b1.len() / width);
    let mut b2 = PanelSums::new(width, 1);

    for group in groups {
        let count = group.blocks.len();
        let spread = count < rayon::current_num_threads();
        let least = if spread { usize::MAX } else { WORTH_SHARING / (sizes.multiplications() * blocks.height) + 1 };
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
            taps::gather(isa, grid, rows.clone(), x, c_in, c_in, Side::Forward, taps, layouts.taps);
            taps::gather(isa, grid, rows, dy, c_out, c_out, Side::Backward, dz, layouts.products);
            let gate = Finish::Gate(Matrix::new(h2, layouts.hidden, count));
            let dz = Matrix::new(dz, layouts.products, count);
            product(isa, dz, packed.w3.matrix(), dh2, layouts.hidden, gate, spread);
            let gate = Finish::Gate(Matrix::new(h1, layouts.hidden, count));
            let dh2 = Matrix::new(dh2, layouts.hidden, count);
            product(isa, dh2, packed.w2.matrix(), dh1, layouts.hidden, gate, spread);
            let dh1 = Matrix::new(dh1, layouts.hidden, count);
            product(isa, dh1, packed.w1.matrix(), dtaps, layouts.taps, Finish::Store, spread);
        });
        let all = group.rows.len();
        let of = |data, layout| Matrix::new(data, layout, all);
        let (dh1, dh2) = (of(&dh1, layouts.hidden), of(&dh2, layouts.hidden));
        let add = group.rows.start > 0;
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
        let dx = &mut dx[group.rows.start * c_in..group.rows.end * c_in];
        taps::scatter_group(isa, grid, &group, &dtaps, layouts.taps, None, c_in, Side::Backward, dx);
    }
    let of = |dw: &[f32], w, columns, scale, bias| {
        let mut unfold = Unfold::new(w, columns, scale);
        unfold.rows().with_min_len((1 << 14) / (unfold::ROWS * columns) + 1).enumerate().for_each(|(part, rows)| {
            let dw = &dw[part * unfold::ROWS * columns..];
            rows.set(isa, |row, panel| &dw[row * columns + panel * PANEL..(row + 1) * columns]);
        });
        unfold.finish(bias)
    };
    NetGradients {
        dx,
        first: of(dw1, w.w1, width, w.s1, b1.finish()),
        middle: of(dw2, w.w2, width, w.s2, b2.finish()),
        last: of(dw3, w.w3, TAPS * c_out, w.s3, b3),
    }
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

per_isa! {
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
