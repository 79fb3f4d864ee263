//! Weights of other projects' PyTorch models.

mod archive;
mod pickle;
mod zip;

pub use archive::{Checkpoint, NamedTensor};
