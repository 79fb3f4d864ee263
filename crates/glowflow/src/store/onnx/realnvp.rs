//! A RealNVP model as a chain, and its layers, one function a direction.

use super::chain::{Chain, Piece};
use super::graph::{Graph, Value};
use super::layers::{LogProb, Shape, Sign, concat, halves};
use super::net::{NormConstants, checkerboard, normalized, signed_net};
use crate::kernels::host::read;
use crate::layers::{FoldedRescaled, LOGIT_LIMIT, LOGIT_SLOPE, Partition, Rearrange};
use crate::models::ModelConfig;
use crate::models::realnvp::RealNvp;

pub(super) fn chain<'a>(model: &ModelConfig, realnvp: &'a RealNvp) -> Chain<'a> {
    let mut chain = Chain::new(model);
    chain.push("logit", Piece::Logit);
    for (l, level) in realnvp.levels.iter().enumerate() {
        let path = format!("levels.{l}");
        for (k, layer) in level.masked.iter().enumerate() {
            chain.push(format!("{path}.masked.{k}"), Piece::Masked(layer));
        }
        if l + 1 == realnvp.levels.len() {
            continue;
        }
        chain.push(&path, Piece::Rearrange(Rearrange::Squeeze));
        for (k, layer) in level.channel.iter().enumerate() {
            chain.push(format!("{path}.channel.{k}"), Piece::Channel(layer));
        }
        chain.push(&path, Piece::Rearrange(Rearrange::Unsqueeze));
        chain.push(&path, Piece::Rearrange(Rearrange::OrderedSqueeze));
        chain.push(format!("{path}.split"), Piece::Split(None));
    }
    chain
}

/// `ln y - ln (1 - y)` of `y = 1/2 + 0.9 x`.
pub(super) fn logit(graph: &mut Graph, scope: &str, x: &Value, shape: Shape, log_prob: &mut Option<LogProb>) -> Value {
    let (slope, half) = (graph.number(LOGIT_SLOPE as f32), graph.number(0.5));
    let centred = graph.node(scope, "Mul", &[x, &slope], &[]);
    // Each without cancellation.
    let y = graph.node(scope, "Add", &[&half, &centred], &[]);
    let rest = graph.node(scope, "Sub", &[&half, &centred], &[]);
    let [log_y, log_rest] = [y, rest].map(|share| graph.node(scope, "Log", &[&share], &[]));
    if let Some(log_prob) = log_prob {
        log_prob.constant += LOGIT_SLOPE.ln() * (shape.channels * shape.pixels()) as f64;
        log_prob.add_sum(graph, scope, &log_y, Sign::Minus);
        log_prob.add_sum(graph, scope, &log_rest, Sign::Minus);
    }
    graph.node(scope, "Sub", &[&log_y, &log_rest], &[])
}

/// Undoes [`logit`]: `sigmoid(z) - 1/2` is `tanh(z / 2) / 2`.
pub(super) fn inverse_logit(graph: &mut Graph, scope: &str, z: &Value) -> Value {
    let limit = LOGIT_LIMIT as f32;
    let (low, high) = (graph.number(-limit), graph.number(limit));
    let (half, widen) = (graph.number(0.5), graph.number((0.5 / LOGIT_SLOPE) as f32));
    let z = graph.node(scope, "Clip", &[z, &low, &high], &[]);
    let z = graph.node(scope, "Mul", &[&z, &half], &[]);
    let z = graph.node(scope, "Tanh", &[&z], &[]);
    graph.node(scope, "Mul", &[&z, &widen], &[])
}

/// `(x + shift) exp(scale tanh(raw))`, normalised, of the part that changes.
pub(super) fn coupling_forward(
    graph: &mut Graph,
    scope: &str,
    x: &Value,
    folded: FoldedRescaled,
    shape: Shape,
    log_prob: &mut Option<LogProb>,
) -> Value {
    let FoldedRescaled { partition, net, scale, norm } = folded;
    let parts = Parts::of(graph, scope, x, &partition, shape);
    let h = signed_net(graph, &format!("{scope}.net"), &parts.kept, net, shape.size());
    let Affine { shift, log_scale } = parts.affine(graph, scope, &h, scale);
    if let Some(log_prob) = log_prob {
        log_prob.add_sum(graph, scope, &log_scale, Sign::Plus);
        log_prob.constant += norm.log_det * parts.changed_pixels as f64;
    }
    let shifted = graph.node(scope, "Add", &[&parts.changed, &shift], &[]);
    let factor = graph.node(scope, "Exp", &[&log_scale], &[]);
    let scaled = graph.node(scope, "Mul", &[&shifted, &factor], &[]);
    let changed = normalized(graph, &format!("{scope}.norm"), &scaled, &norm);
    parts.join(graph, scope, &changed, &partition)
}

/// Undoes [`coupling_forward`].
pub(super) fn coupling_inverse(
    graph: &mut Graph,
    scope: &str,
    z: &Value,
    folded: FoldedRescaled,
    shape: Shape,
) -> Value {
    let FoldedRescaled { partition, net, scale, norm } = folded;
    let parts = Parts::of(graph, scope, z, &partition, shape);
    let h = signed_net(graph, &format!("{scope}.net"), &parts.kept, net, shape.size());
    let Affine { shift, log_scale } = parts.affine(graph, scope, &h, scale);
    let of_norm = NormConstants::of(graph, &format!("{scope}.norm"), &norm);
    let centred = graph.node(scope, "Sub", &[&parts.changed, &of_norm.offset], &[]);
    let scaled = graph.node(scope, "Div", &[&centred, &of_norm.scale], &[]);
    let minus_log_scale = graph.node(scope, "Neg", &[&log_scale], &[]);
    let factor = graph.node(scope, "Exp", &[&minus_log_scale], &[]);
    let shifted = graph.node(scope, "Mul", &[&scaled, &factor], &[]);
    let changed = graph.node(scope, "Sub", &[&shifted, &shift], &[]);
    parts.join(graph, scope, &changed, &partition)
}

/// An activation in two parts.
struct Parts {
    kept: Value,
    /// Of a checkerboard the whole activation: what is not of the part goes when it is joined.
    changed: Value,
    /// Of a checkerboard's changed part.
    mask: Option<Value>,
    /// Pixels of an image that the changed part has.
    changed_pixels: usize,
    /// Channels of either part.
    channels: usize,
}

/// What a net says of the changed part.
struct Affine {
    shift: Value,
    /// Zero outside a checkerboard's changed part.
    log_scale: Value,
}

impl Parts {
    fn of(graph: &mut Graph, scope: &str, x: &Value, partition: &Partition, shape: Shape) -> Self {
        match partition {
            Partition::Checkerboard { kept, changed, changed_pixels } => {
                let [kept, changed] =
                    [kept, changed].map(|mask| checkerboard(graph, &read::<f32, 4>(mask.clone()), shape.size()));
                Self {
                    kept: graph.node(scope, "Mul", &[x, &kept], &[]),
                    changed: x.clone(),
                    mask: Some(changed),
                    changed_pixels: *changed_pixels,
                    channels: shape.channels,
                }
            }
            Partition::Channels { keeps_first } => {
                let [first, second] = halves(graph, scope, x, shape.channels);
                let (kept, changed) = if *keeps_first { (first, second) } else { (second, first) };
                let (changed_pixels, channels) = (shape.pixels(), shape.channels / 2);
                Self { kept, changed, mask: None, changed_pixels, channels }
            }
        }
    }

    /// What the net's output means.
    fn affine(&self, graph: &mut Graph, scope: &str, h: &Value, scale: f32) -> Affine {
        let [shift, raw] = halves(graph, scope, h, 2 * self.channels);
        let scale = graph.constant(&format!("{scope}.scale"), &[], &[scale]);
        let tanh = graph.node(scope, "Tanh", &[&raw], &[]);
        let log_scale = graph.node(scope, "Mul", &[&tanh, &scale], &[]);
        Affine { shift, log_scale: self.on_changed(graph, scope, log_scale) }
    }

    fn join(&self, graph: &mut Graph, scope: &str, changed: &Value, partition: &Partition) -> Value {
        match partition {
            Partition::Checkerboard { .. } => {
                let changed = self.on_changed(graph, scope, changed.clone());
                graph.node(scope, "Add", &[&self.kept, &changed], &[])
            }
            Partition::Channels { keeps_first: true } => concat(graph, scope, &[&self.kept, changed]),
            Partition::Channels { keeps_first: false } => concat(graph, scope, &[changed, &self.kept]),
        }
    }

    /// `part`, made zero outside the changed part.
    fn on_changed(&self, graph: &mut Graph, scope: &str, part: Value) -> Value {
        match &self.mask {
            Some(mask) => graph.node(scope, "Mul", &[&part, mask], &[]),
            None => part,
        }
    }
}
