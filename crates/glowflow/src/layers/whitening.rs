//! What NICE's data go through before the first coupling: moved to [0, 1], standardised or whitened.
//!
//! Dinh, Krueger & Bengio 2015, section 5.1.

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use nalgebra::{DMatrix, DVector, SymmetricEigen};
use serde::{Deserialize, Serialize};

use super::scaling::diagonal_condition_number;
use crate::error::{Error, Result};
use crate::flow::{Cotangent, Fixed, Forward, Gradients, Invertible, Layer, Output, Pass, Pullback, accumulator};
use crate::kernels::{host::read, pixel};
use crate::linalg;

/// Added to a variance before its root is inverted: a direction that the images do not have is scaled by at most 100.
const VARIANCE_FLOOR: f64 = 1e-4;

/// From the pixels' range to [0, 1].
const OFFSET: f64 = 0.5;

/// What becomes of the pixels before the first coupling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WhiteningKind {
    /// They are taken as they are, in [0, 1].
    None,
    /// Each is standardised: mean 0 and variance 1 over the images.
    Approximate,
    /// All are decorrelated: mean 0 and covariance 1, by the symmetric matrix that does so (ZCA).
    Zca,
}

/// `y = E diag(exp(log_scale)) E^T (x - mean)`, of `[batch, 1, 1, D]`. Set from data once, never trained.
#[derive(Module, Debug)]
pub struct Whitening {
    /// Shape `[D]`. `None`: the pixels are moved to [0, 1].
    pub mean: Option<Fixed<1>>,
    /// Shape `[D]`. `None`: 0.
    pub log_scale: Option<Fixed<1>>,
    /// `E`, the covariance's eigenvectors as columns. Shape `[D, D]`. `None`: the identity.
    pub basis: Option<Fixed<2>>,
}

impl Whitening {
    /// The identity on `dims` values, but for the offset, until [`Whitening::set_from`].
    pub fn new(kind: WhiteningKind, dims: usize, device: &Device) -> Self {
        let zeros = || Fixed::new(Tensor::zeros([dims], device));
        let whitens = kind != WhiteningKind::None;
        Self {
            mean: whitens.then(zeros),
            log_scale: whitens.then(zeros),
            basis: (kind == WhiteningKind::Zca).then(|| Fixed::new(Tensor::eye(dims, device))),
        }
    }

    /// Sets mean and scale from data; `parts` are `[images, 1, 1, D]`. In f64.
    ///
    /// # Errors
    ///
    /// [`Error::NotFinite`] where the data are not.
    pub fn set_from(&mut self, parts: &[Tensor<4>], path: &str) -> Result<()> {
        let Some(mean) = &mut self.mean else { return Ok(()) };
        let parts: Vec<DMatrix<f64>> = parts.iter().map(to_rows).collect();
        let images = parts.iter().map(DMatrix::nrows).sum::<usize>() as f64;
        let sum = |part: &DMatrix<f64>| part.row_sum().transpose();
        let center: DVector<f64> = parts.iter().map(sum).reduce(|a, b| a + b).expect("at least one part") / images;
        if center.iter().any(|value| !value.is_finite()) {
            return Err(Error::NotFinite { what: "the data's mean".into(), step: 0, layer: path.into() });
        }
        let centered = parts.into_iter().map(|mut part| {
            part.row_iter_mut().for_each(|mut row| row -= center.transpose());
            part
        });
        let device = mean.value.val().device();
        let variances = match &mut self.basis {
            None => {
                let squares = centered.map(|part| sum(&part.component_mul(&part)));
                squares.reduce(|a, b| a + b).expect("at least one part") / images
            }
            Some(basis) => {
                let squares = centered.map(|part| part.transpose() * part);
                let covariance = squares.reduce(|a, b| a + b).expect("at least one part") / images;
                let SymmetricEigen { eigenvectors, eigenvalues } = covariance.symmetric_eigen();
                let dtype = basis.value.val().dtype();
                *basis = Fixed::new(linalg::to_device(&eigenvectors, dtype, &device));
                eigenvalues
            }
        };
        // A variance of 0 may come out of the eigenvalues just below it.
        let log_scale = variances.map(|variance| -0.5 * (variance.max(0.0) + VARIANCE_FLOOR).ln());
        let set = |values: DVector<f64>| {
            let values: Vec<f32> = values.iter().map(|&value| value as f32).collect();
            let shape = [values.len()];
            Fixed::new(Tensor::from_data(TensorData::new(values, shape), &device))
        };
        *mean = set(center);
        self.log_scale = Some(set(log_scale));
        Ok(())
    }
}

/// One row an image.
fn to_rows(part: &Tensor<4>) -> DMatrix<f64> {
    let [images, .., dims] = part.dims();
    DMatrix::from_row_iterator(images, dims, read::<f64, 4>(part.clone()))
}

impl Layer for Whitening {
    type Prepared = PreparedWhitening;

    fn prepare(&self, _path: &str, _pass: Pass) -> Result<PreparedWhitening> {
        let values = |fixed: &Option<Fixed<1>>| fixed.as_ref().map(|fixed| fixed.value.val());
        let basis = self.basis.as_ref().map(|basis| Basis::of(basis.value.val()));
        Ok(PreparedWhitening { mean: values(&self.mean), log_scale: values(&self.log_scale), basis })
    }
}

/// A [`Whitening`] ready to run.
#[derive(Debug, Clone)]
pub struct PreparedWhitening {
    mean: Option<Tensor<1>>,
    log_scale: Option<Tensor<1>>,
    basis: Option<Basis>,
}

/// A [`Whitening`] as other programs write it: `y = stretch(x - mean)` and `x = unstretch(y) + mean`.
#[derive(Debug, Clone)]
pub struct FoldedWhitening {
    /// `D` values, or one for all.
    pub mean: Vec<f32>,
    /// `None`: the identity.
    pub stretch: Option<Stretch>,
    /// Nats.
    pub log_det: f64,
}

/// What centred values are multiplied by.
#[derive(Debug, Clone)]
pub enum Stretch {
    /// Each by its own factor.
    Diagonal {
        /// Shape `[D]`.
        scale: Tensor<1>,
        /// `1 / scale`.
        inverse: Tensor<1>,
    },
    /// All by a matrix.
    Matrix {
        /// Shape `[D, D]`.
        weight: Tensor<2>,
        /// Its inverse.
        inverse: Tensor<2>,
    },
}

/// `E` and its transpose, which is its inverse.
#[derive(Debug, Clone)]
struct Basis {
    columns: Tensor<2>,
    rows: Tensor<2>,
    /// Shape `[D]`.
    zeros: Tensor<1>,
}

impl Basis {
    fn of(columns: Tensor<2>) -> Self {
        let [dims, _] = columns.dims();
        let zeros = Tensor::zeros([dims], (&columns.device(), columns.dtype()));
        Self { rows: columns.clone().transpose(), columns, zeros }
    }
}

/// `[D]` as `[1, 1, 1, D]`.
fn row(values: Tensor<1>) -> Tensor<4> {
    let [dims] = values.dims();
    values.reshape([1, 1, 1, dims])
}

impl PreparedWhitening {
    /// As one map, its matrix made in f64.
    pub fn folded(&self) -> FoldedWhitening {
        let mean = self.mean.clone().map_or_else(|| vec![-OFFSET as f32], read);
        let Some(log_scale) = &self.log_scale else { return FoldedWhitening { mean, stretch: None, log_det: 0.0 } };
        let logs: Vec<f64> = read(log_scale.clone());
        let stretch = match &self.basis {
            None => Stretch::Diagonal { scale: log_scale.clone().exp(), inverse: log_scale.clone().neg().exp() },
            Some(Basis { columns, .. }) => {
                let basis = linalg::to_host(columns);
                let stretched = |sign: f64| {
                    let scale = DMatrix::from_diagonal(&DVector::from_iterator(
                        logs.len(),
                        logs.iter().map(|log| (sign * log).exp()),
                    ));
                    let matrix = &basis * scale * basis.transpose();
                    linalg::to_device(&matrix, columns.dtype(), &columns.device())
                };
                Stretch::Matrix { weight: stretched(1.0), inverse: stretched(-1.0) }
            }
        };
        FoldedWhitening { mean, stretch: Some(stretch), log_det: logs.iter().sum() }
    }

    /// `E diag(scale) E^T x`; the matrix is symmetric, so that a gradient takes the same way.
    fn stretch(&self, x: Tensor<4>, scale: Tensor<1>) -> Tensor<4> {
        match &self.basis {
            None => x * row(scale),
            Some(basis) => {
                let along = pixel::forward(&x, &basis.rows, &basis.zeros) * row(scale);
                pixel::forward(&along, &basis.columns, &basis.zeros)
            }
        }
    }

    fn pull_back(&self, dz: Tensor<4>) -> Tensor<4> {
        match &self.log_scale {
            None => dz,
            Some(log_scale) => self.stretch(dz, log_scale.clone().exp()),
        }
    }
}

impl Invertible for PreparedWhitening {
    type Saved = Tensor<4>;

    fn forward(&self, x: Tensor<4>) -> Forward {
        let [batch, ..] = x.dims();
        let dtype = accumulator(&x.device());
        let log_det = match &self.log_scale {
            None => Tensor::zeros([batch], (&x.device(), dtype.into())),
            Some(log_scale) => log_scale.clone().cast(dtype).sum().expand([batch]),
        };
        let centered = match &self.mean {
            None => x.add_scalar(OFFSET),
            Some(mean) => x - row(mean.clone()),
        };
        Forward::new(self.pull_back(centered), log_det)
    }

    fn forward_saving(&self, x: Tensor<4>) -> (Forward, Tensor<4>) {
        (self.forward(x.clone()), x)
    }

    fn inverse(&self, z: Tensor<4>) -> Result<Tensor<4>> {
        let centered = match &self.log_scale {
            None => z,
            Some(log_scale) => self.stretch(z, log_scale.clone().neg().exp()),
        };
        Ok(match &self.mean {
            None => centered.sub_scalar(OFFSET),
            Some(mean) => centered + row(mean.clone()),
        })
    }

    fn backward(
        &self,
        out: Output,
        saved: Option<Tensor<4>>,
        cotangent: Cotangent,
        _gradients: &mut Gradients,
    ) -> Result<Pullback> {
        let x = saved.map_or_else(|| self.inverse(out.z), Ok)?;
        Ok(Pullback { x, dx: self.pull_back(cotangent.z) })
    }

    fn condition_number(&self) -> f64 {
        self.log_scale.as_ref().map_or(1.0, diagonal_condition_number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::Mode;
    use crate::random::{Key, Purpose};

    const DIMS: usize = 6;

    /// Correlated values, far wider than the floor.
    fn data(images: usize) -> Tensor<4> {
        let mut values = vec![0.0; images * DIMS];
        Key { seed: 1, purpose: Purpose::Sample, step: 0, image: 0 }.stream().fill_normal(10.0, &mut values);
        for row in values.chunks_exact_mut(DIMS) {
            for at in 1..DIMS {
                row[at] = 0.5 * row[at] + row[at - 1] + 3.0;
            }
        }
        Tensor::from_data(TensorData::new(values, [images, 1, 1, DIMS]), &Device::flex())
    }

    fn moments(x: &DMatrix<f64>) -> (DVector<f64>, DMatrix<f64>) {
        let mean = x.row_mean().transpose();
        (mean.clone(), x.transpose() * x / x.nrows() as f64 - &mean * mean.transpose())
    }

    #[test]
    fn zca_leaves_no_correlation_and_approximate_whitening_no_scale() {
        let parts: Vec<Tensor<4>> = data(400).chunk(3, 0);
        let (_, covariance) = moments(&to_rows(&data(400)));
        for kind in [WhiteningKind::Approximate, WhiteningKind::Zca] {
            let mut whitening = Whitening::new(kind, DIMS, &Device::flex());
            whitening.set_from(&parts, "input").unwrap();
            let out = whitening.prepare("input", Mode::Evaluation.into()).unwrap().forward(data(400));
            let (mean, found) = moments(&to_rows(&out.z));
            assert!(mean.amax() < 1e-4, "{kind:?}: {mean}");
            let off = match kind {
                WhiteningKind::Zca => (found - DMatrix::identity(DIMS, DIMS)).amax(),
                _ => (found.diagonal() - DVector::repeat(DIMS, 1.0)).amax(),
            };
            assert!(off < 1e-4, "{kind:?}: {off:e}");
            let variances = match kind {
                WhiteningKind::Zca => covariance.clone().symmetric_eigenvalues(),
                _ => covariance.diagonal(),
            };
            let truth = -0.5 * variances.iter().map(|v| (v + VARIANCE_FLOOR).ln()).sum::<f64>();
            let found: Vec<f64> = read(out.log_det);
            assert!((found[7] - truth).abs() < 1e-5, "{kind:?}: {} is not {truth}", found[7]);
        }
    }

    #[test]
    fn fixed_numbers_are_no_trained_parameters() {
        let whitening = Whitening::new(WhiteningKind::Zca, DIMS, &Device::flex());
        assert!(crate::flow::named_parameters(&whitening).is_empty());
    }
}
