//! What a training run is asked for.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

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

/// Adam (Kingma & Ba 2015).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct OptimizerConfig {
    /// After the warm-up.
    pub learning_rate: f64,
    /// Decay of the first and of the second moment.
    pub betas: [f64; 2],
    /// Added to the root of the second moment.
    pub epsilon: f64,
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        Self { learning_rate: 1e-3, betas: [0.9, 0.999], epsilon: 1e-8 }
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
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CheckpointConfig {
    /// One folder a checkpoint is made in it.
    pub folder: PathBuf,
    /// Steps between two.
    pub every: u64,
    /// Newest ones that stay.
    pub keep: usize,
}

/// Grids of samples during the run, always from the same latents.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SampleConfig {
    /// One PNG a grid is made in it.
    pub folder: PathBuf,
    /// Steps between two.
    pub every: u64,
    /// Images of a grid.
    pub count: usize,
    /// Standard deviation of the latents.
    pub temperature: f32,
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
    /// Images of a step.
    pub batch_size: usize,
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
    /// How activations wait for the backward sweep; the first way that fits if `None`.
    pub activations: Option<Activations>,
    /// Orders the data and draws the dequantization noise.
    pub seed: u64,
    /// On held-out data.
    pub evaluate: Option<EvaluateConfig>,
    /// None are written if `None`.
    pub checkpoint: Option<CheckpointConfig>,
    /// None are written if `None`.
    pub sample: Option<SampleConfig>,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            steps: None,
            epochs: None,
            seconds: None,
            batch_size: 64,
            init_images: 256,
            optimizer: OptimizerConfig::default(),
            schedule: ScheduleKind::Constant,
            warmup: 1000,
            clip_norm: 50.0,
            activations: None,
            seed: 0,
            evaluate: None,
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
            let temperature = f64::from(sample.temperature);
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
        let endless = self.steps.is_none() && self.epochs.is_none() && self.seconds.is_none();
        check(
            self.schedule != ScheduleKind::Cosine || !endless,
            "schedule",
            "a limit in steps, epochs or seconds for a cosine",
            "none".into(),
        );
        problems
    }

    /// The first option that is out of range, as an error.
    pub fn validate(&self) -> Result<()> {
        self.problems().into_iter().next().map_or(Ok(()), Err)
    }
}
