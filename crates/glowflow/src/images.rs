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

/// Images of either type.
#[derive(Debug, Clone, PartialEq)]
pub enum Pixels {
    /// 8-bit.
    Bytes(Images),
    /// Already continuous: no noise is added.
    Floats(FloatImages),
}

impl Pixels {
    /// Number of images.
    pub fn count(&self) -> usize {
        match self {
            Self::Bytes(images) => images.count,
            Self::Floats(images) => images.count,
        }
    }

    /// Of each image.
    pub fn shape(&self) -> ImageShape {
        match self {
            Self::Bytes(images) => images.shape,
            Self::Floats(images) => images.shape,
        }
    }

    /// Number of values of all images together.
    pub fn len(&self) -> usize {
        match self {
            Self::Bytes(images) => images.data.len(),
            Self::Floats(images) => images.data.len(),
        }
    }

    /// True without values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bits of a pixel's bin under a model of `bits` bits: a continuous pixel's density is that of values in [0, 256).
    pub fn bits(&self, bits: u32) -> u32 {
        match self {
            Self::Bytes(_) => bits,
            Self::Floats(_) => 8,
        }
    }

    /// [`Error::Shape`] for a continuous pixel that is not a finite number.
    pub fn check_finite(&self) -> Result<()> {
        let Self::Floats(images) = self else { return Ok(()) };
        match images.data.iter().position(|value| !value.is_finite()) {
            None => Ok(()),
            Some(index) => Err(Error::shape("images", "finite numbers", format!("{} at {index}", images.data[index]))),
        }
    }
}

#[cfg(test)]
impl Pixels {
    /// The 8-bit images of a test.
    pub(crate) fn bytes(self) -> Images {
        match self {
            Self::Bytes(images) => images,
            Self::Floats(_) => panic!("8-bit images"),
        }
    }
}

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
