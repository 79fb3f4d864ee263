//! Batch normalisation of channels, with a ReLU behind it, in as few passes as there are sums.

use burn::tensor::Tensor;

use super::cpu::batch_norm::{self, Gate};
use super::flex::{Values, tensor};
use super::{reduce, taps};

/// Mean and biased variance of each channel, each `[channels]`.
pub struct Moments {
    /// Over images and pixels.
    pub mean: Tensor<1>,
    /// Over images and pixels.
    pub variance: Tensor<1>,
}

/// `(x - mean) scale + bias`; each of shape `[channels]`.
pub struct Norm {
    /// Subtracted.
    pub mean: Tensor<1>,
    /// One over the deviation.
    pub scale: Tensor<1>,
    /// Added.
    pub bias: Tensor<1>,
    /// Whether mean and scale are those of the batch at hand: the gradient then goes through them.
    pub of_batch: bool,
}

/// Gradients of [`activate`].
pub struct NormGradients {
    /// Shape `[batch, height, width, channels]`.
    pub x: Tensor<4>,
    /// Shape `[channels]`.
    pub bias: Tensor<1>,
}

/// Of `x`, `[batch, height, width, channels]`.
pub fn moments(x: &Tensor<4>) -> Moments {
    let [.., channels] = x.dims();
    if let Some(values) = Values::of(x) {
        let found = batch_norm::moments(&values, channels);
        return Moments { mean: tensor(found.mean, [channels]), variance: tensor(found.variance, [channels]) };
    }
    let rows = taps::rows(x.clone());
    let [count, _] = rows.dims();
    let mean = reduce::column_sums(&rows).div_scalar(count as f64);
    let centred = rows - mean.clone().reshape([1, channels]);
    Moments { mean, variance: reduce::column_dots(&centred, &centred).div_scalar(count as f64) }
}

/// Normalised, with bias, and what is below 0 cut off. `[batch, height, width, channels]`, and so is the result.
pub fn activate(x: &Tensor<4>, norm: &Norm) -> Tensor<4> {
    if let Some(values) = Values::of(x)
        && let Some(norm) = OnCpu::of(norm)
    {
        return tensor(batch_norm::activate(&values, norm.slices()), x.dims());
    }
    (norm.normalise(x) + norm.bias.clone().unsqueeze()).clamp_min(0.0)
}

/// Pulls the gradient `dy` of [`activate`]'s result back, and adds it to `onto` if there is one.
pub fn deactivate(x: &Tensor<4>, norm: &Norm, dy: &Tensor<4>, onto: Option<&Tensor<4>>) -> NormGradients {
    if let Some(gradients) = on_cpu(x, norm, dy, Gate::Relu, onto) {
        return gradients;
    }
    let normal = norm.normalise(x);
    let cut = (normal.clone() + norm.bias.clone().unsqueeze()).lower_equal_elem(0.0);
    let mut gradients = composed(normal, norm, dy.clone().mask_fill(cut, 0.0));
    if let Some(onto) = onto {
        gradients.x = gradients.x + onto.clone();
    }
    gradients
}

/// Pulls the gradient `dy` of the normalised, biased `x` back.
pub fn backward(x: &Tensor<4>, norm: &Norm, dy: &Tensor<4>) -> NormGradients {
    on_cpu(x, norm, dy, Gate::Open, None).unwrap_or_else(|| composed(norm.normalise(x), norm, dy.clone()))
}

fn on_cpu(x: &Tensor<4>, norm: &Norm, dy: &Tensor<4>, gate: Gate, onto: Option<&Tensor<4>>) -> Option<NormGradients> {
    let [.., channels] = x.dims();
    let onto = match onto {
        Some(onto) => Some(Values::of(onto)?),
        None => None,
    };
    let (values, dy, slices) = (Values::of(x)?, Values::of(dy)?, OnCpu::of(norm)?);
    let found = batch_norm::backward(&values, slices.slices(), &dy, gate, norm.of_batch, onto.as_deref());
    Some(NormGradients { x: tensor(found.dx, x.dims()), bias: tensor(found.bias, [channels]) })
}

fn composed(normal: Tensor<4>, norm: &Norm, dy: Tensor<4>) -> NormGradients {
    let flat = taps::rows(dy.clone());
    let [count, _] = flat.dims();
    let bias = reduce::column_sums(&flat);
    let scale = norm.scale.clone().unsqueeze();
    let x = if norm.of_batch {
        let along = reduce::column_dots(&flat, &taps::rows(normal.clone())).div_scalar(count as f64);
        (dy - bias.clone().div_scalar(count as f64).unsqueeze() - normal * along.unsqueeze()) * scale
    } else {
        dy * scale
    };
    NormGradients { x, bias }
}

impl Norm {
    fn normalise(&self, x: &Tensor<4>) -> Tensor<4> {
        (x.clone() - self.mean.clone().unsqueeze()) * self.scale.clone().unsqueeze()
    }
}

/// A [`Norm`]'s values.
struct OnCpu {
    mean: Values,
    scale: Values,
    bias: Values,
}

impl OnCpu {
    fn of(norm: &Norm) -> Option<Self> {
        Some(Self { mean: Values::of(&norm.mean)?, scale: Values::of(&norm.scale)?, bias: Values::of(&norm.bias)? })
    }

    fn slices(&self) -> batch_norm::Norm<'_> {
        batch_norm::Norm { mean: &self.mean, scale: &self.scale, bias: &self.bias }
    }
}
