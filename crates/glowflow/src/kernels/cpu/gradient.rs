//! Weight gradients: `out = x^T y`, a product whose depth is all pixels.
#![allow(unsafe_code)] // Tiles are read at strides; `gradient` checks every extent once.

use std::ops::Range;

use rayon::prelude::*;

use super::isa::Isa;
use super::matrix::{Matrix, PANEL};
use super::product::part;
use super::scratch::{self, LINE, Scratch};
use super::tile::{self, Finish, Shape, Tile, Walk};

/// Pixels that are summed in registers; such sums are added up in f32 in the order of the pixels.
pub const DEPTH: usize = 144;

/// `out [x columns, y columns] = x^T y`, or `+=` if `add`. Both operands have blocks of one height, and y is in panels
/// or padded rows.
pub fn gradient(isa: Isa, x: Matrix, y: Matrix, out: &mut [f32], add: bool) {
    let (rows, columns) = (x.layout.columns, y.layout.columns);
    assert_eq!((x.rows, x.layout.height), (y.rows, y.layout.height), "pixels of the operands");
    assert_eq!(out.len(), rows * columns, "elements of the output");
    assert!(x.layout.height <= DEPTH, "blocks of at most {DEPTH} pixels");
    assert!(y.data.len() >= y.layout.len(y.rows), "whole blocks of y");
    let whole_vectors = y.layout.row == PANEL || y.layout.row >= columns.next_multiple_of(LINE);
    assert!(whole_vectors, "whole vectors are read from y");
    let panels = x.layout.panel_count();
    let group = (panels / (2 * rayon::current_num_threads())).clamp(1, 4);
    let small = x.rows * rows * columns < 1 << 20;
    let blocks = x.rows.div_ceil(x.layout.height);
    let parts = if small || panels > FEW { 1 } else { (x.rows / ROWS_OF_A_PART).clamp(1, PARTS) };
    if parts > 1 {
        // Each part of the pixels has its own sums, added up in the order of the parts.
        let sums: Vec<Scratch> = (0..parts)
            .into_par_iter()
            .map(|index| {
                let mut sum = scratch::take(out.len());
                sweep(isa, x, y, &mut sum, 0..panels, part(blocks, parts, index), false);
                sum
            })
            .collect();
        for (index, sum) in sums.iter().enumerate() {
            for (out, x) in out.iter_mut().zip(&**sum) {
                *out = if index > 0 || add { *out + x } else { *x };
            }
        }
        return;
    }
    let tasks = out.par_chunks_mut(group * PANEL * columns).with_min_len(if small { usize::MAX } else { 1 });
    tasks.enumerate().for_each(|(task, out)| {
        let first = task * group;
        sweep(isa, x, y, out, first..(first + group).min(panels), 0..blocks, add);
    });
}

/// Panels of x that are too few to keep threads busy.
const FEW: usize = 2;
/// Parts of the pixels that are then summed side by side: as many as sizes say, whatever the threads.
const PARTS: usize = 16;
/// Pixels that are worth sums of their own.
const ROWS_OF_A_PART: usize = 1024;

/// The panels `panels` of x, summed over `blocks`; `out` starts with the first of them.
fn sweep(isa: Isa, x: Matrix, y: Matrix, out: &mut [f32], panels: Range<usize>, blocks: Range<usize>, add: bool) {
    let columns = y.layout.columns;
    let shape = Shape::of(isa);
    let height = x.layout.height;
    let blocks_at_once = DEPTH / height;
    let walk = |depth| Walk {
        depth,
        run: height,
        a_row: 1,
        a_step: x.layout.row,
        a_jump: x.layout.block,
        b_step: y.layout.row,
        b_jump: y.layout.block,
    };
    let end = (blocks.end * height).min(x.rows);
    for block in blocks.clone().step_by(blocks_at_once) {
        let walk = walk((blocks_at_once * height).min(end - block * height));
        let finish = if add || block > blocks.start { Finish::Add } else { Finish::Store };
        for y_panel in 0..y.layout.panel_count() {
            let width = y.layout.panel_columns(y_panel);
            for column in (0..width).step_by(shape.columns) {
                for x_panel in panels.clone() {
                    let x_width = x.layout.panel_columns(x_panel);
                    let strips = x_width.div_ceil(shape.rows);
                    for strip in 0..strips {
                        let rows = part(x_width, strips, strip);
                        let out_row = (x_panel - panels.start) * PANEL + rows.start;
                        // SAFETY: `gradient` checked that operands and output have these rows and columns, and
                        // that whole vectors of y can be read; `out` is this task's alone.
                        unsafe {
                            let tile = Tile {
                                a: x.data.as_ptr().add(block * x.layout.block + x_panel * x.layout.panel + rows.start),
                                b: y.data.as_ptr().add(block * y.layout.block + y_panel * y.layout.panel + column),
                                out: out.as_mut_ptr().add(out_row * columns + y_panel * PANEL + column),
                                out_row: columns,
                                columns: shape.columns.min(width - column),
                                resume: false,
                                finish,
                            };
                            tile::compute(isa, rows.len(), &walk, &tile);
                        }
                    }
                }
            }
        }
    }
}
