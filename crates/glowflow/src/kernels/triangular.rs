//! Inverses of triangular matrices without leaving the device.
//!
//! Training that rebuilds activations needs the inverse of each 1x1 convolution in each step; on the host it would be
//! one wait for the device a layer.

use burn::tensor::Tensor;

/// The inverse of a lower triangular matrix with ones on its diagonal, `[size, size]`.
///
/// Inverses of diagonal blocks are joined two by two, `[A 0; B C]^-1 = [A^-1 0; -C^-1 B A^-1 C^-1]`: as exact as
/// substitution, in `log2(size)` steps instead of `size`.
pub fn unit_lower_inverse(lower: Tensor<2>) -> Tensor<2> {
    let ([size, _], device, dtype) = (lower.dims(), lower.device(), lower.dtype());
    let padded = size.next_power_of_two();
    let eye = |size: usize| Tensor::<2>::eye(size, &device).cast(dtype);
    let lower = eye(padded).slice_assign([0..size, 0..size], lower);
    // The diagonal blocks' inverses. Shape `[blocks, side, side]`.
    let mut inverses = Tensor::<3>::ones([padded, 1, 1], &device).cast(dtype);
    let mut side = 1;
    while side < padded {
        let pairs = padded / (2 * side);
        let diagonal = eye(pairs).reshape([pairs, 1, pairs, 1]);
        let blocks = (lower.clone().reshape([pairs, 2 * side, pairs, 2 * side]) * diagonal).sum_dim(2);
        let below = blocks.reshape([pairs, 2 * side, 2 * side]).slice([0..pairs, side..2 * side, 0..side]);
        let both = inverses.reshape([pairs, 2, side, side]);
        let half = |at: usize| both.clone().slice([0..pairs, at..at + 1]).reshape([pairs, side, side]);
        let (first, second) = (half(0), half(1));
        let joined = second.clone().matmul(below).matmul(first.clone()).neg();
        let zeros = first.zeros_like();
        inverses = Tensor::cat(vec![Tensor::cat(vec![first, zeros], 2), Tensor::cat(vec![joined, second], 2)], 1);
        side *= 2;
    }
    inverses.reshape([padded, padded]).slice([0..size, 0..size])
}

/// The inverse of an upper triangular matrix of this diagonal, `[size, size]` and `[size, 1]`.
pub fn upper_inverse(upper: Tensor<2>, diagonal: Tensor<2>) -> Tensor<2> {
    // U = D (I + N): U^-1 = (I + N)^-1 D^-1.
    let [size, _] = diagonal.dims();
    let unit = (upper / diagonal.clone()).transpose();
    unit_lower_inverse(unit).transpose() / diagonal.reshape([1, size])
}

#[cfg(test)]
mod tests {
    use burn::tensor::{DType, Device, Distribution};

    use super::*;

    fn largest(x: Tensor<2>) -> f64 {
        x.abs().max().into_scalar::<f64>()
    }

    #[test]
    fn a_product_with_the_inverse_is_the_identity() {
        let device = Device::flex();
        for size in [1, 2, 3, 4, 6, 12, 48, 96] {
            let random = |scale: f64| {
                let values = Tensor::<2>::random([size, size], Distribution::Uniform(-scale, scale), &device);
                values.cast(DType::F64)
            };
            let eye = Tensor::<2>::eye(size, &device).cast(DType::F64);
            let lower = random(0.3).tril(-1) + eye.clone();
            let error = largest(unit_lower_inverse(lower.clone()).matmul(lower) - eye.clone());
            assert!(error < 1e-9, "{size}: {error}");

            let diagonal = random(1.0).slice([0..size, 0..1]).abs().add_scalar(0.5).neg();
            let upper = random(0.3).triu(1) + eye.clone() * diagonal.clone();
            let error = largest(upper_inverse(upper.clone(), diagonal).matmul(upper) - eye);
            assert!(error < 1e-8, "{size}: {error}");
        }
    }
}
