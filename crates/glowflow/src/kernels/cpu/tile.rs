//! The innermost loop of every product: a tile of the output, held in registers over the whole depth.
#![allow(unsafe_code)] // Raw pointers, for strided tiles that no slice describes; bounds are the callers' contract.

use super::isa::{Isa, per_isa};

/// How the operands are walked along the depth: runs of `run` steps, then a jump from the run's start to the next.
#[derive(Clone, Copy)]
pub struct Walk {
    /// Steps in all.
    pub depth: usize,
    /// Steps of a run.
    pub run: usize,
    /// From one row of the tile to the next, in the left operand.
    pub a_row: usize,
    /// One step in the left operand.
    pub a_step: usize,
    /// One run in the left operand.
    pub a_jump: usize,
    /// One step in the right operand.
    pub b_step: usize,
    /// One run in the right operand.
    pub b_jump: usize,
}

/// What becomes of a finished sum. Pointers are at the tile's first element.
#[derive(Clone, Copy)]
pub enum Finish {
    /// It is the result.
    Store,
    /// It is added to what is there.
    Add,
    /// A bias is added. Row `i` of the tile takes row `(first + i) % rows` of the map, whose rows are `row` apart.
    Bias { map: *const f32, row: usize, first: usize, rows: usize, relu: bool },
    /// It counts where `gate` is positive; rows are `row` apart.
    Gate { gate: *const f32, row: usize },
}

/// One tile.
#[derive(Clone, Copy)]
pub struct Tile {
    /// Left operand at the tile's first row.
    pub a: *const f32,
    /// Right operand at the tile's first column.
    pub b: *const f32,
    /// Output at the tile's first element.
    pub out: *mut f32,
    /// Distance of the output's rows.
    pub out_row: usize,
    /// Columns of the tile that exist.
    pub columns: usize,
    /// What becomes of the sums.
    pub finish: Finish,
}

/// Most rows of a tile.
pub fn rows(isa: Isa) -> usize {
    match isa {
        Isa::Portable => <super::simd::Portable as super::simd::Simd>::ROWS,
        Isa::Avx2 => 6,
        Isa::Avx512 => 12,
    }
}

/// Lanes of a vector, and vectors of a tile's row.
pub fn columns(isa: Isa) -> (usize, usize) {
    match isa {
        Isa::Portable => (8, 1),
        Isa::Avx2 => (8, 2),
        Isa::Avx512 => (16, 2),
    }
}

/// Computes a tile of `rows` rows.
///
/// # Safety
/// `rows` is at least 1 and at most [`rows`]`(isa)`, `tile.columns` at most the lanes of a row. The left operand is
/// readable at every step and row of the tile; the right one and the gate for as many whole vectors as hold
/// `tile.columns`; the map of biases for `tile.columns`; the output is writable for `tile.columns` in each row, by
/// nobody else.
pub unsafe fn compute(isa: Isa, rows: usize, walk: &Walk, tile: &Tile) {
    let wide = tile.columns > columns(isa).0;
    macro_rules! of_rows {
        ($($rows:literal)*) => {
            match (rows, wide) {
                $(($rows, true) => fixed::<$rows, 2>(isa, walk, tile), ($rows, false) => fixed::<$rows, 1>(isa, walk, tile),)*
                _ => unreachable!("a tile of {rows} rows"),
            }
        };
    }
    of_rows!(1 2 3 4 5 6 7 8 9 10 11 12)
}

per_isa! {
    /// A tile of fixed size: only [`compute`] may call this, under its contract.
    fn fixed<S, const ROWS: usize, const VECTORS: usize>(walk: &Walk, tile: &Tile) {
        // Sizes that this instruction set never asks for compile to this line alone.
        if ROWS > S::ROWS || VECTORS > S::VECTORS {
            unreachable!("a tile of {ROWS} rows of {VECTORS} vectors");
        }
        // SAFETY: `per_isa!` enables the features; `compute` states what is readable and writable. Pointers that
        // are moved past the end of the last run are not read.
        unsafe {
            let mut sums = [[S::splat(0.0); VECTORS]; ROWS];
            let (mut a_run, mut b_run) = (tile.a, tile.b);
            let mut left = walk.depth;
            while left > 0 {
                let run = left.min(walk.run);
                let (mut a, mut b) = (a_run, b_run);
                for _ in 0..run {
                    let mut row = [S::splat(0.0); VECTORS];
                    for (vector, lanes) in row.iter_mut().enumerate() {
                        *lanes = S::load(b.add(vector * S::LANES));
                    }
                    for (i, sums) in sums.iter_mut().enumerate() {
                        let x = S::splat(*a.add(i * walk.a_row));
                        for (sum, lanes) in sums.iter_mut().zip(row) {
                            *sum = S::multiply_add(x, lanes, *sum);
                        }
                    }
                    a = a.wrapping_add(walk.a_step);
                    b = b.wrapping_add(walk.b_step);
                }
                left -= run;
                a_run = a_run.wrapping_add(walk.a_jump);
                b_run = b_run.wrapping_add(walk.b_jump);
            }

            let mut bias_row = match tile.finish {
                Finish::Bias { first, rows, .. } if rows > 1 => first % rows,
                _ => 0,
            };
            for (i, sums) in sums.iter().enumerate() {
                for (vector, sum) in sums.iter().enumerate() {
                    let first = vector * S::LANES;
                    let count = S::LANES.min(tile.columns - first);
                    let out = tile.out.add(i * tile.out_row + first);
                    let value = match tile.finish {
                        Finish::Store => *sum,
                        Finish::Add => S::add(load::<S>(out, count), *sum),
                        Finish::Bias { map, row, relu, .. } => {
                            let value = S::add(*sum, load::<S>(map.add(bias_row * row + first), count));
                            if relu { S::relu(value) } else { value }
                        }
                        Finish::Gate { gate, row } => S::where_positive(*sum, S::load(gate.add(i * row + first))),
                    };
                    if count == S::LANES {
                        S::store(out, value);
                    } else {
                        S::store_first(out, value, count);
                    }
                }
                if let Finish::Bias { rows, .. } = tile.finish {
                    bias_row = if bias_row + 1 == rows { 0 } else { bias_row + 1 };
                }
            }
        }
    }
}

/// # Safety
/// As [`Simd::load_first`](super::simd::Simd::load_first).
#[inline(always)]
unsafe fn load<S: super::simd::Simd>(from: *const f32, count: usize) -> S::V {
    // SAFETY: the caller's.
    unsafe { if count == S::LANES { S::load(from) } else { S::load_first(from, count) } }
}
