//! Work off Node's thread, and the means to stop it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use glowflow::{ClassLabels, Result};
use napi::bindgen_prelude::{PromiseRaw, ToNapiValue, Uint32Array, spawn_blocking};
use napi::{Either, Env, Error};
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
    convert: impl FnOnce(&'env Env, T) -> napi::Result<V> + 'static,
) -> napi::Result<PromiseRaw<'env, V>>
where
    T: Send + 'static,
    V: ToNapiValue + 'env,
{
    let task = async move {
        let outcome = spawn_blocking(move || guard(work)).await;
        outcome.map_err(|error| Error::from_reason(error.to_string()))?.map_err(|error| to_napi(&error))
    };
    env.spawn_future_with_callback(task, convert)
}

/// `work`, with a panic turned into an error.
pub fn guard<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(glowflow::Error::from_panic(&*panic, "the engine")))
}
