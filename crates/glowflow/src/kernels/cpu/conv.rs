//! A 3x3 convolution with zero padding, and its gradients: nine products for each pixel, added where they belong.

use rayon::prelude::*;

use super::blocks::Blocks;
use super::gradient::gradient;
use super::isa::Isa;
use super::matrix::{Layout, Matrix, Weights};
use super::product::{Finish, product};
use super::taps::{self, Side, TAPS};
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

/// f32 that a group of images holds at once: about a core's second cache.
const GROUP: usize = 1 << 19;

/// The convolution of x [rows, c_in] with w [c_in, 9 c_out], column = tap * c_out + channel; row p adds row
/// `p % bias_rows` of b [bias_rows, c_out]. Gives [rows, c_out].
pub fn forward(grid: Grid, x: &[f32], w: &[f32], b: &[f32], c_in: usize, c_out: usize) -> Vec<f32> {
    check(grid, x, w, c_in, c_out);
    let bias_rows = b.len() / c_out;
    assert!(b.len() == bias_rows * c_out && (bias_rows == 1 || bias_rows == grid.pixels()), "1 bias or one a pixel");
    let isa = Isa::active();
    let mut y = vec![0.0; grid.rows() * c_out];
    if grid.rows() == 0 {
        return y;
    }
    let blocks = Blocks::new(grid, TAPS * c_out, GROUP);
    let weights = Weights::pack(w, TAPS * c_out);
    let layout = Layout::padded_rows(TAPS * c_out, blocks.group_rows());
    let mut z = layout.take(blocks.group_rows());
    for group in blocks.groups() {
        let x = Matrix::plain(&x[group.rows.start * c_in..group.rows.end * c_in], c_in);
        product(isa, x, weights.matrix(), &mut z, layout, Finish::Store, true);
        let y = &mut y[group.rows.start * c_out..group.rows.end * c_out];
        taps::scatter_group(isa, grid, &group, &z, layout, Some(b), c_out, Side::Forward, y);
    }
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
    if grid.rows() == 0 {
        return gradients;
    }
    let blocks = Blocks::new(grid, TAPS * c_out, GROUP);
    let weights = Weights::pack_transposed(w, TAPS * c_out);
    let layout = Layout::padded_rows(TAPS * c_out, blocks.height);
    let plain = Layout::plain(c_in, blocks.height);
    let mut dz = layout.take(blocks.group_rows());
    for group in blocks.groups() {
        let x = &x[group.rows.start * c_in..group.rows.end * c_in];
        let dx = &mut gradients.dx[group.rows.start * c_in..group.rows.end * c_in];
        let spread = group.blocks.len() < rayon::current_num_threads();
        let least = if spread { usize::MAX } else { (1 << 19) / (c_in * TAPS * c_out * blocks.height) + 1 };
        let dz_blocks = dz[..group.blocks.len() * layout.block].par_chunks_mut(layout.block).with_min_len(least);
        dz_blocks.zip(dx.par_chunks_mut(plain.block)).enumerate().for_each(|(index, (dz, dx))| {
            let rows = group.block(index, blocks.height);
            taps::gather(isa, grid, rows.clone(), dy, c_out, Side::Backward, dz, layout);
            let dz = Matrix::new(dz, layout, rows.len());
            product(isa, dz, weights.matrix(), dx, plain, Finish::Store, spread);
        });
        let count = group.rows.len();
        let (x, dz) = (Matrix::new(x, plain, count), Matrix::new(&dz, layout, count));
        gradient(isa, x, dz, &mut gradients.w, group.rows.start > 0);
    }
    gradients
}

fn check(grid: Grid, x: &[f32], w: &[f32], c_in: usize, c_out: usize) {
    assert_eq!(x.len(), grid.rows() * c_in, "the input is [rows, {c_in}]");
    assert_eq!(w.len(), c_in * TAPS * c_out, "the weights are [{c_in}, 9 * {c_out}]");
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
        for (index, grid) in GRIDS.into_iter().enumerate() {
            for (c_in, c_out) in [(1, 2), (3, 6), (12, 7), (24, 24)] {
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
                assert_close(&forward(grid, &x, &w, &b, c_in, c_out), &y, 1e-6);
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
                let y = forward(grid, &x, &w, &b, c_in, c_out);
                let dx = backward(grid, &x, &w, &dy, c_in, c_out, bias_rows).dx;
                for i in 0..grid.batch {
                    let (x, dy) = (image(grid, &x, c_in, i), image(grid, &dy, c_out, i));
                    assert_eq!(forward(one(grid), x, &w, &b, c_in, c_out), image(grid, &y, c_out, i));
                    let alone = backward(one(grid), x, &w, dy, c_in, c_out, bias_rows);
                    assert_eq!(alone.dx, image(grid, &dx, c_in, i));
                }
            });
            same_on_any_threads(|| {
                (forward(grid, &x, &w, &b, c_in, c_out), backward(grid, &x, &w, &dy, c_in, c_out, bias_rows))
            });
        }
    }
}
