//! Priors of the latents: diagonal normals whose means and log-deviations a zero-initialised convolution gives.

mod labels;
mod split;
mod top;

pub use labels::Labels;
pub use split::{PreparedSplit, Split};
pub use top::{PreparedTop, TopPrior};
