//! rosinality/glow-pytorch: `blocks.<level>.flows.<step>`, halves where we interleave, a linear actnorm.

use super::layout::{Entry, Factors, Map, Outputs, VECTOR};
use super::peer::{Architecture, ClassifierWeight, MOST_STEPS, Naming};
use super::weights::Weights;
use crate::layers::PermutationKind;
use crate::models::CouplingKind;
use crate::models::config::Layout;

pub(super) const ROSINALITY: Naming = Naming {
    example: "blocks.0.flows.0.actnorm.loc",
    read,
    entries,
    constants: &[".actnorm.initialized", ".invconv.u_mask", ".invconv.l_mask", ".invconv.l_eye"],
    flag: ".actnorm.initialized",
    refused: &[],
    divisors: &[".actnorm.scale"],
    layout: Layout::Rosinality,
    classifier: ClassifierWeight::PerDimension(0.0),
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
    let plain = |last: bool| {
        per_step("invconv.weight").any(|(level, name)| (level + 1 == levels) == last && weights.has(&name))
    };
    Some(Architecture {
        channels,
        levels,
        depth,
        hidden: weights.size(per_step("coupling.net.0.weight").map(|(_, name)| name), 0)?,
        coupling: if affine { CouplingKind::Affine } else { CouplingKind::Additive },
        permutation: if plain(false) { PermutationKind::Conv1x1 } else { PermutationKind::Conv1x1Lu },
        learn_top: true,
        classes: None,
        classifier: false,
        plain_last: plain(true),
    })
}

fn entries(sizes: &Architecture, _size: [usize; 2]) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut zero_conv = |theirs: &str, ours: &str, [outputs, inputs]: [usize; 2], order: Outputs| {
        let vector = Map::Vector { outputs: order, factor: 1.0 };
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
            } else if last && sizes.plain_last {
                Entry::Factored { theirs: matrix, shape: shape.to_vec(), ours }
            } else {
                let theirs = ["w_p", "w_l", "w_u", "w_s", "s_sign"].map(|name| format!("{theirs}.invconv.{name}"));
                Entry::Plu(Factors { theirs, ours, channels })
            });
        }
    }
    entries
}
