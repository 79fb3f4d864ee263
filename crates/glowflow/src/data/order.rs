//! The order of the training images.

use crate::error::{Error, Result};
use crate::random::{Key, Purpose};

/// Which images come after which.
///
/// The epochs' permutations follow each other without a gap: batches cut from them are all full, every image comes
/// exactly once in an epoch, and a batch may hold the end of one epoch and the start of the next. What comes at a
/// position depends on the seed alone, so that a resumed run goes on with the images that it would have had.
#[derive(Debug, Clone)]
pub struct Order {
    len: usize,
    seed: u64,
    /// The permutations used last, with their epochs.
    recent: Vec<(u64, Vec<usize>)>,
}

/// Permutations that are kept: a batch seldom needs more than this epoch's and the next one's.
const KEPT: usize = 2;

impl Order {
    /// Of `len` images.
    ///
    /// # Errors
    ///
    /// [`Error::Data`] where `len` is 0.
    pub fn new(len: usize, seed: u64) -> Result<Self> {
        if len == 0 {
            return Err(Error::Data {
                what: "the training data".into(),
                index: None,
                reason: "Expected one image or more but received none".into(),
            });
        }
        Ok(Self { len, seed, recent: Vec::new() })
    }

    /// Indices of `count` images, those after the first `position` of all epochs.
    pub fn images(&mut self, position: u64, count: usize) -> Vec<usize> {
        let len = self.len as u64;
        (0..count as u64)
            // Positions that no run reaches wrap around rather than overflow.
            .map(|offset| position.wrapping_add(offset))
            .map(|position| self.permutation(position / len)[(position % len) as usize])
            .collect()
    }

    /// What it was drawn with.
    pub fn seed(&self) -> u64 {
        self.seed
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

    fn order() -> Order {
        Order::new(10, 3).unwrap()
    }

    #[test]
    fn an_epoch_holds_every_image_once() {
        let images = order().images(0, 700);
        let epochs: Vec<&[usize]> = images.chunks_exact(10).collect();
        for epoch in &epochs {
            let mut sorted = epoch.to_vec();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..10).collect::<Vec<_>>());
        }
        assert_ne!(epochs[0], epochs[1]);
        assert_ne!(images, Order::new(10, 4).unwrap().images(0, 700));
    }

    #[test]
    fn a_position_alone_says_what_comes() {
        let all = order().images(0, 140);
        // 7 and 10 have no common factor, 70 is many epochs in one batch.
        for batch in [1, 4, 7, 70] {
            let mut forwards = order();
            for position in (0..140 - batch).step_by(batch) {
                let expected = &all[position..position + batch];
                assert_eq!(forwards.images(position as u64, batch), expected);
                assert_eq!(order().images(position as u64, batch), expected);
            }
        }
    }

    #[test]
    fn made_up_positions_do_not_overflow() {
        assert_eq!(Order::new(3, 0).unwrap().images(u64::MAX - 5, 1 << 10).len(), 1 << 10);
    }

    #[test]
    fn nothing_to_order_is_an_error() {
        assert!(matches!(Order::new(0, 0), Err(Error::Data { .. })));
    }
}
