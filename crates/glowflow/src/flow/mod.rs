//! The algebra of flows: what a layer is, and how layers compose.
//!
//! A layer is two things. Its *parameters* are a burn module ([`Layer`]): what is trained and stored. What *runs* is the
//! [`Invertible`] that [`Layer::prepare`] makes of them once for each state of the weights: everything that depends on
//! weights alone (folded scales, matrices, their inverses) is computed there, and found singular there.

mod fixed;
mod gradients;
mod link;
mod path;
mod penalty;
mod per_example;
mod statistics;

pub use fixed::Fixed;
pub use gradients::{Gradients, NamedParameter, named_parameters};
pub use link::{Link, Saved};
pub use path::ModulePath;
pub use penalty::{Penalised, add_penalties};
pub use per_example::{accumulator, sum_per_example, zeros_per_example};
pub use statistics::{Mode, RunningAverage, Seen, Statistics, move_running_averages};

use burn::module::Module;
use burn::tensor::Tensor;

use crate::error::Result;
use crate::kernels::Precision;

/// How a pass through a flow computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pass {
    /// What batch normalisations divide by.
    pub mode: Mode,
    /// Of the coupling nets' products.
    pub precision: Precision,
}

/// In f32.
impl From<Mode> for Pass {
    fn from(mode: Mode) -> Self {
        Self { mode, precision: Precision::F32 }
    }
}

/// What a layer makes of a batch, image to latent.
#[derive(Debug, Clone)]
pub struct Forward {
    /// Shape `[batch, height, width, channels]`.
    pub z: Tensor<4>,
    /// `ln |det dz/dx|` of each example, nats, in the device's [`accumulator`] type. Shape `[batch]`.
    pub log_det: Tensor<1>,
    /// What batch normalisations saw, in training.
    pub statistics: Statistics,
}

impl Forward {
    /// Of a layer without batch normalisation.
    pub fn new(z: Tensor<4>, log_det: Tensor<1>) -> Self {
        Self { z, log_det, statistics: Statistics::default() }
    }
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

/// What a backward pass starts from.
#[derive(Debug, Clone)]
pub struct Output {
    /// Shape `[batch, height, width, channels]`.
    pub z: Tensor<4>,
    /// Of the forward pass that gave `z`: what cannot be rebuilt.
    pub statistics: Statistics,
}

impl Output {
    /// Of a layer without batch normalisation.
    pub fn new(z: Tensor<4>) -> Self {
        Self { z, statistics: Statistics::default() }
    }
}

/// A layer ready to run: one state of its weights.
pub trait Invertible: Send + Sync + 'static {
    /// What [`Invertible::backward`] would otherwise compute again: the input and the activations inside.
    type Saved: Clone + Send + 'static;

    /// Image to latent.
    fn forward(&self, x: Tensor<4>) -> Forward;

    /// [`Invertible::forward`] that keeps its activations.
    fn forward_saving(&self, x: Tensor<4>) -> (Forward, Self::Saved);

    /// Latent to image: undoes [`Invertible::forward`] in [`Mode::Evaluation`].
    fn inverse(&self, z: Tensor<4>) -> Result<Tensor<4>>;

    /// Pulls the gradient back through the layer and adds its parameters' gradients to `gradients`.
    ///
    /// `out` is what the forward pass gave, its log-det aside. Without `saved` the input is rebuilt from it.
    fn backward(
        &self,
        out: Output,
        saved: Option<Self::Saved>,
        cotangent: Cotangent,
        gradients: &mut Gradients,
    ) -> Result<Pullback>;

    /// Largest condition number of the layer's matrices; 1 without any.
    fn condition_number(&self) -> f64 {
        1.0
    }
}

/// A layer's parameters.
pub trait Layer: Module {
    /// What runs.
    type Prepared: Invertible;

    /// Everything that depends on the weights alone. `path` names the layer in errors.
    fn prepare(&self, path: &str, pass: Pass) -> Result<Self::Prepared>;
}
