//! Priors: values to standard normal noise, and back.

use super::graph::{Graph, Value};
use super::layers::{LogProb, Shape, Sign, halves};
use super::net::conv;
use crate::kernels::host::read;
use crate::priors::{PreparedSplit, PreparedTop};

/// The gone channels as noise. `shape` is that of the kept ones.
pub(super) fn split_to_noise(
    graph: &mut Graph,
    scope: &str,
    kept: &Value,
    gone: &Value,
    split: &PreparedSplit,
    shape: Shape,
    log_prob: &mut Option<LogProb>,
) -> Value {
    let [mean, log] = split_parameters(graph, scope, kept, split, shape);
    if let Some(log_prob) = log_prob {
        log_prob.add_sum(graph, scope, &log, Sign::Minus);
    }
    let minus_log = graph.node(scope, "Neg", &[&log], &[]);
    let inverse_scale = graph.node(scope, "Exp", &[&minus_log], &[]);
    let centred = graph.node(scope, "Sub", &[gone, &mean], &[]);
    graph.node(scope, "Mul", &[&centred, &inverse_scale], &[])
}

/// The gone channels from their noise. `shape` is that of the kept ones.
pub(super) fn split_from_noise(
    graph: &mut Graph,
    scope: &str,
    kept: &Value,
    noise: &Value,
    split: &PreparedSplit,
    shape: Shape,
) -> Value {
    let [mean, log] = split_parameters(graph, scope, kept, split, shape);
    let scale = graph.node(scope, "Exp", &[&log], &[]);
    let scaled = graph.node(scope, "Mul", &[noise, &scale], &[]);
    graph.node(scope, "Add", &[&scaled, &mean], &[])
}

/// Mean and log-deviation.
fn split_parameters(graph: &mut Graph, scope: &str, kept: &Value, split: &PreparedSplit, shape: Shape) -> [Value; 2] {
    let prior = split.conv().expect("a prior that a convolution gives").folded().halves(0.0);
    let h = conv(graph, &format!("{scope}.prior"), kept, prior, shape.size());
    halves(graph, scope, &h, 2 * shape.channels)
}

/// The coarsest latents as noise.
pub(super) fn top_to_noise(
    graph: &mut Graph,
    scope: &str,
    z: &Value,
    top: &PreparedTop,
    shape: Shape,
    log_prob: &mut Option<LogProb>,
) -> Value {
    let Some(Learned { mean, log }) = Learned::of(top, shape) else { return z.clone() };
    if let Some(log_prob) = log_prob {
        log_prob.constant -= log.iter().map(|&log| f64::from(log)).sum::<f64>();
    }
    let mean = constant(graph, &format!("{scope}.mean"), &mean, shape);
    let inverse_scale: Vec<_> = log.iter().map(|log| (-log).exp()).collect();
    let inverse_scale = constant(graph, &format!("{scope}.inverse_scale"), &inverse_scale, shape);
    let centred = graph.node(scope, "Sub", &[z, &mean], &[]);
    graph.node(scope, "Mul", &[&centred, &inverse_scale], &[])
}

/// The coarsest latents from their noise.
pub(super) fn top_from_noise(graph: &mut Graph, scope: &str, noise: &Value, top: &PreparedTop, shape: Shape) -> Value {
    let Some(Learned { mean, log }) = Learned::of(top, shape) else { return noise.clone() };
    let mean = constant(graph, &format!("{scope}.mean"), &mean, shape);
    let scale: Vec<_> = log.iter().map(|log| log.exp()).collect();
    let scale = constant(graph, &format!("{scope}.scale"), &scale, shape);
    let scaled = graph.node(scope, "Mul", &[noise, &scale], &[]);
    graph.node(scope, "Add", &[&scaled, &mean], &[])
}

/// The learned top prior. Each `[channels, height, width]`.
struct Learned {
    mean: Vec<f32>,
    log: Vec<f32>,
}

impl Learned {
    fn of(top: &PreparedTop, shape: Shape) -> Option<Self> {
        let mut mean: Vec<f32> = read(top.shared()?.permute([0, 3, 1, 2]));
        let log = mean.split_off(shape.channels * shape.pixels());
        Some(Self { mean, log })
    }
}

fn constant(graph: &mut Graph, name: &str, values: &[f32], Shape { channels, height, width }: Shape) -> Value {
    graph.constant(name, &[1, channels, height, width], values)
}
