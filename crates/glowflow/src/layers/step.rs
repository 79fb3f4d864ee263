//! One step of flow: actnorm, permutation, coupling.
//!
//! Kingma & Dhariwal 2018, figure 2a.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::actnorm::{ActNorm, Moments, ScaleForm};
use super::coupling::{Coupling, CouplingConfig, PreparedCoupling, SavedCoupling, SavedNet};
use super::mix::{Mix, PreparedMix};
use super::permutation::{Permutation, PermutationKind};
use crate::error::Result;
use crate::flow::{Cotangent, Forward, Gradients, Invertible, Layer, Mode, Output, Pass, Pullback};
use crate::kernels::coupling::kept;
use crate::kernels::pixel::Pixel;
use crate::kernels::step::{self, Step};
use crate::kernels::taps;

/// Layers keyed for random initial weights in one step of flow.
const LAYERS_OF_A_STEP: u64 = 3;

/// The parameters of a step.
#[derive(Module, Debug)]
pub struct FlowStep {
    /// Actnorm and permutation.
    pub mix: Mix,
    /// Affine or additive.
    pub coupling: Coupling,
}

/// Sizes and form of a [`FlowStep`].
#[derive(Debug, Clone, Copy)]
pub struct StepConfig {
    /// What is trained of the actnorm's scale.
    pub scale: ScaleForm,
    /// What mixes the channels.
    pub permutation: PermutationKind,
    /// What changes half of them.
    pub coupling: CouplingConfig,
}

impl StepConfig {
    /// A step near a rotation. `index` counts the steps of the model.
    pub fn init(self, seed: u64, index: u64, device: &Device) -> FlowStep {
        let (layer, channels) = (index * LAYERS_OF_A_STEP, self.coupling.channels);
        FlowStep {
            mix: Mix {
                actnorm: ActNorm::new(channels, Some(self.scale), device),
                permutation: Permutation::new(self.permutation, channels, seed, layer, device),
            },
            coupling: self.coupling.init(seed, layer + 1, device),
        }
    }
}

impl FlowStep {
    /// Sets the actnorms from data, layer after layer, and returns the step's outputs.
    pub fn initialize(&mut self, parts: Vec<Tensor<4>>, path: &str) -> Result<Vec<Tensor<4>>> {
        let mut moments = Moments::default();
        parts.iter().for_each(|x| moments.add(taps::rows(x.clone())));
        self.mix.actnorm.set_from(&moments, &format!("{path}.mix.actnorm"))?;
        let mix = self.mix.prepare(path, Mode::Evaluation.into())?;
        let mixed: Vec<_> = parts.into_iter().map(|x| mix.forward(x).z).collect();
        let inputs: Vec<_> = mixed.iter().map(kept).collect();
        self.coupling.net.initialize(&inputs, &format!("{path}.coupling.net"))?;
        let coupling = self.coupling.prepare(path, Mode::Evaluation.into())?;
        Ok(mixed.into_iter().map(|x| coupling.forward(x).z).collect())
    }
}

impl Layer for FlowStep {
    type Prepared = PreparedStep;

    fn prepare(&self, path: &str, pass: Pass) -> Result<PreparedStep> {
        Ok(PreparedStep {
            mix: self.mix.prepare(&format!("{path}.mix"), pass)?,
            coupling: self.coupling.prepare(&format!("{path}.coupling"), pass)?,
        })
    }
}

/// A [`FlowStep`] ready to run.
#[derive(Debug, Clone)]
pub struct PreparedStep {
    /// Actnorm and permutation.
    pub mix: PreparedMix,
    /// Affine or additive.
    pub coupling: PreparedCoupling,
}

/// Activations of a step.
#[derive(Debug, Clone)]
pub struct SavedStep {
    x: Tensor<4>,
    net: SavedNet,
}

impl PreparedStep {
    fn with<'a>(&'a self, mix: &'a Pixel) -> Step<'a> {
        Step { mix, net: self.coupling.net().kernel(), kind: self.coupling.kind() }
    }

    fn run(&self, x: &Tensor<4>, keep: bool) -> Option<step::Forward> {
        self.with(self.mix.map()).forward(x, self.mix.log_det(), keep)
    }
}

impl Invertible for PreparedStep {
    type Saved = SavedStep;

    fn forward(&self, x: Tensor<4>) -> Forward {
        if let Some(done) = self.run(&x, false) {
            return done.out;
        }
        let mixed = self.mix.forward(x);
        let out = self.coupling.forward(mixed.z);
        Forward::new(out.z, mixed.log_det + out.log_det)
    }

    fn forward_saving(&self, x: Tensor<4>) -> (Forward, SavedStep) {
        if let Some(step::Forward { out, kept: Some((h, hidden)) }) = self.run(&x, true) {
            return (out, SavedStep { x, net: SavedNet { h, hidden } });
        }
        let mixed = self.mix.forward(x.clone());
        let (out, SavedCoupling { net, .. }) = self.coupling.forward_saving(mixed.z);
        (Forward::new(out.z, mixed.log_det + out.log_det), SavedStep { x, net })
    }

    fn inverse(&self, z: Tensor<4>) -> Result<Tensor<4>> {
        match self.with(self.mix.inverse_map()?).inverse(&z) {
            Some(x) => Ok(x),
            None => self.mix.inverse(self.coupling.inverse(z)?),
        }
    }

    fn backward(
        &self,
        out: Output,
        saved: Option<SavedStep>,
        cotangent: Cotangent,
        gradients: &mut Gradients,
    ) -> Result<Pullback> {
        let log_det = cotangent.log_det.clone();
        let (at, x) = match saved {
            Some(SavedStep { x, net }) => {
                let dx = self.coupling.pull_back(&out.z, &net, &cotangent, gradients);
                (Pullback { x: out.z, dx }, Some(x))
            }
            None => (self.coupling.backward(out, None, cotangent, gradients)?, None),
        };
        // Where x is known, the mix's output is not looked at.
        self.mix.backward(Output::new(at.x), x, Cotangent { z: at.dx, log_det }, gradients)
    }

    fn condition_number(&self) -> f64 {
        self.mix.condition_number()
    }
}
