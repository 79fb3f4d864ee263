//! Models for other programs.

use std::path::Path;

use super::flow_model::FlowModel;
use crate::error::{Error, Result};
use crate::store::onnx::{self, Part};

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
}
