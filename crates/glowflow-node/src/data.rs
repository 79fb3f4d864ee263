//! Datasets.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use glowflow::data::{self, Continuous, InMemory};
use napi::Env;
use napi::bindgen_prelude::{Either, PromiseRaw, Uint8ArraySlice, Uint32Array, Uint32ArraySlice};
use napi_derive::napi;

use crate::custom::Stoppable;
use crate::error::to_napi;
use crate::images::{ByteImages, FloatPixels, Pixels};
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
    pub images: Either<ByteImages<'env>, FloatPixels<'env>>,
    /// Class of each.
    pub labels: Option<Uint32ArraySlice<'env>>,
    /// A row of 0 and 1 for each.
    pub attributes: Option<Uint8ArraySlice<'env>>,
}

impl Dataset {
    /// As one call reads it.
    pub(crate) fn during(&self, call: &glowflow::Call) -> Arc<dyn data::Dataset> {
        let cancel = Arc::clone(&call.cancel);
        Arc::new(Stoppable::new(self.inner.clone(), move || cancel.load(Ordering::Relaxed)))
    }
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

    /// Names of yes-or-no attributes.
    #[napi(getter)]
    pub fn attributes(&self) -> Option<Vec<String>> {
        self.inner.attributes().map(<[String]>::to_vec)
    }

    /// Tells these images, in this order, from any others.
    #[napi(getter)]
    pub fn fingerprint(&self) -> String {
        self.inner.fingerprint()
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
                let attributes = batch.attributes.map(|rows| Uint8ArraySlice::copy_from(env, rows)).transpose()?;
                let images = match batch.images {
                    glowflow::Pixels::Bytes(images) => Either::A(ByteImages::new(env, images)?),
                    glowflow::Pixels::Floats(images) => Either::B(FloatPixels::new(env, images)?),
                };
                Ok(LabelledImages { images, labels, attributes })
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

/// A copy of these images.
#[napi]
pub fn images_in_memory(images: Pixels, labels: Option<Uint32Array>) -> napi::Result<Dataset> {
    let labels = labels.map(|labels| labels.to_vec());
    let open = || -> glowflow::Result<Arc<dyn data::Dataset>> {
        Ok(match images.copy()? {
            glowflow::Pixels::Bytes(images) => Arc::new(InMemory::new(images, labels, None)?),
            glowflow::Pixels::Floats(images) => Arc::new(Continuous::new(images, labels)?),
        })
    };
    Ok(Dataset { inner: guard(open).map_err(|error| to_napi(&error))? })
}
