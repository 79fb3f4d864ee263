//! Other projects' models as ours.

use std::path::Path;

use super::config::ModelConfig;
use super::flow_model::{FlowModel, default_batch};
use super::network::Network;
use super::{memory, self_check};
use crate::device::Device;
use crate::error::Result;
use crate::store::pytorch::{ImportOptions, Imported, Peer, Report, with_tensors};

/// A model that has been imported, and what became of the file's tensors.
#[derive(Debug)]
pub struct ImportedModel {
    /// In the layout of its project: training goes on as there.
    pub model: FlowModel,
    /// Every name of the file, and those that it has not.
    pub report: Report,
}

impl FlowModel {
    /// Reads another project's weights, from a file of `torch.save` or of safetensors. Sizes are those of the weights.
    ///
    /// # Errors
    ///
    /// As [`Imported::read`]; [`Error::OutOfMemory`](crate::Error::OutOfMemory) before a model is made that does not fit.
    pub fn import(path: &Path, peer: Peer, options: &ImportOptions, device: &Device) -> Result<ImportedModel> {
        let Imported { config, initialized, tensors, report } = Imported::read(path, peer, options)?;
        let config = ModelConfig::from(config);
        memory::check(&config)?;
        self_check::check_once(&config, default_batch(&config), device)?;
        let (on, of) = (device.clone(), config.clone());
        let network = device.run(move || with_tensors(Network::new(&of, on.burn()), tensors, on.burn()))?;
        Ok(ImportedModel { model: Self::from_parts(config, device, network, initialized, 0), report })
    }
}
