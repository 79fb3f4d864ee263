//! Pixels, in and out.

use glowflow::{Batch, FloatImages, ImageShape, Images, Result};
use napi::Env;
use napi::bindgen_prelude::{Either, Float32Array, Float32ArraySlice, Uint8Array, Uint8ArraySlice};
use napi_derive::napi;

/// Images from JavaScript: 8-bit ones, or floats in [0, 256).
#[napi(object, object_to_js = false)]
pub struct Pixels {
    /// `count x height x width x channels` values.
    pub data: Either<Uint8Array, Float32Array>,
    /// Number of images.
    pub count: u32,
    /// Rows.
    pub height: u32,
    /// Columns.
    pub width: u32,
    /// Values of a pixel.
    pub channels: u32,
}

impl Pixels {
    fn shape(&self) -> ImageShape {
        ImageShape { height: self.height as usize, width: self.width as usize, channels: self.channels as usize }
    }

    /// A copy, of either type.
    pub fn copy(&self) -> Result<glowflow::Pixels> {
        Ok(match &self.data {
            Either::A(_) => glowflow::Pixels::Bytes(self.copy_bytes()?),
            Either::B(data) => glowflow::Pixels::Floats(Batch::new(data.to_vec(), self.count as usize, self.shape())?),
        })
    }

    /// A copy, for calls that take 8-bit images only.
    pub fn copy_bytes(&self) -> Result<Images> {
        match &self.data {
            Either::A(data) => Batch::new(data.to_vec(), self.count as usize, self.shape()),
            Either::B(_) => Err(glowflow::Error::option("images.data", "a Uint8Array", "a Float32Array")),
        }
    }
}

/// 8-bit images for JavaScript.
#[napi(object, object_from_js = false)]
pub struct ByteImages<'env> {
    /// `count x height x width x channels` values.
    pub data: Uint8ArraySlice<'env>,
    /// Number of images.
    pub count: u32,
    /// Rows.
    pub height: u32,
    /// Columns.
    pub width: u32,
    /// Values of a pixel.
    pub channels: u32,
}

impl<'env> ByteImages<'env> {
    /// Copies into an array of V8's.
    pub fn new(env: &'env Env, images: Images) -> napi::Result<Self> {
        let ImageShape { height, width, channels } = images.shape;
        let data = Uint8ArraySlice::copy_from(env, &images.data)?;
        Ok(Self {
            data,
            count: images.count as u32,
            height: height as u32,
            width: width as u32,
            channels: channels as u32,
        })
    }
}

/// Continuous pixel values for JavaScript.
#[napi(object, object_from_js = false)]
pub struct FloatPixels<'env> {
    /// `count x height x width x channels` values.
    pub data: Float32ArraySlice<'env>,
    /// Number of images.
    pub count: u32,
    /// Rows.
    pub height: u32,
    /// Columns.
    pub width: u32,
    /// Values of a pixel.
    pub channels: u32,
}

impl<'env> FloatPixels<'env> {
    /// Copies into an array of V8's.
    pub fn new(env: &'env Env, images: FloatImages) -> napi::Result<Self> {
        let ImageShape { height, width, channels } = images.shape;
        let data = Float32ArraySlice::copy_from(env, &images.data)?;
        Ok(Self {
            data,
            count: images.count as u32,
            height: height as u32,
            width: width as u32,
            channels: channels as u32,
        })
    }
}

/// Where pixels are put in their bins.
#[napi(object, object_to_js = false)]
pub struct Noise {
    /// `"midpoint"`, `"uniform"`, or a number in [0, 1) for each pixel.
    #[napi(ts_type = "'midpoint' | 'uniform' | Float32Array")]
    pub dequantize: Either<String, Float32Array>,
    /// Of the draws.
    pub seed: i64,
    /// Draws of an importance-weighted estimate.
    pub draws: u32,
}

impl Noise {
    /// A copy.
    pub fn copy(&self) -> Result<glowflow::Noise> {
        let dequantize = match &self.dequantize {
            Either::A(name) if name == "midpoint" => glowflow::Dequantize::Midpoint,
            Either::A(name) if name == "uniform" => glowflow::Dequantize::Uniform,
            Either::A(name) => return Err(glowflow::Error::option("dequantize", "'midpoint' or 'uniform'", name)),
            Either::B(noise) => glowflow::Dequantize::Given(noise.to_vec()),
        };
        Ok(glowflow::Noise { dequantize, seed: self.seed as u64, draws: self.draws })
    }
}
