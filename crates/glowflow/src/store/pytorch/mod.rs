//! Weights of other projects' PyTorch models.

mod archive;
mod chaiyujin;
mod layout;
mod network;
mod normflows;
mod peer;
mod pickle;
mod rosinality;
mod state_dict;
mod weights;
mod write;
mod y0ast;
mod zip;

pub use archive::{Checkpoint, NamedTensor};
pub use layout::{EngineTensor, EngineTensors, Numbers};
pub(crate) use network::{tensors_by_name, with_tensors};
pub use peer::{ImportOptions, Imported, InputRange, Peer};
pub(crate) use state_dict::write_rosinality;
pub use weights::{Missing, Report};
