//! The coupling net of Glow as one operation: conv 3x3, ReLU, conv 1x1, ReLU, conv 3x3.
//!
//! Actnorms and log-scales are a factor of each convolution's outputs, multiplied into its weights on their way.

use std::sync::{Arc, OnceLock};

use burn::tensor::{Tensor, activation::relu};

use super::cpu::net::Sizes;
use super::flex::{Values, grid, tensor};
use super::{Precision, cpu, reduce, taps};

/// A convolution of the net.
#[derive(Debug, Clone)]
pub struct Conv {
    /// First: row `tap * c_in + channel`, `[9 * c_in, hidden]`. Middle: `[hidden, hidden]`, in and out. Last: column
    /// `tap * c_out + channel`, `[hidden, 9 * c_out]`. Taps are `dy * 3 + dx`.
    pub weight: Tensor<2>,
    /// What each output is multiplied by. Shape `[outputs]`.
    pub scale: Tensor<1>,
    /// Scaled already; one row for all pixels, or, of the first and the last, one for each pixel of an image.
    /// Shape `[1 or height * width, outputs]`.
    pub bias: Tensor<2>,
}

impl Conv {
    /// The weight with its scale multiplied in.
    pub fn scaled(&self) -> Tensor<2> {
        self.weight.clone() * self.column_scale()
    }

    /// The gradients of its parameters from those of the scaled weight and bias.
    pub fn unfold(&self, weight: Tensor<2>, bias: Tensor<2>) -> ConvGradients {
        let ([_, columns], [outputs]) = (self.weight.dims(), self.scale.dims());
        let by_column = reduce::column_dots(&weight, &self.scaled()).reshape([columns / outputs, outputs]);
        ConvGradients { weight: weight * self.column_scale(), log_scale: reduce::column_sums(&by_column), bias }
    }

    fn column_scale(&self) -> Tensor<2> {
        let ([_, columns], [outputs]) = (self.weight.dims(), self.scale.dims());
        self.scale.clone().reshape([1, outputs]).repeat_dim(1, columns / outputs)
    }
}

/// Gradients of a [`Conv`].
pub struct ConvGradients {
    /// Of the weight.
    pub weight: Tensor<2>,
    /// Of the logarithm of the scale, as far as it scales the weight. Shape `[outputs]`.
    pub log_scale: Tensor<1>,
    /// Of the scaled bias.
    pub bias: Tensor<2>,
}

/// The net's convolutions, for products in one precision. What the CPU's kernel packs of them is kept.
#[derive(Clone)]
pub struct Net {
    /// 3x3.
    pub first: Conv,
    /// 1x1.
    pub middle: Conv,
    /// 3x3.
    pub last: Conv,
    precision: Precision,
    forward: OnceLock<Arc<cpu::net::Forward>>,
    backward: OnceLock<Arc<cpu::net::Backward>>,
}

impl std::fmt::Debug for Net {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Net").field("precision", &self.precision).finish_non_exhaustive()
    }
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

impl Hidden {
    /// In the CPU kernel's own order.
    pub(super) fn of_cpu(hidden: cpu::net::Hidden) -> Self {
        Hidden(Kept::Cpu(Arc::new(hidden)))
    }
}

/// Gradients of a [`Net`].
pub struct NetGradients {
    /// Shape `[batch, height, width, c_in]`.
    pub x: Tensor<4>,
    /// 3x3.
    pub first: ConvGradients,
    /// 1x1.
    pub middle: ConvGradients,
    /// 3x3.
    pub last: ConvGradients,
}

impl Net {
    /// Of these convolutions. Other devices than the CPU compute in f32 whatever the precision.
    pub fn new(first: Conv, middle: Conv, last: Conv, precision: Precision) -> Self {
        Self { first, middle, last, precision, forward: OnceLock::new(), backward: OnceLock::new() }
    }

    /// The net's output, `[batch, height, width, c_out]`.
    pub fn forward(&self, x: &Tensor<4>) -> Tensor<4> {
        self.run(x, false).0
    }

    /// [`Net::forward`] that keeps its activations.
    pub fn forward_saving(&self, x: &Tensor<4>) -> (Tensor<4>, Hidden) {
        let (y, hidden) = self.run(x, true);
        (y, hidden.expect("asked for"))
    }

    /// As the CPU's kernels take it, where the weights are there.
    pub(super) fn packed(&self) -> Option<&cpu::net::Forward> {
        if self.forward.get().is_none() && Values::of(&self.first.weight).is_none() {
            return None;
        }
        Some(self.forward.get_or_init(|| Arc::new(self.slices().weights().forward(self.precision))))
    }

    fn run(&self, x: &Tensor<4>, keep: bool) -> (Tensor<4>, Option<Hidden>) {
        let [batch, height, width, _] = x.dims();
        let [_, c_out] = self.last.bias.dims();
        if let Some(values) = Values::of(x) {
            let packed = self.packed().expect("weights are where the input is");
            let (y, hidden) = cpu::net::forward(grid(x), &values, packed, keep);
            return (tensor(y, [batch, height, width, c_out]), hidden.map(Hidden::of_cpu));
        }
        let [w1, w2, w3] = [&self.first, &self.middle, &self.last].map(Conv::scaled);
        let [b1, b2, b3] = [&self.first, &self.middle, &self.last].map(|conv| conv.bias.clone());
        let h1 = relu(taps::add_bias(taps::product(taps::unfold(x.clone(), false), w1), b1));
        let h2 = relu(taps::add_bias(taps::product(h1.clone(), w2), b2));
        let y = taps::add_bias(taps::add_taps(taps::product(h2.clone(), w3), false), b3);
        (y, keep.then(|| Hidden(Kept::Composed { h1: taps::rows(h1), h2: taps::rows(h2) })))
    }

    /// Pulls `dy` back to the input and the parameters.
    pub fn backward(&self, x: &Tensor<4>, hidden: &Hidden, dy: &Tensor<4>) -> NetGradients {
        match &hidden.0 {
            Kept::Cpu(hidden) => self.backward_on_cpu(x, hidden, dy),
            Kept::Composed { h1, h2 } => self.backward_composed(x, h1, h2, dy),
        }
    }

    fn backward_on_cpu(&self, x: &Tensor<4>, hidden: &cpu::net::Hidden, dy: &Tensor<4>) -> NetGradients {
        let values = |tensor| Values::of(tensor).expect("as in the forward pass");
        let slices = self.slices();
        let weights = slices.weights();
        let packed = self.backward.get_or_init(|| Arc::new(weights.backward(self.precision)));
        let g = cpu::net::backward(grid(x), &values(x), &weights, packed, hidden, &values(dy));
        let of = |conv: &Conv, g: cpu::net::ConvGradients| ConvGradients {
            weight: tensor(g.weight, conv.weight.dims()),
            log_scale: tensor(g.log_scale, conv.scale.dims()),
            bias: tensor(g.bias, conv.bias.dims()),
        };
        NetGradients {
            x: tensor(g.dx, x.dims()),
            first: of(&self.first, g.first),
            middle: of(&self.middle, g.middle),
            last: of(&self.last, g.last),
        }
    }

    fn backward_composed(&self, x: &Tensor<4>, h1: &Tensor<2>, h2: &Tensor<2>, dy: &Tensor<4>) -> NetGradients {
        let [batch, height, width, _] = x.dims();
        let grid = |rows: Tensor<2>| {
            let [_, columns] = rows.dims();
            rows.reshape([batch, height, width, columns])
        };
        let masked = |d: Tensor<2>, h: &Tensor<2>| d.mask_fill(h.clone().lower_equal_elem(0.0), 0.0);
        let [w1, w2, w3] = [&self.first, &self.middle, &self.last].map(|conv| conv.scaled().transpose());
        let dz = taps::rows(taps::unfold(dy.clone(), true));
        let dh2 = masked(dz.clone().matmul(w3), h2);
        let dh1 = masked(dh2.clone().matmul(w2), h1);
        let of = |conv: &Conv, scaled: Tensor<2>, dy: Tensor<4>| {
            let [bias_rows, _] = conv.bias.dims();
            conv.unfold(scaled, taps::bias_gradient(dy, bias_rows))
        };
        let rows = taps::rows(taps::unfold(x.clone(), false));
        NetGradients {
            x: taps::add_taps(grid(dh1.clone().matmul(w1)), true),
            first: of(&self.first, rows.transpose().matmul(dh1.clone()), grid(dh1)),
            middle: of(&self.middle, h1.clone().transpose().matmul(dh2.clone()), grid(dh2)),
            last: of(&self.last, h2.clone().transpose().matmul(dz), dy.clone()),
        }
    }

    fn slices(&self) -> Slices {
        let of = |conv: &Conv| {
            let values = |tensor: Tensor<1>| Values::of(&tensor).expect("weights are where the input is");
            let flat = |tensor: &Tensor<2>| Values::of(tensor).expect("weights are where the input is");
            [flat(&conv.weight), values(conv.scale.clone()), flat(&conv.bias)]
        };
        let ([rows, hidden], [c_out]) = (self.first.weight.dims(), self.last.scale.dims());
        let sizes = Sizes { c_in: rows / 9, hidden, c_out };
        Slices { first: of(&self.first), middle: of(&self.middle), last: of(&self.last), sizes }
    }
}

/// The convolutions as the CPU kernel takes them: weight, scale and bias.
struct Slices {
    first: [Values; 3],
    middle: [Values; 3],
    last: [Values; 3],
    sizes: Sizes,
}

impl Slices {
    fn weights(&self) -> cpu::net::NetWeights<'_> {
        let ([w1, s1, b1], [w2, s2, b2], [w3, s3, b3]) = (&self.first, &self.middle, &self.last);
        cpu::net::NetWeights { w1, s1, b1, w2, s2, b2, w3, s3, b3, sizes: self.sizes }
    }
}
