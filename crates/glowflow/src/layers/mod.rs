//! The invertible layers, one a file.

mod actnorm;
mod additive;
mod channel_coupling;
mod coupling;
mod logit;
mod masked_coupling;
mod mix;
mod partition;
mod permutation;
mod rearrange;
mod rescaled;
mod scaling;
mod step;
mod whitening;

pub use actnorm::{ActNorm, LOG_SCALE_FACTOR, Moments, ScaleForm};
pub use additive::{AdditiveCoupling, PreparedAdditive, SavedAdditive};
pub use channel_coupling::{ChannelCoupling, ChannelCouplingConfig};
pub use coupling::{Coupling, CouplingConfig, PreparedCoupling, SavedCoupling};
pub use logit::{LIMIT as LOGIT_LIMIT, Logit, PreparedLogit, SLOPE as LOGIT_SLOPE};
pub use masked_coupling::{MaskedCoupling, MaskedCouplingConfig};
pub use mix::{Mix, PreparedMix};
pub use partition::{Partition, Parts};
pub use permutation::{Permutation, PermutationKind};
pub use rearrange::Rearrange;
pub use rescaled::{FoldedRescaled, PreparedRescaled, SavedRescaled};
pub use scaling::{PreparedScaling, Scaling};
pub use step::{FlowStep, PreparedStep, SavedStep, StepConfig};
pub use whitening::{FoldedWhitening, PreparedWhitening, Stretch, Whitening, WhiteningKind};
