//! The optimizer's step, parameter by parameter.

use burn::tensor::{Bool, Tensor};

use super::cpu;
pub use super::cpu::adam::{Adam, Norm};
use super::flex::{Values, give_back, in_place};
use super::host::read;

/// A parameter's first and second moment (Adamax: the largest gradient), flat.
#[derive(Debug, Clone)]
pub enum Moments {
    /// Where the CPU kernel runs. Not tensors: one of burn's takes 640 bytes besides its values.
    Host([Vec<f32>; 2]),
    /// On any device.
    Device(Box<[Tensor<1>; 2]>),
}

impl Moments {
    /// Zeros for a parameter of these values.
    pub fn zeros(values: &Tensor<1>) -> Self {
        match Values::of(values) {
            Some(values) => Self::Host([vec![0.0; values.len()], vec![0.0; values.len()]]),
            None => Self::Device(Box::new([values.zeros_like(), values.zeros_like()])),
        }
    }

    /// Of a parameter of these values, from stored ones.
    pub fn from_host(moments: [Vec<f32>; 2], values: &Tensor<1>) -> Self {
        match Values::of(values) {
            Some(_) => Self::Host(moments),
            None => Self::Device(Box::new(moments.map(|moment| Tensor::from_floats(&*moment, &values.device())))),
        }
    }

    /// To be stored.
    pub fn to_host(&self) -> [Vec<f32>; 2] {
        match self {
            Self::Host(moments) => moments.clone(),
            Self::Device(moments) => (**moments).clone().map(read),
        }
    }
}

/// How much of the gradient is taken.
#[derive(Debug, Clone)]
pub enum Clip {
    /// Known on the host.
    Host(f32),
    /// Known on the device alone. Where `sound` is false nothing is changed.
    Device {
        /// Shape `[1]`.
        scale: Tensor<1>,
        /// Whether loss and gradients have been finite so far. Shape `[1]`.
        sound: Tensor<1, Bool>,
    },
}

/// The stepped values and moments. `gradient` is flat.
pub fn step<const D: usize>(
    adam: &Adam,
    values: Tensor<D>,
    gradient: Tensor<1>,
    clip: &Clip,
    moments: Moments,
) -> (Tensor<D>, Moments) {
    match (moments, clip) {
        (Moments::Host([mut first, mut second]), Clip::Host(scale)) => {
            let slice = Values::of(&gradient).expect("as when the moments were made");
            let stepped = in_place(values, |values| {
                cpu::adam::step(adam, values, &slice, *scale, &mut first, &mut second);
            });
            drop(slice);
            give_back(gradient);
            (stepped, Moments::Host([first, second]))
        }
        (Moments::Device(moments), Clip::Host(scale)) => {
            let (values, moments) = composed(adam, values, gradient.mul_scalar(*scale), *moments);
            (values, Moments::Device(Box::new(moments)))
        }
        (Moments::Device(moments), Clip::Device { scale, sound }) => {
            let [old_first, old_second] = *moments.clone();
            let (stepped, [first, second]) = composed(adam, values.clone(), gradient * scale.clone(), *moments);
            let moments = [choose(sound, first, old_first), choose(sound, second, old_second)];
            (choose(sound, stepped, values), Moments::Device(Box::new(moments)))
        }
        (Moments::Host(_), Clip::Device { .. }) => unreachable!("what is on the host is known there"),
    }
}

fn composed<const D: usize>(
    adam: &Adam,
    values: Tensor<D>,
    gradient: Tensor<1>,
    [first, second]: [Tensor<1>; 2],
) -> (Tensor<D>, [Tensor<1>; 2]) {
    let t = adam.step as f64;
    let first = first.mul_scalar(adam.beta1) + gradient.clone().mul_scalar(1.0 - adam.beta1);
    let mean = first.clone().mul_scalar(adam.learning_rate / (1.0 - adam.beta1.powf(t)));
    let (second, size) = match adam.norm {
        Norm::Square => {
            let second = second.mul_scalar(adam.beta2) + gradient.square().mul_scalar(1.0 - adam.beta2);
            let root = second.clone().div_scalar(1.0 - adam.beta2.powf(t)).sqrt().add_scalar(adam.epsilon);
            (second, root)
        }
        Norm::Infinity => {
            let largest = second.mul_scalar(adam.beta2).max_pair(gradient.abs().add_scalar(adam.epsilon));
            (largest.clone(), largest)
        }
    };
    let update = (mean / size).reshape(values.dims());
    let kept = values.mul_scalar(1.0 - adam.learning_rate * adam.weight_decay);
    (kept - update, [first, second])
}

/// `new` where `sound`, else `old`, whatever `new` is.
fn choose<const D: usize>(sound: &Tensor<1, Bool>, new: Tensor<D>, old: Tensor<D>) -> Tensor<D> {
    let sound = sound.clone().reshape([1; D]).expand(new.dims());
    old.mask_where(sound, new)
}
