//! The edge channel of Glow's code as a bias map.
//!
//! That code concatenates one more input channel, 1 on the zero-padded border and 0 inside. Its contribution depends on
//! the pixel alone: the sum of its weights over the taps that fall outside the image.

use burn::tensor::{Device, Tensor, TensorData};

use crate::kernels::pixel;

/// For each pixel of an image, which of its nine taps fall outside. Shape `[1, height, width, 9]`.
pub fn outside(height: usize, width: usize, like: &Tensor<2>) -> Tensor<4> {
    let mut values = Vec::with_capacity(height * width * 9);
    for row in 0..height {
        for column in 0..width {
            for tap in 0..9 {
                let inside = (1..=height).contains(&(row + tap / 3)) && (1..=width).contains(&(column + tap % 3));
                values.push(if inside { 0.0f32 } else { 1.0 });
            }
        }
    }
    let device: Device = like.device();
    Tensor::<4>::from_data(TensorData::new(values, [1, height, width, 9]), &device).cast(like.dtype())
}

/// The bias of each pixel: the channels' own bias, and the edge weights, `[channels, 9]`, of the taps outside.
/// Without edge weights one row serves all pixels. Shape `[1 or height * width, channels]`.
pub fn bias_map(bias: Tensor<1>, edge: Option<Tensor<2>>, [height, width]: [usize; 2]) -> Tensor<2> {
    let [channels] = bias.dims();
    match edge {
        None => bias.reshape([1, channels]),
        Some(edge) => pixel::forward(&outside(height, width, &edge), &edge, &bias).reshape([height * width, channels]),
    }
}

/// Gradient of the edge weights from that of the bias map. Shape `[channels, 9]`.
pub fn edge_gradient(edge: &Tensor<2>, map: Tensor<2>, [height, width]: [usize; 2]) -> Tensor<2> {
    let [channels, _] = edge.dims();
    pixel::backward(&outside(height, width, edge), edge, &map.reshape([1, height, width, channels])).weight
}
