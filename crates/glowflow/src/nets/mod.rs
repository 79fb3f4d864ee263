//! What sits inside couplings and priors.

mod batch_norm;
mod conv;
mod edge;
mod folded;
mod mlp;
mod residual;
mod signed;
mod weight_norm;
mod zero_conv;
mod zero_linear;

pub use batch_norm::{BatchNorm, Moments};
pub use conv::{ConvNet, ConvNetConfig, FoldedNet, NetForm, PreparedConvNet};
pub use folded::{FoldedConv, FoldedNorm};
pub use mlp::{Dense, Mlp, MlpConfig, MlpRun};
pub use residual::{
    FoldedBlock, FoldedResidualNet, PreparedResidualNet, ResidualBlock, ResidualNet, ResidualNetConfig,
    SavedResidualNet,
};
pub use signed::{FoldedMask, FoldedSignedNet, PreparedSignedNet, SavedSignedNet, SignedNet, SignedNetConfig};
pub use weight_norm::{PreparedWeightNormConv, WeightNormConv, WeightNormConvConfig};
pub use zero_conv::{Padding, PreparedZeroConv, ZeroConv, ZeroConvConfig};
pub use zero_linear::{PreparedZeroLinear, ZeroLinear};
