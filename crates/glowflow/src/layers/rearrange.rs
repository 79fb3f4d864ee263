//! Moving values about without changing them: volume preserving.

use burn::tensor::Tensor;

use crate::kernels::squeeze::{squeeze, unsqueeze};

/// One of the fixed orders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rearrange {
    /// `[batch, 2h, 2w, c]` to `[batch, h, w, 4c]`; output channel `4 * channel + 2 * dy + dx`.
    ///
    /// Dinh, Sohl-Dickstein & Bengio 2017, section 3.6; the order is that of Glow's code.
    Squeeze,
    /// Undoes [`Rearrange::Squeeze`].
    Unsqueeze,
    /// Images of this height, width and channels, `[batch, h, w, c]`, to `[batch, 1, 1, h w c]`: the values at even
    /// places in their order, then those at odd ones.
    ///
    /// Dinh, Krueger & Bengio 2015, section 5.1; the order `tile` of NICE's code.
    Tile([usize; 3]),
    /// The channels from the last to the first; undoes itself.
    Reverse,
    /// `[batch, 2h, 2w, c]` to `[batch, h, w, 4c]`; output channel `place * c + channel`, where the pixels (0, 0),
    /// (1, 1), (0, 1), (1, 0) of each block have the places 0 to 3: a split leaves a diagonal of each block.
    ///
    /// Dinh, Sohl-Dickstein & Bengio 2017, section 3.6; the order is that of its code.
    OrderedSqueeze,
}

impl Rearrange {
    /// Image to latent. Also what a gradient takes on its way there.
    pub fn forward(self, x: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Squeeze => squeeze(x),
            Self::Unsqueeze => unsqueeze(x),
            Self::Tile(shape) => tile(x, shape),
            Self::Reverse => x.flip([3]),
            Self::OrderedSqueeze => ordered_squeeze(x),
        }
    }

    /// Undoes [`Rearrange::forward`].
    pub fn inverse(self, z: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Squeeze => unsqueeze(z),
            Self::Unsqueeze => squeeze(z),
            Self::Tile(shape) => untile(z, shape),
            Self::Reverse => z.flip([3]),
            Self::OrderedSqueeze => ordered_unsqueeze(z),
        }
    }
}

fn tile(x: Tensor<4>, [height, width, channels]: [usize; 3]) -> Tensor<4> {
    let ([batch, ..], dims) = (x.dims(), height * width * channels);
    x.reshape([batch, dims / 2, 2]).swap_dims(1, 2).reshape([batch, 1, 1, dims])
}

fn untile(z: Tensor<4>, [height, width, channels]: [usize; 3]) -> Tensor<4> {
    let ([batch, ..], dims) = (z.dims(), height * width * channels);
    z.reshape([batch, 2, dims / 2]).swap_dims(1, 2).reshape([batch, height, width, channels])
}

fn ordered_squeeze(x: Tensor<4>) -> Tensor<4> {
    let [batch, height, width, channels] = x.dims();
    let blocks = x.reshape([batch, height / 2, 2, width / 2, 2, channels]);
    let pixel = |row, column| {
        let pixel = blocks.clone().narrow(2, row, 1).narrow(4, column, 1);
        pixel.reshape([batch, height / 2, width / 2, channels])
    };
    Tensor::cat(vec![pixel(0, 0), pixel(1, 1), pixel(0, 1), pixel(1, 0)], 3)
}

fn ordered_unsqueeze(z: Tensor<4>) -> Tensor<4> {
    let [batch, height, width, channels] = z.dims();
    let shape = [batch, height, 1, width, 1, channels / 4];
    let pixel = |place: usize| z.clone().narrow(3, place * channels / 4, channels / 4).reshape(shape);
    let top = Tensor::cat(vec![pixel(0), pixel(2)], 4);
    let bottom = Tensor::cat(vec![pixel(3), pixel(1)], 4);
    Tensor::cat(vec![top, bottom], 2).reshape([batch, 2 * height, 2 * width, channels / 4])
}
