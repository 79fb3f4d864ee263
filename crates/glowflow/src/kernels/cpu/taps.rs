//! The nine taps of a 3x3 convolution: pixels gathered beside each other, and products added back to their pixels.
#![allow(unsafe_code)] // Vector loads of part of a slice; bounds are checked per line of pixels.

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
        let offsets = offsets(grid, side);
        let in_a_row = side == Side::Forward && x_row == channels;
        let mut pixel = Pixel::of_row(grid, rows.start);
        for (row, out) in rows.zip(out.chunks_exact_mut(layout.row)) {
            let taps = &mut out[..TAPS * channels];
            let inside = pixel.inside(grid, side);
            let at = |tap: usize| row.wrapping_add_signed(offsets[tap]) * x_row;
            if inside == ALL && in_a_row {
                // The three taps of a line lie beside each other in x too.
                for (across, taps) in taps.chunks_exact_mut(3 * channels).enumerate() {
                    // SAFETY: `per_isa!` enables the features.
                    unsafe { copy::<S>(&x[at(3 * across)..][..3 * channels], taps) };
                }
            } else {
                for (tap, to) in taps.chunks_exact_mut(channels).enumerate() {
                    // SAFETY: as above.
                    unsafe {
                        if inside >> tap & 1 == 1 { copy::<S>(&x[at(tap)..][..channels], to) } else { clear::<S>(to) }
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
    /// `z` holds the products of all rows from `z_first` on, in padded rows.
    pub fn scatter<S>(
        grid: Grid, rows: Range<usize>, z: &[f32], layout: Layout, z_first: usize, bias: Option<&[f32]>,
        channels: usize, side: Side, y: &mut [f32],
    ) {
        assert!(layout.columns == TAPS * channels && y.len() == rows.len() * channels);
        let bias_rows = bias.map_or(1, |bias| bias.len() / channels);
        let mut bias_row = rows.start % bias_rows;
        let mut offsets = offsets(grid, side);
        for (tap, offset) in offsets.iter_mut().enumerate() {
            *offset = *offset * layout.row as isize + (tap * channels) as isize;
        }
        let mut pixel = Pixel::of_row(grid, rows.start);
        for (row, y) in rows.zip(y.chunks_exact_mut(channels)) {
            let inside = pixel.inside(grid, side);
            let at = (row - z_first) * layout.row;
            for first in (0..channels).step_by(S::LANES) {
                let lanes = S::LANES.min(channels - first);
                // SAFETY: `per_isa!` enables the features; every pointer is to `lanes` elements of a checked slice.
                unsafe {
                    let mut sum = match bias {
                        Some(bias) => {
                            let bias = &bias[bias_row * channels + first..][..lanes];
                            S::load_first(bias.as_ptr(), lanes)
                        }
                        None => S::splat(0.0),
                    };
                    for (tap, offset) in offsets.iter().enumerate() {
                        if inside >> tap & 1 == 1 {
                            let z = &z[at.wrapping_add_signed(*offset) + first..][..lanes];
                            sum = S::add(sum, S::load_first(z.as_ptr(), lanes));
                        }
                    }
                    S::store_first(y[first..][..lanes].as_mut_ptr(), sum, lanes);
                }
            }
            pixel.step(grid);
            bias_row = if bias_row + 1 == bias_rows { 0 } else { bias_row + 1 };
        }
    }
}

/// # Safety
/// The features of S are enabled.
#[inline(always)]
unsafe fn copy<S: super::simd::Simd>(from: &[f32], to: &mut [f32]) {
    assert_eq!(from.len(), to.len());
    for first in (0..from.len()).step_by(S::LANES) {
        let lanes = S::LANES.min(from.len() - first);
        // SAFETY: `lanes` elements from `first` on are inside both slices.
        unsafe { S::store_first(to.as_mut_ptr().add(first), S::load_first(from.as_ptr().add(first), lanes), lanes) }
    }
}

/// # Safety
/// The features of S are enabled.
#[inline(always)]
unsafe fn clear<S: super::simd::Simd>(to: &mut [f32]) {
    for to in to.chunks_mut(S::LANES) {
        // SAFETY: as many lanes as the slice has.
        unsafe { S::store_first(to.as_mut_ptr(), S::splat(0.0), to.len()) }
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
