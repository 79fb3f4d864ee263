//! What a Glow model is made of.

use serde::{Deserialize, Serialize};

use super::{MOST_LEVELS, image_problems, out_of_range};
use crate::error::Error;
use crate::images::ImageShape;
use crate::kernels::coupling::Kind;
use crate::layers::PermutationKind;

/// How a coupling changes its second half.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CouplingKind {
    /// Scale and shift.
    Affine,
    /// Shift: volume preserving.
    Additive,
}

/// An affine coupling's scale, of the net's raw output `r`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScaleKind {
    /// `sigmoid(r + 2)`, as in Glow's code.
    Sigmoid,
    /// Within [0.5, 2], and 1 at `r = 0`: neither direction can explode.
    Bounded,
}

/// Options of a Glow model; [`Default`] has the paper's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GlowConfig {
    /// Of the images.
    pub image: ImageShape,
    /// Scales, L in the paper.
    pub levels: usize,
    /// Flow steps of each scale, K in the paper.
    pub depth: usize,
    /// Channels inside each coupling net.
    pub hidden: usize,
    /// Affine or additive.
    pub coupling: CouplingKind,
    /// What mixes the channels.
    pub permutation: PermutationKind,
    /// Whether 3x3 convolutions see the border, as in Glow's code.
    pub edge_bias: bool,
    /// Of the affine coupling.
    pub scale: ScaleKind,
    /// Whether the prior of the coarsest latents is learned.
    pub learn_top: bool,
    /// Bits of each channel that are modelled.
    pub bits: u32,
    /// Of the initial weights.
    pub seed: u64,
}

impl Default for GlowConfig {
    fn default() -> Self {
        Self {
            image: ImageShape { height: 32, width: 32, channels: 3 },
            levels: 3,
            depth: 32,
            hidden: 512,
            coupling: CouplingKind::Affine,
            permutation: PermutationKind::Conv1x1Lu,
            edge_bias: false,
            scale: ScaleKind::Sigmoid,
            learn_top: true,
            bits: 8,
            seed: 0,
        }
    }
}

impl GlowConfig {
    /// Every option that is out of range.
    pub fn problems(&self) -> Vec<Error> {
        let mut problems = Vec::new();
        let mut range = |option: &str, value, low, high| problems.extend(out_of_range(option, value, low, high));
        range("levels", self.levels, 1, MOST_LEVELS);
        range("depth", self.depth, 1, 1024);
        range("hidden", self.hidden, 1, 8192);
        range("bits", self.bits as usize, 1, 8);
        let halvings = self.levels;
        problems.extend(image_problems(self.image, halvings, "2 to the number of levels"));
        problems
    }

    /// The coupling's arithmetic.
    pub(crate) fn coupling_kind(&self) -> Kind {
        match (self.coupling, self.scale) {
            (CouplingKind::Additive, _) => Kind::Additive,
            (CouplingKind::Affine, ScaleKind::Sigmoid) => Kind::Sigmoid,
            (CouplingKind::Affine, ScaleKind::Bounded) => Kind::Bounded,
        }
    }

    /// Height, width and channels of the activations of a level, after its squeeze.
    pub fn level_shape(&self, level: usize) -> [usize; 3] {
        let ImageShape { height, width, channels } = self.image;
        let shrink = 2usize << level;
        [height / shrink, width / shrink, (channels * 4) << level]
    }

    /// Height, width and channels of each scale's latents, the finest first.
    pub fn latent_shapes(&self) -> Vec<[usize; 3]> {
        (0..self.levels)
            .map(|level| {
                let [height, width, channels] = self.level_shape(level);
                [height, width, if level + 1 < self.levels { channels / 2 } else { channels }]
            })
            .collect()
    }
}
