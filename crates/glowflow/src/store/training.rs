//! What a run needs beside its model to go on: the optimizer's moments, the weights that are trained where the model's
//! are their average, and the state of the run.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::Device;

use super::model::{check_all_used, finite_floats, load, tensors_of};
use super::safetensors::{NewTensor, SafeFile, write_safetensors};
use crate::error::Result;
use crate::flow::{NamedParameter, named_parameters};
use crate::models::network::Network;
use crate::train::StoredMoments;

/// The `format` of the file's metadata.
const FORMAT: &str = "glowflow-training";
/// Versions that differ in what they store differ in this.
const VERSION: &str = "1";
/// Prefixes of the tensors' names.
const MOMENTS: [&str; 2] = ["first", "second"];
const WEIGHTS: &str = "weights";

/// What the file holds.
pub struct StoredTraining {
    /// Of the run, as JSON.
    pub state: String,
    /// The optimizer's.
    pub moments: StoredMoments,
    /// The weights that are trained, where the model's are their average.
    pub weights: Option<Network>,
}

/// Writes the file, beside and renamed. `trained` are the weights that the moments belong to; they are written only
/// where the model's file does not have them.
pub fn write(path: &Path, trained: &Network, in_model: bool, mut moments: StoredMoments, state: String) -> Result<()> {
    let mut tensors = if in_model { Vec::new() } else { tensors_of(trained, Some(WEIGHTS)) };
    for NamedParameter { name, shape, .. } in named_parameters(trained) {
        let Some(moments) = moments.remove(&name) else { continue };
        let tensor =
            |(prefix, values): (&&str, Vec<f32>)| NewTensor::floats(format!("{prefix}.{name}"), shape.clone(), &values);
        tensors.extend(MOMENTS.iter().zip(moments).map(tensor));
    }
    let metadata = [("format", FORMAT.to_owned()), ("version", VERSION.to_owned()), ("state", state)];
    write_safetensors(path, tensors, &BTreeMap::from(metadata.map(|(key, value)| (key.to_owned(), value))))
}

/// Reads the file for a model of these weights.
///
/// # Errors
///
/// [`Error::File`] for a file of another format or version; [`Error::Weights`] for tensors that are missing, too many,
/// of another shape or not finite.
pub fn read(path: &Path, network: &Network, device: &Device) -> Result<StoredTraining> {
    let file = SafeFile::open(path)?;
    let what = "a checkpoint";
    file.expect_format(what, FORMAT, VERSION)?;
    let state = file.expect_metadata(what, "state")?.to_owned();
    let mut used = Vec::new();
    let mut moments = StoredMoments::new();
    for NamedParameter { name, shape, .. } in named_parameters(network) {
        let names = MOMENTS.map(|prefix| format!("{prefix}.{name}"));
        let [first, second] = names.each_ref().map(|name| finite_floats(&file, name, &shape));
        moments.insert(name, [first?, second?]);
        used.extend(names);
    }
    let mut weights = None;
    if file.names().iter().any(|name| name.starts_with(WEIGHTS)) {
        let (trained, names) = load(network.clone(), &file, Some(WEIGHTS), device)?;
        weights = Some(trained);
        used.extend(names);
    }
    check_all_used(&file, &used)?;
    Ok(StoredTraining { state, moments, weights })
}
