//! RealNVP: logits, then levels of checkerboard couplings, channel couplings and a split; standard normal latents.
//!
//! Dinh, Sohl-Dickstein & Bengio 2017, sections 3.6 and 4.1; the order is that of its code.

use burn::module::Module;
use burn::tensor::Device;

use super::chain::{Chain, Stage};
use super::config::RealNvpConfig;
use crate::flow::Pass;
use crate::layers::{ChannelCoupling, ChannelCouplingConfig, Logit, MaskedCoupling, MaskedCouplingConfig, Rearrange};
use crate::priors::{Split, TopPrior};

/// Parities of the checkerboard couplings of a level, and of the last one.
const PARITIES: [usize; 3] = [1, 0, 1];
const LAST_PARITIES: [usize; 4] = [1, 0, 1, 0];

/// Which channel couplings keep the first half.
const KEEPS_FIRST: [bool; 3] = [true, false, true];

/// The parameters of a scale.
#[derive(Module, Debug)]
pub struct RealNvpLevel {
    /// Three, four at the last level.
    pub masked: Vec<MaskedCoupling>,
    /// Three behind a squeeze; none at the last level.
    pub channel: Vec<ChannelCoupling>,
}

/// The parameters of a RealNVP model.
#[derive(Module, Debug)]
pub struct RealNvp {
    /// From the finest scale to the coarsest.
    pub levels: Vec<RealNvpLevel>,
}

impl RealNvp {
    /// Random weights.
    pub fn new(config: &RealNvpConfig, device: &Device) -> Self {
        let mut layer = 0;
        let mut next = || {
            layer += 1;
            layer
        };
        let level = |level: usize| {
            let [height, width, channels] = config.level_shape(level);
            let (hidden, blocks) = (config.level_hidden(level), config.blocks);
            let masked = parities(config, level).iter().map(|&parity| {
                MaskedCouplingConfig { channels, size: [height, width], parity, hidden, blocks }.init(
                    config.seed,
                    next(),
                    device,
                )
            });
            let masked = masked.collect();
            let channel = keeps_first(config, level).iter().map(|&keeps_first| {
                ChannelCouplingConfig { channels: 4 * channels, keeps_first, hidden: 2 * hidden, blocks }.init(
                    config.seed,
                    next(),
                    device,
                )
            });
            RealNvpLevel { masked, channel: channel.collect() }
        };
        Self { levels: (0..config.levels).map(level).collect() }
    }

    /// Ready to run.
    pub fn chain(&self, config: &RealNvpConfig, pass: impl Into<Pass>) -> Chain {
        let pass = pass.into();
        let mut stages = vec![Stage::layer("logit".into(), &Logit::default())];
        for (l, level) in self.levels.iter().enumerate() {
            let masked = level.masked.iter().enumerate();
            stages.extend(masked.map(|(k, layer)| Stage::layer(format!("levels.{l}.masked.{k}"), layer)));
            if config.is_last(l) {
                continue;
            }
            stages.push(Stage::Rearrange(Rearrange::Squeeze));
            let channel = level.channel.iter().enumerate();
            stages.extend(channel.map(|(k, layer)| Stage::layer(format!("levels.{l}.channel.{k}"), layer)));
            stages.push(Stage::Rearrange(Rearrange::Unsqueeze));
            stages.push(Stage::Rearrange(Rearrange::OrderedSqueeze));
            let [height, width, _] = config.level_shape(l + 1);
            stages.push(Stage::Split(Box::new(Split { prior: None, normal: None }.prepare([height, width]))));
        }
        let like = self.levels[0].masked[0].rescale.value.val();
        let top = TopPrior::standard().prepare(config.level_shape(config.levels - 1), 0.0, &like);
        Chain::new(stages, top, pass)
    }
}

/// Of a level's checkerboard couplings.
pub(super) fn parities(config: &RealNvpConfig, level: usize) -> &'static [usize] {
    if config.is_last(level) { &LAST_PARITIES } else { &PARITIES }
}

/// Of a level's channel couplings.
pub(super) fn keeps_first(config: &RealNvpConfig, level: usize) -> &'static [bool] {
    if config.is_last(level) { &[] } else { &KEEPS_FIRST }
}
