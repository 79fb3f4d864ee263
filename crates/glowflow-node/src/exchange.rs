//! Models of other projects.

use std::path::PathBuf;

use glowflow::ImportOptions;
use glowflow::store::pytorch;
use napi::Env;
use napi::bindgen_prelude::PromiseRaw;
use napi_derive::napi;

use crate::device::Device;
use crate::error::to_napi;
use crate::model::Model;
use crate::task::spawn;

/// What weights cannot tell.
#[napi(object, object_to_js = false)]
pub struct WeightsOptions {
    /// Whose names the file has.
    #[napi(ts_type = "'rosinality' | 'y0ast' | 'chaiyujin' | 'normflows'")]
    pub layout: String,
    /// Of the images.
    pub height: u32,
    /// Of the images.
    pub width: u32,
    /// Of each channel.
    pub bits: Option<u32>,
    /// Where the owner's pixels were.
    #[napi(ts_type = "'centred' | 'unit'")]
    pub input_range: Option<String>,
    /// Whether weights may be missing.
    pub allow_partial: bool,
}

/// A model that has been imported.
#[napi]
pub struct ImportedModel {
    model: glowflow::FlowModel,
    report: String,
}

#[napi]
impl ImportedModel {
    /// The model.
    #[napi(getter)]
    pub fn model(&self) -> Model {
        Model { inner: self.model.clone() }
    }

    /// What became of the file's tensors, as JSON.
    #[napi(getter)]
    pub fn report(&self) -> String {
        self.report.clone()
    }
}

/// A model from another project's weights.
#[napi]
pub fn import_weights<'env>(
    env: &'env Env,
    path: String,
    options: WeightsOptions,
    device: &Device,
) -> napi::Result<PromiseRaw<'env, ImportedModel>> {
    let convert = || {
        let peer: pytorch::Peer = options.layout.parse()?;
        let size = [options.height as usize, options.width as usize];
        let usual = ImportOptions::of_size(size);
        let input_range = options.input_range.as_deref().map_or(Ok(usual.input_range), str::parse)?;
        Ok((
            peer,
            ImportOptions {
                bits: options.bits.unwrap_or(usual.bits),
                input_range,
                partial: options.allow_partial,
                ..usual
            },
        ))
    };
    let (peer, options) = convert().map_err(|error: glowflow::Error| to_napi(&error))?;
    let (path, device) = (PathBuf::from(path), device.inner.clone());
    spawn(
        env,
        move || glowflow::FlowModel::import(&path, peer, &options, &device),
        |_, imported| {
            let report =
                serde_json::to_string(&imported.report).map_err(|error| napi::Error::from_reason(error.to_string()))?;
            Ok(ImportedModel { model: imported.model, report })
        },
    )
}
