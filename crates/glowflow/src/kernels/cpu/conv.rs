//! A 3x3 convolution with zero padding, and its gradients: products that read their windows in place, in a copy of a few
//! lines with zeros around them, never an im2col.
#![allow(unsafe_code)] // Tiles are read at strides; `Window` and `weight_gradient` check every extent once.

use std::ops::Range;

use rayon::prelude::*;

use super::gradient::DEPTH;
use super::isa::Isa;
use super::matrix::{PANEL, Weights};
use super::product::part;
use super::scratch::{self, LINE, Scratch};
use super::taps::TAPS;
use super::tile::{self, Finish, Shape, Tile, Walk};
use super::{Grid, reduce};

/// Gradients, in the shapes of what they belong to.
#[derive(Debug, Clone, PartialEq)]
pub struct ConvGradients {
    /// [rows, c_in]
    pub dx: Vec<f32>,
    /// [c_in, 9 c_out]
    pub w: Vec<f32>,
    /// [bias_rows, c_out]
    pub b: Vec<f32>,
}

/// f32 of a band's input.
const BAND: usize = 1 << 13;
/// Parts of the batch that sum weight gradients side by side, and f32 that their sums may take.
const PARTS: usize = 16;
const SUMS: usize = 1 << 22;
/// Pixels that are worth sums of their own.
const ROWS_OF_A_PART: usize = 512;
/// Multiplications worth handing to another thread.
const SMALL: usize = 1 << 18;
/// What a tile may read beyond the last element of a right operand.
const SLACK: usize = PANEL;

/// The convolution of x [rows, c_in] with w [c_in, 9 c_out], column = tap * c_out + channel, added to `onto`
/// [rows, c_out] if there is one; row p adds row `p % bias_rows` of b [bias_rows, c_out]. Gives [rows, c_out].
pub fn forward(
    grid: Grid,
    x: &[f32],
    w: &[f32],
    b: &[f32],
    onto: Option<&[f32]>,
    c_in: usize,
    c_out: usize,
) -> Vec<f32> {
    check(grid, x, w, c_in, c_out);
    let bias_rows = b.len() / c_out;
    assert!(b.len() == bias_rows * c_out && (bias_rows == 1 || bias_rows == grid.pixels()), "1 bias or one a pixel");
    assert!(onto.is_none_or(|onto| onto.len() == grid.rows() * c_out), "the sum is [rows, {c_out}]");
    let isa = Isa::active();
    let mut y = vec![0.0; grid.rows() * c_out];
    if y.is_empty() {
        return y;
    }
    // Row (tap, input) of the right operand.
    let by_tap = (0..TAPS * c_in).map(|row| tap_row(w, row % c_in, row / c_in, c_out)).collect::<Vec<_>>().concat();
    let weights = Weights::pack(&by_tap, c_out);
    let bands = Bands::new(grid, c_in);
    let size = bands.lines * grid.width * c_out;
    let least = SMALL / (size * TAPS * c_in) + 1;
    // A band never reaches into the next image: chunks of an image's output are its bands'.
    let tasks = y.par_chunks_mut(grid.pixels() * c_out).enumerate().flat_map(|(image, y)| {
        let tasks = y.par_chunks_mut(size).with_min_len(least).enumerate();
        tasks.map(move |(index, y)| (bands.band(image, index), y))
    });
    tasks.for_each(|(band, y)| {
        let rows = band.rows(grid);
        if let Some(onto) = onto {
            y.copy_from_slice(&onto[rows.start * c_out..rows.end * c_out]);
        }
        let bias = Bias { map: b, rows: bias_rows, first: rows.start };
        let padded = band.pad(grid, x, c_in);
        Window { isa, grid, lines: band.lines.len(), channels: c_in }.product(
            &padded,
            &weights,
            Some(bias),
            onto.is_some(),
            y,
        );
    });
    y
}

/// The gradients for the cotangent `dy` [rows, c_out] of the output.
pub fn backward(
    grid: Grid,
    x: &[f32],
    w: &[f32],
    dy: &[f32],
    c_in: usize,
    c_out: usize,
    bias_rows: usize,
) -> ConvGradients {
    check(grid, x, w, c_in, c_out);
    assert_eq!(dy.len(), grid.rows() * c_out, "the cotangent is [rows, {c_out}]");
    let isa = Isa::active();
    let b = reduce::grouped_sums(dy, c_out, bias_rows);
    let mut gradients = ConvGradients { dx: vec![0.0; x.len()], w: vec![0.0; w.len()], b };
    if grid.rows() == 0 || w.is_empty() {
        return gradients;
    }
    // The transposed convolution reads its window from the last tap to the first.
    let turned =
        (0..c_in * TAPS).map(|row| tap_row(w, row / TAPS, TAPS - 1 - row % TAPS, c_out)).collect::<Vec<_>>().concat();
    let weights = Weights::pack_transposed(&turned, TAPS * c_out);
    let bands = Bands::new(grid, c_in.max(c_out));
    // Parts follow sizes alone, never threads: the sums of each are added up in their order.
    let most = (SUMS / w.len()).clamp(4, PARTS);
    let parts = (grid.rows() / ROWS_OF_A_PART).clamp(1, most).min(bands.count());
    let least = if grid.rows() * TAPS * c_in * c_out < SMALL { usize::MAX } else { 1 };
    let mut rest = gradients.dx.as_mut_slice();
    let work: Vec<_> = (0..parts)
        .map(|index| {
            let range = part(bands.count(), parts, index);
            let rows: usize = range.clone().map(|band| bands.nth(band).rows(grid).len()).sum();
            (range, rest.split_off_mut(..rows * c_in).expect("a row of dx for each of a band"))
        })
        .collect();
    let sums: Vec<Scratch> = work
        .into_par_iter()
        .with_min_len(least)
        .map(|(range, mut dx)| {
            let mut sum = scratch::take(w.len());
            sum.fill(0.0);
            for band in range.map(|band| bands.nth(band)) {
                let rows = band.rows(grid);
                let padded = band.pad(grid, dy, c_out);
                let window = Window { isa, grid, lines: band.lines.len(), channels: c_out };
                let dx = dx.split_off_mut(..rows.len() * c_in).expect("rows of the part");
                window.product(&padded, &weights, None, false, dx);
                window.weight_gradient(&x[rows.start * c_in..rows.end * c_in], &padded, c_in, &mut sum);
            }
            sum
        })
        .collect();
    gradients.w.par_chunks_mut(1 << 12).enumerate().for_each(|(index, w)| {
        for sum in &sums {
            for (w, x) in w.iter_mut().zip(&sum[index << 12..]) {
                *w += x;
            }
        }
    });
    gradients
}

fn check(grid: Grid, x: &[f32], w: &[f32], c_in: usize, c_out: usize) {
    assert_eq!(x.len(), grid.rows() * c_in, "the input is [rows, {c_in}]");
    assert_eq!(w.len(), c_in * TAPS * c_out, "the weights are [{c_in}, 9 * {c_out}]");
}

/// The outputs' weights of one input and tap.
fn tap_row(w: &[f32], input: usize, tap: usize, c_out: usize) -> &[f32] {
    &w[(input * TAPS + tap) * c_out..][..c_out]
}

/// How images are cut into bands of lines.
#[derive(Clone, Copy)]
struct Bands {
    /// Lines of a band, except the last of an image.
    lines: usize,
    grid: Grid,
}

/// Lines of an image.
struct Band {
    image: usize,
    lines: Range<usize>,
}

impl Bands {
    /// Of about [`BAND`] values, if a pixel has `channels` of them.
    fn new(grid: Grid, channels: usize) -> Self {
        let most = (BAND / (grid.width * channels)).clamp(1, grid.height);
        Bands { lines: grid.height.div_ceil(grid.height.div_ceil(most)), grid }
    }

    fn of_image(&self) -> usize {
        self.grid.height.div_ceil(self.lines)
    }

    fn count(&self) -> usize {
        self.grid.batch * self.of_image()
    }

    fn band(&self, image: usize, index: usize) -> Band {
        let first = index * self.lines;
        Band { image, lines: first..(first + self.lines).min(self.grid.height) }
    }

    fn nth(&self, index: usize) -> Band {
        self.band(index / self.of_image(), index % self.of_image())
    }
}

impl Band {
    /// Its rows in the batch.
    fn rows(&self, grid: Grid) -> Range<usize> {
        let first = self.image * grid.pixels();
        first + self.lines.start * grid.width..first + self.lines.end * grid.width
    }

    /// Its lines of x [rows, channels] and one more on either side, with zeros around the image:
    /// [lines + 2, width + 2, channels].
    fn pad(&self, grid: Grid, x: &[f32], channels: usize) -> Scratch {
        let line = (grid.width + 2) * channels;
        let mut padded = scratch::take((self.lines.len() + 2) * line + SLACK);
        for (index, to) in padded.chunks_exact_mut(line).take(self.lines.len() + 2).enumerate() {
            match (self.lines.start + index).checked_sub(1).filter(|line| *line < grid.height) {
                Some(line) => {
                    let from = &x[(self.image * grid.height + line) * grid.width * channels..][..grid.width * channels];
                    to[..channels].fill(0.0);
                    to[channels..channels + from.len()].copy_from_slice(from);
                    to[channels + from.len()..].fill(0.0);
                }
                None => to.fill(0.0),
            }
        }
        padded
    }
}

/// A bias for each row: row `first + i` has row `(first + i) % rows` of the map.
#[derive(Clone, Copy)]
struct Bias<'a> {
    map: &'a [f32],
    rows: usize,
    first: usize,
}

/// The 3x3 windows of a padded band.
struct Window {
    isa: Isa,
    grid: Grid,
    lines: usize,
    channels: usize,
}

impl Window {
    fn padded_len(&self) -> usize {
        (self.lines + 2) * (self.grid.width + 2) * self.channels
    }

    /// Each pixel's window times `weights` [9 channels, columns], and the bias, to `out` [rows, columns]: added to what
    /// is there if `add`.
    fn product(&self, padded: &[f32], weights: &Weights, bias: Option<Bias>, add: bool, out: &mut [f32]) {
        let Self { isa, grid: Grid { width, .. }, lines, channels } = *self;
        let (weights, shape) = (weights.matrix(), Shape::of(isa));
        let columns = weights.layout.columns;
        assert!(padded.len() >= self.padded_len(), "a padded band");
        assert_eq!(weights.rows, TAPS * channels, "weights of the window");
        assert!(weights.layout.row == PANEL && weights.data.len() >= weights.layout.len(weights.rows), "whole panels");
        assert_eq!(out.len(), lines * width * columns, "rows of the output");
        assert!(bias.is_none_or(|bias| bias.map.len() >= bias.rows * columns && bias.rows > 0), "rows of the bias");
        let walk = Walk {
            depth: TAPS * channels,
            run: 3 * channels,
            a_row: channels,
            a_step: 1,
            a_jump: (width + 2) * channels,
            b_step: PANEL,
            b_jump: 3 * channels * PANEL,
        };
        let strips = width.div_ceil(shape.rows);
        for panel in 0..weights.layout.panel_count() {
            let panel_columns = weights.layout.panel_columns(panel);
            for column in (0..panel_columns).step_by(shape.columns) {
                let first = panel * PANEL + column;
                for line in 0..lines {
                    for strip in 0..strips {
                        let pixels = part(width, strips, strip);
                        let row = line * width + pixels.start;
                        // SAFETY: checked above: the window of each of these pixels is in `padded`, the weights have
                        // whole panels, output and bias these rows and columns.
                        unsafe {
                            let finish = bias.map_or(Finish::Store, |bias| Finish::Bias {
                                map: bias.map.as_ptr().add(first),
                                row: columns,
                                first: bias.first + row,
                                rows: bias.rows,
                                relu: false,
                            });
                            let tile = Tile {
                                a: padded.as_ptr().add((line * (width + 2) + pixels.start) * channels),
                                b: weights.data.as_ptr().add(panel * weights.layout.panel + column),
                                out: out.as_mut_ptr().add(row * columns + first),
                                out_row: columns,
                                columns: shape.columns.min(panel_columns - column),
                                resume: add,
                                finish,
                            };
                            tile::compute(isa, pixels.len(), &walk, &tile);
                        }
                    }
                }
            }
        }
    }

    /// Adds to `sum` [inputs, 9 channels] the products of x [rows, inputs] with the cotangents of what each tap of it
    /// went to, which are padded.
    fn weight_gradient(&self, x: &[f32], padded: &[f32], inputs: usize, sum: &mut [f32]) {
        let Self { isa, grid: Grid { width, .. }, lines, channels } = *self;
        let shape = Shape::of(isa);
        assert_eq!(x.len(), lines * width * inputs, "rows of the input");
        assert!(padded.len() >= self.padded_len() + SLACK && SLACK >= shape.columns.next_multiple_of(LINE));
        assert_eq!(sum.len(), inputs * TAPS * channels, "the weights");
        let at_once = (DEPTH / width).max(1);
        let strips = inputs.div_ceil(shape.rows);
        for line in (0..lines).step_by(at_once) {
            let walk = Walk {
                depth: at_once.min(lines - line) * width,
                run: width,
                a_row: 1,
                a_step: inputs,
                a_jump: width * inputs,
                b_step: channels,
                b_jump: (width + 2) * channels,
            };
            for tap in 0..TAPS {
                let from = (line + 2 - tap / 3) * (width + 2) + 2 - tap % 3;
                for column in (0..channels).step_by(shape.columns) {
                    for strip in 0..strips {
                        let rows = part(inputs, strips, strip);
                        // SAFETY: checked above: the pixels and their neighbours are in x and `padded`, behind which
                        // whole vectors can be read, and the sums are as many.
                        unsafe {
                            let tile = Tile {
                                a: x.as_ptr().add(line * width * inputs + rows.start),
                                b: padded.as_ptr().add(from * channels + column),
                                out: sum.as_mut_ptr().add((rows.start * TAPS + tap) * channels + column),
                                out_row: TAPS * channels,
                                columns: shape.columns.min(channels - column),
                                resume: false,
                                finish: Finish::Add,
                            };
                            tile::compute(isa, rows.len(), &walk, &tile);
                        }
                    }
                }
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
        c_out: usize,
        x: Vec<f32>,
        w: Vec<f32>,
        b: Vec<f32>,
        dy: Vec<f32>,
    }

    fn cases() -> Vec<Case> {
        let mut cases = Vec::new();
        let large = Grid { batch: 5, height: 12, width: 13 };
        for (index, grid) in GRIDS.into_iter().chain([large]).enumerate() {
            for (c_in, c_out) in [(1, 2), (3, 6), (12, 7), (24, 24), (64, 40)] {
                let bias_rows = [1, grid.pixels()][(index + c_in) % 2];
                cases.push(Case {
                    grid,
                    c_in,
                    c_out,
                    x: values(1, grid.rows() * c_in),
                    w: values(2, c_in * TAPS * c_out),
                    b: values(3, bias_rows * c_out),
                    dy: values(4, grid.rows() * c_out),
                });
            }
        }
        cases
    }

    #[test]
    fn equals_the_definition() {
        for Case { grid, c_in, c_out, x, w, b, dy } in cases() {
            let at = |tap: usize, c: usize, o: usize| (c * TAPS + tap) * c_out + o;
            let y = conv(grid, &wide(&x), |t, c, o| f64::from(w[at(t, c, o)]), &wide(&b), c_in, c_out);
            let bias_rows = b.len() / c_out;
            let expected = conv_backward(grid, &wide(&x), &wide(&w), at, &wide(&dy), bias_rows, c_in, c_out);
            on_each_isa(|_| {
                assert_close(&forward(grid, &x, &w, &b, None, c_in, c_out), &y, 1e-6);
                let sum: Vec<f64> = y.iter().zip(&dy).map(|(y, onto)| y + f64::from(*onto)).collect();
                assert_close(&forward(grid, &x, &w, &b, Some(&dy), c_in, c_out), &sum, 1e-6);
                let found = backward(grid, &x, &w, &dy, c_in, c_out, bias_rows);
                assert_close(&found.dx, &expected.dx, 1e-6);
                assert_close(&found.w, &expected.w, 1e-6);
                assert_close(&found.b, &expected.b, 1e-6);
            });
        }
    }

    #[test]
    fn an_image_alone_and_any_threads_give_the_same_bits() {
        for Case { grid, c_in, c_out, x, w, b, dy } in cases() {
            let bias_rows = b.len() / c_out;
            on_each_isa(|_| {
                let y = forward(grid, &x, &w, &b, None, c_in, c_out);
                let dx = backward(grid, &x, &w, &dy, c_in, c_out, bias_rows).dx;
                for i in 0..grid.batch {
                    let (x, dy) = (image(grid, &x, c_in, i), image(grid, &dy, c_out, i));
                    assert_eq!(forward(one(grid), x, &w, &b, None, c_in, c_out), image(grid, &y, c_out, i));
                    let alone = backward(one(grid), x, &w, dy, c_in, c_out, bias_rows);
                    assert_eq!(alone.dx, image(grid, &dx, c_in, i));
                }
            });
            same_on_any_threads(|| {
                (forward(grid, &x, &w, &b, None, c_in, c_out), backward(grid, &x, &w, &dy, c_in, c_out, bias_rows))
            });
        }
    }
}
