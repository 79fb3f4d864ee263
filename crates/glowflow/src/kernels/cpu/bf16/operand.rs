//! Where operands live, and weights on their way there.

use std::ops::{Deref, DerefMut};

use rayon::prelude::*;

use super::super::scratch::{self, Scratch};
use super::{Parts, SIDE, Walk, block};

/// bf16 of a tile.
pub const TILE: usize = 512;

/// A buffer of tiles; its memory is that of [`Scratch`].
#[derive(Default)]
pub struct Tiles(Scratch);

/// `count` tiles of each part, of unspecified values.
pub fn tiles(count: usize, parts: Parts) -> Tiles {
    Tiles(scratch::take(count * parts as usize * TILE / 2))
}

/// The memory of f32 as bf16.
pub fn as_tiles(values: &[f32]) -> &[u16] {
    // SAFETY: an f32 has the bytes of two u16, any bits are one, and its alignment is larger.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), 2 * values.len()) }
}

/// As [`as_tiles`].
pub fn as_tiles_mut(values: &mut [f32]) -> &mut [u16] {
    // SAFETY: as above, and any two u16 are an f32.
    unsafe { std::slice::from_raw_parts_mut(values.as_mut_ptr().cast(), 2 * values.len()) }
}

impl Deref for Tiles {
    type Target = [u16];
    fn deref(&self) -> &[u16] {
        as_tiles(&self.0)
    }
}

impl DerefMut for Tiles {
    fn deref_mut(&mut self) -> &mut [u16] {
        as_tiles_mut(&mut self.0)
    }
}

/// The right operand of a product: [depth, columns], in panels of 16 columns.
pub struct Right {
    tiles: Tiles,
    steps: usize,
    parts: Parts,
}

impl Right {
    /// Packs `w` [depth, columns], column c times `scale[c % scale.len()]`.
    pub fn pack(w: &[f32], columns: usize, scale: &[f32], parts: Parts) -> Self {
        let depth = w.len() / columns;
        assert!(
            w.len() == depth * columns && columns.is_multiple_of(scale.len()),
            "whole rows, whole repeats of a scale"
        );
        Self::fill(depth, columns, parts, |first, width, panel| {
            let mut factors = [0.0; 16];
            factors.iter_mut().enumerate().for_each(|(i, factor)| *factor = scale[(first + i) % scale.len()]);
            for (step, tile) in panel.chunks_exact_mut(parts as usize * TILE).enumerate() {
                let rows = step * SIDE..depth.min((step + 1) * SIDE);
                block::pack_columns(
                    parts,
                    &w[rows.start * columns + first..],
                    columns,
                    rows.len(),
                    width,
                    &factors,
                    tile,
                );
            }
        })
    }

    /// Packs the transpose of `w` [columns, depth], column d of w times `scale[d % scale.len()]`.
    pub fn pack_transposed(w: &[f32], depth: usize, scale: &[f32], parts: Parts) -> Self {
        let columns = w.len() / depth;
        assert!(
            w.len() == depth * columns && depth.is_multiple_of(scale.len()),
            "whole rows, whole repeats of a scale"
        );
        Self::fill(depth, columns, parts, |first, width, panel| {
            for (step, tile) in panel.chunks_exact_mut(parts as usize * TILE).enumerate() {
                let start = step * SIDE;
                let mut factors = [0.0; SIDE];
                factors.iter_mut().enumerate().for_each(|(i, factor)| *factor = scale[(start + i) % scale.len()]);
                let from = &w[first * depth + start..];
                block::pack_rows(parts, from, depth, width, SIDE.min(depth - start), &factors, tile);
            }
        })
    }

    fn fill(depth: usize, columns: usize, parts: Parts, panel: impl Fn(usize, usize, &mut [u16]) + Sync) -> Self {
        let (steps, panels) = (depth.div_ceil(SIDE), 2 * columns.div_ceil(SIDE));
        let mut all = tiles(steps * panels, parts);
        let size = steps * parts as usize * TILE;
        all.par_chunks_mut(size).with_min_len((1 << 15) / size + 1).enumerate().for_each(|(index, tiles)| {
            let first = index * 16;
            match columns.checked_sub(first).filter(|left| *left > 0) {
                Some(left) => panel(first, left.min(16), tiles),
                None => tiles.fill(0),
            }
        });
        Right { tiles: all, steps, parts }
    }

    /// How it is held.
    pub fn parts(&self) -> Parts {
        self.parts
    }

    /// Blocks of [`SIDE`] columns.
    pub fn blocks(&self) -> usize {
        self.tiles.len() / (2 * self.steps * self.parts as usize * TILE)
    }

    /// The columns of a block.
    pub fn walk(&self, block: usize) -> Walk<'_> {
        let tile = self.parts as usize * TILE;
        let panel = self.steps * tile;
        Walk::new(&self.tiles[2 * block * panel..], panel, tile, self.steps, self.parts)
    }
}
