//! A 3x3 convolution that starts at zero, its output scaled by a trained factor.
//!
//! Kingma & Dhariwal 2018, section 3.3: zero initialisation makes a deep flow start near the identity.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

use super::edge;
use super::folded::FoldedConv;
use crate::flow::Gradients;
use crate::kernels::{conv, reduce};
use crate::layers::LOG_SCALE_FACTOR;

/// `(conv(x) + bias) exp(3 log_scale)`.
#[derive(Module, Debug)]
pub struct ZeroConv {
    /// Column `tap * outputs + output`. Shape `[inputs, 9 * outputs]`.
    pub weight: Param<Tensor<2>>,
    /// Weights of the edge channel. Shape `[outputs, 9]`.
    pub edge: Option<Param<Tensor<2>>>,
    /// Shape `[outputs]`.
    pub bias: Param<Tensor<1>>,
    /// A third of the log-scale. Shape `[outputs]`.
    pub log_scale: Param<Tensor<1>>,
}

impl ZeroConv {
    /// All zeros.
    pub fn new(inputs: usize, outputs: usize, edge_bias: bool, device: &Device) -> Self {
        Self {
            weight: Param::from_tensor(Tensor::zeros([inputs, 9 * outputs], device)),
            edge: edge_bias.then(|| Param::from_tensor(Tensor::zeros([outputs, 9], device))),
            bias: Param::from_tensor(Tensor::zeros([outputs], device)),
            log_scale: Param::from_tensor(Tensor::zeros([outputs], device)),
        }
    }

    /// Folds the scale into weight and bias, for images of this height and width.
    pub fn prepare(&self, size: [usize; 2]) -> PreparedZeroConv {
        let [outputs] = self.bias.dims();
        let scale = self.log_scale.val().mul_scalar(LOG_SCALE_FACTOR).exp().reshape([1, outputs]);
        let column_scale = scale.clone().repeat_dim(1, 9);
        let bias = edge::bias_map(self.bias.val(), self.edge.as_ref().map(Param::val), size);
        PreparedZeroConv {
            weight: self.weight.val() * column_scale.clone(),
            bias: bias * scale.clone(),
            scale,
            column_scale,
            parameters: self.clone(),
            size,
        }
    }
}

/// A [`ZeroConv`] ready to run.
#[derive(Debug, Clone)]
pub struct PreparedZeroConv {
    /// Folded. Shape `[inputs, 9 * outputs]`.
    pub weight: Tensor<2>,
    /// Folded. Shape `[1 or height * width, outputs]`.
    pub bias: Tensor<2>,
    scale: Tensor<2>,
    column_scale: Tensor<2>,
    parameters: ZeroConv,
    size: [usize; 2],
}

impl PreparedZeroConv {
    /// `[batch, height, width, inputs]` to `[.., outputs]`.
    pub fn forward(&self, x: &Tensor<4>) -> Tensor<4> {
        conv::forward(x, &self.weight, &self.bias)
    }

    /// As a plain convolution.
    pub fn folded(&self) -> FoldedConv {
        let [inputs, _] = self.weight.dims();
        let [outputs] = self.parameters.bias.dims();
        let weight = self.weight.clone().reshape([inputs, 3, 3, outputs]).permute([3, 0, 1, 2]);
        let edge = self.parameters.edge.as_ref().map(Param::val);
        FoldedConv::scaled(weight, self.parameters.bias.val(), edge, self.scale.clone().reshape([outputs]))
    }

    /// Pulls `dy` back to the input and adds the parameters' gradients.
    pub fn backward(&self, x: &Tensor<4>, dy: &Tensor<4>, gradients: &mut Gradients) -> Tensor<4> {
        let [bias_rows, _] = self.bias.dims();
        let g = conv::backward(x, &self.weight, bias_rows, dy);
        self.unfold(g.weight, g.bias, gradients);
        g.x
    }

    /// Adds the parameters' gradients from those of the folded weight and bias.
    pub fn unfold(&self, weight: Tensor<2>, bias: Tensor<2>, gradients: &mut Gradients) {
        let [outputs] = self.parameters.bias.dims();
        let by_column = reduce::column_dots(&weight, &self.weight).reshape([9, outputs]);
        let log_scale = reduce::column_sums(&by_column) + reduce::column_dots(&bias, &self.bias);
        let unscaled = bias * self.scale.clone();
        gradients.add(&self.parameters.weight, weight * self.column_scale.clone());
        if let Some(edge) = &self.parameters.edge {
            gradients.add(edge, edge::edge_gradient(&edge.val(), unscaled.clone(), self.size));
        }
        gradients.add(&self.parameters.bias, reduce::column_sums(&unscaled));
        gradients.add(&self.parameters.log_scale, log_scale.mul_scalar(LOG_SCALE_FACTOR));
    }
}
