//! Glow's coupling net: conv 3x3, actnorm, ReLU, conv 1x1, actnorm, ReLU, conv 3x3 from zero.
//!
//! Kingma & Dhariwal 2018, section 3.3; the actnorms inside are those of its code. Other projects' nets have biases alone
//! there, and a last convolution of another form: [`NetForm`].

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData, activation::relu};

use super::edge;
use super::folded::FoldedConv;
use super::zero_conv::{Padding, ZeroConv, ZeroConvConfig};
use crate::error::Result;
use crate::flow::Gradients;
use crate::kernels::net::{self, Hidden, Net};
use crate::kernels::{Precision, reduce, taps};
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

    fn prepare(&self, size: [usize; 2]) -> net::Conv {
        let scale = self.norm.scale();
        let bias = edge::bias_map(self.norm.bias.val(), self.edge.as_ref().map(Param::val), size);
        net::Conv { weight: self.weight.val(), bias: bias * scale.clone().unsqueeze::<2>(), scale }
    }

    /// As a plain convolution of `side x side`.
    fn folded(&self, conv: &net::Conv, side: usize) -> FoldedConv {
        let [rows, outputs] = conv.weight.dims();
        let weight = conv.scaled().reshape([side, side, rows / (side * side), outputs]).permute([3, 2, 0, 1]);
        let edge = self.edge.as_ref().map(Param::val);
        FoldedConv::scaled(weight, self.norm.bias.val(), edge, conv.scale.clone())
    }

    fn add_gradients(&self, conv: &net::Conv, g: net::ConvGradients, size: [usize; 2], gradients: &mut Gradients) {
        if self.norm.scale.is_some() {
            let log_scale = g.log_scale + reduce::column_dots(&g.bias, &conv.bias);
            self.norm.add_scale_gradient(log_scale, gradients);
        }
        let unscaled = g.bias * conv.scale.clone().unsqueeze::<2>();
        gradients.add(&self.weight, g.weight);
        if let Some(edge) = &self.edge {
            gradients.add(edge, edge::edge_gradient(&edge.val(), unscaled.clone(), size));
        }
        gradients.add(&self.norm.bias, reduce::column_sums(&unscaled));
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
    /// Its convolutions for images of this height and width.
    pub fn prepare(&self, size: [usize; 2], precision: Precision) -> PreparedConvNet {
        let net = Net::new(self.first.prepare(size), self.middle.prepare(size), self.last.conv(size), precision);
        PreparedConvNet { net, parameters: self.clone(), size }
    }

    /// Sets the inner actnorms from data, a part at a time. `parts` are inputs, `[batch, height, width, inputs]`.
    pub fn initialize(&mut self, parts: &[Tensor<4>], path: &str) -> Result<()> {
        let Some(part) = parts.first().filter(|_| self.first.norm.scale.is_some()) else { return Ok(()) };
        let [_, height, width, _] = part.dims();
        let first = |net: &Self, x: &Tensor<4>| {
            let conv = net.first.prepare([height, width]);
            taps::add_bias(taps::product(taps::unfold(x.clone(), false), conv.scaled()), conv.bias)
        };
        let middle = |net: &Self, x: &Tensor<4>| {
            let conv = net.middle.prepare([height, width]);
            taps::add_bias(taps::product(relu(first(net, x)), conv.scaled()), conv.bias)
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
    net: Net,
    parameters: ConvNet,
    size: [usize; 2],
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
    /// What runs.
    pub fn kernel(&self) -> &Net {
        &self.net
    }

    /// As plain convolutions.
    pub fn folded(&self) -> FoldedNet {
        let (net, parameters) = (&self.net, &self.parameters);
        FoldedNet {
            first: parameters.first.folded(&net.first, 3),
            middle: parameters.middle.folded(&net.middle, 1),
            last: parameters.last.folded(&net.last),
        }
    }

    /// `[batch, height, width, inputs]` to `[.., outputs]`.
    pub fn forward(&self, x: &Tensor<4>) -> Tensor<4> {
        self.net.forward(x)
    }

    /// [`PreparedConvNet::forward`] that keeps its activations.
    pub fn forward_saving(&self, x: &Tensor<4>) -> (Tensor<4>, Hidden) {
        self.net.forward_saving(x)
    }

    /// Pulls `dy` back to the input and adds the parameters' gradients.
    pub fn backward(&self, x: &Tensor<4>, hidden: &Hidden, dy: &Tensor<4>, gradients: &mut Gradients) -> Tensor<4> {
        let g = self.net.backward(x, hidden, dy);
        let (net, parameters, size) = (&self.net, &self.parameters, self.size);
        parameters.first.add_gradients(&net.first, g.first, size, gradients);
        parameters.middle.add_gradients(&net.middle, g.middle, size, gradients);
        parameters.last.add_gradients(&net.last, g.last, size, gradients);
        g.x
    }
}
