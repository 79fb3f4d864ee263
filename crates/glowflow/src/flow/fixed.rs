//! Numbers that are set from data and then stay as they are.

use burn::module::{Module, Param};
use burn::tensor::Tensor;

/// A tensor of the model's file that no gradient steps.
#[derive(Module, Debug)]
pub struct Fixed<const D: usize> {
    /// The numbers.
    pub value: Param<Tensor<D>>,
}

impl<const D: usize> Fixed<D> {
    /// These numbers.
    pub fn new(values: Tensor<D>) -> Self {
        Self { value: Param::from_tensor(values) }
    }
}
