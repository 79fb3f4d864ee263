//! How the rows of a batch are cut: units of whole images, each of which one thread can take through a net, in blocks of
//! rows that stay in cache; and groups of units whose activations stay near.

use std::ops::Range;

use super::Grid;
use super::gradient::DEPTH;

/// Rows of the largest block: a multiple of every tile's rows.
const HIGHEST: usize = 144;
/// Rows of the smallest block, unless there are fewer: below, reading the weights would cost more than using them.
const LOWEST: usize = 24;
/// Rows of a unit, unless an image has more.
const UNIT: usize = 128;

/// The cut. What is summed over rows follows it, so that then it depends on sizes alone, never on threads.
#[derive(Debug, Clone, Copy)]
pub struct Blocks {
    /// Rows of a unit, except the last one.
    pub unit: usize,
    /// Rows of a block, except the last one of a unit.
    pub height: usize,
}

/// Some units.
#[derive(Debug, Clone)]
pub struct Group {
    /// Their rows in the batch.
    pub rows: Range<usize>,
    /// Their blocks, counted over the batch.
    pub blocks: Range<usize>,
}

impl Blocks {
    /// Cuts `grid` in at least `least` blocks if its rows are enough for them.
    pub fn new(grid: Grid, least: usize) -> Self {
        let height = grid.rows().div_ceil(least.max(1)).clamp(LOWEST, HIGHEST);
        let unit = unit(grid, height.max(UNIT));
        let count = unit.div_ceil(height).max(1);
        // Blocks of one height make groups of many units possible.
        let count = (count..2 * count).find(|count| unit.is_multiple_of(*count)).unwrap_or(count);
        Blocks { unit, height: unit.div_ceil(count).clamp(1, DEPTH) }
    }

    /// Cuts `grid` in blocks of this height.
    pub fn of_height(grid: Grid, height: usize) -> Self {
        Blocks { unit: unit(grid, UNIT), height }
    }

    /// Blocks of a unit.
    fn of_unit(&self) -> usize {
        self.unit.div_ceil(self.height)
    }

    /// Blocks of the first `rows` rows.
    pub fn count(&self, rows: usize) -> usize {
        rows / self.unit * self.of_unit() + (rows % self.unit).div_ceil(self.height)
    }

    /// Block `block` of `rows` rows.
    pub fn block(&self, block: usize, rows: usize) -> Range<usize> {
        let (unit, index) = (block / self.of_unit(), block % self.of_unit());
        let first = unit * self.unit + index * self.height;
        first..(first + self.height).min((unit + 1) * self.unit).min(rows)
    }

    /// The groups of `rows` rows, in order: each of at least one unit, of more while they have at most `most` rows and
    /// only the last block is lower than others.
    pub fn groups(self, rows: usize, most: usize) -> impl Iterator<Item = Group> {
        let units = rows.div_ceil(self.unit);
        let uniform = self.unit.is_multiple_of(self.height);
        let together = if uniform { (most / self.unit).clamp(1, units.max(1)) } else { 1 };
        let size = units.div_ceil(units.div_ceil(together).max(1)) * self.unit;
        (0..rows).step_by(size.max(1)).map(move |first| {
            let rows = first..(first + size).min(rows);
            Group { blocks: self.count(rows.start)..self.count(rows.end), rows }
        })
    }
}

/// Rows of a unit: whole images of about this many rows together, units as equal as whole images allow.
fn unit(grid: Grid, rows: usize) -> usize {
    let images = (rows / grid.pixels().max(1)).clamp(1, grid.batch.max(1));
    grid.batch.div_ceil(grid.batch.div_ceil(images).max(1)).max(1) * grid.pixels().max(1)
}

impl Group {
    /// The group's block `index`, counted from 0.
    pub fn block(&self, index: usize, height: usize) -> Range<usize> {
        let first = self.rows.start + index * height;
        first..(first + height).min(self.rows.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_whole_images_and_blocks_cover_them_once() {
        let grids = [(5, 2, 3), (1, 16, 16), (16, 16, 16), (16, 4, 4), (3, 15, 15), (7, 13, 17), (1, 1, 1), (40, 1, 1)];
        for (batch, height, width) in grids {
            let grid = Grid { batch, height, width };
            let rows = grid.rows();
            for blocks in [Blocks::new(grid, 1), Blocks::new(grid, 8), Blocks::of_height(grid, 32)] {
                assert!(blocks.unit.is_multiple_of(grid.pixels()));
                let mut next = 0;
                for block in 0..blocks.count(rows) {
                    let range = blocks.block(block, rows);
                    assert!(range.start == next && range.end > next && range.len() <= blocks.height);
                    next = range.end;
                }
                assert_eq!(next, rows);
                let mut last = Group { rows: 0..0, blocks: 0..0 };
                for group in blocks.groups(rows, 300) {
                    assert_eq!((group.rows.start, group.blocks.start), (last.rows.end, last.blocks.end));
                    for (index, block) in group.blocks.clone().enumerate() {
                        assert_eq!(group.block(index, blocks.height), blocks.block(block, rows));
                    }
                    last = group;
                }
                assert_eq!((last.rows.end, last.blocks.end), (rows, blocks.count(rows)));
            }
        }
    }
}
