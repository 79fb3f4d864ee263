//! A NICE model as a chain, and its layers, one function a direction. Its values are the channels of one pixel.

use super::chain::{Chain, Piece, Prior};
use super::graph::{Graph, Value};
use super::layers::{LogProb, Shape, concat, halves};
use super::net::{linear, mlp};
use crate::images::ImageShape;
use crate::kernels::host::read;
use crate::layers::{AdditiveCoupling, FoldedWhitening, PreparedScaling, Rearrange, Stretch};
use crate::models::nice::Nice;
use crate::models::{ModelConfig, NiceConfig, NicePrior};
use crate::priors::FoldedNormal;

pub(super) fn chain<'a>(model: &ModelConfig, config: &NiceConfig, nice: &'a Nice) -> Chain<'a> {
    let mut chain = Chain::new(model);
    let ImageShape { height, width, channels } = config.image;
    chain.push("tile", Piece::Rearrange(Rearrange::Tile([height, width, channels])));
    chain.push("input", Piece::Whitening(&nice.input));
    for (index, coupling) in nice.couplings.iter().enumerate() {
        let path = format!("couplings.{index}");
        chain.push(&path, Piece::Additive(coupling));
        chain.push(&path, Piece::Rearrange(Rearrange::Reverse));
    }
    chain.push("scale", Piece::Scaling(&nice.scale));
    chain.ending_in(match config.prior {
        NicePrior::Logistic => Prior::Logistic,
        NicePrior::Gaussian => Prior::Normal(FoldedNormal::standard()),
    })
}

pub(super) fn whitening_forward(
    graph: &mut Graph,
    scope: &str,
    x: &Value,
    FoldedWhitening { mean, stretch, log_det }: FoldedWhitening,
    log_prob: &mut Option<LogProb>,
) -> Value {
    if let Some(log_prob) = log_prob {
        log_prob.constant += log_det;
    }
    let mean = by_channel(graph, &format!("{scope}.mean"), &mean);
    let centred = graph.node(scope, "Sub", &[x, &mean], &[]);
    match stretch {
        None => centred,
        Some(Stretch::Diagonal { scale, .. }) => {
            let scale = by_channel(graph, &format!("{scope}.scale"), &read::<f32, 1>(scale));
            graph.node(scope, "Mul", &[&centred, &scale], &[])
        }
        Some(Stretch::Matrix { weight, .. }) => linear(graph, scope, &centred, weight),
    }
}

pub(super) fn whitening_inverse(
    graph: &mut Graph,
    scope: &str,
    z: &Value,
    FoldedWhitening { mean, stretch, .. }: FoldedWhitening,
) -> Value {
    let centred = match stretch {
        None => z.clone(),
        Some(Stretch::Diagonal { inverse, .. }) => {
            let inverse = by_channel(graph, &format!("{scope}.inverse_scale"), &read::<f32, 1>(inverse));
            graph.node(scope, "Mul", &[z, &inverse], &[])
        }
        Some(Stretch::Matrix { inverse, .. }) => linear(graph, scope, z, inverse),
    };
    let mean = by_channel(graph, &format!("{scope}.mean"), &mean);
    graph.node(scope, "Add", &[&centred, &mean], &[])
}

pub(super) fn coupling_forward(
    graph: &mut Graph,
    scope: &str,
    x: &Value,
    coupling: &AdditiveCoupling,
    shape: Shape,
) -> Value {
    let [x1, x2] = halves(graph, scope, x, shape.channels);
    let shift = mlp(graph, &format!("{scope}.net"), &x1, &coupling.net);
    let z2 = graph.node(scope, "Add", &[&x2, &shift], &[]);
    concat(graph, scope, &[&x1, &z2])
}

pub(super) fn coupling_inverse(
    graph: &mut Graph,
    scope: &str,
    z: &Value,
    coupling: &AdditiveCoupling,
    shape: Shape,
) -> Value {
    let [z1, z2] = halves(graph, scope, z, shape.channels);
    let shift = mlp(graph, &format!("{scope}.net"), &z1, &coupling.net);
    let x2 = graph.node(scope, "Sub", &[&z2, &shift], &[]);
    concat(graph, scope, &[&z1, &x2])
}

pub(super) fn scaling_forward(
    graph: &mut Graph,
    scope: &str,
    x: &Value,
    scaling: &PreparedScaling,
    log_prob: &mut Option<LogProb>,
) -> Value {
    if let Some(log_prob) = log_prob {
        log_prob.constant += scaling.log_det();
    }
    let scale = by_channel(graph, &format!("{scope}.scale"), &read::<f32, 4>(scaling.scale()));
    graph.node(scope, "Mul", &[x, &scale], &[])
}

pub(super) fn scaling_inverse(graph: &mut Graph, scope: &str, z: &Value, scaling: &PreparedScaling) -> Value {
    let inverse = by_channel(graph, &format!("{scope}.inverse_scale"), &read::<f32, 4>(scaling.inverse_scale()));
    graph.node(scope, "Mul", &[z, &inverse], &[])
}

fn by_channel(graph: &mut Graph, name: &str, values: &[f32]) -> Value {
    graph.constant(name, &[1, values.len(), 1, 1], values)
}
