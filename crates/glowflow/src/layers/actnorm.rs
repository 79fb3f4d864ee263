//! Activation normalisation: a scale and a bias for each channel, set from data once.
//!
//! Kingma & Dhariwal 2018, section 3.1.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData};

use crate::error::{Error, Result};
use crate::flow::Gradients;
use crate::kernels::{cpu, host::read};

/// The stored log-scale times this is the log-scale: larger steps of the same learning rate, as in Glow's code.
pub const LOG_SCALE_FACTOR: f32 = 3.0;

/// Added to a standard deviation before it is inverted, as in Glow's code; like there it is that of the data themselves,
/// not the unbiased estimate of rosinality's and normflows' code.
const DEVIATION_FLOOR: f64 = 1e-6;

/// What is trained of a channel's scale `s`: projects differ, and with them what a step of an optimizer does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScaleForm {
    /// `ln s / 3`, as in Glow's code.
    ThirdOfLog,
    /// `ln s`.
    Log,
    /// `s` itself, of either sign.
    Linear,
}

impl ScaleForm {
    /// `s` of what is trained.
    pub fn scale(self, trained: Tensor<1>) -> Tensor<1> {
        match self {
            Self::ThirdOfLog => trained.mul_scalar(LOG_SCALE_FACTOR).exp(),
            Self::Log => trained.exp(),
            Self::Linear => trained,
        }
    }

    /// `ln |s|` of what is trained.
    pub fn log_scale(self, trained: Tensor<1>) -> Tensor<1> {
        match self {
            Self::ThirdOfLog => trained.mul_scalar(LOG_SCALE_FACTOR),
            Self::Log => trained,
            Self::Linear => trained.abs().log(),
        }
    }

    /// Gradient of what is trained from that of `ln |s|`.
    pub fn gradient(self, trained: Tensor<1>, log_scale: Tensor<1>) -> Tensor<1> {
        match self {
            Self::ThirdOfLog => log_scale.mul_scalar(LOG_SCALE_FACTOR),
            Self::Log => log_scale,
            Self::Linear => log_scale / trained,
        }
    }

    /// What is trained of `s = 1`.
    pub(super) fn unit(self) -> f32 {
        self.of(1.0)
    }

    /// What is trained of a positive `s`.
    fn of(self, scale: f64) -> f32 {
        let trained = match self {
            Self::ThirdOfLog => scale.ln() / f64::from(LOG_SCALE_FACTOR),
            Self::Log => scale.ln(),
            Self::Linear => scale,
        };
        trained as f32
    }
}

/// `y = (x + bias) s`. Also what follows the convolutions inside coupling nets, where it needs no log-det.
#[derive(Module, Debug)]
pub struct ActNorm {
    /// Shape `[channels]`.
    pub bias: Param<Tensor<1>>,
    /// What is trained of `s`, in its [`ScaleForm`]; `None`: `s` is 1, and data set nothing. Shape `[channels]`.
    pub scale: Option<Param<Tensor<1>>>,
    #[module(skip)]
    form: Option<ScaleForm>,
}

impl ActNorm {
    /// The identity on `channels`, its scale trained in this form; without one it has a bias alone.
    pub fn new(channels: usize, form: Option<ScaleForm>, device: &Device) -> Self {
        let scale = form.map(|form| Param::from_tensor(Tensor::full([channels], form.unit(), device)));
        Self { bias: Param::from_tensor(Tensor::zeros([channels], device)), scale, form }
    }

    /// `s`. Shape `[channels]`.
    pub fn scale(&self) -> Tensor<1> {
        match (&self.scale, self.form) {
            (Some(trained), Some(form)) => form.scale(trained.val()),
            _ => self.bias.val().ones_like(),
        }
    }

    /// `ln |s|`. Shape `[channels]`.
    pub fn log_scale(&self) -> Tensor<1> {
        match (&self.scale, self.form) {
            (Some(trained), Some(form)) => form.log_scale(trained.val()),
            _ => self.bias.val().zeros_like(),
        }
    }

    /// Adds the gradient of what is trained of `s` from that of `ln |s|`, `[channels]`.
    pub fn add_scale_gradient(&self, log_scale: Tensor<1>, gradients: &mut Gradients) {
        if let (Some(trained), Some(form)) = (&self.scale, self.form) {
            gradients.add(trained, form.gradient(trained.val(), log_scale));
        }
    }

    /// Sets bias and scale so that data of these moments come out with mean 0 and variance 1.
    ///
    /// A channel without variance is an [`Error::Data`] that names it.
    pub fn set_from(&mut self, moments: &Moments, path: &str) -> Result<()> {
        let Some(form) = self.form else { return Ok(()) };
        let device = self.bias.val().device();
        let (mut bias, mut scale) = (Vec::new(), Vec::new());
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
            scale.push(form.of(1.0 / (deviation + DEVIATION_FLOOR)));
        }
        let set = |values: Vec<f32>| {
            let shape = [values.len()];
            Param::from_tensor(Tensor::from_data(TensorData::new(values, shape), &device))
        };
        self.bias = set(bias);
        self.scale = Some(set(scale));
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
