//! The invertible layers, one a file.

mod actnorm;
mod coupling;
mod mix;
mod permutation;
mod rearrange;
mod step;

pub use actnorm::{ActNorm, LOG_SCALE_FACTOR, Moments, ScaleForm};
pub use coupling::{Coupling, CouplingConfig, PreparedCoupling, SavedCoupling};
pub use mix::{Mix, PreparedMix};
pub use permutation::{Permutation, PermutationKind};
pub use rearrange::Rearrange;
pub use step::{FlowStep, PreparedStep, SavedStep, StepConfig};
