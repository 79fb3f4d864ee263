//! Sums that stay per example until the one line that reduces them.

use burn::tensor::{Device, FloatDType, Tensor};

use crate::kernels;

/// Type in which per-example sums are kept: f64 on the CPU, f32 where the device has no f64.
pub fn accumulator(device: &Device) -> FloatDType {
    if kernels::is_cpu(device) { FloatDType::F64 } else { FloatDType::F32 }
}

/// The sum over each example's values. `[batch, height, width, channels]` to `[batch]`, [`accumulator`] type.
pub fn sum_per_example(values: Tensor<4>) -> Tensor<1> {
    let dtype = accumulator(&values.device());
    let [batch, height, width, channels] = values.dims();
    values.cast(dtype).reshape([batch, height * width * channels]).sum_dim(1).reshape([batch])
}

/// `[batch]` zeros of [`accumulator`] type.
pub fn zeros_per_example(x: &Tensor<4>) -> Tensor<1> {
    let device = x.device();
    Tensor::zeros([x.dims()[0]], (&device, accumulator(&device).into()))
}
