//! The ends of a graph: pixels, rows of latents, labels.

use super::graph::{Attribute, Graph, Type, Value};
use super::layers::Shape;
use crate::images::ImageShape;

pub(super) const IMAGES: &str = "images";
pub(super) const LATENTS: &str = "latents";
pub(super) const LABELS: &str = "labels";
pub(super) const LOG_PROB: &str = "log_prob";
/// Values of a pixel.
const LEVELS: f32 = 256.0;

/// The images of a call as what the flow sees.
pub(super) fn images_in(graph: &mut Graph, ImageShape { height, width, channels }: ImageShape) -> Value {
    let images = graph.input(IMAGES, Type::Float, &[height, width, channels]);
    let (bin, half) = (graph.number(1.0 / LEVELS), graph.number(0.5));
    let x = graph.node(IMAGES, "Mul", &[&images, &bin], &[]);
    let x = graph.node(IMAGES, "Sub", &[&x, &half], &[]);
    channels_first(graph, IMAGES, &x)
}

/// Undoes [`images_in`].
pub(super) fn images_out(graph: &mut Graph, x: &Value, ImageShape { height, width, channels }: ImageShape) {
    let (levels, half) = (graph.number(LEVELS), graph.number(0.5));
    let x = channels_last(graph, IMAGES, x);
    let x = graph.node(IMAGES, "Add", &[&x, &half], &[]);
    let images = graph.node(IMAGES, "Mul", &[&x, &levels], &[]);
    graph.output(IMAGES, Type::Float, &[height, width, channels], &images);
}

/// The class of each image of a call.
pub(super) fn labels_in(graph: &mut Graph) -> Value {
    graph.input(LABELS, Type::Integer, &[])
}

/// A scale's latents as one row an image.
pub(super) fn to_rows(graph: &mut Graph, scope: &str, z: &Value, shape: Shape) -> Value {
    let row = graph.integers(&[-1, (shape.channels * shape.pixels()) as i64]);
    let z = channels_last(graph, scope, z);
    graph.node(scope, "Reshape", &[&z, &row], &[])
}

/// Undoes [`to_rows`].
pub(super) fn from_rows(graph: &mut Graph, scope: &str, rows: &Value, shape: Shape) -> Value {
    let Shape { channels, height, width } = shape;
    let apart = graph.integers(&[-1, height as i64, width as i64, channels as i64]);
    let z = graph.node(scope, "Reshape", &[rows, &apart], &[]);
    channels_first(graph, scope, &z)
}

pub(super) fn channels_first(graph: &mut Graph, scope: &str, x: &Value) -> Value {
    graph.node(scope, "Transpose", &[x], &[Attribute::Integers("perm", &[0, 3, 1, 2])])
}

pub(super) fn channels_last(graph: &mut Graph, scope: &str, x: &Value) -> Value {
    graph.node(scope, "Transpose", &[x], &[Attribute::Integers("perm", &[0, 2, 3, 1])])
}
