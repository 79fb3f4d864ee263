//! Blocks of 2x2 pixels as one pixel, and back.

use burn::tensor::Tensor;

use super::cpu;
use super::flex::{Rows, Values, grid, tensor};

/// `[batch, 2h, 2w, c]` to `[batch, h, w, 4c]`; output channel `4 * channel + 2 * dy + dx`.
pub fn squeeze(x: Tensor<4>) -> Tensor<4> {
    let [batch, height, width, channels] = x.dims();
    let shape = [batch, height / 2, width / 2, 4 * channels];
    if let Some(rows) = Rows::of(&x) {
        return tensor(cpu::squeeze::squeeze(grid(&x), &rows, rows.distance, channels), shape);
    }
    x.reshape([batch, height / 2, 2, width / 2, 2, channels]).permute([0, 1, 3, 5, 2, 4]).reshape(shape)
}

/// Undoes [`squeeze`].
pub fn unsqueeze(z: Tensor<4>) -> Tensor<4> {
    let [batch, height, width, channels] = z.dims();
    let shape = [batch, 2 * height, 2 * width, channels / 4];
    if let Some(values) = Values::of(&z) {
        return tensor(cpu::squeeze::unsqueeze(grid(&z), &values, channels), shape);
    }
    z.reshape([batch, height, width, channels / 4, 2, 2]).permute([0, 1, 4, 2, 5, 3]).reshape(shape)
}
