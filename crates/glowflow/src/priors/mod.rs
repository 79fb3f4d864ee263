//! Priors of the latents: diagonal normals whose means and log-deviations a zero-initialised convolution gives, and the
//! logistic distribution.

mod labels;
mod logistic;
mod prior;
mod split;
mod top;

pub use labels::Labels;
pub use prior::Prior;
pub use split::{PreparedSplit, Split};
pub use top::{PreparedTop, TopPrior};
