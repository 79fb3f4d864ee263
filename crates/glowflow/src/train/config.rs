//! What a training run is asked for.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::data::Augment;
use crate::device::Precision;
use crate::error::{Error, Result};

/// How activations wait for the backward sweep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Activations {
    /// Every one is kept: three net passes a step.
    Stored,
    /// Each step's input is kept and its net run again: four passes, no inverse, no drift.
    Inputs,
    /// Inputs are rebuilt from outputs: four passes, memory that does not grow with depth.
    Constant,
}

/// The learning rate after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScheduleKind {
    /// Stays.
    Constant,
    /// Falls to 0 at the end of the run on half a cosine.
    Cosine,
}

/// How a gradient becomes a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerKind {
    /// Algorithm 1 of Kingma & Ba 2015.
    Adam,
    /// Algorithm 2, by the largest gradient: what Glow's code trains with.
    Adamax,
}

/// What becomes of a run whose loss or gradient is not finite. Either way it never reaches the weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnNotFinite {
    /// It ends.
    Stop,
    /// It goes on from its last checkpoint, with the images that come after the bad ones.
    Rollback,
}

/// Adam or Adamax (Kingma & Ba 2015), with decoupled weight decay (Loshchilov & Hutter 2019).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct OptimizerConfig {
    /// How a gradient becomes a step.
    pub name: OptimizerKind,
    /// After the warm-up.
    pub learning_rate: f64,
    /// Decay of the first and of the second moment.
    pub betas: [f64; 2],
    /// Added to the root of the second moment; Adamax: to the size of the gradient.
    pub epsilon: f64,
    /// Each step takes `learning_rate * weight_decay` of every parameter away.
    pub weight_decay: f64,
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        Self { name: OptimizerKind::Adam, learning_rate: 1e-3, betas: [0.9, 0.999], epsilon: 1e-8, weight_decay: 0.0 }
    }
}

/// Evaluation on held-out data during the run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EvaluateConfig {
    /// Steps between two.
    pub every: u64,
    /// Images; all of them if `None`.
    pub limit: Option<usize>,
}

/// Checkpoints during the run and at its end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct CheckpointConfig {
    /// One folder a checkpoint is made in it. Empty: `checkpoints` in the run's folder.
    pub folder: PathBuf,
    /// Steps between two.
    pub every: u64,
    /// Newest ones that stay, beside the best.
    pub keep: usize,
}

impl Default for CheckpointConfig {
    fn default() -> Self {
        Self { folder: PathBuf::new(), every: 1000, keep: 3 }
    }
}

/// Grids of samples during the run, always from the same latents.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct SampleConfig {
    /// One PNG a grid is made in it. Empty: `samples` in the run's folder.
    pub folder: PathBuf,
    /// Steps between two.
    pub every: u64,
    /// Images of a grid.
    pub count: usize,
    /// Standard deviation of the latents.
    pub temperature: f64,
}

impl Default for SampleConfig {
    fn default() -> Self {
        Self { folder: PathBuf::new(), every: 1000, count: 64, temperature: 0.7 }
    }
}

/// Options of a training run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct TrainConfig {
    /// Ends the run at this step, earlier runs' steps included.
    pub steps: Option<u64>,
    /// Ends the run after so many passes over the data.
    pub epochs: Option<f64>,
    /// Ends the run after so many seconds.
    pub seconds: Option<f64>,
    /// Images that are run through the model at once.
    pub batch_size: usize,
    /// Batches whose gradients make one step.
    pub accumulate: usize,
    /// Images from which the actnorms are set, whatever the batch size.
    pub init_images: usize,
    /// Adam's options.
    pub optimizer: OptimizerConfig,
    /// The learning rate after the warm-up.
    pub schedule: ScheduleKind,
    /// Steps of linear warm-up.
    pub warmup: u64,
    /// Largest norm of the gradient of all parameters.
    pub clip_norm: f64,
    /// What is done at random to training images.
    pub augment: Augment,
    /// Decay of the moving average of the weights; none is kept if `None`.
    pub ema: Option<f64>,
    /// What becomes of the run then.
    pub on_not_finite: OnNotFinite,
    /// How activations wait for the backward sweep; the first way that fits if `None`.
    pub activations: Option<Activations>,
    /// Of the coupling nets, in steps and held-out scores.
    pub precision: Precision,
    /// Orders the data and draws the dequantization noise.
    pub seed: u64,
    /// On held-out data.
    pub evaluate: Option<EvaluateConfig>,
    /// Everything that the run leaves: settings, metrics, plots, samples, checkpoints.
    pub folder: Option<PathBuf>,
    /// None are written if `None`; with a folder there always are.
    pub checkpoint: Option<CheckpointConfig>,
    /// None are written if `None`; with a folder there always are.
    pub sample: Option<SampleConfig>,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            steps: None,
            epochs: None,
            seconds: None,
            batch_size: 64,
            accumulate: 1,
            init_images: 256,
            optimizer: OptimizerConfig::default(),
            schedule: ScheduleKind::Constant,
            warmup: 1000,
            clip_norm: 50.0,
            augment: Augment::default(),
            ema: None,
            on_not_finite: OnNotFinite::Stop,
            activations: None,
            precision: Precision::F32,
            seed: 0,
            evaluate: None,
            folder: None,
            checkpoint: None,
            sample: None,
        }
    }
}

impl TrainConfig {
    /// Every option that is out of range.
    pub fn problems(&self) -> Vec<Error> {
        let mut problems = Vec::new();
        let mut check = |ok: bool, option: &str, expected: &str, received: String| {
            if !ok {
                problems.push(Error::option(option, expected, received));
            }
        };
        let whole = "a whole number above 0";
        let positive = "a number above 0";
        let mut whole_number = |option: &str, value: u64| check(value > 0, option, whole, value.to_string());
        whole_number("steps", self.steps.unwrap_or(1));
        whole_number("batchSize", self.batch_size as u64);
        whole_number("accumulate", self.accumulate as u64);
        whole_number("initImages", self.init_images as u64);
        if let Some(evaluate) = &self.evaluate {
            whole_number("evaluate.every", evaluate.every);
            whole_number("evaluate.limit", evaluate.limit.unwrap_or(1) as u64);
        }
        if let Some(checkpoint) = &self.checkpoint {
            whole_number("checkpoint.every", checkpoint.every);
            whole_number("checkpoint.keep", checkpoint.keep as u64);
        }
        if let Some(sample) = &self.sample {
            whole_number("sample.every", sample.every);
            whole_number("sample.count", sample.count as u64);
            let temperature = sample.temperature;
            check(
                temperature >= 0.0 && temperature.is_finite(),
                "sample.temperature",
                "a number not below 0",
                temperature.to_string(),
            );
        }
        let mut number = |option: &str, value: f64| {
            check(value > 0.0 && value.is_finite(), option, positive, value.to_string());
        };
        number("epochs", self.epochs.unwrap_or(1.0));
        number("seconds", self.seconds.unwrap_or(1.0));
        number("optimizer.learningRate", self.optimizer.learning_rate);
        number("optimizer.epsilon", self.optimizer.epsilon);
        number("clipNorm", self.clip_norm);
        for beta in self.optimizer.betas {
            check((0.0..1.0).contains(&beta), "optimizer.betas", "numbers from 0 to below 1", beta.to_string());
        }
        let decay = self.optimizer.weight_decay;
        check(decay >= 0.0 && decay.is_finite(), "optimizer.weightDecay", "a number of at least 0", decay.to_string());
        let Augment { shift, .. } = self.augment;
        check((0.0..=0.5).contains(&shift), "augment.shift", "a part of the size from 0 to 0.5", shift.to_string());
        if let Some(ema) = self.ema {
            check(ema > 0.0 && ema < 1.0, "ema", "a number between 0 and 1", ema.to_string());
        }
        let nowhere =
            |folder: Option<&PathBuf>| self.folder.is_none() && folder.is_some_and(|f| f.as_os_str().is_empty());
        for (option, folder) in [
            ("checkpoint.folder", self.checkpoint.as_ref().map(|checkpoint| &checkpoint.folder)),
            ("sample.folder", self.sample.as_ref().map(|sample| &sample.folder)),
        ] {
            check(!nowhere(folder), option, "a path, as the run has no folder,", "none".into());
        }
        check(
            self.on_not_finite == OnNotFinite::Stop || self.checkpoint.is_some() || self.folder.is_some(),
            "onNotFinite",
            "'stop', as there are no checkpoints to go back to,",
            "rollback".into(),
        );
        check(
            self.ways().contains(&self.activations.unwrap_or(Activations::Stored)),
            "activations",
            "'stored' or 'inputs', as what nets in bf16 rebuild drifts,",
            "constant".into(),
        );
        let endless = self.steps.is_none() && self.epochs.is_none() && self.seconds.is_none();
        check(
            self.schedule != ScheduleKind::Cosine || !endless,
            "schedule",
            "a limit in steps, epochs or seconds for a cosine",
            "none".into(),
        );
        problems
    }

    /// With the places of checkpoints and samples filled in.
    pub fn resolved(&self) -> Self {
        let mut config = self.clone();
        if let Some(folder) = &self.folder {
            let within = |place: &mut PathBuf, name: &str| {
                if place.as_os_str().is_empty() {
                    *place = folder.join(name);
                }
            };
            within(&mut config.checkpoint.get_or_insert_default().folder, "checkpoints");
            within(&mut config.sample.get_or_insert_default().folder, "samples");
        }
        config
    }

    /// The ways to hold activations that there are, the fastest first. Rounding to 8 bits in every coupling adds up on the way
    /// back until gradients are no longer those of the loss.
    pub fn ways(&self) -> &'static [Activations] {
        match self.precision {
            Precision::Bf16 => &[Activations::Stored, Activations::Inputs],
            Precision::F32 | Precision::Bf16x3 => &[Activations::Stored, Activations::Inputs, Activations::Constant],
        }
    }

    /// Images of a step.
    pub fn images_per_step(&self) -> u64 {
        self.batch_size as u64 * self.accumulate as u64
    }

    /// The first option that is out of range, as an error.
    pub fn validate(&self) -> Result<()> {
        self.problems().into_iter().next().map_or(Ok(()), Err)
    }
}
