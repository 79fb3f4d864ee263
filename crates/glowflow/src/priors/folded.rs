//! Priors as other programs write them.

use burn::tensor::Tensor;

use crate::nets::FoldedConv;

/// Where mean and log-deviation come from, everything that depends on weights alone folded.
#[derive(Debug, Clone)]
pub enum FoldedPrior {
    /// From the kept channels; outputs interleaved.
    Conv(FoldedConv),
    /// From the class at most.
    Normal(FoldedNormal),
}

/// The sum of what there is of it: means in the first half of the channels, log-deviations in the second. Height and width
/// are those of the latents, or 1 where all pixels have the same. A standard normal without either.
#[derive(Debug, Clone)]
pub struct FoldedNormal {
    /// Shape `[1, height or 1, width or 1, 2 * channels]`.
    pub shared: Option<Tensor<4>>,
    /// Shape `[classes, height or 1, width or 1, 2 * channels]`.
    pub by_class: Option<Tensor<4>>,
}

impl FoldedNormal {
    /// The standard normal.
    pub fn standard() -> Self {
        Self { shared: None, by_class: None }
    }
}
