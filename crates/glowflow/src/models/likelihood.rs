//! From log-densities to the numbers that papers report.

use std::f64::consts::LN_2;

use serde::Serialize;

use crate::images::ImageShape;

/// Bits per dimension over a data set.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Evaluation {
    /// Mean over the images.
    pub bits_per_dim: f64,
    /// Standard error of that mean.
    pub standard_error: f64,
    /// Images that were scored.
    pub images: usize,
    /// Part of the images that the classifier takes for another class; where the model has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub classification_error: Option<f64>,
}

impl Evaluation {
    /// Of each image's bits per dimension, and how many the classifier got wrong.
    pub(super) fn of(bits: &[f64], misclassified: Option<usize>) -> Self {
        let count = bits.len() as f64;
        let mean = bits.iter().sum::<f64>() / count;
        let variance = bits.iter().map(|b| (b - mean).powi(2)).sum::<f64>() / (count - 1.0).max(1.0);
        Self {
            bits_per_dim: mean,
            standard_error: (variance / count).sqrt(),
            images: bits.len(),
            classification_error: misclassified.map(|wrong| wrong as f64 / count),
        }
    }
}

/// Log-probability of a `bits`-bit image from the log-density of its scaled values, whose bins are 2^-bits wide; nats.
pub(crate) fn discrete_log_prob(log_density: f64, shape: ImageShape, bits: u32) -> f64 {
    log_density - shape.dims() as f64 * f64::from(bits) * LN_2
}

/// `-log_prob / (D ln 2)`. `log_prob` in nats.
pub fn bits_per_dim(log_prob: f64, shape: ImageShape) -> f64 {
    -log_prob / (shape.dims() as f64 * LN_2)
}

/// `ln mean exp` of the draws of one image: the importance-weighted bound of Burda et al. 2015.
pub(super) fn log_mean_exp(draws: &[f64]) -> f64 {
    let largest = draws.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if !largest.is_finite() {
        return largest;
    }
    largest + (draws.iter().map(|d| (d - largest).exp()).sum::<f64>() / draws.len() as f64).ln()
}

/// Probabilities in proportion to the exponentials.
pub(super) fn normalized(logs: &[f64]) -> Vec<f64> {
    let largest = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let each: Vec<f64> = logs.iter().map(|log| (log - largest).exp()).collect();
    let sum: f64 = each.iter().sum();
    each.into_iter().map(|each| each / sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uniform_eight_bit_data_cost_eight_bits_under_a_uniform_density() {
        let shape = ImageShape { height: 2, width: 3, channels: 1 };
        assert_eq!(bits_per_dim(discrete_log_prob(0.0, shape, 8), shape), 8.0);
    }

    #[test]
    fn more_draws_never_lower_the_bound_of_equal_weights() {
        assert!((log_mean_exp(&[-1000.0, -1000.0]) + 1000.0).abs() < 1e-12);
        assert!((log_mean_exp(&[0.0, f64::NEG_INFINITY]) + LN_2).abs() < 1e-12);
    }
}
