//! A coupling of halves of the channels, either of which changes.
//!
//! Dinh, Sohl-Dickstein & Bengio 2017, sections 3.4 and 3.7.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

use super::partition::Partition;
use super::rescaled::PreparedRescaled;
use crate::error::Result;
use crate::flow::{Layer, Pass};
use crate::nets::{BatchNorm, SignedNet, SignedNetConfig};

/// The parameters of a channel coupling.
#[derive(Module, Debug)]
pub struct ChannelCoupling {
    /// Gives shift and raw log-scale.
    pub net: SignedNet,
    /// Of the bounded log-scale. Shape `[1]`.
    pub scale: Param<Tensor<1>>,
    /// Of what has changed.
    pub norm: BatchNorm,
    #[module(skip)]
    keeps_first: bool,
}

/// Sizes of a [`ChannelCoupling`].
#[derive(Debug, Clone, Copy)]
pub struct ChannelCouplingConfig {
    /// Channels of the layer.
    pub channels: usize,
    /// Whether the first half is kept; else the second.
    pub keeps_first: bool,
    /// Channels inside the net.
    pub hidden: usize,
    /// Residual blocks of the net.
    pub blocks: usize,
}

impl ChannelCouplingConfig {
    /// Random from the start: neither log-scales nor shifts are 0.
    pub fn init(self, seed: u64, layer: u64, device: &Device) -> ChannelCoupling {
        let Self { channels, keeps_first, hidden, blocks } = self;
        let net = SignedNetConfig { inputs: channels / 2, masked: false, hidden, blocks };
        ChannelCoupling {
            net: net.init(seed, layer, device),
            scale: Param::from_tensor(Tensor::ones([1], device)),
            norm: BatchNorm::new(channels / 2, false, device),
            keeps_first,
        }
    }
}

impl Layer for ChannelCoupling {
    type Prepared = PreparedRescaled;

    fn prepare(&self, _path: &str, pass: Pass) -> Result<PreparedRescaled> {
        let partition = Partition::Channels { keeps_first: self.keeps_first };
        let net = self.net.prepare(None);
        Ok(PreparedRescaled { partition, net, scale: self.scale.clone(), norm: self.norm.clone(), mode: pass.mode })
    }
}
