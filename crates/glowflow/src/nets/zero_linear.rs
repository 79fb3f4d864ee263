//! A linear map that starts at zero, its output scaled by a trained factor: what classes enter and leave a model by.
//!
//! `linear_zeros` of Glow's code.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

use crate::flow::Gradients;
use crate::kernels::{pixel, reduce};
use crate::layers::LOG_SCALE_FACTOR;

/// `(W x + bias) exp(3 log_scale)`.
#[derive(Module, Debug)]
pub struct ZeroLinear {
    /// Shape `[outputs, inputs]`.
    pub weight: Param<Tensor<2>>,
    /// Shape `[outputs]`.
    pub bias: Param<Tensor<1>>,
    /// A third of the log-scale. Shape `[outputs]`.
    pub log_scale: Param<Tensor<1>>,
}

impl ZeroLinear {
    /// All zeros.
    pub fn new(inputs: usize, outputs: usize, device: &Device) -> Self {
        Self {
            weight: Param::from_tensor(Tensor::zeros([outputs, inputs], device)),
            bias: Param::from_tensor(Tensor::zeros([outputs], device)),
            log_scale: Param::from_tensor(Tensor::zeros([outputs], device)),
        }
    }

    /// Trained numbers.
    pub fn parameters(inputs: usize, outputs: usize) -> usize {
        inputs * outputs + 2 * outputs
    }

    /// Folds the scale into weight and bias.
    pub fn prepare(&self) -> PreparedZeroLinear {
        let [outputs] = self.bias.dims();
        let scale = self.log_scale.val().mul_scalar(LOG_SCALE_FACTOR).exp();
        PreparedZeroLinear {
            weight: self.weight.val() * scale.clone().reshape([outputs, 1]),
            bias: self.bias.val() * scale.clone(),
            scale,
            parameters: self.clone(),
        }
    }
}

/// A [`ZeroLinear`] ready to run.
#[derive(Debug, Clone)]
pub struct PreparedZeroLinear {
    /// Folded. Shape `[outputs, inputs]`.
    weight: Tensor<2>,
    /// Folded. Shape `[outputs]`.
    bias: Tensor<1>,
    scale: Tensor<1>,
    parameters: ZeroLinear,
}

impl PreparedZeroLinear {
    /// `[batch, inputs]` to `[batch, outputs]`.
    pub fn forward(&self, x: &Tensor<2>) -> Tensor<2> {
        let [batch, _] = x.dims();
        let [outputs] = self.bias.dims();
        pixel::forward(&as_pixels(x), &self.weight, &self.bias).reshape([batch, outputs])
    }

    /// What it gives for each of its inputs alone at 1, the others at 0. Shape `[inputs, outputs]`.
    pub fn table(&self) -> Tensor<2> {
        self.weight.clone().transpose() + self.bias.clone().unsqueeze()
    }

    /// Pulls `dy`, `[batch, outputs]`, back to the input and adds the parameters' gradients.
    pub fn backward(&self, x: &Tensor<2>, dy: &Tensor<2>, gradients: &mut Gradients) -> Tensor<2> {
        let [outputs] = self.bias.dims();
        let g = pixel::backward(&as_pixels(x), &self.weight, &as_pixels(dy));
        let by_row = reduce::column_dots(&g.weight.clone().transpose(), &self.weight.clone().transpose());
        let log_scale = by_row + g.bias.clone() * self.bias.clone();
        gradients.add(&self.parameters.weight, g.weight * self.scale.clone().reshape([outputs, 1]));
        gradients.add(&self.parameters.bias, g.bias * self.scale.clone());
        gradients.add(&self.parameters.log_scale, log_scale.mul_scalar(LOG_SCALE_FACTOR));
        g.x.reshape(x.dims())
    }
}

/// Each row one image of one pixel.
fn as_pixels(x: &Tensor<2>) -> Tensor<4> {
    let [batch, channels] = x.dims();
    x.clone().reshape([batch, 1, 1, channels])
}
