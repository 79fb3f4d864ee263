//! Options, as JSON with the defaults left out, and what the engine says of them.

use glowflow::{Error, ModelConfig, TrainConfig};
use napi_derive::napi;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::to_napi;

/// The engine's `Default` with what `json` gives put over it.
pub fn over_default<T: Default + Serialize + DeserializeOwned>(json: &str) -> napi::Result<T> {
    over(&T::default(), json)
}

/// `base` with what `json` gives put over it.
pub fn over<T: Serialize + DeserializeOwned>(base: &T, json: &str) -> napi::Result<T> {
    let read = || -> serde_json::Result<T> {
        let mut options = serde_json::to_value(base)?;
        put_over(&mut options, serde_json::from_str(json)?);
        serde_json::from_value(options)
    };
    read().map_err(|error| to_napi(&Error::option("options", "valid options", error)))
}

/// The defaults of the kind of model that `json` names, with what it gives put over them.
pub fn model_config(json: &str) -> napi::Result<ModelConfig> {
    let given: Value = serde_json::from_str(json).map_err(|error| to_napi(&Error::option("options", "JSON", error)))?;
    let kind = given["kind"].as_str().unwrap_or_default();
    let base = ModelConfig::default_of(kind).map_err(|error| to_napi(&error))?;
    over(&base, json)
}

fn put_over(options: &mut Value, given: Value) {
    match (options, given) {
        (Value::Object(options), Value::Object(given)) => {
            for (name, value) in given {
                put_over(options.entry(name).or_insert(Value::Null), value);
            }
        }
        (options, given) => *options = given,
    }
}

/// An option that the engine refuses.
#[napi(object, object_from_js = false)]
pub struct OptionProblem {
    /// Its name as in the API.
    pub option: String,
    /// What it may be.
    pub expected: String,
    /// What came.
    pub received: String,
    /// The sentence.
    pub message: String,
}

fn describe(problems: Vec<Error>) -> Vec<OptionProblem> {
    problems
        .into_iter()
        .filter_map(|error| {
            let message = error.to_string();
            let Error::Option { option, expected, received } = error else { return None };
            Some(OptionProblem { option, expected, received, message })
        })
        .collect()
}

/// Everything that the engine refuses in a `ModelConfig`.
#[napi]
pub fn model_problems(config: String) -> napi::Result<Vec<OptionProblem>> {
    Ok(describe(model_config(&config)?.problems()))
}

/// Everything that the engine refuses in a `TrainConfig`.
#[napi]
pub fn train_problems(config: String) -> napi::Result<Vec<OptionProblem>> {
    Ok(describe(over_default::<TrainConfig>(&config)?.problems()))
}
