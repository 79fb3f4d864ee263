//! What sits inside couplings and priors.

mod conv;
mod edge;
mod mlp;
mod zero_conv;

pub use conv::{ConvNet, ConvNetConfig, PreparedConvNet};
pub use mlp::{Dense, Mlp, MlpConfig, MlpRun};
pub use zero_conv::{PreparedZeroConv, ZeroConv};
