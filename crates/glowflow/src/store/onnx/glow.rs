//! A Glow model's graph.

use std::f64::consts::TAU;

use super::graph::{Attribute, Graph, Type, Value};
use super::layers::{LogProb, Shape, concat, halves, squeeze, step_forward, step_inverse, unsqueeze};
use super::priors::{split_from_noise, split_to_noise, top_from_noise, top_to_noise};
use crate::error::Result;
use crate::flow::{Layer, Mode};
use crate::images::ImageShape;
use crate::models::glow::{Glow, step_path};
use crate::models::{GlowConfig, discrete_log_prob};
use crate::priors::{PreparedSplit, PreparedTop};

const IMAGES: &str = "images";
const LATENTS: &str = "latents";
const LOG_PROB: &str = "log_prob";
/// Values of a pixel.
const LEVELS: f32 = 256.0;

/// Images to latents, and to their log-probability if it is asked for.
pub(super) fn encoder(config: &GlowConfig, glow: &Glow, with_log_prob: bool) -> Result<Graph> {
    let image = config.image;
    let mut graph = Graph::new(if with_log_prob { LOG_PROB } else { "encode" });
    let mut log_prob = with_log_prob.then(|| {
        let noise = -0.5 * TAU.ln() * image.dims() as f64;
        LogProb::starting_at(discrete_log_prob(noise, image, config.bits))
    });
    let images = graph.input(IMAGES, &[image.height, image.width, image.channels]);
    let mut x = scaled(&mut graph, &images);
    let mut rows = Vec::new();
    for l in 0..config.levels {
        let (level, shape) = (format!("levels.{l}"), Shape::of(config.level_shape(l)));
        x = squeeze(&mut graph, &level, &x, shape);
        for k in 0..config.depth {
            let step = glow.levels[l].steps[k].prepare(&step_path(l, k), Mode::Evaluation)?;
            x = step_forward(&mut graph, &step_path(l, k), &x, &step, shape, &mut log_prob);
        }
        if let Some(split) = split_of(config, glow, l) {
            let scope = format!("{level}.split");
            let [kept, gone] = halves(&mut graph, &scope, &x, shape.channels);
            let half = Shape { channels: shape.channels / 2, ..shape };
            let noise = split_to_noise(&mut graph, &scope, &kept, &gone, &split, half, &mut log_prob);
            rows.push(to_rows(&mut graph, &scope, &noise, half));
            x = kept;
        } else {
            let noise = top_to_noise(&mut graph, "top", &x, &top_of(config, glow), shape, &mut log_prob);
            rows.push(to_rows(&mut graph, "top", &noise, shape));
        }
    }
    let latents = concat(&mut graph, LATENTS, &rows.iter().collect::<Vec<_>>());
    graph.output(LATENTS, Type::Float, &[image.dims()], &latents);
    if let Some(mut log_prob) = log_prob {
        log_prob.add_energy(&mut graph, LATENTS, &latents);
        let total = log_prob.total(&mut graph);
        graph.output(LOG_PROB, Type::Double, &[], &total);
    }
    Ok(graph)
}

/// Latents to images.
pub(super) fn decoder(config: &GlowConfig, glow: &Glow) -> Result<Graph> {
    let ImageShape { height, width, channels } = config.image;
    let mut graph = Graph::new("decode");
    let latents = graph.input(LATENTS, &[config.image.dims()]);
    let shapes: Vec<_> = config.latent_shapes().into_iter().map(Shape::of).collect();
    let sizes: Vec<_> = shapes.iter().map(|shape| shape.channels * shape.pixels()).collect();
    let rows = graph.split(LATENTS, &latents, 1, &sizes);
    let mut x = None;
    for l in (0..config.levels).rev() {
        let (level, shape) = (format!("levels.{l}"), Shape::of(config.level_shape(l)));
        let split = split_of(config, glow, l);
        let scope = if split.is_some() { format!("{level}.split") } else { "top".into() };
        let noise = from_rows(&mut graph, &scope, &rows[l], shapes[l]);
        let mut z = match (&split, x) {
            (Some(split), Some(kept)) => {
                let gone = split_from_noise(&mut graph, &scope, &kept, &noise, split, shapes[l]);
                concat(&mut graph, &scope, &[&kept, &gone])
            }
            _ => top_from_noise(&mut graph, &scope, &noise, &top_of(config, glow), shape),
        };
        for k in (0..config.depth).rev() {
            let step = glow.levels[l].steps[k].prepare(&step_path(l, k), Mode::Evaluation)?;
            z = step_inverse(&mut graph, &step_path(l, k), &z, &step, shape)?;
        }
        x = Some(unsqueeze(&mut graph, &level, &z));
    }
    let images = unscaled(&mut graph, &x.expect("every model has a level"));
    graph.output(IMAGES, Type::Float, &[height, width, channels], &images);
    Ok(graph)
}

fn split_of(config: &GlowConfig, glow: &Glow, level: usize) -> Option<PreparedSplit> {
    let [height, width, _] = config.level_shape(level);
    glow.levels[level].split.as_ref().map(|split| split.prepare([height, width]))
}

fn top_of(config: &GlowConfig, glow: &Glow) -> PreparedTop {
    let like = glow.levels[0].steps[0].mix.actnorm.bias.val();
    glow.top.prepare(config.level_shape(config.levels - 1), 0.0, &like)
}

/// Pixel values, channels last, as what the flow sees.
fn scaled(graph: &mut Graph, images: &Value) -> Value {
    let (bin, half) = (graph.number(1.0 / LEVELS), graph.number(0.5));
    let x = graph.node(IMAGES, "Mul", &[images, &bin], &[]);
    let x = graph.node(IMAGES, "Sub", &[&x, &half], &[]);
    channels_first(graph, IMAGES, &x)
}

/// Undoes [`scaled`].
fn unscaled(graph: &mut Graph, x: &Value) -> Value {
    let (levels, half) = (graph.number(LEVELS), graph.number(0.5));
    let x = channels_last(graph, IMAGES, x);
    let x = graph.node(IMAGES, "Add", &[&x, &half], &[]);
    graph.node(IMAGES, "Mul", &[&x, &levels], &[])
}

/// A scale's latents as one row an image.
fn to_rows(graph: &mut Graph, scope: &str, z: &Value, shape: Shape) -> Value {
    let row = graph.integers(&[-1, (shape.channels * shape.pixels()) as i64]);
    let z = channels_last(graph, scope, z);
    graph.node(scope, "Reshape", &[&z, &row], &[])
}

/// Undoes [`to_rows`].
fn from_rows(graph: &mut Graph, scope: &str, rows: &Value, Shape { channels, height, width }: Shape) -> Value {
    let apart = graph.integers(&[-1, height as i64, width as i64, channels as i64]);
    let z = graph.node(scope, "Reshape", &[rows, &apart], &[]);
    channels_first(graph, scope, &z)
}

fn channels_first(graph: &mut Graph, scope: &str, x: &Value) -> Value {
    graph.node(scope, "Transpose", &[x], &[Attribute::Integers("perm", &[0, 3, 1, 2])])
}

fn channels_last(graph: &mut Graph, scope: &str, x: &Value) -> Value {
    graph.node(scope, "Transpose", &[x], &[Attribute::Integers("perm", &[0, 2, 3, 1])])
}
