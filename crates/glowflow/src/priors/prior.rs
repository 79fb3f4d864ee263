//! The priors that a chain of stages can end in.

use burn::tensor::Tensor;

use super::top::PreparedTop;
use super::{Labels, logistic};
use crate::flow::Gradients;

/// A prior of the coarsest latents, ready to run.
#[derive(Debug, Clone)]
pub enum Prior {
    /// Standard or learned.
    Normal(PreparedTop),
    /// Factorial; the latents are their own noise.
    Logistic,
}

impl From<PreparedTop> for Prior {
    fn from(top: PreparedTop) -> Self {
        Self::Normal(top)
    }
}

impl Prior {
    /// `ln p(z)` of each example, nats. Shape `[batch]`.
    pub fn log_prob(&self, z: &Tensor<4>, labels: Option<&Labels>) -> Tensor<1> {
        match self {
            Self::Normal(top) => top.log_prob(z, labels),
            Self::Logistic => logistic::log_prob(z),
        }
    }

    /// The latents as noise: standard normal under the model, or standard logistic.
    pub fn to_noise(&self, z: &Tensor<4>, labels: Option<&Labels>) -> Tensor<4> {
        match self {
            Self::Normal(top) => top.to_noise(z, labels),
            Self::Logistic => z.clone(),
        }
    }

    /// Undoes [`Prior::to_noise`].
    pub fn from_noise(&self, noise: &Tensor<4>, labels: Option<&Labels>) -> Tensor<4> {
        match self {
            Self::Normal(top) => top.from_noise(noise, labels),
            Self::Logistic => noise.clone(),
        }
    }

    /// Gradient of the latents from the cotangent of the log-probability, `[batch]`.
    pub fn backward(
        &self,
        z: &Tensor<4>,
        labels: Option<&Labels>,
        cotangent: &Tensor<1>,
        gradients: &mut Gradients,
    ) -> Tensor<4> {
        match self {
            Self::Normal(top) => top.backward(z, labels, cotangent, gradients),
            Self::Logistic => logistic::backward(z, cotangent),
        }
    }
}
