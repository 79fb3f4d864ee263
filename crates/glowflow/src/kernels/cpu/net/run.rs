//! The forward pass of a net over a batch, in parts of whole images.

use super::super::Grid;
use super::super::bf16::Unit;
use super::super::blocks::Blocks;
use super::super::crew;
use super::super::isa::Isa;
use super::super::matrix::Layout;
use super::super::scratch::{self, Scratch};
use super::super::taps::{self, Side, TAPS};
use super::{Forward, Hidden, Packed, in_bf16, in_f32, unit};

/// Multiplications that are worth handing to another thread of rayon's.
pub const WORTH_SHARING: usize = 1 << 19;
/// Values of a piece of an image around the net's products.
const PIECE: usize = 512;

/// The pieces that images are cut in around the net's products: by sizes alone, as what is summed over them must be.
#[derive(Clone, Copy)]
pub struct Pieces {
    pixels: usize,
    /// Of a piece, except the last one of an image.
    pub rows: usize,
    /// Pieces of an image.
    pub of_image: usize,
}

impl Pieces {
    /// Of rows of some images, one image after the other.
    pub fn cut<T>(self, values: &mut [T], columns: usize) -> impl Iterator<Item = &mut [T]> {
        values.chunks_mut(self.pixels * columns).flat_map(move |image| image.chunks_mut(self.rows * columns))
    }

    /// The first row of a piece.
    pub fn first(self, piece: usize) -> usize {
        piece / self.of_image * self.pixels + piece % self.of_image * self.rows
    }
}

/// Activations of whole images, of whose rows a net sees the first channels.
#[derive(Clone, Copy)]
pub struct Input<'a> {
    /// [rows, row]
    pub values: &'a [f32],
    /// Channels of a row.
    pub row: usize,
}

/// A net on its way through a batch: in parts of whole images, each a thread's own where there are enough of them, else
/// all threads work on the one part.
pub struct Run<'a> {
    grid: Grid,
    w: &'a Forward,
    blocks: Blocks,
    keep: bool,
    /// What the kernels around the net run on, too.
    pub isa: Isa,
    unit: Option<Unit>,
    /// Rows of a part, except the last one.
    pub part: usize,
    shared: bool,
}

impl<'a> Run<'a> {
    pub fn new(grid: Grid, w: &'a Forward, keep: bool) -> Self {
        let (threads, rows) = (rayon::current_num_threads(), grid.rows().max(1));
        let (blocks, unit, bias_rows) = match &w.0 {
            // What is kept is cut as the backward pass cuts it.
            Packed::F32(w) if keep => (in_f32::blocks(grid), None, w.bias_rows()),
            Packed::F32(w) => (Blocks::new(grid, threads), None, w.bias_rows()),
            Packed::Bf16(w) => (in_bf16::blocks(grid), Some(unit()), w.bias_rows()),
        };
        assert!(bias_rows.iter().all(|rows| [1, grid.pixels()].contains(rows)), "a bias has 1 row or one a pixel");
        let shared = rows.div_ceil(blocks.unit) < threads;
        let part = if shared { rows } else { blocks.unit };
        Run { grid, w, blocks, keep, isa: Isa::active(), unit, part, shared }
    }

    /// Parts that make a task worth handing to another thread.
    pub fn least_parts(&self) -> usize {
        WORTH_SHARING / (self.w.sizes().multiplications() * self.part) + 1
    }

    /// The cut of rows of so many channels.
    pub fn pieces(&self, channels: usize) -> Pieces {
        let (pixels, rows) = (self.grid.pixels(), (PIECE / channels).max(1));
        Pieces { pixels, rows, of_image: pixels.div_ceil(rows) }
    }

    /// Calls `task` with each piece of a part and its index; where threads work on the one part, they share the pieces.
    pub fn each<I: Send>(&self, pieces: impl Iterator<Item = I>, task: impl Fn(usize, I) + Sync) {
        if self.shared {
            crew::share(pieces.collect(), task);
        } else {
            pieces.enumerate().for_each(|(index, piece)| task(index, piece));
        }
    }

    /// Room for the hidden activations, where they are kept.
    pub fn hidden(&self) -> Option<Hidden> {
        let layer = || scratch::take(self.blocks.count(self.grid.rows()) * self.w.hidden_of_block(self.blocks.height));
        self.keep.then(|| Hidden { h1: layer(), h2: layer() })
    }

    /// The room of each part for hidden activations.
    pub fn hidden_of_parts<'h>(&self, kept: &'h mut Option<Hidden>) -> Vec<Option<[&'h mut [f32]; 2]>> {
        let size = self.blocks.count(self.part) * self.w.hidden_of_block(self.blocks.height);
        self.of_parts(
            kept.as_mut().map(|Hidden { h1, h2 }| h1.chunks_mut(size).zip(h2.chunks_mut(size)).map(<[_; 2]>::from)),
        )
    }

    /// One of `kept` for each part, where there is any.
    pub fn of_parts<T>(&self, kept: Option<impl Iterator<Item = T>>) -> Vec<Option<T>> {
        match kept {
            Some(kept) => kept.map(Some).collect(),
            None => (0..self.grid.rows().div_ceil(self.part)).map(|_| None).collect(),
        }
    }

    /// The products of the last convolution for a part of the batch; `hidden` becomes its activations.
    pub fn products(&self, x: Input, hidden: Option<[&mut [f32]; 2]>) -> Products<'_> {
        let grid = Grid { batch: x.values.len() / x.row / self.grid.pixels(), ..self.grid };
        let (w, blocks) = (self.w, self.blocks);
        let layout = Layout::padded_rows(TAPS * w.sizes().c_out, blocks.height);
        let count = blocks.count(grid.rows());
        let mut z = scratch::take(count * layout.block);
        // Threads that would not all have a block work on each of its products together.
        let spread = self.shared && count < rayon::current_num_threads();
        let run = |index: usize, local: &mut Local, [h1, h2]: [&mut [f32]; 2], z: &mut [f32]| {
            let rows = blocks.block(index, grid.rows());
            match (&w.0, local) {
                (Packed::F32(w), Packed::F32(taps)) => {
                    w.block(self.isa, grid, x, rows, taps, h1, h2, z, layout, spread)
                }
                (Packed::Bf16(w), Packed::Bf16(local)) => {
                    let unit = self.unit.expect("found with the weights");
                    w.block(unit, self.isa, grid, x, rows, local, h1, h2, z, layout, spread);
                }
                _ => unreachable!("what is local is of the weights' precision"),
            }
        };
        let size = w.hidden_of_block(blocks.height);
        let zs = z.chunks_mut(layout.block);
        match hidden {
            Some([h1, h2]) => {
                self.each(zs.zip(h1.chunks_mut(size).zip(h2.chunks_mut(size))), |index, (z, (h1, h2))| {
                    run(index, &mut w.local(blocks.height), [h1, h2], z);
                })
            }
            None => self.each(zs, |index, z| {
                let [mut h1, mut h2] = [scratch::take(size), scratch::take(size)];
                run(index, &mut w.local(blocks.height), [&mut h1, &mut h2], z);
            }),
        }
        Products { run: self, grid, z, layout }
    }
}

/// What one task works in.
type Local = Packed<Scratch, in_bf16::Local>;

impl Forward {
    fn local(&self, height: usize) -> Local {
        match &self.0 {
            Packed::F32(w) => Packed::F32(in_f32::Layouts::new(w.sizes, height).taps.take(height)),
            Packed::Bf16(w) => Packed::Bf16(w.local()),
        }
    }

    /// f32 that a block's activations of a hidden layer take.
    fn hidden_of_block(&self, height: usize) -> usize {
        match &self.0 {
            Packed::F32(w) => in_f32::Layouts::new(w.sizes, height).hidden.block,
            Packed::Bf16(w) => w.hidden_of_block(),
        }
    }
}

/// The last convolution's nine products for each pixel of a part.
pub struct Products<'a> {
    run: &'a Run<'a>,
    grid: Grid,
    z: Scratch,
    layout: Layout,
}

impl Products<'_> {
    /// The net's output for rows from the part's row `first` on, of one image: `y` [.., c_out].
    pub fn output(&self, first: usize, y: &mut [f32]) {
        let Run { blocks, isa, w, .. } = *self.run;
        let c_out = w.sizes().c_out;
        let bias = match &w.0 {
            Packed::F32(w) => &w.b3,
            Packed::Bf16(w) => &w.b3,
        };
        let unit = first / blocks.unit * blocks.unit;
        let z = &self.z[blocks.count(unit) * self.layout.block..];
        let rows = first..first + y.len() / c_out;
        taps::scatter(isa, self.grid, rows, z, self.layout, unit, Some(bias), c_out, Side::Forward, y);
    }
}
