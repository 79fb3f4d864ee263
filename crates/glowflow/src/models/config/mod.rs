//! What a model is made of.

mod glow;
mod layout;
mod nice;
mod realnvp;

use serde::{Deserialize, Serialize};

pub use glow::{CouplingKind, GlowConfig, ScaleKind};
pub use layout::Layout;
pub use nice::{NiceConfig, NicePrior};
pub use realnvp::RealNvpConfig;

use super::latents::LatentDistribution;
use crate::device::{DeviceInfo, Precision};
use crate::error::{Error, Result};
use crate::images::ImageShape;
use crate::layers::WhiteningKind;

/// Most scales of a model.
const MOST_LEVELS: usize = 10;

/// Options of a model of any kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum ModelConfig {
    /// Kingma & Dhariwal 2018.
    Glow(GlowConfig),
    /// Dinh, Sohl-Dickstein & Bengio 2017.
    RealNvp(RealNvpConfig),
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

impl From<RealNvpConfig> for ModelConfig {
    fn from(config: RealNvpConfig) -> Self {
        Self::RealNvp(config)
    }
}

impl ModelConfig {
    /// The paper's model of this kind.
    pub fn default_of(kind: &str) -> Result<Self> {
        match kind {
            "glow" => Ok(Self::Glow(GlowConfig::default())),
            "realnvp" => Ok(Self::RealNvp(RealNvpConfig::default())),
            "nice" => Ok(Self::Nice(NiceConfig::default())),
            _ => Err(Error::option("kind", "\"glow\", \"realnvp\" or \"nice\"", format!("{kind:?}"))),
        }
    }

    /// The name of the kind.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Glow(_) => "glow",
            Self::RealNvp(_) => "realnvp",
            Self::Nice(_) => "nice",
        }
    }

    /// Every option that is out of range.
    pub fn problems(&self) -> Vec<Error> {
        match self {
            Self::Glow(config) => config.problems(),
            Self::RealNvp(config) => config.problems(),
            Self::Nice(config) => config.problems(),
        }
    }

    /// The first option that is out of range, as an error.
    pub fn validate(&self) -> Result<()> {
        self.problems().into_iter().next().map_or(Ok(()), Err)
    }

    /// [`Error::Precision`] unless models of this kind can be run in it on the device.
    pub fn check_precision(&self, wanted: Precision, device: &DeviceInfo) -> Result<()> {
        let (precisions, of) = match self {
            Self::Glow(_) => (device.precisions.clone(), format!("a model on {}", device.label)),
            Self::RealNvp(_) => (vec![Precision::F32], "a RealNVP model".into()),
            Self::Nice(_) => (vec![Precision::F32], "a NICE model".into()),
        };
        if precisions.contains(&wanted) { Ok(()) } else { Err(Error::Precision { wanted, precisions, of }) }
    }

    /// Of the images.
    pub fn image(&self) -> ImageShape {
        match self {
            Self::Glow(config) => config.image,
            Self::RealNvp(config) => config.image,
            Self::Nice(config) => config.image,
        }
    }

    /// Bits of each channel that are modelled.
    pub fn bits(&self) -> u32 {
        match self {
            Self::Glow(config) => config.bits,
            Self::RealNvp(config) => config.bits,
            Self::Nice(config) => config.bits,
        }
    }

    /// Of the initial weights.
    pub fn seed(&self) -> u64 {
        match self {
            Self::Glow(config) => config.seed,
            Self::RealNvp(config) => config.seed,
            Self::Nice(config) => config.seed,
        }
    }

    /// Classes of a class-conditional model.
    pub fn classes(&self) -> Option<usize> {
        match self {
            Self::Glow(config) => config.classes,
            Self::RealNvp(_) => None,
            Self::Nice(_) => None,
        }
    }

    /// Whether a part of the model is set from data before it can be used.
    pub fn is_set_from_data(&self) -> bool {
        match self {
            Self::Glow(_) => true,
            Self::RealNvp(_) => false,
            Self::Nice(config) => config.whitening != WhiteningKind::None,
        }
    }

    /// Height, width and channels of each scale's latents, the finest first.
    pub fn latent_shapes(&self) -> Vec<[usize; 3]> {
        match self {
            Self::Glow(config) => config.latent_shapes(),
            Self::RealNvp(config) => config.latent_shapes(),
            Self::Nice(config) => config.latent_shapes(),
        }
    }

    /// The distribution of the latents under the model.
    pub fn latent_distribution(&self) -> LatentDistribution {
        match self {
            Self::Nice(NiceConfig { prior: NicePrior::Logistic, .. }) => LatentDistribution::Logistic,
            Self::Glow(_) | Self::RealNvp(_) | Self::Nice(_) => LatentDistribution::Normal,
        }
    }

    /// A model with a layer of each shape that this one has: enough to try a device with.
    pub(crate) fn one_of_each_shape(&self) -> Self {
        match self {
            Self::Glow(config) => Self::Glow(GlowConfig { depth: 1, ..config.clone() }),
            Self::RealNvp(config) => Self::RealNvp(RealNvpConfig { blocks: 1, ..config.clone() }),
            Self::Nice(config) => {
                Self::Nice(NiceConfig { couplings: 1, layers: config.layers.min(2), ..config.clone() })
            }
        }
    }
}

/// The error of a whole number outside its range.
fn out_of_range(option: &str, value: usize, low: usize, high: usize) -> Option<Error> {
    let expected = || format!("a whole number from {low} to {high}");
    (!(low..=high).contains(&value)).then(|| Error::option(option, expected(), value))
}

/// What is wrong with images that are halved so often, for a `reason`.
fn image_problems(image: ImageShape, halvings: usize, reason: &str) -> Vec<Error> {
    let ImageShape { height, width, .. } = image;
    let mut problems = Vec::from_iter(channels_problem(image));
    if halvings <= MOST_LEVELS {
        let multiple = 1usize << halvings;
        let fits = |side: usize| side > 0 && side.is_multiple_of(multiple) && side <= 4096;
        if !fits(height) || !fits(width) {
            let expected = format!("a multiple of {multiple} ({reason}) up to 4096");
            problems.push(Error::option("imageSize", expected, sides(image)));
        }
    }
    problems
}

/// The error of pixels that no picture has.
fn channels_problem(ImageShape { channels, .. }: ImageShape) -> Option<Error> {
    (![1, 3, 4].contains(&channels)).then(|| Error::option("channels", "1, 3 or 4", channels))
}

/// Height and width as `imageSize` takes them: one number where they are equal.
fn sides(ImageShape { height, width, .. }: ImageShape) -> String {
    if height == width { height.to_string() } else { format!("{height} x {width}") }
}
