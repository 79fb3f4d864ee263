//! Tensors by name on their way into a network and out of it.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, Int, Tensor, TensorData};

use super::layout::{EngineTensor, EngineTensors, Numbers};
use crate::error::{Error, Result};
use crate::flow::ModulePath;
use crate::models::network::Network;
use crate::store::model::tensors_of;
use crate::store::safetensors::{Dtype, words};

/// The network with these in place of its own; what they do not name stays.
///
/// # Errors
///
/// [`Error::Internal`] where a name or shape is not the network's.
pub(crate) fn with_tensors(network: Network, tensors: EngineTensors, device: &Device) -> Result<Network> {
    let mut mapper = Assign { path: ModulePath::default(), tensors, device: device.clone(), misfit: None };
    let network = network.map(&mut mapper);
    match mapper.misfit.or_else(|| mapper.tensors.into_keys().next()) {
        Some(name) => Err(Error::Internal { message: format!("a layout says what is not of the model: {name}") }),
        None => Ok(network),
    }
}

/// Everything that a network's file holds.
pub(crate) fn tensors_by_name(network: &Network) -> EngineTensors {
    let named = tensors_of(network, None).into_iter().map(|tensor| {
        let numbers = if tensor.dtype == Dtype::I32 {
            Numbers::Integers(words(&tensor.data).map(i32::from_le_bytes).collect())
        } else {
            Numbers::Floats(words(&tensor.data).map(f32::from_le_bytes).collect())
        };
        (tensor.name, EngineTensor { shape: tensor.shape, numbers })
    });
    named.collect()
}

struct Assign {
    path: ModulePath,
    tensors: EngineTensors,
    device: Device,
    misfit: Option<String>,
}

impl Assign {
    /// The tensor of the current path, if its shape is this.
    fn take(&mut self, shape: &[usize]) -> Option<Numbers> {
        let name = self.path.name();
        let tensor = self.tensors.remove(&name)?;
        if tensor.shape == shape {
            return Some(tensor.numbers);
        }
        self.misfit.get_or_insert(name);
        None
    }
}

impl ModuleMapper for Assign {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }
    fn exit_module(&mut self, _name: &str, container: &str) {
        self.path.exit(container);
    }
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let shape = param.val().dims();
        match self.take(&shape) {
            Some(Numbers::Floats(values)) => {
                param.map(|_| Tensor::from_data(TensorData::new(values, shape), &self.device))
            }
            _ => param,
        }
    }
    fn map_int<const D: usize>(&mut self, param: Param<Tensor<D, Int>>) -> Param<Tensor<D, Int>> {
        let shape = param.val().dims();
        match self.take(&shape) {
            Some(Numbers::Integers(values)) => {
                param.map(|_| Tensor::from_data(TensorData::new(values, shape), &self.device))
            }
            _ => param,
        }
    }
}
