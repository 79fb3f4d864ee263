//! The projects whose weights are understood.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::archive::Checkpoint;
use super::chaiyujin::CHAIYUJIN;
use super::layout::{EngineTensors, Entry};
use super::normflows::NORMFLOWS;
use super::pickle::shortened;
use super::rosinality::ROSINALITY;
use super::weights::{Report, Weights};
use super::y0ast::Y0AST;
use crate::error::{Error, Result};
use crate::images::ImageShape;
use crate::layers::PermutationKind;
use crate::models::{CouplingKind, GlowConfig, ScaleKind};

/// A project whose models can be imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Peer {
    /// rosinality/glow-pytorch.
    Rosinality,
    /// y0ast/Glow-PyTorch.
    Y0ast,
    /// chaiyujin/glow-pytorch.
    Chaiyujin,
    /// normflows, the multi-scale Glow of its examples.
    Normflows,
}

impl Peer {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Rosinality, Self::Y0ast, Self::Chaiyujin, Self::Normflows];

    /// The name in options and sentences.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rosinality => "rosinality",
            Self::Y0ast => "y0ast",
            Self::Chaiyujin => "chaiyujin",
            Self::Normflows => "normflows",
        }
    }

    fn layout(self) -> &'static Layout {
        match self {
            Self::Rosinality => &ROSINALITY,
            Self::Y0ast => &Y0AST,
            Self::Chaiyujin => &CHAIYUJIN,
            Self::Normflows => &NORMFLOWS,
        }
    }

    /// The project whose names a checkpoint has.
    pub fn of(checkpoint: &Checkpoint) -> Option<Self> {
        let weights = Weights::of(checkpoint);
        Self::ALL.into_iter().find(|peer| (peer.layout().read)(&weights).is_some())
    }
}

/// What a project calls its tensors.
pub(super) struct Layout {
    /// One of its names, for sentences.
    pub example: &'static str,
    /// The sizes, as its weights have them; `None` for weights of something else.
    pub read: fn(&Weights) -> Option<Architecture>,
    /// Every tensor, for images of this height and width.
    pub entries: fn(&Architecture, &Weights, [usize; 2]) -> Vec<Entry>,
    /// What takes more than one entry.
    pub finish: fn(&Architecture, &mut EngineTensors) -> Result<(), String>,
    /// Ends of the names of tensors that follow from the rest.
    pub constants: &'static [&'static str],
    /// End of the names of what says, not 0, that an actnorm has been set from data; empty where nothing does.
    pub flag: &'static str,
    /// Ends of the names of what the model cannot hold.
    pub refused: &'static [&'static str],
}

pub(super) fn nothing_to_finish(_: &Architecture, _: &mut EngineTensors) -> Result<(), String> {
    Ok(())
}

/// A model as its weights show it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Architecture {
    /// Of the images.
    pub channels: usize,
    pub levels: usize,
    pub depth: usize,
    pub hidden: usize,
    pub coupling: CouplingKind,
    pub permutation: PermutationKind,
    pub learn_top: bool,
    pub classes: Option<usize>,
}

impl Architecture {
    /// Channels of a level, after its squeeze.
    pub fn channels_of(&self, level: usize) -> usize {
        (4 * self.channels) << level
    }

    /// Outputs of a level's coupling nets.
    pub fn outputs(&self, level: usize) -> usize {
        match self.coupling {
            CouplingKind::Affine => self.channels_of(level),
            CouplingKind::Additive => self.channels_of(level) / 2,
        }
    }
}

/// Another project's model as ours.
#[derive(Debug, Clone, PartialEq)]
pub struct Imported {
    /// What the model is made of.
    pub config: GlowConfig,
    /// Classes that the priors or a classifier know.
    pub classes: Option<usize>,
    /// Whether data have set the actnorms.
    pub initialized: bool,
    /// The weights. Those that were missing are not among them.
    pub tensors: EngineTensors,
    /// What became of the file's tensors.
    pub report: Report,
}

impl Imported {
    /// Reads a project's weights, for images of this height and width. Sizes are those of the weights.
    ///
    /// # Errors
    ///
    /// As [`Checkpoint::read`]; [`Error::Option`] where images of this size do not fit; [`Error::Weights`] for weights of
    /// another project, of other shapes or not finite, and unless `partial` for weights that are not all there.
    pub fn read(path: &Path, peer: Peer, size: [usize; 2], partial: bool) -> Result<Self> {
        Self::of(&Checkpoint::read(path)?, peer, size, partial)
    }

    /// [`Imported::read`] of what has been read.
    pub fn of(checkpoint: &Checkpoint, peer: Peer, size: [usize; 2], partial: bool) -> Result<Self> {
        let weights = Weights::of(checkpoint);
        let layout = peer.layout();
        let sizes = (layout.read)(&weights).ok_or_else(|| other_layout(checkpoint, &weights, peer))?;
        let ends = |name: &str, ends: &[&str]| ends.iter().any(|end| name.ends_with(end));
        if let Some(name) = weights.names().find(|name| ends(name, layout.refused)) {
            return Err(weights.misfit(format!("Expected priors that a model can hold but found {}", shortened(name))));
        }
        let [height, width] = size;
        let config = GlowConfig {
            image: ImageShape { height, width, channels: sizes.channels },
            levels: sizes.levels,
            depth: sizes.depth,
            hidden: sizes.hidden,
            coupling: sizes.coupling,
            permutation: sizes.permutation,
            edge_bias: false,
            scale: ScaleKind::Sigmoid,
            learn_top: sizes.learn_top,
            ..GlowConfig::default()
        };
        config.validate()?;
        let entries = (layout.entries)(&sizes, &weights, size);
        let (mut tensors, report) = weights.apply(&entries, |name| ends(name, layout.constants))?;
        if !partial {
            weights.complete(&report)?;
        }
        (layout.finish)(&sizes, &mut tensors).map_err(|reason| weights.misfit(reason))?;
        let is_unset = |name: &str| {
            !layout.flag.is_empty()
                && name.ends_with(layout.flag)
                && weights.get(name).is_some_and(|flag| flag.values.contains(&0.0))
        };
        let initialized = !weights.names().any(is_unset);
        Ok(Self { config, classes: sizes.classes, initialized, tensors, report })
    }
}

/// The sentence for weights that have none of a layout's names.
fn other_layout(checkpoint: &Checkpoint, weights: &Weights, peer: Peer) -> Error {
    const MOST: usize = 3;
    let found: Vec<String> = weights.names().take(MOST).map(shortened).collect();
    let fits = match Peer::of(checkpoint) {
        Some(other) => format!(": they are of {}", other.name()),
        None => String::new(),
    };
    weights.misfit(format!(
        "Expected the weights of {}, with names like {}, but found {}{fits}",
        peer.name(),
        peer.layout().example,
        found.join(", ")
    ))
}
