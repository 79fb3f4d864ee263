//! Moving values about.

use super::ends::{channels_first, channels_last};
use super::graph::{Attribute, Graph, Value};
use super::layers::{Shape, concat};
use crate::layers::Rearrange;

/// Image to latent. `shape` is that of the result.
pub(super) fn forward(graph: &mut Graph, scope: &str, x: &Value, rearrange: Rearrange, shape: Shape) -> Value {
    match rearrange {
        Rearrange::Squeeze => squeeze(graph, scope, x, shape),
        Rearrange::Unsqueeze => unsqueeze(graph, scope, x),
        Rearrange::Tile(_) => tile(graph, scope, x, shape),
        Rearrange::Reverse => reverse(graph, scope, x, shape),
        Rearrange::OrderedSqueeze => {
            let blocks = graph.node(scope, "SpaceToDepth", &[x], &[Attribute::Integer("blocksize", 2)]);
            in_order(graph, scope, &blocks, [0, 3, 1, 2], shape)
        }
    }
}

/// Undoes [`forward`]. `shape` is that of `z`.
pub(super) fn inverse(graph: &mut Graph, scope: &str, z: &Value, rearrange: Rearrange, shape: Shape) -> Value {
    match rearrange {
        Rearrange::Squeeze => unsqueeze(graph, scope, z),
        Rearrange::Unsqueeze => {
            let Shape { channels, height, width } = shape;
            squeeze(graph, scope, z, Shape { channels: 4 * channels, height: height / 2, width: width / 2 })
        }
        Rearrange::Tile(image) => untile(graph, scope, z, image),
        Rearrange::Reverse => reverse(graph, scope, z, shape),
        Rearrange::OrderedSqueeze => {
            let blocks = in_order(graph, scope, z, [0, 2, 3, 1], shape);
            let attributes = [Attribute::Integer("blocksize", 2), Attribute::Text("mode", "DCR")];
            graph.node(scope, "DepthToSpace", &[&blocks], &attributes)
        }
    }
}

/// `shape` is that of the result.
fn squeeze(graph: &mut Graph, scope: &str, x: &Value, shape: Shape) -> Value {
    let Shape { channels, height, width } = shape;
    let [channels, height, width] = [channels, height, width].map(|size| size as i64);
    let apart = graph.integers(&[-1, channels / 4, height, 2, width, 2]);
    let x = graph.node(scope, "Reshape", &[x, &apart], &[]);
    let x = graph.node(scope, "Transpose", &[&x], &[Attribute::Integers("perm", &[0, 1, 3, 5, 2, 4])]);
    let together = graph.integers(&[-1, channels, height, width]);
    graph.node(scope, "Reshape", &[&x, &together], &[])
}

fn unsqueeze(graph: &mut Graph, scope: &str, z: &Value) -> Value {
    let attributes = [Attribute::Integer("blocksize", 2), Attribute::Text("mode", "CRD")];
    graph.node(scope, "DepthToSpace", &[z], &attributes)
}

/// Quarters of the channels, those of the pixels of each block row by row, in another order.
fn in_order(graph: &mut Graph, scope: &str, x: &Value, order: [usize; 4], Shape { channels, .. }: Shape) -> Value {
    let quarters = graph.split(scope, x, 1, &[channels / 4; 4]);
    concat(graph, scope, &order.map(|quarter| &quarters[quarter]))
}

fn tile(graph: &mut Graph, scope: &str, x: &Value, Shape { channels, .. }: Shape) -> Value {
    let x = channels_last(graph, scope, x);
    let pairs = graph.integers(&[-1, channels as i64 / 2, 2]);
    let x = graph.node(scope, "Reshape", &[&x, &pairs], &[]);
    let x = graph.node(scope, "Transpose", &[&x], &[Attribute::Integers("perm", &[0, 2, 1])]);
    let one_pixel = graph.integers(&[-1, channels as i64, 1, 1]);
    graph.node(scope, "Reshape", &[&x, &one_pixel], &[])
}

fn untile(graph: &mut Graph, scope: &str, z: &Value, image: [usize; 3]) -> Value {
    let [height, width, channels] = image.map(|size| size as i64);
    let halves = graph.integers(&[-1, 2, height * width * channels / 2]);
    let z = graph.node(scope, "Reshape", &[z, &halves], &[]);
    let z = graph.node(scope, "Transpose", &[&z], &[Attribute::Integers("perm", &[0, 2, 1])]);
    let pixels = graph.integers(&[-1, height, width, channels]);
    let z = graph.node(scope, "Reshape", &[&z, &pixels], &[]);
    channels_first(graph, scope, &z)
}

fn reverse(graph: &mut Graph, scope: &str, x: &Value, Shape { channels, .. }: Shape) -> Value {
    // From the last to one before the first.
    let [start, end, axis, step] = [-1, -(channels as i64) - 1, 1, -1].map(|number| graph.integers(&[number]));
    graph.node(scope, "Slice", &[x, &start, &end, &axis, &step], &[])
}
