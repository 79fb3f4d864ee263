//! A 3x3 convolution as a matrix product to `9 * c_out` columns and a shift-and-add, never an im2col of its input.

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
    let [batch, height, width, c_in] = x.dims();
    let [_, c_out] = bias.dims();
    if let (Some(values), Some(w), Some(b)) = (Values::of(x), Values::of(weight), Values::of(bias)) {
        let y = cpu::conv::forward(grid(x), &values, &w, &b, c_in, c_out);
        return tensor(y, [batch, height, width, c_out]);
    }
    taps::add_bias(taps::add_taps(taps::product(x.clone(), weight.clone()), false), bias.clone())
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
