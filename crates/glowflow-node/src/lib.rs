//! The Node binding: JavaScript values to engine values and back.
//!
//! It decides nothing. Options are checked in `src/` and once more by the engine, whose `Default`s are the only ones.
//! An array is copied before the call that brings it returns, and results are copied into arrays that V8 owns, so no
//! thread of the engine ever sees JavaScript's memory. Whatever takes time runs on a thread of its own, never on
//! Node's.

#![cfg_attr(
    test,
    allow(dead_code, reason = "napi exports nothing from a test build, which clippy checks all the same")
)]

mod custom;
mod data;
mod device;
mod direction;
mod error;
mod exchange;
mod files;
mod images;
mod latents;
mod memory;
mod model;
mod options;
mod picture;
mod structure;
mod task;
mod training;
