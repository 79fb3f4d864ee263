//! The order of the training images.

use crate::error::{Error, Result};
use crate::random::{Key, Purpose};

/// Which images make up the batch of each step.
///
/// The epochs' permutations follow each other without a gap and are cut into batches: every batch is full, every image
/// comes exactly once in an epoch, and a batch may hold the end of one epoch and the start of the next. A batch depends
/// on the seed and its step alone, so that a resumed run goes on with the images that it would have had.
#[derive(Debug, Clone)]
pub struct Order {
    len: usize,
    batch_size: usize,
    seed: u64,
    /// The permutations used last, with their epochs.
    recent: Vec<(u64, Vec<usize>)>,
}

/// Permutations that are kept: a batch seldom needs more than this epoch's and the next one's.
const KEPT: usize = 2;

impl Order {
    /// For `len` images in batches of `batch_size`, which may be larger.
    ///
    /// # Errors
    ///
    /// [`Error::Option`] where `batch_size` is 0, [`Error::Data`] where `len` is.
    pub fn new(len: usize, batch_size: usize, seed: u64) -> Result<Self> {
        if batch_size == 0 {
            return Err(Error::option("batchSize", "a positive integer", batch_size));
        }
        if len == 0 {
            return Err(Error::Data {
                what: "the training data".into(),
                index: None,
                reason: "Expected one image or more but received none".into(),
            });
        }
        Ok(Self { len, batch_size, seed, recent: Vec::new() })
    }

    /// Indices of the images of batch `step`, counted from 0 over all epochs. Length `batch_size`.
    pub fn batch(&mut self, step: u64) -> Vec<usize> {
        let start = self.position(step);
        (0..self.batch_size)
            .map(|offset| {
                let position = start + offset as u128;
                let within = (position % self.len as u128) as usize;
                self.permutation((position / self.len as u128) as u64)[within]
            })
            .collect()
    }

    /// What it was drawn with.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Epoch, from 0, of the first image of batch `step`.
    pub fn epoch(&self, step: u64) -> u64 {
        (self.position(step) / self.len as u128) as u64
    }

    /// Batches in an epoch, not a whole number where the batch size does not divide the images.
    pub fn batches_per_epoch(&self) -> f64 {
        self.len as f64 / self.batch_size as f64
    }

    /// Images before batch `step`; their number may pass 64 bits where a step is made up.
    fn position(&self, step: u64) -> u128 {
        step as u128 * self.batch_size as u128
    }

    fn permutation(&mut self, epoch: u64) -> &[usize] {
        let at = match self.recent.iter().position(|(kept, _)| *kept == epoch) {
            Some(at) => at,
            None => {
                if self.recent.len() == KEPT {
                    self.recent.remove(0);
                }
                let key = Key { seed: self.seed, purpose: Purpose::Order, step: epoch, image: 0 };
                self.recent.push((epoch, key.stream().permutation(self.len)));
                self.recent.len() - 1
            }
        };
        &self.recent[at].1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(order: &mut Order, steps: u64) -> Vec<usize> {
        (0..steps).flat_map(|step| order.batch(step)).collect()
    }

    #[test]
    fn an_epoch_holds_every_image_once() {
        // 7 and 10 have no common factor, 100 is many epochs in one batch.
        for batch_size in [1, 7, 10, 100] {
            let mut order = Order::new(10, batch_size, 3).unwrap();
            let images = stream(&mut order, 700 / batch_size as u64);
            let epochs: Vec<&[usize]> = images.chunks_exact(10).collect();
            for epoch in &epochs {
                let mut sorted = epoch.to_vec();
                sorted.sort_unstable();
                assert_eq!(sorted, (0..10).collect::<Vec<_>>());
            }
            assert_ne!(epochs[0], epochs[1]);
        }
    }

    #[test]
    fn the_stream_does_not_depend_on_the_batch_size() {
        let mut small = Order::new(10, 4, 3).unwrap();
        let mut large = Order::new(10, 28, 3).unwrap();
        assert_eq!(stream(&mut small, 14), stream(&mut large, 2));
        assert_ne!(stream(&mut small, 14), stream(&mut Order::new(10, 4, 4).unwrap(), 14));
    }

    #[test]
    fn a_batch_is_a_function_of_its_step() {
        let mut forwards = Order::new(10, 7, 3).unwrap();
        let batches: Vec<_> = (0..20).map(|step| forwards.batch(step)).collect();
        for step in (0..20).rev() {
            assert_eq!(Order::new(10, 7, 3).unwrap().batch(step), batches[step as usize]);
            assert_eq!(forwards.batch(step), batches[step as usize]);
        }
    }

    #[test]
    fn epochs_are_counted() {
        let order = Order::new(10, 4, 0).unwrap();
        assert_eq!([0, 1, 2, 3, 5].map(|step| order.epoch(step)), [0, 0, 0, 1, 2]);
        assert_eq!(order.batches_per_epoch(), 2.5);
        assert_eq!(Order::new(10, 40, 0).unwrap().batches_per_epoch(), 0.25);
    }

    #[test]
    fn made_up_steps_do_not_overflow() {
        let mut order = Order::new(3, 1 << 10, 0).unwrap();
        assert_eq!(order.batch(u64::MAX).len(), 1 << 10);
    }

    #[test]
    fn nothing_to_order_is_an_error() {
        assert!(matches!(Order::new(0, 1, 0), Err(Error::Data { .. })));
        assert!(matches!(Order::new(1, 0, 0), Err(Error::Option { .. })));
    }
}
