//! What this machine's cores can multiply at most, on all threads of the pool at once: f32 in registers, bf16 in the first
//! cache. For benches, which say what part of it a kernel or a step reaches.
#![allow(unsafe_code)] // Vector instructions on registers.

use std::hint::black_box;
use std::time::{Duration, Instant};

use super::bf16::{Block, Parts, SIDE, TILE, Unit, Walk, multiply, tiles};
use super::isa::{Isa, per_isa};

/// Independent sums: more than a multiplication's latency hides.
const SUMS: usize = 12;
/// Products between two looks at the clock.
const TIMES: usize = 1 << 14;

/// Floating point operations a second in f32, the best of `tries`.
pub fn f32(tries: usize) -> f64 {
    let isa = Isa::active();
    let lanes = match isa {
        Isa::Portable | Isa::Avx2 => 8,
        Isa::Avx512 => 16,
    };
    best(tries, (2 * SUMS * lanes * TIMES) as f64, || {
        black_box(multiply_adds(isa, black_box(TIMES)));
    })
}

/// As [`f32`] for products of bf16; `None` where this machine has no instruction for them.
pub fn bf16(tries: usize) -> Option<f64> {
    /// Of 32 values of depth: both operands stay in the first cache.
    const STEPS: usize = 8;
    let unit = Unit::active()?;
    let operand = tiles(2 * STEPS, Parts::One);
    let work = || {
        let walk = Walk::new(&operand, TILE, 2 * TILE, STEPS, Parts::One);
        let mut sums = Block::default();
        for _ in 0..TIMES / 64 {
            multiply(unit, Parts::One, walk, walk, &mut sums, true);
        }
        black_box(sums);
    };
    Some(best(tries, (2 * SIDE * SIDE * 32 * STEPS * (TIMES / 64)) as f64, work))
}

/// The threads' operations of a tenth of a second over its time.
fn best(tries: usize, flops: f64, work: impl Fn() + Sync) -> f64 {
    let rates = |_| {
        let counts = rayon::broadcast(|_| {
            let (start, mut count) = (Instant::now(), 0u32);
            while start.elapsed() < Duration::from_millis(100) {
                work();
                count += 1;
            }
            f64::from(count) * flops / start.elapsed().as_secs_f64()
        });
        counts.into_iter().sum::<f64>()
    };
    (0..tries).map(rates).fold(0.0, f64::max)
}

per_isa! {
    fn multiply_adds<S>(times: usize) -> f32 {
        let mut lanes = [0.0; 16];
        // SAFETY: `per_isa!` enables the instruction set; the array has the lanes that are stored.
        unsafe {
            let (a, b) = (S::splat(black_box(0.5)), S::splat(black_box(0.25)));
            let mut sums = [S::splat(0.0); SUMS];
            for _ in 0..times {
                for sum in &mut sums {
                    *sum = S::multiply_add(a, *sum, b);
                }
            }
            let total = sums.into_iter().reduce(|a, b| S::add(a, b)).expect("there are some");
            S::store_first(lanes.as_mut_ptr(), total, S::LANES);
        }
        lanes.iter().sum()
    }
}
