//! A model's file: weights and config, one safetensors file.

use std::collections::BTreeMap;
use std::path::Path;

use ::safetensors::Dtype;
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Device, Int, Shape, Tensor, TensorData};

use super::safetensors::{NewTensor, SafeFile, words, write_safetensors};
use crate::error::{Error, Result};
use crate::flow::ModulePath;
use crate::models::network::Network;
use crate::models::{ModelConfig, memory};

/// The `format` of the file's metadata.
const FORMAT: &str = "glowflow";
/// Versions that differ in what they store differ in this.
const VERSION: &str = "2";

/// What a model's file holds.
pub struct StoredModel {
    /// What the model is made of.
    pub config: ModelConfig,
    /// The weights.
    pub network: Network,
    /// Whether data have set the actnorms.
    pub initialized: bool,
    /// Optimizer steps that the weights have had.
    pub step: u64,
}

/// Writes a model's file, beside and renamed.
pub fn write(path: &Path, config: &ModelConfig, network: &Network, initialized: bool, step: u64) -> Result<()> {
    let config = serde_json::to_string(config).map_err(|error| Error::Internal { message: error.to_string() })?;
    let metadata = BTreeMap::from(
        [
            ("format", FORMAT.to_owned()),
            ("version", VERSION.to_owned()),
            ("config", config),
            ("initialized", initialized.to_string()),
            ("step", step.to_string()),
        ]
        .map(|(key, value)| (key.to_owned(), value)),
    );
    write_safetensors(path, tensors_of(network, None), &metadata)
}

/// Reads a model's file.
///
/// # Errors
///
/// [`Error::File`] for a file of another format or version; [`Error::Weights`] for tensors that are missing, too many,
/// of another shape or not finite; [`Error::OutOfMemory`] before anything large is allocated.
pub fn read(path: &Path, device: &Device) -> Result<StoredModel> {
    let file = SafeFile::open(path)?;
    let bad = |reason: String| Error::file(path, reason);
    let what = "a model";
    file.expect_format(what, FORMAT, VERSION)?;
    let metadata = |key: &str| file.expect_metadata(what, key);
    let config: ModelConfig = serde_json::from_str(metadata("config")?)
        .map_err(|error| bad(format!("Expected the config of a model but found: {error}")))?;
    config.validate().map_err(|error| bad(format!("Its config is out of range. {error}")))?;
    let step = metadata("step")?.parse().map_err(|_| bad("Expected a number of steps".into()))?;
    let initialized = metadata("initialized")? == "true";
    // A file that holds fewer numbers than its config needs is refused before those are allocated.
    let held: u64 = file.names().iter().filter_map(|name| file.tensor(name).ok()).map(|t| t.data.len() as u64).sum();
    let needed = memory::parameter_count(&config) * 4;
    if held < needed {
        return Err(Error::weights(
            path,
            format!("Expected {needed} bytes of weights for its config but found {held}"),
        ));
    }
    memory::check(&config)?;
    let (network, used) = load(Network::new(&config, device), &file, None, device)?;
    check_all_used(&file, &used)?;
    Ok(StoredModel { config, network, initialized, step })
}

/// The tensors of a module, each under its path after `prefix`.
pub(super) fn tensors_of<M: Module>(module: &M, prefix: Option<&str>) -> Vec<NewTensor<'static>> {
    let mut visitor = Collect { path: ModulePath::below(prefix), tensors: Vec::new() };
    module.visit(&mut visitor);
    visitor.tensors
}

struct Collect {
    path: ModulePath,
    tensors: Vec<NewTensor<'static>>,
}

impl Collect {
    fn push(&mut self, dtype: Dtype, shape: Vec<usize>, data: &TensorData) {
        self.tensors.push(NewTensor { name: self.path.name(), dtype, shape, data: data.as_bytes().to_vec().into() });
    }
}

impl ModuleVisitor for Collect {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }
    fn exit_module(&mut self, _name: &str, container: &str) {
        self.path.exit(container);
    }
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let values = param.val();
        self.push(Dtype::F32, values.dims().to_vec(), &values.to_data_as::<f32>());
    }
    fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<D, Int>>) {
        let values = param.val();
        self.push(Dtype::I32, values.dims().to_vec(), &values.to_data_as::<i32>());
    }
}

/// A module with every tensor replaced by the file's, and the names that were used.
pub(super) fn load<M: Module>(
    module: M,
    file: &SafeFile,
    prefix: Option<&str>,
    device: &Device,
) -> Result<(M, Vec<String>)> {
    let path = ModulePath::below(prefix);
    let mut loader = Load { file, path, used: Vec::new(), device: device.clone(), error: None };
    let module = module.map(&mut loader);
    match loader.error {
        Some(error) => Err(error),
        None => Ok((module, loader.used)),
    }
}

/// Refuses a file with tensors that nobody has asked for.
pub(super) fn check_all_used(file: &SafeFile, used: &[String]) -> Result<()> {
    match file.names().into_iter().find(|name| !used.contains(name)) {
        Some(name) => Err(misfit(file, format!("Expected no tensor named {name}"))),
        None => Ok(()),
    }
}

/// A tensor of the file as numbers, if it has this shape and they are finite.
pub(super) fn finite_floats(file: &SafeFile, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
    let values: Vec<f32> = words(bytes(file, name, Dtype::F32, shape)?).map(f32::from_le_bytes).collect();
    match values.iter().find(|value| !value.is_finite()) {
        Some(value) => Err(misfit(file, format!("Expected finite numbers in {name} but found {value}"))),
        None => Ok(values),
    }
}

/// A permutation's order, or signs.
fn integers(file: &SafeFile, name: &str, shape: &[usize]) -> Result<Vec<i32>> {
    let values: Vec<i32> = words(bytes(file, name, Dtype::I32, shape)?).map(i32::from_le_bytes).collect();
    let mut sorted = values.clone();
    sorted.sort_unstable();
    let fits = if name.ends_with(".signs") {
        values.iter().all(|sign| sign.abs() == 1)
    } else {
        sorted.iter().enumerate().all(|(index, &value)| value == index as i32)
    };
    if fits { Ok(values) } else { Err(misfit(file, format!("Expected {name} to be a permutation or signs"))) }
}

fn bytes<'a>(file: &'a SafeFile, name: &str, dtype: Dtype, shape: &[usize]) -> Result<&'a [u8]> {
    let found = file.tensor(name)?;
    if (found.dtype, found.shape) == (dtype, shape) {
        return Ok(found.data);
    }
    let reason = format!("Expected {name} to be {dtype:?} {shape:?} but found {:?} {:?}", found.dtype, found.shape);
    Err(misfit(file, reason))
}

fn misfit(file: &SafeFile, reason: String) -> Error {
    Error::weights(file.path(), reason)
}

struct Load<'a> {
    file: &'a SafeFile,
    path: ModulePath,
    used: Vec<String>,
    device: Device,
    /// The first misfit; what follows is left as it was.
    error: Option<Error>,
}

impl Load<'_> {
    /// What `read` makes of the tensor at the current path.
    fn read<T>(&mut self, shape: &Shape, read: fn(&SafeFile, &str, &[usize]) -> Result<Vec<T>>) -> Option<Vec<T>> {
        if self.error.is_some() {
            return None;
        }
        let (name, shape) = (self.path.name(), shape.iter().copied().collect::<Vec<_>>());
        match read(self.file, &name, &shape) {
            Ok(values) => {
                self.used.push(name);
                Some(values)
            }
            Err(error) => {
                self.error = Some(error);
                None
            }
        }
    }
}

impl ModuleMapper for Load<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }
    fn exit_module(&mut self, _name: &str, container: &str) {
        self.path.exit(container);
    }
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let shape = param.val().shape();
        match self.read(&shape, finite_floats) {
            Some(values) => param.map(|_| Tensor::from_data(TensorData::new(values, shape), &self.device)),
            None => param,
        }
    }
    fn map_int<const D: usize>(&mut self, param: Param<Tensor<D, Int>>) -> Param<Tensor<D, Int>> {
        let shape = param.val().shape();
        match self.read(&shape, integers) {
            Some(values) => param.map(|_| Tensor::from_data(TensorData::new(values, shape), &self.device)),
            None => param,
        }
    }
}
