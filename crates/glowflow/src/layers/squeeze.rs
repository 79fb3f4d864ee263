//! Space to channels, 2 x 2: volume preserving.

use burn::tensor::Tensor;

/// `[batch, 2h, 2w, c]` to `[batch, h, w, 4c]`; output channel `4 * channel + 2 * dy + dx`.
///
/// Dinh, Sohl-Dickstein & Bengio 2017, section 3.6; the order is that of Glow's code.
pub fn squeeze(x: Tensor<4>) -> Tensor<4> {
    let [batch, height, width, channels] = x.dims();
    x.reshape([batch, height / 2, 2, width / 2, 2, channels]).permute([0, 1, 3, 5, 2, 4]).reshape([
        batch,
        height / 2,
        width / 2,
        4 * channels,
    ])
}

/// Undoes [`squeeze`].
pub fn unsqueeze(z: Tensor<4>) -> Tensor<4> {
    let [batch, height, width, channels] = z.dims();
    z.reshape([batch, height, width, channels / 4, 2, 2]).permute([0, 1, 4, 2, 5, 3]).reshape([
        batch,
        2 * height,
        2 * width,
        channels / 4,
    ])
}
