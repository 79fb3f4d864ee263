//! The learning rate of each step.

use super::config::{ScheduleKind, TrainConfig};

/// Where a run is.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// The step that is to be made, from 1.
    pub step: u64,
    /// Passes over the data so far.
    pub epochs: f64,
    /// Seconds of this run so far.
    pub seconds: f64,
}

impl TrainConfig {
    /// Warm-up, then constant or half a cosine that ends at 0 with the run.
    pub fn learning_rate(&self, at: Progress) -> f64 {
        let warmup = if self.warmup == 0 { 1.0 } else { (at.step as f64 / self.warmup as f64).min(1.0) };
        let decay = match self.schedule {
            ScheduleKind::Constant => 1.0,
            ScheduleKind::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * self.progress(at)).cos()),
        };
        self.optimizer.learning_rate * warmup * decay
    }

    /// Part of the run that is over, by the limit that is nearest. 0 without a limit.
    fn progress(&self, at: Progress) -> f64 {
        let parts = [
            self.steps.map(|steps| (at.step - 1) as f64 / steps as f64),
            self.epochs.map(|epochs| at.epochs / epochs),
            self.seconds.map(|seconds| at.seconds / seconds),
        ];
        parts.into_iter().flatten().fold(0.0, f64::max).min(1.0)
    }

    /// Whether a limit is reached after `steps` steps.
    pub fn is_over(&self, steps: u64, epochs: f64, seconds: f64) -> bool {
        self.steps.is_some_and(|limit| steps >= limit)
            || self.epochs.is_some_and(|limit| epochs >= limit)
            || self.seconds.is_some_and(|limit| seconds >= limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_rises_over_the_warm_up_and_falls_to_nothing() {
        let config =
            TrainConfig { steps: Some(100), warmup: 10, schedule: ScheduleKind::Cosine, ..TrainConfig::default() };
        let rate = |step| config.learning_rate(Progress { step, epochs: 0.0, seconds: 0.0 });
        assert!((rate(1) - 1e-4).abs() < 1e-7);
        assert!((rate(51) - 0.5e-3).abs() < 1e-9);
        assert!(rate(100) < 1e-6 && rate(100) > 0.0);
        let constant = TrainConfig { warmup: 0, ..TrainConfig::default() };
        assert_eq!(constant.learning_rate(Progress { step: 1, epochs: 0.0, seconds: 1e9 }), 1e-3);
    }

    #[test]
    fn the_first_limit_that_is_reached_ends_the_run() {
        let config = TrainConfig { steps: Some(10), seconds: Some(5.0), ..TrainConfig::default() };
        assert!(!config.is_over(9, 100.0, 4.9));
        assert!(config.is_over(10, 0.0, 0.0));
        assert!(config.is_over(0, 0.0, 5.0));
        assert!(!TrainConfig::default().is_over(u64::MAX, 1e9, 1e9));
    }
}
