//! Convolutions and coupling nets.

use burn::tensor::Tensor;

use super::graph::{Attribute, Graph, Value};
use super::layers::concat;
use crate::kernels::host::read;
use crate::nets::{FoldedConv, FoldedMask, FoldedNorm, FoldedSignedNet, Mlp, PreparedConvNet};

/// An input channel that is the same for every image.
struct Still {
    name: &'static str,
    /// Shape `[1, 1, height, width]`.
    image: Value,
    /// Shape `[outputs, 1, 3, 3]`.
    weight: Tensor<4>,
    /// Zeros around the image.
    pad: i64,
}

/// A convolution with zero padding. `size` is height and width.
pub(super) fn conv(graph: &mut Graph, scope: &str, x: &Value, folded: FoldedConv, size: [usize; 2]) -> Value {
    let still = folded.edge.clone().map(|weight| Still { name: "edge", image: border(graph, size), weight, pad: 0 });
    conv_beside(graph, scope, x, folded, still)
}

/// A convolution of an image and of a channel that is the same for all.
fn conv_beside(graph: &mut Graph, scope: &str, x: &Value, folded: FoldedConv, still: Option<Still>) -> Value {
    let shape = folded.weight.dims();
    let [outputs, _, side, _] = shape;
    let weight = graph.constant(&format!("{scope}.weight"), &shape, &read::<f32, 4>(folded.weight));
    let bias = graph.constant(&format!("{scope}.bias"), &[outputs], &read::<f32, 1>(folded.bias));
    let padding = |pad: i64| [pad; 4];
    let pads = padding((side / 2) as i64);
    let pads = [Attribute::Integers("pads", &pads)];
    let Some(Still { name, image, weight: beside, pad }) = still else {
        return graph.node(scope, "Conv", &[x, &weight, &bias], &pads);
    };
    // The bias of each pixel: a few weights in the file, a map at run time, the same for all of the batch.
    let beside = graph.constant(&format!("{scope}.{name}"), &beside.dims(), &read::<f32, 4>(beside));
    let map = graph.node(scope, "Conv", &[&image, &beside, &bias], &[Attribute::Integers("pads", &padding(pad))]);
    let y = graph.node(scope, "Conv", &[x, &weight], &pads);
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

/// RealNVP's net: shift, then raw log-scale.
pub(super) fn signed_net(
    graph: &mut Graph,
    scope: &str,
    x: &Value,
    folded: FoldedSignedNet,
    size: [usize; 2],
) -> Value {
    let FoldedSignedNet { norm, net, mask } = folded;
    let r = normalized(graph, &format!("{scope}.norm"), x, &norm);
    let minus_r = graph.node(scope, "Neg", &[&r], &[]);
    let [positive, negative] = [r, minus_r].map(|signed| graph.node(scope, "Relu", &[&signed], &[]));
    let signed = concat(graph, scope, &[&positive, &negative]);
    let still = mask.map(|FoldedMask { mask, weight }| Still {
        name: "mask",
        image: checkerboard(graph, &read::<f32, 4>(mask), size),
        weight,
        pad: 1,
    });

    let scope = format!("{scope}.residual");
    let mut state = conv_beside(graph, &format!("{scope}.first"), &signed, net.first, still);
    let mut skips = conv(graph, &format!("{scope}.skip"), &state, net.skip, size);
    for (k, block) in net.blocks.into_iter().enumerate() {
        let scope = format!("{scope}.blocks.{k}");
        let active = normalized(graph, &format!("{scope}.first_norm"), &state, &block.norm);
        let active = graph.node(&scope, "Relu", &[&active], &[]);
        let inside = conv(graph, &format!("{scope}.first"), &active, block.first, size);
        let inside = graph.node(&scope, "Relu", &[&inside], &[]);
        let added = conv(graph, &format!("{scope}.second"), &inside, block.second, size);
        state = graph.node(&scope, "Add", &[&state, &added], &[]);
        let skip = conv(graph, &format!("{scope}.skip"), &state, block.skip, size);
        skips = graph.node(&scope, "Add", &[&skips, &skip], &[]);
    }
    let active = graph.node(&scope, "Relu", &[&skips], &[]);
    conv(graph, &format!("{scope}.last"), &active, net.last, size)
}

/// A mask of alternating pixels, the first of which tells it from the other. Shape `[1, 1, height, width]`.
pub(super) fn checkerboard(graph: &mut Graph, values: &[f32], [height, width]: [usize; 2]) -> Value {
    let name = format!("checkerboard.{height}x{width}.{}", values[0]);
    graph.shared(&name, &[1, 1, height, width], || values.to_vec())
}

/// A normalisation's scale and offset of each channel.
pub(super) struct NormConstants {
    pub scale: Value,
    pub offset: Value,
}

impl NormConstants {
    pub fn of(graph: &mut Graph, scope: &str, norm: &FoldedNorm) -> Self {
        let mut by_channel = |name: &str, values: &Tensor<1>| {
            graph.constant(&format!("{scope}.{name}"), &[1, values.dims()[0], 1, 1], &read::<f32, 1>(values.clone()))
        };
        Self { scale: by_channel("scale", &norm.scale), offset: by_channel("offset", &norm.offset) }
    }
}

/// `scale x + offset`.
pub(super) fn normalized(graph: &mut Graph, scope: &str, x: &Value, norm: &FoldedNorm) -> Value {
    let NormConstants { scale, offset } = NormConstants::of(graph, scope, norm);
    let scaled = graph.node(scope, "Mul", &[x, &scale], &[]);
    graph.node(scope, "Add", &[&scaled, &offset], &[])
}

/// NICE's net. `[batch, inputs, 1, 1]` to `[batch, outputs, 1, 1]`.
pub(super) fn mlp(graph: &mut Graph, scope: &str, x: &Value, net: &Mlp) -> Value {
    let mut h = graph.node(scope, "Flatten", &[x], &[]);
    for (index, layer) in net.layers.iter().enumerate() {
        let scope = format!("{scope}.layers.{index}");
        if index > 0 {
            h = graph.node(&scope, "Relu", &[&h], &[]);
        }
        h = dense(graph, &scope, &h, layer.weight.val(), Some(layer.bias.val()));
    }
    as_pixel(graph, scope, &h)
}

/// A linear map, `[outputs, inputs]`, of `[batch, inputs, 1, 1]`.
pub(super) fn linear(graph: &mut Graph, scope: &str, x: &Value, weight: Tensor<2>) -> Value {
    let rows = graph.node(scope, "Flatten", &[x], &[]);
    let rows = dense(graph, scope, &rows, weight, None);
    as_pixel(graph, scope, &rows)
}

fn dense(graph: &mut Graph, scope: &str, rows: &Value, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Value {
    let shape @ [outputs, _] = weight.dims();
    let weight = graph.constant(&format!("{scope}.weight"), &shape, &read::<f32, 2>(weight));
    let bias = bias.map(|bias| graph.constant(&format!("{scope}.bias"), &[outputs], &read::<f32, 1>(bias)));
    let inputs: Vec<_> = [rows, &weight].into_iter().chain(&bias).collect();
    graph.node(scope, "Gemm", &inputs, &[Attribute::Integer("transB", 1)])
}

fn as_pixel(graph: &mut Graph, scope: &str, rows: &Value) -> Value {
    let one_pixel = graph.integers(&[0, -1, 1, 1]);
    graph.node(scope, "Reshape", &[rows, &one_pixel], &[])
}
