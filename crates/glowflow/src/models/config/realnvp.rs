//! What a RealNVP model is made of.

use serde::{Deserialize, Serialize};

use super::{MOST_LEVELS, image_problems, out_of_range};
use crate::error::Error;
use crate::images::ImageShape;

/// Options of a RealNVP model; [`Default`] has the paper's for CIFAR-10.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RealNvpConfig {
    /// Of the images.
    pub image: ImageShape,
    /// Scales, the last one, which has checkerboard couplings alone, among them.
    pub levels: usize,
    /// Residual blocks of each coupling's net.
    pub blocks: usize,
    /// Channels inside the nets of the finest scale's checkerboard couplings; they double with each scale, and for
    /// channel couplings once more.
    pub hidden: usize,
    /// Bits of each channel that are modelled.
    pub bits: u32,
    /// Of the initial weights.
    pub seed: u64,
}

impl Default for RealNvpConfig {
    fn default() -> Self {
        Self {
            image: ImageShape { height: 32, width: 32, channels: 3 },
            levels: 2,
            blocks: 8,
            hidden: 64,
            bits: 8,
            seed: 0,
        }
    }
}

impl RealNvpConfig {
    /// Every option that is out of range.
    pub fn problems(&self) -> Vec<Error> {
        let mut problems = Vec::new();
        let mut range = |option: &str, value, low, high| problems.extend(out_of_range(option, value, low, high));
        range("levels", self.levels, 1, MOST_LEVELS);
        range("blocks", self.blocks, 1, 64);
        range("hidden", self.hidden, 1, 8192);
        range("bits", self.bits as usize, 1, 8);
        let halvings = self.levels.saturating_sub(1);
        problems.extend(image_problems(self.image, halvings, "2 to the number of levels less 1"));
        problems
    }

    /// Height, width and channels of the activations of a level, where its checkerboard couplings are.
    pub fn level_shape(&self, level: usize) -> [usize; 3] {
        let ImageShape { height, width, channels } = self.image;
        [height >> level, width >> level, channels << level]
    }

    /// Channels inside the nets of a level's checkerboard couplings.
    pub fn level_hidden(&self, level: usize) -> usize {
        self.hidden << level
    }

    /// Whether a level is the coarsest.
    pub fn is_last(&self, level: usize) -> bool {
        level + 1 == self.levels
    }

    /// Height, width and channels of each scale's latents, the finest first.
    pub fn latent_shapes(&self) -> Vec<[usize; 3]> {
        (0..self.levels)
            .map(|level| {
                let [height, width, channels] = self.level_shape(level);
                if self.is_last(level) { [height, width, channels] } else { [height / 2, width / 2, 2 * channels] }
            })
            .collect()
    }
}
