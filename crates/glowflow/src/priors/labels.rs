//! The classes of a batch, as tensors.

use burn::tensor::{Device, Tensor, TensorData};

use crate::kernels::pixel;

/// One row an example: 1 at its class, 0 elsewhere.
#[derive(Debug, Clone)]
pub struct Labels {
    /// Shape `[batch, classes]`.
    pub one_hot: Tensor<2>,
}

impl Labels {
    /// Of these classes, each below `classes`.
    pub fn new(labels: &[u32], classes: usize, device: &Device) -> Self {
        let mut values = vec![0.0f32; labels.len() * classes];
        for (row, &label) in values.chunks_exact_mut(classes).zip(labels) {
            row[label as usize] = 1.0;
        }
        Self { one_hot: Tensor::from_data(TensorData::new(values, [labels.len(), classes]), device) }
    }

    /// The row of `table`, `[classes, columns]`, of each example. Shape `[batch, columns]`.
    pub(super) fn rows_of(&self, table: &Tensor<2>) -> Tensor<2> {
        let ([batch, classes], [_, columns]) = (self.one_hot.dims(), table.dims());
        let one_hot = self.one_hot.clone().cast(table.dtype()).reshape([batch, 1, 1, classes]);
        let zeros = Tensor::zeros([columns], (&table.device(), table.dtype()));
        pixel::forward(&one_hot, &table.clone().transpose(), &zeros).reshape([batch, columns])
    }

    /// Gradient of a table from that of [`Labels::rows_of`], `[batch, columns]`. Shape of `table`.
    pub(super) fn table_gradient(&self, table: &Tensor<2>, rows: Tensor<2>) -> Tensor<2> {
        let ([batch, classes], [_, columns]) = (self.one_hot.dims(), rows.dims());
        let one_hot = self.one_hot.clone().reshape([batch, 1, 1, classes]);
        pixel::backward(&one_hot, &table.clone().transpose(), &rows.reshape([batch, 1, 1, columns])).weight.transpose()
    }
}
