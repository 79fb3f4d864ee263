//! AVX-512's product of pairs: eight rows of a block at a time.

use super::{Block, Parts, Walk};

#[cfg(not(target_arch = "x86_64"))]
/// # Safety
/// Never called: no other processor has the unit.
pub unsafe fn multiply(_: Parts, _: Walk, _: Walk, _: &mut Block, _: bool) {
    unreachable!("this machine has no such unit")
}

#[cfg(target_arch = "x86_64")]
pub use vectors::multiply;

#[cfg(target_arch = "x86_64")]
mod vectors {
    use std::arch::x86_64::*;

    use super::super::SIDE;
    use super::super::operand::TILE;
    use super::*;

    /// Rows whose sums stay in registers, two vectors each.
    const ROWS: usize = 8;

    /// bf16 that the right operand is asked for ahead.
    const AHEAD: usize = 4 * TILE;

    /// # Safety
    /// This machine has AVX-512 with bf16, and every tile of `a` and `b` is there.
    pub unsafe fn multiply(parts: Parts, a: Walk, b: Walk, sums: &mut Block, add: bool) {
        // Which part of a meets which of b: the smallest products first.
        let products: &[(usize, usize)] = match parts {
            Parts::One => &[(0, 0)],
            Parts::Two => &[(1, 0), (0, 1), (0, 0)],
        };
        // SAFETY: as the caller says.
        unsafe { rows(products, a, b, sums, add) }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    unsafe fn rows(products: &[(usize, usize)], a: Walk, b: Walk, sums: &mut Block, add: bool) {
        for first in (0..a.rows).step_by(ROWS) {
            // SAFETY: tile `first / 16` of a has the rows from `first` on; 16 pairs of 16 columns make a tile of b.
            unsafe {
                let of_a = a.tiles.as_ptr().add(first / 16 * a.second + first % 16 * 32);
                let mut sum = [[_mm512_setzero_ps(); 2]; ROWS];
                let out = sums.0.as_mut_ptr().add(first * SIDE);
                if add {
                    for (row, sum) in sum.iter_mut().enumerate() {
                        *sum = [_mm512_load_ps(out.add(row * SIDE)), _mm512_load_ps(out.add(row * SIDE + 16))];
                    }
                }
                for step in 0..a.steps {
                    for &(of_left, of_right) in products {
                        let left = of_a.add(step * a.step + of_left * TILE).cast::<i32>();
                        let right = b.tiles.as_ptr().add(step * b.step + of_right * TILE);
                        for pair in 0..16 {
                            let column = right.add(pair * 32);
                            if first == 0 {
                                // The rows that come first bring b into the first cache.
                                let ahead = column.wrapping_add(AHEAD);
                                _mm_prefetch::<_MM_HINT_T0>(ahead.cast());
                                _mm_prefetch::<_MM_HINT_T0>(ahead.wrapping_add(b.second).cast());
                            }
                            let columns = [load(column), load(column.add(b.second))];
                            for (row, sum) in sum.iter_mut().enumerate() {
                                let x: __m512bh = std::mem::transmute(_mm512_set1_epi32(*left.add(row * 16 + pair)));
                                *sum =
                                    [_mm512_dpbf16_ps(sum[0], x, columns[0]), _mm512_dpbf16_ps(sum[1], x, columns[1])];
                            }
                        }
                    }
                }
                for (row, sum) in sum.iter().enumerate() {
                    _mm512_store_ps(out.add(row * SIDE), sum[0]);
                    _mm512_store_ps(out.add(row * SIDE + 16), sum[1]);
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn load(from: *const u16) -> __m512bh {
        // SAFETY: tiles begin on cache lines, and each pair has one.
        unsafe { std::mem::transmute(_mm512_load_si512(from.cast())) }
    }
}
