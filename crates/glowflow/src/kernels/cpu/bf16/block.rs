//! Between f32 and the tiles of operands, 32 rows at a time.
//!
//! Everything here is AVX-512, which every [`Unit`](super::Unit) comes with.

use super::operand::TILE;
use super::{Block, Parts, SIDE, Walk};

/// 32 rows of a left operand: two strips of 16, each with a tile for every 32 columns.
#[derive(Clone, Copy)]
pub struct Left<'a> {
    tiles: &'a [u16],
    steps: usize,
    parts: Parts,
    rows: usize,
}

impl<'a> Left<'a> {
    /// Of `columns` columns.
    pub fn new(tiles: &'a [u16], columns: usize, parts: Parts) -> Self {
        let steps = columns.div_ceil(SIDE);
        assert_eq!(tiles.len(), 2 * steps * parts as usize * TILE, "32 rows of {columns} columns");
        Left { tiles, steps, parts, rows: SIDE }
    }

    /// Of which only the first `rows` rows count.
    pub fn of_rows(self, rows: usize) -> Self {
        Left { rows, ..self }
    }

    /// The rows as an operand.
    pub fn walk(&self) -> Walk<'a> {
        let tile = self.parts as usize * TILE;
        Walk { rows: self.rows, ..Walk::new(self.tiles, self.steps * tile, tile, self.steps, self.parts) }
    }
}

/// What becomes of the sums of a block before they are an operand.
pub enum Finish<'a> {
    /// Row r adds row `(first + r) % (map.len() / columns)` of `map` [.., columns], and negative values become 0.
    BiasRelu {
        /// `columns` a multiple of [`SIDE`].
        map: &'a [f32],
        /// See `map`.
        columns: usize,
        /// The batch's row of the block's first row.
        first: usize,
    },
    /// They count where this, of the output's size, is positive.
    Gate {
        /// See above.
        by: Left<'a>,
        /// Takes the sum of each column of what counts.
        columns: &'a mut [f32; SIDE],
    },
}

/// Makes of the sums of block `column` of a product's columns those of a left operand, a tile for either strip, and of
/// `pairs`, if they are asked for: two tiles of a right operand whose depth are these 32 rows.
pub fn finish(
    parts: Parts,
    sums: &mut Block,
    finish: Finish,
    column: usize,
    left: [&mut [u16]; 2],
    pairs: Option<&mut [u16]>,
) {
    vectors::apply(sums, finish, column);
    vectors::emit(parts, &sums.0, SIDE, Some(left), pairs);
}

/// The tiles of each block of columns of a left operand of 32 rows, strip by strip.
pub fn strips(parts: Parts, left: &mut [u16]) -> impl Iterator<Item = [&mut [u16]; 2]> {
    let tile = parts as usize * TILE;
    let (top, bottom) = left.split_at_mut(left.len() / 2);
    top.chunks_exact_mut(tile).zip(bottom.chunks_exact_mut(tile)).map(|(top, bottom)| [top, bottom])
}

/// Makes of 32 rows of `columns` values, each row padded to whole blocks of zeros, a left operand or pairs or both.
pub fn narrow(parts: Parts, rows: &[f32], columns: usize, left: Option<&mut [u16]>, pairs: Option<&mut [u16]>) {
    let steps = columns.div_ceil(SIDE);
    assert_eq!(rows.len(), SIDE * steps * SIDE, "32 rows of whole blocks");
    let mut left = left.map(|left| strips(parts, left));
    let mut pairs = pairs.map(|pairs| pairs.chunks_exact_mut(2 * parts as usize * TILE));
    for column in 0..steps {
        let left = left.as_mut().map(|left| left.next().expect("a tile for each block and strip"));
        let pairs = pairs.as_mut().map(|pairs| pairs.next().expect("two tiles for each block"));
        vectors::emit(parts, &rows[column * SIDE..], steps * SIDE, left, pairs);
    }
}

/// The transpose of 32 rows, as the left operand of a product over these rows: for each 16 columns a tile of 32 rows.
pub fn turn(parts: Parts, from: Left, to: &mut [u16]) {
    assert!(to.len() >= from.tiles.len(), "as many tiles");
    vectors::turn(parts as usize, from, to);
}

pub use vectors::{pack_columns, pack_rows};

#[cfg(not(target_arch = "x86_64"))]
mod vectors {
    use super::*;

    const NONE: &str = "no other processor has a unit";

    pub fn apply(_: &mut Block, _: Finish, _: usize) {
        unreachable!("{NONE}")
    }
    pub fn emit(_: Parts, _: &[f32], _: usize, _: Option<[&mut [u16]; 2]>, _: Option<&mut [u16]>) {
        unreachable!("{NONE}")
    }
    pub fn turn(_: usize, _: Left, _: &mut [u16]) {
        unreachable!("{NONE}")
    }
    pub fn pack_columns(_: Parts, _: &[f32], _: usize, _: usize, _: usize, _: &[f32; 16], _: &mut [u16]) {
        unreachable!("{NONE}")
    }
    pub fn pack_rows(_: Parts, _: &[f32], _: usize, _: usize, _: usize, _: &[f32; 32], _: &mut [u16]) {
        unreachable!("{NONE}")
    }
}

#[cfg(target_arch = "x86_64")]
mod vectors {
    use std::arch::x86_64::*;
    use std::mem::transmute;

    use super::*;

    /// Whoever holds operands has a [`Unit`](super::super::Unit).
    macro_rules! on_unit {
        ($call:expr) => {
            // SAFETY: operands exist where a unit was found, which AVX-512 with bf16 comes with; the called function
            // checks its extents.
            unsafe { $call }
        };
    }

    pub fn apply(sums: &mut Block, finish: Finish, column: usize) {
        match finish {
            Finish::BiasRelu { map, columns, first } => {
                let rows = map.len() / columns;
                assert!(
                    rows > 0 && map.len() == rows * columns && (column + 1) * SIDE <= columns,
                    "a bias for each column"
                );
                on_unit!(add_bias(sums, map, columns, first % rows, column))
            }
            Finish::Gate { by, columns } => on_unit!(open(sums, by, column, columns)),
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    fn add_bias(sums: &mut Block, map: &[f32], columns: usize, first: usize, column: usize) {
        let rows = map.len() / columns;
        let mut row_of_map = first;
        let zero = _mm512_setzero_ps();
        for row in sums.0.chunks_exact_mut(SIDE) {
            let bias = &map[row_of_map * columns + column * SIDE..][..SIDE];
            for (out, bias) in row.chunks_exact_mut(16).zip(bias.chunks_exact(16)) {
                // SAFETY: both are of 16 values.
                unsafe {
                    let sum = _mm512_add_ps(_mm512_loadu_ps(out.as_ptr()), _mm512_loadu_ps(bias.as_ptr()));
                    // In this order a NaN stays.
                    _mm512_storeu_ps(out.as_mut_ptr(), _mm512_max_ps(zero, sum));
                }
            }
            row_of_map = if row_of_map + 1 == rows { 0 } else { row_of_map + 1 };
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    fn open(sums: &mut Block, gate: Left, column: usize, columns: &mut [f32; SIDE]) {
        let tile = gate.parts as usize * TILE;
        let mut all = [_mm512_setzero_ps(); 2];
        for (index, row) in sums.0.chunks_exact_mut(SIDE).enumerate() {
            let gate = &gate.tiles[(index / 16 * gate.steps + column) * tile + index % 16 * SIDE..][..SIDE];
            // SAFETY: both are of 32 values.
            unsafe {
                // A bf16 is positive where its bits are a positive integer.
                let open = _mm512_cmpgt_epi16_mask(_mm512_loadu_si512(gate.as_ptr().cast()), _mm512_setzero_si512());
                for (half, out) in row.chunks_exact_mut(16).enumerate() {
                    let value = _mm512_maskz_loadu_ps((open >> (16 * half)) as u16, out.as_ptr());
                    _mm512_storeu_ps(out.as_mut_ptr(), value);
                    all[half] = _mm512_add_ps(all[half], value);
                }
            }
        }
        for (sum, out) in all.into_iter().zip(columns.chunks_exact_mut(16)) {
            // SAFETY: 16 values.
            unsafe { _mm512_storeu_ps(out.as_mut_ptr(), sum) }
        }
    }

    pub fn emit(parts: Parts, rows: &[f32], stride: usize, left: Option<[&mut [u16]; 2]>, pairs: Option<&mut [u16]>) {
        let tile = parts as usize * TILE;
        assert!(rows.len() >= 31 * stride + SIDE, "32 rows");
        assert!(left.iter().flatten().all(|left| left.len() == tile), "a tile for each strip");
        assert!(pairs.iter().all(|pairs| pairs.len() == 2 * tile), "two tiles of pairs");
        assert!(
            left.iter().flatten().all(|left| left.as_ptr().addr().is_multiple_of(64)),
            "tiles begin on a cache line"
        );
        assert!(pairs.iter().all(|pairs| pairs.as_ptr().addr().is_multiple_of(64)), "tiles begin on a cache line");
        let left = left.map_or([std::ptr::null_mut(); 2], |left| left.map(|left| left.as_mut_ptr()));
        let pairs = pairs.map_or(std::ptr::null_mut(), |pairs| pairs.as_mut_ptr());
        match parts {
            Parts::One => on_unit!(emit_parts::<1>(rows.as_ptr(), stride, left, pairs)),
            Parts::Two => on_unit!(emit_parts::<2>(rows.as_ptr(), stride, left, pairs)),
        }
    }

    /// A row's 32 values as bf16, and what these miss.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    #[inline]
    fn split<const PARTS: usize>(low: __m512, high: __m512) -> [__m512i; 2] {
        // SAFETY: vectors of the same bits.
        unsafe {
            let rounded: __m512i = transmute(_mm512_cvtne2ps_pbh(high, low));
            if PARTS == 1 {
                return [rounded, rounded];
            }
            let missed_low = _mm512_sub_ps(low, wide(_mm512_castsi512_si256(rounded)));
            let missed_high = _mm512_sub_ps(high, wide(_mm512_extracti64x4_epi64(rounded, 1)));
            [rounded, transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(missed_high, missed_low))]
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    #[inline]
    fn wide(x: __m256i) -> __m512 {
        _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16))
    }

    /// Value i of two vectors beside each other, for i in the first half of the lanes and in the second.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    #[inline]
    fn interleave(a: __m512i, b: __m512i) -> [__m512i; 2] {
        const LOW: [u16; 32] = interleaving(0);
        const HIGH: [u16; 32] = interleaving(16);
        // SAFETY: 32 indices each.
        let (low, high) =
            unsafe { (_mm512_loadu_si512(LOW.as_ptr().cast()), _mm512_loadu_si512(HIGH.as_ptr().cast())) };
        [_mm512_permutex2var_epi16(a, low, b), _mm512_permutex2var_epi16(a, high, b)]
    }

    const fn interleaving(first: u16) -> [u16; 32] {
        let mut index = [0; 32];
        let mut i = 0;
        while i < 16 {
            index[2 * i] = first + i as u16;
            index[2 * i + 1] = 32 + first + i as u16;
            i += 1;
        }
        index
    }

    /// # Safety
    /// 32 rows of 32 values begin at `rows`, a tile at each of `left` and two at `pairs`, where they are not null.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    unsafe fn emit_parts<const PARTS: usize>(rows: *const f32, stride: usize, left: [*mut u16; 2], pairs: *mut u16) {
        for pair in 0..16 {
            // SAFETY: as the caller says.
            unsafe {
                let row = |index: usize| {
                    let row = rows.add((2 * pair + index) * stride);
                    split::<PARTS>(_mm512_loadu_ps(row), _mm512_loadu_ps(row.add(16)))
                };
                let (even, odd) = (row(0), row(1));
                for part in 0..PARTS {
                    if !left[0].is_null() {
                        let to = left[pair / 8].add(part * TILE + pair % 8 * 64);
                        _mm512_store_si512(to.cast(), even[part]);
                        _mm512_store_si512(to.add(32).cast(), odd[part]);
                    }
                    if !pairs.is_null() {
                        let to = pairs.add(part * TILE + pair * 32);
                        let [first, second] = interleave(even[part], odd[part]);
                        _mm512_store_si512(to.cast(), first);
                        _mm512_store_si512(to.add(PARTS * TILE).cast(), second);
                    }
                }
            }
        }
    }

    pub fn turn(parts: usize, from: Left, to: &mut [u16]) {
        on_unit!(turn_tiles(parts, from, to))
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    fn turn_tiles(parts: usize, from: Left, to: &mut [u16]) {
        for (step, to) in to.chunks_exact_mut(2 * parts * TILE).enumerate().take(from.steps) {
            for part in 0..parts {
                let [mut first, mut second] = [[_mm512_setzero_si512(); 16]; 2];
                for (pair, (first, second)) in first.iter_mut().zip(&mut second).enumerate() {
                    let tile = (pair / 8 * from.steps + step) * parts + part;
                    let rows = &from.tiles[tile * TILE + pair % 8 * 64..][..64];
                    // SAFETY: two rows of 32 values.
                    let (even, odd) = unsafe {
                        (_mm512_loadu_si512(rows.as_ptr().cast()), _mm512_loadu_si512(rows[32..].as_ptr().cast()))
                    };
                    [*first, *second] = interleave(even, odd);
                }
                for (panel, rows) in [first, second].into_iter().enumerate() {
                    let to = &mut to[(panel * parts + part) * TILE..][..TILE];
                    for (to, row) in to.chunks_exact_mut(32).zip(transpose(rows)) {
                        // SAFETY: 32 values.
                        unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), row) }
                    }
                }
            }
        }
    }

    /// The transpose of 16 x 16 values of 32 bits.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    #[inline]
    fn transpose(rows: [__m512i; 16]) -> [__m512i; 16] {
        let (mut a, mut b) = (rows, rows);
        for i in 0..8 {
            a[2 * i] = _mm512_unpacklo_epi32(rows[2 * i], rows[2 * i + 1]);
            a[2 * i + 1] = _mm512_unpackhi_epi32(rows[2 * i], rows[2 * i + 1]);
        }
        for i in 0..4 {
            for half in 0..2 {
                b[4 * i + 2 * half] = _mm512_unpacklo_epi64(a[4 * i + half], a[4 * i + 2 + half]);
                b[4 * i + 2 * half + 1] = _mm512_unpackhi_epi64(a[4 * i + half], a[4 * i + 2 + half]);
            }
        }
        // b[4 i + j] has of the rows 4 i.. the columns j, j + 4, j + 8 and j + 12.
        for i in 0..2 {
            for j in 0..4 {
                a[8 * i + j] = _mm512_shuffle_i32x4(b[8 * i + j], b[8 * i + 4 + j], 0x88);
                a[8 * i + 4 + j] = _mm512_shuffle_i32x4(b[8 * i + j], b[8 * i + 4 + j], 0xdd);
            }
        }
        for j in 0..4 {
            b[j] = _mm512_shuffle_i32x4(a[j], a[8 + j], 0x88);
            b[8 + j] = _mm512_shuffle_i32x4(a[j], a[8 + j], 0xdd);
            b[4 + j] = _mm512_shuffle_i32x4(a[4 + j], a[12 + j], 0x88);
            b[12 + j] = _mm512_shuffle_i32x4(a[4 + j], a[12 + j], 0xdd);
        }
        b
    }

    /// A tile of a right operand from `height` rows of `width` columns, each column times its factor.
    pub fn pack_columns(
        parts: Parts,
        from: &[f32],
        stride: usize,
        height: usize,
        width: usize,
        factors: &[f32; 16],
        tile: &mut [u16],
    ) {
        assert!(height <= SIDE && width <= 16 && tile.len() == parts as usize * TILE, "a tile");
        assert!(height == 0 || from.len() >= (height - 1) * stride + width, "its rows");
        match parts {
            Parts::One => on_unit!(columns_of::<1>(from.as_ptr(), stride, height, width, factors, tile)),
            Parts::Two => on_unit!(columns_of::<2>(from.as_ptr(), stride, height, width, factors, tile)),
        }
    }

    /// # Safety
    /// `height` rows of `width` values begin at `from`.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    unsafe fn columns_of<const PARTS: usize>(
        from: *const f32,
        stride: usize,
        height: usize,
        width: usize,
        factors: &[f32; 16],
        tile: &mut [u16],
    ) {
        // SAFETY: as the caller says; 16 factors, and 16 pairs of 32 values in a tile.
        unsafe {
            let factors = _mm512_loadu_ps(factors.as_ptr());
            let lanes = ((1u32 << width) - 1) as u16;
            let row = |row: usize| {
                let lanes = if row < height { lanes } else { 0 };
                _mm512_mul_ps(factors, _mm512_maskz_loadu_ps(lanes, from.wrapping_add(row * stride)))
            };
            for pair in 0..16 {
                // The even row's values are the low half of each of these, the odd row's the high one.
                for (part, both) in split::<PARTS>(row(2 * pair), row(2 * pair + 1)).into_iter().enumerate().take(PARTS)
                {
                    let odd = _mm512_castsi256_si512(_mm512_extracti64x4_epi64(both, 1));
                    let to = tile[part * TILE + pair * 32..].as_mut_ptr();
                    _mm512_storeu_si512(to.cast(), interleave(both, odd)[0]);
                }
            }
        }
    }

    /// A tile of a right operand from the transpose of `height` rows of `width` columns, each column times its factor.
    pub fn pack_rows(
        parts: Parts,
        from: &[f32],
        stride: usize,
        height: usize,
        width: usize,
        factors: &[f32; SIDE],
        tile: &mut [u16],
    ) {
        assert!(height <= 16 && width <= SIDE && tile.len() == parts as usize * TILE, "a tile");
        assert!(height == 0 || from.len() >= (height - 1) * stride + width, "its rows");
        match parts {
            Parts::One => on_unit!(rows_of::<1>(from.as_ptr(), stride, height, width, factors, tile)),
            Parts::Two => on_unit!(rows_of::<2>(from.as_ptr(), stride, height, width, factors, tile)),
        }
    }

    /// # Safety
    /// `height` rows of `width` values begin at `from`.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    unsafe fn rows_of<const PARTS: usize>(
        from: *const f32,
        stride: usize,
        height: usize,
        width: usize,
        factors: &[f32; SIDE],
        tile: &mut [u16],
    ) {
        // SAFETY: as the caller says; 32 factors, and 16 pairs of 32 values in a tile.
        unsafe {
            let factor = [_mm512_loadu_ps(factors.as_ptr()), _mm512_loadu_ps(factors[16..].as_ptr())];
            let lanes = ((1u64 << width) - 1) as u32;
            let [mut high, mut low] = [[_mm512_setzero_si512(); 16]; 2];
            for (row, (high, low)) in high.iter_mut().zip(&mut low).enumerate() {
                let lanes = if row < height { lanes } else { 0 };
                let row_start = from.wrapping_add(row * stride);
                let half = |half: usize| {
                    let lanes = (lanes >> (16 * half)) as u16;
                    _mm512_mul_ps(factor[half], _mm512_maskz_loadu_ps(lanes, row_start.wrapping_add(16 * half)))
                };
                [*high, *low] = split::<PARTS>(half(0), half(1));
            }
            for (part, rows) in [high, low].into_iter().enumerate().take(PARTS) {
                for (pair, row) in transpose(rows).into_iter().enumerate() {
                    _mm512_storeu_si512(tile[part * TILE + pair * 32..].as_mut_ptr().cast(), row);
                }
            }
        }
    }
}
