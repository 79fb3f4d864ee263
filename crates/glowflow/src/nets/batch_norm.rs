//! Batch normalisation: channels of mean 0 and variance 1 over the images of a batch and their pixels.
//!
//! Ioffe & Szegedy 2015; as it is in the nets and behind the couplings of Dinh, Sohl-Dickstein & Bengio 2017.

use burn::module::{Module, Param};
use burn::tensor::{Device, FloatDType, Tensor};

use super::folded::FoldedNorm;
use crate::flow::{Gradients, RunningAverage, Seen, accumulator};
use crate::kernels::batch_norm::{self, Norm, NormGradients};
use crate::kernels::{host::read, reduce, taps};

/// Added to a variance, as in RealNVP's code.
const EPSILON: f64 = 1e-4;

/// `(x - mean) / sqrt(variance + 1e-4) + bias`.
#[derive(Module, Debug)]
pub struct BatchNorm {
    /// Shape `[channels]`.
    pub mean: RunningAverage,
    /// Biased. Shape `[channels]`.
    pub variance: RunningAverage,
    /// Inside a net. Shape `[channels]`.
    pub bias: Option<Param<Tensor<1>>>,
}

impl BatchNorm {
    /// Near the identity until batches have been seen.
    pub fn new(channels: usize, bias: bool, device: &Device) -> Self {
        Self {
            mean: RunningAverage::new(Tensor::zeros([channels], device)),
            variance: RunningAverage::new(Tensor::ones([channels], device)),
            bias: bias.then(|| Param::from_tensor(Tensor::zeros([channels], device))),
        }
    }

    /// What a pass divides by. `x` is `[batch, height, width, channels]`.
    pub fn moments(&self, x: &Tensor<4>, seen: &mut Seen) -> Moments {
        let Seen::Batch(statistics) = seen else {
            return self.running();
        };
        let [batch, height, width, _] = x.dims();
        let known = (statistics.of(&self.mean).cloned(), statistics.of(&self.variance).cloned());
        let (mean, variance) = if let (Some(mean), Some(variance)) = known {
            (mean, variance)
        } else {
            let batch_norm::Moments { mean, variance } = batch_norm::moments(x);
            statistics.add(&self.mean, mean.clone());
            statistics.add(&self.variance, variance.clone());
            (mean, variance)
        };
        Moments { mean, variance, rows: Some(batch * height * width) }
    }

    fn running(&self) -> Moments {
        Moments { mean: self.mean.value.val(), variance: self.variance.value.val(), rows: None }
    }

    /// By running averages.
    pub fn folded(&self) -> FoldedNorm {
        let moments = self.running();
        let scale = moments.scale().reshape(moments.mean.dims());
        let offset = (moments.mean.clone() * scale.clone()).neg();
        FoldedNorm {
            scale,
            offset: match &self.bias {
                Some(bias) => offset + bias.val(),
                None => offset,
            },
            log_det: read(moments.log_det(accumulator(&moments.mean.device())))[0],
        }
    }

    /// Normalised, with bias, and what is below 0 cut off.
    pub fn activate(&self, x: &Tensor<4>, seen: &mut Seen) -> Tensor<4> {
        batch_norm::activate(x, &self.norm(x, seen))
    }

    /// Pulls the gradient `dy` of [`BatchNorm::activate`]'s result back to `x` and the bias, and adds it to `onto`.
    pub fn deactivate(
        &self,
        x: &Tensor<4>,
        dy: &Tensor<4>,
        onto: Option<&Tensor<4>>,
        seen: &mut Seen,
        gradients: &mut Gradients,
    ) -> Tensor<4> {
        self.pulled_back(batch_norm::deactivate(x, &self.norm(x, seen), dy, onto), gradients)
    }

    /// Pulls the gradient of the normalised, biased `x` back.
    pub fn backward(&self, x: &Tensor<4>, dy: &Tensor<4>, seen: &mut Seen, gradients: &mut Gradients) -> Tensor<4> {
        self.pulled_back(batch_norm::backward(x, &self.norm(x, seen), dy), gradients)
    }

    fn pulled_back(&self, found: NormGradients, gradients: &mut Gradients) -> Tensor<4> {
        if let Some(bias) = &self.bias {
            gradients.add(bias, found.bias);
        }
        found.x
    }

    fn norm(&self, x: &Tensor<4>, seen: &mut Seen) -> Norm {
        let Moments { mean, variance, rows } = self.moments(x, seen);
        Norm {
            bias: self.bias.as_ref().map_or_else(|| mean.zeros_like(), Param::val),
            mean,
            scale: variance.add_scalar(EPSILON).sqrt().recip(),
            of_batch: rows.is_some(),
        }
    }

    /// Adds the bias.
    pub fn shift(&self, x: Tensor<4>) -> Tensor<4> {
        match &self.bias {
            Some(bias) => x + bias.val().unsqueeze(),
            None => x,
        }
    }
}

/// Means and variances of channels.
#[derive(Debug, Clone)]
pub struct Moments {
    /// Shape `[channels]`.
    mean: Tensor<1>,
    /// Biased. Shape `[channels]`.
    variance: Tensor<1>,
    /// Pixels of the batch that they are of; `None` for running averages, which no gradient goes through.
    rows: Option<usize>,
}

impl Moments {
    /// `1 / sqrt(variance + epsilon)`, one a channel.
    fn scale(&self) -> Tensor<4> {
        self.deviation().recip()
    }

    fn deviation(&self) -> Tensor<4> {
        self.variance.clone().add_scalar(EPSILON).sqrt().unsqueeze()
    }

    /// `(x - mean) / deviation`. Shape `[batch, height, width, channels]`.
    pub fn normalise(&self, x: &Tensor<4>) -> Tensor<4> {
        (x.clone() - self.mean.clone().unsqueeze()) * self.scale()
    }

    /// Undoes [`Moments::normalise`].
    pub fn restore(&self, y: &Tensor<4>) -> Tensor<4> {
        y.clone() * self.deviation() + self.mean.clone().unsqueeze()
    }

    /// `-sum(ln deviation)`: the log-det of one pixel, nats, in the type asked for. Shape `[1]`.
    pub fn log_det(&self, dtype: FloatDType) -> Tensor<1> {
        self.variance.clone().cast(dtype).add_scalar(EPSILON).log().sum().mul_scalar(-0.5)
    }

    /// The gradient of `x` from that of `y`, its normalised values.
    ///
    /// `log_det` is the cotangent of [`Moments::log_det`], of all images and pixels together, shape `[1]`.
    pub fn backward(&self, y: &Tensor<4>, dy: Tensor<4>, log_det: Option<Tensor<1>>) -> Tensor<4> {
        let Some(rows) = self.rows else { return dy * self.scale() };
        let (flat_y, flat_dy) = (taps::rows(y.clone()), taps::rows(dy.clone()));
        let along_mean: Tensor<4> = reduce::column_sums(&flat_dy).div_scalar(rows as f64).unsqueeze();
        let mut along_variance = reduce::column_dots(&flat_dy, &flat_y);
        if let Some(log_det) = log_det {
            along_variance = along_variance + log_det;
        }
        let along_variance: Tensor<4> = along_variance.div_scalar(rows as f64).unsqueeze();
        (dy - along_mean - y.clone() * along_variance) * self.scale()
    }
}
