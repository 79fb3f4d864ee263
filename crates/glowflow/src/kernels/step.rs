//! A step of flow as one operation of the CPU; elsewhere it is its parts.

use burn::tensor::Tensor;

use super::coupling::Kind;
use super::flex::{Values, grid, tensor};
use super::net::{Hidden, Net};
use super::pixel::Pixel;
use super::{cpu, host};
use crate::flow;

/// What a step is made of.
pub struct Step<'a> {
    /// Of the channels; of the latents' way back its inverse.
    pub mix: &'a Pixel,
    /// Gives shift and raw scale.
    pub net: &'a Net,
    /// What is done with them.
    pub kind: Kind,
}

/// The outputs of [`Step::forward`].
pub struct Forward {
    /// Both log-dets in one.
    pub out: flow::Forward,
    /// The net's output and its hidden activations, where they are kept.
    pub kept: Option<(Tensor<4>, Hidden)>,
}

impl Step<'_> {
    /// Mixes, then couples; `None` where it has to be done in parts. `log_det` is the mix's of one pixel, nats, `[1]`.
    pub fn forward(&self, x: &Tensor<4>, log_det: &Tensor<1>, keep: bool) -> Option<Forward> {
        let ([batch, height, width, channels], values) = (x.dims(), Values::of(x)?);
        let of_mix = host::read::<f64, 1>(log_det.clone())[0] * (height * width) as f64;
        let out = cpu::step::forward(grid(x), &values, self.mix.packed()?, self.net.packed()?, self.kind, keep);
        let log_det = out.log_det.into_iter().map(|of_coupling| of_mix + of_coupling).collect();
        Some(Forward {
            out: flow::Forward::new(tensor(out.y, x.dims()), tensor(log_det, [batch])),
            kept: out.kept.map(|(h, hidden)| {
                (tensor(h, [batch, height, width, self.kind.parameters(channels)]), Hidden::of_cpu(hidden))
            }),
        })
    }

    /// Undoes [`Step::forward`].
    pub fn inverse(&self, z: &Tensor<4>) -> Option<Tensor<4>> {
        let values = Values::of(z)?;
        let x = cpu::step::inverse(grid(z), &values, self.mix.packed()?, self.net.packed()?, self.kind);
        Some(tensor(x, z.dims()))
    }
}
