//! Training: what a run is asked for, its steps, and what it tells.

mod checkpoint;
mod config;
mod event;
mod optimizer;
mod reducer;
mod run;
mod schedule;
mod step;

pub use checkpoint::{Best, Checkpoint, RunState, folder_to_resume, model_file};
pub use config::{
    Activations, CheckpointConfig, EvaluateConfig, OnNotFinite, OptimizerConfig, OptimizerKind, SampleConfig,
    ScheduleKind, TrainConfig,
};
pub use event::{StepEnd, TrainEvent, TrainSummary};
pub use optimizer::{Optimizer, StoredMoments, move_average};
pub use reducer::{Identity, Reducer};
pub use run::{Control, RunData};
pub use step::{Outcomes, StepOutcome, Trainer, Weights};
