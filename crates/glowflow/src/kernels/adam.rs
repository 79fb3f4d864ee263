//! The optimizer's step, parameter by parameter.

use burn::backend::Flex;
use burn::tensor::{DType, Tensor};

use super::cpu;
pub use super::cpu::adam::Adam;
use super::flex::Values;

/// A parameter's first and second moment, flat.
#[derive(Debug, Clone)]
pub struct Moments {
    /// Mean of the gradients.
    pub first: Tensor<1>,
    /// Mean of their squares.
    pub second: Tensor<1>,
}

/// The stepped values and moments. `gradient` is flat and taken times `scale`.
pub fn step<const D: usize>(
    adam: &Adam,
    values: Tensor<D>,
    gradient: Tensor<1>,
    scale: f32,
    moments: Moments,
) -> (Tensor<D>, Moments) {
    match Values::of(&gradient) {
        Some(gradient) if values.dtype() == DType::F32 => on_cpu(adam, values, &gradient, scale, moments),
        _ => composed(adam, values, gradient, scale, moments),
    }
}

/// In place: nobody else holds the tensors while the optimizer has them.
fn on_cpu<const D: usize>(
    adam: &Adam,
    values: Tensor<D>,
    gradient: &[f32],
    scale: f32,
    moments: Moments,
) -> (Tensor<D>, Moments) {
    let shape = values.dims();
    let own = |tensor: Tensor<1>| tensor.try_into_primitive::<Flex>().expect("as the gradient").to_contiguous();
    let count = gradient.len();
    let (mut w, mut m, mut v) = (own(values.reshape([count])), own(moments.first), own(moments.second));
    cpu::adam::step(adam, w.storage_mut(), gradient, scale, m.storage_mut(), v.storage_mut());
    let back = |tensor| Tensor::<1>::from_primitive::<Flex>(tensor);
    (back(w).reshape(shape), Moments { first: back(m), second: back(v) })
}

fn composed<const D: usize>(
    adam: &Adam,
    values: Tensor<D>,
    gradient: Tensor<1>,
    scale: f32,
    moments: Moments,
) -> (Tensor<D>, Moments) {
    let gradient = gradient.mul_scalar(scale);
    let t = adam.step as f64;
    let first = moments.first.mul_scalar(adam.beta1) + gradient.clone().mul_scalar(1.0 - adam.beta1);
    let second = moments.second.mul_scalar(adam.beta2) + gradient.square().mul_scalar(1.0 - adam.beta2);
    let mean = first.clone().mul_scalar(adam.learning_rate / (1.0 - adam.beta1.powf(t)));
    let root = second.clone().div_scalar(1.0 - adam.beta2.powf(t)).sqrt().add_scalar(adam.epsilon);
    let update = (mean / root).reshape(values.dims());
    let kept = values.mul_scalar(1.0 - adam.learning_rate * adam.weight_decay);
    (kept - update, Moments { first, second })
}
