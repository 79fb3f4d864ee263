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

/// The pixel of an image that tap `tap` of pixel `at` reaches, if it lies inside.
#[inline(always)]
fn neighbour(grid: Grid, at: usize, tap: usize, side: Side) -> Option<usize> {
    // Wrapping: a line or column before the first becomes huge, and is outside like one after the last.
    let reach = |position: usize, offset: usize| match side {
        Side::Forward => (position + offset).wrapping_sub(1),
        Side::Backward => (position + 1).wrapping_sub(offset),
    };
    let line = reach(at / grid.width, tap / 3);
    let column = reach(at % grid.width, tap % 3);
    (line < grid.height && column < grid.width).then(|| line * grid.width + column)
}

per_isa! {
    /// For each row of `rows` writes its nine taps of x [rows, channels] beside each other to `out`, which starts with
    /// the first of them, in padded rows; taps outside the image are 0.
    pub fn gather<S>(grid: Grid, rows: Range<usize>, x: &[f32], channels: usize, side: Side, out: &mut [f32], layout: Layout) {
        assert!(layout.columns == TAPS * channels && x.len() == grid.rows() * channels && rows.end <= grid.rows());
        let pixels = grid.pixels();
        for (row, out) in rows.zip(out.chunks_exact_mut(layout.row)) {
            let image = row / pixels * pixels;
            for tap in 0..TAPS {
                let to = &mut out[tap * channels..][..channels];
                match neighbour(grid, row - image, tap, side) {
                    // SAFETY: both slices have these channels; `per_isa!` enables the features.
                    Some(pixel) => unsafe { copy::<S>(&x[(image + pixel) * channels..][..channels], to) },
                    None => to.fill(0.0),
                }
            }
        }
    }
}

per_isa! {
    /// For each row of `rows` writes to `y`, which starts with the first of them, its bias and the nine products that
    /// its taps have for it: `y[p, c] = bias[p % bias rows, c] + sum over taps of z[p + offset(tap), tap * channels + c]`.
    /// `z` holds the products of all rows from `z_first` on, in padded rows.
    pub fn scatter<S>(
        grid: Grid, rows: Range<usize>, z: &[f32], layout: Layout, z_first: usize, bias: Option<&[f32]>, channels: usize,
        side: Side, y: &mut [f32],
    ) {
        assert!(layout.columns == TAPS * channels && y.len() == rows.len() * channels);
        let pixels = grid.pixels();
        let bias_rows = bias.map_or(1, |bias| bias.len() / channels);
        for (row, y) in rows.zip(y.chunks_exact_mut(channels)) {
            let image = row / pixels * pixels;
            let mut sources = [0; TAPS];
            let mut count = 0;
            for tap in 0..TAPS {
                if let Some(pixel) = neighbour(grid, row - image, tap, side) {
                    sources[count] = (image + pixel - z_first) * layout.row + tap * channels;
                    count += 1;
                }
            }
            for first in (0..channels).step_by(S::LANES) {
                let lanes = S::LANES.min(channels - first);
                // SAFETY: `per_isa!` enables the features; every pointer is to `lanes` elements of a checked slice.
                unsafe {
                    let mut sum = match bias {
                        Some(bias) => {
                            let bias = &bias[row % bias_rows * channels + first..][..lanes];
                            S::load_first(bias.as_ptr(), lanes)
                        }
                        None => S::splat(0.0),
                    };
                    for at in &sources[..count] {
                        sum = S::add(sum, S::load_first(z[at + first..][..lanes].as_ptr(), lanes));
                    }
                    S::store_first(y[first..][..lanes].as_mut_ptr(), sum, lanes);
                }
            }
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

/// [`scatter`] for a group of images, whose products are `z` and whose rows of the output are `y`.
#[allow(clippy::too_many_arguments)]
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
