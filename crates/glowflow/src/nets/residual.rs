//! RealNVP's residual net: every block's output goes to the last convolution, too.
//!
//! Dinh, Sohl-Dickstein & Bengio 2017, section 3.2 and appendix A; sizes and parts are those of its code.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::batch_norm::BatchNorm;
use super::folded::{FoldedConv, FoldedNorm};
use super::weight_norm::{PreparedWeightNormConv, WeightNormConv, WeightNormConvConfig};
use crate::flow::{Gradients, Seen};
use crate::random::{Key, Purpose};

/// `x + conv(relu(norm(conv(relu(norm(x))))))`, and what of it goes to the last convolution.
#[derive(Module, Debug)]
pub struct ResidualBlock {
    /// Of the input.
    pub first_norm: BatchNorm,
    /// 3x3, neither bias nor magnitude.
    pub first: WeightNormConv,
    /// Between both.
    pub second_norm: BatchNorm,
    /// 3x3.
    pub second: WeightNormConv,
    /// 1x1, added up over the blocks.
    pub skip: WeightNormConv,
}

/// The parameters of a residual net.
#[derive(Module, Debug)]
pub struct ResidualNet {
    /// 3x3, no magnitude.
    pub first: WeightNormConv,
    /// 1x1, of the first convolution's output.
    pub skip: WeightNormConv,
    /// One after the other.
    pub blocks: Vec<ResidualBlock>,
    /// Of the sum of all skips.
    pub last_norm: BatchNorm,
    /// 1x1.
    pub last: WeightNormConv,
}

/// Sizes of a [`ResidualNet`].
#[derive(Debug, Clone, Copy)]
pub struct ResidualNetConfig {
    /// Channels of its input.
    pub inputs: usize,
    /// Channels inside.
    pub hidden: usize,
    /// Residual blocks.
    pub blocks: usize,
    /// Channels of its output.
    pub outputs: usize,
}

impl ResidualNetConfig {
    /// Random weights, keyed by `seed` and `layer`.
    pub fn init(self, seed: u64, layer: u64, device: &Device) -> ResidualNet {
        let Self { inputs, hidden, blocks, outputs } = self;
        let mut image = 0;
        let mut conv = |kernel, inputs, outputs, magnitude, bias| {
            image += 1;
            let key = Key { seed, purpose: Purpose::Weights, step: layer, image };
            WeightNormConvConfig { kernel, inputs, outputs, magnitude, bias }.init(key, device)
        };
        let norm = || BatchNorm::new(hidden, true, device);
        ResidualNet {
            first: conv(3, inputs, hidden, false, true),
            skip: conv(1, hidden, hidden, true, true),
            blocks: (0..blocks)
                .map(|_| ResidualBlock {
                    first_norm: norm(),
                    first: conv(3, hidden, hidden, false, false),
                    second_norm: norm(),
                    second: conv(3, hidden, hidden, true, true),
                    skip: conv(1, hidden, hidden, true, true),
                })
                .collect(),
            last_norm: norm(),
            last: conv(1, hidden, outputs, true, true),
        }
    }
}

impl ResidualNet {
    /// Makes the weights.
    pub fn prepare(&self) -> PreparedResidualNet {
        let block = |block: &ResidualBlock| PreparedBlock {
            first_norm: block.first_norm.clone(),
            first: block.first.prepare(),
            second_norm: block.second_norm.clone(),
            second: block.second.prepare(),
            skip: block.skip.prepare(),
        };
        PreparedResidualNet {
            first: self.first.prepare(),
            skip: self.skip.prepare(),
            blocks: self.blocks.iter().map(block).collect(),
            last_norm: self.last_norm.clone(),
            last: self.last.prepare(),
        }
    }
}

#[derive(Debug, Clone)]
struct PreparedBlock {
    first_norm: BatchNorm,
    first: PreparedWeightNormConv,
    second_norm: BatchNorm,
    second: PreparedWeightNormConv,
    skip: PreparedWeightNormConv,
}

/// A [`ResidualNet`] ready to run.
#[derive(Debug, Clone)]
pub struct PreparedResidualNet {
    first: PreparedWeightNormConv,
    skip: PreparedWeightNormConv,
    blocks: Vec<PreparedBlock>,
    last_norm: BatchNorm,
    last: PreparedWeightNormConv,
}

/// What the backward pass would otherwise compute again; what the norms make of it is cheap and made again.
#[derive(Debug, Clone)]
pub struct SavedResidualNet {
    /// Of the first convolution. Shape `[batch, height, width, hidden]`.
    first: Tensor<4>,
    blocks: Vec<SavedBlock>,
    /// The sum of all skips. Shape `[batch, height, width, hidden]`.
    skips: Tensor<4>,
}

/// Of a block. Shape of each `[batch, height, width, hidden]`.
#[derive(Debug, Clone)]
struct SavedBlock {
    /// Between the convolutions.
    inside: Tensor<4>,
    out: Tensor<4>,
}

/// A [`ResidualNet`] by running averages, as plain convolutions: its skips add up to what goes through a ReLU and the
/// last of them.
#[derive(Debug, Clone)]
pub struct FoldedResidualNet {
    /// 3x3.
    pub first: FoldedConv,
    /// 1x1, of the first convolution's output.
    pub skip: FoldedConv,
    /// One after the other.
    pub blocks: Vec<FoldedBlock>,
    /// 1x1.
    pub last: FoldedConv,
}

/// `x + second(relu(first(relu(norm(x)))))`, and what of it goes to the last convolution.
#[derive(Debug, Clone)]
pub struct FoldedBlock {
    /// Of the input, which others read, too.
    pub norm: FoldedNorm,
    /// 3x3.
    pub first: FoldedConv,
    /// 3x3.
    pub second: FoldedConv,
    /// 1x1.
    pub skip: FoldedConv,
}

impl PreparedResidualNet {
    /// As plain convolutions. The last norm, of the sum of all skips, is in each of them; its offset in the first.
    pub fn folded(&self) -> FoldedResidualNet {
        let norm = self.last_norm.folded();
        let block = |block: &PreparedBlock| {
            let skip = block.skip.folded();
            let bias = skip.bias.clone() * norm.scale.clone();
            FoldedBlock {
                norm: block.first_norm.folded(),
                first: block.first.folded().followed_by(&block.second_norm.folded()),
                second: block.second.folded(),
                skip: skip.rescaled(&norm.scale, bias),
            }
        };
        FoldedResidualNet {
            first: self.first.folded(),
            skip: self.skip.folded().followed_by(&norm),
            blocks: self.blocks.iter().map(block).collect(),
            last: self.last.folded(),
        }
    }

    /// `[batch, height, width, inputs]` to `[.., outputs]`.
    pub fn forward(&self, x: &Tensor<4>, seen: &mut Seen) -> Tensor<4> {
        let mut state = self.first.forward(x);
        let mut skips = self.skip.forward(&state);
        for block in &self.blocks {
            state = block.forward(state, seen).out;
            skips = block.skip.forward_onto(skips, &state);
        }
        self.last.forward(&self.last_norm.activate(&skips, seen))
    }

    /// [`PreparedResidualNet::forward`] that keeps its activations.
    pub fn forward_saving(&self, x: &Tensor<4>, seen: &mut Seen) -> (Tensor<4>, SavedResidualNet) {
        let first = self.first.forward(x);
        let mut skips = self.skip.forward(&first);
        let mut blocks: Vec<SavedBlock> = Vec::with_capacity(self.blocks.len());
        for block in &self.blocks {
            let state = blocks.last().map_or(&first, |block| &block.out).clone();
            let saved = block.forward(state, seen);
            skips = block.skip.forward_onto(skips, &saved.out);
            blocks.push(saved);
        }
        let h = self.last.forward(&self.last_norm.activate(&skips, seen));
        (h, SavedResidualNet { first, blocks, skips })
    }

    /// Pulls `dy` back to the input and adds the parameters' gradients.
    pub fn backward(
        &self,
        x: &Tensor<4>,
        saved: SavedResidualNet,
        dy: &Tensor<4>,
        seen: &mut Seen,
        gradients: &mut Gradients,
    ) -> Tensor<4> {
        let SavedResidualNet { first, mut blocks, skips } = saved;
        let active = self.last_norm.activate(&skips, seen);
        let dactive = self.last.backward(&active, dy, gradients);
        let dskips = self.last_norm.deactivate(&skips, &dactive, None, seen, gradients);
        let mut dstate: Option<Tensor<4>> = None;
        for block in self.blocks.iter().rev() {
            let saved = blocks.pop().expect("one for each block");
            let state = blocks.last().map_or(&first, |block| &block.out);
            let dout = block.skip.backward_onto(dstate, &saved.out, &dskips, gradients);
            dstate = Some(block.backward(state, &saved.inside, dout, seen, gradients));
        }
        let dfirst = self.skip.backward_onto(dstate, &first, &dskips, gradients);
        self.first.backward(x, &dfirst, gradients)
    }
}

impl PreparedBlock {
    fn forward(&self, x: Tensor<4>, seen: &mut Seen) -> SavedBlock {
        let inside = self.first.forward(&self.first_norm.activate(&x, seen));
        let out = self.second.forward_onto(x, &self.second_norm.activate(&inside, seen));
        SavedBlock { inside, out }
    }

    fn backward(
        &self,
        x: &Tensor<4>,
        inside: &Tensor<4>,
        dout: Tensor<4>,
        seen: &mut Seen,
        gradients: &mut Gradients,
    ) -> Tensor<4> {
        let active = self.second_norm.activate(inside, seen);
        let dactive = self.second.backward(&active, &dout, gradients);
        let dinside = self.second_norm.deactivate(inside, &dactive, None, seen, gradients);
        let active = self.first_norm.activate(x, seen);
        let dactive = self.first.backward(&active, &dinside, gradients);
        self.first_norm.deactivate(x, &dactive, Some(&dout), seen, gradients)
    }
}
