//! The diagonal scaling that ends NICE: how much of the data each dimension explains.
//!
//! Dinh, Krueger & Bengio 2015, section 3.3.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

use crate::error::Result;
use crate::flow::{Cotangent, Forward, Gradients, Invertible, Layer, Output, Pass, Pullback, accumulator};
use crate::kernels::host::read;
use crate::kernels::{reduce, taps};

/// `h = exp(log_scale) x`, of `[batch, 1, 1, D]`.
#[derive(Module, Debug)]
pub struct Scaling {
    /// Shape `[D]`.
    pub log_scale: Param<Tensor<1>>,
}

impl Scaling {
    /// The identity on `dims` values.
    pub fn new(dims: usize, device: &Device) -> Self {
        Self { log_scale: Param::from_tensor(Tensor::zeros([dims], device)) }
    }
}

impl Layer for Scaling {
    type Prepared = PreparedScaling;

    fn prepare(&self, _path: &str, _pass: Pass) -> Result<PreparedScaling> {
        let log_scale = self.log_scale.val();
        let [dims] = log_scale.dims();
        let row = log_scale.clone().reshape([1, 1, 1, dims]);
        Ok(PreparedScaling {
            log_scale: self.log_scale.clone(),
            scale: row.clone().exp(),
            inverse: row.neg().exp(),
            log_det: log_scale.clone().cast(accumulator(&log_scale.device())).sum(),
        })
    }
}

/// A [`Scaling`] ready to run.
#[derive(Debug, Clone)]
pub struct PreparedScaling {
    log_scale: Param<Tensor<1>>,
    /// Shape `[1, 1, 1, D]`.
    scale: Tensor<4>,
    /// Shape `[1, 1, 1, D]`.
    inverse: Tensor<4>,
    /// Nats. Shape `[1]`.
    log_det: Tensor<1>,
}

impl PreparedScaling {
    /// Shape `[1, 1, 1, D]`.
    pub fn scale(&self) -> Tensor<4> {
        self.scale.clone()
    }

    /// `1 / scale`. Shape `[1, 1, 1, D]`.
    pub fn inverse_scale(&self) -> Tensor<4> {
        self.inverse.clone()
    }

    /// Nats.
    pub fn log_det(&self) -> f64 {
        read(self.log_det.clone())[0]
    }
}

impl Invertible for PreparedScaling {
    type Saved = Tensor<4>;

    fn forward(&self, x: Tensor<4>) -> Forward {
        let [batch, ..] = x.dims();
        Forward::new(x * self.scale.clone(), self.log_det.clone().expand([batch]))
    }

    fn forward_saving(&self, x: Tensor<4>) -> (Forward, Tensor<4>) {
        (self.forward(x.clone()), x)
    }

    fn inverse(&self, z: Tensor<4>) -> Result<Tensor<4>> {
        Ok(z * self.inverse.clone())
    }

    fn backward(
        &self,
        out: Output,
        saved: Option<Tensor<4>>,
        cotangent: Cotangent,
        gradients: &mut Gradients,
    ) -> Result<Pullback> {
        let dots = reduce::column_dots(&taps::rows(cotangent.z.clone()), &taps::rows(out.z.clone()));
        gradients.add(&self.log_scale, dots + cotangent.log_det.sum());
        let x = saved.unwrap_or_else(|| out.z * self.inverse.clone());
        Ok(Pullback { x, dx: cotangent.z * self.scale.clone() })
    }

    fn condition_number(&self) -> f64 {
        diagonal_condition_number(&self.log_scale.val())
    }
}

/// Of a diagonal matrix, from the logarithms of its entries, `[D]`.
pub(super) fn diagonal_condition_number(log_scale: &Tensor<1>) -> f64 {
    let values: Vec<f64> = read(log_scale.clone());
    let end = |of: fn(f64, f64) -> f64, start| values.iter().copied().fold(start, of);
    (end(f64::max, f64::NEG_INFINITY) - end(f64::min, f64::INFINITY)).exp()
}
