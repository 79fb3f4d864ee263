//! Editing in latent space: interpolation and attribute directions.
//!
//! Kingma & Dhariwal 2018, section 6.

use super::dequantize::{Noise, Pixels};
use super::flow_model::{Call, FlowModel, Latents};
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::images::Images;

/// Images encoded at once while a direction is computed.
const ENCODED_AT_ONCE: usize = 32;

/// The way from one latent to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InterpolationPath {
    /// Straight, as in the paper.
    Linear,
    /// On a great circle: the norm goes evenly from one end's to the other's.
    Spherical,
}

impl FlowModel {
    /// Frames from `from` to `to`, both included, one row of frames for each pair of images.
    pub fn interpolate(
        &self,
        from: &Images,
        to: &Images,
        frames: usize,
        path: InterpolationPath,
        call: &Call,
    ) -> Result<Images> {
        if frames < 2 {
            return Err(Error::option("frames", "a whole number above 1", frames));
        }
        if from.count != to.count {
            return Err(Error::shape("images to interpolate to", from.count, to.count));
        }
        let encode = |images: &Images| self.encode(&Pixels::Bytes(images.clone()), &Noise::midpoint(), call);
        let (from, to) = (encode(from)?, encode(to)?);
        let mut data = Vec::with_capacity(from.data.len() * frames);
        for (a, b) in from.data.chunks_exact(from.dims).zip(to.data.chunks_exact(to.dims)) {
            for frame in 0..frames {
                let t = frame as f64 / (frames - 1) as f64;
                let (weight_a, weight_b) = match path {
                    InterpolationPath::Linear => (1.0 - t, t),
                    InterpolationPath::Spherical => spherical(a, b, t),
                };
                data.extend(a.iter().zip(b).map(|(&a, &b)| (weight_a * f64::from(a) + weight_b * f64::from(b)) as f32));
            }
        }
        self.decode(&Latents { count: from.count * frames, dims: from.dims, data }, call)
    }

    /// The direction from the mean latent of `without` to that of `having`. Length: height x width x channels.
    pub fn direction(&self, having: &dyn Dataset, without: &dyn Dataset, call: &Call) -> Result<Vec<f32>> {
        let (having, without) = (self.mean_latent(having, call)?, self.mean_latent(without, call)?);
        Ok(having.iter().zip(without).map(|(h, w)| (h - w) as f32).collect())
    }

    fn mean_latent(&self, data: &dyn Dataset, call: &Call) -> Result<Vec<f64>> {
        self.check_shape("images", data.shape())?;
        if data.is_empty() {
            return Err(Error::shape("images", "at least 1", 0));
        }
        let mut sum = vec![0.0; data.shape().dims()];
        let parts = Call { batch_size: call.batch_size.or(Some(ENCODED_AT_ONCE)), cancel: call.cancel.clone() };
        self.in_parts(data.len(), &parts, |range| {
            let images = data.batch(&range.collect::<Vec<_>>())?.images;
            let latents = self.encode(&Pixels::Bytes(images), &Noise::midpoint(), call)?;
            for row in latents.data.chunks_exact(latents.dims) {
                sum.iter_mut().zip(row).for_each(|(sum, &value)| *sum += f64::from(value));
            }
            Ok(())
        })?;
        sum.iter_mut().for_each(|value| *value /= data.len() as f64);
        Ok(sum)
    }

    /// Each image once for each amount, image by image: decoded from its latent plus `amount` times the direction.
    pub fn shift(&self, images: &Images, direction: &[f32], amounts: &[f32], call: &Call) -> Result<Images> {
        if direction.len() != images.shape.dims() {
            return Err(Error::shape("direction", images.shape.dims(), direction.len()));
        }
        if let Some(amount) = amounts.iter().find(|amount| !amount.is_finite()) {
            return Err(Error::option("amounts", "finite numbers", amount));
        }
        let latents = self.encode(&Pixels::Bytes(images.clone()), &Noise::midpoint(), call)?;
        let mut data = Vec::with_capacity(latents.data.len() * amounts.len());
        for row in latents.data.chunks_exact(latents.dims) {
            for amount in amounts {
                data.extend(row.iter().zip(direction).map(|(z, d)| z + amount * d));
            }
        }
        self.decode(&Latents { count: latents.count * amounts.len(), dims: latents.dims, data }, call)
    }
}

/// Weights of both ends at `t` on the great circle through them; a straight line where they are nearly parallel.
fn spherical(a: &[f32], b: &[f32], t: f64) -> (f64, f64) {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
    let (norm_a, norm_b) = (dot(a, a).sqrt(), dot(b, b).sqrt());
    let angle = (dot(a, b) / (norm_a * norm_b)).clamp(-1.0, 1.0).acos();
    // The ends are exact: they are to decode to the inputs, pixel for pixel.
    if t == 0.0 || t == 1.0 || !angle.is_finite() || angle.sin() < 1e-6 {
        return (1.0 - t, t);
    }
    let norm = (1.0 - t) * norm_a + t * norm_b;
    let weight = |t: f64| (t * angle).sin() / angle.sin() * norm;
    (weight(1.0 - t) / norm_a, weight(t) / norm_b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spherical_path_keeps_the_norm_between_its_ends() {
        let (a, b) = ([3.0, 0.0], [0.0, 5.0]);
        let (wa, wb) = spherical(&a, &b, 0.5);
        let norm = ((3.0 * wa).powi(2) + (5.0 * wb).powi(2)).sqrt();
        assert!((norm - 4.0).abs() < 1e-12, "{norm}");
        assert_eq!(spherical(&a, &b, 0.0), (1.0, 0.0));
        assert_eq!(spherical(&a, &a, 0.5), (0.5, 0.5));
    }
}
