//! The models of the papers, and what one does with them.

pub mod chain;
pub mod config;
mod dequantize;
mod direction;
mod edit;
mod export;
pub(crate) mod flow_model;
pub mod glow;
mod import;
mod labels;
mod latents;
mod likelihood;
pub mod memory;
pub mod network;
pub mod nice;
pub mod realnvp;
pub mod self_check;
pub mod structure;
mod verify;

pub use config::{CouplingKind, GlowConfig, Layout, ModelConfig, NiceConfig, NicePrior, RealNvpConfig, ScaleKind};
pub(crate) use dequantize::training_batch;
pub use dequantize::{Dequantize, Noise};
pub use direction::NamedDirection;
pub(crate) use direction::check_direction;
pub use flow_model::{Call, FlowModel};
pub use import::ImportedModel;
pub use labels::ClassLabels;
pub(crate) use labels::{CheckedLabels, check_classes};
pub use latents::{InterpolationPath, LatentDistribution, LatentScale, Latents};
pub(crate) use likelihood::discrete_log_prob;
pub use likelihood::{Evaluation, bits_per_dim};
pub use verify::Verification;
