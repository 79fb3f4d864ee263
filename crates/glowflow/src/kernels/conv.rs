//! A 3x3 convolution: composed, a matrix product to `9 * c_out` columns and a shift-and-add; on the CPU, products that read
//! their windows in place.

use burn::tensor::Tensor;

use super::flex::{Values, grid, tensor};
use super::{cpu, taps};

/// Gradients of [`forward`].
pub struct ConvGradients {
    /// Shape `[batch, height, width, c_in]`.
    pub x: Tensor<4>,
    /// Shape `[c_in, 9 * c_out]`.
    pub weight: Tensor<2>,
    /// Shape of the bias.
    pub bias: Tensor<2>,
}

/// `weight` is `[c_in, 9 * c_out]`, tap-major columns; `bias` `[1 or height * width, c_out]`.
pub fn forward(x: &Tensor<4>, weight: &Tensor<2>, bias: &Tensor<2>) -> Tensor<4> {
    if let Some(y) = on_cpu(x, weight, bias, None) {
        return y;
    }
    taps::add_bias(taps::add_taps(taps::product(x.clone(), weight.clone()), false), bias.clone())
}

/// [`forward`], added to `onto`.
pub fn forward_onto(onto: &Tensor<4>, x: &Tensor<4>, weight: &Tensor<2>, bias: &Tensor<2>) -> Tensor<4> {
    let values = Values::of(onto);
    let sum = values.and_then(|values| on_cpu(x, weight, bias, Some(&values)));
    sum.unwrap_or_else(|| onto.clone() + forward(x, weight, bias))
}

fn on_cpu(x: &Tensor<4>, weight: &Tensor<2>, bias: &Tensor<2>, onto: Option<&[f32]>) -> Option<Tensor<4>> {
    let [batch, height, width, c_in] = x.dims();
    let [_, c_out] = bias.dims();
    let (values, w, b) = (Values::of(x)?, Values::of(weight)?, Values::of(bias)?);
    Some(tensor(cpu::conv::forward(grid(x), &values, &w, &b, onto, c_in, c_out), [batch, height, width, c_out]))
}

/// Pulls `dy` back; the bias had `bias_rows` rows.
pub fn backward(x: &Tensor<4>, weight: &Tensor<2>, bias_rows: usize, dy: &Tensor<4>) -> ConvGradients {
    let [batch, height, width, c_in] = x.dims();
    let [.., c_out] = dy.dims();
    if let (Some(values), Some(w), Some(dy)) = (Values::of(x), Values::of(weight), Values::of(dy)) {
        let gradients = cpu::conv::backward(grid(x), &values, &w, &dy, c_in, c_out, bias_rows);
        return ConvGradients {
            x: tensor(gradients.dx, [batch, height, width, c_in]),
            weight: tensor(gradients.w, [c_in, 9 * c_out]),
            bias: tensor(gradients.b, [bias_rows, c_out]),
        };
    }
    let dz = taps::unfold(dy.clone(), true);
    ConvGradients {
        x: taps::product(dz.clone(), weight.clone().transpose()),
        weight: taps::rows(x.clone()).transpose().matmul(taps::rows(dz)),
        bias: taps::bias_gradient(dy.clone(), bias_rows),
    }
}
