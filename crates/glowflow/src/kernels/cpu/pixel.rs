//! The 1x1 convolution, y = W x + b at every pixel, and its gradients. W is [c_out, c_in].

use rayon::prelude::*;

use super::gradient::{DEPTH, gradient};
use super::isa::Isa;
use super::matrix::{Layout, Matrix, Weights};
use super::product::{Finish, product};
use super::scratch::LINE;

/// A 1x1 convolution whose weights are packed.
pub struct Pixel {
    weights: Weights,
    /// [c_out]
    bias: Vec<f32>,
}

impl Pixel {
    /// Of W [c_out, c_in] and b [c_out].
    pub fn new(w: &[f32], b: &[f32]) -> Self {
        assert!(w.len().is_multiple_of(b.len()), "a bias for each row of the weights");
        Pixel { weights: Weights::pack_transposed(w, w.len() / b.len()), bias: b.to_vec() }
    }

    /// c_in
    pub fn inputs(&self) -> usize {
        self.weights.matrix().rows
    }

    /// c_out
    pub fn outputs(&self) -> usize {
        self.bias.len()
    }

    /// y [rows, c_out] = W x + b for x [rows, c_in], on this thread alone.
    pub fn apply(&self, isa: Isa, x: &[f32], y: &mut [f32]) {
        let x = Matrix::plain(x, self.inputs());
        assert_eq!(y.len(), x.rows * self.outputs(), "as many rows");
        let finish = Finish::Bias { map: &self.bias, first: 0, relu: false };
        product(isa, x, self.weights.matrix(), y, Layout::plain(self.outputs(), x.rows), finish, false);
    }
}

/// y = W x + b for x [rows, c_in]; b is [c_out]. Gives [rows, c_out].
pub fn forward(x: &[f32], w: &[f32], b: &[f32], c_in: usize, c_out: usize) -> Vec<f32> {
    with_bias(x, w, b, c_in, c_out, false)
}

/// y = max(W x + b, 0), otherwise as [`forward`].
pub fn forward_relu(x: &[f32], w: &[f32], b: &[f32], c_in: usize, c_out: usize) -> Vec<f32> {
    with_bias(x, w, b, c_in, c_out, true)
}

fn with_bias(x: &[f32], w: &[f32], b: &[f32], c_in: usize, c_out: usize, relu: bool) -> Vec<f32> {
    assert_eq!(b.len(), c_out, "the bias is [{c_out}]");
    let mut y = vec![0.0; x.len() / c_in * c_out];
    let weights = Weights::pack_transposed(w, c_in);
    apply(x, c_in, c_out, w, &weights, Finish::Bias { map: b, first: 0, relu }, &mut y);
    y
}

/// Adds W x + b to y [rows, c_out].
pub fn add_forward(y: &mut [f32], x: &[f32], w: &[f32], b: &[f32], c_in: usize, c_out: usize) {
    assert_eq!(b.len(), c_out, "the bias is [{c_out}]");
    apply(x, c_in, c_out, w, &Weights::pack_transposed(w, c_in), Finish::Add { bias: Some(b) }, y);
}

/// Adds W^T dy to dx [rows, c_in].
pub fn add_transposed(dx: &mut [f32], dy: &[f32], w: &[f32], c_in: usize, c_out: usize) {
    apply(dy, c_out, c_in, w, &Weights::pack(w, c_in), Finish::Add { bias: None }, dx);
}

/// dx = W^T dy for dy [rows, c_out]. Gives [rows, c_in].
pub fn transposed(dy: &[f32], w: &[f32], c_in: usize, c_out: usize) -> Vec<f32> {
    let mut dx = vec![0.0; dy.len() / c_out * c_in];
    apply(dy, c_out, c_in, w, &Weights::pack(w, c_in), Finish::Store, &mut dx);
    dx
}

fn apply(x: &[f32], depth: usize, columns: usize, w: &[f32], weights: &Weights, finish: Finish, out: &mut [f32]) {
    assert_eq!(w.len(), depth * columns, "the weights are [c_out, c_in]");
    assert!(x.len().is_multiple_of(depth), "rows of {depth} channels");
    let x = Matrix::plain(x, depth);
    assert_eq!(out.len(), x.rows * columns, "rows of {columns} channels");
    product(Isa::active(), x, weights.matrix(), out, Layout::plain(columns, x.rows), finish, true);
}

/// The sum of dy x^T over the rows of dy [rows, c_out] and x [rows, c_in]. Gives [c_out, c_in].
pub fn weight_gradient(dy: &[f32], x: &[f32], c_in: usize, c_out: usize) -> Vec<f32> {
    let rows = x.len() / c_in;
    assert_eq!((x.len(), dy.len()), (rows * c_in, rows * c_out), "rows of {c_in} and {c_out} channels");
    let height = DEPTH.min(rows.max(1));
    let mut w = vec![0.0; c_out * c_in];
    let dy = Matrix::new(dy, Layout::plain(c_out, height), rows);
    // Whole vectors are read of x, and whole blocks.
    if c_in.is_multiple_of(LINE) && rows.is_multiple_of(height) {
        gradient(Isa::active(), dy, Matrix::new(x, Layout::plain(c_in, height), rows), &mut w, false);
        return w;
    }
    let layout = Layout::padded_rows(c_in, height);
    let mut padded = layout.take(rows);
    let blocks = padded.par_chunks_mut(layout.block).zip(x.par_chunks(height * c_in));
    blocks.with_min_len((1 << 14) / layout.block + 1).for_each(|(to, from)| {
        for (to, from) in to.chunks_exact_mut(layout.row).zip(from.chunks_exact(c_in)) {
            to[..c_in].copy_from_slice(from);
        }
    });
    gradient(Isa::active(), dy, Matrix::new(&padded, layout, rows), &mut w, false);
    w
}

#[cfg(test)]
mod tests {
    use super::super::reference::{assert_close, on_each_isa, same_on_any_threads, values};
    use super::*;

    const SIZES: [(usize, usize, usize); 9] = [
        (1, 1, 1),
        (5, 3, 2),
        (7, 12, 12),
        (100, 24, 24),
        (64, 48, 33),
        (700, 13, 17),
        (1200, 40, 72),
        (4000, 48, 20),
        (2880, 32, 64),
    ];

    #[test]
    fn equals_the_definition() {
        for (rows, c_in, c_out) in SIZES {
            let (x, dy) = (values(1, rows * c_in), values(2, rows * c_out));
            let (w, b) = (values(3, c_out * c_in), values(4, c_out));
            let (mut y, mut dx, mut dw) = (vec![0.0; dy.len()], vec![0.0; x.len()], vec![0.0; w.len()]);
            for row in 0..rows {
                for o in 0..c_out {
                    y[row * c_out + o] += f64::from(b[o]);
                    for i in 0..c_in {
                        let (w, x, dy) = (w[o * c_in + i], x[row * c_in + i], dy[row * c_out + o]);
                        let (w, x, dy) = (f64::from(w), f64::from(x), f64::from(dy));
                        y[row * c_out + o] += w * x;
                        dx[row * c_in + i] += w * dy;
                        dw[o * c_in + i] += dy * x;
                    }
                }
            }
            let rectified: Vec<f64> = y.iter().map(|y| y.max(0.0)).collect();
            on_each_isa(|_| {
                assert_close(&forward(&x, &w, &b, c_in, c_out), &y, 1e-6);
                assert_close(&forward_relu(&x, &w, &b, c_in, c_out), &rectified, 1e-6);
                assert_close(&transposed(&dy, &w, c_in, c_out), &dx, 1e-6);
                let onto = |expected: &[f64]| expected.iter().map(|x| x + 1.0).collect::<Vec<_>>();
                let (mut sum, mut dsum) = (vec![1.0; y.len()], vec![1.0; dx.len()]);
                add_forward(&mut sum, &x, &w, &b, c_in, c_out);
                add_transposed(&mut dsum, &dy, &w, c_in, c_out);
                assert_close(&sum, &onto(&y), 1e-6);
                assert_close(&dsum, &onto(&dx), 1e-6);
                assert_close(&weight_gradient(&dy, &x, c_in, c_out), &dw, 2e-6);
            });
        }
    }

    #[test]
    fn a_row_alone_and_any_threads_give_the_same_bits() {
        for (rows, c_in, c_out) in SIZES {
            let (x, dy) = (values(1, rows * c_in), values(2, rows * c_out));
            let (w, b) = (values(3, c_out * c_in), values(4, c_out));
            on_each_isa(|_| {
                let (y, dx) = (forward(&x, &w, &b, c_in, c_out), transposed(&dy, &w, c_in, c_out));
                for row in 0..rows {
                    let (x, dy) = (&x[row * c_in..][..c_in], &dy[row * c_out..][..c_out]);
                    assert_eq!(forward(x, &w, &b, c_in, c_out), y[row * c_out..][..c_out]);
                    assert_eq!(transposed(dy, &w, c_in, c_out), dx[row * c_in..][..c_in]);
                }
            });
            same_on_any_threads(|| (forward(&x, &w, &b, c_in, c_out), weight_gradient(&dy, &x, c_in, c_out)));
        }
    }
}
