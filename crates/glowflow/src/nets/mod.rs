//! What sits inside couplings and priors.

mod conv;
mod edge;
mod folded;
mod mlp;
mod zero_conv;
mod zero_linear;

pub use conv::{ConvNet, ConvNetConfig, FoldedNet, NetForm, PreparedConvNet};
pub use folded::FoldedConv;
pub use mlp::{Dense, Mlp, MlpConfig, MlpRun};
pub use zero_conv::{Padding, PreparedZeroConv, ZeroConv, ZeroConvConfig};
pub use zero_linear::{PreparedZeroLinear, ZeroLinear};
