//! Buffers that kernels work in: aligned to cache lines, and kept for the next call instead of freed.

use std::ops::{Deref, DerefMut};
use std::sync::Mutex;

/// f32 in a cache line.
pub const LINE: usize = 16;

/// Free buffers beyond this many bytes go back to the system.
const KEPT: usize = 256 << 20;

/// f32 aligned to 64 bytes.
#[derive(Default)]
pub struct Buffer {
    data: Vec<f32>,
    start: usize,
    len: usize,
}

impl Buffer {
    /// Makes this `len` long. The values are unspecified.
    pub fn resize(&mut self, len: usize) {
        if self.data.len() < len + LINE {
            self.data = vec![0.0; len + LINE];
            self.start = self.data.as_ptr().align_offset(4 * LINE);
        }
        self.len = len;
    }
}

impl Deref for Buffer {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.data[self.start..self.start + self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.data[self.start..self.start + self.len]
    }
}

static FREE: Mutex<Vec<Buffer>> = Mutex::new(Vec::new());

/// A buffer borrowed from those that are free; it goes back when dropped.
pub struct Scratch(Buffer);

/// A buffer of `len` unspecified values: whoever takes it writes what it reads.
pub fn take(len: usize) -> Scratch {
    let mut buffer = {
        let mut free = FREE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        // The smallest that is large enough; one far too large is left for others.
        let fits = |buffer: &Buffer| (len + LINE..=4 * (len + LINE)).contains(&buffer.data.len());
        let best = (0..free.len()).filter(|&i| fits(&free[i])).min_by_key(|&i| free[i].data.len());
        best.map(|i| free.swap_remove(i)).unwrap_or_default()
    };
    buffer.resize(len);
    Scratch(buffer)
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let mut free = FREE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        free.push(std::mem::take(&mut self.0));
        while free.iter().map(|buffer| 4 * buffer.data.len()).sum::<usize>() > KEPT {
            free.remove(0);
        }
    }
}

impl Deref for Scratch {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.0
    }
}

impl DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.0
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
