//! What a model is made of.

use glowflow::models::structure;
use napi_derive::napi;

use crate::options::model_config;

/// A layer of a model.
#[napi(object, object_from_js = false)]
pub struct LayerInfo {
    /// Where it is in the model.
    pub path: String,
    /// Height, width and channels of what it gives.
    #[napi(ts_type = "[height: number, width: number, channels: number]")]
    pub shape: Vec<u32>,
    /// Trained numbers.
    pub parameters: f64,
}

/// The layers of a `ModelConfig` as JSON, defaults left out, in the order in which an image meets them.
#[napi]
pub fn layers(config: String) -> napi::Result<Vec<LayerInfo>> {
    let config = model_config(&config)?;
    let info = |layer: structure::LayerInfo| LayerInfo {
        path: layer.path,
        shape: layer.shape.map(|size| size as u32).to_vec(),
        parameters: layer.parameters as f64,
    };
    Ok(structure::layers(&config).into_iter().map(info).collect())
}
