//! Datasets.

use std::sync::Arc;

use glowflow::data::{self, InMemory};
use napi::Env;
use napi::bindgen_prelude::{PromiseRaw, Uint32Array, Uint32ArraySlice};
use napi_derive::napi;

use crate::error::to_napi;
use crate::images::{ByteImages, Pixels};
use crate::task::{guard, spawn};

/// Images that can be read in any order.
#[napi]
pub struct Dataset {
    pub(crate) inner: Arc<dyn data::Dataset>,
}

/// Images with what the data say of them.
#[napi(object, object_from_js = false)]
pub struct LabelledImages<'env> {
    /// The pixels.
    pub images: ByteImages<'env>,
    /// Class of each.
    pub labels: Option<Uint32ArraySlice<'env>>,
}

#[napi]
impl Dataset {
    /// Number of images.
    #[napi(getter)]
    pub fn length(&self) -> u32 {
        self.inner.len() as u32
    }

    /// Rows of an image.
    #[napi(getter)]
    pub fn height(&self) -> u32 {
        self.inner.shape().height as u32
    }

    /// Columns of an image.
    #[napi(getter)]
    pub fn width(&self) -> u32 {
        self.inner.shape().width as u32
    }

    /// Values of a pixel.
    #[napi(getter)]
    pub fn channels(&self) -> u32 {
        self.inner.shape().channels as u32
    }

    /// Class names in label order.
    #[napi(getter)]
    pub fn classes(&self) -> Option<Vec<String>> {
        self.inner.classes().map(<[String]>::to_vec)
    }

    /// The images of these indices, in this order.
    #[napi]
    pub fn batch<'env>(
        &self,
        env: &'env Env,
        indices: Vec<u32>,
    ) -> napi::Result<PromiseRaw<'env, LabelledImages<'env>>> {
        let data = self.inner.clone();
        let indices: Vec<usize> = indices.into_iter().map(|index| index as usize).collect();
        spawn(
            env,
            move || data.batch(&indices),
            |env, batch| {
                let labels = batch.labels.map(|labels| Uint32ArraySlice::copy_from(env, labels)).transpose()?;
                Ok(LabelledImages { images: ByteImages::new(env, batch.images)?, labels })
            },
        )
    }

    /// Parts of these fractions, drawn by `seed`.
    #[napi]
    pub fn split(&self, fractions: Vec<f64>, seed: i64) -> napi::Result<Vec<Dataset>> {
        let parts = guard(|| data::split(self.inner.clone(), &fractions, seed as u64)).map_err(|e| to_napi(&e))?;
        Ok(parts.into_iter().map(|inner| Dataset { inner }).collect())
    }
}

/// How stored images become those of a dataset.
#[napi(object, object_to_js = false)]
pub struct DatasetOptions {
    /// Pixels of background on every side.
    pub pad: Option<u32>,
    /// Red, green and blue.
    pub background: Option<Vec<u8>>,
    /// 1, 3 or 4.
    pub channels: Option<u32>,
}

impl From<DatasetOptions> for data::DatasetOptions {
    fn from(options: DatasetOptions) -> Self {
        let default = Self::default();
        Self {
            pad: options.pad.map_or(default.pad, |pad| pad as usize),
            background: options.background.and_then(|rgb| rgb.try_into().ok()).unwrap_or(default.background),
            channels: options.channels.map(|channels| channels as usize).or(default.channels),
            ..default
        }
    }
}

/// MNIST-style IDX files, plain or gzipped.
#[napi]
pub fn idx_files(
    env: &Env,
    images: String,
    labels: Option<String>,
    options: DatasetOptions,
) -> napi::Result<PromiseRaw<'_, Dataset>> {
    spawn(
        env,
        move || data::idx_files(images.as_ref(), labels.as_ref().map(AsRef::as_ref), &options.into()),
        |_, data| Ok(Dataset { inner: Arc::new(data) }),
    )
}

/// A copy of these images.
#[napi]
pub fn images_in_memory(images: Pixels, labels: Option<Uint32Array>) -> napi::Result<Dataset> {
    let labels = labels.map(|labels| labels.to_vec());
    let data = guard(|| InMemory::new(images.copy_bytes()?, labels, None)).map_err(|error| to_napi(&error))?;
    Ok(Dataset { inner: Arc::new(data) })
}
