//! Models for other programs.

use std::path::Path;

use super::flow_model::FlowModel;
use crate::error::{Error, Result};
use crate::models::ModelConfig;
use crate::store::onnx::{self, Part};
use crate::store::pytorch::{tensors_by_name, write_rosinality};

impl FlowModel {
    /// Writes a part of the model as an ONNX file, beside and renamed: [`onnx::write`] says what is in it.
    pub fn export_onnx(&self, path: &Path, part: Part) -> Result<()> {
        let (path, model) = (path.to_owned(), self.clone());
        self.with_state(move |state| {
            if !model.initialized() {
                return Err(Error::NotInitialized);
            }
            onnx::write(&path, model.config(), state.inferred(), part)
        })
    }

    /// Writes the weights as rosinality/glow-pytorch saves them, beside and renamed.
    ///
    /// # Errors
    ///
    /// [`Error::Option`] for the option that keeps the model from being held; [`Error::File`] above 4 GB.
    pub fn export_rosinality(&self, path: &Path) -> Result<()> {
        let (path, model) = (path.to_owned(), self.clone());
        self.with_state(move |state| match model.config() {
            ModelConfig::Glow(config) => {
                write_rosinality(&path, config, tensors_by_name(state.inferred()), model.initialized())
            }
            other => Err(Error::option("kind", "\"glow\"", other.kind())),
        })
    }
}
