//! Our files: whole or not there, and never trusted when read.

pub mod directions;
pub mod file;
pub mod lock;
pub mod model;
pub mod onnx;
pub(crate) mod protobuf;
pub mod safetensors;
pub mod training;
