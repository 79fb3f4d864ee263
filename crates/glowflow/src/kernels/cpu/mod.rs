//! The fast kernels of the CPU: f32, channels last, on slices; nothing here knows of tensors.
//!
//! Laws, which the tests of every file hold it to:
//! - **One image gives the same bits alone, in any batch and on any number of threads.** Work is split over rows and
//!   columns, never over the depth of a product; sums over rows and images have one fixed order.
//! - The instruction set is chosen at run time ([`Isa`]). Elementwise kernels give the same bits on all of them,
//!   products the same bits on Avx2 and Avx512.
//! - Work runs in rayon's current pool, and on the calling thread alone where it is small.
//! - Sums over an example or a column accumulate in f64.

pub mod adam;
pub mod average;
pub mod batch_norm;
pub mod bf16;
mod blocks;
pub mod conv;
pub mod coupling;
pub mod crew;
mod elementary;
mod gradient;
pub mod isa;
mod matrix;
pub mod net;
pub mod normal;
mod pairs;
#[doc(hidden)]
pub mod peak;
pub mod pixel;
mod product;
pub mod reduce;
#[cfg(test)]
mod reference;
pub(super) mod scratch;
mod simd;
pub mod squeeze;
pub mod step;
mod taps;
mod tile;

pub use isa::Isa;

/// The pixels of a batch. A matrix over them has a row a pixel: image by image, line by line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid {
    /// Images.
    pub batch: usize,
    /// Lines of an image.
    pub height: usize,
    /// Pixels of a line.
    pub width: usize,
}

impl Grid {
    /// Pixels of an image.
    pub fn pixels(&self) -> usize {
        self.height * self.width
    }

    /// Pixels of the batch.
    pub fn rows(&self) -> usize {
        self.batch * self.pixels()
    }
}
