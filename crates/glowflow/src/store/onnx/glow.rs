//! A Glow model as a chain.

use super::chain::{Chain, Piece, Prior};
use crate::layers::Rearrange;
use crate::models::glow::{Glow, step_path};
use crate::models::{GlowConfig, ModelConfig};

pub(super) fn chain<'a>(model: &ModelConfig, config: &GlowConfig, glow: &'a Glow) -> Chain<'a> {
    let mut chain = Chain::new(model);
    for (l, level) in glow.levels.iter().enumerate() {
        chain.push(format!("levels.{l}"), Piece::Rearrange(Rearrange::Squeeze));
        for (k, step) in level.steps.iter().enumerate() {
            chain.push(step_path(l, k), Piece::Step(step));
        }
        if let Some(split) = &level.split {
            chain.push(format!("levels.{l}.split"), Piece::Split(Some(split)));
        }
    }
    let like = glow.levels[0].steps[0].mix.actnorm.bias.val();
    let top = glow.top.prepare(config.level_shape(config.levels - 1), config.class_weight(), &like);
    chain.ending_in(Prior::Normal(top.folded()))
}
