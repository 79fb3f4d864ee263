//! What a run tells while it goes on.

use std::path::PathBuf;

use serde::Serialize;

use crate::models::Evaluation;

/// One thing that happened.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "type", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum TrainEvent {
    /// The first step is about to be made.
    RunStart {
        /// Steps that the weights have had.
        step: u64,
        /// Not a whole number where the batch size does not divide the images.
        batches_per_epoch: f64,
        /// Of training, in the parts of this run before this one.
        seconds: f64,
    },
    /// One step, or several merged.
    StepEnd(StepEnd),
    /// Held-out data were scored.
    EvaluationEnd {
        /// Steps that the weights have had.
        step: u64,
        /// The score.
        #[serde(flatten)]
        evaluation: Evaluation,
    },
    /// A checkpoint is on disk.
    CheckpointEnd {
        /// Steps that its weights have had.
        step: u64,
        /// Its folder.
        path: PathBuf,
    },
    /// A grid of samples is on disk.
    SampleEnd {
        /// Steps that the weights have had.
        step: u64,
        /// The PNG.
        path: PathBuf,
    },
    /// Something to look at; the run goes on.
    Warning {
        /// Steps that the weights have had.
        step: u64,
        /// Stable name.
        code: &'static str,
        /// A sentence.
        message: String,
    },
    /// The run is over.
    RunEnd {
        /// What became of it.
        summary: TrainSummary,
    },
}

/// One optimizer step, or several merged for a slow reader.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StepEnd {
    /// Steps that the weights have had.
    pub step: u64,
    /// Passes over the data that are complete.
    pub epoch: u64,
    /// Bits per dimension, mean over the merged steps.
    pub loss: f64,
    /// Norm of the last step's gradient, before clipping.
    pub gradient_norm: f64,
    /// Of the last step.
    pub learning_rate: f64,
    /// Over the merged steps.
    pub images_per_second: f64,
    /// Largest error of the batch that the backward sweep rebuilt; every 100th step where it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rebuild_error: Option<f32>,
    /// Steps that this stands for.
    pub merged: u64,
}

impl StepEnd {
    /// Makes one event of this and a later one.
    pub fn absorb(&mut self, later: Self) {
        let (mine, its) = (self.merged as f64, later.merged as f64);
        let mean = |a: f64, b: f64| (a * mine + b * its) / (mine + its);
        // Equal numbers of images at different speeds: the times add up, not the speeds.
        let images_per_second = 1.0 / mean(1.0 / self.images_per_second, 1.0 / later.images_per_second);
        let rebuild_error = match (self.rebuild_error, later.rebuild_error) {
            (Some(a), Some(b)) => Some(a.max(b)),
            (a, b) => a.or(b),
        };
        let loss = mean(self.loss, later.loss);
        *self = Self { loss, images_per_second, rebuild_error, merged: self.merged + later.merged, ..later };
    }
}

/// What became of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TrainSummary {
    /// Steps that the weights have had.
    pub step: u64,
    /// Bits per dimension of the last step.
    pub loss: f64,
    /// `"finished"` or `"stopped"`.
    pub reason: &'static str,
    /// Of the whole run, its parts before a resumption included.
    pub seconds: f64,
    /// The last checkpoint's folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merged_steps_keep_their_mean_and_the_worst_error() {
        let step = |step, loss, images_per_second, rebuild_error| StepEnd {
            step,
            epoch: 0,
            loss,
            gradient_norm: 1.0,
            learning_rate: 1e-3,
            images_per_second,
            rebuild_error,
            merged: 1,
        };
        let mut merged = step(1, 4.0, 100.0, Some(1e-5));
        merged.absorb(step(2, 2.0, 300.0, None));
        merged.absorb(step(3, 3.0, 150.0, Some(1e-6)));
        assert_eq!((merged.step, merged.merged, merged.loss), (3, 3, 3.0));
        assert_eq!(merged.rebuild_error, Some(1e-5));
        assert!((merged.images_per_second - 150.0).abs() < 1e-9);
    }

    #[test]
    fn events_are_shaped_as_the_api_says() {
        let evaluation = Evaluation { bits_per_dim: 2.0, standard_error: 0.1, images: 3, classification_error: None };
        let event = serde_json::to_value(TrainEvent::EvaluationEnd { step: 5, evaluation }).unwrap();
        assert_eq!(event["type"], "evaluation-end");
        assert_eq!(event["bitsPerDim"], 2.0);
        let start = TrainEvent::RunStart { step: 3, batches_per_epoch: 1.5, seconds: 2.5 };
        let expected = serde_json::json!({ "type": "run-start", "step": 3, "batchesPerEpoch": 1.5, "seconds": 2.5 });
        assert_eq!(serde_json::to_value(start).unwrap(), expected);
    }
}
