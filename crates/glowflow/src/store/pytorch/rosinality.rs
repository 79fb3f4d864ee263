//! rosinality/glow-pytorch: `blocks.<level>.flows.<step>`, halves where we interleave, a linear actnorm.

use super::layout::{EngineTensors, Entry, Factors, Map, Numbers, Outputs, VECTOR};
use super::peer::{Architecture, Layout, MOST_STEPS};
use super::weights::Weights;
use crate::layers::PermutationKind;
use crate::models::CouplingKind;

pub(super) const ROSINALITY: Layout = Layout {
    example: "blocks.0.flows.0.actnorm.loc",
    read,
    entries,
    finish,
    constants: &[".actnorm.initialized", ".invconv.u_mask", ".invconv.l_mask", ".invconv.l_eye"],
    flag: ".actnorm.initialized",
    refused: &[],
};

fn step(level: usize, k: usize) -> String {
    format!("blocks.{level}.flows.{k}")
}

fn read(weights: &Weights) -> Option<Architecture> {
    let levels = weights.count("blocks.").min(16);
    let depth = (0..levels).map(|level| weights.count(&format!("blocks.{level}.flows.")).min(MOST_STEPS)).max()?;
    let per_step = |name: &'static str| {
        (0..levels).flat_map(move |level| (0..depth).map(move |k| (level, format!("{}.{name}", step(level, k)))))
    };
    let (level, first) = per_step("actnorm.loc").find(|(_, name)| weights.has(name))?;
    let channels = weights.elements([first])? >> (level + 2);
    let (level, last) = per_step("coupling.net.4.conv.weight").find(|(_, name)| weights.has(name))?;
    let affine = weights.size([last], 0)? == (channels << (level + 2));
    // The code gives its option for plain matrices to every block but the last.
    let plain = per_step("invconv.weight").any(|(level, name)| level + 1 < levels && weights.has(&name));
    Some(Architecture {
        channels,
        levels,
        depth,
        hidden: weights.size(per_step("coupling.net.0.weight").map(|(_, name)| name), 0)?,
        coupling: if affine { CouplingKind::Affine } else { CouplingKind::Additive },
        permutation: if plain { PermutationKind::Conv1x1 } else { PermutationKind::Conv1x1Lu },
        learn_top: true,
        classes: None,
    })
}

fn entries(sizes: &Architecture, weights: &Weights, _size: [usize; 2]) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut zero_conv = |theirs: &str, ours: &str, [outputs, inputs]: [usize; 2], order: Outputs| {
        let vector = Map::Vector { outputs: order, factor: 1.0, offset: 0.0 };
        let mut push = |name: &str, shape: &[usize], field: &str, map| {
            entries.push(Entry::tensor(format!("{theirs}.{name}"), shape, format!("{ours}.{field}"), map));
        };
        push("conv.weight", &[outputs, inputs, 3, 3], "weight", Map::LastConv(order));
        push("conv.bias", &[outputs], "bias", vector);
        push("scale", &[1, outputs, 1, 1], "log_scale", vector);
    };
    for level in 0..sizes.levels {
        let channels = sizes.channels_of(level);
        let last = level + 1 == sizes.levels;
        for k in 0..sizes.depth {
            let order = if sizes.outputs(level) == channels { Outputs::OddThenEven } else { Outputs::Same };
            let net = format!("{}.coupling.net.4", step(level, k));
            let ours = format!("levels.{level}.steps.{k}.coupling.net.last");
            zero_conv(&net, &ours, [sizes.outputs(level), sizes.hidden], order);
        }
        let prior = format!("blocks.{level}.prior");
        if last {
            zero_conv(&prior, "top.learned", [2 * channels, channels], Outputs::Same);
        } else {
            let ours = format!("levels.{level}.split.prior");
            zero_conv(&prior, &ours, [channels, channels / 2], Outputs::EvenThenOdd);
        }
    }
    for level in 0..sizes.levels {
        let (channels, hidden) = (sizes.channels_of(level), sizes.hidden);
        for k in 0..sizes.depth {
            let (theirs, ours) = (step(level, k), format!("levels.{level}.steps.{k}"));
            let mut push = |name: &str, shape: &[usize], field: &str, map| {
                entries.push(Entry::tensor(format!("{theirs}.{name}"), shape, format!("{ours}.{field}"), map));
            };
            push("actnorm.loc", &[1, channels, 1, 1], "mix.actnorm.bias", VECTOR);
            push("actnorm.scale", &[1, channels, 1, 1], "mix.actnorm.scale", VECTOR);
            push("coupling.net.0.weight", &[hidden, channels / 2, 3, 3], "coupling.net.first.weight", Map::FirstConv);
            push("coupling.net.0.bias", &[hidden], "coupling.net.first.norm.bias", VECTOR);
            push("coupling.net.2.weight", &[hidden, hidden, 1, 1], "coupling.net.middle.weight", Map::Transposed);
            push("coupling.net.2.bias", &[hidden], "coupling.net.middle.norm.bias", VECTOR);

            let (matrix, ours) = (format!("{theirs}.invconv.weight"), format!("{ours}.mix.permutation"));
            let shape = [channels, channels, 1, 1];
            let last = level + 1 == sizes.levels;
            entries.push(if sizes.permutation == PermutationKind::Conv1x1 && !last {
                Entry::tensor(matrix, &shape, format!("{ours}.weight"), Map::Matrix)
            } else if weights.has(&matrix) {
                Entry::Factored { theirs: matrix, shape: shape.to_vec(), ours }
            } else {
                let theirs = ["w_p", "w_l", "w_u", "w_s", "s_sign"].map(|name| format!("{theirs}.invconv.{name}"));
                Entry::Plu(Factors { theirs, ours, channels })
            });
        }
    }
    entries
}

/// Moves the signs of the actnorms' scales into the 1x1 convolutions: `W diag(s) = W diag(sign s) diag(|s|)`.
fn finish(sizes: &Architecture, tensors: &mut EngineTensors) -> Result<(), String> {
    for level in 0..sizes.levels {
        for k in 0..sizes.depth {
            let ours = format!("levels.{level}.steps.{k}.mix");
            let Some(scale) = tensors.get_mut(&format!("{ours}.actnorm.scale")) else { continue };
            let Numbers::Floats(scale) = &mut scale.numbers else { continue };
            if let Some(channel) = scale.iter().position(|&scale| scale == 0.0) {
                let name = step(level, k);
                return Err(format!(
                    "Expected {name}.actnorm.scale to have an inverse but it is 0 in channel {channel}"
                ));
            }
            let flipped: Vec<bool> = scale.iter().map(|&scale| scale < 0.0).collect();
            if !flipped.contains(&true) {
                continue;
            }
            scale.iter_mut().for_each(|scale| *scale = scale.abs());
            let missing = || format!("Expected {}.invconv to take the signs of actnorm.scale", step(level, k));
            let size = flipped.len();
            let signs = match tensors.get_mut(&format!("{ours}.permutation.signs")).map(|signs| &mut signs.numbers) {
                Some(Numbers::Integers(signs)) => {
                    signs.iter_mut().zip(&flipped).for_each(|(sign, &flip)| *sign = if flip { -*sign } else { *sign });
                    true
                }
                _ => false,
            };
            let weight = tensors.get_mut(&format!("{ours}.permutation.weight")).ok_or_else(missing)?;
            let Numbers::Floats(weight) = &mut weight.numbers else { continue };
            for (at, value) in weight.iter_mut().enumerate() {
                // Of factors only what is above the diagonal: on it is a logarithm, below it L.
                if flipped[at % size] && (!signs || at % size > at / size) {
                    *value = -*value;
                }
            }
        }
    }
    Ok(())
}
