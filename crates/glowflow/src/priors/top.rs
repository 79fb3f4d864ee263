//! The prior of the coarsest latents.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use crate::flow::Gradients;
use crate::kernels::normal::{self, Layout};
use crate::nets::{PreparedZeroConv, ZeroConv};

/// A standard normal, or a learned one: a convolution of zeros, so that only its bias and edge weights act.
#[derive(Module, Debug)]
pub struct TopPrior {
    /// Mean in the first half of its outputs, log-deviation in the second.
    pub learned: Option<ZeroConv>,
}

impl TopPrior {
    /// A standard normal at first. `channels` of the coarsest latents.
    pub fn new(channels: usize, learned: bool, edge_bias: bool, device: &Device) -> Self {
        Self { learned: learned.then(|| ZeroConv::new(2 * channels, 2 * channels, edge_bias, device)) }
    }

    /// For latents of this shape, height, width and channels, and the type of `like`.
    pub fn prepare(&self, [height, width, channels]: [usize; 3], like: &Tensor<1>) -> PreparedTop {
        let zeros = Tensor::zeros([1, height, width, 2 * channels], (&like.device(), like.dtype()));
        let learned = self.learned.as_ref().map(|conv| conv.prepare([height, width]));
        let parameters = learned.as_ref().map_or_else(|| zeros.clone(), |conv| conv.forward(&zeros));
        PreparedTop { zeros, learned, parameters }
    }
}

/// A [`TopPrior`] ready to run.
#[derive(Debug, Clone)]
pub struct PreparedTop {
    zeros: Tensor<4>,
    learned: Option<PreparedZeroConv>,
    /// Shared by the batch. Shape `[1, height, width, 2 * channels]`.
    parameters: Tensor<4>,
}

impl PreparedTop {
    /// Means, then log-deviations, if they are learned. Shape `[1, height, width, 2 * channels]`.
    pub fn learned(&self) -> Option<&Tensor<4>> {
        self.learned.as_ref().map(|_| &self.parameters)
    }

    /// `ln p(z)` of each example, nats.
    pub fn log_prob(&self, z: &Tensor<4>) -> Tensor<1> {
        normal::log_prob(Layout::Halves, z, &self.parameters)
    }

    /// The latents as noise: standard normal under the model.
    pub fn to_noise(&self, z: &Tensor<4>) -> Tensor<4> {
        normal::to_noise(Layout::Halves, z, &self.parameters)
    }

    /// Undoes [`PreparedTop::to_noise`].
    pub fn from_noise(&self, noise: &Tensor<4>) -> Tensor<4> {
        normal::from_noise(Layout::Halves, noise, &self.parameters)
    }

    /// Gradient of the latents from the cotangent of the log-probability, `[batch]`.
    pub fn backward(&self, z: &Tensor<4>, cotangent: &Tensor<1>, gradients: &mut Gradients) -> Tensor<4> {
        let g = normal::backward(Layout::Halves, z, &self.parameters, cotangent);
        if let Some(conv) = &self.learned {
            conv.backward(&self.zeros, &g.h, gradients);
        }
        g.x
    }
}
