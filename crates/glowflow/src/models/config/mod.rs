//! What a model is made of.

mod glow;
mod layout;
mod nice;

use serde::{Deserialize, Serialize};

pub use glow::{CouplingKind, GlowConfig, ScaleKind};
pub use layout::Layout;
pub use nice::{NiceConfig, NicePrior};

use super::latents::LatentDistribution;
use crate::error::{Error, Result};
use crate::images::ImageShape;
use crate::layers::WhiteningKind;

/// Options of a model of any kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum ModelConfig {
    /// Kingma & Dhariwal 2018.
    Glow(GlowConfig),
    /// Dinh, Krueger & Bengio 2015.
    Nice(NiceConfig),
}

impl From<GlowConfig> for ModelConfig {
    fn from(config: GlowConfig) -> Self {
        Self::Glow(config)
    }
}

impl From<NiceConfig> for ModelConfig {
    fn from(config: NiceConfig) -> Self {
        Self::Nice(config)
    }
}

impl ModelConfig {
    /// The paper's model of this kind.
    pub fn default_of(kind: &str) -> Result<Self> {
        match kind {
            "glow" => Ok(Self::Glow(GlowConfig::default())),
            "nice" => Ok(Self::Nice(NiceConfig::default())),
            _ => Err(Error::option("kind", "\"glow\" or \"nice\"", format!("{kind:?}"))),
        }
    }

    /// Every option that is out of range.
    pub fn problems(&self) -> Vec<Error> {
        match self {
            Self::Glow(config) => config.problems(),
            Self::Nice(config) => config.problems(),
        }
    }

    /// The first option that is out of range, as an error.
    pub fn validate(&self) -> Result<()> {
        self.problems().into_iter().next().map_or(Ok(()), Err)
    }

    /// Of the images.
    pub fn image(&self) -> ImageShape {
        match self {
            Self::Glow(config) => config.image,
            Self::Nice(config) => config.image,
        }
    }

    /// Bits of each channel that are modelled.
    pub fn bits(&self) -> u32 {
        match self {
            Self::Glow(config) => config.bits,
            Self::Nice(config) => config.bits,
        }
    }

    /// Of the initial weights.
    pub fn seed(&self) -> u64 {
        match self {
            Self::Glow(config) => config.seed,
            Self::Nice(config) => config.seed,
        }
    }

    /// Classes of a class-conditional model.
    pub fn classes(&self) -> Option<usize> {
        match self {
            Self::Glow(config) => config.classes,
            Self::Nice(_) => None,
        }
    }

    /// Whether a part of the model is set from data before it can be used.
    pub fn is_set_from_data(&self) -> bool {
        match self {
            Self::Glow(_) => true,
            Self::Nice(config) => config.whitening != WhiteningKind::None,
        }
    }

    /// Height, width and channels of each scale's latents, the finest first.
    pub fn latent_shapes(&self) -> Vec<[usize; 3]> {
        match self {
            Self::Glow(config) => config.latent_shapes(),
            Self::Nice(config) => config.latent_shapes(),
        }
    }

    /// The distribution of the latents under the model.
    pub fn latent_distribution(&self) -> LatentDistribution {
        match self {
            Self::Nice(NiceConfig { prior: NicePrior::Logistic, .. }) => LatentDistribution::Logistic,
            Self::Glow(_) | Self::Nice(_) => LatentDistribution::Normal,
        }
    }

    /// A model with a layer of each shape that this one has: enough to try a device with.
    pub(crate) fn one_of_each_shape(&self) -> Self {
        match self {
            Self::Glow(config) => Self::Glow(GlowConfig { depth: 1, ..config.clone() }),
            Self::Nice(config) => {
                Self::Nice(NiceConfig { couplings: 1, layers: config.layers.min(2), ..config.clone() })
            }
        }
    }
}
