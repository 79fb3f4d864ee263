//! What a model and a training step of it need, known before anything is allocated.

use serde::Serialize;
use sysinfo::System;

use super::config::ModelConfig;
use super::structure::{Held, layers};
use crate::device::Precision;
use crate::error::{Error, Result};
use crate::train::{Activations, TrainConfig};

const FLOAT: u64 = 4;

/// Bytes of a training step, by how activations are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MemoryEstimate {
    /// Trained numbers.
    pub parameters: u64,
    /// Every activation kept.
    pub stored: u64,
    /// Each step's input kept.
    pub inputs: u64,
    /// Inputs rebuilt: does not grow with depth.
    pub constant: u64,
}

impl MemoryEstimate {
    /// Of a model trained so: weights, gradients, two moments, an average where one is kept, and activations.
    pub fn of(config: &ModelConfig, train: &TrainConfig) -> Self {
        let batch = train.batch_size as u64;
        let parameters = parameter_count(config);
        let layers = layers(config);
        let sum = |held: fn(&Held) -> u64| layers.iter().map(|layer| held(&layer.held)).sum::<u64>() * batch * FLOAT;
        let halved = if train.precision == Precision::Bf16 { sum(|held| held.hidden) / 2 } else { 0 };
        let (stored, inputs) = (sum(|held| held.stored) - halved, sum(|held| held.input));
        let step = layers.iter().map(|layer| layer.held.working).max().unwrap_or(0) * batch * FLOAT;
        let image = config.image().dims() as u64 * batch * FLOAT * 4;
        let weights = (4 + u64::from(train.ema.is_some())) * parameters * FLOAT;
        Self {
            parameters,
            stored: weights + image + stored + step,
            inputs: weights + image + inputs + step,
            constant: weights + image + step,
        }
    }

    /// Bytes with activations held so.
    pub fn with(&self, activations: Activations) -> u64 {
        match activations {
            Activations::Stored => self.stored,
            Activations::Inputs => self.inputs,
            Activations::Constant => self.constant,
        }
    }
}

/// Trained numbers of a model; the published counts in the tests.
pub fn parameter_count(config: &ModelConfig) -> u64 {
    layers(config).iter().map(|layer| layer.parameters).sum()
}

/// Bytes that this process can still have: what the system has available, within its control group.
pub fn available() -> u64 {
    let mut system = System::new();
    system.refresh_memory();
    let group = system.cgroup_limits().map_or(u64::MAX, |limits| limits.free_memory);
    system.available_memory().min(group)
}

/// [`Error::OutOfMemory`] if the weights alone do not fit.
pub fn check(config: &ModelConfig) -> Result<()> {
    check_bytes("a model of this size", parameter_count(config) * FLOAT)
}

/// [`Error::OutOfMemory`] if so many bytes do not fit.
pub(crate) fn check_bytes(what: &str, needed: u64) -> Result<()> {
    let available = available();
    if needed > available {
        return Err(Error::OutOfMemory { what: what.into(), needed, available });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::config::{CouplingKind, GlowConfig, NiceConfig, RealNvpConfig};
    use super::*;
    use crate::images::ImageShape;

    fn config(size: usize, levels: usize, depth: usize, coupling: CouplingKind, edge_bias: bool) -> ModelConfig {
        let image = ImageShape { height: size, width: size, channels: 3 };
        GlowConfig { image, levels, depth, coupling, edge_bias, ..GlowConfig::default() }.into()
    }

    #[test]
    fn counts_are_those_of_the_original_models() {
        use CouplingKind::{Additive, Affine};
        assert_eq!(parameter_count(&config(32, 3, 32, Affine, true)), 44_603_604);
        assert_eq!(parameter_count(&config(32, 3, 32, Affine, false)), 44_135_856);
        assert_eq!(parameter_count(&config(32, 3, 32, Additive, true)), 38_395_668);
        assert_eq!(parameter_count(&config(32, 3, 48, Affine, true)), 66_861_588);
        assert_eq!(parameter_count(&config(32, 3, 48, Affine, false)), 66_160_560);
        assert_eq!(parameter_count(&config(64, 4, 48, Affine, true)), 112_377_540);
        assert_eq!(parameter_count(&config(256, 6, 32, Additive, true)), 175_099_620);
        for (hidden, count) in [(64, 819_444), (128, 1_714_932), (256, 4_095_732)] {
            let config = GlowConfig { depth: 8, hidden, edge_bias: true, ..GlowConfig::default() };
            assert_eq!(parameter_count(&config.into()), count);
        }
        assert_eq!(parameter_count(&NiceConfig::default().into()), 19_158_352);
    }

    #[test]
    fn conditional_counts_are_those_of_the_original_models() {
        let of = |depth, classes| {
            let (coupling, classes) = (CouplingKind::Additive, Some(classes));
            let config = GlowConfig { depth, coupling, edge_bias: true, classes, ..GlowConfig::default() };
            parameter_count(&GlowConfig { classifier_weight: 0.01, ..config }.into())
        };
        assert_eq!((of(32, 10), of(48, 1000)), (38_397_320, 57_695_876));
    }

    #[test]
    fn counts_of_realnvp_are_those_of_the_original_models() {
        let count = |size: usize, levels: usize, hidden: usize, blocks: usize| {
            let image = ImageShape { height: size, width: size, channels: 3 };
            parameter_count(&RealNvpConfig { image, levels, hidden, blocks, ..RealNvpConfig::default() }.into())
        };
        assert_eq!(count(32, 4, 32, 2), 23_965_127);
        assert_eq!(count(32, 4, 32, 4), 46_220_359);
        assert_eq!(count(64, 5, 32, 2), 96_363_237);
        assert_eq!(count(64, 5, 32, 4), 185_898_341);
        assert_eq!(parameter_count(&RealNvpConfig::default().into()), 19_609_545);
    }

    #[test]
    fn only_the_constant_way_does_not_grow_with_depth() {
        let activations = |depth: usize, how: Activations| {
            let estimate =
                MemoryEstimate::of(&config(32, 3, depth, CouplingKind::Affine, false), &TrainConfig::default());
            estimate.with(how) - 4 * FLOAT * estimate.parameters
        };
        assert_eq!(activations(8, Activations::Constant), activations(64, Activations::Constant));
        assert!(activations(64, Activations::Inputs) > activations(8, Activations::Inputs));
        let stored = |depth| activations(depth, Activations::Stored) - activations(depth, Activations::Constant);
        assert_eq!(stored(64), 8 * stored(8));
    }
}
