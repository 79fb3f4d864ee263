//! Products of bf16 operands with f32 sums.
//!
//! Operands lie in tiles of 16 rows of 64 bytes, a kilobyte each, in the two forms that the instructions take:
//!
//! - *left*: 16 rows of the matrix, 32 steps of its depth;
//! - *right*: 32 steps of the depth as 16 pairs, each of them beside each other in 16 columns.
//!
//! With [`Parts::Two`] an operand is the sum of two bf16, its tile followed by that of what the first has missed, and a
//! product is `a_high b_high + a_low b_high + a_high b_low`: about 16 bits of each operand count (bf16x3).
#![allow(unsafe_code)] // Instructions on raw tiles; extents are checked where tiles are addressed.

mod amx;
mod block;
mod dot;
mod operand;

use std::cell::Cell;
use std::sync::OnceLock;

use super::crew;
pub use block::{Finish, Left, finish, narrow, strips, turn};
pub use operand::{Right, TILE, Tiles, as_tiles, as_tiles_mut, tiles};

/// Rows and columns of a block of sums.
pub const SIDE: usize = 32;

/// What multiplies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// `vdpbf16ps` of AVX-512.
    Dot,
    /// The matrix tiles of Intel's AMX.
    Amx,
}

/// How an operand is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parts {
    /// As one bf16: 8 bits of mantissa.
    One = 1,
    /// As the sum of two.
    Two = 2,
}

thread_local! {
    static FORCED: Cell<Option<Unit>> = const { Cell::new(None) };
}

impl Unit {
    /// All that this machine has, the slowest first.
    pub fn available() -> Vec<Unit> {
        static FOUND: OnceLock<Vec<Unit>> = OnceLock::new();
        FOUND.get_or_init(|| [Unit::Dot, Unit::Amx].into_iter().filter(|unit| unit.detected()).collect()).clone()
    }

    fn detected(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        {
            // Tiles are filled and emptied by AVX-512.
            let vectors = super::Isa::detect() == super::Isa::Avx512 && is_x86_feature_detected!("avx512bf16");
            vectors && (self == Unit::Dot || amx::request())
        }
        #[cfg(not(target_arch = "x86_64"))]
        false
    }

    /// Whether [`Unit::Dot`] is faster than f32: AMD's processors make two of its products in a cycle's time, Intel's take
    /// more for one than for the f32 that it saves.
    pub fn dot_is_fast() -> bool {
        #[cfg(target_arch = "x86_64")]
        {
            let vendor = std::arch::x86_64::__cpuid(0);
            [vendor.ebx, vendor.edx, vendor.ecx] == [b"Auth", b"enti", b"cAMD"].map(|part| u32::from_le_bytes(*part))
        }
        #[cfg(not(target_arch = "x86_64"))]
        false
    }

    /// The one that `GLOWFLOW_UNIT` asks for, `dot` or `amx`, where this machine has it: for tests, which then get every
    /// precision, fast or not.
    pub fn asked() -> Option<Unit> {
        static ASKED: OnceLock<Option<Unit>> = OnceLock::new();
        let of_name = |name: String| match name.as_str() {
            "dot" => Some(Unit::Dot),
            "amx" => Some(Unit::Amx),
            _ => None,
        };
        let find =
            || std::env::var("GLOWFLOW_UNIT").ok().and_then(of_name).filter(|unit| Unit::available().contains(unit));
        *ASKED.get_or_init(find)
    }

    /// The one that a kernel called on this thread uses.
    pub fn active() -> Option<Unit> {
        FORCED.get().or_else(Unit::asked).or_else(|| Unit::available().last().copied())
    }

    /// Runs `body` with every kernel that it calls on this thread using `unit`: for tests.
    ///
    /// # Panics
    /// If this machine lacks `unit`.
    #[doc(hidden)]
    pub fn force<R>(unit: Unit, body: impl FnOnce() -> R) -> R {
        struct Restore(Option<Unit>);
        impl Drop for Restore {
            fn drop(&mut self) {
                FORCED.set(self.0);
            }
        }
        assert!(Unit::available().contains(&unit), "this machine lacks {unit:?}");
        let _restore = Restore(FORCED.replace(Some(unit)));
        body()
    }
}

/// A block of sums, row after row.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub struct Block(pub [f32; SIDE * SIDE]);

impl Default for Block {
    fn default() -> Self {
        Block([0.0; SIDE * SIDE])
    }
}

impl Block {
    /// The blocks of a buffer of whole ones.
    pub fn slice(values: &mut [f32]) -> &mut [Block] {
        assert!(values.len().is_multiple_of(SIDE * SIDE) && values.as_ptr().addr().is_multiple_of(64), "whole blocks");
        // SAFETY: a block is its values, and the alignment is checked.
        unsafe { std::slice::from_raw_parts_mut(values.as_mut_ptr().cast(), values.len() / (SIDE * SIDE)) }
    }
}

/// One side of a block's product: two tiles beside each other, and how to come to those of the next step.
#[derive(Clone, Copy)]
pub struct Walk<'a> {
    tiles: &'a [u16],
    second: usize,
    step: usize,
    steps: usize,
    /// Of a left side: those that count.
    rows: usize,
}

impl<'a> Walk<'a> {
    /// The first tile begins `tiles`, the second lies `second` values after it, those of a step `step` after the last.
    pub fn new(tiles: &'a [u16], second: usize, step: usize, steps: usize, parts: Parts) -> Self {
        assert!(
            steps > 0 && tiles.len() >= second + (steps - 1) * step + parts as usize * TILE,
            "tiles of {steps} steps"
        );
        assert!(tiles.as_ptr().addr().is_multiple_of(64), "tiles begin on a cache line");
        assert!(second.is_multiple_of(TILE) && step.is_multiple_of(TILE), "whole tiles");
        Walk { tiles, second, step, steps, rows: SIDE }
    }
}

/// `sums = a b`, or `+=` if `add`; rows that do not count are `a b` or as they were.
pub fn multiply(unit: Unit, parts: Parts, a: Walk, b: Walk, sums: &mut Block, add: bool) {
    assert_eq!(a.steps, b.steps, "depth of the operands");
    // SAFETY: `Walk::new` checked that every tile is there; a `Unit` is one of `Unit::available`.
    unsafe {
        match unit {
            Unit::Amx => amx::multiply(parts, a, b, sums, add),
            Unit::Dot => dot::multiply(parts, a, b, sums, add),
        }
    }
}

/// The product of 32 rows with all columns of `right`, a block of columns after the other.
pub fn product(unit: Unit, a: Left, right: &Right, mut done: impl FnMut(usize, &mut Block)) {
    // A block is finished while the next one is multiplied.
    let mut sums = [Block::default(); 2];
    for block in 0..=right.blocks() {
        if block < right.blocks() {
            multiply(unit, right.parts(), a.walk(), right.walk(block), &mut sums[block % 2], false);
        }
        if let Some(last) = block.checked_sub(1) {
            done(last, &mut sums[last % 2]);
        }
    }
}

/// [`product`] with the help of other threads: `done` makes of each block of columns what belongs to its one of `to`.
pub fn shared_product<T: Send>(
    unit: Unit,
    a: Left,
    right: &Right,
    to: Vec<T>,
    done: impl Fn(usize, &mut Block, T) + Sync,
) {
    crew::share(to, |block, to| {
        let mut sums = Block::default();
        multiply(unit, right.parts(), a.walk(), right.walk(block), &mut sums, false);
        done(block, &mut sums, to);
    });
}

#[cfg(test)]
mod tests {
    use super::super::reference::values;
    use super::*;

    fn rounded(x: f32) -> f32 {
        let bits = x.to_bits();
        f32::from_bits((bits + 0x7fff + (bits >> 16 & 1)) & 0xffff_0000)
    }

    /// What an operand keeps of `x`.
    fn kept(parts: Parts, x: f32) -> f64 {
        let high = rounded(x);
        f64::from(high) + if parts == Parts::Two { f64::from(rounded(x - high)) } else { 0.0 }
    }

    #[test]
    fn a_product_is_that_of_the_rounded_operands() {
        for unit in Unit::available() {
            for parts in [Parts::One, Parts::Two] {
                for (depth, columns) in [(1, 1), (33, 40), (64, 32), (200, 70)] {
                    let (x, w) = (values(1, SIDE * depth), values(2, depth * columns));
                    let scale = values(3, columns);
                    let right = Right::pack(&w, columns, &scale, parts);
                    let turned: Vec<f32> = (0..columns * depth).map(|i| w[i % depth * columns + i / depth]).collect();
                    let transposed = Right::pack_transposed(&turned, depth, &vec![1.0; depth], parts);
                    let mut padded = vec![0.0; SIDE * depth.next_multiple_of(SIDE)];
                    for (to, from) in padded.chunks_exact_mut(depth.next_multiple_of(SIDE)).zip(x.chunks_exact(depth)) {
                        to[..depth].copy_from_slice(from);
                    }
                    let mut left = tiles(2 * depth.div_ceil(SIDE), parts);
                    narrow(parts, &padded, depth, Some(&mut left), None);
                    for block in 0..columns.div_ceil(SIDE) {
                        let (mut scaled, mut plain) = (Block::default(), Block::default());
                        let a = Left::new(&left, depth, parts).walk();
                        multiply(unit, parts, a, right.walk(block), &mut scaled, false);
                        multiply(unit, parts, a, transposed.walk(block), &mut plain, false);
                        multiply(unit, parts, a, transposed.walk(block), &mut plain, true);
                        for (row, column) in (0..SIDE).flat_map(|row| (0..SIDE).map(move |column| (row, column))) {
                            let at = block * SIDE + column;
                            let sum = |factor: f32| -> f64 {
                                let product = |k: usize| {
                                    let (a, b) =
                                        (kept(parts, x[row * depth + k]), kept(parts, w[k * columns + at] * factor));
                                    a * b
                                };
                                if at < columns { (0..depth).map(product).sum() } else { 0.0 }
                            };
                            let tolerance = if parts == Parts::One { 1e-6 } else { 2e-5 } * (depth as f64).sqrt();
                            let found = f64::from(scaled.0[row * SIDE + column]);
                            let expected = sum(scale.get(at).copied().unwrap_or(0.0));
                            assert!((found - expected).abs() < tolerance, "{unit:?} {parts:?}: {found} for {expected}");
                            let (found, expected) = (f64::from(plain.0[row * SIDE + column]), 2.0 * sum(1.0));
                            assert!(
                                (found - expected).abs() < 2.0 * tolerance,
                                "{unit:?} {parts:?}: {found} for {expected}"
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_turned_block_is_its_transpose() {
        if Unit::available().is_empty() {
            return;
        }
        let x = values(4, SIDE * SIDE);
        let mut left = tiles(2, Parts::Two);
        narrow(Parts::Two, &x, SIDE, Some(&mut left), None);
        let mut turned = tiles(2, Parts::Two);
        turn(Parts::Two, Left::new(&left, SIDE, Parts::Two), &mut turned);
        for (row, column) in (0..SIDE).flat_map(|row| (0..SIDE).map(move |column| (row, column))) {
            let tile = |matrix: &[u16], row: usize, column: usize, part: usize| {
                matrix[(row / 16 * 2 + part) * TILE + row % 16 * SIDE + column]
            };
            for part in 0..2 {
                assert_eq!(tile(&turned, column, row, part), tile(&left, row, column, part));
            }
        }
    }
}
