//! Convolutions whose weights are a direction and a magnitude for each output channel.
//!
//! Salimans & Kingma 2016; without bias or magnitude where RealNVP's code has none.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData};

use super::folded::FoldedConv;
use crate::flow::{Gradients, Penalised};
use crate::kernels::{conv, pixel, reduce};
use crate::random::Key;

/// `magnitude * direction / |direction|`, and a bias.
#[derive(Module, Debug)]
pub struct WeightNormConv {
    /// 3x3: column `tap * outputs + output`, `[inputs, 9 * outputs]`. 1x1: `[inputs, outputs]`.
    pub direction: Param<Tensor<2>>,
    /// Shape `[outputs]`; 1 where there is none.
    pub magnitude: Option<Penalised>,
    /// Shape `[outputs]`.
    pub bias: Option<Param<Tensor<1>>>,
    #[module(skip)]
    taps: usize,
}

/// A [`WeightNormConv`]'s size and parts.
#[derive(Debug, Clone, Copy)]
pub struct WeightNormConvConfig {
    /// 3 or 1.
    pub kernel: usize,
    /// Channels of its input.
    pub inputs: usize,
    /// Channels of its output.
    pub outputs: usize,
    /// Whether its magnitude is trained.
    pub magnitude: bool,
    /// Whether it has a bias.
    pub bias: bool,
}

impl WeightNormConvConfig {
    /// Directions from U(-sqrt(2 / inputs), sqrt(2 / inputs)).
    pub fn init(self, key: Key, device: &Device) -> WeightNormConv {
        let Self { kernel, inputs, outputs, .. } = self;
        let taps = kernel * kernel;
        let bound = (2.0 / inputs as f32).sqrt();
        let mut values = vec![0.0; inputs * taps * outputs];
        key.stream().fill_uniform(&mut values);
        values.iter_mut().for_each(|value| *value = bound * (2.0 * *value - 1.0));
        let direction = Tensor::from_data(TensorData::new(values, [inputs, taps * outputs]), device);
        let magnitude = (taps as f64 / 6.0).sqrt();
        WeightNormConv {
            direction: Param::from_tensor(direction),
            magnitude: self.magnitude.then(|| Penalised::new(Tensor::full([outputs], magnitude, device))),
            bias: self.bias.then(|| Param::from_tensor(Tensor::zeros([outputs], device))),
            taps,
        }
    }
}

impl WeightNormConv {
    /// Makes the weights.
    pub fn prepare(&self) -> PreparedWeightNormConv {
        let direction = self.direction.val();
        let [inputs, columns] = direction.dims();
        let outputs = columns / self.taps;
        let by_output = direction.reshape([inputs * self.taps, outputs]);
        let scale = reduce::column_dots(&by_output, &by_output).sqrt().recip().reshape([1, outputs]);
        let unit = by_output * scale.clone();
        let weight = match &self.magnitude {
            Some(magnitude) => unit.clone() * magnitude.value.val().unsqueeze(),
            None => unit.clone(),
        };
        let bias = self.bias.as_ref().map_or_else(|| scale.clone().reshape([outputs]).zeros_like(), Param::val);
        let weight = match self.taps {
            1 => weight.transpose(),
            _ => weight.reshape([inputs, columns]),
        };
        PreparedWeightNormConv { weight, bias, unit, scale, parameters: self.clone() }
    }
}

/// A [`WeightNormConv`] ready to run.
#[derive(Debug, Clone)]
pub struct PreparedWeightNormConv {
    /// 3x3: `[inputs, 9 * outputs]`. 1x1: `[outputs, inputs]`.
    weight: Tensor<2>,
    /// Shape `[outputs]`.
    bias: Tensor<1>,
    /// Of length 1. Shape `[inputs * taps, outputs]`.
    unit: Tensor<2>,
    /// What makes it so. Shape `[1, outputs]`.
    scale: Tensor<2>,
    parameters: WeightNormConv,
}

impl PreparedWeightNormConv {
    /// `[batch, height, width, inputs]` to `[.., outputs]`.
    pub fn forward(&self, x: &Tensor<4>) -> Tensor<4> {
        match self.parameters.taps {
            1 => pixel::forward(x, &self.weight, &self.bias),
            _ => conv::forward(x, &self.weight, &self.bias.clone().unsqueeze()),
        }
    }

    /// As a plain convolution.
    pub fn folded(&self) -> FoldedConv {
        let [outputs] = self.bias.dims();
        match self.parameters.taps {
            1 => FoldedConv::of_pixel(self.weight.clone(), self.bias.clone()),
            _ => {
                let [inputs, _] = self.weight.dims();
                let weight = self.weight.clone().reshape([inputs, 3, 3, outputs]).permute([3, 0, 1, 2]);
                FoldedConv { weight, bias: self.bias.clone(), edge: None }
            }
        }
    }

    /// [`PreparedWeightNormConv::forward`], added to `onto`.
    pub fn forward_onto(&self, onto: Tensor<4>, x: &Tensor<4>) -> Tensor<4> {
        match self.parameters.taps {
            1 => pixel::forward_onto(onto, x, &self.weight, &self.bias),
            _ => conv::forward_onto(&onto, x, &self.weight, &self.bias.clone().unsqueeze()),
        }
    }

    /// Pulls `dy` back to the input and adds the parameters' gradients.
    pub fn backward(&self, x: &Tensor<4>, dy: &Tensor<4>, gradients: &mut Gradients) -> Tensor<4> {
        self.backward_onto(None, x, dy, gradients)
    }

    /// [`PreparedWeightNormConv::backward`], the gradient of the input added to `onto` if there is one.
    pub fn backward_onto(
        &self,
        onto: Option<Tensor<4>>,
        x: &Tensor<4>,
        dy: &Tensor<4>,
        gradients: &mut Gradients,
    ) -> Tensor<4> {
        let shape = self.unit.dims();
        let (dx, weight, bias) = match self.parameters.taps {
            1 => {
                let g = pixel::backward_onto(onto, x, &self.weight, dy);
                (g.x, g.weight.transpose(), g.bias)
            }
            _ => {
                let g = conv::backward(x, &self.weight, 1, dy);
                let x = match onto {
                    Some(onto) => onto + g.x,
                    None => g.x,
                };
                (x, g.weight.reshape(shape), g.bias.flatten(0, 1))
            }
        };
        let along = reduce::column_dots(&weight, &self.unit);
        let across = (weight - self.unit.clone() * along.clone().unsqueeze()) * self.scale.clone();
        let across = match &self.parameters.magnitude {
            Some(magnitude) => {
                gradients.add(&magnitude.value, along);
                across * magnitude.value.val().unsqueeze()
            }
            None => across,
        };
        gradients.add(&self.parameters.direction, across.reshape(self.parameters.direction.dims()));
        if let Some(parameter) = &self.parameters.bias {
            gradients.add(parameter, bias);
        }
        dx
    }
}
