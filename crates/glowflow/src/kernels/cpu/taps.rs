//! The nine taps of a 3x3 convolution: pixels gathered beside each other, and products added back to their pixels.
#![allow(unsafe_code)] // Vector loads of part of a slice; each function checks its extents once.

use std::ops::Range;

use rayon::prelude::*;

use super::Grid;
use super::blocks::Group;
use super::isa::{Isa, per_isa};
use super::matrix::Layout;

/// Taps of a 3x3 convolution; tap `t` is at line `t / 3 - 1`, pixel `t % 3 - 1` from the centre.
pub const TAPS: usize = 9;

/// To which side of the centre a tap lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Where the convolution reads.
    Forward,
    /// Where it is read from: the transposed convolution.
    Backward,
}

/// A pixel, walked row by row over a batch.
#[derive(Clone, Copy)]
struct Pixel {
    line: usize,
    column: usize,
}

impl Pixel {
    #[inline(always)]
    fn of_row(grid: Grid, row: usize) -> Self {
        Pixel { line: row % grid.pixels() / grid.width, column: row % grid.width }
    }

    #[inline(always)]
    fn step(&mut self, grid: Grid) {
        self.column += 1;
        if self.column == grid.width {
            self.column = 0;
            self.line = if self.line + 1 == grid.height { 0 } else { self.line + 1 };
        }
    }

    /// The taps that lie inside the image, a bit each.
    #[inline(always)]
    fn inside(self, grid: Grid, side: Side) -> u32 {
        const FIRST_LINE: u32 = 0b000_000_111;
        const LAST_LINE: u32 = 0b111_000_000;
        const FIRST_COLUMN: u32 = 0b001_001_001;
        const LAST_COLUMN: u32 = 0b100_100_100;
        let forward = side == Side::Forward;
        let ends = |first: u32, last: u32| if forward { (first, last) } else { (last, first) };
        let ((up, down), (left, right)) = (ends(FIRST_LINE, LAST_LINE), ends(FIRST_COLUMN, LAST_COLUMN));
        let outside = |is: bool, taps: u32| if is { taps } else { 0 };
        ALL & !(outside(self.line == 0, up)
            | outside(self.line + 1 == grid.height, down)
            | outside(self.column == 0, left)
            | outside(self.column + 1 == grid.width, right))
    }
}

/// Every tap inside the image.
const ALL: u32 = (1 << TAPS) - 1;

/// Where each tap lies, in rows from the centre.
fn offsets(grid: Grid, side: Side) -> [isize; TAPS] {
    let width = grid.width as isize;
    std::array::from_fn(|tap| {
        let (line, column) = ((tap / 3) as isize - 1, (tap % 3) as isize - 1);
        let offset = line * width + column;
        if side == Side::Forward { offset } else { -offset }
    })
}

per_isa! {
    /// For each row of `rows` writes its nine taps of the first `channels` of x [rows, x_row] beside each other to `out`,
    /// which starts with the first of them, in padded rows; taps outside the image are 0.
    pub fn gather<S>(
        grid: Grid, rows: Range<usize>, x: &[f32], x_row: usize, channels: usize, side: Side, out: &mut [f32],
        layout: Layout,
    ) {
        assert!(layout.columns == TAPS * channels && x.len() == grid.rows() * x_row && rows.end <= grid.rows());
        assert!(channels <= x_row && layout.columns <= layout.row, "taps of whole pixels in whole rows");
        let offsets = offsets(grid, side).map(|offset| offset * x_row as isize);
        let in_a_row = side == Side::Forward && x_row == channels;
        let mut pixel = Pixel::of_row(grid, rows.start);
        for (row, out) in rows.zip(out.chunks_exact_mut(layout.row)) {
            let inside = pixel.inside(grid, side);
            let (x, out) = (x[row * x_row..].as_ptr(), out.as_mut_ptr());
            // SAFETY: `per_isa!` enables the features; a tap inside the image is a pixel of x, and `out` has room for nine.
            unsafe {
                if inside == ALL && in_a_row {
                    // The three taps of a line lie beside each other in x too.
                    for tap in (0..TAPS).step_by(3) {
                        copy::<S>(x.offset(offsets[tap]), out.add(tap * channels), 3 * channels);
                    }
                } else if inside == ALL {
                    for (tap, offset) in offsets.iter().enumerate() {
                        copy::<S>(x.offset(*offset), out.add(tap * channels), channels);
                    }
                } else {
                    for (tap, offset) in offsets.iter().enumerate() {
                        let to = out.add(tap * channels);
                        if inside >> tap & 1 == 1 { copy::<S>(x.offset(*offset), to, channels) } else { clear::<S>(to, channels) }
                    }
                }
            }
            pixel.step(grid);
        }
    }
}

per_isa! {
    /// For each row of `rows` writes to `y`, which starts with the first of them, its bias and the nine products that
    /// its taps have for it: `y[p, c] = bias[p % bias rows, c] + sum over taps of z[p + offset(tap), tap c]`.
    /// `z` holds the products of all rows from `z_first` on, the first of an image, in padded rows.
    pub fn scatter<S>(
        grid: Grid, rows: Range<usize>, z: &[f32], layout: Layout, z_first: usize, bias: Option<&[f32]>,
        channels: usize, side: Side, y: &mut [f32],
    ) {
        assert!(layout.columns == TAPS * channels && y.len() == rows.len() * channels);
        let images = rows.start / grid.pixels() * grid.pixels()..rows.end.next_multiple_of(grid.pixels());
        assert!(z_first <= images.start && z.len() >= (images.end - z_first) * layout.row, "products of whole images");
        let bias_rows = bias.map_or(1, |bias| bias.len() / channels);
        let mut bias_row = rows.start % bias_rows;
        let mut offsets = offsets(grid, side);
        for (tap, offset) in offsets.iter_mut().enumerate() {
            *offset = *offset * layout.row as isize + (tap * channels) as isize;
        }
        let mut pixel = Pixel::of_row(grid, rows.start);
        for (row, y) in rows.zip(y.chunks_exact_mut(channels)) {
            let inside = pixel.inside(grid, side);
            let z = z[(row - z_first) * layout.row..].as_ptr();
            let bias = bias.map(|bias| &bias[bias_row * channels..][..channels]);
            for (first, y) in (0..channels).step_by(S::LANES).zip(y.chunks_mut(S::LANES)) {
                let lanes = y.len();
                // SAFETY: `per_isa!` enables the features; `lanes` channels from `first` on are the bias's and those of every
                // tap inside the image, which `z` has.
                unsafe {
                    let of_tap = |offset: isize| S::load_first(z.offset(offset).add(first), lanes);
                    let mut sum = bias.map_or(S::splat(0.0), |bias| S::load_first(bias.as_ptr().add(first), lanes));
                    if inside == ALL {
                        offsets.iter().for_each(|offset| sum = S::add(sum, of_tap(*offset)));
                    } else {
                        let taps = offsets.iter().enumerate().filter(|(tap, _)| inside >> tap & 1 == 1);
                        taps.for_each(|(_, offset)| sum = S::add(sum, of_tap(*offset)));
                    }
                    S::store_first(y.as_mut_ptr(), sum, lanes);
                }
            }
            pixel.step(grid);
            bias_row = if bias_row + 1 == bias_rows { 0 } else { bias_row + 1 };
        }
    }
}

/// # Safety
/// The features of S are enabled; `count` elements are readable at `from` and writable at `to`.
#[inline(always)]
unsafe fn copy<S: super::simd::Simd>(from: *const f32, to: *mut f32, count: usize) {
    for first in (0..count).step_by(S::LANES) {
        let lanes = S::LANES.min(count - first);
        // SAFETY: `lanes` elements from `first` on are among the caller's.
        unsafe { S::store_first(to.add(first), S::load_first(from.add(first), lanes), lanes) }
    }
}

/// # Safety
/// The features of S are enabled; `count` elements are writable at `to`.
#[inline(always)]
unsafe fn clear<S: super::simd::Simd>(to: *mut f32, count: usize) {
    for first in (0..count).step_by(S::LANES) {
        // SAFETY: as many lanes from `first` on are the caller's.
        unsafe { S::store_first(to.add(first), S::splat(0.0), S::LANES.min(count - first)) }
    }
}

/// [`scatter`] in parallel, for a group of images, whose products are `z` and whose rows of the output are `y`.
#[allow(clippy::too_many_arguments, reason = "as many as `scatter` has")]
pub fn scatter_group(
    isa: Isa,
    grid: Grid,
    group: &Group,
    z: &[f32],
    layout: Layout,
    bias: Option<&[f32]>,
    channels: usize,
    side: Side,
    y: &mut [f32],
) {
    y.par_chunks_mut(ROWS_OF_A_TASK * channels).enumerate().for_each(|(index, y)| {
        let first = group.rows.start + index * ROWS_OF_A_TASK;
        scatter(isa, grid, first..first + y.len() / channels, z, layout, group.rows.start, bias, channels, side, y);
    });
}

/// Rows worth handing to another thread.
const ROWS_OF_A_TASK: usize = 512;
