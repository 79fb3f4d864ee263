//! The coupling net of Glow as one operation: conv 3x3, ReLU, conv 1x1, ReLU, conv 3x3.
//!
//! It works on folded weights: actnorms and log-scales are multiplied in by the caller.

use std::sync::Arc;

use burn::tensor::{Tensor, activation::relu};

use super::flex::{Values, grid, tensor};
use super::{cpu, taps};

/// Folded weights, or their gradients. Taps are `dy * 3 + dx`.
#[derive(Debug, Clone)]
pub struct NetWeights {
    /// First convolution, row `tap * c_in + channel`. Shape `[9 * c_in, hidden]`.
    pub w1: Tensor<2>,
    /// One row for all pixels, or one for each pixel of an image. Shape `[1 or height * width, hidden]`.
    pub b1: Tensor<2>,
    /// 1x1 convolution. Shape `[hidden, hidden]`, in and out.
    pub w2: Tensor<2>,
    /// Shape `[1, hidden]`.
    pub b2: Tensor<2>,
    /// Last convolution, column `tap * c_out + channel`. Shape `[hidden, 9 * c_out]`.
    pub w3: Tensor<2>,
    /// Shape `[1 or height * width, c_out]`.
    pub b3: Tensor<2>,
}

/// The activations after each ReLU.
#[derive(Clone)]
pub struct Hidden(Kept);

#[derive(Clone)]
enum Kept {
    /// In the CPU kernel's own order.
    Cpu(Arc<cpu::net::Hidden>),
    /// Each `[batch * height * width, hidden]`.
    Composed { h1: Tensor<2>, h2: Tensor<2> },
}

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hidden").finish_non_exhaustive()
    }
}

/// Gradients of [`forward`].
pub struct NetGradients {
    /// Shape `[batch, height, width, c_in]`.
    pub x: Tensor<4>,
    /// Of the folded weights.
    pub weights: NetWeights,
}

/// The net's output, `[batch, height, width, c_out]`.
pub fn forward(x: &Tensor<4>, weights: &NetWeights) -> Tensor<4> {
    run(x, weights, false).0
}

/// [`forward`] that keeps its activations.
pub fn forward_saving(x: &Tensor<4>, weights: &NetWeights) -> (Tensor<4>, Hidden) {
    let (y, hidden) = run(x, weights, true);
    (y, hidden.expect("asked for"))
}

fn run(x: &Tensor<4>, weights: &NetWeights, keep: bool) -> (Tensor<4>, Option<Hidden>) {
    let [batch, height, width, _] = x.dims();
    let [_, c_out] = weights.b3.dims();
    if let (Some(values), Some(slices)) = (Values::of(x), Slices::of(weights)) {
        let mut hidden = keep.then(cpu::net::Hidden::default);
        let y = cpu::net::forward(grid(x), &values, &slices.weights(), hidden.as_mut());
        let hidden = hidden.map(|hidden| Hidden(Kept::Cpu(Arc::new(hidden))));
        return (tensor(y, [batch, height, width, c_out]), hidden);
    }
    let w = weights.clone();
    let h1 = relu(taps::add_bias(taps::product(taps::unfold(x.clone(), false), w.w1), w.b1));
    let h2 = relu(taps::add_bias(taps::product(h1.clone(), w.w2), w.b2));
    let y = taps::add_bias(taps::add_taps(taps::product(h2.clone(), w.w3), false), w.b3);
    (y, keep.then(|| Hidden(Kept::Composed { h1: taps::rows(h1), h2: taps::rows(h2) })))
}

/// Pulls `dy` back to the input and the folded weights.
pub fn backward(x: &Tensor<4>, weights: &NetWeights, hidden: &Hidden, dy: &Tensor<4>) -> NetGradients {
    match &hidden.0 {
        Kept::Cpu(hidden) => on_cpu(x, weights, hidden, dy),
        Kept::Composed { h1, h2 } => composed(x, weights, h1, h2, dy),
    }
}

fn on_cpu(x: &Tensor<4>, weights: &NetWeights, hidden: &cpu::net::Hidden, dy: &Tensor<4>) -> NetGradients {
    let slices = Slices::of(weights).expect("as in the forward pass");
    let values = |tensor| Values::of(tensor).expect("as in the forward pass");
    let g = cpu::net::backward(grid(x), &values(x), &slices.weights(), hidden, &values(dy));
    NetGradients {
        x: tensor(g.dx, x.dims()),
        weights: NetWeights {
            w1: tensor(g.w1, weights.w1.dims()),
            b1: tensor(g.b1, weights.b1.dims()),
            w2: tensor(g.w2, weights.w2.dims()),
            b2: tensor(g.b2, weights.b2.dims()),
            w3: tensor(g.w3, weights.w3.dims()),
            b3: tensor(g.b3, weights.b3.dims()),
        },
    }
}

fn composed(x: &Tensor<4>, weights: &NetWeights, h1: &Tensor<2>, h2: &Tensor<2>, dy: &Tensor<4>) -> NetGradients {
    let [batch, height, width, _] = x.dims();
    let w = weights.clone();
    let grid = |rows: Tensor<2>| {
        let [_, columns] = rows.dims();
        rows.reshape([batch, height, width, columns])
    };
    let masked = |d: Tensor<2>, h: &Tensor<2>| d.mask_fill(h.clone().lower_equal_elem(0.0), 0.0);
    let dz = taps::rows(taps::unfold(dy.clone(), true));
    let dh2 = masked(dz.clone().matmul(w.w3.transpose()), h2);
    let dh1 = masked(dh2.clone().matmul(w.w2.transpose()), h1);
    let [b1_rows, _] = w.b1.dims();
    let [b3_rows, _] = w.b3.dims();
    NetGradients {
        x: taps::add_taps(grid(dh1.clone().matmul(w.w1.transpose())), true),
        weights: NetWeights {
            w1: taps::rows(taps::unfold(x.clone(), false)).transpose().matmul(dh1.clone()),
            b1: taps::bias_gradient(grid(dh1), b1_rows),
            w2: h1.clone().transpose().matmul(dh2.clone()),
            b2: taps::bias_gradient(grid(dh2), 1),
            w3: h2.clone().transpose().matmul(dz),
            b3: taps::bias_gradient(dy.clone(), b3_rows),
        },
    }
}

/// The folded weights as the CPU kernel takes them.
struct Slices {
    values: [Values; 6],
    c_in: usize,
    hidden: usize,
    c_out: usize,
}

impl Slices {
    fn of(weights: &NetWeights) -> Option<Self> {
        let [rows, hidden] = weights.w1.dims();
        let [_, c_out] = weights.b3.dims();
        let NetWeights { w1, b1, w2, b2, w3, b3 } = weights;
        let values =
            [Values::of(w1)?, Values::of(b1)?, Values::of(w2)?, Values::of(b2)?, Values::of(w3)?, Values::of(b3)?];
        Some(Self { values, c_in: rows / 9, hidden, c_out })
    }

    fn weights(&self) -> cpu::net::NetWeights<'_> {
        let [w1, b1, w2, b2, w3, b3] = &self.values;
        cpu::net::NetWeights { w1, b1, w2, b2, w3, b3, c_in: self.c_in, hidden: self.hidden, c_out: self.c_out }
    }
}
