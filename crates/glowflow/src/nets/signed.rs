//! The net of RealNVP's couplings: the kept part, normalised, goes into a residual net with both signs.
//!
//! Dinh, Sohl-Dickstein & Bengio 2017, section 4.1; the details are those of its code.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::batch_norm::BatchNorm;
use super::folded::FoldedNorm;
use super::residual::{FoldedResidualNet, PreparedResidualNet, ResidualNet, ResidualNetConfig, SavedResidualNet};
use crate::flow::{Gradients, Seen};

/// A checkerboard's normalised input is doubled: half of it is zeros.
const MASKED_FACTOR: f64 = 2.0;

/// `net(relu([r, -r]))` of `r = norm(x)`; with a mask `net(relu([r, -r, mask]))` of `r = 2 norm(x)`.
#[derive(Module, Debug)]
pub struct SignedNet {
    /// Of the kept part.
    pub norm: BatchNorm,
    /// Gives shift and raw log-scale.
    pub residual: ResidualNet,
}

/// Sizes of a [`SignedNet`].
#[derive(Debug, Clone, Copy)]
pub struct SignedNetConfig {
    /// Channels of its input.
    pub inputs: usize,
    /// Whether it sees a mask.
    pub masked: bool,
    /// Channels inside.
    pub hidden: usize,
    /// Residual blocks.
    pub blocks: usize,
}

impl SignedNetConfig {
    /// Random weights, keyed by `seed` and `layer`. There are as many shifts as inputs.
    pub fn init(self, seed: u64, layer: u64, device: &Device) -> SignedNet {
        let Self { inputs, masked, hidden, blocks } = self;
        let net = ResidualNetConfig { inputs: 2 * inputs + usize::from(masked), hidden, blocks, outputs: 2 * inputs };
        SignedNet { norm: BatchNorm::new(inputs, true, device), residual: net.init(seed, layer, device) }
    }
}

impl SignedNet {
    /// For a kept part with this mask, `[1, height, width, 1]`, or without one.
    pub fn prepare(&self, mask: Option<Tensor<4>>) -> PreparedSignedNet {
        PreparedSignedNet { norm: self.norm.clone(), net: self.residual.prepare(), mask }
    }
}

/// A [`SignedNet`] ready to run.
#[derive(Debug, Clone)]
pub struct PreparedSignedNet {
    norm: BatchNorm,
    net: PreparedResidualNet,
    mask: Option<Tensor<4>>,
}

/// What the backward pass would otherwise compute again.
#[derive(Debug, Clone)]
pub struct SavedSignedNet {
    net: SavedResidualNet,
}

/// A [`SignedNet`] by running averages: `net(relu([r, -r]))` of `r = norm(x)`.
#[derive(Debug, Clone)]
pub struct FoldedSignedNet {
    /// Factor included.
    pub norm: FoldedNorm,
    /// Its first convolution has twice as many inputs as this net.
    pub net: FoldedResidualNet,
    /// What it makes of a mask.
    pub mask: Option<FoldedMask>,
}

/// What a net's first convolution makes of a mask, whatever the image.
#[derive(Debug, Clone)]
pub struct FoldedMask {
    /// Shape `[1, 1, height, width]`.
    pub mask: Tensor<4>,
    /// Shape `[hidden, 1, 3, 3]`.
    pub weight: Tensor<4>,
}

impl PreparedSignedNet {
    /// As plain convolutions.
    pub fn folded(&self) -> FoldedSignedNet {
        let mut net = self.net.folded();
        let mask = self.mask.clone().map(|mask| {
            let weight = net.first.weight.clone();
            let inputs = weight.dims()[1] - 1;
            net.first.weight = weight.clone().narrow(1, 0, inputs);
            FoldedMask { mask: mask.permute([0, 3, 1, 2]), weight: weight.narrow(1, inputs, 1) }
        });
        FoldedSignedNet { norm: self.norm.folded().times(self.factor()), net, mask }
    }

    fn factor(&self) -> f64 {
        if self.mask.is_some() { MASKED_FACTOR } else { 1.0 }
    }

    /// What the residual net reads.
    fn signed(&self, x: &Tensor<4>, seen: &mut Seen) -> Tensor<4> {
        let [batch, height, width, _] = x.dims();
        let normal = self.norm.moments(x, seen).normalise(x);
        let r = self.norm.shift(normal).mul_scalar(self.factor());
        let mut parts = vec![r.clone().clamp_min(0.0), r.neg().clamp_min(0.0)];
        parts.extend(self.mask.clone().map(|mask| mask.expand([batch, height, width, 1])));
        Tensor::cat(parts, 3)
    }

    /// `[batch, height, width, inputs]` to `[.., 2 * inputs]`: shift, then raw log-scale.
    pub fn forward(&self, x: &Tensor<4>, seen: &mut Seen) -> Tensor<4> {
        self.net.forward(&self.signed(x, seen), seen)
    }

    /// [`PreparedSignedNet::forward`] that keeps its activations.
    pub fn forward_saving(&self, x: &Tensor<4>, seen: &mut Seen) -> (Tensor<4>, SavedSignedNet) {
        let (h, net) = self.net.forward_saving(&self.signed(x, seen), seen);
        (h, SavedSignedNet { net })
    }

    /// Pulls `dy` back to the input and adds the parameters' gradients.
    pub fn backward(
        &self,
        x: &Tensor<4>,
        saved: SavedSignedNet,
        dy: &Tensor<4>,
        seen: &mut Seen,
        gradients: &mut Gradients,
    ) -> Tensor<4> {
        let [.., inputs] = x.dims();
        let signed = self.signed(x, seen);
        let g = self.net.backward(&signed, saved.net, dy, seen, gradients);
        let g = g.mask_fill(signed.lower_equal_elem(0.0), 0.0);
        let dr = g.clone().narrow(3, 0, inputs) - g.narrow(3, inputs, inputs);
        self.norm.backward(x, &dr.mul_scalar(self.factor()), seen, gradients)
    }
}
