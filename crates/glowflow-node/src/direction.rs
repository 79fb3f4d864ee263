//! Directions with names, and their files.

use std::path::PathBuf;

use glowflow::store;
use napi::Env;
use napi::bindgen_prelude::{Float32Array, Float32ArraySlice, PromiseRaw};
use napi_derive::napi;

use crate::task::spawn;

/// A direction for JavaScript.
#[napi(object, object_from_js = false)]
pub struct NamedDirection<'env> {
    /// The attribute or class.
    pub name: String,
    /// In the order of a row of latents.
    pub data: Float32ArraySlice<'env>,
}

impl<'env> NamedDirection<'env> {
    /// Copies into arrays of V8's.
    pub fn list(env: &'env Env, directions: Vec<glowflow::NamedDirection>) -> napi::Result<Vec<Self>> {
        let copy = |glowflow::NamedDirection { name, values }| {
            Ok(Self { name, data: Float32ArraySlice::copy_from(env, &values)? })
        };
        directions.into_iter().map(copy).collect()
    }
}

/// A direction from JavaScript.
#[napi(object, object_to_js = false)]
pub struct DirectionValues {
    /// The attribute or class.
    pub name: String,
    /// In the order of a row of latents.
    pub data: Float32Array,
}

/// Writes directions to one file.
#[napi]
pub fn save_directions(env: &Env, file: String, directions: Vec<DirectionValues>) -> napi::Result<PromiseRaw<'_, ()>> {
    let copy = |DirectionValues { name, data }| glowflow::NamedDirection { name, values: data.to_vec() };
    let directions: Vec<_> = directions.into_iter().map(copy).collect();
    let file = PathBuf::from(file);
    spawn(env, move || store::directions::write(&file, &directions), |_, ()| Ok(()))
}

/// Directions from their file.
#[napi]
pub fn load_directions(env: &Env, file: String) -> napi::Result<PromiseRaw<'_, Vec<NamedDirection<'_>>>> {
    let file = PathBuf::from(file);
    spawn(env, move || store::directions::read(&file), NamedDirection::list)
}
