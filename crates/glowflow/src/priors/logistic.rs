//! The factorial logistic prior of NICE.
//!
//! Dinh, Krueger & Bengio 2015, section 3.4.

use burn::tensor::Tensor;

use crate::flow::sum_per_example;

/// `ln p(z) = -softplus(z) - softplus(-z)` of each example, summed over its values; nats. Shape `[batch]`.
pub fn log_prob(z: &Tensor<4>) -> Tensor<1> {
    // -|z| - 2 ln(1 + e^-|z|): no exponential overflows.
    let size = z.clone().abs();
    let tail = size.clone().neg().exp().log1p();
    sum_per_example((size + tail.mul_scalar(2.0)).neg())
}

/// Pulls the cotangent of [`log_prob`], `[batch]`, back to `z`.
pub fn backward(z: &Tensor<4>, cotangent: &Tensor<1>) -> Tensor<4> {
    let [batch, ..] = z.dims();
    z.clone().mul_scalar(0.5).tanh().neg() * cotangent.clone().reshape([batch, 1, 1, 1])
}
