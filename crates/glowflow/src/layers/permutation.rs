//! What mixes the channels between two couplings: reversal, a fixed shuffle, or an invertible 1x1 convolution.
//!
//! Kingma & Dhariwal 2018, section 3.2. The matrix is `[out, in]`, `y = W x`, plain and PLU alike.

use burn::module::{Module, Param};
use burn::tensor::{Device, Int, Tensor, TensorData};
use nalgebra::DMatrix;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::flow::Gradients;
use crate::kernels::triangular::{unit_lower_inverse, upper_inverse};
use crate::linalg;
use crate::random::{Key, Purpose};

/// The kinds of permutation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PermutationKind {
    /// 1x1 convolution as `P L U`, log-determinant in O(channels).
    #[serde(rename = "conv1x1-lu")]
    Conv1x1Lu,
    /// 1x1 convolution, its matrix itself trained.
    #[serde(rename = "conv1x1")]
    Conv1x1,
    /// A fixed random order of the channels.
    #[serde(rename = "shuffle")]
    Shuffle,
    /// Channels in reverse order.
    #[serde(rename = "reverse")]
    Reverse,
}

/// A trained or fixed matrix over the channels.
#[derive(Module, Debug)]
pub struct Permutation {
    /// Plain: `W`. PLU: `L` below the diagonal, `U` above it, `ln |diag U|` on it. Shape `[channels, channels]`.
    pub weight: Option<Param<Tensor<2>>>,
    /// Fixed: the input channel of each output channel. PLU: the row of `L U` that each row of `W` is. Shape `[channels]`.
    pub order: Option<Param<Tensor<1, Int>>>,
    /// PLU: the fixed signs of U's diagonal, 1 or -1. Shape `[channels]`.
    pub signs: Option<Param<Tensor<1, Int>>>,
}

impl Permutation {
    /// A random rotation, a random order or the reversal of `channels`.
    pub fn new(kind: PermutationKind, channels: usize, seed: u64, layer: u64, device: &Device) -> Self {
        let matrix = |values: &DMatrix<f64>| {
            Some(Param::from_tensor(linalg::to_device(values, burn::tensor::DType::F32, device)))
        };
        let integers = |values: Vec<i64>| {
            let shape = [values.len()];
            let tensor = Tensor::<1, Int>::from_data(TensorData::new(values, shape), device);
            Some(Param::initialized(burn::module::ParamId::new(), tensor))
        };
        match kind {
            PermutationKind::Conv1x1 => {
                let rotation = linalg::random_rotation(channels, seed, layer);
                Self { weight: matrix(&rotation), order: None, signs: None }
            }
            PermutationKind::Conv1x1Lu => {
                let factors = linalg::plu(linalg::random_rotation(channels, seed, layer));
                let diagonal = factors.upper.diagonal();
                let mut packed = factors.lower.lower_triangle() + factors.upper.upper_triangle();
                packed.set_diagonal(&diagonal.map(|d| d.abs().ln()));
                Self {
                    weight: matrix(&packed),
                    order: integers(factors.rows.iter().map(|&row| row as i64).collect()),
                    signs: integers(diagonal.iter().map(|d| d.signum() as i64).collect()),
                }
            }
            PermutationKind::Shuffle => {
                let key = Key { seed, purpose: Purpose::Weights, step: layer, image: 0 };
                let order = key.stream().permutation(channels);
                Self { weight: None, order: integers(order.into_iter().map(|c| c as i64).collect()), signs: None }
            }
            PermutationKind::Reverse => {
                Self { weight: None, order: integers((0..channels as i64).rev().collect()), signs: None }
            }
        }
    }

    /// The matrix and what its gradient needs. `path` names the layer if it is singular.
    pub(super) fn matrix(&self, path: &str) -> Result<Matrix> {
        match (&self.weight, &self.order, &self.signs) {
            (Some(weight), None, _) => Matrix::plain(weight.clone(), path),
            (Some(weight), Some(order), Some(signs)) => Ok(Matrix::lu(weight.clone(), order.val(), signs.val())),
            (None, Some(order), _) => Ok(Matrix::fixed(order.val())),
            _ => unreachable!("a permutation has a weight, an order or both"),
        }
    }
}

/// A [`Permutation`]'s matrix at one state of its weights.
#[derive(Debug, Clone)]
pub(super) struct Matrix {
    /// Shape `[channels, channels]`.
    pub weight: Tensor<2>,
    /// `ln |det W|` of one pixel, nats. Shape `[1]`.
    pub log_det: Tensor<1>,
    trained: Trained,
}

#[derive(Debug, Clone)]
enum Trained {
    Fixed,
    Plain { parameter: Param<Tensor<2>>, inverse_transposed: Tensor<2> },
    Lu { parameter: Param<Tensor<2>>, rows: Tensor<2>, lower: Tensor<2>, upper: Tensor<2>, diagonal: Tensor<2> },
}

impl Matrix {
    fn fixed(order: Tensor<1, Int>) -> Self {
        let device = order.device();
        let [channels] = order.dims();
        let weight = Tensor::eye(channels, &device).select(0, order);
        Self { weight, log_det: Tensor::zeros([1], &device), trained: Trained::Fixed }
    }

    fn plain(parameter: Param<Tensor<2>>, path: &str) -> Result<Self> {
        let weight = parameter.val();
        let [channels, _] = weight.dims();
        let host = linalg::to_host(&weight);
        let singular = || Error::Singular { layer: path.to_owned() };
        let log_det = linalg::log_abs_det(&host).ok_or_else(singular)?;
        let inverse = linalg::inverse(&host).ok_or_else(singular)?;
        let inverse_transposed = linalg::to_device(&inverse.transpose(), weight.dtype(), &weight.device());
        // The host's log-det, carried by a term whose gradient is its own: sum(W * W^-T) is the number of channels.
        let tracked = weight.clone() * inverse_transposed.clone();
        let log_det = tracked.sum().sub_scalar(channels as f64).add_scalar(log_det);
        Ok(Self { weight, log_det, trained: Trained::Plain { parameter, inverse_transposed } })
    }

    fn lu(parameter: Param<Tensor<2>>, order: Tensor<1, Int>, signs: Tensor<1, Int>) -> Self {
        let packed = parameter.val();
        let [channels, _] = packed.dims();
        let eye = Tensor::<2>::eye(channels, &packed.device()).cast(packed.dtype());
        let log_diagonal = (packed.clone() * eye.clone()).sum_dim(1);
        let signs = signs.float().cast(packed.dtype()).reshape([channels, 1]);
        let diagonal = eye.clone() * (log_diagonal.clone().exp() * signs);
        let lower = packed.clone().tril(-1) + eye.clone();
        let upper = packed.triu(1) + diagonal.clone();
        let rows = eye.select(0, order);
        Self {
            weight: rows.clone().matmul(lower.clone().matmul(upper.clone())),
            log_det: log_diagonal.sum(),
            trained: Trained::Lu { parameter, rows, lower, upper, diagonal },
        }
    }

    /// The inverse's factors in the order in which they are applied, found without leaving the device; `None` where only
    /// the host can find them.
    ///
    /// Not multiplied with each other: in f32 that would cost digits.
    pub fn device_inverse(&self) -> Option<Vec<Tensor<2>>> {
        match &self.trained {
            Trained::Fixed => Some(vec![self.weight.clone().transpose()]),
            Trained::Plain { .. } => None,
            Trained::Lu { rows, lower, upper, diagonal, .. } => {
                let lower = unit_lower_inverse(lower.clone()).matmul(rows.clone().transpose());
                Some(vec![lower, upper_inverse(upper.clone(), diagonal.clone().sum_dim(1))])
            }
        }
    }

    /// Adds the parameter's gradient from that of the matrix, `[channels, channels]`, and of [`Matrix::log_det`], `[1]`.
    pub fn backward(&self, weight: Tensor<2>, log_det: Tensor<1>, gradients: &mut Gradients) {
        match &self.trained {
            Trained::Fixed => {}
            Trained::Plain { parameter, inverse_transposed } => {
                gradients.add(parameter, weight + inverse_transposed.clone() * log_det.reshape([1, 1]));
            }
            Trained::Lu { parameter, rows, lower, upper, diagonal } => {
                let product = rows.clone().transpose().matmul(weight);
                let d_lower = product.clone().matmul(upper.clone().transpose());
                let d_upper = lower.clone().transpose().matmul(product);
                let [channels, _] = diagonal.dims();
                let eye = Tensor::<2>::eye(channels, &diagonal.device()).cast(diagonal.dtype());
                let d_log_diagonal = d_upper.clone() * diagonal.clone() + eye * log_det.reshape([1, 1]);
                gradients.add(parameter, d_lower.tril(-1) + d_upper.triu(1) + d_log_diagonal);
            }
        }
    }
}
