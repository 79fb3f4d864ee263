//! chaiyujin/glow-pytorch, and y0ast/Glow-PyTorch after it: `flow.layers.<index>` counts squeezes, steps and splits.

use super::layout::{Entry, Factors, Map, Outputs, VECTOR};
use super::peer::{Architecture, ClassifierWeight, Naming};
use super::weights::Weights;
use crate::layers::PermutationKind;
use crate::models::CouplingKind;
use crate::models::config::Layout;

/// What the two call their parts.
pub(super) struct Names {
    /// The coupling net.
    pub net: &'static str,
    /// Between a layer of their own and the convolution or product inside it.
    pub conv: &'static str,
    pub linear: &'static str,
    pub lower: &'static str,
    pub upper: &'static str,
    pub top: &'static str,
}

const NAMES: Names = Names { net: "f", conv: "", linear: "", lower: "l", upper: "u", top: "learn_top" };

pub(super) const CHAIYUJIN: Naming = Naming {
    example: "flow.layers.1.f.0.weight",
    read: |weights| read(&NAMES, weights),
    entries: |sizes, _| entries(&NAMES, sizes),
    constants: &["prior_h", ".invconv.l_mask", ".invconv.eye"],
    flag: "",
    refused: &[],
    divisors: &[],
    layout: Layout::Chaiyujin,
    classifier: ClassifierWeight::PerPixel(0.5),
};

fn layer(index: usize) -> String {
    format!("flow.layers.{index}")
}

/// Where a step of flow comes: each level is a squeeze, its steps and, except the last, a split.
fn step(depth: usize, level: usize, k: usize) -> String {
    layer(level * (depth + 2) + 1 + k)
}

pub(super) fn read(names: &Names, weights: &Weights) -> Option<Architecture> {
    let layers = weights.count("flow.layers.").min(1 << 16);
    let is_split = |&index: &usize| weights.has(&format!("{}.conv{}.weight", layer(index), names.conv));
    let depth = (0..layers).find(is_split).unwrap_or(layers).checked_sub(1).filter(|&depth| depth > 0)?;
    // The last level has no split.
    let levels = (layers + 1) / (depth + 2);
    if levels * (depth + 2) != layers + 1 {
        return None;
    }
    let per_step = |name: String| {
        let places = (0..levels).flat_map(move |level| (0..depth).map(move |k| (level, k)));
        places.map(move |(level, k)| (level, format!("{}.{name}", step(depth, level, k))))
    };
    let (level, first) = per_step("actnorm.bias".into()).find(|(_, name)| weights.has(name))?;
    let channels = weights.elements([first])? >> (level + 2);
    let (net, conv) = (names.net, names.conv);
    let (level, last) = per_step(format!("{net}.4{conv}.weight")).find(|(_, name)| weights.has(name))?;
    let affine = weights.size([last], 0)? == (channels << (level + 2));
    let plain = per_step("invconv.weight".into()).any(|(_, name)| weights.has(&name));
    let linear = |name: &str| format!("{name}{}.weight", names.linear);
    Some(Architecture {
        channels,
        levels,
        depth,
        hidden: weights.size(per_step(format!("{net}.0{conv}.weight")).map(|(_, name)| name), 0)?,
        coupling: if affine { CouplingKind::Affine } else { CouplingKind::Additive },
        permutation: if plain { PermutationKind::Conv1x1 } else { PermutationKind::Conv1x1Lu },
        learn_top: weights.names().any(|name| name.starts_with(&format!("{}.", names.top))),
        classes: weights.size([linear("project_ycond")], 1).or_else(|| weights.size([linear("project_class")], 0)),
        classifier: weights.has(&linear("project_class")),
        plain_last: false,
    })
}

pub(super) fn entries(names: &Names, sizes: &Architecture) -> Vec<Entry> {
    let mut entries = Vec::new();
    let (hidden, conv) = (sizes.hidden, names.conv);
    let mut push = |theirs: String, shape: &[usize], ours: String, map| {
        entries.push(Entry::tensor(theirs, shape, ours, map));
    };
    for level in 0..sizes.levels {
        let channels = sizes.channels_of(level);
        for k in 0..sizes.depth {
            let (theirs, ours) = (step(sizes.depth, level, k), format!("levels.{level}.steps.{k}"));
            push(format!("{theirs}.actnorm.bias"), &[1, channels, 1, 1], format!("{ours}.mix.actnorm.bias"), VECTOR);
            push(format!("{theirs}.actnorm.logs"), &[1, channels, 1, 1], format!("{ours}.mix.actnorm.scale"), VECTOR);
            let (theirs, ours) = (format!("{theirs}.{}", names.net), format!("{ours}.coupling.net"));
            for (index, part, inputs, side, map) in
                [(0, "first", channels / 2, 3, Map::FirstConv), (2, "middle", hidden, 1, Map::Transposed)]
            {
                let shape = [hidden, inputs, side, side];
                push(format!("{theirs}.{index}{conv}.weight"), &shape, format!("{ours}.{part}.weight"), map);
                for (field, name) in [("bias", "bias"), ("logs", "scale")] {
                    let theirs = format!("{theirs}.{index}.actnorm.{field}");
                    push(theirs, &[1, hidden, 1, 1], format!("{ours}.{part}.norm.{name}"), VECTOR);
                }
            }
            zero_conv(&mut push, conv, &format!("{theirs}.4"), &format!("{ours}.last"), [sizes.outputs(level), hidden]);
        }
        if level + 1 < sizes.levels {
            let theirs = format!("{}.conv", step(sizes.depth, level, sizes.depth));
            let ours = format!("levels.{level}.split.prior");
            zero_conv(&mut push, conv, &theirs, &ours, [channels, channels / 2]);
        }
    }
    let channels = sizes.channels_of(sizes.levels - 1);
    if sizes.learn_top {
        zero_conv(&mut push, conv, names.top, "top.learned", [2 * channels; 2]);
    }
    if let Some(classes) = sizes.classes {
        for (theirs, ours, outputs, inputs) in [
            ("project_ycond", "top.classes", 2 * channels, classes),
            ("project_class", "top.classifier", classes, channels),
        ] {
            // Weights without a classifier are whole: the prior does not need it.
            if ours == "top.classifier" && !sizes.classifier {
                continue;
            }
            let linear = names.linear;
            push(format!("{theirs}{linear}.weight"), &[outputs, inputs], format!("{ours}.weight"), Map::Matrix);
            push(format!("{theirs}{linear}.bias"), &[outputs], format!("{ours}.bias"), VECTOR);
            push(format!("{theirs}.logs"), &[outputs], format!("{ours}.log_scale"), VECTOR);
        }
    }
    for level in 0..sizes.levels {
        let channels = sizes.channels_of(level);
        for k in 0..sizes.depth {
            let theirs = format!("{}.invconv", step(sizes.depth, level, k));
            let ours = format!("levels.{level}.steps.{k}.mix.permutation");
            entries.push(if sizes.permutation == PermutationKind::Conv1x1 {
                Entry::tensor(format!("{theirs}.weight"), &[channels; 2], format!("{ours}.weight"), Map::Matrix)
            } else {
                let parts = ["p", names.lower, names.upper, "log_s", "sign_s"];
                Entry::Plu(Factors { theirs: parts.map(|part| format!("{theirs}.{part}")), ours, channels })
            });
        }
    }
    entries
}

fn zero_conv(
    push: &mut impl FnMut(String, &[usize], String, Map),
    conv: &str,
    theirs: &str,
    ours: &str,
    [outputs, inputs]: [usize; 2],
) {
    let map = Map::LastConv(Outputs::Same);
    push(format!("{theirs}{conv}.weight"), &[outputs, inputs, 3, 3], format!("{ours}.weight"), map);
    push(format!("{theirs}{conv}.bias"), &[outputs], format!("{ours}.bias"), VECTOR);
    push(format!("{theirs}.logs"), &[outputs, 1, 1], format!("{ours}.log_scale"), VECTOR);
}
