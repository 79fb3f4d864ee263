//! Glow's coupling net: conv 3x3, actnorm, ReLU, conv 1x1, actnorm, ReLU, conv 3x3 from zero.
//!
//! Kingma & Dhariwal 2018, section 3.3; the actnorms inside are those of its code. Other projects' nets have biases alone
//! there, and a last convolution of another form: [`NetForm`].

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData, activation::relu};

use super::edge;
use super::folded::FoldedConv;
use super::zero_conv::{Padding, PreparedZeroConv, ZeroConv, ZeroConvConfig};
use crate::error::Result;
use crate::flow::Gradients;
use crate::kernels::net::{self, Hidden, NetWeights};
use crate::kernels::{reduce, taps};
use crate::layers::{ActNorm, Moments, ScaleForm};
use crate::random::{Key, Purpose};

/// Standard deviation of the initial weights of the hidden convolutions, as in Glow's code.
const INITIAL_DEVIATION: f32 = 0.05;

/// Of what a net is made besides its convolutions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NetForm {
    /// How the actnorms after the hidden convolutions train their scale; `None`: they have a bias alone.
    pub hidden_scale: Option<ScaleForm>,
    /// What the first convolution sees outside the image: zeros or an edge channel.
    pub first_padding: Padding,
    /// What the last convolution sees outside the image.
    pub last_padding: Padding,
    /// Whether the output of the last convolution is scaled.
    pub last_scaled: bool,
}

impl NetForm {
    /// As in Glow's code, the edge channel at will.
    pub fn of_paper(edge_bias: bool) -> Self {
        let padding = if edge_bias { Padding::Edge } else { Padding::Zeros };
        Self {
            hidden_scale: Some(ScaleForm::ThirdOfLog),
            first_padding: padding,
            last_padding: padding,
            last_scaled: true,
        }
    }
}

/// A convolution without bias and the actnorm that supplies it.
#[derive(Module, Debug)]
pub struct HiddenConv {
    /// 3x3: row `tap * inputs + input`, `[9 * inputs, hidden]`. 1x1: `[inputs, hidden]`.
    pub weight: Param<Tensor<2>>,
    /// Weights of the edge channel of a 3x3. Shape `[hidden, 9]`.
    pub edge: Option<Param<Tensor<2>>>,
    /// Scale and bias of each hidden channel.
    pub norm: ActNorm,
}

impl HiddenConv {
    fn new(rows: usize, hidden: usize, edge: bool, scale: Option<ScaleForm>, key: Key, device: &Device) -> Self {
        let normal = |image: u64, shape: [usize; 2]| {
            let mut values = vec![0.0; shape[0] * shape[1]];
            Key { image, ..key }.stream().fill_normal(INITIAL_DEVIATION, &mut values);
            Param::from_tensor(Tensor::from_data(TensorData::new(values, shape), device))
        };
        Self {
            weight: normal(0, [rows, hidden]),
            edge: edge.then(|| normal(1, [hidden, 9])),
            norm: ActNorm::new(hidden, scale, device),
        }
    }

    fn prepare(&self, size: [usize; 2]) -> PreparedHiddenConv {
        let scale = self.norm.scale().unsqueeze::<2>();
        let bias = edge::bias_map(self.norm.bias.val(), self.edge.as_ref().map(Param::val), size);
        PreparedHiddenConv {
            weight: self.weight.val() * scale.clone(),
            bias: bias * scale.clone(),
            scale,
            parameters: self.clone(),
            size,
        }
    }
}

/// A [`HiddenConv`] with its actnorm folded in.
#[derive(Debug, Clone)]
struct PreparedHiddenConv {
    weight: Tensor<2>,
    bias: Tensor<2>,
    scale: Tensor<2>,
    parameters: HiddenConv,
    size: [usize; 2],
}

impl PreparedHiddenConv {
    /// As a plain convolution of `side x side`.
    fn folded(&self, side: usize) -> FoldedConv {
        let [rows, outputs] = self.weight.dims();
        let weight = self.weight.clone().reshape([side, side, rows / (side * side), outputs]).permute([3, 2, 0, 1]);
        let parameters = &self.parameters;
        let edge = parameters.edge.as_ref().map(Param::val);
        FoldedConv::scaled(weight, parameters.norm.bias.val(), edge, self.scale.clone().reshape([outputs]))
    }

    fn unfold(&self, weight: Tensor<2>, bias: Tensor<2>, gradients: &mut Gradients) {
        if self.parameters.norm.scale.is_some() {
            let log_scale = reduce::column_dots(&weight, &self.weight) + reduce::column_dots(&bias, &self.bias);
            self.parameters.norm.add_scale_gradient(log_scale, gradients);
        }
        let unscaled = bias * self.scale.clone();
        gradients.add(&self.parameters.weight, weight * self.scale.clone());
        if let Some(edge) = &self.parameters.edge {
            gradients.add(edge, edge::edge_gradient(&edge.val(), unscaled.clone(), self.size));
        }
        gradients.add(&self.parameters.norm.bias, reduce::column_sums(&unscaled));
    }
}

/// The coupling net's parameters.
#[derive(Module, Debug)]
pub struct ConvNet {
    /// 3x3.
    pub first: HiddenConv,
    /// 1x1.
    pub middle: HiddenConv,
    /// 3x3, from zero.
    pub last: ZeroConv,
}

/// Sizes of a [`ConvNet`].
#[derive(Debug, Clone, Copy)]
pub struct ConvNetConfig {
    /// Channels of its input.
    pub inputs: usize,
    /// Channels of both hidden layers.
    pub hidden: usize,
    /// Channels of its output.
    pub outputs: usize,
    /// Of what it is made besides.
    pub form: NetForm,
}

impl ConvNetConfig {
    /// Random hidden weights, keyed by `seed` and `layer`.
    pub fn init(self, seed: u64, layer: u64, device: &Device) -> ConvNet {
        let Self { inputs, hidden, form, .. } = self;
        let key = |step| Key { seed, purpose: Purpose::Weights, step, image: 0 };
        let edge = form.first_padding == Padding::Edge;
        ConvNet {
            first: HiddenConv::new(9 * inputs, hidden, edge, form.hidden_scale, key(layer), device),
            middle: HiddenConv::new(hidden, hidden, false, form.hidden_scale, key(layer + 1), device),
            last: self.last().init(device),
        }
    }

    fn last(self) -> ZeroConvConfig {
        let (padding, scaled) = (self.form.last_padding, self.form.last_scaled);
        ZeroConvConfig { inputs: self.hidden, outputs: self.outputs, padding, scaled }
    }

    /// Trained numbers.
    pub fn parameters(self) -> usize {
        let edge = usize::from(self.form.first_padding == Padding::Edge);
        let norm = self.hidden * (1 + usize::from(self.form.hidden_scale.is_some()));
        9 * (self.inputs + edge) * self.hidden + norm + self.hidden * self.hidden + norm + self.last().parameters()
    }
}

impl ConvNet {
    /// Folds the actnorms and the log-scale, for images of this height and width.
    pub fn prepare(&self, size: [usize; 2]) -> PreparedConvNet {
        let (first, middle, last) = (self.first.prepare(size), self.middle.prepare(size), self.last.prepare(size));
        let weights = NetWeights {
            w1: first.weight.clone(),
            b1: first.bias.clone(),
            w2: middle.weight.clone(),
            b2: middle.bias.clone(),
            w3: last.weight.clone(),
            b3: last.bias.clone(),
        };
        PreparedConvNet { weights, first, middle, last }
    }

    /// Sets the inner actnorms from data, a part at a time. `parts` are inputs, `[batch, height, width, inputs]`.
    pub fn initialize(&mut self, parts: &[Tensor<4>], path: &str) -> Result<()> {
        let Some(part) = parts.first().filter(|_| self.first.norm.scale.is_some()) else { return Ok(()) };
        let [_, height, width, _] = part.dims();
        let first = |net: &Self, x: &Tensor<4>| {
            let conv = net.first.prepare([height, width]);
            taps::add_bias(taps::product(taps::unfold(x.clone(), false), conv.weight), conv.bias)
        };
        let middle = |net: &Self, x: &Tensor<4>| {
            let conv = net.middle.prepare([height, width]);
            taps::add_bias(taps::product(relu(first(net, x)), conv.weight), conv.bias)
        };
        let moments = |outputs: &dyn Fn(&Tensor<4>) -> Tensor<4>| {
            let mut moments = Moments::default();
            parts.iter().for_each(|x| moments.add(taps::rows(outputs(x))));
            moments
        };
        let found = moments(&|x| first(self, x));
        self.first.norm.set_from(&found, &format!("{path}.first.norm"))?;
        let found = moments(&|x| middle(self, x));
        self.middle.norm.set_from(&found, &format!("{path}.middle.norm"))
    }
}

/// A [`ConvNet`] ready to run.
#[derive(Debug, Clone)]
pub struct PreparedConvNet {
    weights: NetWeights,
    first: PreparedHiddenConv,
    middle: PreparedHiddenConv,
    last: PreparedZeroConv,
}

/// A [`ConvNet`] as plain convolutions, a ReLU after each of the first two.
#[derive(Debug, Clone)]
pub struct FoldedNet {
    /// 3x3.
    pub first: FoldedConv,
    /// 1x1.
    pub middle: FoldedConv,
    /// 3x3.
    pub last: FoldedConv,
}

impl PreparedConvNet {
    /// As plain convolutions.
    pub fn folded(&self) -> FoldedNet {
        FoldedNet { first: self.first.folded(3), middle: self.middle.folded(1), last: self.last.folded() }
    }

    /// `[batch, height, width, inputs]` to `[.., outputs]`.
    pub fn forward(&self, x: &Tensor<4>) -> Tensor<4> {
        net::forward(x, &self.weights)
    }

    /// [`PreparedConvNet::forward`] that keeps its activations.
    pub fn forward_saving(&self, x: &Tensor<4>) -> (Tensor<4>, Hidden) {
        net::forward_saving(x, &self.weights)
    }

    /// Pulls `dy` back to the input and adds the parameters' gradients.
    pub fn backward(&self, x: &Tensor<4>, hidden: &Hidden, dy: &Tensor<4>, gradients: &mut Gradients) -> Tensor<4> {
        let g = net::backward(x, &self.weights, hidden, dy);
        self.first.unfold(g.weights.w1, g.weights.b1, gradients);
        self.middle.unfold(g.weights.w2, g.weights.b2, gradients);
        self.last.unfold(g.weights.w3, g.weights.b3, gradients);
        g.x
    }
}
