//! What sits inside couplings and priors.

mod conv;
mod edge;
mod folded;
mod zero_conv;

pub use conv::{ConvNet, ConvNetConfig, FoldedNet, PreparedConvNet};
pub use folded::FoldedConv;
pub use zero_conv::{PreparedZeroConv, ZeroConv};
