//! Images kept in memory once they have been decoded.

use std::borrow::Cow;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::Result;

/// Keeps images, in the order in which they are first read, until they fill `budget` bytes. Those that come later are
/// read each time: training reads every image once an epoch, so which ones are kept makes no difference, and replacing
/// them would only cost.
pub(super) struct Cache {
    images: Vec<OnceLock<Box<[u8]>>>,
    /// Bytes that may still be kept.
    left: AtomicUsize,
}

impl Cache {
    /// For this many images.
    pub fn new(images: usize, budget: usize) -> Self {
        Self { images: (0..images).map(|_| OnceLock::new()).collect(), left: AtomicUsize::new(budget) }
    }

    /// Image `index`, from memory or by `read`.
    pub fn get_or_read(&self, index: usize, read: impl FnOnce() -> Result<Vec<u8>>) -> Result<Cow<'_, [u8]>> {
        let image = &self.images[index];
        if let Some(kept) = image.get() {
            return Ok(kept.as_ref().into());
        }
        let pixels = read()?;
        let bytes = pixels.len();
        let room = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes));
        if room.is_err() {
            return Ok(pixels.into());
        }
        let mut mine = false;
        let kept = image.get_or_init(|| {
            mine = true;
            pixels.into_boxed_slice()
        });
        if !mine {
            // Another thread was faster.
            self.left.fetch_add(bytes, Ordering::Relaxed);
        }
        Ok(kept.as_ref().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn what_fits_is_read_once() {
        let cache = Cache::new(4, 5);
        let reads = AtomicUsize::new(0);
        let read = |index: usize| {
            let pixels = cache.get_or_read(index, || {
                reads.fetch_add(1, Ordering::Relaxed);
                Ok(vec![index as u8; 2])
            });
            assert_eq!(*pixels.unwrap(), [index as u8; 2]);
            reads.load(Ordering::Relaxed)
        };
        assert_eq!([3, 0, 3, 0].map(read), [1, 2, 2, 2]);
        // One byte is left: the others are read each time.
        assert_eq!([1, 1, 2, 3].map(read), [3, 4, 5, 5]);
    }

    #[test]
    fn a_failure_is_not_kept() {
        let cache = Cache::new(1, 10);
        assert!(cache.get_or_read(0, || Err(Error::Disposed)).is_err());
        assert_eq!(*cache.get_or_read(0, || Ok(vec![1])).unwrap(), [1]);
    }

    #[test]
    fn many_threads_keep_one_copy_each() {
        let cache = Cache::new(3, 30);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for round in 0..300 {
                        let index = round % 3;
                        assert_eq!(*cache.get_or_read(index, || Ok(vec![index as u8; 10])).unwrap(), [index as u8; 10]);
                    }
                });
            }
        });
        assert!(cache.images.iter().all(|image| image.get().is_some()));
        assert_eq!(cache.left.load(Ordering::Relaxed), 0);
    }
}
