//! normflows, its examples' multi-scale Glow: the coarsest level and the last step come first.

use super::layout::{Entry, Factors, Map, Outputs, VECTOR};
use super::peer::{Architecture, ClassifierWeight, MOST_STEPS, Naming};
use super::weights::Weights;
use crate::layers::PermutationKind;
use crate::models::CouplingKind;
use crate::models::config::Layout;

pub(super) const NORMFLOWS: Naming = Naming {
    example: "flows.0.0.flows.0.flows.1.param_map.net.0.weight",
    read,
    entries,
    constants: &[".flows.1.eye", ".flows.2.data_dep_init_done"],
    flag: ".flows.2.data_dep_init_done",
    // A base with classes besides a mean of every class, and pixel-wise normals.
    refused: &[".loc_cc", ".log_scale_cc"],
    divisors: &[],
    layout: Layout::Normflows,
    classifier: ClassifierWeight::PerDimension(0.0),
};

/// Name of a step of flow.
fn step(levels: usize, depth: usize, level: usize, k: usize) -> String {
    format!("flows.{}.{}.flows", levels - 1 - level, depth - 1 - k)
}

fn read(weights: &Weights) -> Option<Architecture> {
    let levels = weights.count("flows.").min(16);
    let depth = (0..levels).map(|level| weights.count(&format!("flows.{level}.")).min(MOST_STEPS)).max()?;
    let per_step = |name: &'static str| {
        let places = (0..levels).flat_map(move |level| (0..depth).map(move |k| (level, k)));
        places.map(move |(level, k)| (level, format!("{}.{name}", step(levels, depth, level, k))))
    };
    let (level, first) = per_step("2.t").find(|(_, name)| weights.has(name))?;
    let channels = weights.elements([first])? >> (level + 2);
    let (level, last) = per_step("0.flows.1.param_map.net.4.weight").find(|(_, name)| weights.has(name))?;
    let affine = weights.size([last], 0)? == (channels << (level + 2));
    let plain = per_step("1.W").any(|(_, name)| weights.has(&name));
    let per_channel = weights.names().any(|name| name.starts_with("q0.") && name.ends_with(".loc_logs"));
    let tables = (0..levels).map(|i| format!("q0.{i}.loc"));
    Some(Architecture {
        channels,
        levels,
        depth,
        hidden: weights.size(per_step("0.flows.1.param_map.net.0.weight").map(|(_, name)| name), 0)?,
        coupling: if affine { CouplingKind::Affine } else { CouplingKind::Additive },
        permutation: if plain { PermutationKind::Conv1x1 } else { PermutationKind::Conv1x1Lu },
        learn_top: true,
        classes: if per_channel { None } else { weights.size(tables, 3) },
        classifier: false,
        plain_last: false,
    })
}

fn entries(sizes: &Architecture, [height, width]: [usize; 2]) -> Vec<Entry> {
    let mut entries = Vec::new();
    let hidden = sizes.hidden;
    for level in 0..sizes.levels {
        let (channels, outputs) = (sizes.channels_of(level), sizes.outputs(level));
        // Its couplings subtract what ours add.
        let order = if outputs == channels { Outputs::NegatedShifts } else { Outputs::Negated };
        for k in 0..sizes.depth {
            let theirs = step(sizes.levels, sizes.depth, level, k);
            let ours = format!("levels.{level}.steps.{k}");
            let mut push = |name: &str, shape: &[usize], field: &str, map| {
                entries.push(Entry::tensor(format!("{theirs}.{name}"), shape, format!("{ours}.{field}"), map));
            };
            let vector = |outputs, factor| Map::Vector { outputs, factor };
            push("2.t", &[1, channels, 1, 1], "mix.actnorm.bias", vector(Outputs::Same, -1.0));
            push("2.s", &[1, channels, 1, 1], "mix.actnorm.scale", vector(Outputs::Same, -1.0));
            for (index, part, shape, map) in [
                (0, "first", [hidden, channels / 2, 3, 3], Map::FirstConv),
                (2, "middle", [hidden, hidden, 1, 1], Map::Transposed),
            ] {
                let net = format!("0.flows.1.param_map.net.{index}");
                push(&format!("{net}.weight"), &shape, &format!("coupling.net.{part}.weight"), map);
                push(&format!("{net}.bias"), &[hidden], &format!("coupling.net.{part}.norm.bias"), VECTOR);
            }
            let net = "0.flows.1.param_map.net.4";
            let shape = [outputs, hidden, 3, 3];
            push(&format!("{net}.weight"), &shape, "coupling.net.last.weight", Map::LastConv(order));
            push(&format!("{net}.bias"), &[outputs], "coupling.net.last.bias", vector(order, 1.0));
            if sizes.permutation == PermutationKind::Conv1x1 {
                push("1.W", &[channels; 2], "mix.permutation.weight", Map::Matrix);
            } else {
                let theirs = ["P", "L", "U", "log_S", "sign_S"].map(|name| format!("{theirs}.1.{name}"));
                let ours = format!("{ours}.mix.permutation");
                entries.push(Entry::Plu(Factors { theirs, ours, channels }));
            }
        }
        let last = level + 1 == sizes.levels;
        let theirs = format!("q0.{}", sizes.levels - 1 - level);
        let ours = if last { "top".to_owned() } else { format!("levels.{level}.split") };
        let channels = if last { channels } else { channels / 2 };
        match sizes.classes {
            None => {
                for name in ["loc", "loc_logs", "log_scale", "log_scale_logs"] {
                    let (theirs, ours) = (format!("{theirs}.{name}"), format!("{ours}.normal.{name}"));
                    entries.push(Entry::tensor(theirs, &[1, channels, 1, 1], ours, VECTOR));
                }
            }
            Some(classes) => {
                let shape = [channels, height >> (level + 1), width >> (level + 1), classes];
                for (name, field) in [("loc", "mean"), ("log_scale", "log_deviation")] {
                    let (theirs, ours) = (format!("{theirs}.{name}"), format!("{ours}.normal.{field}"));
                    entries.push(Entry::tensor(theirs, &shape, ours, Map::ClassTable));
                }
            }
        }
    }
    entries
}
