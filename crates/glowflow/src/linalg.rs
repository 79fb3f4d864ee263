//! Small matrices on the host, in f64: rotations, factors, inverses and determinants.

use burn::tensor::{DType, Device, Tensor, TensorData};
use nalgebra::DMatrix;

use crate::kernels::host::read;
use crate::random::{Key, Purpose};

/// A rotation or reflection, every one equally likely: Q of the QR factors of a normal matrix, signs by R's diagonal.
pub fn random_rotation(size: usize, seed: u64, layer: u64) -> DMatrix<f64> {
    let mut values = vec![0.0; size * size];
    Key { seed, purpose: Purpose::Weights, step: layer, image: 0 }.stream().fill_normal(1.0, &mut values);
    let (mut q, r) = DMatrix::from_iterator(size, size, values.into_iter().map(f64::from)).qr().unpack();
    for column in 0..size {
        if r[(column, column)] < 0.0 {
            q.column_mut(column).neg_mut();
        }
    }
    q
}

/// `W = P L U` by partial pivoting: `L` unit lower, and `P` as the row of `L U` that each row of `W` is.
pub struct Plu {
    /// Row `i` of `W` is row `rows[i]` of `L U`.
    pub rows: Vec<usize>,
    /// Unit lower triangular.
    pub lower: DMatrix<f64>,
    /// Upper triangular.
    pub upper: DMatrix<f64>,
}

/// Factors of a square matrix.
pub fn plu(weight: DMatrix<f64>) -> Plu {
    let size = weight.nrows();
    let lu = weight.lu();
    let mut order = DMatrix::from_fn(size, 1, |row, _| row);
    lu.p().permute_rows(&mut order);
    let mut rows = vec![0; size];
    for (position, &row) in order.iter().enumerate() {
        rows[row] = position;
    }
    Plu { rows, lower: lu.l(), upper: lu.u() }
}

/// `ln |det W|` as the sum over an LU's diagonal; `None` where the matrix is singular or not finite.
pub fn log_abs_det(weight: &DMatrix<f64>) -> Option<f64> {
    let upper = weight.clone().lu().u();
    let sum: f64 = upper.diagonal().iter().map(|d| d.abs().ln()).sum();
    sum.is_finite().then_some(sum)
}

/// The inverse; `None` where the matrix is singular or not finite.
pub fn inverse(weight: &DMatrix<f64>) -> Option<DMatrix<f64>> {
    weight.clone().try_inverse().filter(|inverse| inverse.iter().all(|v| v.is_finite()))
}

/// Ratio of the largest to the smallest singular value.
pub fn condition_number(weight: &DMatrix<f64>) -> f64 {
    let values = weight.singular_values();
    values.max() / values.min()
}

/// Reads a tensor back.
pub fn to_host(tensor: &Tensor<2>) -> DMatrix<f64> {
    let [rows, columns] = tensor.dims();
    let values: Vec<f64> = read(tensor.clone());
    DMatrix::from_row_iterator(rows, columns, values)
}

/// A tensor of the given type from a host matrix.
pub fn to_device(matrix: &DMatrix<f64>, dtype: DType, device: &Device) -> Tensor<2> {
    let shape = [matrix.nrows(), matrix.ncols()];
    let values: Vec<f64> = matrix.transpose().iter().copied().collect();
    let data = TensorData::new(values, shape).convert_dtype(dtype);
    Tensor::from_data(data, (device, dtype))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_random_rotation_is_orthogonal() {
        let q = random_rotation(48, 3, 1);
        let error = (&q * q.transpose() - DMatrix::identity(48, 48)).amax();
        assert!(error < 1e-12, "{error}");
        assert!(log_abs_det(&q).unwrap().abs() < 1e-12);
    }

    #[test]
    fn factors_rebuild_the_matrix() {
        let w = random_rotation(12, 3, 2) * 3.0;
        let Plu { rows, lower, upper } = plu(w.clone());
        let product = &lower * &upper;
        let rebuilt = DMatrix::from_fn(12, 12, |i, j| product[(rows[i], j)]);
        assert!((rebuilt - w).amax() < 1e-12);
    }

    #[test]
    fn a_singular_matrix_has_neither_inverse_nor_determinant() {
        let w = DMatrix::from_element(3, 3, 1.0);
        assert!(inverse(&w).is_none());
        assert!(log_abs_det(&w).is_none());
        assert!(inverse(&DMatrix::from_element(2, 2, f64::NAN)).is_none());
    }
}
