//! What sits inside couplings and priors.

mod conv;
mod edge;
mod zero_conv;

pub use conv::{ConvNet, ConvNetConfig, PreparedConvNet};
pub use zero_conv::{PreparedZeroConv, ZeroConv};
