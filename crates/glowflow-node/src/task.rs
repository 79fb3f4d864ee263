//! Work off Node's thread, and the means to stop it.
#![allow(unsafe_code)] // A promise is settled by hand; napi's own way goes through two more threads.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use glowflow::{ClassLabels, Device, Result};
use napi::bindgen_prelude::{PromiseRaw, ToNapiValue, Uint32Array, spawn_blocking};
use napi::{Either, Env, JsValue, sys::napi_value};
use napi_derive::napi;

use crate::device;
use crate::error::to_napi;

/// What may be said about any call: how many images at once, their classes, and that it is no longer wanted.
#[napi]
pub struct Call {
    pub(crate) inner: glowflow::Call,
}

#[napi]
impl Call {
    /// `batch_size`: images worked on at once; the engine's default without it. `labels`: one class for all images or
    /// one each. `precision`: of the coupling nets, f32 without it.
    #[napi(constructor)]
    pub fn new(
        batch_size: Option<u32>,
        labels: Option<Either<u32, Uint32Array>>,
        precision: Option<String>,
    ) -> napi::Result<Self> {
        let labels = labels.map(|labels| match labels {
            Either::A(label) => ClassLabels::One(label),
            Either::B(labels) => ClassLabels::Each(labels.to_vec()),
        });
        let batch_size = batch_size.map(|size| size as usize);
        let precision = device::precision(precision.as_deref()).map_err(|error| to_napi(&error))?;
        Ok(Self { inner: glowflow::Call { cancel: Arc::default(), batch_size, labels, precision } })
    }

    /// Ends the call between two parts of its work.
    #[napi]
    pub fn cancel(&self) {
        self.inner.cancel.store(true, Ordering::Relaxed);
    }
}

/// Runs `work` on a thread for blocking work and gives its result, made a JavaScript value by `convert`, to a promise.
pub fn spawn<'env, T, V>(
    env: &'env Env,
    work: impl FnOnce() -> Result<T> + Send + 'static,
    convert: impl FnOnce(&'env Env, T) -> napi::Result<V> + Send + 'static,
) -> napi::Result<PromiseRaw<'env, V>>
where
    T: Send + 'static,
    V: ToNapiValue + 'env,
{
    promise(env, convert, |settle| drop(spawn_blocking(move || settle(guard(work)))))
}

/// As [`spawn`], on the thread of `device` itself: for work that is little more than one look at a model, which handing it
/// from thread to thread would double.
pub fn spawn_on<'env, T, V>(
    env: &'env Env,
    device: &Device,
    work: impl FnOnce() -> Result<T> + Send + 'static,
    convert: impl FnOnce(&'env Env, T) -> napi::Result<V> + Send + 'static,
) -> napi::Result<PromiseRaw<'env, V>>
where
    T: Send + 'static,
    V: ToNapiValue + 'env,
{
    promise(env, convert, |settle| {
        if let Err(job) = device.submit(work, settle) {
            // Node's thread does not wait for room in the queue.
            drop(spawn_blocking(job));
        }
    })
}

/// Calls `start` with what settles a promise from any thread, and gives the promise.
fn promise<'env, T, V>(
    env: &'env Env,
    convert: impl FnOnce(&'env Env, T) -> napi::Result<V> + Send + 'static,
    start: impl FnOnce(Box<dyn FnOnce(Result<T>) + Send>),
) -> napi::Result<PromiseRaw<'env, V>>
where
    T: Send + 'static,
    V: ToNapiValue + 'env,
{
    let (deferred, promise) = env.create_deferred::<napi_value, _>()?;
    start(Box::new(move |outcome| match outcome {
        Ok(value) => deferred.resolve(move |env| {
            // SAFETY: 'env is the life of a handle scope, as which the callback that this runs in has one of its own; the
            // value ends before it.
            let here = unsafe { std::mem::transmute::<&Env, &'env Env>(&env) };
            let value = convert(here, value)?;
            // SAFETY: on the thread of the environment, which is alive.
            unsafe { ToNapiValue::to_napi_value(env.raw(), value) }
        }),
        Err(error) => deferred.reject(to_napi(&error)),
    }));
    Ok(PromiseRaw::new(env.raw(), promise.raw()))
}

/// `work`, with a panic turned into an error.
pub fn guard<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    glowflow::Error::catch("the engine", work)
}
