//! The steps of Adam and Adamax with decoupled weight decay (Kingma and Ba, 2015; Loshchilov and Hutter, 2019), in one
//! pass.

use rayon::prelude::*;

use super::isa::{Isa, per_isa};

/// What a gradient is measured against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Norm {
    /// Adam: the mean of its squares.
    Square,
    /// Adamax: its largest size, decayed.
    Infinity,
}

/// Hyperparameters of a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Adam {
    /// Adam or Adamax.
    pub norm: Norm,
    /// Step size.
    pub learning_rate: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment, after its correction; Adamax: to the size of each gradient.
    pub epsilon: f64,
    /// Decoupled: each step takes away `learning_rate * weight_decay` of a weight.
    pub weight_decay: f64,
    /// Count of this step, from 1.
    pub step: u64,
}

/// What the loop needs, computed once in f64.
#[derive(Clone, Copy)]
struct Factors {
    beta1: f32,
    new1: f32,
    beta2: f32,
    new2: f32,
    keep: f32,
    rate: f32,
    root: f32,
    epsilon: f32,
    scale: f32,
}

/// Values of a task.
const TASK: usize = 1 << 14;

/// Steps `weights` along `gradient` times `gradient_scale` (1, or less where the norm is clipped).
pub fn step(
    adam: &Adam,
    weights: &mut [f32],
    gradient: &[f32],
    gradient_scale: f32,
    moment1: &mut [f32],
    moment2: &mut [f32],
) {
    let len = weights.len();
    assert_eq!((gradient.len(), moment1.len(), moment2.len()), (len, len, len), "one gradient and moments a weight");
    assert!(adam.step >= 1, "steps count from 1");
    let t = adam.step as f64;
    let factors = Factors {
        beta1: adam.beta1 as f32,
        new1: (1.0 - adam.beta1) as f32,
        beta2: adam.beta2 as f32,
        new2: (1.0 - adam.beta2) as f32,
        keep: (1.0 - adam.learning_rate * adam.weight_decay) as f32,
        rate: (adam.learning_rate / (1.0 - adam.beta1.powf(t))) as f32,
        root: (1.0 / (1.0 - adam.beta2.powf(t)).sqrt()) as f32,
        epsilon: adam.epsilon as f32,
        scale: gradient_scale,
    };
    let isa = Isa::active();
    let moments = moment1.par_chunks_mut(TASK).zip(moment2.par_chunks_mut(TASK));
    let tasks = weights.par_chunks_mut(TASK).zip(gradient.par_chunks(TASK)).zip(moments);
    tasks.for_each(|((weights, gradient), (moment1, moment2))| match adam.norm {
        Norm::Square => step_values(isa, factors, weights, gradient, moment1, moment2),
        Norm::Infinity => step_by_largest(isa, factors, weights, gradient, moment1, moment2),
    });
}

per_isa! {
    fn step_values<S>(f: Factors, weights: &mut [f32], gradient: &[f32], moment1: &mut [f32], moment2: &mut [f32]) {
        let moments = moment1.iter_mut().zip(moment2);
        for ((weight, gradient), (moment1, moment2)) in weights.iter_mut().zip(gradient).zip(moments) {
            let g = gradient * f.scale;
            let m = f.beta1 * *moment1 + f.new1 * g;
            let v = f.beta2 * *moment2 + f.new2 * (g * g);
            (*moment1, *moment2) = (m, v);
            *weight = f.keep * *weight - f.rate * m / (v.sqrt() * f.root + f.epsilon);
        }
    }
}

per_isa! {
    fn step_by_largest<S>(f: Factors, weights: &mut [f32], gradient: &[f32], moment1: &mut [f32], moment2: &mut [f32]) {
        let moments = moment1.iter_mut().zip(moment2);
        for ((weight, gradient), (moment1, moment2)) in weights.iter_mut().zip(gradient).zip(moments) {
            let g = gradient * f.scale;
            let m = f.beta1 * *moment1 + f.new1 * g;
            let u = (f.beta2 * *moment2).max(g.abs() + f.epsilon);
            (*moment1, *moment2) = (m, u);
            *weight = f.keep * *weight - f.rate * m / u;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::reference::{assert_close, on_each_isa, same_on_any_threads, values, wide};
    use super::*;

    fn adam(norm: Norm, step: u64) -> Adam {
        Adam { norm, learning_rate: 1e-2, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.1, step }
    }

    fn three_steps(norm: Norm, len: usize) -> [Vec<f32>; 3] {
        let mut state = [values(1, len), vec![0.0; len], vec![0.0; len]];
        for t in 1..=3 {
            let [weights, moment1, moment2] = &mut state;
            step(&adam(norm, t), weights, &values(10 + t, len), 0.5, moment1, moment2);
        }
        state
    }

    #[test]
    fn equals_the_definition() {
        for (len, norm) in [1, 15, 100, 40_000].into_iter().flat_map(|len| [(len, Norm::Square), (len, Norm::Infinity)])
        {
            let (mut w, mut m, mut v) = (wide(&values(1, len)), vec![0.0; len], vec![0.0; len]);
            for t in 1..=3 {
                let a = adam(norm, t);
                for (i, g) in wide(&values(10 + t, len)).into_iter().enumerate() {
                    let g = 0.5 * g;
                    m[i] = a.beta1 * m[i] + (1.0 - a.beta1) * g;
                    let mean = m[i] / (1.0 - a.beta1.powf(t as f64));
                    let size = match norm {
                        Norm::Square => {
                            v[i] = a.beta2 * v[i] + (1.0 - a.beta2) * g * g;
                            (v[i] / (1.0 - a.beta2.powf(t as f64))).sqrt() + a.epsilon
                        }
                        Norm::Infinity => {
                            v[i] = f64::max(a.beta2 * v[i], g.abs() + a.epsilon);
                            v[i]
                        }
                    };
                    w[i] -= a.learning_rate * (a.weight_decay * w[i] + mean / size);
                }
            }
            on_each_isa(|_| {
                let [weights, moment1, moment2] = three_steps(norm, len);
                assert_close(&weights, &w, 1e-6);
                assert_close(&moment1, &m, 1e-6);
                assert_close(&moment2, &v, 1e-6);
            });
        }
    }

    #[test]
    fn threads_and_instruction_sets_do_not_change_bits() {
        for norm in [Norm::Square, Norm::Infinity] {
            let portable = Isa::force(Isa::Portable, || three_steps(norm, 40_001));
            on_each_isa(|_| assert!(three_steps(norm, 40_001) == portable));
            same_on_any_threads(|| three_steps(norm, 40_001));
        }
    }
}
