//! How the rows of a batch are cut: groups of images whose activations stay near, in blocks that stay in cache.

use std::ops::Range;

use super::Grid;
use super::gradient::DEPTH;

/// Rows of the largest block: 144 is a multiple of every tile's rows.
const HIGHEST: usize = 144;
/// Rows of the smallest block, unless there are fewer: below, reading the weights would cost more than using them.
const LOWEST: usize = 24;
/// Blocks that are enough to keep threads busy.
const ENOUGH: usize = 8;

/// The cut. It depends on sizes alone, never on threads: sums over the rows follow it.
#[derive(Debug, Clone, Copy)]
pub struct Blocks {
    rows: usize,
    group: usize,
    /// Rows of a block, except the last of a group.
    pub height: usize,
}

/// Some images.
#[derive(Debug, Clone)]
pub struct Group {
    /// Their rows in the batch.
    pub rows: Range<usize>,
    /// Their blocks, counted over the batch.
    pub blocks: Range<usize>,
}

impl Blocks {
    /// Cuts `grid` so that a group holds at most `values` f32 if each row takes `width` of them, and at
    /// least one image.
    pub fn new(grid: Grid, width: usize, values: usize) -> Self {
        let group = rows_of_group(grid, values / width.max(1));
        let count = group.div_ceil(HIGHEST).max(ENOUGH.min(group / LOWEST)).max(1);
        Blocks { rows: grid.rows(), group, height: group.div_ceil(count).clamp(1, DEPTH) }
    }

    /// Cuts `grid` in groups of at most `rows` rows and at least one image, and these in blocks of this height.
    pub fn of_height(grid: Grid, rows: usize, height: usize) -> Self {
        Blocks { rows: grid.rows(), group: rows_of_group(grid, rows), height }
    }

    fn blocks_of_group(&self) -> usize {
        self.group.div_ceil(self.height)
    }

    /// Rows of the largest group.
    pub fn group_rows(&self) -> usize {
        self.group
    }

    /// Blocks of the batch.
    pub fn count(&self) -> usize {
        self.rows / self.group * self.blocks_of_group() + (self.rows % self.group).div_ceil(self.height)
    }

    /// The groups, in order.
    pub fn groups(self) -> impl Iterator<Item = Group> {
        (0..self.rows.div_ceil(self.group)).map(move |index| {
            let rows = index * self.group..((index + 1) * self.group).min(self.rows);
            let first = index * self.blocks_of_group();
            Group { blocks: first..first + rows.len().div_ceil(self.height), rows }
        })
    }
}

/// Rows of a group of whole images, at most `rows` if that is one; groups are as equal as whole images allow.
fn rows_of_group(grid: Grid, rows: usize) -> usize {
    let images = (rows / grid.pixels().max(1)).clamp(1, grid.batch.max(1));
    grid.batch.div_ceil(grid.batch.div_ceil(images).max(1)).max(1) * grid.pixels()
}

impl Group {
    /// The rows of the group's block `index`, counted from 0.
    pub fn block(&self, index: usize, height: usize) -> Range<usize> {
        let first = self.rows.start + index * height;
        first..(first + height).min(self.rows.end)
    }
}
