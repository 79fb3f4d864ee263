//! Weights of other projects' PyTorch models.

mod archive;
mod chaiyujin;
mod layout;
mod normflows;
mod peer;
mod pickle;
mod rosinality;
mod weights;
mod y0ast;
mod zip;

pub use archive::{Checkpoint, NamedTensor};
pub use layout::{EngineTensor, EngineTensors, Numbers};
pub use peer::{Imported, Peer};
pub use weights::{Missing, Report};
