//! Sums over rows, in a fixed order.

use burn::tensor::Tensor;

use super::cpu;
use super::flex::{Values, tensor};
use super::host::read;

/// The sum of each column. `[rows, columns]` to `[columns]`.
pub fn column_sums(x: &Tensor<2>) -> Tensor<1> {
    let [_, columns] = x.dims();
    match Values::of(x) {
        Some(x) => narrowed(cpu::reduce::column_sums(&x, columns)),
        None => x.clone().sum_dim(0).reshape([columns]),
    }
}

/// The sum of each column of the elementwise product of `x` and `y`. `[rows, columns]` to `[columns]`.
pub fn column_dots(x: &Tensor<2>, y: &Tensor<2>) -> Tensor<1> {
    let [_, columns] = x.dims();
    match (Values::of(x), Values::of(y)) {
        (Some(x), Some(y)) => narrowed(cpu::reduce::column_dots(&x, &y, columns)),
        _ => (x.clone() * y.clone()).sum_dim(0).reshape([columns]),
    }
}

fn narrowed(sums: Vec<f64>) -> Tensor<1> {
    let columns = sums.len();
    tensor(sums.into_iter().map(|sum| sum as f32).collect::<Vec<_>>(), [columns])
}

/// The sum of the squares of all tensors' values, in their order, read back once.
pub fn sum_of_squares(tensors: &[Tensor<1>]) -> f64 {
    let on_host: Option<Vec<f64>> =
        tensors.iter().map(|tensor| Values::of(tensor).map(|values| cpu::reduce::sum_of_squares(&values))).collect();
    let sums = on_host.unwrap_or_else(|| read(each_squared(tensors)));
    sums.into_iter().sum()
}

/// As [`sum_of_squares`], left on the device. Shape `[1]`.
pub fn device_sum_of_squares(tensors: &[Tensor<1>]) -> Tensor<1> {
    each_squared(tensors).sum()
}

fn each_squared(tensors: &[Tensor<1>]) -> Tensor<1> {
    Tensor::cat(tensors.iter().map(|tensor| tensor.clone().square().sum()).collect(), 0)
}
