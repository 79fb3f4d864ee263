//! Half of the channels leave the flow; what remains predicts them.
//!
//! Dinh, Sohl-Dickstein & Bengio 2017, section 3.6; the learned prior is that of Glow's code.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::Labels;
use crate::flow::Gradients;
use crate::kernels::normal::{self, Layout};
use crate::nets::{PreparedZeroConv, ZeroConv};

/// `p(gone | kept)`, a diagonal normal.
#[derive(Module, Debug)]
pub struct Split {
    /// From the kept channels to mean and log-deviation of the gone ones, interleaved. `None`: a standard normal.
    pub prior: Option<ZeroConv>,
}

impl Split {
    /// Learned; a standard normal at first. `channels` before the split.
    pub fn learned(channels: usize, edge_bias: bool, device: &Device) -> Self {
        Self { prior: Some(ZeroConv::new(channels / 2, channels, edge_bias, device)) }
    }

    /// For activations of this height and width.
    pub fn prepare(&self, size: [usize; 2]) -> PreparedSplit {
        PreparedSplit { prior: self.prior.as_ref().map(|prior| prior.prepare(size)) }
    }
}

/// A [`Split`] ready to run.
#[derive(Debug, Clone)]
pub struct PreparedSplit {
    prior: Option<PreparedZeroConv>,
}

impl PreparedSplit {
    /// Mean and log-deviation, interleaved. Shape `[batch or 1, height, width, 2 * channels]`.
    fn parameters(&self, kept: &Tensor<4>) -> Tensor<4> {
        let [_, height, width, channels] = kept.dims();
        match &self.prior {
            Some(prior) => prior.forward(kept),
            None => Tensor::zeros([1, height, width, 2 * channels], (&kept.device(), kept.dtype())),
        }
    }

    /// `ln p(gone | kept)` of each example, nats.
    pub fn log_prob(&self, kept: &Tensor<4>, gone: &Tensor<4>, _labels: Option<&Labels>) -> Tensor<1> {
        normal::log_prob(Layout::Interleaved, gone, &self.parameters(kept))
    }

    /// [`PreparedSplit::log_prob`], and the gone channels as noise: standard normal under the model.
    pub fn encode(&self, kept: &Tensor<4>, gone: &Tensor<4>, _labels: Option<&Labels>) -> (Tensor<1>, Tensor<4>) {
        let parameters = self.parameters(kept);
        let log_prob = normal::log_prob(Layout::Interleaved, gone, &parameters);
        (log_prob, normal::to_noise(Layout::Interleaved, gone, &parameters))
    }

    /// The gone channels from their noise.
    pub fn from_noise(&self, kept: &Tensor<4>, noise: &Tensor<4>, _labels: Option<&Labels>) -> Tensor<4> {
        normal::from_noise(Layout::Interleaved, noise, &self.parameters(kept))
    }

    /// Gradients of kept and gone channels from the cotangent of the log-probability, `[batch]`.
    pub fn backward(
        &self,
        kept: &Tensor<4>,
        gone: &Tensor<4>,
        _labels: Option<&Labels>,
        cotangent: &Tensor<1>,
        gradients: &mut Gradients,
    ) -> (Tensor<4>, Tensor<4>) {
        let g = normal::backward(Layout::Interleaved, gone, &self.parameters(kept), cotangent);
        let dkept = match &self.prior {
            Some(prior) => prior.backward(kept, &g.h, gradients),
            None => kept.zeros_like(),
        };
        (dkept, g.x)
    }
}
