//! A model's file: weights and config, one safetensors file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ::safetensors::Dtype;
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Device, Int, Shape, Tensor, TensorData};

use super::safetensors::{NewTensor, SafeFile, words, write_safetensors};
use crate::error::{Error, Result};
use crate::models::glow::Glow;
use crate::models::{GlowConfig, memory};

/// The `format` of the file's metadata.
const FORMAT: &str = "glowflow";
/// Versions that differ in what they store differ in this.
const VERSION: &str = "1";
/// A checkpoint's folder holds its model under this name.
pub const MODEL_FILE: &str = "model.safetensors";

/// What a model's file holds.
pub struct StoredModel {
    /// What the model is made of.
    pub config: GlowConfig,
    /// The weights.
    pub glow: Glow,
    /// Whether data have set the actnorms.
    pub initialized: bool,
    /// Optimizer steps that the weights have had.
    pub step: u64,
}

/// Writes a model's file, beside and renamed.
pub fn write(path: &Path, config: &GlowConfig, glow: &Glow, initialized: bool, step: u64) -> Result<()> {
    write_with(path, config, glow, initialized, step, &BTreeMap::new())
}

/// [`write()`] with more metadata.
pub fn write_with(
    path: &Path,
    config: &GlowConfig,
    glow: &Glow,
    initialized: bool,
    step: u64,
    extra: &BTreeMap<String, String>,
) -> Result<()> {
    let mut visitor = Collect { path: Vec::new(), tensors: Vec::new() };
    glow.visit(&mut visitor);
    let config = serde_json::to_string(config).map_err(|error| Error::Internal { message: error.to_string() })?;
    let mut metadata = extra.clone();
    metadata.extend(
        [
            ("format", FORMAT.to_owned()),
            ("version", VERSION.to_owned()),
            ("model", "glow".to_owned()),
            ("config", config),
            ("initialized", initialized.to_string()),
            ("step", step.to_string()),
        ]
        .map(|(key, value)| (key.to_owned(), value)),
    );
    write_safetensors(path, visitor.tensors, &metadata)
}

/// Reads a model's file, or the model of a checkpoint's folder.
///
/// # Errors
///
/// [`Error::File`] for a file of another format or version; [`Error::Weights`] for tensors that are missing, too many,
/// of another shape or not finite; [`Error::OutOfMemory`] before anything large is allocated.
pub fn read(path: &Path, device: &Device) -> Result<StoredModel> {
    let path: PathBuf = if path.is_dir() { path.join(MODEL_FILE) } else { path.to_owned() };
    let file = SafeFile::open(&path)?;
    let bad = |reason: String| Error::file(&path, reason);
    let what = "a model";
    file.expect_format(what, FORMAT, VERSION)?;
    let metadata = |key: &str| file.expect_metadata(what, key);
    let config: GlowConfig = serde_json::from_str(metadata("config")?)
        .map_err(|error| bad(format!("Expected the config of a model but found: {error}")))?;
    config.validate().map_err(|error| bad(format!("Its config is out of range. {error}")))?;
    let step = metadata("step")?.parse().map_err(|_| bad("Expected a number of steps".into()))?;
    let initialized = metadata("initialized")? == "true";
    // A file that holds fewer numbers than its config needs is refused before those are allocated.
    let held: u64 = file.names().iter().filter_map(|name| file.tensor(name).ok()).map(|t| t.data.len() as u64).sum();
    let needed = memory::parameter_count(&config) * 4;
    if held < needed {
        return Err(Error::Weights {
            path,
            reason: format!("Expected {needed} bytes of weights for its config but found {held}"),
        });
    }
    memory::check(&config)?;
    let mut loader = Load { file: &file, path: Vec::new(), used: Vec::new(), device: device.clone(), error: None };
    let glow = Glow::new(&config, device).map(&mut loader);
    if let Some(error) = loader.error {
        return Err(error);
    }
    if let Some(name) = file.names().into_iter().find(|name| !loader.used.contains(name)) {
        return Err(Error::Weights { path, reason: format!("Expected no tensor named {name}") });
    }
    Ok(StoredModel { config, glow, initialized, step })
}

/// Gathers every tensor of a module under its path.
struct Collect {
    path: Vec<String>,
    tensors: Vec<NewTensor<'static>>,
}

impl Collect {
    fn push(&mut self, dtype: Dtype, shape: Vec<usize>, data: &TensorData) {
        self.tensors.push(NewTensor { name: self.path.join("."), dtype, shape, data: data.as_bytes().to_vec().into() });
    }
}

impl ModuleVisitor for Collect {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }
    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
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

/// Replaces every tensor of a module by the file's.
struct Load<'a> {
    file: &'a SafeFile,
    path: Vec<String>,
    used: Vec<String>,
    device: Device,
    /// The first misfit; what follows is left as it was.
    error: Option<Error>,
}

impl Load<'_> {
    /// The tensor at the current path, if it has this type and shape.
    fn tensor(&mut self, dtype: Dtype, shape: &Shape) -> Option<Vec<u8>> {
        if self.error.is_some() {
            return None;
        }
        let name = self.path.join(".");
        let found = match self.file.tensor(&name) {
            Ok(found) => found,
            Err(error) => {
                self.error = Some(error);
                return None;
            }
        };
        let shape: Vec<usize> = shape.iter().copied().collect();
        if found.dtype != dtype || found.shape != shape {
            return self.misfit(format!(
                "Expected {name} to be {dtype:?} {shape:?} but found {:?} {:?}",
                found.dtype, found.shape
            ));
        }
        let data = found.data.to_vec();
        self.used.push(name);
        Some(data)
    }

    fn misfit<T>(&mut self, reason: String) -> Option<T> {
        self.error = Some(Error::Weights { path: self.file.path().to_owned(), reason });
        None
    }

    fn floats(&mut self, shape: &Shape) -> Option<Vec<f32>> {
        let values: Vec<f32> = words(&self.tensor(Dtype::F32, shape)?).map(f32::from_le_bytes).collect();
        match values.iter().find(|value| !value.is_finite()) {
            Some(value) => self.misfit(format!("Expected finite weights in {} but found {value}", self.path.join("."))),
            None => Some(values),
        }
    }

    /// A permutation's order, or signs.
    fn integers(&mut self, shape: &Shape) -> Option<Vec<i32>> {
        let values: Vec<i32> = words(&self.tensor(Dtype::I32, shape)?).map(i32::from_le_bytes).collect();
        let name = self.path.join(".");
        let mut sorted = values.clone();
        sorted.sort_unstable();
        let fits = match self.path.last().map(String::as_str) {
            Some("signs") => values.iter().all(|sign| sign.abs() == 1),
            _ => sorted.iter().enumerate().all(|(index, &value)| value == index as i32),
        };
        if fits { Some(values) } else { self.misfit(format!("Expected {name} to be a permutation or signs")) }
    }
}

impl ModuleMapper for Load<'_> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }
    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let shape = param.val().shape();
        match self.floats(&shape) {
            Some(values) => param.map(|_| Tensor::from_data(TensorData::new(values, shape), &self.device)),
            None => param,
        }
    }
    fn map_int<const D: usize>(&mut self, param: Param<Tensor<D, Int>>) -> Param<Tensor<D, Int>> {
        let shape = param.val().shape();
        match self.integers(&shape) {
            Some(values) => param.map(|_| Tensor::from_data(TensorData::new(values, shape), &self.device)),
            None => param,
        }
    }
}
