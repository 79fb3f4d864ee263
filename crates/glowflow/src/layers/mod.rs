//! The invertible layers, one a file.

mod actnorm;
mod additive;
mod coupling;
mod mix;
mod permutation;
mod rearrange;
mod scaling;
mod step;
mod whitening;

pub use actnorm::{ActNorm, LOG_SCALE_FACTOR, Moments, ScaleForm};
pub use additive::{AdditiveCoupling, PreparedAdditive, SavedAdditive};
pub use coupling::{Coupling, CouplingConfig, PreparedCoupling, SavedCoupling};
pub use mix::{Mix, PreparedMix};
pub use permutation::{Permutation, PermutationKind};
pub use rearrange::Rearrange;
pub use scaling::{PreparedScaling, Scaling};
pub use step::{FlowStep, PreparedStep, SavedStep, StepConfig};
pub use whitening::{PreparedWhitening, Whitening, WhiteningKind};
