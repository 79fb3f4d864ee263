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
            let glow = state.average.as_ref().unwrap_or(&state.glow);
            onnx::write(&path, model.config(), glow, part)
        })
    }
}
