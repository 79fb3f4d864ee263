//! Images that are in memory already.

use std::borrow::Cow;

use super::fingerprint::pixel_fingerprint;
use super::pipeline::{Crop, Pipeline};
use super::{Dataset, DatasetOptions, LabelledImages, check_indices, pick_labels};
use crate::error::{Error, Result};
use crate::images::{ImageShape, Images, Pixels};

/// Labels without class names stay below this: each class gets a name.
const UNNAMED_CLASSES: u32 = 1 << 16;

/// A data set of images in memory, held as they came.
#[derive(Debug, Clone)]
pub struct InMemory {
    images: Images,
    pipeline: Pipeline,
    labels: Option<Vec<u32>>,
    classes: Option<Vec<String>>,
    fingerprint: String,
}

impl InMemory {
    /// `labels`: one an image, each below the number of `classes`. Without `classes` they are "0" to the largest label.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] without images or with data of another length; [`Error::Labels`].
    pub fn new(images: Images, labels: Option<Vec<u32>>, classes: Option<Vec<String>>) -> Result<Self> {
        Self::stored("memory", images, labels, classes, None)
    }

    /// As [`InMemory::new`], for a source of this `kind` whose images become others by `options`.
    pub(super) fn stored(
        kind: &str,
        images: Images,
        labels: Option<Vec<u32>>,
        classes: Option<Vec<String>>,
        options: Option<&DatasetOptions>,
    ) -> Result<Self> {
        let Images { data, count, shape } = images;
        if data.is_empty() {
            return Err(Error::shape("images", "one image of one pixel at least", format!("{count} x {shape}")));
        }
        let images = Images::new(data, count, shape)?;
        let pipeline = match options {
            Some(options) => Pipeline::new(shape, options)?,
            None => Pipeline::as_stored(shape),
        };
        let classes = match &labels {
            Some(labels) => Some(check_labels(labels, images.count, classes)?),
            None if classes.is_some() => return Err(labels_error("one an image, as there are classes,", "none")),
            None => None,
        };
        let kind = options.map_or(kind.to_string(), |options| format!("{kind} {options:?}"));
        let fingerprint = pixel_fingerprint(&kind, &images);
        Ok(Self { images, pipeline, labels, classes, fingerprint })
    }

    fn read(&self, indices: &[usize], crop: Crop) -> Result<LabelledImages> {
        check_indices(indices, self.len())?;
        let prepared = |index| self.pipeline.prepare(Cow::Borrowed(self.images.image(index)), self.images.shape);
        Ok(LabelledImages {
            images: Pixels::Bytes(self.pipeline.draw(indices, crop, prepared)?),
            labels: pick_labels(self.labels.as_deref(), indices),
            attributes: None,
        })
    }
}

impl Dataset for InMemory {
    fn len(&self) -> usize {
        self.images.count
    }

    fn shape(&self) -> ImageShape {
        self.pipeline.shape()
    }

    fn classes(&self) -> Option<&[String]> {
        self.classes.as_deref()
    }

    fn fingerprint(&self) -> String {
        self.fingerprint.clone()
    }

    fn batch(&self, indices: &[usize]) -> Result<LabelledImages> {
        self.read(indices, Crop::Centre)
    }

    fn training_batch(&self, indices: &[usize], seed: u64, step: u64) -> Result<LabelledImages> {
        self.read(indices, Crop::Drawn { seed, step })
    }
}

/// The classes of these labels, given or numbered.
pub(super) fn check_labels(labels: &[u32], images: usize, classes: Option<Vec<String>>) -> Result<Vec<String>> {
    if labels.len() != images {
        return Err(labels_error(format!("{images}, one an image,"), labels.len()));
    }
    let bound = classes.as_ref().map_or(UNNAMED_CLASSES as usize, Vec::len);
    if let Some(index) = labels.iter().position(|&label| label as usize >= bound) {
        return Err(labels_error(
            format!("integers from 0 to {}", bound.saturating_sub(1)),
            format!("{} for image {index}", labels[index]),
        ));
    }
    Ok(classes.unwrap_or_else(|| number_classes(labels)))
}

/// "0" to the largest label.
fn number_classes(labels: &[u32]) -> Vec<String> {
    let count = labels.iter().max().map_or(0, |&largest| largest + 1);
    (0..count).map(|class| class.to_string()).collect()
}

fn labels_error(expected: impl Into<String>, received: impl ToString) -> Error {
    Error::Labels { expected: expected.into(), received: received.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn images(count: usize) -> Images {
        let shape = ImageShape { height: 1, width: 2, channels: 1 };
        Images::new((0..2 * count).map(|i| i as u8).collect(), count, shape).unwrap()
    }

    #[test]
    fn a_batch_holds_the_images_asked_for() {
        let data = InMemory::new(images(3), Some(vec![0, 2, 1]), None).unwrap();
        assert_eq!(data.classes().unwrap(), ["0", "1", "2"]);
        let batch = data.batch(&[2, 1, 1]).unwrap();
        assert_eq!(batch.images.bytes().data, [4, 5, 2, 3, 2, 3]);
        assert_eq!(batch.labels.unwrap(), [1, 2, 2]);
        assert_eq!(data.batch(&[]).unwrap().images.count(), 0);
        assert!(matches!(data.batch(&[0, 3]), Err(Error::Option { .. })));
    }

    #[test]
    fn labels_are_checked() {
        let names = || Some(vec!["cat".to_string(), "dog".to_string()]);
        assert_eq!(InMemory::new(images(2), Some(vec![0, 0]), names()).unwrap().classes().unwrap(), ["cat", "dog"]);
        for (labels, classes, sentence) in [
            (Some(vec![0]), None, "Expected 2, one an image, for labels but received 1"),
            (Some(vec![0, 2]), names(), "Expected integers from 0 to 1 for labels but received 2 for image 1"),
            (Some(vec![0, u32::MAX]), None, "from 0 to 65535 for labels but received 4294967295 for image 1"),
            (None, names(), "received none"),
        ] {
            let error = InMemory::new(images(2), labels, classes).unwrap_err();
            assert!(matches!(error, Error::Labels { .. }), "{error:?}");
            assert!(error.to_string().contains(sentence), "{error}");
        }
    }

    #[test]
    fn images_are_checked() {
        let none = Images { data: vec![], count: 0, shape: images(1).shape };
        assert!(matches!(InMemory::new(none, None, None), Err(Error::Shape { .. })));
        let short = Images { count: 3, ..images(2) };
        assert!(matches!(InMemory::new(short, None, None), Err(Error::Shape { .. })));
        let shape = ImageShape { height: usize::MAX, width: usize::MAX, channels: 1 };
        let overflowing = Images { data: vec![0], count: 1, shape };
        assert!(matches!(InMemory::new(overflowing, None, None), Err(Error::Shape { .. })));
    }
}
