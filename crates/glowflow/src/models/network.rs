//! The parameters of any of the models.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::chain::Chain;
use super::config::ModelConfig;
use super::glow::Glow;
use super::nice::Nice;
use super::realnvp::RealNvp;
use crate::error::Result;
use crate::flow::Pass;

/// The parameters of a model. In files its parts have no name of the model's before theirs.
#[derive(Module, Debug)]
pub enum Network {
    /// Kingma & Dhariwal 2018.
    Glow(Glow),
    /// Dinh, Krueger & Bengio 2015.
    Nice(Nice),
    /// Dinh, Sohl-Dickstein & Bengio 2017.
    RealNvp(RealNvp),
}

impl Network {
    /// Random weights.
    pub fn new(config: &ModelConfig, device: &Device) -> Self {
        match config {
            ModelConfig::Glow(config) => Self::Glow(Glow::new(config, device)),
            ModelConfig::Nice(config) => Self::Nice(Nice::new(config, device)),
            ModelConfig::RealNvp(config) => Self::RealNvp(RealNvp::new(config, device)),
        }
    }

    /// A place for a model that is taken out for a moment.
    pub fn nothing() -> Self {
        Self::Glow(Glow::nothing())
    }

    /// Sets from data what is set from data. `parts` are scaled images, `[batch, height, width, channels]`.
    pub fn initialize(&mut self, parts: Vec<Tensor<4>>) -> Result<()> {
        match self {
            Self::Glow(glow) => glow.initialize(parts),
            Self::Nice(nice) => nice.initialize(parts),
            Self::RealNvp(_) => Ok(()),
        }
    }

    /// Ready to run.
    ///
    /// # Panics
    ///
    /// If the config is not that of these parameters.
    pub fn chain(&self, config: &ModelConfig, pass: impl Into<Pass>) -> Chain {
        let pass = pass.into();
        match (self, config) {
            (Self::Glow(glow), ModelConfig::Glow(config)) => glow.chain(config, pass),
            (Self::Nice(nice), ModelConfig::Nice(config)) => nice.chain(config, pass),
            (Self::RealNvp(realnvp), ModelConfig::RealNvp(config)) => realnvp.chain(config, pass),
            _ => panic!("the config of another model"),
        }
    }
}
