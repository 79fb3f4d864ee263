//! Vectors of f32, one type for each instruction set.
#![allow(unsafe_code)] // Vector intrinsics and raw loads; callers are in `per_isa!`, which enables the features.

/// Vectors of `LANES` f32.
///
/// # Safety
/// Every method may be called only where the instruction set of the type is enabled: in a body of `per_isa!`. Pointers
/// must be valid for the lanes named.
pub trait Simd: Copy {
    /// A vector.
    type V: Copy;
    /// Lanes of a vector.
    const LANES: usize;
    /// Rows of the largest tile that stays in registers.
    const ROWS: usize;
    /// Vectors of a tile's row.
    const VECTORS: usize;

    /// All lanes `x`.
    unsafe fn splat(x: f32) -> Self::V;
    /// Loads all lanes.
    unsafe fn load(from: *const f32) -> Self::V;
    /// Loads the first `count <= LANES` lanes; the others are 0.
    unsafe fn load_first(from: *const f32, count: usize) -> Self::V;
    /// Stores the first `count <= LANES` lanes.
    unsafe fn store_first(to: *mut f32, v: Self::V, count: usize);
    /// a + b
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    /// a * b + c
    unsafe fn multiply_add(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// v where it is positive, else 0, a NaN stays
    unsafe fn relu(v: Self::V) -> Self::V;
    /// v where `gate` is positive, else 0
    unsafe fn where_positive(v: Self::V, gate: Self::V) -> Self::V;
    /// Asks for the cache line at `at`; any address will do.
    unsafe fn prefetch(at: *const f32);
}

/// Plain Rust on arrays that the compiler turns into the target's own vectors.
#[derive(Clone, Copy)]
pub struct Portable;

impl Simd for Portable {
    type V = [f32; 8];
    const LANES: usize = 8;
    // 16 registers of 4 lanes on x86-64 without AVX, 32 elsewhere.
    const ROWS: usize = if cfg!(target_arch = "aarch64") { 8 } else { 4 };
    const VECTORS: usize = 1;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self::V {
        [x; 8]
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self::V {
        // SAFETY: the caller's pointer is valid for the lanes.
        unsafe { from.cast::<Self::V>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn load_first(from: *const f32, count: usize) -> Self::V {
        if count == 8 {
            // SAFETY: all lanes are valid.
            return unsafe { Self::load(from) };
        }
        let mut v = [0.0; 8];
        for (lane, x) in v.iter_mut().enumerate().take(count) {
            // SAFETY: the caller's pointer is valid for `count` lanes.
            *x = unsafe { *from.add(lane) };
        }
        v
    }
    #[inline(always)]
    unsafe fn store_first(to: *mut f32, v: Self::V, count: usize) {
        if count == 8 {
            // SAFETY: all lanes are valid.
            return unsafe { to.cast::<Self::V>().write_unaligned(v) };
        }
        for (lane, x) in v.iter().enumerate().take(count) {
            // SAFETY: the caller's pointer is valid for `count` lanes.
            unsafe { *to.add(lane) = *x };
        }
    }
    #[inline(always)]
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V {
        let mut v = a;
        for (x, b) in v.iter_mut().zip(b) {
            *x += b;
        }
        v
    }
    #[inline(always)]
    unsafe fn multiply_add(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        let mut v = c;
        for lane in 0..8 {
            // Without the instruction `mul_add` would be a call.
            v[lane] = if cfg!(any(target_arch = "aarch64", target_feature = "fma")) {
                a[lane].mul_add(b[lane], v[lane])
            } else {
                a[lane] * b[lane] + v[lane]
            };
        }
        v
    }
    #[inline(always)]
    unsafe fn relu(v: Self::V) -> Self::V {
        v.map(|x| if x < 0.0 { 0.0 } else { x })
    }
    #[inline(always)]
    unsafe fn where_positive(v: Self::V, gate: Self::V) -> Self::V {
        let mut v = v;
        for (x, gate) in v.iter_mut().zip(gate) {
            *x = if gate > 0.0 { *x } else { 0.0 };
        }
        v
    }
    #[inline(always)]
    unsafe fn prefetch(_at: *const f32) {}
}

#[cfg(target_arch = "x86_64")]
pub use x86::{Avx2, Avx512};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Simd;
    use std::arch::x86_64::*;

    /// 256-bit vectors.
    #[derive(Clone, Copy)]
    pub struct Avx2;

    /// 512-bit vectors.
    #[derive(Clone, Copy)]
    pub struct Avx512;

    /// `MASKS[8 - n..]` starts with n lanes set.
    static MASKS: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];

    #[inline(always)]
    unsafe fn mask8(count: usize) -> __m256i {
        // SAFETY: count <= 8, so that eight entries follow; the caller has AVX2.
        unsafe { _mm256_loadu_si256(MASKS.as_ptr().add(8 - count).cast()) }
    }

    #[inline(always)]
    fn mask16(count: usize) -> __mmask16 {
        ((1u32 << count) - 1) as __mmask16
    }

    // SAFETY of every block below: the contract of `Simd` gives the features and the pointers.
    #[allow(clippy::undocumented_unsafe_blocks)]
    impl Simd for Avx2 {
        type V = __m256;
        const LANES: usize = 8;
        const ROWS: usize = 6;
        const VECTORS: usize = 2;

        #[inline(always)]
        unsafe fn splat(x: f32) -> __m256 {
            unsafe { _mm256_set1_ps(x) }
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> __m256 {
            unsafe { _mm256_loadu_ps(from) }
        }
        #[inline(always)]
        unsafe fn load_first(from: *const f32, count: usize) -> __m256 {
            // Masks are slow on some processors.
            unsafe { if count == 8 { _mm256_loadu_ps(from) } else { _mm256_maskload_ps(from, mask8(count)) } }
        }
        #[inline(always)]
        unsafe fn store_first(to: *mut f32, v: __m256, count: usize) {
            unsafe { if count == 8 { _mm256_storeu_ps(to, v) } else { _mm256_maskstore_ps(to, mask8(count), v) } }
        }
        #[inline(always)]
        unsafe fn add(a: __m256, b: __m256) -> __m256 {
            unsafe { _mm256_add_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn multiply_add(a: __m256, b: __m256, c: __m256) -> __m256 {
            unsafe { _mm256_fmadd_ps(a, b, c) }
        }
        #[inline(always)]
        unsafe fn relu(v: __m256) -> __m256 {
            // The second operand is the result where either is NaN.
            unsafe { _mm256_max_ps(_mm256_setzero_ps(), v) }
        }
        #[inline(always)]
        unsafe fn where_positive(v: __m256, gate: __m256) -> __m256 {
            unsafe { _mm256_and_ps(v, _mm256_cmp_ps::<_CMP_GT_OQ>(gate, _mm256_setzero_ps())) }
        }
        #[inline(always)]
        unsafe fn prefetch(at: *const f32) {
            unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
        }
    }

    // SAFETY of every block below: the contract of `Simd` gives the features and the pointers.
    #[allow(clippy::undocumented_unsafe_blocks)]
    impl Simd for Avx512 {
        type V = __m512;
        const LANES: usize = 16;
        const ROWS: usize = 12;
        const VECTORS: usize = 2;

        #[inline(always)]
        unsafe fn splat(x: f32) -> __m512 {
            unsafe { _mm512_set1_ps(x) }
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> __m512 {
            unsafe { _mm512_loadu_ps(from) }
        }
        #[inline(always)]
        unsafe fn load_first(from: *const f32, count: usize) -> __m512 {
            unsafe { if count == 16 { _mm512_loadu_ps(from) } else { _mm512_maskz_loadu_ps(mask16(count), from) } }
        }
        #[inline(always)]
        unsafe fn store_first(to: *mut f32, v: __m512, count: usize) {
            unsafe { if count == 16 { _mm512_storeu_ps(to, v) } else { _mm512_mask_storeu_ps(to, mask16(count), v) } }
        }
        #[inline(always)]
        unsafe fn add(a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_add_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn multiply_add(a: __m512, b: __m512, c: __m512) -> __m512 {
            unsafe { _mm512_fmadd_ps(a, b, c) }
        }
        #[inline(always)]
        unsafe fn relu(v: __m512) -> __m512 {
            // The second operand is the result where either is NaN.
            unsafe { _mm512_max_ps(_mm512_setzero_ps(), v) }
        }
        #[inline(always)]
        unsafe fn where_positive(v: __m512, gate: __m512) -> __m512 {
            unsafe { _mm512_maskz_mov_ps(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(gate, _mm512_setzero_ps()), v) }
        }
        #[inline(always)]
        unsafe fn prefetch(at: *const f32) {
            unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
        }
    }
}
