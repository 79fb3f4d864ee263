//! Parts of a data set.

use std::sync::Arc;

use super::fingerprint::Fingerprint;
use super::{Dataset, LabelledImages, check_indices};
use crate::error::{Error, Result};
use crate::images::ImageShape;
use crate::random::{Key, Purpose};

/// How far from 1 the sum of fractions may be and still mean 1: decimal fractions have no exact sum.
const ROUNDING: f64 = 1e-9;

/// Some images of another data set.
pub struct Subset {
    source: Arc<dyn Dataset>,
    indices: Vec<usize>,
}

impl Subset {
    /// The images of `source` at `indices`, in this order.
    pub fn new(source: Arc<dyn Dataset>, indices: Vec<usize>) -> Result<Self> {
        check_indices(&indices, source.len())?;
        Ok(Self { source, indices })
    }

    fn in_source(&self, indices: &[usize]) -> Result<Vec<usize>> {
        check_indices(indices, self.len())?;
        Ok(indices.iter().map(|&index| self.indices[index]).collect())
    }
}

impl Dataset for Subset {
    fn len(&self) -> usize {
        self.indices.len()
    }

    fn shape(&self) -> ImageShape {
        self.source.shape()
    }

    fn classes(&self) -> Option<&[String]> {
        self.source.classes()
    }

    fn attributes(&self) -> Option<&[String]> {
        self.source.attributes()
    }

    fn fingerprint(&self) -> String {
        let source = self.source.fingerprint();
        Fingerprint::of("subset").bytes(source.as_bytes()).numbers(&self.indices).finish()
    }

    fn batch(&self, indices: &[usize]) -> Result<LabelledImages> {
        self.source.batch(&self.in_source(indices)?)
    }

    fn training_batch(&self, indices: &[usize], seed: u64, step: u64) -> Result<LabelledImages> {
        self.source.training_batch(&self.in_source(indices)?, seed, step)
    }
}

/// Splits at random into parts that share no image, by `seed` alone. Fractions that sum to 1 lose no image.
///
/// # Errors
///
/// [`Error::Option`] where a fraction is not positive, their sum is above 1, or a part would be empty.
pub fn split(dataset: Arc<dyn Dataset>, fractions: &[f64], seed: u64) -> Result<Vec<Arc<dyn Dataset>>> {
    let ends = part_ends(dataset.len(), fractions)?;
    // Parts stay in the order of the draw: the first images of a part are then a fair sample of it, even where the
    // source is sorted by class.
    let order = Key { seed, purpose: Purpose::Split, step: 0, image: 0 }.stream().permutation(dataset.len());
    let mut start = 0;
    ends.into_iter()
        .map(|end| {
            let indices = order[start..end].to_vec();
            start = end;
            Ok(Arc::new(Subset::new(dataset.clone(), indices)?) as Arc<dyn Dataset>)
        })
        .collect()
}

/// Where each part ends. The running sum is rounded, not each part, so that errors do not add up.
fn part_ends(len: usize, fractions: &[f64]) -> Result<Vec<usize>> {
    let bad = |expected: &str, received: String| Err(Error::option("fractions", expected, received));
    if fractions.is_empty() {
        return bad("one fraction or more", "none".into());
    }
    let mut sum = 0.0;
    let mut ends: Vec<usize> = Vec::with_capacity(fractions.len());
    for (part, &fraction) in fractions.iter().enumerate() {
        // Written so that NaN is refused, too.
        if !(fraction > 0.0 && fraction.is_finite()) {
            return bad("positive numbers", format!("{fraction} for part {part}"));
        }
        sum += fraction;
        if sum > 1.0 + ROUNDING {
            return bad("numbers whose sum is at most 1", format!("{fractions:?}"));
        }
        let end = if sum > 1.0 - ROUNDING { len } else { (sum * len as f64).round() as usize };
        if end <= ends.last().copied().unwrap_or(0) {
            return bad(
                "fractions that give each part an image",
                format!("{fraction} of {len} images for part {part}"),
            );
        }
        ends.push(end);
    }
    Ok(ends)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::tests::numbered;

    fn pixels(part: &dyn Dataset) -> Vec<u8> {
        part.batch(&(0..part.len()).collect::<Vec<_>>()).unwrap().images.bytes().data
    }

    #[test]
    fn parts_share_no_image_and_lose_none() {
        let data = Arc::new(numbered(101));
        let parts = split(data.clone(), &[0.7, 0.2, 0.1], 3).unwrap();
        assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [71, 20, 10]);
        let mut all: Vec<u8> = parts.iter().flat_map(|part| pixels(&**part)).collect();
        assert_ne!(all, (0..101).collect::<Vec<u8>>());
        all.sort_unstable();
        assert_eq!(all, (0..101).collect::<Vec<u8>>());

        let batch = parts[1].batch(&[4]).unwrap();
        assert_eq!(batch.labels.unwrap()[0], (batch.images.bytes().data[0] % 3) as u32);
        assert_eq!(parts[1].classes().unwrap().len(), 3);
        assert!(matches!(parts[1].batch(&[20]), Err(Error::Option { .. })));
    }

    #[test]
    fn the_seed_decides() {
        let data: Arc<dyn Dataset> = Arc::new(numbered(50));
        let first = |seed| pixels(&*split(data.clone(), &[0.5], seed).unwrap()[0]);
        assert_eq!(first(1), first(1));
        assert_ne!(first(1), first(2));
        // A further part does not change the ones before.
        assert_eq!(first(1), pixels(&*split(data.clone(), &[0.5, 0.25], 1).unwrap()[0]));
    }

    #[test]
    fn decimal_fractions_lose_no_image() {
        for len in 10..200 {
            for parts in 1..=10 {
                let ends = part_ends(len, &vec![1.0 / parts as f64; parts]).unwrap();
                assert_eq!((ends.len(), ends[parts - 1]), (parts, len));
            }
        }
        assert_eq!(part_ends(10, &[0.1; 10]).unwrap().last(), Some(&10));
        assert_eq!(part_ends(10, &[0.25]).unwrap(), [3]);
    }

    #[test]
    fn impossible_fractions_are_named() {
        for (fractions, sentence) in [
            (&[][..], "received none"),
            (&[0.5, 0.0], "Expected positive numbers for fractions but received 0 for part 1"),
            (&[-0.5], "received -0.5"),
            (&[f64::NAN], "received NaN"),
            (&[f64::INFINITY], "received inf"),
            (&[0.9, 0.2], "at most 1 for fractions but received [0.9, 0.2]"),
            (&[0.99, 0.01], "received 0.01 of 10 images for part 1"),
        ] {
            let error = part_ends(10, fractions).unwrap_err();
            assert!(matches!(error, Error::Option { .. }));
            assert!(error.to_string().contains(sentence), "{error}");
        }
    }
}
