//! Convolutions and coupling nets.

use super::graph::{Attribute, Graph, Value};
use crate::kernels::host::read;
use crate::nets::{FoldedConv, PreparedConvNet};

/// A convolution with zero padding. `size` is height and width.
pub(super) fn conv(graph: &mut Graph, scope: &str, x: &Value, folded: FoldedConv, size: [usize; 2]) -> Value {
    let shape = folded.weight.dims();
    let [outputs, _, side, _] = shape;
    let weight = graph.constant(&format!("{scope}.weight"), &shape, &read::<f32, 4>(folded.weight));
    let bias = graph.constant(&format!("{scope}.bias"), &[outputs], &read::<f32, 1>(folded.bias));
    let pad = (side / 2) as i64;
    let padding = [Attribute::Integers("pads", &[pad; 4])];
    let Some(edge) = folded.edge else { return graph.node(scope, "Conv", &[x, &weight, &bias], &padding) };
    // The bias of each pixel: a few weights in the file, a map at run time, the same for all of the batch.
    let edge = graph.constant(&format!("{scope}.edge"), &edge.dims(), &read::<f32, 4>(edge));
    let border = border(graph, size);
    let map = graph.node(scope, "Conv", &[&border, &edge, &bias], &[]);
    let y = graph.node(scope, "Conv", &[x, &weight], &padding);
    graph.node(scope, "Add", &[&y, &map], &[])
}

/// An image that is 1 on its padding and 0 inside. Shape `[1, 1, height + 2, width + 2]`.
fn border(graph: &mut Graph, [height, width]: [usize; 2]) -> Value {
    graph.shared(&format!("border.{height}x{width}"), &[1, 1, height + 2, width + 2], || {
        let inside = |row: usize, column: usize| (1..=height).contains(&row) && (1..=width).contains(&column);
        let row = |row| (0..width + 2).map(move |column| if inside(row, column) { 0.0 } else { 1.0 });
        (0..height + 2).flat_map(row).collect()
    })
}

/// A coupling net's output as two halves, `shift` added to the second, or whole if it is not interleaved.
pub(super) fn conv_net(
    graph: &mut Graph,
    scope: &str,
    x: &Value,
    net: &PreparedConvNet,
    size: [usize; 2],
    shift: Option<f32>,
) -> Value {
    let folded = net.folded();
    let last = match shift {
        Some(shift) => folded.last.halves(shift),
        None => folded.last,
    };
    let h = conv(graph, &format!("{scope}.first"), x, folded.first, size);
    let h = graph.node(&format!("{scope}.first"), "Relu", &[&h], &[]);
    let h = conv(graph, &format!("{scope}.middle"), &h, folded.middle, size);
    let h = graph.node(&format!("{scope}.middle"), "Relu", &[&h], &[]);
    conv(graph, &format!("{scope}.last"), &h, last, size)
}
