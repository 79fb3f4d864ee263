//! What the engine promises, tested through its public API. One binary: burn is linked once.

mod classes;
mod common;
mod determinism;
mod distribution;
mod editing;
mod files;
mod invariants;
mod laws;
mod memory;
mod models;
mod nice;
mod peak;
mod precision;
mod pytorch;
mod realnvp;
mod training;
mod wgpu;
