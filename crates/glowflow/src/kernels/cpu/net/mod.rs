//! The coupling net, 3x3 convolution - ReLU - 1x1 convolution - ReLU - 3x3 convolution, and its gradients.
//!
//! Each convolution is a product over pixels: the first gathers the nine taps of its few channels, the last computes
//! nine products for each pixel, which are then added where they belong. A block of pixels goes through all three
//! while it is in cache. Weights are packed for the products beforehand, once for each state of them.

mod in_bf16;
mod in_f32;
mod run;
mod unfold;

use rayon::prelude::*;

use super::bf16::{Parts, Unit};
use super::scratch::Scratch;
use super::taps::TAPS;
use super::{Grid, reduce};
use crate::kernels::Precision;
pub(super) use run::{Input, Run};

/// Weights, each column with a scale, and biases.
///
/// `bias_rows` below is 1, or the pixels of an image: then a bias is a map that all images share, which is how an
/// edge-aware convolution enters.
#[derive(Debug, Clone, Copy)]
pub struct NetWeights<'a> {
    /// [9 c_in, hidden], row = tap * c_in + channel, tap = (dy + 1) * 3 + dx + 1.
    pub w1: &'a [f32],
    /// [hidden]
    pub s1: &'a [f32],
    /// [bias_rows, hidden]
    pub b1: &'a [f32],
    /// [hidden, hidden], in and out.
    pub w2: &'a [f32],
    /// [hidden]
    pub s2: &'a [f32],
    /// [hidden]
    pub b2: &'a [f32],
    /// [hidden, 9 c_out], column = tap * c_out + channel.
    pub w3: &'a [f32],
    /// [c_out]
    pub s3: &'a [f32],
    /// [bias_rows, c_out]
    pub b3: &'a [f32],
    /// Sizes.
    pub sizes: Sizes,
}

/// Channels of a net.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Of the input.
    pub c_in: usize,
    /// Of the hidden layers.
    pub hidden: usize,
    /// Of the output.
    pub c_out: usize,
}

/// Gradients, in the shapes of what they belong to.
#[derive(Debug, Clone, PartialEq)]
pub struct NetGradients {
    /// [rows, c_in]
    pub dx: Vec<f32>,
    /// Of the first convolution; biases in the shape of [`NetWeights::b1`].
    pub first: ConvGradients,
    /// Of the second.
    pub middle: ConvGradients,
    /// Of the last.
    pub last: ConvGradients,
}

/// Gradients of a convolution's parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct ConvGradients {
    /// Of the weights.
    pub weight: Vec<f32>,
    /// Of the logarithms of the scales, as far as they scale weights.
    pub log_scale: Vec<f32>,
    /// Of the bias.
    pub bias: Vec<f32>,
}

/// Weights packed for [`forward`].
pub struct Forward(Packed<in_f32::Forward, in_bf16::Forward>);

/// Weights packed for [`backward`].
pub struct Backward(Packed<in_f32::Backward, in_bf16::Backward>);

enum Packed<F, B> {
    F32(F),
    Bf16(B),
}

/// The hidden activations of a batch, for [`backward`]: block after block, in the order of their precision's kernel.
pub struct Hidden {
    h1: Scratch,
    h2: Scratch,
}

/// How bf16 operands are held in a precision that has them.
fn parts(precision: Precision) -> Option<Parts> {
    match precision {
        Precision::F32 => None,
        Precision::Bf16x3 => Some(Parts::Two),
        Precision::Bf16 => Some(Parts::One),
    }
}

impl NetWeights<'_> {
    fn check(&self) {
        let Sizes { c_in, hidden, c_out } = self.sizes;
        assert_eq!(self.w1.len(), TAPS * c_in * hidden, "w1 is [9 c_in, hidden]");
        assert_eq!(self.w2.len(), hidden * hidden, "w2 is [hidden, hidden]");
        assert_eq!(self.w3.len(), hidden * TAPS * c_out, "w3 is [hidden, 9 c_out]");
        assert_eq!((self.s1.len(), self.s2.len(), self.s3.len()), (hidden, hidden, c_out), "a scale for each channel");
        assert_eq!(self.b2.len(), hidden, "b2 is [hidden]");
        assert!(self.b1.len().is_multiple_of(hidden) && self.b3.len().is_multiple_of(c_out), "rows of biases");
    }

    /// Packs for [`forward`].
    pub fn forward(&self, precision: Precision) -> Forward {
        self.check();
        Forward(match parts(precision) {
            None => Packed::F32(in_f32::Forward::new(self)),
            Some(parts) => Packed::Bf16(in_bf16::Forward::new(self, parts)),
        })
    }

    /// Packs for [`backward`].
    pub fn backward(&self, precision: Precision) -> Backward {
        self.check();
        Backward(match parts(precision) {
            None => Packed::F32(in_f32::Backward::new(self)),
            Some(parts) => Packed::Bf16(in_bf16::Backward::new(self, parts)),
        })
    }
}

/// The net's output [rows, c_out] and, if they are to be kept, the hidden activations.
pub fn forward(grid: Grid, x: &[f32], w: &Forward, keep: bool) -> (Vec<f32>, Option<Hidden>) {
    let run = Run::new(grid, w, keep);
    let Sizes { c_in, c_out, .. } = w.sizes();
    assert_eq!(x.len(), grid.rows() * c_in, "the input is [rows, {c_in}]");
    let mut y = vec![0.0; grid.rows() * c_out];
    let mut kept = run.hidden();
    if y.is_empty() {
        return (y, kept);
    }
    let parts =
        y.par_chunks_mut(run.part * c_out).zip(x.par_chunks(run.part * c_in)).zip(run.hidden_of_parts(&mut kept));
    let pieces = run.pieces(c_out);
    parts.with_min_len(run.least_parts()).for_each(|((y, x), hidden)| {
        let products = run.products(Input { values: x, row: c_in }, hidden);
        run.each(pieces.cut(y, c_out), |index, y| products.output(pieces.first(index), y));
    });
    (y, kept)
}

impl Forward {
    /// Channels of the net.
    pub(super) fn sizes(&self) -> Sizes {
        match &self.0 {
            Packed::F32(w) => w.sizes,
            Packed::Bf16(w) => w.sizes,
        }
    }
}

impl Sizes {
    /// Of a row's way through the net.
    fn multiplications(self) -> usize {
        self.hidden * (TAPS * (self.c_in + self.c_out) + self.hidden)
    }
}

/// The gradients for the cotangent `dy` [rows, c_out] of the output, from the `hidden` that [`forward`] kept for the
/// same `grid` and `w`, which `packed` is made of.
pub fn backward(grid: Grid, x: &[f32], w: &NetWeights, packed: &Backward, hidden: &Hidden, dy: &[f32]) -> NetGradients {
    let Sizes { c_in, c_out, .. } = w.sizes;
    assert_eq!(x.len(), grid.rows() * c_in, "the input is [rows, {c_in}]");
    assert_eq!(dy.len(), grid.rows() * c_out, "the cotangent is [rows, {c_out}]");
    let b3 = reduce::grouped_sums(dy, c_out, w.b3.len() / c_out);
    match &packed.0 {
        Packed::F32(packed) => in_f32::backward(grid, x, w, packed, hidden, dy, b3),
        Packed::Bf16(packed) => in_bf16::backward(unit(), grid, x, w, packed, hidden, dy, b3),
    }
}

fn unit() -> Unit {
    Unit::active().expect("a device says which precisions it has")
}

#[cfg(test)]
mod tests {
    use super::super::Isa;
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
        parameters: [Vec<f32>; 9],
    }

    impl Case {
        fn new(grid: Grid, c_in: usize, hidden: usize, c_out: usize, bias_rows: usize) -> Self {
            let scaled = |seed, len, depth: usize| {
                let mut values = values(seed, len);
                values.iter_mut().for_each(|x| *x *= (3.0 / depth as f32).sqrt());
                values
            };
            let scales = |seed, len| values(seed, len).into_iter().map(|x| 1.0 + 0.5 * x).collect();
            let parameters = [
                scaled(1, TAPS * c_in * hidden, TAPS * c_in),
                scaled(2, bias_rows * hidden, 12),
                scaled(3, hidden * hidden, hidden),
                scaled(4, hidden, 12),
                scaled(5, hidden * TAPS * c_out, TAPS * hidden),
                scaled(6, bias_rows * c_out, 12),
                scales(11, hidden),
                scales(12, hidden),
                scales(13, c_out),
            ];
            let (x, dy) = (values(7, grid.rows() * c_in), values(8, grid.rows() * c_out));
            Case { grid, c_in, hidden, c_out, x, dy, parameters }
        }

        fn weights(&self) -> NetWeights<'_> {
            let [w1, b1, w2, b2, w3, b3, s1, s2, s3] = &self.parameters;
            let sizes = Sizes { c_in: self.c_in, hidden: self.hidden, c_out: self.c_out };
            NetWeights { w1, s1, b1, w2, s2, b2, w3, s3, b3, sizes }
        }

        fn run(&self, precision: Precision, grid: Grid, x: &[f32], dy: &[f32]) -> (Vec<f32>, NetGradients) {
            let w = self.weights();
            let (y, hidden) = forward(grid, x, &w.forward(precision), true);
            (y, backward(grid, x, &w, &w.backward(precision), &hidden.expect("kept"), dy))
        }
    }

    /// Every way to multiply that this machine has, with the error that its operands allow.
    fn on_each(body: impl Fn(Precision, f64)) {
        on_each_isa(|_| body(Precision::F32, 2e-6));
        for unit in Unit::available() {
            Unit::force(unit, || {
                body(Precision::Bf16x3, 5e-5);
                body(Precision::Bf16, 0.3);
            });
        }
    }

    /// As [`assert_close`]; in bf16, where a ReLU may open that should not, over all values together.
    #[track_caller]
    fn assert_near(precision: Precision, found: &[f32], expected: &[f64], tolerance: f64) {
        if precision != Precision::Bf16 {
            return assert_close(found, expected, tolerance);
        }
        let squares = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
        let missed = squares(&mut found.iter().zip(expected).map(|(found, expected)| f64::from(*found) - expected));
        let all = squares(&mut expected.iter().copied());
        assert!(missed <= tolerance * all.max(1e-3), "an error of {missed:.1e} in {all:.1e}");
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
            let [raw1, b1, raw2, b2, raw3, b3, s1, s2, s3] = case.parameters.each_ref().map(|x| wide(x));
            let scaled = |w: &[f64], s: &[f64]| w.iter().zip(s.iter().cycle()).map(|(w, s)| w * s).collect::<Vec<_>>();
            let (w1, w2, w3) = (scaled(&raw1, &s1), scaled(&raw2, &s2), scaled(&raw3, &s3));
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

            // Of scaled weights to weights and the logarithms of the scales.
            let unfolded = |dw: &[f64], w: &[f64], s: &[f64]| {
                let mut log_scale = vec![0.0; s.len()];
                dw.iter().zip(w).enumerate().for_each(|(i, (d, w))| log_scale[i % s.len()] += d * w);
                (scaled(dw, s), log_scale)
            };
            let (first_w, middle_w, last_w) =
                (unfolded(&first.w, &w1, &s1), unfolded(&dw2, &w2, &s2), unfolded(&third.w, &w3, &s3));

            on_each(|precision, tolerance| {
                let (found, gradients) = case.run(precision, grid, &case.x, &case.dy);
                let assert_near = |found: &[f32], expected: &[f64]| assert_near(precision, found, expected, tolerance);
                assert_near(&found, &y);
                assert_near(&gradients.dx, &first.dx);
                for (found, (weight, log_scale), bias) in [
                    (&gradients.first, &first_w, &first.b),
                    (&gradients.middle, &middle_w, &db2),
                    (&gradients.last, &last_w, &third.b),
                ] {
                    assert_near(&found.weight, weight);
                    assert_near(&found.log_scale, log_scale);
                    assert_near(&found.bias, bias);
                }
            });
        }
    }

    #[test]
    fn an_image_alone_gives_the_same_bits() {
        for case in cases() {
            let Case { grid, c_in, c_out, .. } = case;
            on_each(|precision, _| {
                let (y, gradients) = case.run(precision, grid, &case.x, &case.dy);
                let unkept = forward(grid, &case.x, &case.weights().forward(precision), false);
                assert_eq!(unkept.0, y, "keeping changes bits");
                for i in 0..grid.batch {
                    let (x, dy) = (image(grid, &case.x, c_in, i), image(grid, &case.dy, c_out, i));
                    let (alone, of_image) = case.run(precision, one(grid), x, dy);
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
            let run = |precision| case.run(precision, case.grid, &case.x, &case.dy);
            same_on_any_threads(|| run(Precision::F32));
            for unit in Unit::available() {
                let run = || Unit::force(unit, || [Precision::Bf16x3, Precision::Bf16].map(run));
                same_on_any_threads(run);
            }
        }
    }

    #[test]
    fn fused_multiply_add_gives_the_same_bits_in_any_width() {
        if Isa::detect() != Isa::Avx512 {
            return;
        }
        for case in cases() {
            let run = |isa| Isa::force(isa, || case.run(Precision::F32, case.grid, &case.x, &case.dy));
            assert!(run(Isa::Avx2) == run(Isa::Avx512));
        }
    }
}
