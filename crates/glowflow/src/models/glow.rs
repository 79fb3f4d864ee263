//! Glow: levels of squeeze, flow steps and split, and a prior at the top.
//!
//! Kingma & Dhariwal 2018, figure 2b.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::chain::{Chain, Stage};
use super::config::GlowConfig;
use crate::error::Result;
use crate::flow::Pass;
use crate::kernels::coupling::halves;
use crate::layers::{FlowStep, Rearrange};
use crate::priors::{Split, TopPrior};

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
        let step =
            |level: usize, k: usize| config.step(level).init(config.seed, (level * config.depth + k) as u64, device);
        let level = |level: usize| Level {
            steps: (0..config.depth).map(|k| step(level, k)).collect(),
            split: config.split(level).map(|split| split.init(device)),
        };
        Self { levels: (0..config.levels).map(level).collect(), top: config.top().init(device) }
    }

    /// A place for a model that is taken out for a moment.
    pub fn nothing() -> Self {
        Self { levels: Vec::new(), top: TopPrior::standard() }
    }

    /// Ready to run.
    pub fn chain(&self, config: &GlowConfig, pass: impl Into<Pass>) -> Chain {
        let pass = pass.into();
        let mut stages = Vec::new();
        for (l, level) in self.levels.iter().enumerate() {
            let [height, width, _] = config.level_shape(l);
            stages.push(Stage::Rearrange(Rearrange::Squeeze));
            stages.extend(level.steps.iter().enumerate().map(|(k, step)| Stage::layer(step_path(l, k), step)));
            stages.extend(level.split.as_ref().map(|split| Stage::Split(Box::new(split.prepare([height, width])))));
        }
        let like = self.levels[0].steps[0].mix.actnorm.bias.val();
        let top = self.top.prepare(config.level_shape(config.levels - 1), config.class_weight(), &like);
        Chain::new(stages, top, pass)
    }

    /// Sets every actnorm from data, layer after layer. `parts` are scaled images, `[batch, height, width, channels]`.
    pub fn initialize(&mut self, mut parts: Vec<Tensor<4>>) -> Result<()> {
        for (l, level) in self.levels.iter_mut().enumerate() {
            parts = parts.into_iter().map(|x| Rearrange::Squeeze.forward(x)).collect();
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

/// Where a step is in a model.
pub(crate) fn step_path(level: usize, step: usize) -> String {
    format!("levels.{level}.steps.{step}")
}
