//! Batches of pixels, as they come from files and from Node.

use crate::error::{Error, Result};

/// Height, width and channels of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ImageShape {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// Values of a pixel: 1 grey, 3 red, green and blue, 4 with alpha.
    pub channels: usize,
}

impl ImageShape {
    /// Values of an image, D in the papers.
    pub fn dims(&self) -> usize {
        self.height * self.width * self.channels
    }

    /// As [`ImageShape::dims`], for a shape that nobody has checked yet: `None` where the product overflows.
    pub fn checked_dims(&self) -> Option<usize> {
        self.height.checked_mul(self.width)?.checked_mul(self.channels)
    }
}

impl std::fmt::Display for ImageShape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}x{}x{}", self.height, self.width, self.channels)
    }
}

/// A batch of images: `[count, height, width, channels]`, channels last.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch<T> {
    /// `count * shape.dims()` values.
    pub data: Vec<T>,
    /// Number of images.
    pub count: usize,
    /// Of each image.
    pub shape: ImageShape,
}

/// 8-bit images.
pub type Images = Batch<u8>;
/// Continuous pixel values in [0, 256).
pub type FloatImages = Batch<f32>;

impl<T: Clone> Batch<T> {
    /// Checks that `data` holds `count` images of `shape`.
    pub fn new(data: Vec<T>, count: usize, shape: ImageShape) -> Result<Self> {
        let expected = shape.checked_dims().and_then(|dims| count.checked_mul(dims));
        if expected != Some(data.len()) {
            return Err(Error::shape("images", format!("{count} x {shape} values"), data.len()));
        }
        Ok(Self { data, count, shape })
    }

    /// Image `index`'s values.
    pub fn image(&self, index: usize) -> &[T] {
        let dims = self.shape.dims();
        &self.data[index * dims..(index + 1) * dims]
    }

    /// Images `range`, copied.
    pub fn slice(&self, range: std::ops::Range<usize>) -> Self {
        let dims = self.shape.dims();
        Self { count: range.len(), data: self.data[range.start * dims..range.end * dims].to_vec(), shape: self.shape }
    }
}
