//! The priors that a chain of stages can end in.

use burn::tensor::Tensor;

use super::top::PreparedTop;
use super::{ClassScores, Labels, logistic};
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

    /// Whether the prior differs from class to class.
    pub fn sees_class(&self) -> bool {
        match self {
            Self::Normal(top) => top.sees_class(),
            Self::Logistic => false,
        }
    }

    /// What a classifier says of the latents, where there is one.
    pub fn class_scores(&self, z: &Tensor<4>) -> Option<ClassScores> {
        match self {
            Self::Normal(top) => top.class_scores(z),
            Self::Logistic => None,
        }
    }

    /// What training adds to the log-probability of each example for its class, where there is a classifier; nats.
    pub fn class_term(&self, z: &Tensor<4>, labels: Option<&Labels>) -> Option<Tensor<1>> {
        match self {
            Self::Normal(top) => top.class_term(z, labels),
            Self::Logistic => None,
        }
    }

    /// Gradient of the latents from the cotangent, `[batch]`, of [`Prior::log_prob`] plus [`Prior::class_term`].
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
