//! Adam and Adamax over a module's parameters, and the moving average of those.

use std::collections::HashMap;

use burn::module::{Module, ModuleMapper, Param, ParamId};
use burn::tensor::Tensor;

use super::config::{OptimizerConfig, OptimizerKind};
use crate::flow::{Gradients, NamedParameter, named_parameters};
use crate::kernels::adam::{self, Clip, Moments, Norm};
use crate::kernels::average;

/// Adam or Adamax (Kingma & Ba 2015, algorithms 1 and 2) and its state.
#[derive(Debug, Default)]
pub struct Optimizer {
    config: OptimizerConfig,
    /// Steps made with this state.
    step: u64,
    moments: HashMap<ParamId, Moments>,
}

/// First and second moment of a parameter under its name: what a checkpoint holds.
pub type StoredMoments = HashMap<String, [Vec<f32>; 2]>;

impl Optimizer {
    /// Without moments yet.
    pub fn new(config: OptimizerConfig) -> Self {
        Self { config, ..Self::default() }
    }

    /// As it was after `step` steps. There is a moment of each parameter's size for every parameter of the module.
    pub fn restore<M: Module>(config: OptimizerConfig, step: u64, mut stored: StoredMoments, module: &M) -> Self {
        let moments = named_parameters(module).into_iter().filter_map(|parameter| {
            let moments = stored.remove(&parameter.name)?;
            Some((parameter.id, Moments::from_host(moments, &parameter.values)))
        });
        Self { config, step, moments: moments.collect() }
    }

    /// Steps made with this state.
    pub fn steps(&self) -> u64 {
        self.step
    }

    /// The moments by the names of the module's parameters.
    pub fn stored_moments<M: Module>(&self, module: &M) -> StoredMoments {
        let stored = |NamedParameter { name, id, .. }| Some((name, self.moments.get(&id)?.to_host()));
        named_parameters(module).into_iter().filter_map(stored).collect()
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

    /// The module one step on, along the clipped gradients. A parameter without a gradient stays.
    pub fn step<M: Module>(&mut self, module: M, gradients: Gradients, learning_rate: f64, clip: &Clip) -> M {
        self.step += 1;
        let OptimizerConfig { name, betas: [beta1, beta2], epsilon, weight_decay, .. } = self.config;
        let norm = match name {
            OptimizerKind::Adam => Norm::Square,
            OptimizerKind::Adamax => Norm::Infinity,
        };
        let adam = adam::Adam { norm, learning_rate, beta1, beta2, epsilon, weight_decay, step: self.step };
        module.map(&mut Stepper { adam, clip, gradients, moments: &mut self.moments })
    }
}

struct Stepper<'a> {
    adam: adam::Adam,
    clip: &'a Clip,
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
        let (values, moments) = adam::step(&self.adam, values, gradient, self.clip, moments);
        self.moments.insert(id, moments);
        Param::from_mapped_value(id, values, mapper)
    }
}

/// The average of a module's parameters, moved towards those that the module has now.
///
/// After `steps` steps with `decay` it is `sum of decay^(steps - i) w_i`, divided by the sum of its weights: an average
/// from the first step on, not one that starts at zero (Kingma & Ba 2015, section 3).
pub fn move_average<M: Module>(average: M, module: &M, decay: f64, steps: u64) -> M {
    let rate = (1.0 - decay) / (1.0 - decay.powf(steps as f64));
    let values = named_parameters(module).into_iter().map(|parameter| (parameter.id, parameter.values)).collect();
    average.map(&mut Averager { values, rate })
}

struct Averager {
    values: HashMap<ParamId, Tensor<1>>,
    rate: f64,
}

impl ModuleMapper for Averager {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(values) = self.values.get(&param.id) else { return param };
        let (id, average, mapper) = param.consume();
        Param::from_mapped_value(id, average::step(average, values, self.rate), mapper)
    }
}
