//! The optimizer's step, parameter by parameter.

use burn::backend::Flex;
use burn::tensor::Tensor;

use super::cpu;
pub use super::cpu::adam::Adam;
use super::flex::Values;

/// A parameter's first and second moment, the means of its gradients and of their squares, flat.
#[derive(Debug, Clone)]
pub enum Moments {
    /// Where the CPU kernel runs. Not tensors: one of burn's takes 640 bytes besides its values.
    Host {
        /// Mean of the gradients.
        first: Vec<f32>,
        /// Mean of their squares.
        second: Vec<f32>,
    },
    /// First and second, on any device.
    Device(Box<[Tensor<1>; 2]>),
}

impl Moments {
    /// Zeros for a parameter of this gradient.
    pub fn zeros(gradient: &Tensor<1>) -> Self {
        match Values::of(gradient) {
            Some(values) => Self::Host { first: vec![0.0; values.len()], second: vec![0.0; values.len()] },
            None => Self::Device(Box::new([gradient.zeros_like(), gradient.zeros_like()])),
        }
    }
}

/// The stepped values and moments. `gradient` is flat and taken times `scale`.
pub fn step<const D: usize>(
    adam: &Adam,
    values: Tensor<D>,
    gradient: Tensor<1>,
    scale: f32,
    moments: Moments,
) -> (Tensor<D>, Moments) {
    match moments {
        Moments::Host { mut first, mut second } => {
            let gradient = Values::of(&gradient).expect("as when the moments were made");
            (on_cpu(adam, values, &gradient, scale, &mut first, &mut second), Moments::Host { first, second })
        }
        Moments::Device(moments) => {
            let (values, moments) = composed(adam, values, gradient, scale, *moments);
            (values, Moments::Device(Box::new(moments)))
        }
    }
}

/// In place: nobody else holds the values while the optimizer has them.
fn on_cpu<const D: usize>(
    adam: &Adam,
    values: Tensor<D>,
    gradient: &[f32],
    scale: f32,
    first: &mut [f32],
    second: &mut [f32],
) -> Tensor<D> {
    let shape = values.dims();
    // One expression: a second handle, even to a view, would make `storage_mut` copy.
    let mut flat =
        values.reshape([gradient.len()]).try_into_primitive::<Flex>().expect("as the gradient").to_contiguous();
    cpu::adam::step(adam, flat.storage_mut(), gradient, scale, first, second);
    Tensor::<1>::from_primitive::<Flex>(flat).reshape(shape)
}

fn composed<const D: usize>(
    adam: &Adam,
    values: Tensor<D>,
    gradient: Tensor<1>,
    scale: f32,
    [first, second]: [Tensor<1>; 2],
) -> (Tensor<D>, [Tensor<1>; 2]) {
    let gradient = gradient.mul_scalar(scale);
    let t = adam.step as f64;
    let first = first.mul_scalar(adam.beta1) + gradient.clone().mul_scalar(1.0 - adam.beta1);
    let second = second.mul_scalar(adam.beta2) + gradient.square().mul_scalar(1.0 - adam.beta2);
    let mean = first.clone().mul_scalar(adam.learning_rate / (1.0 - adam.beta1.powf(t)));
    let root = second.clone().div_scalar(1.0 - adam.beta2.powf(t)).sqrt().add_scalar(adam.epsilon);
    let update = (mean / root).reshape(values.dims());
    let kept = values.mul_scalar(1.0 - adam.learning_rate * adam.weight_decay);
    (kept - update, [first, second])
}
