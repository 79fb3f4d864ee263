//! Batch normalisation of channels: (x - mean) scale + bias with statistics of a batch or kept ones, and what a ReLU
//! leaves of it. Nothing is kept for the way back but x: normalising again costs less than reading it.

use std::ops::Range;

use rayon::prelude::*;

use super::isa::{Isa, per_isa};
use super::reduce::by_parts;

/// Values of a task.
const TASK: usize = 1 << 14;
/// Values that few channels are repeated to, so that rows side by side fill the vectors.
const WIDTH: usize = 64;

/// What channels are normalised by, each [channels].
#[derive(Debug, Clone, Copy)]
pub struct Norm<'a> {
    /// Subtracted.
    pub mean: &'a [f32],
    /// One over the deviation.
    pub scale: &'a [f32],
    /// Added.
    pub bias: &'a [f32],
}

/// Mean and biased variance of each channel.
#[derive(Debug, Clone, PartialEq)]
pub struct Moments {
    /// [channels]
    pub mean: Vec<f32>,
    /// [channels]
    pub variance: Vec<f32>,
}

/// Gradients of a normalisation.
#[derive(Debug, Clone, PartialEq)]
pub struct NormGradients {
    /// [rows, channels]
    pub dx: Vec<f32>,
    /// [channels]
    pub bias: Vec<f32>,
}

/// Which part of a cotangent counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// All of it.
    Open,
    /// Where the normalised value is positive: a ReLU followed.
    Relu,
}

/// The moments of x [rows, channels].
pub fn moments(x: &[f32], channels: usize) -> Moments {
    let isa = Isa::active();
    let rows = (x.len() / channels) as f64;
    // Sums of differences to the first row: those to 0 would lose a small variance beside a large mean.
    let first = repeated(&x[..channels]);
    let sums = by_parts(x.len(), channels, 2 * channels, |range, sums| {
        let (mut wide, mut squares) = (vec![0.0; first.len()], vec![0.0; first.len()]);
        add_moments(isa, &x[range], &first, &mut wide, &mut squares);
        fold(&wide, &squares, sums);
    });
    let (sums, squares) = sums.split_at(channels);
    let mean = |sum: f64| sum / rows;
    let variance = |(sum, square): (&f64, &f64)| {
        let variance = square / rows - mean(*sum) * mean(*sum);
        // A rounding below 0, never a NaN.
        if variance < 0.0 { 0.0 } else { variance as f32 }
    };
    Moments {
        mean: x.iter().zip(sums).map(|(first, sum)| (f64::from(*first) + mean(*sum)) as f32).collect(),
        variance: sums.iter().zip(squares).map(variance).collect(),
    }
}

/// The normalised x [rows, channels], and what is below 0 cut off.
pub fn activate(x: &[f32], norm: Norm) -> Vec<f32> {
    let isa = Isa::active();
    let wide = Wide::of(norm);
    let mut y = vec![0.0; x.len()];
    let size = wide.task();
    y.par_chunks_mut(size).zip(x.par_chunks(size)).for_each(|(y, x)| {
        activate_rows(isa, x, &wide.mean, &wide.scale, &wide.bias, y);
    });
    y
}

/// Pulls `dy` [rows, channels], of which `gate` says what counts, back; `of_batch` says that the mean and the scale are
/// of x itself. `onto` is added to dx.
pub fn backward(x: &[f32], norm: Norm, dy: &[f32], gate: Gate, of_batch: bool, onto: Option<&[f32]>) -> NormGradients {
    let channels = norm.mean.len();
    assert!(x.len() == dy.len() && onto.is_none_or(|onto| onto.len() == x.len()), "gradients of the shape of x");
    let isa = Isa::active();
    let wide = Wide::of(norm);
    let width = wide.mean.len();
    let sums = by_parts(x.len(), channels, 2 * channels, |range: Range<usize>, sums| {
        let (mut all, mut along) = (vec![0.0; width], vec![0.0; width]);
        let (x, dy, Wide { mean, scale, bias }) = (&x[range.clone()], &dy[range], &wide);
        match gate {
            Gate::Open => add_gradients::<0>(isa, x, dy, mean, scale, bias, &mut all, &mut along),
            Gate::Relu => add_gradients::<1>(isa, x, dy, mean, scale, bias, &mut all, &mut along),
        }
        fold(&all, &along, sums);
    });
    let rows = (x.len() / channels) as f64;
    let through = |sums: &[f64]| -> Vec<f32> {
        repeated(&sums.iter().map(|sum| if of_batch { (sum / rows) as f32 } else { 0.0 }).collect::<Vec<_>>())
    };
    let (of_mean, of_scale) = (through(&sums[..channels]), through(&sums[channels..]));
    let mut dx = onto.map_or_else(|| vec![0.0; x.len()], <[f32]>::to_vec);
    let size = wide.task();
    let tasks = dx.par_chunks_mut(size).zip(x.par_chunks(size)).zip(dy.par_chunks(size));
    tasks.for_each(|((dx, x), dy)| {
        let Wide { mean, scale, bias } = &wide;
        match gate {
            Gate::Open => pull_back::<0>(isa, x, dy, mean, scale, bias, &of_mean, &of_scale, dx),
            Gate::Relu => pull_back::<1>(isa, x, dy, mean, scale, bias, &of_mean, &of_scale, dx),
        }
    });
    NormGradients { dx, bias: sums[..channels].iter().map(|sum| *sum as f32).collect() }
}

/// A [`Norm`] whose channels are repeated.
struct Wide {
    mean: Vec<f32>,
    scale: Vec<f32>,
    bias: Vec<f32>,
}

impl Wide {
    fn of(norm: Norm) -> Self {
        Wide { mean: repeated(norm.mean), scale: repeated(norm.scale), bias: repeated(norm.bias) }
    }

    /// Values of a task: whole repetitions.
    fn task(&self) -> usize {
        (TASK / self.mean.len()).max(1) * self.mean.len()
    }
}

fn repeated(channels: &[f32]) -> Vec<f32> {
    channels.repeat((WIDTH / channels.len()).max(1))
}

/// Adds up repeated channels: to the first half of `sums` those of `first`, to the second those of `second`.
fn fold(first: &[f64], second: &[f64], sums: &mut [f64]) {
    let (of_first, of_second) = sums.split_at_mut(sums.len() / 2);
    for (sums, wide) in [(of_first, first), (of_second, second)] {
        for row in wide.chunks_exact(sums.len()) {
            sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
        }
    }
}

per_isa! {
    fn add_moments<S>(x: &[f32], first: &[f32], sums: &mut [f64], squares: &mut [f64]) {
        for x in x.chunks(first.len()) {
            for (((sum, square), x), first) in sums.iter_mut().zip(squares.iter_mut()).zip(x).zip(first) {
                let d = f64::from(*x) - f64::from(*first);
                *sum += d;
                *square += d * d;
            }
        }
    }
}

per_isa! {
    fn activate_rows<S>(x: &[f32], mean: &[f32], scale: &[f32], bias: &[f32], y: &mut [f32]) {
        for (x, y) in x.chunks(mean.len()).zip(y.chunks_mut(mean.len())) {
            for ((((y, x), mean), scale), bias) in y.iter_mut().zip(x).zip(mean).zip(scale).zip(bias) {
                let normal = (x - mean) * scale + bias;
                *y = if normal < 0.0 { 0.0 } else { normal };
            }
        }
    }
}

per_isa! {
    /// Adds the cotangents of biased values to `all`, those times normalised values to `along`.
    fn add_gradients<S, const RELU: usize>(
        x: &[f32], dy: &[f32], mean: &[f32], scale: &[f32], bias: &[f32], all: &mut [f64], along: &mut [f64],
    ) {
        for (x, dy) in x.chunks(mean.len()).zip(dy.chunks(mean.len())) {
            let norm = mean.iter().zip(scale).zip(bias);
            for ((((all, along), x), dy), ((mean, scale), bias)) in
                all.iter_mut().zip(along.iter_mut()).zip(x).zip(dy).zip(norm)
            {
                let normal = (x - mean) * scale;
                let d = if RELU == 0 || normal + bias > 0.0 { *dy } else { 0.0 };
                *all += f64::from(d);
                *along += f64::from(d) * f64::from(normal);
            }
        }
    }
}

per_isa! {
    /// Adds the gradient of x to dx.
    fn pull_back<S, const RELU: usize>(
        x: &[f32], dy: &[f32], mean: &[f32], scale: &[f32], bias: &[f32], of_mean: &[f32], of_scale: &[f32],
        dx: &mut [f32],
    ) {
        let width = mean.len();
        for ((x, dy), dx) in x.chunks(width).zip(dy.chunks(width)).zip(dx.chunks_mut(width)) {
            let norm = mean.iter().zip(scale).zip(bias).zip(of_mean.iter().zip(of_scale));
            for (((dx, x), dy), (((mean, scale), bias), (of_mean, of_scale))) in dx.iter_mut().zip(x).zip(dy).zip(norm) {
                let normal = (x - mean) * scale;
                let d = if RELU == 0 || normal + bias > 0.0 { *dy } else { 0.0 };
                *dx += (d - of_mean - normal * of_scale) * scale;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::reference::{assert_close, on_each_isa, same_on_any_threads, values, wide};
    use super::*;

    const SIZES: [(usize, usize); 7] = [(1, 1), (3, 5), (40, 12), (1001, 48), (20_000, 7), (9000, 3), (3, 40_000)];

    /// Plain loops in f64.
    struct Definition {
        mean: Vec<f64>,
        variance: Vec<f64>,
    }

    impl Definition {
        fn of(x: &[f64], channels: usize) -> Self {
            let rows = (x.len() / channels) as f64;
            let mean_of = |value: &dyn Fn(usize) -> f64| -> Vec<f64> {
                let mut sums = vec![0.0; channels];
                (0..x.len()).for_each(|at| sums[at % channels] += value(at) / rows);
                sums
            };
            let mean = mean_of(&|at| x[at]);
            let variance = mean_of(&|at| (x[at] - mean[at % channels]).powi(2));
            Definition { mean, variance }
        }

        fn activate(&self, x: &[f64], bias: &[f64], relu: bool) -> Vec<f64> {
            let normal = |(at, x): (usize, &f64)| {
                let c = at % bias.len();
                let normal = (x - self.mean[c]) / (self.variance[c] + 1e-4).sqrt() + bias[c];
                if relu { normal.max(0.0) } else { normal }
            };
            x.iter().enumerate().map(normal).collect()
        }
    }

    /// x whose means are large beside their deviations, and a bias.
    fn inputs(rows: usize, channels: usize) -> (Vec<f32>, Vec<f32>) {
        let (offset, bias) = (values(5, channels), values(6, channels));
        let mut x = values(1, rows * channels);
        x.iter_mut().enumerate().for_each(|(at, x)| *x += 4.0 * offset[at % channels]);
        (x, bias)
    }

    fn scales(variance: &[f32]) -> Vec<f32> {
        variance.iter().map(|variance| 1.0 / (variance + 1e-4).sqrt()).collect()
    }

    #[test]
    fn moments_and_activations_equal_the_definition() {
        for (rows, channels) in SIZES {
            let (x, bias) = inputs(rows, channels);
            let definition = Definition::of(&wide(&x), channels);
            let y = definition.activate(&wide(&x), &wide(&bias), true);
            on_each_isa(|_| {
                let found = moments(&x, channels);
                assert_close(&found.mean, &definition.mean, 1e-7);
                assert_close(&found.variance, &definition.variance, 1e-7);
                let scale = scales(&found.variance);
                let norm = Norm { mean: &found.mean, scale: &scale, bias: &bias };
                // A channel of few rows may have next to no variance: the mean's rounding is then divided by 0.01.
                assert_close(&activate(&x, norm), &y, if rows <= 3 { 3e-5 } else { 2e-6 });
            });
        }
    }

    #[test]
    fn a_small_variance_beside_a_large_mean_is_kept() {
        let x: Vec<f32> = (0..4096).map(|row| 4096.0 + (row % 2) as f32 / 1024.0).collect();
        on_each_isa(|_| {
            let found = moments(&x, 1);
            assert_close(&found.variance, &[(0.5f64 / 1024.0).powi(2)], 1e-9);
            assert_eq!(moments(&[0.1; 300], 3).variance, [0.0; 3]);
            assert!(moments(&[1.0, f32::NAN], 1).variance[0].is_nan());
        });
    }

    #[test]
    fn gradients_equal_finite_differences() {
        for (rows, channels) in [(6, 5), (13, 3), (9, 70)] {
            let (x, bias) = inputs(rows, channels);
            let dy = values(3, x.len());
            let kept = Definition::of(&wide(&x), channels);
            for (gate, of_batch) in [(Gate::Open, false), (Gate::Open, true), (Gate::Relu, false), (Gate::Relu, true)] {
                let objective = |x: &[f64], bias: &[f64]| -> f64 {
                    let batch = Definition::of(x, channels);
                    let y = if of_batch { &batch } else { &kept }.activate(x, bias, gate == Gate::Relu);
                    y.iter().zip(&dy).map(|(y, dy)| y * f64::from(*dy)).sum()
                };
                let difference = |of_bias: bool, at: usize| {
                    let at_step = |step: f64| {
                        let (mut x, mut bias) = (wide(&x), wide(&bias));
                        *if of_bias { &mut bias[at] } else { &mut x[at] } += step;
                        objective(&x, &bias)
                    };
                    (at_step(1e-6) - at_step(-1e-6)) / 2e-6
                };
                let dx: Vec<f64> = (0..x.len()).map(|at| difference(false, at)).collect();
                let dbias: Vec<f64> = (0..channels).map(|at| difference(true, at)).collect();
                let (mean, variance): (Vec<f32>, Vec<f32>) =
                    kept.mean.iter().zip(&kept.variance).map(|(m, v)| (*m as f32, *v as f32)).unzip();
                let scale = scales(&variance);
                let norm = Norm { mean: &mean, scale: &scale, bias: &bias };
                on_each_isa(|_| {
                    let found = backward(&x, norm, &dy, gate, of_batch, None);
                    assert_close(&found.dx, &dx, 2e-5);
                    assert_close(&found.bias, &dbias, 1e-6);
                    let onto: Vec<f64> = dx.iter().zip(&x).map(|(dx, x)| dx + f64::from(*x)).collect();
                    assert_close(&backward(&x, norm, &dy, gate, of_batch, Some(&x)).dx, &onto, 2e-5);
                });
            }
        }
    }

    #[test]
    fn any_threads_and_any_instruction_set_give_the_same_bits() {
        for (rows, channels) in SIZES {
            let (x, bias) = inputs(rows, channels);
            let dy = values(3, x.len());
            let run = || {
                let moments = moments(&x, channels);
                let scale = scales(&moments.variance);
                let norm = Norm { mean: &moments.mean, scale: &scale, bias: &bias };
                let gradients = [Gate::Open, Gate::Relu].map(|gate| backward(&x, norm, &dy, gate, true, Some(&dy)));
                (moments.clone(), activate(&x, norm), gradients)
            };
            let portable = Isa::force(Isa::Portable, run);
            on_each_isa(|isa| assert!(portable == run(), "{isa:?} changes bits"));
            same_on_any_threads(run);
        }
    }
}
