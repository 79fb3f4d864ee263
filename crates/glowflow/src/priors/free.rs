//! A diagonal normal whose means and log-deviations are trained themselves: it sees the class at most.
//!
//! `GlowBase` and `ClassCondDiagGaussian` of normflows' code.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

use super::{FoldedNormal, Labels};
use crate::flow::Gradients;
use crate::kernels::{reduce, taps};
use crate::layers::LOG_SCALE_FACTOR;

/// A normal that is trained itself.
#[derive(Module, Debug)]
pub enum FreeNormal {
    /// The same at every pixel.
    Channels(ChannelNormal),
    /// One for each class, pixel and channel.
    Classes(ClassNormal),
}

/// Mean `loc exp(3 loc_logs)`, log-deviation `log_scale exp(3 log_scale_logs)` of each channel; all `[channels]`.
#[derive(Module, Debug)]
pub struct ChannelNormal {
    /// Of the mean.
    pub loc: Param<Tensor<1>>,
    /// A third of the logarithm of its factor.
    pub loc_logs: Param<Tensor<1>>,
    /// Of the log-deviation.
    pub log_scale: Param<Tensor<1>>,
    /// A third of the logarithm of its factor.
    pub log_scale_logs: Param<Tensor<1>>,
}

/// One row a class. Both `[classes, height, width, channels]`.
#[derive(Module, Debug)]
pub struct ClassNormal {
    /// Of each class.
    pub mean: Param<Tensor<4>>,
    /// Of each class.
    pub log_deviation: Param<Tensor<4>>,
}

impl FreeNormal {
    /// A standard normal at first, for latents of this shape; of each class where there are some.
    pub fn new([height, width, channels]: [usize; 3], classes: Option<usize>, device: &Device) -> Self {
        if let Some(classes) = classes {
            let zeros = || Param::from_tensor(Tensor::zeros([classes, height, width, channels], device));
            return Self::Classes(ClassNormal { mean: zeros(), log_deviation: zeros() });
        }
        let zeros = || Param::from_tensor(Tensor::zeros([channels], device));
        let (loc, loc_logs, log_scale, log_scale_logs) = (zeros(), zeros(), zeros(), zeros());
        Self::Channels(ChannelNormal { loc, loc_logs, log_scale, log_scale_logs })
    }

    /// Trained numbers.
    pub fn parameters([height, width, channels]: [usize; 3], classes: Option<usize>) -> usize {
        classes.map_or(4 * channels, |classes| 2 * classes * height * width * channels)
    }

    /// Whether it needs labels.
    pub fn sees_class(&self) -> bool {
        matches!(self, Self::Classes(_))
    }

    /// Means in the first half of the channels, log-deviations in the second. Shape `[1 or batch, height, width,
    /// 2 * channels]`.
    pub fn forward(&self, [height, width]: [usize; 2], labels: Option<&Labels>) -> Tensor<4> {
        match self {
            Self::Channels(normal) => {
                let [channels] = normal.loc.dims();
                let halves =
                    vec![scaled(&normal.loc, &normal.loc_logs), scaled(&normal.log_scale, &normal.log_scale_logs)];
                Tensor::cat(halves, 0).reshape([1, 1, 1, 2 * channels]).repeat(&[1, height, width, 1])
            }
            Self::Classes(normal) => {
                let rows = needed(labels).rows_of(&normal.table());
                let ([batch, _], [.., channels]) = (rows.dims(), normal.mean.dims());
                rows.reshape([batch, height, width, 2 * channels])
            }
        }
    }

    /// As tables.
    pub fn folded(&self) -> FoldedNormal {
        match self {
            Self::Channels(_) => FoldedNormal { shared: Some(self.forward([1, 1], None)), by_class: None },
            Self::Classes(normal) => {
                let [classes, height, width, channels] = normal.mean.dims();
                let table = normal.table().reshape([classes, height, width, 2 * channels]);
                FoldedNormal { shared: None, by_class: Some(table) }
            }
        }
    }

    /// Adds the parameters' gradients from that of [`FreeNormal::forward`].
    pub fn backward(&self, dh: Tensor<4>, labels: Option<&Labels>, gradients: &mut Gradients) {
        match self {
            Self::Channels(normal) => {
                let [channels] = normal.loc.dims();
                let sums = reduce::column_sums(&taps::rows(dh));
                let (mean, log_deviation) = (sums.clone().narrow(0, 0, channels), sums.narrow(0, channels, channels));
                add_scaled(&normal.loc, &normal.loc_logs, mean, gradients);
                add_scaled(&normal.log_scale, &normal.log_scale_logs, log_deviation, gradients);
            }
            Self::Classes(normal) => {
                let [batch, height, width, columns] = dh.dims();
                let rows = dh.reshape([batch, height * width * columns]);
                let table = needed(labels).table_gradient(&normal.table(), rows);
                let [classes, _] = table.dims();
                let table = table.reshape([classes, height, width, columns]);
                let half = columns / 2;
                let of = |from: usize| table.clone().slice([0..classes, 0..height, 0..width, from..from + half]);
                gradients.add(&normal.mean, of(0));
                gradients.add(&normal.log_deviation, of(half));
            }
        }
    }
}

impl ClassNormal {
    /// Shape `[classes, height * width * 2 * channels]`.
    fn table(&self) -> Tensor<2> {
        let [classes, height, width, channels] = self.mean.dims();
        let halves = vec![self.mean.val(), self.log_deviation.val()];
        Tensor::cat(halves, 3).reshape([classes, height * width * 2 * channels])
    }
}

fn scaled(value: &Param<Tensor<1>>, logs: &Param<Tensor<1>>) -> Tensor<1> {
    value.val() * logs.val().mul_scalar(LOG_SCALE_FACTOR).exp()
}

fn add_scaled(value: &Param<Tensor<1>>, logs: &Param<Tensor<1>>, d: Tensor<1>, gradients: &mut Gradients) {
    gradients.add(logs, (d.clone() * scaled(value, logs)).mul_scalar(LOG_SCALE_FACTOR));
    gradients.add(value, d * logs.val().mul_scalar(LOG_SCALE_FACTOR).exp());
}

/// Calls are checked for labels before they get here.
fn needed(labels: Option<&Labels>) -> &Labels {
    labels.expect("a class-conditional prior gets labels")
}
