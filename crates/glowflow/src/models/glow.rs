//! Glow: levels of squeeze, flow steps and split, and a prior at the top.
//!
//! Kingma & Dhariwal 2018, figure 2b.

use std::ops::ControlFlow;
use std::sync::{Arc, OnceLock};

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::config::GlowConfig;
use crate::error::Result;
use crate::flow::{Cotangent, Forward, Gradients, Invertible, Layer, Pullback, accumulator};
use crate::kernels::coupling::halves;
use crate::layers::{CouplingConfig, FlowStep, PreparedStep, SavedStep, squeeze, unsqueeze};
use crate::priors::{PreparedSplit, PreparedTop, Split, TopPrior};
use crate::train::Activations;

/// The parameters of a scale.
#[derive(Module, Debug)]
pub struct Level {
    /// K steps of flow.
    pub steps: Vec<FlowStep>,
    /// Half of the channels leaves; the last level has none.
    pub split: Option<Split>,
}

/// The parameters of a Glow model.
#[derive(Module, Debug)]
pub struct Glow {
    /// L scales.
    pub levels: Vec<Level>,
    /// Prior of the coarsest latents.
    pub top: TopPrior,
}

impl Glow {
    /// Random rotations and hidden weights, zeros elsewhere. The actnorms wait for [`Glow::initialize`].
    pub fn new(config: &GlowConfig, device: &Device) -> Self {
        let level = |level: usize| {
            let [_, _, channels] = config.level_shape(level);
            Level {
                steps: (0..config.depth).map(|k| step_of_level(config, level, k, device)).collect(),
                split: (level + 1 < config.levels).then(|| Split::new(channels, config.edge_bias, device)),
            }
        };
        let [_, _, channels] = config.level_shape(config.levels - 1);
        Self {
            levels: (0..config.levels).map(level).collect(),
            top: TopPrior::new(channels, config.learn_top, config.edge_bias, device),
        }
    }

    /// A place for a model that is taken out for a moment.
    pub fn nothing(device: &Device) -> Self {
        Self { levels: Vec::new(), top: TopPrior::new(0, false, false, device) }
    }

    /// Sets every actnorm from data, layer after layer. `parts` are scaled images, `[batch, height, width, channels]`.
    pub fn initialize(&mut self, mut parts: Vec<Tensor<4>>) -> Result<()> {
        for (l, level) in self.levels.iter_mut().enumerate() {
            parts = parts.into_iter().map(squeeze).collect();
            for (k, step) in level.steps.iter_mut().enumerate() {
                parts = step.initialize(parts, &step_path(l, k))?;
            }
            if level.split.is_some() {
                parts = parts.iter().map(|x| halves(x).0).collect();
            }
        }
        Ok(())
    }
}

/// Step `k` of a level, before any data.
pub(super) fn step_of_level(config: &GlowConfig, level: usize, k: usize, device: &Device) -> FlowStep {
    let [height, width, channels] = config.level_shape(level);
    let coupling = CouplingConfig {
        kind: config.coupling_kind(),
        channels,
        size: [height, width],
        hidden: config.hidden,
        edge_bias: config.edge_bias,
    };
    let index = (level * config.depth + k) as u64;
    FlowStep::new(config.permutation, coupling, config.seed, index, device)
}

/// Where a step is in a model.
pub(crate) fn step_path(level: usize, step: usize) -> String {
    format!("levels.{level}.steps.{step}")
}

/// A batch encoded.
pub struct Encoded {
    /// Every scale's noise, finest first: standard normal under the model.
    pub latents: Vec<Tensor<4>>,
    /// `ln p(x)` of each scaled image, nats. Shape `[batch]`, [`accumulator`] type.
    pub log_prob: Tensor<1>,
}

/// What a forward pass leaves for the backward pass.
pub struct Tape {
    /// `ln p(x)` of each scaled image, nats. Shape `[batch]`, [`accumulator`] type.
    pub log_prob: Tensor<1>,
    /// Of each level's steps.
    steps: Vec<Vec<Held>>,
    /// The channels that left at each split, raw: rebuilding them from noise would feed them the drift of the others.
    gone: Vec<Tensor<4>>,
    top: Tensor<4>,
}

/// How a step's activations wait for the backward pass.
enum Held {
    Stored(Box<SavedStep>),
    Input(Tensor<4>),
    Nothing,
}

/// A [`Glow`] at one state of its weights.
///
/// For inference its layers are prepared once and kept. For training each is prepared as the sweep comes to it and let
/// go, so that memory does not grow with depth.
pub struct RunningGlow {
    glow: Glow,
    config: GlowConfig,
    /// Empty where nothing is kept.
    kept: Vec<Vec<OnceLock<Arc<PreparedStep>>>>,
    splits: Vec<PreparedSplit>,
    top: PreparedTop,
}

impl RunningGlow {
    /// Keeps prepared layers if `keep`.
    pub fn new(glow: &Glow, config: &GlowConfig, keep: bool) -> Self {
        let like = glow.levels[0].steps[0].mix.actnorm.bias.val();
        let splits = glow.levels.iter().enumerate().filter_map(|(l, level)| {
            let [height, width, _] = config.level_shape(l);
            level.split.as_ref().map(|split| split.prepare([height, width]))
        });
        let kept = |level: &Level| level.steps.iter().map(|_| OnceLock::new()).collect();
        Self {
            kept: if keep { glow.levels.iter().map(kept).collect() } else { Vec::new() },
            splits: splits.collect(),
            top: glow.top.prepare(config.level_shape(config.levels - 1), &like),
            glow: glow.clone(),
            config: config.clone(),
        }
    }

    /// Step `k` of level `l`, ready to run.
    pub fn step(&self, l: usize, k: usize) -> Result<Arc<PreparedStep>> {
        let prepare = || self.glow.levels[l].steps[k].prepare(&step_path(l, k)).map(Arc::new);
        match self.kept.get(l).map(|level| &level[k]) {
            None => prepare(),
            Some(kept) => match kept.get() {
                Some(step) => Ok(step.clone()),
                None => prepare().map(|step| kept.get_or_init(|| step).clone()),
            },
        }
    }

    /// Goes through the steps in the order of the forward pass: path, step, input and output, until `visit` breaks off.
    pub fn walk<B>(
        &self,
        x: Tensor<4>,
        mut visit: impl FnMut(String, &PreparedStep, Tensor<4>, &Forward) -> Result<ControlFlow<B>>,
    ) -> Result<ControlFlow<B>> {
        let mut x = x;
        for l in 0..self.config.levels {
            // Between two levels the first half of the channels goes on.
            x = squeeze(if l == 0 { x } else { halves(&x).0 });
            for k in 0..self.config.depth {
                let step = self.step(l, k)?;
                let out = step.forward(x.clone());
                if let ControlFlow::Break(found) = visit(step_path(l, k), &step, x, &out)? {
                    return Ok(ControlFlow::Break(found));
                }
                x = out.z;
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Latents and log-probability of scaled images, `[batch, height, width, channels]`.
    pub fn encode(&self, x: Tensor<4>) -> Result<Encoded> {
        let mut log_prob = zeros_per_example(&x);
        let mut latents = Vec::with_capacity(self.config.levels);
        let mut x = x;
        for l in 0..self.config.levels {
            let (z, log_det, _) = self.run_level(l, squeeze(x), Activations::Constant)?;
            log_prob = log_prob + log_det;
            x = match self.splits.get(l) {
                None => z,
                Some(split) => {
                    let (kept, gone) = halves(&z);
                    let (split_log_prob, noise) = split.encode(&kept, &gone);
                    log_prob = log_prob + split_log_prob;
                    latents.push(noise);
                    kept
                }
            };
        }
        latents.push(self.top.to_noise(&x));
        Ok(Encoded { latents, log_prob: log_prob + self.top.log_prob(&x) })
    }

    /// Scaled images from every scale's noise, finest first: undoes [`RunningGlow::encode`].
    pub fn decode(&self, latents: &[Tensor<4>]) -> Result<Tensor<4>> {
        let mut scales = latents.iter().rev();
        let mut x = self.top.from_noise(scales.next().expect("every model has a top"));
        for l in (0..self.config.levels).rev() {
            if let (Some(split), Some(noise)) = (self.splits.get(l), scales.clone().next()) {
                scales.next();
                let gone = split.from_noise(&x, noise);
                x = Tensor::cat(vec![x, gone], 3);
            }
            for k in (0..self.config.depth).rev() {
                x = self.step(l, k)?.inverse(x)?;
            }
            x = unsqueeze(x);
        }
        Ok(x)
    }

    /// Runs the flow for training, holding activations as asked.
    pub fn forward(&self, x: Tensor<4>, activations: Activations) -> Result<Tape> {
        let mut tape = Tape { log_prob: zeros_per_example(&x), steps: Vec::new(), gone: Vec::new(), top: x };
        for l in 0..self.config.levels {
            let (z, log_det, held) = self.run_level(l, squeeze(tape.top), activations)?;
            tape.log_prob = tape.log_prob + log_det;
            tape.steps.push(held);
            tape.top = match self.splits.get(l) {
                None => z,
                Some(split) => {
                    let (kept, gone) = halves(&z);
                    tape.log_prob = tape.log_prob + split.log_prob(&kept, &gone);
                    tape.gone.push(gone);
                    kept
                }
            };
        }
        tape.log_prob = tape.log_prob + self.top.log_prob(&tape.top);
        Ok(tape)
    }

    fn run_level(&self, l: usize, x: Tensor<4>, activations: Activations) -> Result<(Tensor<4>, Tensor<1>, Vec<Held>)> {
        let mut log_det = zeros_per_example(&x);
        let mut held = Vec::with_capacity(self.config.depth);
        let mut z = x;
        for k in 0..self.config.depth {
            let step = self.step(l, k)?;
            let out = match activations {
                Activations::Stored => {
                    let (out, saved) = step.forward_saving(z);
                    held.push(Held::Stored(Box::new(saved)));
                    out
                }
                Activations::Inputs => {
                    held.push(Held::Input(z.clone()));
                    step.forward(z)
                }
                Activations::Constant => {
                    held.push(Held::Nothing);
                    step.forward(z)
                }
            };
            z = out.z;
            log_det = log_det + out.log_det;
        }
        Ok((z, log_det, held))
    }

    /// Parameter gradients of `sum(cotangent * log_prob)`; returns the input, rebuilt or held, and its gradient.
    ///
    /// `cotangent` is `[batch]`, of the flow's own type.
    pub fn backward(&self, tape: Tape, cotangent: &Tensor<1>, gradients: &mut Gradients) -> Result<Pullback> {
        let Tape { mut steps, mut gone, top, .. } = tape;
        let dx = self.top.backward(&top, cotangent, gradients);
        let mut at = Pullback { x: top, dx };
        for l in (0..self.config.levels).rev() {
            if let Some(split) = self.splits.get(l) {
                let gone = gone.pop().expect("one for each split");
                let (dkept, dgone) = split.backward(&at.x, &gone, cotangent, gradients);
                at = Pullback { x: Tensor::cat(vec![at.x, gone], 3), dx: Tensor::cat(vec![at.dx + dkept, dgone], 3) };
            }
            let held = steps.pop().expect("one for each level");
            for (k, held) in held.into_iter().enumerate().rev() {
                let step = self.step(l, k)?;
                let (z, saved) = match held {
                    Held::Stored(saved) => (at.x, Some(*saved)),
                    Held::Nothing => (at.x, None),
                    Held::Input(x) => {
                        let (out, saved) = step.forward_saving(x);
                        (out.z, Some(saved))
                    }
                };
                let cotangent = Cotangent { z: at.dx, log_det: cotangent.clone() };
                at = step.backward(z, saved, cotangent, gradients)?;
            }
            at = Pullback { x: unsqueeze(at.x), dx: unsqueeze(at.dx) };
        }
        Ok(at)
    }
}

fn zeros_per_example(x: &Tensor<4>) -> Tensor<1> {
    let device = x.device();
    Tensor::zeros([x.dims()[0]], (&device, accumulator(&device).into()))
}
