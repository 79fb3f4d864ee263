//! Models.

use std::path::PathBuf;
use std::sync::Arc;

use glowflow::RunData;
use napi::Env;
use napi::bindgen_prelude::{Float32Array, Float32ArraySlice, Float64ArraySlice, Function, PromiseRaw, ToNapiValue};
use napi_derive::napi;

use crate::data::Dataset;
use crate::device::{self, Device, DeviceInfo};
use crate::direction::NamedDirection;
use crate::error::to_napi;
use crate::images::{ByteImages, FloatPixels, Noise, Pixels};
use crate::latents::{LatentRows, LatentScale, Latents, interpolation_path};
use crate::options::{model_config, over_default};
use crate::task::{Call, spawn, spawn_on};
use crate::training::{Checkpoint, Run};

/// A model with new weights. `config`: an engine `ModelConfig` as JSON, defaults left out. Refused where it cannot be run in
/// `precision`.
#[napi]
pub fn create_model<'env>(
    env: &'env Env,
    config: String,
    device: &Device,
    precision: String,
) -> napi::Result<PromiseRaw<'env, Model>> {
    let config = model_config(&config)?;
    let device = device.inner.clone();
    let create = move || {
        config.check_precision(device::precision(Some(&precision))?, device.info())?;
        glowflow::FlowModel::create(config, &device)
    };
    spawn(env, create, |_, inner| Ok(Model { inner }))
}

/// A model from its file, or from a checkpoint's folder. Refused where it cannot be run in `precision`.
#[napi]
pub fn load_model<'env>(
    env: &'env Env,
    path: String,
    device: &Device,
    precision: String,
) -> napi::Result<PromiseRaw<'env, Model>> {
    let device = device.inner.clone();
    let load = move || {
        let model = glowflow::FlowModel::load(&PathBuf::from(path), &device)?;
        model.check_precision(device::precision(Some(&precision))?)?;
        Ok(model)
    };
    spawn(env, load, |_, inner| Ok(Model { inner }))
}

/// Bits per dimension over a dataset.
#[napi(object, object_from_js = false)]
pub struct Evaluation {
    /// Mean.
    pub bits_per_dim: f64,
    /// Of the mean.
    pub standard_error: f64,
    /// How many were scored.
    pub images: u32,
    /// Part of them that the classifier takes for another class, where there is one.
    pub classification_error: Option<f64>,
}

/// How well a model inverts.
#[napi(object, object_from_js = false)]
pub struct Verification {
    /// Largest difference of a value that came back, in levels of 256.
    pub max_error: f64,
    /// 8-bit values that differ.
    pub pixel_mismatches: u32,
    /// Largest condition number of a 1x1 convolution.
    pub max_condition_number: f64,
    /// Path of the layer with it.
    pub worst_layer: String,
}

/// A flow and its weights.
#[napi]
pub struct Model {
    pub(crate) inner: glowflow::FlowModel,
}

#[napi]
impl Model {
    /// The engine's `ModelConfig` as JSON, whole.
    #[napi(getter)]
    pub fn config(&self) -> napi::Result<String> {
        serde_json::to_string(self.inner.config()).map_err(|error| napi::Error::from_reason(error.to_string()))
    }

    /// The device that holds it.
    #[napi(getter)]
    pub fn device(&self) -> DeviceInfo {
        self.inner.device().info().into()
    }

    /// Trained numbers.
    #[napi(getter)]
    pub fn parameter_count(&self) -> f64 {
        self.inner.parameter_count() as f64
    }

    /// Optimizer steps the weights have had.
    #[napi(getter)]
    pub fn step(&self) -> f64 {
        self.inner.step() as f64
    }

    /// True once the actnorms have been set.
    #[napi(getter)]
    pub fn initialized(&self) -> bool {
        self.inner.initialized()
    }

    /// Where each scale's latents lie in a row, finest first.
    #[napi(getter)]
    pub fn latent_scales(&self) -> Vec<LatentScale> {
        self.inner.latent_scales().into_iter().map(LatentScale::from).collect()
    }

    /// Sets the actnorms from data.
    #[napi]
    pub fn initialize<'env>(
        &self,
        env: &'env Env,
        data: &Dataset,
        init_images: Option<u32>,
    ) -> napi::Result<PromiseRaw<'env, ()>> {
        let (model, data) = (self.inner.clone(), data.inner.clone());
        let images = init_images.map_or(glowflow::TrainConfig::default().init_images, |images| images as usize);
        spawn(env, move || model.initialize(&*data, images), |_, ()| Ok(()))
    }

    /// Images to latents.
    #[napi]
    pub fn encode<'env>(
        &self,
        env: &'env Env,
        images: Pixels,
        noise: Noise,
        call: &Call,
    ) -> napi::Result<PromiseRaw<'env, Latents<'env>>> {
        let (images, noise) = (copied(images.copy())?, copied(noise.copy())?);
        let count = images.count();
        self.spawn(env, count, call, move |model, call| model.encode(&images, &noise, call), Latents::new)
    }

    /// Latents to images.
    #[napi]
    pub fn decode<'env>(
        &self,
        env: &'env Env,
        latents: LatentRows,
        call: &Call,
    ) -> napi::Result<PromiseRaw<'env, ByteImages<'env>>> {
        let latents = latents.copy();
        self.spawn(env, latents.count, call, move |model, call| model.decode(&latents, call), ByteImages::new)
    }

    /// Latents to continuous pixel values.
    #[napi]
    pub fn decode_float<'env>(
        &self,
        env: &'env Env,
        latents: LatentRows,
        call: &Call,
    ) -> napi::Result<PromiseRaw<'env, FloatPixels<'env>>> {
        let latents = latents.copy();
        self.spawn(env, latents.count, call, move |model, call| model.decode_float(&latents, call), FloatPixels::new)
    }

    /// Log-probability of each image, nats.
    #[napi]
    pub fn log_prob<'env>(
        &self,
        env: &'env Env,
        images: Pixels,
        noise: Noise,
        call: &Call,
    ) -> napi::Result<PromiseRaw<'env, Float64ArraySlice<'env>>> {
        let (images, noise) = (copied(images.copy())?, copied(noise.copy())?);
        let looks = images.count() * noise.draws as usize;
        let work = move |model: &glowflow::FlowModel, call: &_| model.log_prob(&images, &noise, call);
        self.spawn(env, looks, call, work, Float64ArraySlice::copy_from)
    }

    /// Bits per dimension of each image.
    #[napi]
    pub fn bits_per_dim<'env>(
        &self,
        env: &'env Env,
        images: Pixels,
        noise: Noise,
        call: &Call,
    ) -> napi::Result<PromiseRaw<'env, Float64ArraySlice<'env>>> {
        let (images, noise) = (copied(images.copy())?, copied(noise.copy())?);
        let looks = images.count() * noise.draws as usize;
        let work = move |model: &glowflow::FlowModel, call: &_| model.bits_per_dim(&images, &noise, call);
        self.spawn(env, looks, call, work, Float64ArraySlice::copy_from)
    }

    /// Probabilities of the classes for each image, a row an image.
    #[napi]
    pub fn classify<'env>(
        &self,
        env: &'env Env,
        images: Pixels,
        noise: Noise,
        call: &Call,
    ) -> napi::Result<PromiseRaw<'env, Vec<Float64ArraySlice<'env>>>> {
        let (model, call) = (self.inner.clone(), call.inner.clone());
        let (images, noise) = (copied(images.copy())?, copied(noise.copy())?);
        let classify = move || model.classify(&images, &noise, &call);
        spawn(env, classify, |env, rows| rows.into_iter().map(|row| Float64ArraySlice::copy_from(env, row)).collect())
    }

    /// Mean bits per dimension over a dataset.
    #[napi]
    pub fn evaluate<'env>(
        &self,
        env: &'env Env,
        data: &Dataset,
        limit: Option<u32>,
        seed: i64,
        call: &Call,
    ) -> napi::Result<PromiseRaw<'env, Evaluation>> {
        let (model, data, call) = (self.inner.clone(), data.during(&call.inner), call.inner.clone());
        let limit = limit.map(|limit| limit as usize);
        spawn(
            env,
            move || model.evaluate(&*data, limit, seed as u64, &call),
            |_, evaluation| {
                Ok(Evaluation {
                    bits_per_dim: evaluation.bits_per_dim,
                    standard_error: evaluation.standard_error,
                    images: evaluation.images as u32,
                    classification_error: evaluation.classification_error,
                })
            },
        )
    }

    /// New images.
    #[napi]
    pub fn sample<'env>(
        &self,
        env: &'env Env,
        count: u32,
        temperature: f64,
        seed: i64,
        call: &Call,
    ) -> napi::Result<PromiseRaw<'env, ByteImages<'env>>> {
        let (count, temperature, seed) = (count as usize, temperature as f32, seed as u64);
        self.spawn(env, count, call, move |model, call| model.sample(count, temperature, seed, call), ByteImages::new)
    }

    /// Frames between images, through latent space.
    #[napi]
    pub fn interpolate<'env>(
        &self,
        env: &'env Env,
        from: Pixels,
        to: Pixels,
        frames: u32,
        #[napi(ts_arg_type = "'linear' | 'spherical'")] path: String,
        call: &Call,
    ) -> napi::Result<PromiseRaw<'env, ByteImages<'env>>> {
        let (model, call) = (self.inner.clone(), call.inner.clone());
        let (from, to) = (copied(from.copy_bytes())?, copied(to.copy_bytes())?);
        let path = copied(interpolation_path(&path))?;
        spawn(env, move || model.interpolate(&from, &to, frames as usize, path, &call), ByteImages::new)
    }

    /// From the mean latent of `without` to that of `having`.
    #[napi]
    pub fn direction<'env>(
        &self,
        env: &'env Env,
        having: &Dataset,
        without: &Dataset,
        call: &Call,
    ) -> napi::Result<PromiseRaw<'env, Float32ArraySlice<'env>>> {
        let (model, call) = (self.inner.clone(), call.inner.clone());
        let (having, without) = (having.during(&call), without.during(&call));
        spawn(env, move || model.direction(&*having, &*without, &call), Float32ArraySlice::copy_from)
    }

    /// One direction for each attribute, or else for each class; `only` these.
    #[napi]
    pub fn directions<'env>(
        &self,
        env: &'env Env,
        data: &Dataset,
        only: Option<Vec<String>>,
        call: &Call,
    ) -> napi::Result<PromiseRaw<'env, Vec<NamedDirection<'env>>>> {
        let (model, data, call) = (self.inner.clone(), data.inner.clone(), call.inner.clone());
        spawn(env, move || model.directions(&*data, only.as_deref(), &call), NamedDirection::list)
    }

    /// Each image once for each amount.
    #[napi]
    pub fn shift<'env>(
        &self,
        env: &'env Env,
        images: Pixels,
        direction: Float32Array,
        amounts: Vec<f64>,
        call: &Call,
    ) -> napi::Result<PromiseRaw<'env, ByteImages<'env>>> {
        let (model, call) = (self.inner.clone(), call.inner.clone());
        let (images, direction) = (copied(images.copy_bytes())?, direction.to_vec());
        let amounts: Vec<f32> = amounts.into_iter().map(|amount| amount as f32).collect();
        spawn(env, move || model.shift(&images, &direction, &amounts, &call), ByteImages::new)
    }

    /// How well the model inverts on these images.
    #[napi]
    pub fn verify<'env>(
        &self,
        env: &'env Env,
        images: Pixels,
        call: &Call,
    ) -> napi::Result<PromiseRaw<'env, Verification>> {
        let (model, call, images) = (self.inner.clone(), call.inner.clone(), copied(images.copy())?);
        spawn(
            env,
            move || model.verify(&images, &call),
            |_, verification| {
                Ok(Verification {
                    max_error: f64::from(verification.max_error),
                    pixel_mismatches: verification.pixel_mismatches as u32,
                    max_condition_number: verification.max_condition_number,
                    worst_layer: verification.worst_layer,
                })
            },
        )
    }

    /// Starts training on a thread of its own. `config`: an engine `TrainConfig` as JSON, defaults left out; `from`: what
    /// the model was read with; `wake` is called, without arguments, when the run has news.
    #[napi]
    pub fn train(
        &self,
        data: &Dataset,
        evaluate: Option<&Dataset>,
        config: String,
        from: Option<&Checkpoint>,
        wake: Function<'_, (), ()>,
    ) -> napi::Result<Run> {
        let held_out = evaluate.map(|data| Arc::clone(&data.inner));
        let data = RunData { training: data.inner.clone(), held_out };
        let from = from.map(Checkpoint::take).transpose()?;
        Run::start(self.inner.clone(), data, over_default(&config)?, from, &wake)
    }

    /// Writes weights and config to one file.
    #[napi]
    pub fn save<'env>(&self, env: &'env Env, file: String) -> napi::Result<PromiseRaw<'env, ()>> {
        let (model, file) = (self.inner.clone(), PathBuf::from(file));
        spawn(env, move || model.save(&file), |_, ()| Ok(()))
    }

    /// Writes a part of the model as an ONNX file.
    #[napi]
    pub fn export_onnx<'env>(
        &self,
        env: &'env Env,
        file: String,
        #[napi(ts_arg_type = "'encode' | 'decode' | 'logProb'")] part: String,
    ) -> napi::Result<PromiseRaw<'env, ()>> {
        let (model, file, part) = (self.inner.clone(), PathBuf::from(file), copied(part.parse())?);
        spawn(env, move || model.export_onnx(&file, part), |_, ()| Ok(()))
    }

    /// Writes the weights as rosinality/glow-pytorch saves them.
    #[napi]
    pub fn export_rosinality<'env>(&self, env: &'env Env, file: String) -> napi::Result<PromiseRaw<'env, ()>> {
        let (model, file) = (self.inner.clone(), PathBuf::from(file));
        spawn(env, move || model.export_rosinality(&file), |_, ()| Ok(()))
    }

    /// Frees the device's memory.
    #[napi]
    pub fn dispose<'env>(&self, env: &'env Env) -> napi::Result<PromiseRaw<'env, ()>> {
        let model = self.inner.clone();
        let dispose = move || {
            model.dispose();
            Ok(())
        };
        spawn(env, dispose, |_, ()| Ok(()))
    }
}

impl Model {
    /// Runs `work` where a call that looks at so many images belongs: short ones on the device's own thread.
    fn spawn<'env, T, V>(
        &self,
        env: &'env Env,
        images: usize,
        call: &Call,
        work: impl FnOnce(&glowflow::FlowModel, &glowflow::Call) -> glowflow::Result<T> + Send + 'static,
        convert: impl FnOnce(&'env Env, T) -> napi::Result<V> + Send + 'static,
    ) -> napi::Result<PromiseRaw<'env, V>>
    where
        T: Send + 'static,
        V: ToNapiValue + 'env,
    {
        let (model, call) = (self.inner.clone(), call.inner.clone());
        let short = model.is_one_part(images, &call);
        let work = move || work(&model, &call);
        if short { spawn_on(env, self.inner.device(), work, convert) } else { spawn(env, work, convert) }
    }
}

fn copied<T>(result: glowflow::Result<T>) -> napi::Result<T> {
    result.map_err(|error| to_napi(&error))
}
