//! Training: what a run is asked for, its steps, and what it tells.

mod checkpoint;
mod config;
mod event;
mod optimizer;
mod reducer;
mod run;
mod schedule;
mod step;

pub use config::{
    Activations, CheckpointConfig, EvaluateConfig, OptimizerConfig, SampleConfig, ScheduleKind, TrainConfig,
};
pub use event::{StepEnd, TrainEvent, TrainSummary};
pub use optimizer::Adam;
pub use reducer::{Identity, Reducer};
pub use run::Control;
pub use step::{StepOutcome, Trainer};
