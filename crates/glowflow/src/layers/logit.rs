//! Images as logits: pixel values, which have bounds, become values that have none.
//!
//! Dinh, Sohl-Dickstein & Bengio 2017, section 4.1, with `alpha + (1 - 2 alpha) x` as in its code.

use burn::module::Module;
use burn::tensor::Tensor;

use crate::error::Result;
use crate::flow::{Cotangent, Forward, Gradients, Invertible, Layer, Output, Pass, Pullback, sum_per_example};

/// How far the extreme pixel values are kept from 0 and 1.
const ALPHA: f64 = 0.05;

/// `1 - 2 alpha`.
pub const SLOPE: f64 = 1.0 - 2.0 * ALPHA;

/// Logits beyond are as good as infinite: `tanh(LIMIT / 2)` is 1 in f32. Some GPUs' `tanh` overflows further out.
pub const LIMIT: f64 = 30.0;

/// `z = ln y - ln(1 - y)` of `y = 0.05 + 0.9 (x + 0.5)`, `x` in [-0.5, 0.5). No parameters.
#[derive(Module, Debug, Default)]
pub struct Logit {
    #[module(skip)]
    prepared: PreparedLogit,
}

impl Layer for Logit {
    type Prepared = PreparedLogit;

    fn prepare(&self, _path: &str, _pass: Pass) -> Result<PreparedLogit> {
        Ok(self.prepared)
    }
}

/// A [`Logit`] ready to run.
#[derive(Debug, Clone, Copy, Default)]
pub struct PreparedLogit;

/// `y` and `1 - y`, each without cancellation.
struct Shares {
    y: Tensor<4>,
    rest: Tensor<4>,
}

impl Shares {
    fn of(x: &Tensor<4>) -> Self {
        let centred = x.clone().mul_scalar(SLOPE);
        Self { y: centred.clone().add_scalar(0.5), rest: centred.neg().add_scalar(0.5) }
    }
}

impl Invertible for PreparedLogit {
    type Saved = Tensor<4>;

    fn forward(&self, x: Tensor<4>) -> Forward {
        let Shares { y, rest } = Shares::of(&x);
        let (log_y, log_rest) = (y.log(), rest.log());
        let log_slope = (log_y.clone() + log_rest.clone()).neg().add_scalar(SLOPE.ln());
        Forward::new(log_y - log_rest, sum_per_example(log_slope))
    }

    fn forward_saving(&self, x: Tensor<4>) -> (Forward, Tensor<4>) {
        (self.forward(x.clone()), x)
    }

    fn inverse(&self, z: Tensor<4>) -> Result<Tensor<4>> {
        // sigmoid(z) - 1/2 is tanh(z / 2) / 2.
        Ok(z.clamp(-LIMIT, LIMIT).mul_scalar(0.5).tanh().mul_scalar(0.5 / SLOPE))
    }

    fn backward(
        &self,
        out: Output,
        saved: Option<Tensor<4>>,
        cotangent: Cotangent,
        _gradients: &mut Gradients,
    ) -> Result<Pullback> {
        let x = saved.map_or_else(|| self.inverse(out.z), Ok)?;
        let [batch, ..] = x.dims();
        let Shares { y, rest } = Shares::of(&x);
        // dz/dx is slope / (y (1 - y)), and d(log-det)/dx that times 2 y - 1.
        let dlog_det = (y.clone() - rest.clone()) * cotangent.log_det.reshape([batch, 1, 1, 1]);
        Ok(Pullback { dx: (cotangent.z + dlog_det) / (y * rest).div_scalar(SLOPE), x })
    }
}
