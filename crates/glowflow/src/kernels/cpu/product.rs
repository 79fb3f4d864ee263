//! Products of a matrix over pixels with weights: `out = finish(a b)`.
#![allow(unsafe_code)] // Tiles of the output are written through a pointer; `product` checks every extent once.

use std::ops::Range;

use super::crew;
use super::isa::Isa;
use super::matrix::{Layout, Matrix, PANEL};
use super::scratch::LINE;
use super::tile::{self, Shape, Tile, Walk};

/// What becomes of the sums of a product.
#[derive(Clone, Copy)]
pub enum Finish<'a> {
    /// They are the result.
    Store,
    /// Row r adds row `(first + r) % (map.len() / columns)` of `map`, and negative values become 0 if `relu`.
    Bias {
        /// [bias rows, columns]
        map: &'a [f32],
        /// The batch's row of the product's first row.
        first: usize,
        /// Whether a ReLU follows.
        relu: bool,
    },
    /// They, and a bias of one row where there is one, are added to what is there.
    Add {
        /// [columns]
        bias: Option<&'a [f32]>,
    },
    /// They count where this matrix of the output's shape is positive, and are 0 elsewhere.
    Gate(Matrix<'a>),
}

/// The output, written in parallel at disjoint tiles.
#[derive(Clone, Copy)]
struct Output(*mut f32);
// SAFETY: the tasks of a product write disjoint tiles.
unsafe impl Send for Output {}
// SAFETY: as above.
unsafe impl Sync for Output {}

struct Job<'a> {
    isa: Isa,
    a: Matrix<'a>,
    b: Matrix<'a>,
    out: Output,
    layout: Layout,
    finish: Finish<'a>,
}

/// Writes `finish(a b)` to the first `a.rows` rows of `out`. All matrices are of one block. `spread` lets other threads
/// help: for a caller that is not itself one of many tasks.
pub fn product(isa: Isa, a: Matrix, b: Matrix, out: &mut [f32], layout: Layout, finish: Finish, spread: bool) {
    let (rows, columns) = (a.rows, b.layout.columns);
    assert_eq!(a.layout.columns, b.rows, "depth of the operands");
    assert_eq!(layout.columns, columns, "columns of the output");
    assert!(rows <= a.layout.height && rows <= layout.height && b.rows <= b.layout.height, "operands of one block");
    assert!(rows == 0 || layout.end(rows) <= out.len(), "{rows} rows of {layout:?} in {} values", out.len());
    assert!(b.data.len() >= b.layout.len(b.rows), "whole panels of the right operand");
    // Whole vectors are read from b and the gate; panels are as wide.
    assert!(
        b.layout.row == PANEL || columns.is_multiple_of(LINE),
        "the right operand is in panels or of whole vectors"
    );
    match finish {
        Finish::Store => {}
        Finish::Add { bias } => assert!(bias.is_none_or(|bias| bias.len() == columns), "a bias for each column"),
        Finish::Bias { map, .. } => {
            assert!(map.len() >= columns && map.len().is_multiple_of(columns), "rows of the bias")
        }
        Finish::Gate(gate) => assert!(
            gate.layout.columns == columns
                && gate.layout.row == PANEL
                && rows <= gate.rows
                && gate.data.len() >= gate.layout.len(rows),
            "a gate of the output's shape, in panels"
        ),
    }
    let job = Job { isa, a, b, out: Output(out.as_mut_ptr()), layout, finish };
    let panels = b.layout.panel_count();
    let threads = rayon::current_num_threads();
    if !spread || threads == 1 || rows * columns * b.rows < SMALL {
        return job.sweep(0..rows, 0..panels);
    }
    // Rows first: each part then reads its rows once. Few rows are worth less than the weights, which each part reads.
    let row_parts = (rows / ROWS_OF_A_TASK).clamp(1, 4 * threads);
    let panel_parts = if row_parts >= threads { 1 } else { panels.min((2 * threads).div_ceil(row_parts)) };
    crew::share(vec![(); row_parts * panel_parts], |task, ()| {
        let (row, panel) = (task % row_parts, task / row_parts);
        job.sweep(part(rows, row_parts, row), part(panels, panel_parts, panel));
    });
}

/// Multiplications below which a product is not worth sharing.
const SMALL: usize = 1 << 16;
/// Depth that is walked at once: a multiple of [`PANEL`] for which a panel of the right operand and a strip of the left
/// one stay in the first cache.
const DEPTH: usize = 256;
/// Rows for which reading all weights is worth it.
const ROWS_OF_A_TASK: usize = 96;

/// Part `index` of `count` nearly equal parts of `0..total`.
pub fn part(total: usize, count: usize, index: usize) -> Range<usize> {
    total * index / count..total * (index + 1) / count
}

impl Job<'_> {
    fn sweep(&self, rows: Range<usize>, panels: Range<usize>) {
        let shape = Shape::of(self.isa);
        let strips = rows.len().div_ceil(shape.rows);
        let depth = self.b.rows;
        for panel in panels.clone() {
            let width = self.b.layout.panel_columns(panel);
            for column in (0..width).step_by(shape.columns) {
                let columns = shape.columns.min(width - column);
                for from in (0..depth).step_by(DEPTH) {
                    let walk = Walk {
                        depth: DEPTH.min(depth - from),
                        run: PANEL,
                        a_row: self.a.layout.row,
                        a_step: 1,
                        a_jump: self.a.layout.panel,
                        b_step: self.b.layout.row,
                        b_jump: PANEL * self.b.layout.row,
                    };
                    for strip in 0..strips {
                        let part = part(rows.len(), strips, strip);
                        let (row, height) = (rows.start + part.start, part.len());
                        let at = |layout: &Layout| row * layout.row + panel * layout.panel + column;
                        // SAFETY: `product` checked that the operands, the gate, the map and the output have these rows
                        // and columns, and that whole vectors can be read; the parts of a job do not overlap.
                        unsafe {
                            let finish = match self.finish {
                                _ if from + walk.depth < depth => tile::Finish::Store,
                                Finish::Store | Finish::Add { bias: None } => tile::Finish::Store,
                                Finish::Add { bias: Some(bias) } => tile::Finish::Bias {
                                    map: bias.as_ptr().add(panel * PANEL + column),
                                    row: self.layout.columns,
                                    first: 0,
                                    rows: 1,
                                    relu: false,
                                },
                                Finish::Bias { map, first, relu } => tile::Finish::Bias {
                                    map: map.as_ptr().add(panel * PANEL + column),
                                    row: self.layout.columns,
                                    first: first + row,
                                    rows: map.len() / self.layout.columns,
                                    relu,
                                },
                                Finish::Gate(gate) => tile::Finish::Gate {
                                    gate: gate.data.as_ptr().add(at(&gate.layout)),
                                    row: gate.layout.row,
                                },
                            };
                            let b = panel * self.b.layout.panel + from * self.b.layout.row + column;
                            let a = row * self.a.layout.row + from / PANEL * self.a.layout.panel;
                            let tile = Tile {
                                a: self.a.data.as_ptr().add(a),
                                b: self.b.data.as_ptr().add(b),
                                out: self.out.0.add(at(&self.layout)),
                                out_row: self.layout.row,
                                columns,
                                resume: from > 0 || matches!(self.finish, Finish::Add { .. }),
                                finish,
                            };
                            tile::compute(self.isa, height, &walk, &tile);
                        }
                    }
                }
            }
        }
    }
}
