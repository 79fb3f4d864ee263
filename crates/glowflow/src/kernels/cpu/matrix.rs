//! Where the elements of a matrix lie, and the matrices in these layouts.

use rayon::prelude::*;

use super::scratch::{self, LINE, Scratch};

/// Columns of a panel.
pub const PANEL: usize = 32;

/// Element (r, c) lies at `r / height * block + r % height * row + c / PANEL * panel + c % PANEL`.
///
/// Activations of a net are in *panels*: a block of rows is one contiguous piece, and in it so is each panel of 32
/// columns. A tile of a product then reads and writes whole cache lines in a row, whether the columns are its own or
/// its depth, and nothing is ever repacked. Narrow matrices over the taps of a 3x3 convolution are in *padded rows*.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    /// Columns of the matrix.
    pub columns: usize,
    /// Rows of a block.
    pub height: usize,
    /// Distance of rows.
    pub row: usize,
    /// Distance of panels.
    pub panel: usize,
    /// Distance of blocks.
    pub block: usize,
}

impl Layout {
    /// Panels of blocks of `height` rows.
    pub fn panels(columns: usize, height: usize) -> Self {
        let panel = PANEL * height;
        Layout { columns, height, row: PANEL, panel, block: panel * columns.div_ceil(PANEL) }
    }

    /// Row after row, each from the start of a cache line; an odd number of lines, so that rows spread over the cache.
    pub fn padded_rows(columns: usize, height: usize) -> Self {
        let row = (columns.div_ceil(LINE) | 1) * LINE;
        Layout { columns, height, row, panel: PANEL, block: row * height }
    }

    /// Row after row without gaps.
    pub fn plain(columns: usize, height: usize) -> Self {
        Layout { columns, height, row: columns, panel: PANEL, block: columns * height }
    }

    /// Panels, the last one maybe narrower.
    pub fn panel_count(&self) -> usize {
        self.columns.div_ceil(PANEL)
    }

    /// Columns of panel `panel`.
    pub fn panel_columns(&self, panel: usize) -> usize {
        PANEL.min(self.columns - panel * PANEL)
    }

    /// One more than the index of the last element of `rows` rows.
    pub fn end(&self, rows: usize) -> usize {
        let last = rows - 1;
        let panel = self.panel_count() - 1;
        last / self.height * self.block + last % self.height * self.row + panel * self.panel + self.panel_columns(panel)
    }

    /// f32 that the blocks of `rows` rows take.
    pub fn len(&self, rows: usize) -> usize {
        rows.div_ceil(self.height) * self.block
    }

    /// A buffer of unspecified values for `rows` rows.
    pub fn take(&self, rows: usize) -> Scratch {
        scratch::take(self.len(rows))
    }
}

/// A matrix to read.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    /// The elements.
    pub data: &'a [f32],
    /// Where they lie.
    pub layout: Layout,
    /// Rows.
    pub rows: usize,
}

impl<'a> Matrix<'a> {
    /// The first `rows` rows in `data`.
    pub fn new(data: &'a [f32], layout: Layout, rows: usize) -> Self {
        assert!(rows == 0 || data.len() >= layout.end(rows), "{rows} rows of {layout:?} in {} values", data.len());
        Matrix { data, layout, rows }
    }

    /// Row after row without gaps.
    pub fn plain(data: &'a [f32], columns: usize) -> Self {
        let rows = data.len() / columns;
        Matrix::new(data, Layout::plain(columns, rows), rows)
    }
}

/// Depth that is transposed at once.
const PIECE: usize = 128;

/// The right operand of a product: [depth, columns] in panels of one block.
pub struct Weights {
    data: Scratch,
    layout: Layout,
}

impl Weights {
    /// Packs `w` [depth, columns].
    pub fn pack(w: &[f32], columns: usize) -> Self {
        Self::pack_scaled(w, columns, &[1.0])
    }

    /// Packs `w` [depth, columns], column c times `scale[c % scale.len()]`.
    pub fn pack_scaled(w: &[f32], columns: usize, scale: &[f32]) -> Self {
        let depth = w.len() / columns;
        Self::fill(depth, columns, |panel, first, width| {
            let mut factors = [0.0; PANEL];
            factors.iter_mut().enumerate().for_each(|(i, factor)| *factor = scale[(first + i) % scale.len()]);
            for (to, from) in panel.chunks_exact_mut(PANEL).zip(w.chunks_exact(columns)) {
                let from = &from[first..first + width];
                for ((to, from), factor) in to.iter_mut().zip(from).zip(factors) {
                    *to = from * factor;
                }
            }
        })
    }

    /// Packs the transpose of `w` [columns, depth].
    pub fn pack_transposed(w: &[f32], depth: usize) -> Self {
        Self::pack_transposed_scaled(w, depth, &[1.0])
    }

    /// Packs the transpose of `w` [columns, depth], column d of w times `scale[d % scale.len()]`.
    pub fn pack_transposed_scaled(w: &[f32], depth: usize, scale: &[f32]) -> Self {
        let columns = w.len() / depth;
        Self::fill(depth, columns, |panel, first, width| {
            // In pieces long enough to be read ahead, whose lines of the panel stay in cache for the next columns.
            for top in (0..depth).step_by(PIECE) {
                let height = PIECE.min(depth - top);
                let rows = |column: usize| &w[(first + column) * depth + top..][..height];
                let panel = &mut panel[top * PANEL..][..height * PANEL];
                // Four columns at a time are a transposition that the compiler knows as shuffles.
                let whole = width / 4 * 4;
                for column in (0..whole).step_by(4) {
                    let from = [rows(column), rows(column + 1), rows(column + 2), rows(column + 3)];
                    transpose4(from, panel, column);
                }
                for column in whole..width {
                    for (to, x) in panel.chunks_exact_mut(PANEL).zip(rows(column)) {
                        to[column] = *x;
                    }
                }
                for (line, factor) in panel.chunks_exact_mut(PANEL).zip(scale.iter().cycle().skip(top % scale.len())) {
                    line.iter_mut().for_each(|x| *x *= factor);
                }
            }
        })
    }

    fn fill(depth: usize, columns: usize, panel: impl Fn(&mut [f32], usize, usize) + Sync) -> Self {
        let layout = Layout::panels(columns, depth);
        let mut data = layout.take(depth);
        let least = (1 << 14) / layout.panel + 1;
        data.par_chunks_mut(layout.panel).with_min_len(least).enumerate().for_each(|(index, to)| {
            panel(to, index * PANEL, layout.panel_columns(index));
        });
        Weights { data, layout }
    }

    /// The operand.
    pub fn matrix(&self) -> Matrix<'_> {
        Matrix::new(&self.data, self.layout, self.layout.height)
    }
}

/// Writes four rows of equal length as columns `column..column + 4` of a panel.
fn transpose4([a, b, c, d]: [&[f32]; 4], panel: &mut [f32], column: usize) {
    let (a4, a) = a.as_chunks::<4>();
    let (b4, b) = b.as_chunks::<4>();
    let (c4, c) = c.as_chunks::<4>();
    let (d4, d) = d.as_chunks::<4>();
    let (lines, rest) = panel.split_at_mut(a4.len() * 4 * PANEL);
    for ((((lines, a), b), c), d) in lines.chunks_exact_mut(4 * PANEL).zip(a4).zip(b4).zip(c4).zip(d4) {
        for i in 0..4 {
            lines[i * PANEL + column..][..4].copy_from_slice(&[a[i], b[i], c[i], d[i]]);
        }
    }
    for ((((line, a), b), c), d) in rest.chunks_exact_mut(PANEL).zip(a).zip(b).zip(c).zip(d) {
        line[column..column + 4].copy_from_slice(&[*a, *b, *c, *d]);
    }
}
