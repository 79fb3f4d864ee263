//! Checkpoints of a run: a folder each, the newest ones kept.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::config::{Activations, CheckpointConfig, TrainConfig};
use crate::error::{Error, Result};
use crate::models::FlowModel;
use crate::store::model::{self, MODEL_FILE};

/// Writes the model's checkpoint of this step, and removes those that are no longer to be kept.
///
/// The folder appears whole: it is written under another name and renamed.
pub fn write(
    flow_model: &FlowModel,
    train: &TrainConfig,
    activations: Activations,
    to: &CheckpointConfig,
) -> Result<PathBuf> {
    let step = flow_model.step();
    let folder = to.folder.join(format!("step-{step:08}"));
    let unfinished = to.folder.join(format!(".step-{step:08}.unfinished"));
    clear(&unfinished)?;
    fs::create_dir_all(&unfinished).map_err(Error::io(&unfinished))?;
    // The choice is kept, so that a resumed run makes the same one on a machine with other memory.
    let resolved = TrainConfig { activations: Some(activations), ..train.clone() };
    let training = serde_json::to_string(&resolved).map_err(|error| Error::Internal { message: error.to_string() })?;
    let file = unfinished.join(MODEL_FILE);
    let owned = flow_model.clone();
    flow_model.with_state(move |state| {
        let extra = BTreeMap::from([("training".to_owned(), training)]);
        model::write_with(&file, owned.config(), &state.glow, owned.initialized(), step, &extra)
    })?;
    clear(&folder)?;
    fs::rename(&unfinished, &folder).map_err(Error::io(&folder))?;
    for old in existing(&to.folder)?.into_iter().rev().skip(to.keep) {
        clear(&old)?;
    }
    Ok(folder)
}

/// The checkpoints of a folder, oldest first.
fn existing(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).map_err(Error::io(folder))?;
    let mut found: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("step-")))
        .filter(|path| path.join(MODEL_FILE).is_file())
        .collect();
    found.sort();
    Ok(found)
}

/// Removes a folder that may not be there.
fn clear(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io(folder)(error)),
        _ => Ok(()),
    }
}
