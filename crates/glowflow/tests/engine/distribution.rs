//! A distribution whose entropy is known, learned: bits per dimension come near it from above and never fall below.

use std::f64::consts::{E, TAU};
use std::sync::Arc;

use glowflow::data::InMemory;
use glowflow::random::{Key, Purpose};
use glowflow::train::{Activations, OptimizerConfig, ScheduleKind};
use glowflow::{Call, Control, FlowModel, GlowConfig, ImageShape, Images, RunData, TrainConfig};
use nalgebra::DMatrix;

use crate::common::cpu;

const SHAPE: ImageShape = ImageShape { height: 4, width: 4, channels: 1 };
const DIMS: usize = 16;
/// Of each pixel, in grey levels: 128 is more than six of them from either end.
const DEVIATION: f64 = 20.0;
/// Of two neighbours.
const CORRELATION: f64 = 0.9;

/// `s^2 rho^(|dx| + |dy|)`.
fn covariance() -> DMatrix<f64> {
    DMatrix::from_fn(DIMS, DIMS, |a, b| {
        let distance = (a / 4).abs_diff(b / 4) + (a % 4).abs_diff(b % 4);
        DEVIATION.powi(2) * CORRELATION.powi(distance as i32)
    })
}

/// Gaussian images, rounded to grey levels.
fn draw(count: usize, seed: u64) -> Images {
    let factor = covariance().cholesky().expect("positive definite").l();
    let mut data = Vec::with_capacity(count * DIMS);
    for image in 0..count {
        let mut noise = vec![0.0; DIMS];
        Key { seed, purpose: Purpose::Sample, step: 0, image: image as u64 }.stream().fill_normal(1.0, &mut noise);
        let noise = DMatrix::from_iterator(DIMS, 1, noise.into_iter().map(f64::from));
        data.extend((&factor * noise).iter().map(|value| (value + 128.0).round().clamp(0.0, 255.0) as u8));
    }
    Images::new(data, count, SHAPE).unwrap()
}

/// Bits per dimension.
///
/// The probability of an image is the Gaussian's density smoothed over the bin: of variance 1/12 more in every
/// direction, and smooth enough (deviation 1 or more) for the sum over grey levels to be the integral.
fn entropy() -> f64 {
    let log_det: f64 = covariance().symmetric_eigenvalues().iter().map(|value| (value + 1.0 / 12.0).log2()).sum();
    0.5 * (TAU * E).log2() + 0.5 * log_det / DIMS as f64
}

#[test]
fn a_correlated_gaussian_is_learned_to_its_entropy() {
    let config = GlowConfig { image: SHAPE, levels: 1, depth: 8, hidden: 32, seed: 2, ..GlowConfig::default() };
    let model = FlowModel::create(config, &cpu()).unwrap();
    let options = TrainConfig {
        steps: Some(1500),
        batch_size: 64,
        warmup: 50,
        schedule: ScheduleKind::Cosine,
        optimizer: OptimizerConfig { learning_rate: 2e-3, ..OptimizerConfig::default() },
        activations: Some(Activations::Stored),
        ..TrainConfig::default()
    };
    let data = |count, seed| Arc::new(InMemory::new(draw(count, seed), None, None).unwrap());
    model.train(RunData::of(data(50_000, 1)), options, None, &Control::new(), &mut |_| {}).unwrap();
    let held_out =
        model.evaluate(&*data(10_000, 2), None, 3, &Call { batch_size: Some(500), ..Call::default() }).unwrap();
    let (found, entropy) = (held_out.bits_per_dim, entropy());
    println!("{found} +- {} bits/dim, entropy {entropy}", held_out.standard_error);
    assert!(found < entropy + 0.05, "{found} is far above {entropy}");
    assert!(found > entropy - 3.0 * held_out.standard_error, "{found} is below {entropy}: it cannot be");
}
