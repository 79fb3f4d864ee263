//! The arithmetic of a coupling, once its net has run.
//!
//! The first half of the channels is kept. The affine kinds read the net's output in pairs, as the original code does:
//! shift from the even channels, raw scale from the odd ones.

use burn::tensor::{Tensor, activation::sigmoid};

use super::cpu;
pub use super::cpu::coupling::Kind;
use super::flex::{Values, tensor};
use crate::flow::{Forward, sum_per_example};

/// Raw scale at which the sigmoid scale is near 1: `s = sigmoid(raw + 2)`.
pub(crate) const SIGMOID_SHIFT: f32 = 2.0;
/// Bounds of the bounded scale, and the shift that makes it 1 at `raw = 0`.
pub(crate) const LOWEST: f32 = 0.5;
pub(crate) const HIGHEST: f32 = 2.0;
pub(crate) const BOUNDED_SHIFT: f32 = -std::f32::consts::LN_2;

/// Gradients of [`forward`].
pub struct CouplingGradients {
    /// Of the layer's input, the net's part not in it. Shape `[batch, height, width, channels]`.
    pub x: Tensor<4>,
    /// Of the net's output.
    pub h: Tensor<4>,
}

/// The kept half. Shape `[batch, height, width, channels / 2]`.
pub fn kept(x: &Tensor<4>) -> Tensor<4> {
    let [batch, height, width, channels] = x.dims();
    match Values::of(x) {
        Some(values) => tensor(cpu::coupling::kept(&values, channels), [batch, height, width, channels / 2]),
        None => x.clone().narrow(3, 0, channels / 2),
    }
}

/// `y2 = (x2 + shift) s`, or `x2 + h`; the log-det is the sum of `ln s`.
pub fn forward(kind: Kind, x: &Tensor<4>, h: &Tensor<4>) -> Forward {
    let [batch, .., channels] = x.dims();
    if let (Some(values), Some(h)) = (Values::of(x), Values::of(h)) {
        let out = cpu::coupling::forward(kind, batch, &values, &h, channels);
        return Forward::new(tensor(out.y, x.dims()), tensor(out.log_det, [batch]));
    }
    let (x1, x2) = halves(x);
    match Affine::of(kind, h) {
        None => Forward::new(Tensor::cat(vec![x1, x2 + h.clone()], 3), sum_per_example(h.zeros_like())),
        Some(affine) => Forward::new(
            Tensor::cat(vec![x1, (x2 + affine.shift.clone()) * affine.scale()], 3),
            sum_per_example(affine.log_scale()),
        ),
    }
}

/// Undoes [`forward`] by the inverse scale, which never overflows where the scale underflows.
pub fn inverse(kind: Kind, y: &Tensor<4>, h: &Tensor<4>) -> Tensor<4> {
    let [.., channels] = y.dims();
    if let (Some(values), Some(h)) = (Values::of(y), Values::of(h)) {
        return tensor(cpu::coupling::inverse(kind, &values, &h, channels), y.dims());
    }
    let (y1, y2) = halves(y);
    let x2 = match Affine::of(kind, h) {
        None => y2 - h.clone(),
        Some(affine) => y2 * affine.inverse_scale() - affine.shift,
    };
    Tensor::cat(vec![y1, x2], 3)
}

/// Pulls `dy` and the log-det's cotangent, `[batch]`, back to the input and to the net's output.
pub fn backward(
    kind: Kind,
    y: &Tensor<4>,
    h: &Tensor<4>,
    dy: &Tensor<4>,
    log_det_cotangent: &Tensor<1>,
) -> CouplingGradients {
    let [batch, height, width, channels] = y.dims();
    if let (Some(values), Some(hs), Some(dy), Some(cotangent)) =
        (Values::of(y), Values::of(h), Values::of(dy), Values::of(log_det_cotangent))
    {
        let g = cpu::coupling::backward(kind, batch, &values, &hs, &dy, &cotangent, channels);
        return CouplingGradients { x: tensor(g.dx, y.dims()), h: tensor(g.dh, h.dims()) };
    }
    let (_, y2) = halves(y);
    let (dy1, dy2) = halves(dy);
    match Affine::of(kind, h) {
        None => CouplingGradients { x: dy.clone(), h: dy2 },
        Some(affine) => {
            let dx2 = dy2.clone() * affine.scale();
            let dlog_scale = dy2 * y2 + log_det_cotangent.clone().reshape([batch, 1, 1, 1]);
            let draw = dlog_scale * affine.log_scale_slope();
            let dh = Tensor::stack::<5>(vec![dx2.clone(), draw], 4).reshape([batch, height, width, channels]);
            CouplingGradients { x: Tensor::cat(vec![dy1, dx2], 3), h: dh }
        }
    }
}

/// Adds the net's part of the input's gradient, which belongs to the kept half.
pub fn add_to_kept(dx: Tensor<4>, dkept: Tensor<4>) -> Tensor<4> {
    let [.., channels] = dx.dims();
    if let (Some(values), Some(dkept)) = (Values::of(&dx), Values::of(&dkept)) {
        let mut sum = values.to_vec();
        cpu::coupling::add_to_kept(&mut sum, &dkept, channels);
        return tensor(sum, dx.dims());
    }
    let (dx1, dx2) = halves(&dx);
    Tensor::cat(vec![dx1 + dkept, dx2], 3)
}

/// First and second half of the channels.
pub fn halves(x: &Tensor<4>) -> (Tensor<4>, Tensor<4>) {
    let [.., channels] = x.dims();
    (x.clone().narrow(3, 0, channels / 2), x.clone().narrow(3, channels / 2, channels / 2))
}

/// Even and odd channels.
pub fn interleaved(h: &Tensor<4>) -> (Tensor<4>, Tensor<4>) {
    let [batch, height, width, channels] = h.dims();
    let pairs = h.clone().reshape([batch, height, width, channels / 2, 2]);
    let half = |i| pairs.clone().narrow(4, i, 1).reshape([batch, height, width, channels / 2]);
    (half(0), half(1))
}

/// Shift and scale, composed of burn operations.
struct Affine {
    bounded: bool,
    shift: Tensor<4>,
    /// What the sigmoid is taken of.
    raw: Tensor<4>,
}

impl Affine {
    fn of(kind: Kind, h: &Tensor<4>) -> Option<Self> {
        let bounded = match kind {
            Kind::Additive => return None,
            Kind::Sigmoid => false,
            Kind::Bounded => true,
        };
        let (shift, raw) = interleaved(h);
        let raw = raw.add_scalar(if bounded { BOUNDED_SHIFT } else { SIGMOID_SHIFT });
        Some(Self { bounded, shift, raw })
    }

    fn scale(&self) -> Tensor<4> {
        let gate = sigmoid(self.raw.clone());
        if self.bounded { gate.mul_scalar(HIGHEST - LOWEST).add_scalar(LOWEST) } else { gate }
    }

    fn inverse_scale(&self) -> Tensor<4> {
        if self.bounded { self.scale().recip() } else { self.raw.clone().neg().exp().add_scalar(1.0) }
    }

    fn log_scale(&self) -> Tensor<4> {
        if self.bounded { self.scale().log() } else { softplus(self.raw.clone().neg()).neg() }
    }

    /// `d ln s / d raw`.
    fn log_scale_slope(&self) -> Tensor<4> {
        let rest = sigmoid(self.raw.clone().neg());
        if self.bounded {
            sigmoid(self.raw.clone()) * rest.mul_scalar(HIGHEST - LOWEST) * self.inverse_scale()
        } else {
            rest
        }
    }
}

/// `ln(1 + e^x)` without overflow.
fn softplus(x: Tensor<4>) -> Tensor<4> {
    x.clone().clamp_min(0.0) + x.abs().neg().exp().log1p()
}
