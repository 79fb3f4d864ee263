//! Continuous pixel values that are in memory already.

use super::fingerprint::Fingerprint;
use super::memory::check_labels;
use super::{Dataset, LabelledImages, check_indices, pick_labels};
use crate::error::{Error, Result};
use crate::images::{Batch, FloatImages, ImageShape, Pixels};

/// A data set of continuous images, held as they came. A model of it learns their density: no noise is added.
#[derive(Debug, Clone)]
pub struct Continuous {
    images: FloatImages,
    labels: Option<Vec<u32>>,
    classes: Option<Vec<String>>,
    fingerprint: String,
}

impl Continuous {
    /// `labels`: one an image; the classes are "0" to the largest.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] without images, with data of another length or with a value that is not finite;
    /// [`Error::Labels`].
    pub fn new(images: FloatImages, labels: Option<Vec<u32>>) -> Result<Self> {
        let FloatImages { data, count, shape } = images;
        if data.is_empty() {
            return Err(Error::shape("images", "one image of one pixel at least", format!("{count} x {shape}")));
        }
        let pixels = Pixels::Floats(Batch::new(data, count, shape)?);
        pixels.check_finite()?;
        let Pixels::Floats(images) = pixels else { unreachable!("made so above") };
        let classes = labels.as_ref().map(|labels| check_labels(labels, count, None)).transpose()?;
        let bytes: Vec<u8> = images.data.iter().flat_map(|value| value.to_le_bytes()).collect();
        let sizes = [count, shape.height, shape.width, shape.channels];
        let fingerprint = Fingerprint::of("continuous").numbers(&sizes).bytes(&bytes).finish();
        Ok(Self { images, labels, classes, fingerprint })
    }
}

impl Dataset for Continuous {
    fn len(&self) -> usize {
        self.images.count
    }

    fn shape(&self) -> ImageShape {
        self.images.shape
    }

    fn classes(&self) -> Option<&[String]> {
        self.classes.as_deref()
    }

    fn fingerprint(&self) -> String {
        self.fingerprint.clone()
    }

    fn batch(&self, indices: &[usize]) -> Result<LabelledImages> {
        check_indices(indices, self.len())?;
        let data = indices.iter().flat_map(|&index| self.images.image(index)).copied().collect();
        let images = Pixels::Floats(Batch::new(data, indices.len(), self.images.shape)?);
        Ok(LabelledImages { images, labels: pick_labels(self.labels.as_deref(), indices), attributes: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: ImageShape = ImageShape { height: 1, width: 2, channels: 1 };

    fn data(values: Vec<f32>) -> Result<Continuous> {
        let count = values.len() / 2;
        Continuous::new(FloatImages { data: values, count, shape: SHAPE }, None)
    }

    #[test]
    fn a_batch_holds_the_values_asked_for() {
        let data = data(vec![0.5, 1.25, 255.75, 3.0]).unwrap();
        let batch = data.batch(&[1, 0]).unwrap().images;
        assert_eq!(batch, Pixels::Floats(Batch::new(vec![255.75, 3.0, 0.5, 1.25], 2, SHAPE).unwrap()));
        assert!(matches!(data.batch(&[2]), Err(Error::Option { .. })));
    }

    #[test]
    fn values_are_checked_and_tell_data_apart() {
        assert!(matches!(data(vec![]), Err(Error::Shape { .. })));
        assert!(data(vec![1.0, f32::NAN]).unwrap_err().to_string().contains("NaN at 1"));
        assert_ne!(data(vec![1.0, 2.0]).unwrap().fingerprint(), data(vec![1.0, 2.5]).unwrap().fingerprint());
    }
}
