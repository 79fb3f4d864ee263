//! Diagonal normal densities whose means and log-deviations h [h_rows, 2n] come from a net or are shared by the batch:
//! row r of x [rows, n] has row `r % h_rows` of h.

use std::f64::consts::PI;

use rayon::prelude::*;

pub use super::pairs::Layout;

use super::elementary::exp;
use super::isa::{Isa, per_isa};
use super::pairs::{BLOCK, per_example};
use super::reduce;

/// Gradients of a density.
#[derive(Debug, Clone, PartialEq)]
pub struct NormalGradients {
    /// [rows, n]
    pub dx: Vec<f32>,
    /// [h_rows, 2n], summed over the rows that share a row of h.
    pub dh: Vec<f32>,
}

/// Values of a task.
const TASK: usize = 1 << 13;

/// ln N(x; mean, e^log) of each example, nats.
pub fn log_prob(layout: Layout, batch: usize, x: &[f32], h: &[f32], n: usize) -> Vec<f64> {
    check(x, h, n);
    let size = values_of_example(x, batch);
    let isa = Isa::active();
    let of_example = |example: usize| {
        let first = example * size;
        // Tasks start with the example: its sum has one order, whatever the batch.
        let tasks = x[first..first + size].par_chunks(TASK).enumerate();
        let sums: Vec<f64> = tasks.map(|(task, x)| energy(isa, layout, x, h, n, first + task * TASK)).collect();
        -0.5 * (2.0 * PI).ln() * size as f64 - sums.iter().sum::<f64>()
    };
    (0..batch).into_par_iter().with_min_len(TASK / size.max(1) + 1).map(of_example).collect()
}

/// The gradients for the cotangent [batch] of [`log_prob`].
pub fn backward(layout: Layout, batch: usize, x: &[f32], h: &[f32], n: usize, cotangent: &[f32]) -> NormalGradients {
    check(x, h, n);
    assert_eq!(cotangent.len(), batch, "a cotangent for each example");
    let size = values_of_example(x, batch);
    let isa = Isa::active();
    let mut dx = vec![0.0; x.len()];
    let mut dh = vec![0.0; h.len()];
    let tasks = dx.par_chunks_mut(TASK).zip(x.par_chunks(TASK)).enumerate();
    tasks.for_each(|(task, (dx, x))| dx_values(isa, layout, x, h, n, cotangent, size, task * TASK, dx));
    // Whole rows of h, each with all rows of x that share it, image by image.
    let rows = (TASK / n).max(1);
    let tasks = dh.par_chunks_mut(rows * 2 * n).enumerate();
    tasks.for_each(|(task, dh)| dh_rows(isa, layout, x, h, n, cotangent, size, task * rows, dh));
    NormalGradients { dx, dh }
}

/// The noise (x - mean) e^-log of x [rows, n].
pub fn to_noise(layout: Layout, mut x: Vec<f32>, h: &[f32], n: usize) -> Vec<f32> {
    check(&x, h, n);
    let isa = Isa::active();
    let tasks = x.par_chunks_mut(TASK).enumerate();
    tasks.for_each(|(task, values)| to_noise_values(isa, layout, values, h, n, task * TASK));
    x
}

/// The value mean + e^log noise of noise [rows, n].
pub fn from_noise(layout: Layout, mut noise: Vec<f32>, h: &[f32], n: usize) -> Vec<f32> {
    check(&noise, h, n);
    let isa = Isa::active();
    let tasks = noise.par_chunks_mut(TASK).enumerate();
    tasks.for_each(|(task, values)| from_noise_values(isa, layout, values, h, n, task * TASK));
    noise
}

fn check(x: &[f32], h: &[f32], n: usize) {
    assert!(x.len().is_multiple_of(n), "rows of {n} values");
    assert!(!h.is_empty() && h.len().is_multiple_of(2 * n), "parameters in rows of {}", 2 * n);
    assert!(x.len().is_multiple_of(h.len() / 2), "rows that are a multiple of {}", h.len() / (2 * n));
}

fn values_of_example(x: &[f32], batch: usize) -> usize {
    assert!(x.len().is_multiple_of(batch.max(1)), "{} values are not {batch} examples", x.len());
    x.len() / batch.max(1)
}

per_isa! {
    /// The sum of log + ((x - mean) e^-log)^2 / 2; x starts with value `first` of the batch.
    fn energy<S>(layout: Layout, x: &[f32], h: &[f32], n: usize, first: usize) -> f64 {
        let mut sum = 0.0;
        for (block, x) in x.chunks(BLOCK).enumerate() {
            let (mean, mut log) = layout.read(h, n, first + block * BLOCK, x.len());
            for ((x, mean), log) in x.iter().zip(&mean).zip(&mut log) {
                let noise = (x - mean) * exp(-*log);
                *log += 0.5 * noise * noise;
            }
            sum += reduce::sum(&log[..x.len()]);
        }
        sum
    }
}

per_isa! {
    fn dx_values<S>(
        layout: Layout, x: &[f32], h: &[f32], n: usize, cotangent: &[f32], size: usize, first: usize, dx: &mut [f32],
    ) {
        for (block, (x, dx)) in x.chunks(BLOCK).zip(dx.chunks_mut(BLOCK)).enumerate() {
            let start = first + block * BLOCK;
            let (mean, log) = layout.read(h, n, start, x.len());
            let cotangents = per_example(cotangent, size, start, x.len());
            for ((((dx, x), mean), log), cotangent) in dx.iter_mut().zip(x).zip(&mean).zip(&log).zip(&cotangents) {
                let inverse = exp(-log);
                *dx = -cotangent * ((x - mean) * inverse) * inverse;
            }
        }
    }
}

per_isa! {
    /// The rows of dh from `first` on.
    fn dh_rows<S>(
        layout: Layout, x: &[f32], h: &[f32], n: usize, cotangent: &[f32], size: usize, first: usize, dh: &mut [f32],
    ) {
        let values = dh.len() / 2;
        for start in (0..values).step_by(BLOCK) {
            let len = BLOCK.min(values - start);
            let (mean, log) = layout.read(h, n, first * n + start, len);
            let inverse = log.map(|log| exp(-log));
            let (mut dmean, mut dlog) = ([0.0f64; BLOCK], [0.0f64; BLOCK]);
            for at in (first * n + start..x.len()).step_by(h.len() / 2) {
                let x = &x[at..at + len];
                let cotangents = per_example(cotangent, size, at, len);
                let parameters = mean.iter().zip(&inverse).zip(&cotangents);
                let sums = dmean.iter_mut().zip(&mut dlog);
                for ((x, ((mean, inverse), cotangent)), (dmean, dlog)) in x.iter().zip(parameters).zip(sums) {
                    let noise = (x - mean) * inverse;
                    *dmean += f64::from(cotangent * noise * inverse);
                    *dlog += f64::from(cotangent * (noise * noise - 1.0));
                }
            }
            layout.write(dh, n, start, len, &dmean.map(|x| x as f32), &dlog.map(|x| x as f32));
        }
    }
}

per_isa! {
    fn to_noise_values<S>(layout: Layout, values: &mut [f32], h: &[f32], n: usize, first: usize) {
        for (block, values) in values.chunks_mut(BLOCK).enumerate() {
            let (mean, log) = layout.read(h, n, first + block * BLOCK, values.len());
            for ((value, mean), log) in values.iter_mut().zip(&mean).zip(&log) {
                *value = (*value - mean) * exp(-log);
            }
        }
    }
}

per_isa! {
    fn from_noise_values<S>(layout: Layout, values: &mut [f32], h: &[f32], n: usize, first: usize) {
        for (block, values) in values.chunks_mut(BLOCK).enumerate() {
            let (mean, log) = layout.read(h, n, first + block * BLOCK, values.len());
            for ((value, mean), log) in values.iter_mut().zip(&mean).zip(&log) {
                *value = mean + exp(*log) * *value;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::reference::{assert_close, on_each_isa, same_on_any_threads, values, wide};
    use super::*;

    const LAYOUTS: [Layout; 2] = [Layout::Interleaved, Layout::Halves];

    /// (batch, rows of an example, columns, rows of h)
    const SIZES: [(usize, usize, usize, usize); 8] = [
        (1, 1, 1, 1),
        (3, 5, 7, 15),
        (3, 5, 7, 5),
        (5, 1, 300, 1),
        (2, 64, 24, 64),
        (3, 16, 48, 48),
        (2, 900, 12, 1800),
        (3, 4, 6, 1),
    ];

    fn parameters(layout: Layout, n: usize, row: usize, column: usize) -> (usize, usize) {
        match layout {
            Layout::Interleaved => (row * 2 * n + 2 * column, row * 2 * n + 2 * column + 1),
            Layout::Halves => (row * 2 * n + column, row * 2 * n + n + column),
        }
    }

    #[test]
    fn equals_the_definition_and_inverts() {
        for layout in LAYOUTS {
            for (batch, rows, n, h_rows) in SIZES {
                let (x, h) = (values(1, batch * rows * n), values(2, h_rows * 2 * n));
                let cotangent = values(3, batch);
                let (mut log_prob_, mut noise_) = (vec![0.0; batch], vec![0.0; x.len()]);
                let (mut dx, mut dh) = (vec![0.0; x.len()], vec![0.0; h.len()]);
                for at in 0..x.len() {
                    let (row, column) = (at / n, at % n);
                    let (mean_at, log_at) = parameters(layout, n, row % h_rows, column);
                    let (mean, log) = (f64::from(h[mean_at]), f64::from(h[log_at]));
                    let noise = (f64::from(x[at]) - mean) * (-log).exp();
                    let lambda = f64::from(cotangent[row / rows]);
                    log_prob_[row / rows] -= 0.5 * ((2.0 * PI).ln() + 2.0 * log + noise * noise);
                    noise_[at] = noise;
                    dx[at] = -lambda * noise * (-log).exp();
                    dh[mean_at] += lambda * noise * (-log).exp();
                    dh[log_at] += lambda * (noise * noise - 1.0);
                }
                on_each_isa(|_| {
                    for (found, expected) in log_prob(layout, batch, &x, &h, n).iter().zip(&log_prob_) {
                        assert!(
                            (found - expected).abs() <= 1e-6 * expected.abs().max(1.0),
                            "{found}, expected {expected}"
                        );
                    }
                    let found = backward(layout, batch, &x, &h, n, &cotangent);
                    assert_close(&found.dx, &dx, 1e-6);
                    assert_close(&found.dh, &dh, 1e-6);
                    let noise = to_noise(layout, x.clone(), &h, n);
                    assert_close(&noise, &noise_, 1e-6);
                    assert_close(&from_noise(layout, noise, &h, n), &wide(&x), 1e-6);
                });
            }
        }
    }

    #[test]
    fn an_example_alone_any_threads_and_any_instruction_set_give_the_same_bits() {
        for layout in LAYOUTS {
            for (batch, rows, n, h_rows) in SIZES {
                let (x, h) = (values(1, batch * rows * n), values(2, h_rows * 2 * n));
                let cotangent = values(3, batch);
                let run = |batch: usize, x: &[f32], h: &[f32], cotangent: &[f32]| {
                    let gradients = backward(layout, batch, x, h, n, cotangent);
                    (
                        log_prob(layout, batch, x, h, n),
                        gradients,
                        to_noise(layout, x.to_vec(), h, n),
                        from_noise(layout, x.to_vec(), h, n),
                    )
                };
                let portable = Isa::force(Isa::Portable, || run(batch, &x, &h, &cotangent));
                on_each_isa(|isa| assert!(portable == run(batch, &x, &h, &cotangent), "{isa:?} changes bits"));
                same_on_any_threads(|| run(batch, &x, &h, &cotangent));
                for i in (0..batch).filter(|_| h_rows <= rows || h_rows == batch * rows) {
                    let part = i * rows * n..(i + 1) * rows * n;
                    let h = if h_rows <= rows { &h } else { &h[i * rows * 2 * n..][..rows * 2 * n] };
                    let alone = run(1, &x[part.clone()], h, &cotangent[i..=i]);
                    assert_eq!(alone.0[0].to_bits(), portable.0[i].to_bits());
                    assert_eq!(alone.1.dx, portable.1.dx[part.clone()]);
                    assert_eq!(alone.2, portable.2[part.clone()]);
                    assert_eq!(alone.3, portable.3[part]);
                }
            }
        }
    }
}
