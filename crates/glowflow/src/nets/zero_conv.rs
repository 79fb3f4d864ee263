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

/// What a 3x3 convolution sees outside the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Padding {
    /// Zeros.
    Zeros,
    /// Zeros, and one more input channel that is 1 there and 0 inside: the edge channel of Glow's code.
    Edge,
    /// Ones in every channel, as in rosinality's code: an edge channel whose weights are the sums over the others'.
    Ones,
}

/// `(conv(x) + bias) exp(3 log_scale)`.
#[derive(Module, Debug)]
pub struct ZeroConv {
    /// Column `tap * outputs + output`. Shape `[inputs, 9 * outputs]`.
    pub weight: Param<Tensor<2>>,
    /// Weights of the edge channel, where the padding has one. Shape `[outputs, 9]`.
    pub edge: Option<Param<Tensor<2>>>,
    /// Shape `[outputs]`.
    pub bias: Param<Tensor<1>>,
    /// A third of the log-scale; `None`: the output is not scaled. Shape `[outputs]`.
    pub log_scale: Option<Param<Tensor<1>>>,
    #[module(skip)]
    padding: Padding,
}

/// Sizes and form of a [`ZeroConv`].
#[derive(Debug, Clone, Copy)]
pub struct ZeroConvConfig {
    /// Channels of its input.
    pub inputs: usize,
    /// Channels of its output.
    pub outputs: usize,
    /// What it sees outside the image.
    pub padding: Padding,
    /// Whether its output is scaled.
    pub scaled: bool,
}

impl ZeroConvConfig {
    /// All zeros.
    pub fn init(self, device: &Device) -> ZeroConv {
        let Self { inputs, outputs, padding, scaled } = self;
        let zeros = |shape| Param::from_tensor(Tensor::zeros(shape, device));
        ZeroConv {
            weight: zeros([inputs, 9 * outputs]),
            edge: (padding == Padding::Edge).then(|| zeros([outputs, 9])),
            bias: Param::from_tensor(Tensor::zeros([outputs], device)),
            log_scale: scaled.then(|| Param::from_tensor(Tensor::zeros([outputs], device))),
            padding,
        }
    }

    /// Trained numbers.
    pub fn parameters(self) -> usize {
        let inputs = self.inputs + usize::from(self.padding == Padding::Edge);
        9 * inputs * self.outputs + self.outputs * (1 + usize::from(self.scaled))
    }
}

impl ZeroConv {
    /// Folds the scale into weight and bias, for images of this height and width.
    pub fn prepare(&self, size: [usize; 2]) -> PreparedZeroConv {
        let [outputs] = self.bias.dims();
        let scale = match &self.log_scale {
            Some(log_scale) => log_scale.val().mul_scalar(LOG_SCALE_FACTOR).exp(),
            None => self.bias.val().ones_like(),
        };
        let scale = scale.reshape([1, outputs]);
        let column_scale = scale.clone().repeat_dim(1, 9);
        let bias = edge::bias_map(self.bias.val(), self.edge_weight(), size);
        PreparedZeroConv {
            weight: self.weight.val() * column_scale.clone(),
            bias: bias * scale.clone(),
            scale,
            column_scale,
            parameters: self.clone(),
            size,
        }
    }

    /// Of the edge channel, whether it is trained or follows from the others. Shape `[outputs, 9]`.
    fn edge_weight(&self) -> Option<Tensor<2>> {
        let [outputs] = self.bias.dims();
        match self.padding {
            Padding::Zeros => None,
            Padding::Edge => self.edge.as_ref().map(Param::val),
            Padding::Ones => Some(reduce::column_sums(&self.weight.val()).reshape([9, outputs]).transpose()),
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
        let edge = self.parameters.edge_weight();
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
        let ZeroConv { weight: trained, edge, bias: trained_bias, log_scale, padding } = &self.parameters;
        let [outputs] = trained_bias.dims();
        if let Some(log_scale) = log_scale {
            let by_column = reduce::column_dots(&weight, &self.weight).reshape([9, outputs]);
            let gradient = reduce::column_sums(&by_column) + reduce::column_dots(&bias, &self.bias);
            gradients.add(log_scale, gradient.mul_scalar(LOG_SCALE_FACTOR));
        }
        let unscaled = bias * self.scale.clone();
        let mut weight = weight * self.column_scale.clone();
        let edge_gradient =
            || self.parameters.edge_weight().map(|like| edge::edge_gradient(&like, unscaled.clone(), self.size));
        match (padding, edge, edge_gradient()) {
            (Padding::Edge, Some(edge), Some(gradient)) => gradients.add(edge, gradient),
            // Each weight is one term of its tap's sum.
            (Padding::Ones, _, Some(gradient)) => weight = weight + gradient.transpose().reshape([1, 9 * outputs]),
            _ => {}
        }
        gradients.add(trained, weight);
        gradients.add(trained_bias, reduce::column_sums(&unscaled));
    }
}
