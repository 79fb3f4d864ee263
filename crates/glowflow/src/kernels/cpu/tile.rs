//! The innermost loop of every product: a tile of the output, held in registers over the whole depth.
#![allow(unsafe_code)] // Raw pointers, for strided tiles that no slice describes; bounds are the callers' contract.

use std::hint::black_box;

use super::isa::{Isa, per_isa};
use super::scratch::LINE;
use super::simd::Simd;

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
    /// Whether the sums go on from what is in the output: a depth may be walked in parts, which changes no bits.
    pub resume: bool,
    /// What becomes of the sums.
    pub finish: Finish,
}

/// The largest tile of an instruction set.
#[derive(Clone, Copy)]
pub struct Shape {
    /// Rows.
    pub rows: usize,
    /// Lanes of a vector.
    pub lanes: usize,
    /// Columns: some vectors.
    pub columns: usize,
}

impl Shape {
    /// That of `isa`.
    pub fn of(isa: Isa) -> Self {
        const fn of<S: Simd>() -> Shape {
            Shape { rows: S::ROWS, lanes: S::LANES, columns: S::LANES * S::VECTORS }
        }
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => of::<super::simd::Avx512>(),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => of::<super::simd::Avx2>(),
            _ => of::<super::simd::Portable>(),
        }
    }
}

/// Computes a tile of `rows` rows.
///
/// # Safety
/// `rows` and `tile.columns` are at least 1 and within the [`Shape`] of `isa`. The left operand is readable at every
/// step and row of the tile; the right one and the gate for as many whole vectors as hold `tile.columns`; the map of
/// biases for `tile.columns`. The output is writable for `tile.columns` in each row, and nobody else touches it.
pub unsafe fn compute(isa: Isa, rows: usize, walk: &Walk, tile: &Tile) {
    let wide = tile.columns > Shape::of(isa).lanes;
    macro_rules! of_rows {
        ($($rows:literal)*) => {
            match (rows, wide) {
                $(($rows, true) => fixed::<$rows, 2>(isa, walk, tile),)*
                $(($rows, false) => fixed::<$rows, 1>(isa, walk, tile),)*
                _ => unreachable!("a tile of {rows} rows"),
            }
        };
    }
    of_rows!(1 2 3 4 5 6 7 8 9 10 11 12)
}

/// Steps that the right operand is asked for ahead.
const AHEAD: usize = 96;

/// Repeats a block for each row, and each vector of it, as code: only with constant indices do the sums stay in
/// registers for certain.
macro_rules! unroll {
    ($row:ident < $rows:ident, $body:block) => {
        unroll!(@ $row $rows $body 0 1 2 3 4 5 6 7 8 9 10 11)
    };
    ($row:ident < $rows:ident, $vector:ident < $vectors:ident, $body:block) => {
        unroll!($row < $rows, { unroll!(@ $vector $vectors $body 0 1) })
    };
    (@ $index:ident $count:ident $body:block $($value:literal)*) => {
        {$({
            let $index: usize = $value;
            if $index < $count $body
        })*}
    };
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
            // Distances that the compiler cannot relate: it would make the addresses of twelve rows one chain of
            // additions, as long as the products themselves.
            let row = walk.a_row;
            let three_rows = black_box(3 * row);
            let four_rows = [0, black_box(4 * row), black_box(8 * row)];
            let mut sums = [[S::splat(0.0); VECTORS]; ROWS];
            if tile.resume {
                unroll!(i < ROWS, vector < VECTORS, {
                    let out = tile.out.add(i * tile.out_row + vector * S::LANES);
                    sums[i][vector] = S::load_first(out, lanes::<S>(tile.columns, vector));
                });
            }
            // What the end touches comes while the sums are made.
            unroll!(i < ROWS, vector < VECTORS, {
                S::prefetch(tile.out.wrapping_add(i * tile.out_row + vector * S::LANES));
                if let Finish::Gate { gate, row } = tile.finish {
                    S::prefetch(gate.add(i * row + vector * S::LANES));
                }
            });
            let (mut a_run, mut b_run) = (tile.a, tile.b);
            let mut left = walk.depth;
            while left > 0 {
                let run = left.min(walk.run);
                let mut a = [a_run, a_run.wrapping_add(four_rows[1]), a_run.wrapping_add(four_rows[2])];
                let mut b = b_run;
                for _ in 0..run {
                    S::prefetch(b.wrapping_add(AHEAD * walk.b_step));
                    S::prefetch(b.wrapping_add(AHEAD * walk.b_step + LINE));
                    let mut right = [S::splat(0.0); VECTORS];
                    for (vector, lanes) in right.iter_mut().enumerate() {
                        *lanes = S::load(b.add(vector * S::LANES));
                    }
                    unroll!(i < ROWS, {
                        let x = S::splat(*a[i / 4].add([0, row, 2 * row, three_rows][i % 4]));
                        for (sum, lanes) in sums[i].iter_mut().zip(right) {
                            *sum = S::multiply_add(x, lanes, *sum);
                        }
                    });
                    a = a.map(|a| a.wrapping_add(walk.a_step));
                    b = b.wrapping_add(walk.b_step);
                }
                left -= run;
                a_run = a_run.wrapping_add(walk.a_jump);
                b_run = b_run.wrapping_add(walk.b_jump);
            }

            match tile.finish {
                Finish::Store => {}
                Finish::Add => unroll!(i < ROWS, vector < VECTORS, {
                    let out = tile.out.add(i * tile.out_row + vector * S::LANES);
                    sums[i][vector] = S::add(S::load_first(out, lanes::<S>(tile.columns, vector)), sums[i][vector]);
                }),
                Finish::Bias { map, row, first, rows, relu } => {
                    let mut bias_row = first % rows;
                    unroll!(i < ROWS, {
                        if i > 0 {
                            bias_row = if bias_row + 1 == rows { 0 } else { bias_row + 1 };
                        }
                        for (vector, sum) in sums[i].iter_mut().enumerate() {
                            let bias = map.add(bias_row * row + vector * S::LANES);
                            *sum = S::add(*sum, S::load_first(bias, lanes::<S>(tile.columns, vector)));
                            if relu {
                                *sum = S::relu(*sum);
                            }
                        }
                    });
                }
                Finish::Gate { gate, row } => unroll!(i < ROWS, vector < VECTORS, {
                    let gate = S::load(gate.add(i * row + vector * S::LANES));
                    sums[i][vector] = S::where_positive(sums[i][vector], gate);
                }),
            }
            unroll!(i < ROWS, vector < VECTORS, {
                let out = tile.out.add(i * tile.out_row + vector * S::LANES);
                S::store_first(out, sums[i][vector], lanes::<S>(tile.columns, vector));
            });
        }
    }
}

/// Lanes of vector `vector` of a row of `columns`.
#[inline(always)]
fn lanes<S: Simd>(columns: usize, vector: usize) -> usize {
    S::LANES.min(columns - vector * S::LANES)
}
