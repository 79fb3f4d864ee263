//! Where images come from.

pub mod augment;
mod cache;
pub mod celeba;
pub mod cifar;
mod continuous;
mod decode;
pub mod files;
mod fingerprint;
pub mod folder;
pub mod idx;
pub mod memory;
pub mod options;
pub mod order;
mod pipeline;
pub mod prefetch;
pub mod subset;

use crate::error::{Error, Result};
use crate::images::{ImageShape, Pixels};

pub use augment::Augment;
pub use celeba::celeb_a;
pub use cifar::{Cifar10Part, cifar10};
pub use continuous::Continuous;
pub use files::{ImageFiles, read_images};
pub use fingerprint::id_fingerprint;
pub use folder::image_folder;
pub use idx::idx_files;
pub use memory::InMemory;
pub use options::DatasetOptions;
pub use order::Order;
pub use prefetch::{Plan, Prefetch, PrefetchedBatch};
pub use subset::{Subset, split};

/// Images that can be read in any order, from any thread.
pub trait Dataset: Send + Sync {
    /// Number of images.
    fn len(&self) -> usize;
    /// Of every image.
    fn shape(&self) -> ImageShape;
    /// Class names in label order, where the data have labels.
    fn classes(&self) -> Option<&[String]>;
    /// Names of yes-or-no attributes, where the data have them.
    fn attributes(&self) -> Option<&[String]> {
        None
    }
    /// Tells these images, in this order, from any others: a resumed run goes on with the data that it had.
    fn fingerprint(&self) -> String;
    /// The images of these indices, in this order, always the same.
    fn batch(&self, indices: &[usize]) -> Result<LabelledImages>;
    /// As [`Dataset::batch`], with what is random about an image (its crop) drawn for this step of training.
    fn training_batch(&self, indices: &[usize], seed: u64, step: u64) -> Result<LabelledImages> {
        let _ = (seed, step);
        self.batch(indices)
    }
    /// True without images.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What a [`Dataset`] returns.
#[derive(Debug, Clone)]
pub struct LabelledImages {
    /// The pixels: of one data set all 8-bit or all continuous.
    pub images: Pixels,
    /// Class of each image, where the data have labels.
    pub labels: Option<Vec<u32>>,
    /// A row of 0 and 1 for each image, where the data have attributes.
    pub attributes: Option<Vec<u8>>,
}

/// Reads a batch from a data set that somebody else may have written: what comes back is what was asked for, or
/// [`Error::Data`].
pub fn read_batch(dataset: &dyn Dataset, indices: &[usize]) -> Result<LabelledImages> {
    check_indices(indices, dataset.len())?;
    let batch = dataset.batch(indices)?;
    check_batch(dataset, indices, &batch)?;
    Ok(batch)
}

/// As [`read_batch`], for a step of training.
pub fn read_training_batch(dataset: &dyn Dataset, indices: &[usize], seed: u64, step: u64) -> Result<LabelledImages> {
    check_indices(indices, dataset.len())?;
    let batch = dataset.training_batch(indices, seed, step)?;
    check_batch(dataset, indices, &batch)?;
    Ok(batch)
}

/// [`Error::Data`] where `batch` is not what `dataset` promises for these indices.
pub fn check_batch(dataset: &dyn Dataset, indices: &[usize], batch: &LabelledImages) -> Result<()> {
    let bad = |reason: String| Error::Data { what: "a batch of the data set".into(), index: None, reason };

    let (images, shape) = (&batch.images, dataset.shape());
    let count = images.count();
    if (count, images.shape()) != (indices.len(), shape) {
        return Err(bad(format!(
            "Expected {} images of {shape} but received {count} of {}",
            indices.len(),
            images.shape()
        )));
    }
    if shape.checked_dims().and_then(|dims| dims.checked_mul(count)) != Some(images.len()) {
        return Err(bad(format!("Expected {count} x {shape} values but received {}", images.len())));
    }
    images.check_finite().map_err(|error| bad(error.to_string()))?;
    match (dataset.classes(), &batch.labels) {
        (Some(classes), Some(labels)) => {
            if labels.len() != count {
                return Err(bad(format!("Expected {count} labels but received {}", labels.len())));
            }
            if let Some(at) = labels.iter().position(|&label| label as usize >= classes.len()) {
                return Err(Error::Data {
                    what: format!("image {}", indices[at]),
                    index: Some(indices[at]),
                    reason: format!("Expected a label below {} but received {}", classes.len(), labels[at]),
                });
            }
        }
        (Some(_), None) => return Err(bad("Expected labels but received none".into())),
        (None, Some(_)) => return Err(bad("Expected no labels, as there are no classes, but received some".into())),
        (None, None) => {}
    }
    let attributes = dataset.attributes().map(|names| names.len() * count);
    if batch.attributes.as_ref().map(Vec::len) != attributes {
        return Err(bad(format!(
            "Expected {} attributes but received {}",
            attributes.unwrap_or(0),
            batch.attributes.as_ref().map_or(0, Vec::len)
        )));
    }
    Ok(())
}

/// [`Error::Option`] where an index is not that of an image.
pub fn check_indices(indices: &[usize], len: usize) -> Result<()> {
    match indices.iter().find(|&&index| index >= len) {
        Some(index) => Err(Error::option("indices", format!("indices below {len}"), index)),
        None => Ok(()),
    }
}

/// The labels of these indices.
fn pick_labels(labels: Option<&[u32]>, indices: &[usize]) -> Option<Vec<u32>> {
    labels.map(|labels| indices.iter().map(|&index| labels[index]).collect())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::images::Images;

    /// A data set of `count` images of one pixel, each its index modulo 256.
    pub(crate) fn numbered(count: usize) -> InMemory {
        let shape = ImageShape { height: 1, width: 1, channels: 1 };
        let images = Images::new((0..count).map(|i| i as u8).collect(), count, shape).unwrap();
        InMemory::new(images, Some((0..count).map(|i| (i % 3) as u32).collect()), None).unwrap()
    }

    /// Returns one thing whatever it is asked for.
    struct Liar(LabelledImages, Option<Vec<String>>);

    impl Dataset for Liar {
        fn len(&self) -> usize {
            10
        }
        fn shape(&self) -> ImageShape {
            ImageShape { height: 1, width: 2, channels: 1 }
        }
        fn classes(&self) -> Option<&[String]> {
            self.1.as_deref()
        }
        fn fingerprint(&self) -> String {
            "liar".into()
        }
        fn batch(&self, _: &[usize]) -> Result<LabelledImages> {
            Ok(self.0.clone())
        }
    }

    #[test]
    fn a_batch_that_is_not_what_was_asked_for_is_refused() {
        let shape = ImageShape { height: 1, width: 2, channels: 1 };
        let good = Images { data: vec![0; 4], count: 2, shape };
        let classes = Some(vec!["cat".to_string(), "dog".to_string()]);
        let answer = |images: &Images, labels: Option<Vec<u32>>, classes: &Option<Vec<String>>| {
            let liar = Liar(
                LabelledImages { images: Pixels::Bytes(images.clone()), labels, attributes: None },
                classes.clone(),
            );
            read_training_batch(&liar, &[7, 3], 0, 0)
        };
        answer(&good, None, &None).unwrap();
        answer(&good, Some(vec![0, 1]), &classes).unwrap();
        for (images, labels, classes, sentence) in [
            (Images { count: 1, ..good.clone() }, None, &None, "Expected 2 images of 1x2x1 but received 1 of 1x2x1"),
            (
                Images { shape: ImageShape { height: 2, width: 1, ..shape }, ..good.clone() },
                None,
                &None,
                "received 2 of 2x1x1",
            ),
            (Images { data: vec![0; 3], ..good.clone() }, None, &None, "Expected 2 x 1x2x1 values but received 3"),
            (good.clone(), Some(vec![0]), &classes, "Expected 2 labels but received 1"),
            (good.clone(), Some(vec![0, 2]), &classes, "image 3: Expected a label below 2 but received 2"),
            (good.clone(), None, &classes, "Expected labels"),
            (good.clone(), Some(vec![0, 0]), &None, "Expected no labels"),
        ] {
            let error = answer(&images, labels, classes).unwrap_err();
            assert!(matches!(error, Error::Data { .. }), "{error:?}");
            assert!(error.to_string().contains(sentence), "{error}");
        }
        let error = read_training_batch(&numbered(10), &[3, 10], 0, 0).unwrap_err();
        assert_eq!(error.to_string(), "Expected indices below 10 for indices but received 10");
    }
}
