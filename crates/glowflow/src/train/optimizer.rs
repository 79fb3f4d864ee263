//! Adam over a module's parameters.

use std::collections::HashMap;

use burn::module::{Module, ModuleMapper, Param, ParamId};
use burn::tensor::Tensor;

use super::config::OptimizerConfig;
use crate::flow::{Gradients, NamedParameter, named_parameters};
use crate::kernels::adam::{self, Moments};

/// Adam (Kingma & Ba 2015, algorithm 1) and its state.
#[derive(Debug, Default)]
pub struct Adam {
    config: OptimizerConfig,
    /// Steps made with this state.
    step: u64,
    moments: HashMap<ParamId, Moments>,
}

impl Adam {
    /// Without moments yet.
    pub fn new(config: OptimizerConfig) -> Self {
        Self { config, ..Self::default() }
    }

    /// Makes the moments of a module's parameters, those that are not there yet.
    ///
    /// Before the first step's activations: the moments stay, and between freed activations they would leave gaps in
    /// the memory that the next ones do not fit.
    pub fn make_moments<M: Module>(&mut self, module: &M) {
        for NamedParameter { id, values, .. } in named_parameters(module) {
            self.moments.entry(id).or_insert_with(|| Moments::zeros(&values));
        }
    }

    /// The module one step on, along the gradients times `scale`. A parameter without a gradient stays.
    pub fn step<M: Module>(&mut self, module: M, gradients: Gradients, learning_rate: f64, scale: f32) -> M {
        self.step += 1;
        let [beta1, beta2] = self.config.betas;
        let epsilon = self.config.epsilon;
        let adam = adam::Adam { learning_rate, beta1, beta2, epsilon, weight_decay: 0.0, step: self.step };
        module.map(&mut Stepper { adam, scale, gradients, moments: &mut self.moments })
    }
}

struct Stepper<'a> {
    adam: adam::Adam,
    scale: f32,
    gradients: Gradients,
    moments: &'a mut HashMap<ParamId, Moments>,
}

impl ModuleMapper for Stepper<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(gradient) = self.gradients.remove(param.id) else {
            return param;
        };
        let moments = self.moments.remove(&param.id).unwrap_or_else(|| Moments::zeros(&gradient));
        let (id, values, mapper) = param.consume();
        let (values, moments) = adam::step(&self.adam, values, gradient, self.scale, moments);
        self.moments.insert(id, moments);
        Param::from_mapped_value(id, values, mapper)
    }
}
