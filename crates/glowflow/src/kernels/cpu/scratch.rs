//! Buffers that kernels work in: aligned to cache lines, and kept for the next call instead of freed.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// f32 in a cache line.
pub const LINE: usize = 16;

/// Free buffers beyond this many bytes go back to the system, unless there is a [`Hoard`].
const KEPT: usize = 256 << 20;

static FREE: Mutex<Vec<Buffer>> = Mutex::new(Vec::new());

/// f32 of a buffer, and buffers, that a thread keeps for itself: tasks that take and drop them all at once would wait for
/// each other.
const NEAR: usize = 1 << 17;
const NEAR_COUNT: usize = 16;

thread_local! {
    static FREE_HERE: RefCell<Vec<Buffer>> = const { RefCell::new(Vec::new()) };
}

/// Memory of a buffer, whose aligned part begins at `start`.
#[derive(Default)]
struct Buffer {
    data: Vec<f32>,
    start: usize,
}

/// A buffer aligned to 64 bytes; its memory goes back to the free ones when dropped. The default is empty.
#[derive(Default)]
pub struct Scratch {
    buffer: Buffer,
    len: usize,
}

/// A buffer of `len` unspecified values: whoever takes it writes what it reads.
pub fn take(len: usize) -> Scratch {
    let here = if len <= NEAR { FREE_HERE.with_borrow_mut(|free| best(free, len)) } else { None };
    let old = here.or_else(|| best(&mut FREE.lock().unwrap_or_else(|poisoned| poisoned.into_inner()), len));
    let buffer = old.unwrap_or_else(|| {
        let data = vec![0.0; len + LINE];
        let start = data.as_ptr().align_offset(4 * LINE);
        Buffer { data, start }
    });
    Scratch { buffer, len }
}

/// The smallest that is large enough; one far too large is left for others.
fn best(free: &mut Vec<Buffer>, len: usize) -> Option<Buffer> {
    let fits = |buffer: &Buffer| (len + LINE..=4 * (len + LINE)).contains(&buffer.data.len());
    let best = (0..free.len()).filter(|&i| fits(&free[i])).min_by_key(|&i| free[i].data.len());
    best.map(|i| free.swap_remove(i))
}

/// The vectors of [`exact`], by length.
static VALUES: Mutex<BTreeMap<usize, Lent>> = Mutex::new(BTreeMap::new());

#[derive(Default)]
struct Lent {
    free: Vec<Vec<f32>>,
    away: usize,
}

/// A vector of `len` unspecified values, an old one of this very length if there is one: for the gradients of weights,
/// which every step makes anew.
pub fn exact(len: usize) -> Vec<f32> {
    let mut values = VALUES.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let lent = values.entry(len).or_default();
    lent.away += 1;
    let old = lent.free.pop();
    drop(values);
    old.unwrap_or_else(|| vec![0.0; len])
}

/// Hands a vector back to [`exact`], if it can be one of its.
pub fn give_back(old: Vec<f32>) {
    let mut values = VALUES.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if let Some(lent) = values.get_mut(&old.len()).filter(|lent| lent.away > 0) {
        lent.away -= 1;
        lent.free.push(old);
    }
}

/// Keeps every free buffer while it lives: steps of training need the same ones again and again, and memory that has gone
/// back to the system has to be cleared by it before it comes again.
#[derive(Debug)]
pub struct Hoard(());

static HOARDS: AtomicUsize = AtomicUsize::new(0);

impl Hoard {
    /// Begins to keep.
    #[allow(clippy::new_without_default, reason = "it does something")]
    pub fn new() -> Self {
        HOARDS.fetch_add(1, Ordering::Relaxed);
        Hoard(())
    }
}

impl Drop for Hoard {
    fn drop(&mut self) {
        if HOARDS.fetch_sub(1, Ordering::Relaxed) == 1 {
            VALUES.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clear();
            shrink(&mut FREE.lock().unwrap_or_else(|poisoned| poisoned.into_inner()));
        }
    }
}

/// Lets the oldest buffers go that are too many.
fn shrink(free: &mut Vec<Buffer>) {
    let mut bytes = free.iter().map(|buffer| 4 * buffer.data.len()).sum::<usize>();
    let gone = free.iter().take_while(|buffer| {
        let too_many = bytes > KEPT;
        bytes -= 4 * buffer.data.len();
        too_many
    });
    let gone = gone.count();
    free.drain(..gone);
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.buffer.data.is_empty() {
            return;
        }
        let buffer = std::mem::take(&mut self.buffer);
        let far = FREE_HERE.try_with(|free| {
            let mut free = free.borrow_mut();
            if buffer.data.len() > NEAR + LINE || free.len() == NEAR_COUNT {
                return Some(buffer);
            }
            free.push(buffer);
            None
        });
        // A thread that ends keeps nothing.
        let Ok(Some(buffer)) = far else { return };
        let mut free = FREE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        free.push(buffer);
        if HOARDS.load(Ordering::Relaxed) == 0 {
            shrink(&mut free);
        }
    }
}

impl Deref for Scratch {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.buffer.data[self.buffer.start..][..self.len]
    }
}

impl DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.buffer.data[self.buffer.start..][..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned_and_as_long_as_asked() {
        for len in [1, 15, 16, 1000] {
            let buffer = take(len);
            assert_eq!(buffer.len(), len);
            assert_eq!(buffer.as_ptr() as usize % 64, 0);
        }
    }
}
