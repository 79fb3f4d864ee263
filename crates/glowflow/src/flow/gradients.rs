//! Gradients on their way from the layers to the optimizer.

use std::collections::HashMap;

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::tensor::Tensor;

use super::ModulePath;

/// One flat gradient for each parameter: what a step yields, a `Reducer` averages and the optimizer takes.
#[derive(Debug, Default)]
pub struct Gradients {
    /// Boxed: a burn tensor is 640 bytes besides its values, which every empty place of the table would have, too.
    by_parameter: HashMap<ParamId, Box<Tensor<1>>>,
}

impl Gradients {
    /// Adds to what the parameter has so far.
    pub fn add<const D: usize>(&mut self, parameter: &Param<Tensor<D>>, gradient: Tensor<D>) {
        let mut gradient = gradient.flatten::<1>(0, D - 1);
        if let Some(sum) = self.by_parameter.remove(&parameter.id) {
            gradient = *sum + gradient;
        }
        self.by_parameter.insert(parameter.id, Box::new(gradient));
    }

    /// The parameter's gradient, flat.
    pub fn get(&self, parameter: ParamId) -> Option<&Tensor<1>> {
        self.by_parameter.get(&parameter).map(|gradient| &**gradient)
    }

    /// Takes the parameter's gradient out.
    pub fn remove(&mut self, parameter: ParamId) -> Option<Tensor<1>> {
        self.by_parameter.remove(&parameter).map(|gradient| *gradient)
    }
}

/// A trainable parameter and its place in the model, e.g. `levels.0.steps.3.actnorm.bias`.
#[derive(Debug, Clone)]
pub struct NamedParameter {
    /// Path through the modules' field names.
    pub name: String,
    /// Key in [`Gradients`].
    pub id: ParamId,
    /// The values, flat.
    pub values: Tensor<1>,
    /// Before flattening.
    pub shape: Vec<usize>,
}

/// The trainable parameters of a module, in the order of its fields: the same in every run.
pub fn named_parameters<M: Module>(module: &M) -> Vec<NamedParameter> {
    #[derive(Default)]
    struct Visitor {
        path: ModulePath,
        found: Vec<NamedParameter>,
    }
    impl ModuleVisitor for Visitor {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.path.enter(name, container);
        }
        fn exit_module(&mut self, _name: &str, container: &str) {
            self.path.exit(container);
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if !self.path.is_trained() {
                return;
            }
            let values = param.val();
            self.found.push(NamedParameter {
                name: self.path.name(),
                id: param.id,
                shape: values.dims().to_vec(),
                values: values.flatten(0, D - 1),
            });
        }
    }
    let mut visitor = Visitor::default();
    module.visit(&mut visitor);
    visitor.found
}
