//! Checkpoints of a run: a folder each, with pointers to the newest and to the best.
//!
//! `step-00000500/model.safetensors` is the model as evaluation sees it, `training.safetensors` what a run needs beside
//! it to go on. `latest` and `best` are files that hold a checkpoint's name.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::config::{CheckpointConfig, TrainConfig};
use super::optimizer::StoredMoments;
use crate::error::{Error, Result};
use crate::models::FlowModel;
use crate::models::network::Network;
use crate::store::file::write_atomically;
use crate::store::{model, training};

const MODEL_FILE: &str = "model.safetensors";
const TRAINING_FILE: &str = "training.safetensors";
const LATEST: &str = "latest";
const BEST: &str = "best";
/// Checkpoints of a run's folder are in this one.
const CHECKPOINTS: &str = "checkpoints";
/// Longest pointer that is read: names have 13 bytes.
const LONGEST_POINTER: u64 = 64;

/// Where a run is, beside its weights and moments.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunState {
    /// Steps that the weights have had.
    pub step: u64,
    /// Training images so far, over all epochs: the next one's position in their order.
    pub images: u64,
    /// Steps that the optimizer's moments and the average have had.
    pub optimizer_steps: u64,
    /// Of training, this run's earlier parts included.
    pub seconds: f64,
    /// The best evaluation so far.
    pub best: Option<Best>,
    /// [`crate::data::Dataset::fingerprint`] of the training data.
    pub data: String,
    /// Every option; with the seed and the counts above the key of every draw.
    pub train: TrainConfig,
}

/// An evaluation that no other was better than.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Best {
    /// Steps that the weights had had.
    pub step: u64,
    /// Mean over the held-out images.
    pub bits_per_dim: f64,
}

/// A checkpoint to go on from, read with its model.
pub struct Checkpoint {
    /// Where the run was.
    pub state: RunState,
    /// Its folder.
    pub path: PathBuf,
    pub(super) moments: StoredMoments,
    /// The weights that are trained, where the model's are their average.
    pub(super) weights: Option<Network>,
}

impl std::fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Checkpoint").field("path", &self.path).field("state", &self.state).finish_non_exhaustive()
    }
}

impl Checkpoint {
    /// Reads what lies beside a checkpoint's model of these weights, `path` as in [`folder_of`].
    pub(crate) fn read(folder: &Path, network: &Network, device: &burn::tensor::Device) -> Result<Self> {
        let path = folder.join(TRAINING_FILE);
        let training::StoredTraining { state, moments, weights } = training::read(&path, network, device)?;
        let mut state: RunState = serde_json::from_str(&state)
            .map_err(|error| Error::file(&path, format!("Expected the state of a run but found: {error}")))?;
        state.train = moved(state.train, folder);
        state.train.validate()?;
        Ok(Self { state, path: folder.to_owned(), moments, weights })
    }
}

/// The options with the run's places where they are now: a run's folder may have been moved or copied.
fn moved(mut train: TrainConfig, checkpoint: &Path) -> TrainConfig {
    let (Some(now), Some(to)) = (checkpoint.parent(), &mut train.checkpoint) else { return train };
    let before = std::mem::replace(&mut to.folder, now.to_owned());
    let Some(run) = train.folder.as_ref().filter(|run| before == run.join(CHECKPOINTS) && before != now) else {
        return train;
    };
    if !now.ends_with(CHECKPOINTS) {
        // A copy of one checkpoint: the run's folder goes on with another.
        train.sample.take_if(|sample| sample.folder.starts_with(run));
        train.folder = None;
    } else if let Some(parent) = now.parent() {
        if let Some(sample) = &mut train.sample
            && let Ok(within) = sample.folder.strip_prefix(run)
        {
            sample.folder = parent.join(within);
        }
        train.folder = Some(parent.to_owned());
    }
    train
}

/// The model's file that `path` stands for: the file itself, a checkpoint's folder or pointer, a folder of checkpoints
/// or a run's (of those the best where there is one, else the newest).
pub fn model_file(path: &Path) -> Result<PathBuf> {
    Ok(match folder_of(path, BEST)? {
        Some(folder) => folder.join(MODEL_FILE),
        None => path.to_owned(),
    })
}

/// The folder of the checkpoint that `path` stands for: as [`model_file`], but of several the newest.
pub fn folder_to_resume(path: &Path) -> Result<PathBuf> {
    let folder = match path.file_name().is_some_and(|name| name == MODEL_FILE || name == TRAINING_FILE) {
        true => path.parent().map(Path::to_owned),
        false => folder_of(path, LATEST)?,
    };
    folder.ok_or_else(|| Error::file(path, "Expected a checkpoint, or a folder of some, but found a file"))
}

/// `None` where `path` is a file that is no pointer.
fn folder_of(path: &Path, preferred: &str) -> Result<Option<PathBuf>> {
    let found = fs::metadata(path).map_err(Error::io(path))?;
    let named = |pointer: &str| path.file_name().is_some_and(|name| name == pointer);
    if !found.is_dir() {
        return if named(LATEST) || named(BEST) { Ok(pointed_at(path)) } else { Ok(None) };
    }
    if path.join(MODEL_FILE).is_file() {
        return Ok(Some(path.to_owned()));
    }
    for folder in [path.to_owned(), path.join(CHECKPOINTS)] {
        let newest = || existing(&folder).ok()?.pop();
        let found = pointed_at(&folder.join(preferred)).or_else(|| pointed_at(&folder.join(LATEST))).or_else(newest);
        if found.is_some() {
            return Ok(found);
        }
    }
    Err(Error::file(path, "Expected a checkpoint, or a folder of some, but found none"))
}

/// The checkpoint whose name the file holds, if it is still there.
fn pointed_at(pointer: &Path) -> Option<PathBuf> {
    let short = fs::metadata(pointer).ok().filter(|found| found.is_file() && found.len() <= LONGEST_POINTER)?;
    let name = fs::read_to_string(pointer).ok().filter(|_| short.is_file())?;
    let folder = pointer.parent()?.join(Path::new(name.trim()).file_name()?);
    folder.join(MODEL_FILE).is_file().then_some(folder)
}

/// Where the checkpoints of a run go.
pub struct Checkpoints {
    config: CheckpointConfig,
}

impl Checkpoints {
    /// In a folder that this run alone uses from step `from` on. What a killed run has left half written is removed.
    ///
    /// # Errors
    ///
    /// [`Error::Option`] where the folder has checkpoints of later steps: they would count as newer than this run's.
    pub fn open(config: &CheckpointConfig, from: u64) -> Result<Self> {
        fs::create_dir_all(&config.folder).map_err(Error::io(&config.folder))?;
        if let Some(later) = existing(&config.folder)?.pop().filter(|path| name_of(path) > name(from)) {
            let expected = format!("a folder without checkpoints after step {from}");
            return Err(Error::option("checkpoint.folder", expected, later.display()));
        }
        for entry in fs::read_dir(&config.folder).map_err(Error::io(&config.folder))?.flatten() {
            if entry.file_name().to_string_lossy().ends_with(UNFINISHED) {
                clear(&entry.path())?;
            }
        }
        Ok(Self { config: config.clone() })
    }

    /// Writes a checkpoint and makes it the newest and, if so, the best; removes those that are no longer to be kept.
    ///
    /// The folder appears whole: it is written under another name and renamed. On an error the others are as they were.
    pub fn write(&self, model: &FlowModel, moments: StoredMoments, state: &RunState) -> Result<PathBuf> {
        let folder = self.config.folder.join(name(state.step));
        let unfinished = self.config.folder.join(format!(".{}{UNFINISHED}", name(state.step)));
        clear(&unfinished)?;
        if let Err(error) = fill(&unfinished, model, moments, state) {
            // Half a checkpoint is of no use and takes the space that the next one needs.
            let _ = clear(&unfinished);
            return Err(error);
        }
        clear(&folder)?;
        fs::rename(&unfinished, &folder).map_err(Error::io(&folder))?;
        self.point(LATEST, state.step)?;
        // Where the best one could not be written, the one before it stays the best.
        if let Some(best) = state.best.filter(|best| self.config.folder.join(name(best.step)).is_dir()) {
            self.point(BEST, best.step)?;
        }
        let best = pointed_at(&self.config.folder.join(BEST)).map(|best| name_of(&best));
        for old in existing(&self.config.folder)?.into_iter().rev().skip(self.config.keep) {
            if Some(name_of(&old)) != best {
                clear(&old)?;
            }
        }
        Ok(folder)
    }

    fn point(&self, pointer: &str, step: u64) -> Result<()> {
        let path = self.config.folder.join(pointer);
        write_atomically(&path, |writer| writeln!(writer, "{}", name(step)))
    }
}

const UNFINISHED: &str = ".unfinished";

fn fill(folder: &Path, model: &FlowModel, moments: StoredMoments, state: &RunState) -> Result<()> {
    fs::create_dir_all(folder).map_err(Error::io(folder))?;
    let json = serde_json::to_string(state).map_err(|error| Error::Internal { message: error.to_string() })?;
    let (path, owned) = (folder.to_owned(), model.clone());
    model.with_state(move |weights| {
        let in_model = weights.average.is_none();
        model::write(&path.join(MODEL_FILE), owned.config(), weights.inferred(), owned.initialized(), owned.step())?;
        training::write(&path.join(TRAINING_FILE), &weights.network, in_model, moments, json)
    })
}

fn name(step: u64) -> String {
    format!("step-{step:08}")
}

fn name_of(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The checkpoints of a folder, oldest first.
fn existing(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).map_err(Error::io(folder))?;
    let mut found: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| name_of(path).starts_with("step-") && path.join(MODEL_FILE).is_file())
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
