//! A moving average of a parameter.

use burn::tensor::Tensor;

use super::cpu;
use super::flex::{Values, in_place};

/// The average moved by `rate` of its way to the values.
pub fn step<const D: usize>(average: Tensor<D>, values: &Tensor<1>, rate: f64) -> Tensor<D> {
    match Values::of(values) {
        Some(values) => in_place(average, |average| cpu::average::step(average, &values, rate as f32)),
        None => {
            let values = values.clone().reshape(average.dims());
            average.clone() + (values - average).mul_scalar(rate)
        }
    }
}
