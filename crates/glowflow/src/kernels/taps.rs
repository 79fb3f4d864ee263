//! A 3x3 convolution with zero padding as a matrix product, composed of burn operations.
//!
//! Tap `t` of pixel `p` is the pixel at row offset `t / 3 - 1` and column offset `t % 3 - 1`.

use burn::tensor::Tensor;

/// Each pixel's nine taps side by side. `[batch, height, width, channels]` to `[.., 9 * channels]`, tap-major.
///
/// `backward` takes the tap at the opposite offset: the transpose of [`add_taps`].
pub fn unfold(x: Tensor<4>, backward: bool) -> Tensor<4> {
    let [batch, height, width, channels] = x.dims();
    let padded = Tensor::zeros([batch, height + 2, width + 2, channels], (&x.device(), x.dtype()))
        .slice_assign([0..batch, 1..height + 1, 1..width + 1, 0..channels], x);
    let taps = (0..9).map(|tap| {
        let (row, column) = offset(tap, backward);
        padded.clone().slice([0..batch, row..row + height, column..column + width, 0..channels])
    });
    Tensor::cat(taps.collect(), 3)
}

/// Sums each pixel's taps, every one read from the pixel it belongs to. `[.., 9 * channels]` to `[.., channels]`.
pub fn add_taps(z: Tensor<4>, backward: bool) -> Tensor<4> {
    let [batch, height, width, columns] = z.dims();
    let channels = columns / 9;
    let padded = Tensor::zeros([batch, height + 2, width + 2, columns], (&z.device(), z.dtype()))
        .slice_assign([0..batch, 1..height + 1, 1..width + 1, 0..columns], z);
    let taps = (0..9).map(|tap| {
        let (row, column) = offset(tap, backward);
        let columns = tap * channels..(tap + 1) * channels;
        padded.clone().slice([0..batch, row..row + height, column..column + width, columns])
    });
    taps.reduce(|sum, tap| sum + tap).expect("nine taps")
}

/// Where a tap starts in the padded image.
fn offset(tap: usize, backward: bool) -> (usize, usize) {
    let tap = if backward { 8 - tap } else { tap };
    (tap / 3, tap % 3)
}

/// Adds a bias that is one row for all pixels or one for each pixel of an image. `bias` is `[1 or height * width, c]`.
pub fn add_bias(y: Tensor<4>, bias: Tensor<2>) -> Tensor<4> {
    let [_, height, width, channels] = y.dims();
    let [rows, _] = bias.dims();
    y + bias.reshape(if rows == 1 { [1, 1, 1, channels] } else { [1, height, width, channels] })
}

/// Gradient of [`add_bias`]'s bias, which had `rows` rows.
pub fn bias_gradient(dy: Tensor<4>, rows: usize) -> Tensor<2> {
    let [batch, height, width, channels] = dy.dims();
    let over = batch * height * width / rows;
    dy.reshape([over, rows * channels]).sum_dim(0).reshape([rows, channels])
}

/// One row a pixel. `[batch, height, width, channels]` to `[batch * height * width, channels]`.
pub fn rows(x: Tensor<4>) -> Tensor<2> {
    let [batch, height, width, channels] = x.dims();
    x.reshape([batch * height * width, channels])
}

/// A matrix product of every pixel: `x` times `w`, `[channels, columns]`.
pub fn product(x: Tensor<4>, w: Tensor<2>) -> Tensor<4> {
    let [batch, height, width, _] = x.dims();
    let [_, columns] = w.dims();
    rows(x).matmul(w).reshape([batch, height, width, columns])
}
