//! The classes of a batch, as tensors.

use burn::tensor::{Device, Tensor, TensorData};

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
}
