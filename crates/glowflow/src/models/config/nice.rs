//! What a NICE model is made of.

use serde::{Deserialize, Serialize};

use super::{channels_problem, out_of_range, sides};
use crate::error::Error;
use crate::images::ImageShape;
use crate::layers::WhiteningKind;

/// Most values of an image for ZCA: its matrix has their square, and finding it takes their cube.
const LARGEST_ZCA: usize = 4096;

/// The distribution of the latents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NicePrior {
    /// Factorial logistic.
    Logistic,
    /// Standard normal.
    Gaussian,
}

/// Options of a NICE model; [`Default`] has those of the paper's for MNIST.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NiceConfig {
    /// Of the images.
    pub image: ImageShape,
    /// Additive couplings; from 3 on every value can depend on every other.
    pub couplings: usize,
    /// Units of each hidden layer of the couplings' nets.
    pub hidden: usize,
    /// Hidden layers of each net.
    pub layers: usize,
    /// Of the latents.
    pub prior: NicePrior,
    /// What becomes of the pixels before the first coupling.
    pub whitening: WhiteningKind,
    /// Bits of each channel that are modelled.
    pub bits: u32,
    /// Of the initial weights.
    pub seed: u64,
}

impl Default for NiceConfig {
    fn default() -> Self {
        Self {
            image: ImageShape { height: 28, width: 28, channels: 1 },
            couplings: 4,
            hidden: 1000,
            layers: 5,
            prior: NicePrior::Logistic,
            whitening: WhiteningKind::None,
            bits: 8,
            seed: 0,
        }
    }
}

impl NiceConfig {
    /// Every option that is out of range.
    pub fn problems(&self) -> Vec<Error> {
        let mut problems = Vec::new();
        let mut range = |option: &str, value, low, high| problems.extend(out_of_range(option, value, low, high));
        range("couplings", self.couplings, 1, 1024);
        range("hidden", self.hidden, 1, 8192);
        range("layers", self.layers, 1, 64);
        range("bits", self.bits as usize, 1, 8);
        problems.extend(channels_problem(self.image));
        let ImageShape { height, width, .. } = self.image;
        let fits = |side: usize| (1..=4096).contains(&side);
        let received = sides(self.image);
        if !fits(height) || !fits(width) {
            problems.push(Error::option("imageSize", "a whole number from 1 to 4096", received));
        } else if !self.image.dims().is_multiple_of(2) {
            problems.push(Error::option("imageSize", "an even number of values, for two halves", received));
        } else if self.whitening == WhiteningKind::Zca && self.image.dims() > LARGEST_ZCA {
            let expected = format!("\"none\" or \"approximate\" for images of more than {LARGEST_ZCA} values");
            problems.push(Error::option("whitening", expected, "\"zca\""));
        }
        problems
    }

    /// Height, width and channels of each scale's latents: one scale of all values.
    pub fn latent_shapes(&self) -> Vec<[usize; 3]> {
        vec![[1, 1, self.image.dims()]]
    }
}
