//! Half of the channels leave the flow; what remains predicts them.
//!
//! Dinh, Sohl-Dickstein & Bengio 2017, section 3.6; the learned prior is that of Glow's code.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use crate::flow::Gradients;
use crate::kernels::normal::{self, Layout};
use crate::nets::{PreparedZeroConv, ZeroConv};

/// `p(gone | kept)`, a diagonal normal.
#[derive(Module, Debug)]
pub struct Split {
    /// From the kept channels to mean and log-deviation of the gone ones, interleaved.
    pub prior: ZeroConv,
}

impl Split {
    /// A standard normal at first. `channels` before the split.
    pub fn new(channels: usize, edge_bias: bool, device: &Device) -> Self {
        Self { prior: ZeroConv::new(channels / 2, channels, edge_bias, device) }
    }

    /// For activations of this height and width.
    pub fn prepare(&self, size: [usize; 2]) -> PreparedSplit {
        PreparedSplit { prior: self.prior.prepare(size) }
    }
}

/// A [`Split`] ready to run.
#[derive(Debug, Clone)]
pub struct PreparedSplit {
    prior: PreparedZeroConv,
}

impl PreparedSplit {
    /// From the kept channels to mean and log-deviation of the gone ones, interleaved.
    pub fn prior(&self) -> &PreparedZeroConv {
        &self.prior
    }

    /// `ln p(gone | kept)` of each example, nats.
    pub fn log_prob(&self, kept: &Tensor<4>, gone: &Tensor<4>) -> Tensor<1> {
        normal::log_prob(Layout::Interleaved, gone, &self.prior.forward(kept))
    }

    /// [`PreparedSplit::log_prob`], and the gone channels as noise: standard normal under the model.
    pub fn encode(&self, kept: &Tensor<4>, gone: &Tensor<4>) -> (Tensor<1>, Tensor<4>) {
        let parameters = self.prior.forward(kept);
        let log_prob = normal::log_prob(Layout::Interleaved, gone, &parameters);
        (log_prob, normal::to_noise(Layout::Interleaved, gone, &parameters))
    }

    /// The gone channels from their noise.
    pub fn from_noise(&self, kept: &Tensor<4>, noise: &Tensor<4>) -> Tensor<4> {
        normal::from_noise(Layout::Interleaved, noise, &self.prior.forward(kept))
    }

    /// Gradients of kept and gone channels from the cotangent of the log-probability, `[batch]`.
    pub fn backward(
        &self,
        kept: &Tensor<4>,
        gone: &Tensor<4>,
        cotangent: &Tensor<1>,
        gradients: &mut Gradients,
    ) -> (Tensor<4>, Tensor<4>) {
        let g = normal::backward(Layout::Interleaved, gone, &self.prior.forward(kept), cotangent);
        (self.prior.backward(kept, &g.h, gradients), g.x)
    }
}
