//! Actnorm and permutation, run as one affine map of each pixel's channels: `y = W' x + b'`.
//!
//! With `y = W s (x + b)`: `W' = W diag(s)`, `b' = W' b`, and back `x = W'^-1 y - b`.

use std::sync::OnceLock;

use burn::module::Module;
use burn::tensor::Tensor;

use super::actnorm::ActNorm;
use super::permutation::{Matrix, Permutation};
use crate::error::{Error, Result};
use crate::flow::{Cotangent, Forward, Gradients, Invertible, Layer, Mode, Output, Pass, Pullback, accumulator};
use crate::kernels::host::read;
use crate::kernels::pixel::Pixel;
use crate::kernels::{is_cpu, pixel, reduce};
use crate::linalg;
use crate::nets::FoldedConv;

/// The first two parts of a flow step.
#[derive(Module, Debug)]
pub struct Mix {
    /// Scale and bias of each channel.
    pub actnorm: ActNorm,
    /// Mixes the channels.
    pub permutation: Permutation,
}

impl Layer for Mix {
    type Prepared = PreparedMix;

    fn prepare(&self, path: &str, pass: Pass) -> Result<PreparedMix> {
        let matrix = self.permutation.matrix(&format!("{path}.permutation"))?;
        let [channels, _] = matrix.weight.dims();
        let bias = self.actnorm.bias.val();
        let scale = self.actnorm.scale();
        // In training the log-det says it: on a GPU a look would be a wait.
        if pass.mode == Mode::Evaluation && read::<f32, 1>(scale.clone()).contains(&0.0) {
            return Err(Error::Singular { layer: format!("{path}.actnorm") });
        }
        let weight = matrix.weight.clone().cast(scale.dtype()) * scale.clone().reshape([1, channels]);
        let folded_bias = weight.clone().matmul(bias.reshape([channels, 1])).reshape([channels]);
        let dtype = accumulator(&weight.device());
        let log_det = self.actnorm.log_scale().cast(dtype).sum() + matrix.log_det.clone().cast(dtype);
        Ok(PreparedMix {
            path: path.to_owned(),
            actnorm: self.actnorm.clone(),
            matrix,
            scale,
            map: Pixel::new(weight, folded_bias),
            log_det,
            inverse: OnceLock::new(),
        })
    }
}

/// A [`Mix`] ready to run.
#[derive(Debug, Clone)]
pub struct PreparedMix {
    path: String,
    actnorm: ActNorm,
    matrix: Matrix,
    scale: Tensor<1>,
    /// `W'` and `b'`.
    map: Pixel,
    /// Of one pixel, nats. Shape `[1]`.
    log_det: Tensor<1>,
    /// `W'^-1` and `-b`, made when first asked for: a read-back on a GPU, and training without rebuilding needs none.
    inverse: OnceLock<Pixel>,
}

impl PreparedMix {
    /// As one map of each pixel.
    pub fn map(&self) -> &Pixel {
        &self.map
    }

    /// The map that undoes it.
    pub fn inverse_map(&self) -> Result<&Pixel> {
        if let Some(inverse) = self.inverse.get() {
            return Ok(inverse);
        }
        let weight = linalg::to_host(&self.map.weight);
        let inverse = linalg::inverse(&weight).ok_or_else(|| Error::Singular { layer: self.path.clone() })?;
        let inverse = linalg::to_device(&inverse, self.map.weight.dtype(), &self.map.weight.device());
        Ok(self.inverse.get_or_init(|| Pixel::new(inverse, self.actnorm.bias.val().neg())))
    }

    /// [`Invertible::inverse`] for rebuilding activations: on a GPU without a wait for the device where that can be.
    fn rebuild(&self, z: Tensor<4>) -> Result<Tensor<4>> {
        let on_device = if is_cpu(&z.device()) { None } else { self.matrix.device_inverse() };
        let Some(factors) = on_device else { return self.inverse(z) };
        let [_, _, _, channels] = z.dims();
        let by_channel = |values: Tensor<1>| values.reshape([1, 1, 1, channels]);
        let (scale, zeros) = (by_channel(self.scale.clone()), self.actnorm.bias.val().zeros_like());
        let solve =
            |z: Tensor<4>| factors.iter().fold(z, |z, factor| pixel::forward(&z, factor, &zeros)) / scale.clone();
        let x = solve(z.clone()) - by_channel(self.actnorm.bias.val());
        // What an inverse in f32 has missed, found and added.
        let missed = z - self.map.forward(&x);
        Ok(x + solve(missed))
    }

    /// As a plain 1x1 convolution.
    pub fn folded(&self) -> FoldedConv {
        FoldedConv::of_pixel(self.map.weight.clone(), self.map.bias.clone())
    }

    /// The inverse as a plain 1x1 convolution.
    pub fn folded_inverse(&self) -> Result<FoldedConv> {
        let inverse = self.inverse_map()?;
        Ok(FoldedConv::of_pixel(inverse.weight.clone(), inverse.bias.clone()))
    }

    /// `ln |det|` of one pixel, nats, where it is. Shape `[1]`.
    pub fn log_det(&self) -> &Tensor<1> {
        &self.log_det
    }

    /// `ln |det|` of one pixel, nats.
    pub fn log_det_of_pixel(&self) -> f64 {
        read(self.log_det.clone())[0]
    }
}

impl Invertible for PreparedMix {
    type Saved = Tensor<4>;

    fn forward(&self, x: Tensor<4>) -> Forward {
        let [batch, height, width, _] = x.dims();
        let log_det = self.log_det.clone().mul_scalar((height * width) as f64).expand([batch]);
        Forward::new(self.map.forward(&x), log_det)
    }

    fn forward_saving(&self, x: Tensor<4>) -> (Forward, Tensor<4>) {
        (self.forward(x.clone()), x)
    }

    fn inverse(&self, z: Tensor<4>) -> Result<Tensor<4>> {
        Ok(self.inverse_map()?.forward(&z))
    }

    fn backward(
        &self,
        out: Output,
        saved: Option<Tensor<4>>,
        cotangent: Cotangent,
        gradients: &mut Gradients,
    ) -> Result<Pullback> {
        let x = saved.map_or_else(|| self.rebuild(out.z), Ok)?;
        let [_, height, width, channels] = x.dims();
        let folded = &self.map.weight;
        let g = pixel::backward(&x, folded, &cotangent.z);
        let log_det = cotangent.log_det.sum().mul_scalar((height * width) as f64);
        // b' = W' b: the folded bias passes its gradient on to both.
        let weight = g.weight + g.bias.clone().reshape([channels, 1]) * self.actnorm.bias.val().reshape([1, channels]);
        let bias = folded.clone().transpose().matmul(g.bias.reshape([channels, 1])).reshape([channels]);
        let log_scale = reduce::column_dots(&weight, folded) + log_det.clone();
        self.matrix.backward(weight * self.scale.clone().reshape([1, channels]), log_det, gradients);
        gradients.add(&self.actnorm.bias, bias);
        self.actnorm.add_scale_gradient(log_scale, gradients);
        Ok(Pullback { x, dx: g.x })
    }

    /// Of actnorm and permutation together.
    fn condition_number(&self) -> f64 {
        linalg::condition_number(&linalg::to_host(&self.map.weight))
    }
}
