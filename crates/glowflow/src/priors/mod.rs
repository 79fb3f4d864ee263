//! Priors of the latents: diagonal normals whose means and log-deviations a zero-initialised convolution gives, or that
//! are trained themselves; classes move them; and the logistic
//! distribution.

mod folded;
mod free;
mod labels;
mod logistic;
mod prior;
mod scores;
mod split;
mod top;

pub use folded::{FoldedNormal, FoldedPrior};
pub use free::{ChannelNormal, ClassNormal, FreeNormal};
pub use labels::Labels;
pub use prior::Prior;
pub use scores::ClassScores;
pub use split::{PreparedSplit, PriorForm, Split, SplitConfig};
pub use top::{PreparedTop, TopConfig, TopPrior};
