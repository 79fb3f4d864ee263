//! The invertible layers, one a file.

mod actnorm;
mod coupling;
mod mix;
mod permutation;
mod squeeze;
mod step;

pub use actnorm::{ActNorm, LOG_SCALE_FACTOR, Moments};
pub use coupling::{Coupling, CouplingConfig, PreparedCoupling, SavedCoupling};
pub use mix::{Mix, PreparedMix};
pub use permutation::{Permutation, PermutationKind};
pub use squeeze::{squeeze, unsqueeze};
pub use step::{FlowStep, PreparedStep, SavedStep};
