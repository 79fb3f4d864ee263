//! Convolutions as other programs write them, with everything that follows them folded in.

use burn::tensor::Tensor;

/// A batch normalisation by running averages, as a map of each channel: `scale x + offset`.
#[derive(Debug, Clone)]
pub struct FoldedNorm {
    /// Shape `[channels]`.
    pub scale: Tensor<1>,
    /// Shape `[channels]`.
    pub offset: Tensor<1>,
    /// Of one pixel, nats.
    pub log_det: f64,
}

impl FoldedNorm {
    /// The result times `factor`, which its log-det leaves out.
    pub(super) fn times(self, factor: f64) -> Self {
        Self { scale: self.scale.mul_scalar(factor), offset: self.offset.mul_scalar(factor), log_det: self.log_det }
    }
}

/// A convolution with zero padding that keeps height and width, its bias, and the edge channel's weights.
#[derive(Debug, Clone)]
pub struct FoldedConv {
    /// Side 1 or 3. Shape `[outputs, inputs, side, side]`.
    pub weight: Tensor<4>,
    /// Shape `[outputs]`.
    pub bias: Tensor<1>,
    /// Weights of one more input channel, 1 on the padded border and 0 inside. Shape `[outputs, 1, 3, 3]`.
    pub edge: Option<Tensor<4>>,
}

impl FoldedConv {
    /// Of a weight that has been scaled, `[outputs, inputs, side, side]`, and a bias and edge weights, `[outputs, 9]`,
    /// that have not. `scale` is `[outputs]`.
    pub(super) fn scaled(weight: Tensor<4>, bias: Tensor<1>, edge: Option<Tensor<2>>, scale: Tensor<1>) -> Self {
        let [outputs] = scale.dims();
        let by_output = scale.clone().reshape([outputs, 1]);
        let edge = edge.map(|edge| (edge * by_output).reshape([outputs, 1, 3, 3]));
        Self { weight, bias: bias * scale, edge }
    }

    /// `W x + bias` at every pixel. `weight` is `[outputs, inputs]`.
    pub(crate) fn of_pixel(weight: Tensor<2>, bias: Tensor<1>) -> Self {
        let [outputs, inputs] = weight.dims();
        Self { weight: weight.reshape([outputs, inputs, 1, 1]), bias, edge: None }
    }

    /// With `scale`, `[outputs]`, of its outputs, and a bias in place of its own. For one without an edge channel.
    pub(super) fn rescaled(self, scale: &Tensor<1>, bias: Tensor<1>) -> Self {
        let [outputs] = scale.dims();
        Self { weight: self.weight * scale.clone().reshape([outputs, 1, 1, 1]), bias, edge: None }
    }

    /// With a normalisation behind it. For one without an edge channel.
    pub(super) fn followed_by(self, norm: &FoldedNorm) -> Self {
        let bias = self.bias.clone() * norm.scale.clone() + norm.offset.clone();
        self.rescaled(&norm.scale, bias)
    }

    /// Interleaved outputs as two halves: the even ones, then the odd ones with `shift` added.
    pub fn halves(self, shift: f32) -> Self {
        let [outputs, ..] = self.weight.dims();
        let apart = |pairs: Tensor<4>| {
            let [_, inputs, side, _] = pairs.dims();
            let pairs = pairs.reshape([outputs / 2, 2, inputs * side * side]).swap_dims(0, 1);
            pairs.reshape([outputs, inputs, side, side])
        };
        let bias = apart(self.bias.reshape([outputs, 1, 1, 1])).reshape([outputs]);
        let (even, odd) = (bias.clone().narrow(0, 0, outputs / 2), bias.narrow(0, outputs / 2, outputs / 2));
        Self {
            weight: apart(self.weight),
            bias: Tensor::cat(vec![even, odd.add_scalar(shift)], 0),
            edge: self.edge.map(apart),
        }
    }
}
