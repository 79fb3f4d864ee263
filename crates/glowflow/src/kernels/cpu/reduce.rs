//! Sums over rows and over everything: accumulated in f64, in an order that depends on sizes alone.

use rayon::prelude::*;

use super::isa::{Isa, per_isa};

/// Values of a part; the sums of parts are added in their order.
const PART: usize = 1 << 15;
/// Lanes that sums are kept in.
const LANES: usize = 16;

/// The sum of each column of x [rows, columns].
pub fn column_sums(x: &[f32], columns: usize) -> Vec<f64> {
    let isa = Isa::active();
    by_parts(x.len(), columns, columns, |range, sums| add_rows(isa, &x[range], None, columns, sums))
}

/// The sum of x y over each column of x and y [rows, columns].
pub fn column_dots(x: &[f32], y: &[f32], columns: usize) -> Vec<f64> {
    assert_eq!(x.len(), y.len(), "matrices of one shape");
    let isa = Isa::active();
    by_parts(x.len(), columns, columns, |range, sums| add_rows(isa, &x[range.clone()], Some(&y[range]), columns, sums))
}

/// out[p % period, c]: the sum over the batch of x [rows, columns] for each row of a map with `period` rows.
pub fn grouped_sums(x: &[f32], columns: usize, period: usize) -> Vec<f32> {
    if period == 1 {
        return column_sums(x, columns).into_iter().map(|sum| sum as f32).collect();
    }
    let width = columns * period;
    assert!(x.len().is_multiple_of(width), "a multiple of {period} rows");
    let mut out = vec![0.0; width];
    out.par_chunks_mut(1 << 10).with_min_len(PART / x.len().max(1) + 1).enumerate().for_each(|(part, out)| {
        let mut sums = [0.0; 1 << 10];
        for image in x.chunks_exact(width) {
            for (sum, x) in sums.iter_mut().zip(&image[part << 10..][..out.len()]) {
                *sum += f64::from(*x);
            }
        }
        for (out, sum) in out.iter_mut().zip(sums) {
            *out = sum as f32;
        }
    });
    out
}

/// The sum of x^2 over everything.
pub fn sum_of_squares(x: &[f32]) -> f64 {
    let isa = Isa::active();
    let sums: Vec<f64> = x.par_chunks(PART).with_min_len(2).map(|x| squares(isa, x)).collect();
    sums.iter().sum()
}

/// Whether nothing is infinite or NaN.
pub fn all_finite(x: &[f32]) -> bool {
    let isa = Isa::active();
    x.par_chunks(PART).with_min_len(2).all(|x| finite(isa, x))
}

/// `count` sums over `len` values, which `add` adds up part by part of whole rows of `columns`.
pub(super) fn by_parts(
    len: usize,
    columns: usize,
    count: usize,
    add: impl Fn(std::ops::Range<usize>, &mut [f64]) + Sync,
) -> Vec<f64> {
    assert!(len.is_multiple_of(columns), "rows of {columns} columns");
    let size = (PART / columns).max(1) * columns;
    let parts: Vec<Vec<f64>> = (0..len.div_ceil(size))
        .into_par_iter()
        .with_min_len(2)
        .map(|part| {
            let mut sums = vec![0.0; count];
            add(part * size..((part + 1) * size).min(len), &mut sums);
            sums
        })
        .collect();
    let mut sums = vec![0.0; count];
    for part in parts {
        for (sum, x) in sums.iter_mut().zip(part) {
            *sum += x;
        }
    }
    sums
}

per_isa! {
    /// Adds the rows of x, each times its row of y if there is one, to `sums`.
    fn add_rows<S>(x: &[f32], y: Option<&[f32]>, columns: usize, sums: &mut [f64]) {
        // Few columns: rows side by side fill the vectors.
        let beside = (4 * LANES / columns).max(1);
        let mut wide = vec![0.0; beside * columns];
        match y {
            Some(y) => {
                for (x, y) in x.chunks(wide.len()).zip(y.chunks(wide.len())) {
                    for ((sum, x), y) in wide.iter_mut().zip(x).zip(y) {
                        *sum += f64::from(*x) * f64::from(*y);
                    }
                }
            }
            None => {
                for x in x.chunks(wide.len()) {
                    for (sum, x) in wide.iter_mut().zip(x) {
                        *sum += f64::from(*x);
                    }
                }
            }
        }
        for row in wide.chunks_exact(columns) {
            for (sum, x) in sums.iter_mut().zip(row) {
                *sum += x;
            }
        }
    }
}

per_isa! {
    fn squares<S>(x: &[f32]) -> f64 {
        let mut lanes = [0.0; LANES];
        let (body, tail) = x.as_chunks::<LANES>();
        for x in body {
            for (lane, x) in lanes.iter_mut().zip(x) {
                *lane += f64::from(*x) * f64::from(*x);
            }
        }
        for (lane, x) in lanes.iter_mut().zip(tail) {
            *lane += f64::from(*x) * f64::from(*x);
        }
        lanes.iter().sum()
    }
}

per_isa! {
    fn finite<S>(x: &[f32]) -> bool {
        // 0 x is 0 where x is finite and NaN elsewhere; NaN stays in a sum.
        let mut lanes = [0.0; LANES];
        let (body, tail) = x.as_chunks::<LANES>();
        for x in body {
            for (lane, x) in lanes.iter_mut().zip(x) {
                *lane += 0.0 * x;
            }
        }
        lanes.iter().chain(tail).all(|x| x.is_finite())
    }
}

/// The sum of x in f64: lane by lane, then over the lanes. For the bodies of `per_isa!`.
#[inline(always)]
pub(super) fn sum(x: &[f32]) -> f64 {
    let mut lanes = [0.0; LANES];
    let (body, tail) = x.as_chunks::<LANES>();
    for x in body {
        for (lane, x) in lanes.iter_mut().zip(x) {
            *lane += f64::from(*x);
        }
    }
    for (lane, x) in lanes.iter_mut().zip(tail) {
        *lane += f64::from(*x);
    }
    lanes.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::super::reference::{assert_close, on_each_isa, same_on_any_threads, values};
    use super::*;

    const SIZES: [(usize, usize); 6] = [(1, 1), (3, 5), (40, 12), (1001, 48), (20_000, 7), (3, 40_000)];

    #[test]
    fn sums_equal_the_definition() {
        for (rows, columns) in SIZES {
            let (x, y) = (values(1, rows * columns), values(2, rows * columns));
            let (mut sums, mut dots) = (vec![0.0; columns], vec![0.0; columns]);
            for (at, (x, y)) in x.iter().zip(&y).enumerate() {
                sums[at % columns] += f64::from(*x);
                dots[at % columns] += f64::from(*x) * f64::from(*y);
            }
            let squares: f64 = x.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
            let close = |found: &[f64], expected: &[f64]| {
                for (found, expected) in found.iter().zip(expected) {
                    assert!(
                        (found - expected).abs() < 1e-12 * expected.abs().max(rows as f64),
                        "found {found}, expected {expected}"
                    );
                }
            };
            on_each_isa(|_| {
                close(&column_sums(&x, columns), &sums);
                close(&column_dots(&x, &y, columns), &dots);
                close(&[sum_of_squares(&x)], &[squares]);
                close(&[sum(&x)], &[sums.iter().sum()]);
            });
            same_on_any_threads(|| (column_sums(&x, columns), column_dots(&x, &y, columns), sum_of_squares(&x)));
        }
    }

    #[test]
    fn groups_are_summed_over_the_batch() {
        for (batch, period, columns) in [(1, 1, 1), (5, 1, 7), (3, 15, 4), (4, 300, 12)] {
            let x = values(1, batch * period * columns);
            let mut sums = vec![0.0; period * columns];
            x.iter().enumerate().for_each(|(at, x)| sums[at % (period * columns)] += f64::from(*x));
            on_each_isa(|_| assert_close(&grouped_sums(&x, columns, period), &sums, 1e-6));
            same_on_any_threads(|| grouped_sums(&x, columns, period));
        }
    }

    #[test]
    fn one_value_that_is_not_finite_is_found_wherever_it_is() {
        for len in [1, 15, 16, 17, 100_000] {
            let mut x = values(1, len);
            on_each_isa(|_| assert!(all_finite(&x)));
            for at in [0, len / 2, len - 1] {
                for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                    let good = std::mem::replace(&mut x[at], bad);
                    on_each_isa(|_| assert!(!all_finite(&x)));
                    x[at] = good;
                }
            }
        }
    }
}
