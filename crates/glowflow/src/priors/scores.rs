//! What a classifier says.

use burn::tensor::Tensor;
use burn::tensor::activation::log_softmax;

use super::Labels;
use crate::flow::accumulator;

/// The logits of each class. Shape `[batch, classes]`.
#[derive(Debug, Clone)]
pub struct ClassScores {
    /// Log-probabilities, each row up to a constant.
    pub logits: Tensor<2>,
}

impl ClassScores {
    /// The log-probability of each example's label, nats, in the device's [`accumulator`] type. Shape `[batch]`.
    pub fn log_prob(&self, labels: &Labels) -> Tensor<1> {
        let [batch, _] = self.logits.dims();
        let of_label = log_softmax(self.logits.clone(), 1) * labels.one_hot.clone().cast(self.logits.dtype());
        of_label.sum_dim(1).reshape([batch]).cast(accumulator(&self.logits.device()))
    }

    /// Gradient of the logits from the cotangent of [`ClassScores::log_prob`], `[batch]`.
    pub fn backward(&self, labels: &Labels, cotangent: &Tensor<1>) -> Tensor<2> {
        let [batch, _] = self.logits.dims();
        let missing = labels.one_hot.clone() - log_softmax(self.logits.clone(), 1).exp();
        missing * cotangent.clone().reshape([batch, 1])
    }
}
