//! NICE's coupling net: dense layers with ReLUs between them.
//!
//! Dinh, Krueger & Bengio 2015, section 5.1.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData};

use crate::flow::Gradients;
use crate::kernels::pixel;
use crate::random::{Key, Purpose};

/// Weights start within this of 0, those of the last layer too, as in NICE's code.
const INITIAL_RANGE: f32 = 0.01;

/// `W x + b`.
#[derive(Module, Debug)]
pub struct Dense {
    /// Shape `[outputs, inputs]`.
    pub weight: Param<Tensor<2>>,
    /// Shape `[outputs]`.
    pub bias: Param<Tensor<1>>,
}

impl Dense {
    fn new(inputs: usize, outputs: usize, key: Key, device: &Device) -> Self {
        let mut weight = vec![0.0; inputs * outputs];
        key.stream().fill_uniform(&mut weight);
        weight.iter_mut().for_each(|weight| *weight = (2.0 * *weight - 1.0) * INITIAL_RANGE);
        Self {
            weight: Param::from_tensor(Tensor::from_data(TensorData::new(weight, [outputs, inputs]), device)),
            bias: Param::from_tensor(Tensor::zeros([outputs], device)),
        }
    }
}

/// Sizes of an [`Mlp`].
#[derive(Debug, Clone, Copy)]
pub struct MlpConfig {
    /// Values that go in.
    pub inputs: usize,
    /// Units of each hidden layer.
    pub hidden: usize,
    /// Hidden layers, at least 1.
    pub layers: usize,
    /// Values that come out.
    pub outputs: usize,
}

impl MlpConfig {
    /// Weights from U(-0.01, 0.01), biases 0. `net` keys the draws.
    pub fn init(self, seed: u64, net: u64, device: &Device) -> Mlp {
        let layer = |index: usize| {
            let inputs = if index == 0 { self.inputs } else { self.hidden };
            let outputs = if index == self.layers { self.outputs } else { self.hidden };
            let key = Key { seed, purpose: Purpose::Weights, step: net, image: index as u64 };
            Dense::new(inputs, outputs, key, device)
        };
        Mlp { layers: (0..=self.layers).map(layer).collect() }
    }
}

/// Dense layers; a ReLU follows all but the last.
#[derive(Module, Debug)]
pub struct Mlp {
    /// From input to output.
    pub layers: Vec<Dense>,
}

/// What an [`Mlp`] gives, and what its backward pass needs.
#[derive(Debug, Clone)]
pub struct MlpRun {
    /// Shape `[batch, 1, 1, outputs]`.
    pub h: Tensor<4>,
    /// After each ReLU. Each `[batch, 1, 1, hidden]`.
    pub hidden: Vec<Tensor<4>>,
}

impl Mlp {
    /// `[batch, 1, 1, inputs]` to `[batch, 1, 1, outputs]`, the activations kept.
    pub fn run(&self, x: &Tensor<4>) -> MlpRun {
        let (last, before) = self.layers.split_last().expect("at least one layer");
        let mut hidden: Vec<Tensor<4>> = Vec::with_capacity(before.len());
        for layer in before {
            let input = hidden.last().unwrap_or(x);
            hidden.push(pixel::forward_relu(input, &layer.weight.val(), &layer.bias.val()));
        }
        let input = hidden.last().unwrap_or(x);
        MlpRun { h: pixel::forward(input, &last.weight.val(), &last.bias.val()), hidden }
    }

    /// Pulls `dh` back to the input, `[batch, 1, 1, inputs]`, and adds the parameters' gradients.
    pub fn backward(&self, x: &Tensor<4>, run: &MlpRun, dh: &Tensor<4>, gradients: &mut Gradients) -> Tensor<4> {
        let mut d = dh.clone();
        for (index, layer) in self.layers.iter().enumerate().rev() {
            let input = index.checked_sub(1).map_or(x, |before| &run.hidden[before]);
            let g = pixel::backward(input, &layer.weight.val(), &d);
            gradients.add(&layer.weight, g.weight);
            gradients.add(&layer.bias, g.bias);
            d = if index == 0 { g.x } else { g.x.mask_fill(input.clone().lower_equal_elem(0.0), 0.0) };
        }
        d
    }
}
