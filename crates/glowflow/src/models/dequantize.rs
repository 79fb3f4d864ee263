//! Between 8-bit pixels and the continuous values that a flow describes.
//!
//! Glow's code: a pixel of `b` bits is `floor(v / 2^(8 - b)) / 2^b - 0.5`, and lies somewhere in a bin 2^-b wide.

use burn::tensor::{Device, Tensor, TensorData};

use crate::error::{Error, Result};
use crate::images::{ImageShape, Pixels};
use crate::random::{Key, Purpose};

/// Where in its bin a pixel's value is put.
#[derive(Debug, Clone)]
pub enum Dequantize {
    /// Its middle: calls are repeatable, and 8-bit pixels come back exactly.
    Midpoint,
    /// A draw from the bin: the bound on the log-probability is right on average.
    Uniform,
    /// Given, one number in [0, 1) for each pixel.
    Given(Vec<f32>),
}

/// Dequantization of a call.
#[derive(Debug, Clone)]
pub struct Noise {
    /// Where in its bin a pixel's value is put.
    pub dequantize: Dequantize,
    /// Of [`Dequantize::Uniform`]'s draws.
    pub seed: u64,
    /// Draws of an importance-weighted estimate; 1 gives the lower bound that papers report.
    pub draws: u32,
}

impl Noise {
    /// The middle of each bin.
    pub fn midpoint() -> Self {
        Self { dequantize: Dequantize::Midpoint, seed: 0, draws: 1 }
    }

    /// One draw from each bin.
    pub fn uniform(seed: u64) -> Self {
        Self { dequantize: Dequantize::Uniform, seed, draws: 1 }
    }

    pub(super) fn check(&self, pixels: &Pixels) -> Result<()> {
        if self.draws == 0 {
            return Err(Error::option("draws", "a whole number above 0", 0));
        }
        if let Dequantize::Given(noise) = &self.dequantize {
            let expected = pixels.count() * pixels.shape().dims();
            if noise.len() != expected {
                return Err(Error::shape("dequantization noise", expected, noise.len()));
            }
            if let Some(value) = noise.iter().find(|value| !(0.0..1.0).contains(*value)) {
                return Err(Error::option("dequantize", "numbers from 0 up to but not including 1", value));
            }
            if self.draws > 1 {
                return Err(Error::option("draws", "1 where the noise is given", self.draws));
            }
        }
        Ok(())
    }
}

/// Scaled values of the images of `range`, around [-0.5, 0.5). `draw` numbers the draws of an image.
pub(super) fn scaled_values(
    pixels: &Pixels,
    range: std::ops::Range<usize>,
    bits: u32,
    noise: &Noise,
    draw: u64,
) -> Vec<f32> {
    let dims = pixels.shape().dims();
    let mut values = vec![0.0; range.len() * dims];
    for (image, out) in range.zip(values.chunks_exact_mut(dims)) {
        match pixels {
            Pixels::Floats(floats) => scale(floats.image(image), out),
            Pixels::Bytes(bytes) => {
                match &noise.dequantize {
                    Dequantize::Midpoint => out.fill(0.5),
                    Dequantize::Given(noise) => out.copy_from_slice(&noise[image * dims..(image + 1) * dims]),
                    Dequantize::Uniform => {
                        Key { seed: noise.seed, purpose: Purpose::Likelihood, step: draw, image: image as u64 }
                            .stream()
                            .fill_uniform(out)
                    }
                }
                place_in_bins(bytes.image(image), bits, out);
            }
        }
    }
    values
}

/// Scaled images of a training step: the noise is keyed by the step and the image's index in its data set.
pub(crate) fn training_batch(
    pixels: &Pixels,
    indices: &[usize],
    bits: u32,
    seed: u64,
    step: u64,
    device: &Device,
) -> Tensor<4> {
    let dims = pixels.shape().dims();
    let mut values = vec![0.0; pixels.count() * dims];
    for (position, (out, &index)) in values.chunks_exact_mut(dims).zip(indices).enumerate() {
        match pixels {
            Pixels::Floats(floats) => scale(floats.image(position), out),
            Pixels::Bytes(bytes) => {
                let key = Key { seed, purpose: Purpose::Dequantize, step, image: index as u64 };
                key.stream().fill_uniform(out);
                place_in_bins(bytes.image(position), bits, out);
            }
        }
    }
    tensor(values, pixels.count(), pixels.shape(), device)
}

/// Scaled values of continuous pixels.
fn scale(pixels: &[f32], out: &mut [f32]) {
    for (out, value) in out.iter_mut().zip(pixels) {
        *out = value / 256.0 - 0.5;
    }
}

/// Turns positions within bins, [0, 1), into scaled values.
fn place_in_bins(pixels: &[u8], bits: u32, positions: &mut [f32]) {
    let bin = 1.0 / (1u32 << bits) as f32;
    for (value, &pixel) in positions.iter_mut().zip(pixels) {
        let level = pixel >> (8 - bits);
        *value = (f32::from(level) + *value) * bin - 0.5;
    }
}

/// `[count, height, width, channels]` on the device.
pub(super) fn tensor(values: Vec<f32>, count: usize, shape: ImageShape, device: &Device) -> Tensor<4> {
    Tensor::from_data(TensorData::new(values, [count, shape.height, shape.width, shape.channels]), device)
}

/// 8-bit pixels of scaled values: the lower end of each bin.
pub(super) fn to_bytes(values: &[f32], bits: u32) -> Vec<u8> {
    let bins = (1u32 << bits) as f32;
    let width = 256.0 / bins;
    values.iter().map(|value| (((value + 0.5) * bins).floor().clamp(0.0, bins - 1.0) * width) as u8).collect()
}

/// Scaled values as pixel values in [0, 256).
pub(super) fn to_floats(values: Vec<f32>) -> Vec<f32> {
    values.into_iter().map(|value| (value + 0.5) * 256.0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pixel_comes_back_from_the_middle_of_its_bin() {
        let pixels: Vec<u8> = (0..=255).collect();
        for bits in 1..=8 {
            let mut values = vec![0.5; 256];
            place_in_bins(&pixels, bits, &mut values);
            let expected: Vec<u8> = pixels.iter().map(|v| v >> (8 - bits) << (8 - bits)).collect();
            assert_eq!(to_bytes(&values, bits), expected, "{bits} bits");
        }
    }

    #[test]
    fn values_outside_are_clipped() {
        assert_eq!(to_bytes(&[-9.0, 9.0, f32::NAN], 8), [0, 255, 0]);
    }
}
