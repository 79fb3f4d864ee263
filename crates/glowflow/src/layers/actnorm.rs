//! Activation normalisation: a scale and a bias for each channel, set from data once.
//!
//! Kingma & Dhariwal 2018, section 3.1.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData};

use crate::error::{Error, Result};
use crate::kernels::{cpu, host::read};

/// The stored log-scale times this is the log-scale: larger steps of the same learning rate, as in Glow's code.
pub const LOG_SCALE_FACTOR: f32 = 3.0;

/// Added to a standard deviation before it is inverted, as in Glow's code.
const DEVIATION_FLOOR: f64 = 1e-6;

/// `y = (x + bias) exp(3 log_scale)`. Also the normalisation inside coupling nets, where it needs no log-det.
#[derive(Module, Debug)]
pub struct ActNorm {
    /// Shape `[channels]`.
    pub bias: Param<Tensor<1>>,
    /// A third of the log-scale. Shape `[channels]`.
    pub log_scale: Param<Tensor<1>>,
}

impl ActNorm {
    /// The identity on `channels`.
    pub fn new(channels: usize, device: &Device) -> Self {
        Self {
            bias: Param::from_tensor(Tensor::zeros([channels], device)),
            log_scale: Param::from_tensor(Tensor::zeros([channels], device)),
        }
    }

    /// `exp(3 log_scale)`. Shape `[channels]`.
    pub fn scale(&self) -> Tensor<1> {
        self.log_scale.val().mul_scalar(LOG_SCALE_FACTOR).exp()
    }

    /// Sets bias and scale so that data of these moments come out with mean 0 and variance 1.
    ///
    /// A channel without variance is an [`Error::Data`] that names it.
    pub fn set_from(&mut self, moments: &Moments, path: &str) -> Result<()> {
        let device = self.bias.val().device();
        let (mut bias, mut log_scale) = (Vec::new(), Vec::new());
        for channel in 0..moments.sums.len() {
            let (mean, deviation) = moments.of(channel);
            if !mean.is_finite() || !deviation.is_finite() {
                return Err(Error::NotFinite {
                    what: "the data's mean".into(),
                    step: 0,
                    layer: format!("{path}, channel {channel}"),
                });
            }
            if deviation <= mean.abs() * 1e-7 {
                return Err(Error::Data {
                    what: format!("channel {channel} of {path}"),
                    index: None,
                    reason: format!("expected values that vary but all of them are {mean}"),
                });
            }
            bias.push(-mean as f32);
            log_scale.push((-(deviation + DEVIATION_FLOOR).ln() / f64::from(LOG_SCALE_FACTOR)) as f32);
        }
        let set = |values: Vec<f32>| {
            let shape = [values.len()];
            Param::from_tensor(Tensor::from_data(TensorData::new(values, shape), &device))
        };
        self.bias = set(bias);
        self.log_scale = set(log_scale);
        Ok(())
    }
}

/// Sums over every pixel of a data set's activations, gathered a part at a time.
#[derive(Debug, Default)]
pub struct Moments {
    rows: usize,
    sums: Vec<f64>,
    squares: Vec<f64>,
}

impl Moments {
    /// Adds activations. Shape `[rows, channels]`.
    pub fn add(&mut self, x: Tensor<2>) {
        let [rows, channels] = x.dims();
        let values: Vec<f32> = read(x);
        let (sums, squares) =
            (cpu::reduce::column_sums(&values, channels), cpu::reduce::column_dots(&values, &values, channels));
        if self.rows == 0 {
            (self.sums, self.squares) = (sums, squares);
        } else {
            let add = |total: &mut Vec<f64>, part: Vec<f64>| total.iter_mut().zip(part).for_each(|(t, p)| *t += p);
            add(&mut self.sums, sums);
            add(&mut self.squares, squares);
        }
        self.rows += rows;
    }

    /// Mean and standard deviation of a channel.
    fn of(&self, channel: usize) -> (f64, f64) {
        let mean = self.sums[channel] / self.rows as f64;
        let variance = self.squares[channel] / self.rows as f64 - mean * mean;
        (mean, variance.max(0.0).sqrt())
    }
}
