//! What the engine promises, tested through its public API. One binary: burn is linked once.

mod common;
mod determinism;
mod distribution;
mod editing;
mod files;
mod invariants;
mod laws;
mod memory;
mod models;
mod peak;
mod realnvp;
mod training;
mod wgpu;
