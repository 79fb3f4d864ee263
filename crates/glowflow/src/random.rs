//! The project's one source of randomness: a counter-based generator on the host.
//!
//! Every draw is keyed by (seed, purpose, step, image), so that no draw depends on the batch that an image is in, on
//! the number of threads, or on what was drawn before; a resumed run needs no generator state.

use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

/// What a stream of random numbers is for: two purposes never share draws.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub enum Purpose {
    /// Initial weights; `step` counts the layers.
    Weights = 1,
    /// The order of the training images; `step` is the epoch.
    Order = 2,
    /// Dequantization noise of a training step.
    Dequantize = 3,
    /// Dequantization noise of a likelihood; `step` is the draw.
    Likelihood = 4,
    /// Latents of samples.
    Sample = 5,
    /// Which images go into which part of a split.
    Split = 6,
    /// Weights and activations of a device's self-check; `step` is the level.
    SelfCheck = 7,
    /// Where a random crop is taken; `step` is the training step.
    Crop = 8,
    /// Flips and shifts of training images; `step` is the training step.
    Augment = 9,
    /// Latents drawn anew; `step` is the scale.
    Resample = 10,
}

/// The key of one stream. `image` is the image's index in its data set or batch, 0 where there is none.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// The user's seed.
    pub seed: u64,
    /// What the numbers are for.
    pub purpose: Purpose,
    /// Training step, epoch, draw or layer; see [`Purpose`].
    pub step: u64,
    /// Index of the image.
    pub image: u64,
}

impl Key {
    /// The stream of this key, from its start.
    pub fn stream(self) -> Stream {
        let mut key = [0; 32];
        for (bytes, word) in key.chunks_exact_mut(8).zip([self.seed, self.purpose as u64, self.step, self.image]) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        Stream(ChaCha8Rng::from_seed(key))
    }
}

/// A stream of random numbers, the same on every machine.
pub struct Stream(ChaCha8Rng);

impl Stream {
    /// Fills with draws from U[0, 1), multiples of 2^-24: every one is exact in f32.
    pub fn fill_uniform(&mut self, values: &mut [f32]) {
        for value in values {
            *value = (self.0.next_u32() >> 8) as f32 * (1.0 / (1 << 24) as f32);
        }
    }

    /// Fills with draws from N(0, `deviation`^2).
    pub fn fill_normal(&mut self, deviation: f32, values: &mut [f32]) {
        for value in values {
            let draw: f32 = StandardNormal.sample(&mut self.0);
            *value = deviation * draw;
        }
    }

    /// Fills with `scale` times draws from the standard logistic distribution, `ln u - ln(1 - u)`.
    pub fn fill_logistic(&mut self, scale: f32, values: &mut [f32]) {
        for value in values {
            // Middles of 2^32 parts of (0, 1): neither end is ever drawn.
            let u = (f64::from(self.0.next_u32()) + 0.5) / (1u64 << 32) as f64;
            *value = scale * (u.ln() - (-u).ln_1p()) as f32;
        }
    }

    /// A permutation of `0..count`, every one equally likely (Fisher and Yates).
    pub fn permutation(&mut self, count: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..count).collect();
        for last in (1..count).rev() {
            order.swap(last, self.below(last as u64 + 1) as usize);
        }
        order
    }

    /// A draw from `0..bound` without bias: draws that would favour small values are rejected.
    fn below(&mut self, bound: u64) -> u64 {
        let limit = u64::MAX - u64::MAX % bound;
        loop {
            let draw = self.0.next_u64();
            if draw < limit {
                return draw % bound;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(purpose: Purpose, step: u64, image: u64) -> Key {
        Key { seed: 7, purpose, step, image }
    }

    #[test]
    fn streams_differ_in_every_part_of_the_key() {
        let first = |key: Key| {
            let mut values = [0.0; 4];
            key.stream().fill_uniform(&mut values);
            values.map(f32::to_bits)
        };
        let base = first(key(Purpose::Dequantize, 1, 2));
        assert_eq!(base, first(key(Purpose::Dequantize, 1, 2)));
        assert_ne!(base, first(key(Purpose::Likelihood, 1, 2)));
        assert_ne!(base, first(key(Purpose::Dequantize, 2, 2)));
        assert_ne!(base, first(key(Purpose::Dequantize, 1, 1)));
        assert_ne!(base, first(Key { seed: 8, ..key(Purpose::Dequantize, 1, 2) }));
    }

    #[test]
    fn uniform_normal_and_logistic_draws_have_their_moments() {
        let mut values = vec![0.0; 100_000];
        let moments = |values: &[f32]| {
            let mean = values.iter().map(|&v| v as f64).sum::<f64>() / values.len() as f64;
            let var = values.iter().map(|&v| (v as f64 - mean).powi(2)).sum::<f64>() / values.len() as f64;
            (mean, var)
        };
        key(Purpose::Sample, 0, 0).stream().fill_uniform(&mut values);
        let (mean, var) = moments(&values);
        assert!((mean - 0.5).abs() < 0.005 && (var - 1.0 / 12.0).abs() < 0.001);
        assert!(values.iter().all(|v| (0.0..1.0).contains(v)));
        key(Purpose::Sample, 0, 1).stream().fill_normal(2.0, &mut values);
        let (mean, var) = moments(&values);
        assert!(mean.abs() < 0.03 && (var - 4.0).abs() < 0.1);
        key(Purpose::Sample, 0, 2).stream().fill_logistic(2.0, &mut values);
        let (mean, var) = moments(&values);
        // 4 pi^2 / 3; the standard errors are 0.011 and 0.074.
        assert!(mean.abs() < 0.05 && (var - 13.1595).abs() < 0.3, "{mean} {var}");
        let within = values.iter().filter(|v| v.abs() < 2.0 * 3f32.ln()).count() as f64 / values.len() as f64;
        assert!((within - 0.5).abs() < 0.007, "half lies between the quartiles, not {within}");
    }

    #[test]
    fn a_permutation_holds_every_index_once() {
        let mut order = key(Purpose::Order, 0, 0).stream().permutation(1000);
        assert_ne!(order, (0..1000).collect::<Vec<_>>());
        order.sort_unstable();
        assert_eq!(order, (0..1000).collect::<Vec<_>>());
    }
}
