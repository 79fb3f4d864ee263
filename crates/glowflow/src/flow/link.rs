//! Layers of any type behind one: what chains are made of.

use std::any::Any;

use burn::tensor::Tensor;

use super::{Cotangent, Forward, Gradients, Invertible, Output, Pullback};
use crate::error::{Error, Result};

/// An [`Invertible::Saved`] whose type is known to its layer alone.
pub type Saved = Box<dyn Any + Send>;

/// An [`Invertible`] whose saved activations have no type of their own.
pub trait Link: Send + Sync {
    /// As [`Invertible::forward`].
    fn forward(&self, x: Tensor<4>) -> Forward;
    /// As [`Invertible::forward_saving`].
    fn forward_saving(&self, x: Tensor<4>) -> (Forward, Saved);
    /// As [`Invertible::inverse`].
    fn inverse(&self, z: Tensor<4>) -> Result<Tensor<4>>;
    /// As [`Invertible::backward`].
    fn backward(
        &self,
        out: Output,
        saved: Option<Saved>,
        cotangent: Cotangent,
        gradients: &mut Gradients,
    ) -> Result<Pullback>;
    /// As [`Invertible::condition_number`].
    fn condition_number(&self) -> f64;
}

impl<I: Invertible> Link for I {
    fn forward(&self, x: Tensor<4>) -> Forward {
        Invertible::forward(self, x)
    }

    fn forward_saving(&self, x: Tensor<4>) -> (Forward, Saved) {
        let (out, saved) = Invertible::forward_saving(self, x);
        (out, Box::new(saved))
    }

    fn inverse(&self, z: Tensor<4>) -> Result<Tensor<4>> {
        Invertible::inverse(self, z)
    }

    fn backward(
        &self,
        out: Output,
        saved: Option<Saved>,
        cotangent: Cotangent,
        gradients: &mut Gradients,
    ) -> Result<Pullback> {
        let saved = saved.map(|saved| saved.downcast::<I::Saved>().map(|saved| *saved)).transpose();
        let saved = saved.map_err(|_| Error::Internal { message: "activations of another layer".into() })?;
        Invertible::backward(self, out, saved, cotangent, gradients)
    }

    fn condition_number(&self) -> f64 {
        Invertible::condition_number(self)
    }
}
