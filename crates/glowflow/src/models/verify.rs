//! How well a model inverts on given images, and where it does worst.

use std::ops::ControlFlow;

use burn::tensor::Tensor;
use serde::Serialize;

use super::chain::Chain;
use super::dequantize::{self, Noise};
use super::flow_model::{Call, FlowModel};
use crate::error::Result;
use crate::images::Pixels;
use crate::kernels::host::read;

/// What [`FlowModel::verify`] found.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Verification {
    /// Largest difference between an image's scaled values, around [-0.5, 0.5), and what comes back. NaN if any is.
    pub max_error: f32,
    /// 8-bit pixels that come back different, in the model's bits.
    pub pixel_mismatches: usize,
    /// Largest condition number of a layer's matrices.
    pub max_condition_number: f64,
    /// The layer that alone inverts worst.
    pub worst_layer: String,
}

impl FlowModel {
    /// Encodes and decodes the images, and inverts every layer alone.
    pub fn verify(&self, pixels: &Pixels, call: &Call) -> Result<Verification> {
        let noise = Noise::midpoint();
        let latents = self.encode(pixels, &noise, call)?;
        let back = self.decode_scaled(&latents, call)?;
        let bits = self.config().bits();
        let scaled = dequantize::scaled_values(pixels, 0..pixels.count(), bits, &noise, 0);
        let max_error = scaled.iter().zip(&back).map(|(a, b)| (a - b).abs()).fold(0.0, larger);
        let (truth, found) = (dequantize::to_bytes(&scaled, bits), dequantize::to_bytes(&back, bits));
        let pixel_mismatches = truth.iter().zip(&found).filter(|(a, b)| a != b).count();

        let mut worst = Worst { layer: String::new(), error: -1.0, condition: 0.0 };
        let shape = pixels.shape();
        self.in_parts(pixels.count(), call, |range| {
            let values = scaled[range.start * shape.dims()..range.end * shape.dims()].to_vec();
            let device = self.device().clone();
            let so_far = worst.clone();
            worst = self.infer(call.precision, move |chain| {
                so_far.after(chain, dequantize::tensor(values, range.len(), shape, device.burn()))
            })?;
            Ok(())
        })?;
        Ok(Verification {
            max_error,
            pixel_mismatches,
            max_condition_number: worst.condition,
            worst_layer: worst.layer,
        })
    }
}

#[derive(Clone)]
struct Worst {
    layer: String,
    error: f32,
    condition: f64,
}

impl Worst {
    /// Inverts each layer on the true activations.
    fn after(mut self, chain: &Chain, x: Tensor<4>) -> Result<Self> {
        let _: ControlFlow<()> = chain.walk(x, |path, layer, x, out| {
            let error = read::<f32, 1>((layer.inverse(out.z.clone())? - x).abs().max())[0];
            if larger(self.error, error) != self.error {
                (self.error, self.layer) = (error, path.to_owned());
            }
            self.condition = self.condition.max(layer.condition_number());
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(self)
    }
}

/// The larger of two errors; NaN is the largest.
pub(super) fn larger<T: PartialOrd>(a: T, b: T) -> T {
    if a >= b || a.partial_cmp(&a).is_none() { a } else { b }
}
