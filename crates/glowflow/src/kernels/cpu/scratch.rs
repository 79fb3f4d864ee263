//! Buffers that kernels work in: aligned to cache lines, and kept for the next call instead of freed.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::Mutex;

/// f32 in a cache line.
pub const LINE: usize = 16;

/// Free buffers beyond this many bytes go back to the system.
const KEPT: usize = 256 << 20;

static FREE: Mutex<Vec<Buffer>> = Mutex::new(Vec::new());

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
    let mut free = FREE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    // The smallest that is large enough; one far too large is left for others.
    let fits = |buffer: &Buffer| (len + LINE..=4 * (len + LINE)).contains(&buffer.data.len());
    let best = (0..free.len()).filter(|&i| fits(&free[i])).min_by_key(|&i| free[i].data.len());
    let buffer = best.map(|i| free.swap_remove(i));
    drop(free);
    let buffer = buffer.unwrap_or_else(|| {
        let data = vec![0.0; len + LINE];
        let start = data.as_ptr().align_offset(4 * LINE);
        Buffer { data, start }
    });
    Scratch { buffer, len }
}

/// Vectors that were handed back, by length.
static VALUES: Mutex<BTreeMap<usize, Vec<Vec<f32>>>> = Mutex::new(BTreeMap::new());

/// A vector of `len` unspecified values, an old one of this very length if there is one: for the gradients of weights,
/// which every step makes anew.
pub fn exact(len: usize) -> Vec<f32> {
    let mut values = VALUES.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let old = values.get_mut(&len).and_then(Vec::pop);
    drop(values);
    old.unwrap_or_else(|| vec![0.0; len])
}

/// Hands a vector back to [`exact`].
pub fn give_back(old: Vec<f32>) {
    VALUES.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).entry(old.len()).or_default().push(old);
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.buffer.data.is_empty() {
            return;
        }
        let mut free = FREE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        free.push(std::mem::take(&mut self.buffer));
        while free.iter().map(|buffer| 4 * buffer.data.len()).sum::<usize>() > KEPT {
            free.remove(0);
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
