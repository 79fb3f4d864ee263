//! [The net](super) on operands in bf16, sums in f32.
//!
//! 32 pixels at a time go through the whole net. For the weight gradients they leave their operands behind, turned,
//! and a group of images later each block of a gradient takes up what the group has for it.

use std::ops::Range;

use rayon::prelude::*;

use super::super::Grid;
use super::super::bf16::{
    Block, Finish, Left, Parts, Right, SIDE, TILE, Tiles, Unit, Walk, as_tiles, as_tiles_mut, finish, multiply, narrow,
    product, shared_product, strips, tiles, turn,
};
use super::super::blocks::Blocks;
use super::super::isa::Isa;
use super::super::matrix::Layout;
use super::super::scratch::{self, Scratch};
use super::super::taps::{self, Side, TAPS};
use super::run::WORTH_SHARING;
use super::unfold::Unfold;
use super::{Hidden, Input, NetGradients, NetWeights, Sizes};

/// bf16 of a hidden layer in a group: its turned operands stay in the second cache.
const GROUP: usize = 1 << 19;

/// Weights packed for [`forward`].
pub struct Forward {
    w1: Right,
    w2: Right,
    w3: Right,
    /// Rows padded to whole blocks.
    b1: Vec<f32>,
    b2: Vec<f32>,
    pub b3: Vec<f32>,
    pub sizes: Sizes,
}

impl Forward {
    /// Of checked weights.
    pub fn new(w: &NetWeights, parts: Parts) -> Self {
        let Sizes { hidden, c_out, .. } = w.sizes;
        let padded = |bias: &[f32]| {
            let rows = bias.chunks_exact(hidden);
            rows.flat_map(|row| row.iter().copied().chain(std::iter::repeat_n(0.0, padding(hidden)))).collect()
        };
        Forward {
            w1: Right::pack(w.w1, hidden, w.s1, parts),
            w2: Right::pack(w.w2, hidden, w.s2, parts),
            w3: Right::pack(w.w3, TAPS * c_out, w.s3, parts),
            b1: padded(w.b1),
            b2: padded(w.b2),
            b3: w.b3.to_vec(),
            sizes: w.sizes,
        }
    }
}

/// Weights packed for [`backward`].
pub struct Backward {
    w1: Right,
    w2: Right,
    w3: Right,
}

impl Backward {
    /// Of checked weights.
    pub fn new(w: &NetWeights, parts: Parts) -> Self {
        let Sizes { hidden, c_out, .. } = w.sizes;
        Backward {
            w1: Right::pack_transposed(w.w1, hidden, w.s1, parts),
            w2: Right::pack_transposed(w.w2, hidden, w.s2, parts),
            w3: Right::pack_transposed(w.w3, TAPS * c_out, w.s3, parts),
        }
    }
}

fn padding(columns: usize) -> usize {
    columns.next_multiple_of(SIDE) - columns
}

/// How the values of 32 pixels lie.
#[derive(Clone, Copy)]
struct Columns {
    count: usize,
    parts: Parts,
}

impl Columns {
    fn new(count: usize, parts: Parts) -> Self {
        Columns { count, parts }
    }

    fn blocks(self) -> usize {
        self.count.div_ceil(SIDE)
    }

    /// bf16 of a left operand.
    fn left(self) -> usize {
        2 * self.blocks() * self.parts as usize * TILE
    }

    /// bf16 of an operand whose depth are the pixels; a tile more, so that those of many spread over the cache.
    fn turned(self) -> usize {
        self.left() + TILE
    }

    /// f32 of rows padded to whole blocks.
    fn padded(self) -> usize {
        SIDE * self.blocks() * SIDE
    }

    fn tiles(self) -> Tiles {
        tiles(self.left() / TILE / self.parts as usize, self.parts)
    }

    /// Turned operands of so many pixels.
    fn turned_tiles(self, blocks: usize) -> Tiles {
        tiles((blocks * self.turned() / TILE).div_ceil(self.parts as usize), self.parts)
    }

    /// Block `block` of the columns, as an operand over all pixels of `blocks` blocks of them.
    fn walk(self, turned: &[u16], block: usize, blocks: usize) -> Walk<'_> {
        let tile = self.parts as usize * TILE;
        Walk::new(&turned[2 * block * tile..], tile, self.turned(), blocks, self.parts)
    }
}

/// What one task works in.
pub struct Local {
    /// Padded rows of taps, in f32.
    taps: Scratch,
    left: Tiles,
}

impl Local {
    fn new(columns: Columns) -> Self {
        Local { taps: scratch::take(columns.padded()), left: columns.tiles() }
    }

    /// The taps of these rows of x [.., channels] in f32, zeros beyond them.
    fn gather(&mut self, isa: Isa, grid: Grid, rows: Range<usize>, x: Input, channels: usize, side: Side) {
        let row = self.taps.len() / SIDE;
        let layout = Layout { row, ..Layout::plain(TAPS * channels, SIDE) };
        self.taps.fill(0.0);
        taps::gather(isa, grid, rows, x.values, x.row, channels, side, &mut self.taps, layout);
    }
}

/// How the rows of a batch are cut.
pub fn blocks(grid: Grid) -> Blocks {
    Blocks::of_height(grid, SIDE)
}

impl Forward {
    /// Rows of the first and the last bias.
    pub fn bias_rows(&self) -> [usize; 2] {
        let Sizes { hidden, c_out, .. } = self.sizes;
        [self.b1.len() / (hidden + padding(hidden)), self.b3.len() / c_out]
    }

    /// What a task works in.
    pub fn local(&self) -> Local {
        Local::new(Columns::new(TAPS * self.sizes.c_in, self.w1.parts()))
    }

    /// f32 that hold a left operand of a hidden layer.
    pub fn hidden_of_block(&self) -> usize {
        Columns::new(self.sizes.hidden, self.w1.parts()).left() / 2
    }

    /// Rows `rows` of x, at most 32: `h1` and `h2` become their hidden activations, `z` the products of the last
    /// convolution, in rows as `products` says.
    #[allow(clippy::too_many_arguments, reason = "as many as a block has operands")]
    pub fn block(
        &self,
        unit: Unit,
        isa: Isa,
        grid: Grid,
        x: Input,
        rows: Range<usize>,
        local: &mut Local,
        h1: &mut [f32],
        h2: &mut [f32],
        z: &mut [f32],
        products: Layout,
        shared: bool,
    ) {
        let Sizes { c_in, hidden, .. } = self.sizes;
        let parts = self.w1.parts();
        let (first, count) = (rows.start, rows.len());
        local.gather(isa, grid, rows, x, c_in, Side::Forward);
        narrow(parts, &local.taps, TAPS * c_in, Some(&mut local.left), None);
        let columns = hidden + padding(hidden);
        let hidden_layer = |a: Left, w: &Right, map: &[f32], first: usize, h: &mut [u16]| {
            layer(unit, a.of_rows(count), w, shared, strips(parts, h), |column, sums, strip| {
                finish(parts, sums, Finish::BiasRelu { map, columns, first }, column, strip, None);
            });
        };
        let (h1, h2) = (as_tiles_mut(h1), as_tiles_mut(h2));
        hidden_layer(Left::new(&local.left, TAPS * c_in, parts), &self.w1, &self.b1, first, h1);
        hidden_layer(Left::new(h1, hidden, parts), &self.w2, &self.b2, 0, h2);
        store(unit, Left::new(h2, hidden, parts).of_rows(count), &self.w3, z, products, shared);
    }
}

/// The product of 32 rows with w: `done` makes of each block of columns what belongs to its one of `to`.
fn layer<T: Send>(
    unit: Unit,
    a: Left,
    w: &Right,
    shared: bool,
    mut to: impl Iterator<Item = T>,
    done: impl Fn(usize, &mut Block, T) + Sync,
) {
    if shared {
        return shared_product(unit, a, w, to.collect(), done);
    }
    product(unit, a, w, |column, sums| done(column, sums, to.next().expect("one for each block")));
}

/// Writes the product's columns to rows of `out`.
fn store(unit: Unit, a: Left, w: &Right, out: &mut [f32], layout: Layout, shared: bool) {
    let mut write = |column: usize, sums: &Block| {
        let width = SIDE.min(layout.columns - column * SIDE);
        for (out, sums) in out.chunks_exact_mut(layout.row).zip(sums.0.chunks_exact(SIDE)) {
            out[column * SIDE..][..width].copy_from_slice(&sums[..width]);
        }
    };
    if !shared {
        return product(unit, a, w, |column, sums| write(column, sums));
    }
    // Threads cannot write to the same rows.
    let mut blocks = scratch::take(w.blocks() * SIDE * SIDE);
    let blocks = Block::slice(&mut blocks);
    shared_product(unit, a, w, blocks.iter_mut().collect(), |_, sums, to| *to = *sums);
    blocks.iter().enumerate().for_each(|(column, sums)| write(column, sums));
}

/// What the pixels of a group leave for the weight gradients, block after block.
struct Operands {
    taps: Tiles,
    h1: Tiles,
    h2: Tiles,
    dh1: Tiles,
    dh2: Tiles,
    dz: Tiles,
}

/// See [`super::backward`]; `b3` is the gradient of its bias.
#[allow(clippy::too_many_arguments, reason = "as many as the net has operands")]
pub fn backward(
    unit: Unit,
    grid: Grid,
    x: &[f32],
    w: &NetWeights,
    packed: &Backward,
    hidden: &Hidden,
    dy: &[f32],
    b3: Vec<f32>,
) -> NetGradients {
    let Sizes { c_in, hidden: width, c_out } = w.sizes;
    let (isa, parts) = (Isa::active(), packed.w1.parts());
    let of_taps = Columns::new(TAPS * c_in, parts);
    let of_hidden = Columns::new(width, parts);
    let of_products = Columns::new(TAPS * c_out, parts);
    let blocks = blocks(grid);
    let [hidden1, hidden2] = [&hidden.h1, &hidden.h2].map(|values| as_tiles(values));
    assert_eq!(hidden1.len(), blocks.count(grid.rows()) * of_hidden.left(), "hidden activations of these sizes");
    let groups: Vec<_> = blocks.groups(grid.rows(), GROUP / parts as usize / width).collect();
    let in_group = groups.first().map_or(0, |group| group.blocks.len());
    let mut operands = Operands {
        taps: of_taps.turned_tiles(in_group),
        h1: of_hidden.turned_tiles(in_group),
        h2: of_hidden.turned_tiles(in_group),
        dh1: of_hidden.turned_tiles(in_group),
        dh2: of_hidden.turned_tiles(in_group),
        dz: of_products.turned_tiles(in_group),
    };
    let taps_layout = Layout::padded_rows(TAPS * c_in, SIDE);
    let mut dtaps = scratch::take(in_group * taps_layout.block);
    let mut first = Gradient::new(of_taps, of_hidden, w.w1, w.s1);
    let mut middle = Gradient::new(of_hidden, of_hidden, w.w2, w.s2);
    let mut last = Gradient::new(of_hidden, of_products, w.w3, w.s3);
    // Of each block of pixels those of dh1, then those of dh2.
    let of_sums = 2 * of_hidden.blocks() * SIDE;
    let mut column_sums = vec![0.0; in_group * of_sums];
    let mut b2 = vec![0.0f64; width];
    let mut b1 = BiasSums::new(width, w.b1.len() / width);
    let mut dx = vec![0.0; x.len()];

    for group in groups {
        let count = group.blocks.len();
        let shared = count < rayon::current_num_threads();
        let size = of_hidden.left();
        let kept = group.blocks.start * size..group.blocks.end * size;
        let Operands { taps, h1, h2, dh1, dh2, dz } = &mut operands;
        let work = taps[..count * of_taps.turned()]
            .par_chunks_mut(of_taps.turned())
            .zip(h1[..count * of_hidden.turned()].par_chunks_mut(of_hidden.turned()))
            .zip(h2[..count * of_hidden.turned()].par_chunks_mut(of_hidden.turned()))
            .zip(dh1[..count * of_hidden.turned()].par_chunks_mut(of_hidden.turned()))
            .zip(dh2[..count * of_hidden.turned()].par_chunks_mut(of_hidden.turned()))
            .zip(dz[..count * of_products.turned()].par_chunks_mut(of_products.turned()))
            .zip(dtaps[..count * taps_layout.block].par_chunks_mut(taps_layout.block))
            .zip(column_sums.par_chunks_mut(of_sums))
            .zip(hidden1[kept.clone()].par_chunks(size).zip(hidden2[kept].par_chunks(size)));
        let locals = || (Local::new(of_taps), Local::new(of_products), of_hidden.tiles(), of_hidden.tiles());
        let least = WORTH_SHARING / (w.sizes.multiplications() * SIDE) + 1;
        work.with_min_len(least).enumerate().for_each_init(
            locals,
            |(of_x, of_dy, dh2_left, dh1_left),
             (index, ((((((((taps, h1), h2), dh1), dh2), dz), dtaps), sums), kept))| {
                let rows = group.block(index, SIDE);
                let (kept1, kept2) = (Left::new(kept.0, width, parts), Left::new(kept.1, width, parts));
                of_x.gather(isa, grid, rows.clone(), Input { values: x, row: c_in }, c_in, Side::Forward);
                narrow(parts, &of_x.taps, TAPS * c_in, Some(&mut of_x.left), None);
                turn(parts, Left::new(&of_x.left, TAPS * c_in, parts), taps);
                turn(parts, kept1, h1);
                turn(parts, kept2, h2);
                of_dy.gather(isa, grid, rows, Input { values: dy, row: c_out }, c_out, Side::Backward);
                narrow(parts, &of_dy.taps, TAPS * c_out, Some(&mut of_dy.left), Some(dz));
                let gated = |a: Left, w: &Right, by: Left, left: &mut [u16], pairs: &mut [u16], sums: &mut [f32]| {
                    let pairs = pairs.chunks_exact_mut(2 * parts as usize * TILE);
                    let (sums, _) = sums.as_chunks_mut();
                    let to = strips(parts, left).zip(pairs).zip(sums);
                    layer(unit, a, w, shared, to, |column, block, ((strip, pairs), columns)| {
                        finish(parts, block, Finish::Gate { by, columns }, column, strip, Some(pairs));
                    });
                };
                let (sums1, sums2) = sums.split_at_mut(of_sums / 2);
                gated(Left::new(&of_dy.left, TAPS * c_out, parts), &packed.w3, kept2, dh2_left, dh2, sums2);
                gated(Left::new(dh2_left, width, parts), &packed.w2, kept1, dh1_left, dh1, sums1);
                store(unit, Left::new(dh1_left, width, parts), &packed.w1, dtaps, taps_layout, shared);
            },
        );
        let depth = Depth { unit, isa, count, first: group.rows.start == 0, last: group.rows.end == grid.rows() };
        rayon::join(
            || middle.add(depth, &operands.h1, &operands.dh2),
            || {
                rayon::join(
                    || last.add(depth, &operands.h2, &operands.dz),
                    || first.add(depth, &operands.taps, &operands.dh1),
                )
            },
        );
        for sums in column_sums.chunks_exact(of_sums).take(count) {
            let (of_first, of_second) = sums.split_at(of_sums / 2);
            b2.iter_mut().zip(of_second).for_each(|(b2, sum)| *b2 += f64::from(*sum));
            b1.add_sums(of_first);
        }
        b1.add_rows(of_hidden, &operands.dh1, count, group.rows.len());
        let dx = &mut dx[group.rows.start * c_in..group.rows.end * c_in];
        taps::scatter_group(isa, grid, &group, &dtaps, taps_layout, None, c_in, Side::Backward, dx);
    }
    if grid.rows() == 0 {
        [&mut first, &mut middle, &mut last].into_iter().for_each(Gradient::clear);
    }
    NetGradients {
        dx,
        first: first.unfold.finish(b1.finish()),
        middle: middle.unfold.finish(b2.into_iter().map(|sum| sum as f32).collect()),
        last: last.unfold.finish(b3),
    }
}

/// What a group of images adds to gradients.
#[derive(Clone, Copy)]
struct Depth {
    unit: Unit,
    isa: Isa,
    /// Blocks of pixels.
    count: usize,
    /// Whether these are the first images, and the last.
    first: bool,
    last: bool,
}

/// The gradient of a weight, `x^T y` summed over groups of images.
struct Gradient<'a> {
    x: Columns,
    y: Columns,
    sums: Scratch,
    unfold: Unfold<'a>,
}

impl<'a> Gradient<'a> {
    fn new(x: Columns, y: Columns, w: &'a [f32], scale: &[f32]) -> Self {
        let sums = scratch::take(x.blocks() * y.blocks() * SIDE * SIDE);
        Gradient { x, y, sums, unfold: Unfold::new(w, y.count, scale) }
    }

    /// Of no images.
    fn clear(&mut self) {
        self.unfold.rows().for_each(|rows| rows.set(Isa::active(), |_, _| &[0.0; SIDE]));
    }

    fn add(&mut self, depth: Depth, x: &[u16], y: &[u16]) {
        let Gradient { x: of_x, y: of_y, .. } = *self;
        let Depth { unit, isa, count, .. } = depth;
        let least = (1 << 23) / (count * of_y.blocks() * SIDE * SIDE * SIDE) + 1;
        let rows = Block::slice(&mut self.sums).par_chunks_mut(of_y.blocks()).zip(self.unfold.rows());
        rows.with_min_len(least).enumerate().for_each(|(i, (sums, rows))| {
            let a = of_x.walk(x, i, count);
            for (j, sums) in sums.iter_mut().enumerate() {
                multiply(unit, of_x.parts, a, of_y.walk(y, j, count), sums, !depth.first);
            }
            if depth.last {
                rows.set(isa, |row, panel| &sums[panel].0[row * SIDE..(row + 1) * SIDE]);
            }
        });
    }
}

/// The gradient of the first bias, one row or a row for each pixel of an image.
struct BiasSums {
    /// [period, columns]
    sums: Vec<f64>,
    columns: usize,
    period: usize,
}

impl BiasSums {
    fn new(columns: usize, period: usize) -> Self {
        BiasSums { sums: vec![0.0; period * columns], columns, period }
    }

    /// Adds the sums of a block's columns, where all pixels share a row.
    fn add_sums(&mut self, sums: &[f32]) {
        if self.period == 1 {
            self.sums.iter_mut().zip(sums).for_each(|(all, sum)| *all += f64::from(*sum));
        }
    }

    /// Adds whole images, `rows` pixels in `blocks` blocks of pairs, where each pixel has a row.
    fn add_rows(&mut self, of: Columns, pairs: &[u16], blocks: usize, rows: usize) {
        if self.period == 1 {
            return;
        }
        let wide = |x: u16| f64::from(f32::from_bits(u32::from(x) << 16));
        for row in 0..rows.min(blocks * SIDE) {
            let block = &pairs[row / SIDE * of.turned()..][..of.left()];
            let sums = &mut self.sums[row % self.period * self.columns..][..self.columns];
            for (column, sum) in sums.iter_mut().enumerate() {
                let at = column / 16 * of.parts as usize * TILE + row % SIDE / 2 * SIDE + column % 16 * 2 + row % 2;
                *sum += (0..of.parts as usize).map(|part| wide(block[at + part * TILE])).sum::<f64>();
            }
        }
    }

    fn finish(self) -> Vec<f32> {
        self.sums.into_iter().map(|sum| sum as f32).collect()
    }
}
