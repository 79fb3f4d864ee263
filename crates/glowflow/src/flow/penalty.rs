//! Parameters that the loss holds small by a penalty of their squares.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;

use super::{Gradients, ModulePath};

/// A parameter whose squares are added to the loss, `5e-5 sum(v^2)`; the reported bits per dimension are without them.
///
/// Dinh, Sohl-Dickstein & Bengio 2017, section 4.1: L2 regularisation of the weight scales.
#[derive(Module, Debug)]
pub struct Penalised {
    /// Shape `[channels]`.
    pub value: Param<Tensor<1>>,
}

impl Penalised {
    /// Of the squares, in the unit of the loss: bits per dimension.
    const WEIGHT: f64 = 5e-5;

    /// Starts at `values`, `[channels]`.
    pub fn new(values: Tensor<1>) -> Self {
        Self { value: Param::from_tensor(values) }
    }
}

/// Adds the gradient of the module's penalties: once a step, however many batches it has.
pub fn add_penalties<M: Module>(module: &M, gradients: &mut Gradients) {
    module.visit(&mut Visitor { path: ModulePath::default(), gradients });
}

struct Visitor<'a> {
    path: ModulePath,
    gradients: &'a mut Gradients,
}

impl ModuleVisitor for Visitor<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, container: &str) {
        self.path.exit(container);
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if self.path.is_penalised() {
            self.gradients.add(param, param.val().mul_scalar(2.0 * Penalised::WEIGHT));
        }
    }
}
