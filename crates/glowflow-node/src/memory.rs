//! What a training step needs.

use glowflow::TrainConfig;
use glowflow::models::memory;
use napi_derive::napi;

use crate::options::{model_config, over_default};

/// Trained numbers of a model, and bytes of a training step by how activations are held.
#[napi(object, object_from_js = false)]
pub struct MemoryEstimate {
    /// Trained numbers.
    pub parameters: f64,
    /// Every activation kept.
    pub stored: f64,
    /// Each step's input kept.
    pub inputs: f64,
    /// Inputs rebuilt.
    pub constant: f64,
}

/// Of a `ModelConfig` and a `TrainConfig` as JSON, defaults left out.
#[napi]
pub fn estimate_memory(config: String, train: String) -> napi::Result<MemoryEstimate> {
    let (config, train) = (model_config(&config)?, over_default::<TrainConfig>(&train)?);
    let estimate = memory::MemoryEstimate::of(&config, &train);
    Ok(MemoryEstimate {
        parameters: estimate.parameters as f64,
        stored: estimate.stored as f64,
        inputs: estimate.inputs as f64,
        constant: estimate.constant as f64,
    })
}
