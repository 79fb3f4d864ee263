//! Moving values about without changing them: volume preserving.

use burn::tensor::Tensor;

/// One of the fixed orders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rearrange {
    /// `[batch, 2h, 2w, c]` to `[batch, h, w, 4c]`; output channel `4 * channel + 2 * dy + dx`.
    ///
    /// Dinh, Sohl-Dickstein & Bengio 2017, section 3.6; the order is that of Glow's code.
    Squeeze,
    /// Undoes [`Rearrange::Squeeze`].
    Unsqueeze,
}

impl Rearrange {
    /// Image to latent. Also what a gradient takes on its way there.
    pub fn forward(self, x: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Squeeze => squeeze(x),
            Self::Unsqueeze => unsqueeze(x),
        }
    }

    /// Undoes [`Rearrange::forward`].
    pub fn inverse(self, z: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Squeeze => unsqueeze(z),
            Self::Unsqueeze => squeeze(z),
        }
    }
}

fn squeeze(x: Tensor<4>) -> Tensor<4> {
    let [batch, height, width, channels] = x.dims();
    x.reshape([batch, height / 2, 2, width / 2, 2, channels]).permute([0, 1, 3, 5, 2, 4]).reshape([
        batch,
        height / 2,
        width / 2,
        4 * channels,
    ])
}

fn unsqueeze(z: Tensor<4>) -> Tensor<4> {
    let [batch, height, width, channels] = z.dims();
    z.reshape([batch, height, width, channels / 4, 2, 2]).permute([0, 1, 4, 2, 5, 3]).reshape([
        batch,
        2 * height,
        2 * width,
        channels / 4,
    ])
}
