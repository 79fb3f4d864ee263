//! A 1x1 convolution with bias: every pixel's channels times one matrix.

use std::sync::{Arc, OnceLock};

use burn::tensor::{Tensor, activation::relu};

use super::flex::{Values, in_place, tensor};
use super::{cpu, taps};

/// Gradients of [`forward`].
pub struct PixelGradients {
    /// Shape `[batch, height, width, c_in]`.
    pub x: Tensor<4>,
    /// Shape `[c_out, c_in]`.
    pub weight: Tensor<2>,
    /// Shape `[c_out]`.
    pub bias: Tensor<1>,
}

/// `y = W x + b` with weights that serve many calls. What the CPU's kernel packs of them is kept.
#[derive(Clone)]
pub struct Pixel {
    /// Shape `[c_out, c_in]`.
    pub weight: Tensor<2>,
    /// Shape `[c_out]`.
    pub bias: Tensor<1>,
    packed: OnceLock<Arc<cpu::pixel::Pixel>>,
}

impl std::fmt::Debug for Pixel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pixel").field("weight", &self.weight).field("bias", &self.bias).finish_non_exhaustive()
    }
}

impl Pixel {
    /// Of these weights.
    pub fn new(weight: Tensor<2>, bias: Tensor<1>) -> Self {
        Self { weight, bias, packed: OnceLock::new() }
    }

    /// At every pixel of x.
    pub fn forward(&self, x: &Tensor<4>) -> Tensor<4> {
        forward(x, &self.weight, &self.bias)
    }

    /// As the CPU's kernels take it, where the weights are there.
    pub(super) fn packed(&self) -> Option<&cpu::pixel::Pixel> {
        if self.packed.get().is_none() {
            let (weight, bias) = (Values::of(&self.weight)?, Values::of(&self.bias)?);
            let _ = self.packed.set(Arc::new(cpu::pixel::Pixel::new(&weight, &bias)));
        }
        self.packed.get().map(|packed| &**packed)
    }
}

/// `y = W x + b` at every pixel. `weight` is `[c_out, c_in]`, `bias` `[c_out]`.
pub fn forward(x: &Tensor<4>, weight: &Tensor<2>, bias: &Tensor<1>) -> Tensor<4> {
    on_cpu(x, weight, bias, cpu::pixel::forward).unwrap_or_else(|| composed(x, weight, bias))
}

/// [`forward`], with a ReLU: `max(W x + b, 0)`.
pub fn forward_relu(x: &Tensor<4>, weight: &Tensor<2>, bias: &Tensor<1>) -> Tensor<4> {
    on_cpu(x, weight, bias, cpu::pixel::forward_relu).unwrap_or_else(|| relu(composed(x, weight, bias)))
}

/// [`forward`], added to `onto`.
pub fn forward_onto(onto: Tensor<4>, x: &Tensor<4>, weight: &Tensor<2>, bias: &Tensor<1>) -> Tensor<4> {
    let ([.., c_in], [c_out, _]) = (x.dims(), weight.dims());
    match (Values::of(&onto).is_some(), Values::of(x), Values::of(weight), Values::of(bias)) {
        (true, Some(x), Some(w), Some(b)) => in_place(onto, |y| cpu::pixel::add_forward(y, &x, &w, &b, c_in, c_out)),
        _ => onto + composed(x, weight, bias),
    }
}

/// x, w, b, c_in and c_out to y.
type OnSlices = fn(&[f32], &[f32], &[f32], usize, usize) -> Vec<f32>;

fn on_cpu(x: &Tensor<4>, weight: &Tensor<2>, bias: &Tensor<1>, kernel: OnSlices) -> Option<Tensor<4>> {
    let [batch, height, width, c_in] = x.dims();
    let [c_out, _] = weight.dims();
    let (x, w, b) = (Values::of(x)?, Values::of(weight)?, Values::of(bias)?);
    Some(tensor(kernel(&x, &w, &b, c_in, c_out), [batch, height, width, c_out]))
}

fn composed(x: &Tensor<4>, weight: &Tensor<2>, bias: &Tensor<1>) -> Tensor<4> {
    let [c_out] = bias.dims();
    taps::product(x.clone(), weight.clone().transpose()) + bias.clone().reshape([1, 1, 1, c_out])
}

/// Pulls `dy` back to the input, the matrix and the bias.
pub fn backward(x: &Tensor<4>, weight: &Tensor<2>, dy: &Tensor<4>) -> PixelGradients {
    backward_onto(None, x, weight, dy)
}

/// [`backward`], the gradient of the input added to `onto` if there is one.
pub fn backward_onto(onto: Option<Tensor<4>>, x: &Tensor<4>, weight: &Tensor<2>, dy: &Tensor<4>) -> PixelGradients {
    let [batch, height, width, c_in] = x.dims();
    let [c_out, _] = weight.dims();
    let (x_gradient, weight_gradient) = match (Values::of(x), Values::of(weight), Values::of(dy)) {
        (Some(x), Some(w), Some(dy)) => {
            let x_gradient = match onto {
                Some(onto) => in_place(onto, |dx| cpu::pixel::add_transposed(dx, &dy, &w, c_in, c_out)),
                None => tensor(cpu::pixel::transposed(&dy, &w, c_in, c_out), [batch, height, width, c_in]),
            };
            (x_gradient, tensor(cpu::pixel::weight_gradient(&dy, &x, c_in, c_out), [c_out, c_in]))
        }
        _ => {
            let x_gradient = taps::product(dy.clone(), weight.clone());
            let x_gradient = match onto {
                Some(onto) => onto + x_gradient,
                None => x_gradient,
            };
            (x_gradient, taps::rows(dy.clone()).transpose().matmul(taps::rows(x.clone())))
        }
    };
    PixelGradients { x: x_gradient, weight: weight_gradient, bias: super::reduce::column_sums(&taps::rows(dy.clone())) }
}
