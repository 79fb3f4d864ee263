//! A diagonal normal distribution whose parameters are channels of an activation.

use std::f64::consts::TAU;

use burn::tensor::Tensor;

use super::coupling::{halves, interleaved};
use super::cpu;
pub use super::cpu::normal::Layout;
use super::flex::{Rows, Values, tensor};
use crate::flow::sum_per_example;

/// Gradients of [`log_prob`].
pub struct NormalGradients {
    /// Shape of `x`.
    pub x: Tensor<4>,
    /// Shape of `h`.
    pub h: Tensor<4>,
}

/// `ln N(x; mean, e^log)` of each example, nats. `x` is `[batch, height, width, n]`, `h` `[batch or 1, .., 2n]`.
pub fn log_prob(layout: Layout, x: &Tensor<4>, h: &Tensor<4>) -> Tensor<1> {
    let [batch, .., n] = x.dims();
    if let (Some(values), Some(h)) = (Values::of(x), Values::of(h)) {
        return tensor(cpu::normal::log_prob(layout, batch, &values, &h, n), [batch]);
    }
    let (mean, log) = parameters(layout, h);
    let noise = (x.clone() - mean) * log.clone().neg().exp();
    sum_per_example((noise.clone() * noise).mul_scalar(-0.5) - log - 0.5 * TAU.ln())
}

/// Pulls the cotangent of [`log_prob`], `[batch]`, back; what all examples share is summed over the batch.
pub fn backward(layout: Layout, x: &Tensor<4>, h: &Tensor<4>, cotangent: &Tensor<1>) -> NormalGradients {
    let [batch, .., n] = x.dims();
    if let (Some(values), Some(hs), Some(cotangent)) = (Values::of(x), Values::of(h), Values::of(cotangent)) {
        let g = cpu::normal::backward(layout, batch, &values, &hs, n, &cotangent);
        return NormalGradients { x: tensor(g.dx, x.dims()), h: tensor(g.dh, h.dims()) };
    }
    let (mean, log) = parameters(layout, h);
    let cotangent = cotangent.clone().reshape([batch, 1, 1, 1]);
    let inverse = log.neg().exp();
    let noise = (x.clone() - mean) * inverse.clone();
    let dmean = noise.clone() * inverse * cotangent.clone();
    let dlog = (noise.clone() * noise).sub_scalar(1.0) * cotangent;
    let dx = dmean.clone().neg();
    let dh = match layout {
        Layout::Halves => Tensor::cat(vec![dmean, dlog], 3),
        Layout::Interleaved => {
            let [batch, height, width, n] = dx.dims();
            Tensor::stack::<5>(vec![dmean, dlog], 4).reshape([batch, height, width, 2 * n])
        }
    };
    let shared = h.dims()[0] == 1 && batch > 1;
    NormalGradients { x: dx, h: if shared { dh.sum_dim(0) } else { dh } }
}

/// `(x - mean) e^-log`.
pub fn to_noise(layout: Layout, x: &Tensor<4>, h: &Tensor<4>) -> Tensor<4> {
    let [.., n] = x.dims();
    if let (Some(rows), Some(h)) = (Rows::of(x), Values::of(h)) {
        return tensor(cpu::normal::to_noise(layout, rows.to_vec(n), &h, n), x.dims());
    }
    let (mean, log) = parameters(layout, h);
    (x.clone() - mean) * log.neg().exp()
}

/// `mean + e^log noise`.
pub fn from_noise(layout: Layout, noise: &Tensor<4>, h: &Tensor<4>) -> Tensor<4> {
    let [.., n] = noise.dims();
    if let (Some(rows), Some(h)) = (Rows::of(noise), Values::of(h)) {
        return tensor(cpu::normal::from_noise(layout, rows.to_vec(n), &h, n), noise.dims());
    }
    let (mean, log) = parameters(layout, h);
    mean + log.exp() * noise.clone()
}

fn parameters(layout: Layout, h: &Tensor<4>) -> (Tensor<4>, Tensor<4>) {
    match layout {
        Layout::Halves => halves(h),
        Layout::Interleaved => interleaved(h),
    }
}
