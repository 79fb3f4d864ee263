//! A 3x3 convolution that starts at zero, its output scaled by a trained factor.
//!
//! Kingma & Dhariwal 2018, section 3.3: zero initialisation makes a deep flow start near the identity.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

use super::edge;
use super::folded::FoldedConv;
use crate::flow::Gradients;
use crate::kernels::net::{Conv, ConvGradients};
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
    /// For images of this height and width.
    pub fn prepare(&self, size: [usize; 2]) -> PreparedZeroConv {
        let conv = self.conv(size);
        PreparedZeroConv { weight: conv.scaled(), conv, parameters: self.clone(), size }
    }

    /// As a convolution of a coupling net for images of this height and width.
    pub(super) fn conv(&self, size: [usize; 2]) -> Conv {
        let scale = match &self.log_scale {
            Some(log_scale) => log_scale.val().mul_scalar(LOG_SCALE_FACTOR).exp(),
            None => self.bias.val().ones_like(),
        };
        let bias = edge::bias_map(self.bias.val(), self.edge_weight(), size) * scale.clone().unsqueeze::<2>();
        Conv { weight: self.weight.val(), scale, bias }
    }

    /// As a plain convolution.
    pub(super) fn folded(&self, conv: &Conv) -> FoldedConv {
        let ([inputs, _], [outputs]) = (conv.weight.dims(), conv.scale.dims());
        let weight = conv.scaled().reshape([inputs, 3, 3, outputs]).permute([3, 0, 1, 2]);
        FoldedConv::scaled(weight, self.bias.val(), self.edge_weight(), conv.scale.clone())
    }

    /// Adds the parameters' gradients from those of its [`ZeroConv::conv`].
    pub(super) fn add_gradients(&self, conv: &Conv, g: ConvGradients, size: [usize; 2], gradients: &mut Gradients) {
        let [outputs] = conv.scale.dims();
        if let Some(log_scale) = &self.log_scale {
            let gradient = g.log_scale + reduce::column_dots(&g.bias, &conv.bias);
            gradients.add(log_scale, gradient.mul_scalar(LOG_SCALE_FACTOR));
        }
        let unscaled = g.bias * conv.scale.clone().unsqueeze::<2>();
        let mut weight = g.weight;
        let edge_gradient = self.edge_weight().map(|like| edge::edge_gradient(&like, unscaled.clone(), size));
        match (self.padding, &self.edge, edge_gradient) {
            (Padding::Edge, Some(edge), Some(gradient)) => gradients.add(edge, gradient),
            // Each weight is one term of its tap's sum.
            (Padding::Ones, _, Some(gradient)) => weight = weight + gradient.transpose().reshape([1, 9 * outputs]),
            _ => {}
        }
        gradients.add(&self.weight, weight);
        gradients.add(&self.bias, reduce::column_sums(&unscaled));
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
    conv: Conv,
    /// Scaled. Shape `[inputs, 9 * outputs]`.
    weight: Tensor<2>,
    parameters: ZeroConv,
    size: [usize; 2],
}

impl PreparedZeroConv {
    /// `[batch, height, width, inputs]` to `[.., outputs]`.
    pub fn forward(&self, x: &Tensor<4>) -> Tensor<4> {
        conv::forward(x, &self.weight, &self.conv.bias)
    }

    /// As a plain convolution.
    pub fn folded(&self) -> FoldedConv {
        self.parameters.folded(&self.conv)
    }

    /// Pulls `dy` back to the input and adds the parameters' gradients.
    pub fn backward(&self, x: &Tensor<4>, dy: &Tensor<4>, gradients: &mut Gradients) -> Tensor<4> {
        let [bias_rows, _] = self.conv.bias.dims();
        let g = conv::backward(x, &self.weight, bias_rows, dy);
        let unfolded = self.conv.unfold(g.weight, g.bias);
        self.parameters.add_gradients(&self.conv, unfolded, self.size, gradients);
        g.x
    }
}
