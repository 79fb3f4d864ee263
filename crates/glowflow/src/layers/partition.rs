//! Which part of an activation a coupling keeps, and which it changes.

use burn::tensor::{Tensor, TensorData};

use crate::kernels::coupling::halves;

/// Kept and changed part.
#[derive(Debug, Clone)]
pub enum Partition {
    /// By pixels: each part has the other's pixels at zero. Masks are `[1, height, width, 1]`, 1 in their part.
    Checkerboard {
        /// Of the kept part.
        kept: Tensor<4>,
        /// Of the changed part.
        changed: Tensor<4>,
        /// In the changed part of an image.
        changed_pixels: usize,
    },
    /// By channels: each part is half of them.
    Channels {
        /// Whether the first half is kept.
        keeps_first: bool,
    },
}

/// An activation in two parts.
pub struct Parts {
    /// Shape `[batch, height, width, part of the channels]`.
    pub kept: Tensor<4>,
    /// Of the same shape.
    pub changed: Tensor<4>,
}

impl Partition {
    /// Keeps the pixels whose row, column and `parity` have an odd sum.
    pub fn checkerboard([height, width]: [usize; 2], parity: usize, like: &Tensor<1>) -> Self {
        let kept: Vec<f32> =
            (0..height * width).map(|pixel| ((pixel / width + pixel % width + parity) % 2) as f32).collect();
        let changed_pixels = kept.iter().filter(|&&kept| kept == 0.0).count();
        let data = TensorData::new(kept, [1, height, width, 1]);
        let kept = Tensor::<4>::from_data(data, &like.device()).cast(like.dtype());
        Self::Checkerboard { changed: kept.clone().neg().add_scalar(1.0), kept, changed_pixels }
    }

    /// Takes an activation, or its gradient, apart.
    pub fn parts(&self, x: &Tensor<4>) -> Parts {
        match self {
            Self::Checkerboard { kept, changed, .. } => {
                Parts { kept: x.clone() * kept.clone(), changed: x.clone() * changed.clone() }
            }
            Self::Channels { keeps_first } => {
                let (first, second) = halves(x);
                if *keeps_first {
                    Parts { kept: first, changed: second }
                } else {
                    Parts { kept: second, changed: first }
                }
            }
        }
    }

    /// Undoes [`Partition::parts`].
    pub fn join(&self, Parts { kept, changed }: Parts) -> Tensor<4> {
        match self {
            Self::Checkerboard { .. } => kept + changed,
            Self::Channels { keeps_first: true } => Tensor::cat(vec![kept, changed], 3),
            Self::Channels { keeps_first: false } => Tensor::cat(vec![changed, kept], 3),
        }
    }

    /// `part`, made zero outside the kept part.
    pub fn on_kept(&self, part: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Checkerboard { kept, .. } => part * kept.clone(),
            Self::Channels { .. } => part,
        }
    }

    /// `part`, made zero outside the changed part.
    pub fn on_changed(&self, part: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Checkerboard { changed, .. } => part * changed.clone(),
            Self::Channels { .. } => part,
        }
    }

    /// Pixels of an image that the changed part has.
    pub fn changed_pixels(&self, part: &Tensor<4>) -> usize {
        match self {
            Self::Checkerboard { changed_pixels, .. } => *changed_pixels,
            Self::Channels { .. } => part.dims()[1] * part.dims()[2],
        }
    }

    /// What a net is shown of a checkerboard.
    pub fn mask(&self) -> Option<Tensor<4>> {
        match self {
            Self::Checkerboard { kept, .. } => Some(kept.clone()),
            Self::Channels { .. } => None,
        }
    }
}
