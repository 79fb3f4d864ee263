//! The few hot operations, each twice: composed of burn tensor operations, for every backend and as the reference in
//! tests; and written for the CPU, in [`cpu`], which takes plain f32 tensors of the flex backend.
//!
//! Which one runs depends on the tensor alone: f64 and autodiff tensors take the composed way.

pub mod adam;
pub mod average;
pub mod batch_norm;
pub mod conv;
pub mod coupling;
pub mod cpu;
mod flex;
pub mod host;
pub mod net;
pub mod normal;
pub mod pixel;
mod precision;
pub mod reduce;
pub mod squeeze;
pub mod step;
pub(crate) mod taps;
pub mod triangular;

pub use cpu::scratch::Hoard;
pub use flex::{Path, available_paths, force, is_cpu};
pub use precision::Precision;
