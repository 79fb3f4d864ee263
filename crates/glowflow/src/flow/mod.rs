//! The algebra of flows: what a layer is, and how layers compose.
//!
//! A layer is two things. Its *parameters* are a burn module ([`Layer`]): what is trained and stored. What *runs* is the
//! [`Invertible`] that [`Layer::prepare`] makes of them once for each state of the weights: everything that depends on
//! weights alone (folded scales, matrices, their inverses) is computed there, and found singular there.

mod gradients;
mod per_example;

pub use gradients::{Gradients, NamedParameter, named_parameters};
pub use per_example::{accumulator, sum_per_example};

use burn::module::Module;
use burn::tensor::Tensor;

use crate::error::Result;

/// What a layer makes of a batch, image to latent.
#[derive(Debug, Clone)]
pub struct Forward {
    /// Shape `[batch, height, width, channels]`.
    pub z: Tensor<4>,
    /// `ln |det dz/dx|` of each example, nats, in the device's [`accumulator`] type. Shape `[batch]`.
    pub log_det: Tensor<1>,
}

/// Gradient of the loss with respect to a [`Forward`].
#[derive(Debug, Clone)]
pub struct Cotangent {
    /// Shape `[batch, height, width, channels]`.
    pub z: Tensor<4>,
    /// Shape `[batch]`, of the flow's own type.
    pub log_det: Tensor<1>,
}

/// A layer's input, rebuilt from its output, and the gradient of the loss with respect to it.
#[derive(Debug, Clone)]
pub struct Pullback {
    /// Shape `[batch, height, width, channels]`.
    pub x: Tensor<4>,
    /// Shape `[batch, height, width, channels]`.
    pub dx: Tensor<4>,
}

/// A layer ready to run: one state of its weights.
pub trait Invertible {
    /// What [`Invertible::backward`] would otherwise compute again: the input and the activations inside.
    type Saved: Clone;

    /// Image to latent.
    fn forward(&self, x: Tensor<4>) -> Forward;

    /// [`Invertible::forward`] that keeps its activations.
    fn forward_saving(&self, x: Tensor<4>) -> (Forward, Self::Saved);

    /// Latent to image: undoes [`Invertible::forward`].
    fn inverse(&self, z: Tensor<4>) -> Result<Tensor<4>>;

    /// Pulls the gradient back through the layer and adds its parameters' gradients to `gradients`.
    ///
    /// Without `saved` the input is rebuilt from the output `z`.
    fn backward(
        &self,
        z: Tensor<4>,
        saved: Option<Self::Saved>,
        cotangent: Cotangent,
        gradients: &mut Gradients,
    ) -> Result<Pullback>;
}

/// A layer's parameters.
pub trait Layer: Module {
    /// What runs.
    type Prepared: Invertible;

    /// Everything that depends on the weights alone. `path` names the layer in errors.
    fn prepare(&self, path: &str) -> Result<Self::Prepared>;
}
