//! A coupling of the squares of a checkerboard: those of one colour change by an amount that the others decide.
//!
//! Dinh, Sohl-Dickstein & Bengio 2017, sections 3.4 and 3.7.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::partition::Partition;
use super::rescaled::PreparedRescaled;
use crate::error::Result;
use crate::flow::{Layer, Pass, Penalised};
use crate::nets::{BatchNorm, SignedNet, SignedNetConfig};

/// The parameters of a masked coupling.
#[derive(Module, Debug)]
pub struct MaskedCoupling {
    /// Gives shift and raw log-scale.
    pub net: SignedNet,
    /// Of the bounded log-scale. Shape `[1]`.
    pub rescale: Penalised,
    /// Of what has changed.
    pub norm: BatchNorm,
    #[module(skip)]
    size: [usize; 2],
    #[module(skip)]
    parity: usize,
}

/// Sizes of a [`MaskedCoupling`].
#[derive(Debug, Clone, Copy)]
pub struct MaskedCouplingConfig {
    /// Channels of the layer.
    pub channels: usize,
    /// Height and width of its activations.
    pub size: [usize; 2],
    /// Kept are the pixels whose row, column and parity have an odd sum.
    pub parity: usize,
    /// Channels inside the net.
    pub hidden: usize,
    /// Residual blocks of the net.
    pub blocks: usize,
}

impl MaskedCouplingConfig {
    /// Log-scales are 0 at the start; shifts are not.
    pub fn init(self, seed: u64, layer: u64, device: &Device) -> MaskedCoupling {
        let Self { channels, size, parity, hidden, blocks } = self;
        let net = SignedNetConfig { inputs: channels, masked: true, hidden, blocks };
        MaskedCoupling {
            net: net.init(seed, layer, device),
            rescale: Penalised::new(Tensor::zeros([1], device)),
            norm: BatchNorm::new(channels, false, device),
            size,
            parity,
        }
    }
}

impl Layer for MaskedCoupling {
    type Prepared = PreparedRescaled;

    fn prepare(&self, _path: &str, pass: Pass) -> Result<PreparedRescaled> {
        let scale = self.rescale.value.clone();
        let partition = Partition::checkerboard(self.size, self.parity, &scale.val());
        let net = self.net.prepare(partition.mask());
        Ok(PreparedRescaled { partition, net, scale, norm: self.norm.clone(), mode: pass.mode })
    }
}
