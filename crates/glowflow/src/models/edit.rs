//! Editing images by way of their latents.
//!
//! Kingma & Dhariwal 2018, section 6.

use super::dequantize::Noise;
use super::direction::check_direction;
use super::flow_model::{Call, FlowModel};
use super::latents::{InterpolationPath, check_amounts, check_frames};
use crate::error::{Error, Result};
use crate::images::{Images, Pixels};

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
        check_frames(frames)?;
        if from.count != to.count {
            return Err(Error::shape("images to interpolate to", from.count, to.count));
        }
        let encode = |images: &Images| self.encode(&Pixels::Bytes(images.clone()), &Noise::midpoint(), call);
        self.decode(&encode(from)?.interpolate(&encode(to)?, frames, path)?, &each_repeated(call, frames))
    }

    /// Each image once for each amount, image by image: decoded from its latent plus `amount` times the direction.
    pub fn shift(&self, images: &Images, direction: &[f32], amounts: &[f32], call: &Call) -> Result<Images> {
        check_direction("direction", direction, images.shape.dims())?;
        check_amounts(amounts)?;
        let latents = self.encode(&Pixels::Bytes(images.clone()), &Noise::midpoint(), call)?;
        self.decode(&latents.shift(direction, amounts)?, &each_repeated(call, amounts.len()))
    }
}

/// The call for images each of which has become `times`.
fn each_repeated(call: &Call, times: usize) -> Call {
    Call { labels: call.labels.as_ref().map(|labels| labels.each_repeated(times)), ..call.clone() }
}
