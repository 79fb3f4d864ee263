//! Latents, in and out, and what is done with them without a model.

use glowflow::{Error, InterpolationPath, LatentDistribution, Result};
use napi::Env;
use napi::bindgen_prelude::{Float32Array, Float32ArraySlice};
use napi_derive::napi;

use crate::error::to_napi;
use crate::task::guard;

/// Latents from JavaScript.
#[napi(object, object_to_js = false)]
pub struct LatentRows {
    /// `count x dims` values.
    pub data: Float32Array,
    /// Number of rows.
    pub count: u32,
    /// Length of a row.
    pub dims: u32,
}

impl LatentRows {
    /// A copy.
    pub fn copy(&self) -> glowflow::Latents {
        glowflow::Latents { data: self.data.to_vec(), count: self.count as usize, dims: self.dims as usize }
    }
}

/// Latents for JavaScript.
#[napi(object, object_from_js = false)]
pub struct Latents<'env> {
    /// `count x dims` values.
    pub data: Float32ArraySlice<'env>,
    /// Number of rows.
    pub count: u32,
    /// Length of a row.
    pub dims: u32,
}

impl<'env> Latents<'env> {
    /// Copies into an array of V8's.
    pub fn new(env: &'env Env, latents: glowflow::Latents) -> napi::Result<Self> {
        let data = Float32ArraySlice::copy_from(env, &latents.data)?;
        Ok(Self { data, count: latents.count as u32, dims: latents.dims as u32 })
    }
}

/// Where a scale's latents lie in a row, and what they are drawn from.
#[napi(object)]
pub struct LatentScale {
    /// Index of its first value.
    pub offset: u32,
    /// Height, width, channels.
    #[napi(ts_type = "readonly [height: number, width: number, channels: number]")]
    pub shape: (u32, u32, u32),
    /// Their distribution under the model; 'normal' where left out.
    #[napi(ts_type = "'normal' | 'logistic'")]
    pub distribution: Option<String>,
}

impl From<glowflow::LatentScale> for LatentScale {
    fn from(scale: glowflow::LatentScale) -> Self {
        let [height, width, channels] = scale.shape.map(|size| size as u32);
        let distribution = match scale.distribution {
            LatentDistribution::Normal => None,
            LatentDistribution::Logistic => Some("logistic".to_owned()),
        };
        Self { offset: scale.offset as u32, shape: (height, width, channels), distribution }
    }
}

impl TryFrom<LatentScale> for glowflow::LatentScale {
    type Error = Error;

    fn try_from(LatentScale { offset, shape: (height, width, channels), distribution }: LatentScale) -> Result<Self> {
        let distribution = match distribution.as_deref() {
            None | Some("normal") => LatentDistribution::Normal,
            Some("logistic") => LatentDistribution::Logistic,
            Some(name) => return Err(Error::option("distribution", "'normal' or 'logistic'", name)),
        };
        Ok(Self { offset: offset as usize, shape: [height, width, channels].map(|size| size as usize), distribution })
    }
}

/// The path of this name.
pub fn interpolation_path(name: &str) -> Result<InterpolationPath> {
    match name {
        "linear" => Ok(InterpolationPath::Linear),
        "spherical" => Ok(InterpolationPath::Spherical),
        _ => Err(Error::option("path", "'linear' or 'spherical'", name)),
    }
}

/// Rows from each to its counterpart.
#[napi]
pub fn interpolate_latents(
    env: &Env,
    from: LatentRows,
    to: LatentRows,
    frames: u32,
    #[napi(ts_arg_type = "'linear' | 'spherical'")] path: String,
) -> napi::Result<Latents<'_>> {
    edited(env, || from.copy().interpolate(&to.copy(), frames as usize, interpolation_path(&path)?))
}

/// Latents moved by `amount` along a direction.
#[napi]
pub fn add_direction(
    env: &Env,
    latents: LatentRows,
    direction: Float32Array,
    amount: f64,
) -> napi::Result<Latents<'_>> {
    edited(env, || latents.copy().shift(&direction, &[amount as f32]))
}

/// Latents whose `scales` are drawn anew. `layout`: where every scale lies.
#[napi]
pub fn resample(
    env: &Env,
    latents: LatentRows,
    layout: Vec<LatentScale>,
    scales: Vec<u32>,
    temperature: f64,
    seed: i64,
) -> napi::Result<Latents<'_>> {
    let scales: Vec<usize> = scales.into_iter().map(|scale| scale as usize).collect();
    edited(env, || {
        let layout = layout.into_iter().map(glowflow::LatentScale::try_from).collect::<Result<Vec<_>>>()?;
        latents.copy().resample(&layout, &scales, temperature as f32, seed as u64)
    })
}

fn edited(env: &Env, edit: impl FnOnce() -> Result<glowflow::Latents>) -> napi::Result<Latents<'_>> {
    Latents::new(env, guard(edit).map_err(|error| to_napi(&error))?)
}
