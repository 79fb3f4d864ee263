//! Models as ONNX files, for programs that run them without this engine.
//!
//! Everything that depends on weights alone is folded, as for inference. Inside, activations are
//! `[batch, channels, height, width]`, which is what ONNX's convolutions take; inputs and outputs have channels last.

mod chain;
mod ends;
mod glow;
mod graph;
mod layers;
mod net;
mod nice;
mod priors;
mod realnvp;
mod rearrange;

use std::path::Path;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::models::ModelConfig;
use crate::models::network::Network;

/// What a file computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// `images` to `latents`.
    Encode,
    /// `latents` to `images`.
    Decode,
    /// `images` to `latents` and `log_prob`.
    LogProb,
}

impl FromStr for Part {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "encode" => Ok(Self::Encode),
            "decode" => Ok(Self::Decode),
            "logProb" => Ok(Self::LogProb),
            _ => Err(Error::option("part", "'encode', 'decode' or 'logProb'", name)),
        }
    }
}

/// Writes a part of a model, beside and renamed.
///
/// - `images`, f32 `[batch, height, width, channels]`: pixel values in [0, 256), put into their bins.
/// - `latents`, f32 `[batch, dims]`: rows as of [`Latents`](crate::Latents).
/// - `labels`, i64 `[batch]`: the class of each image, from 0; an input of a class-conditional model and of no other.
/// - `log_prob`, f64 `[batch]`: of the discrete images, nats.
///
/// # Errors
///
/// [`Error::File`] for more than the 2 GB that one such file holds; [`Error::Singular`], in [`Part::Decode`], for a 1x1
/// convolution without an inverse.
///
/// # Panics
///
/// If the config is not that of these parameters.
pub fn write(path: &Path, config: &ModelConfig, network: &Network, part: Part) -> Result<()> {
    let chain = match (config, network) {
        (ModelConfig::Glow(glow), Network::Glow(network)) => glow::chain(config, glow, network),
        (ModelConfig::Nice(nice), Network::Nice(network)) => nice::chain(config, nice, network),
        (ModelConfig::RealNvp(_), Network::RealNvp(network)) => realnvp::chain(config, network),
        _ => panic!("the config of another model"),
    };
    let graph = match part {
        Part::Encode => chain.encoder(false)?,
        Part::Decode => chain.decoder()?,
        Part::LogProb => chain.encoder(true)?,
    };
    graph.write(path)
}
