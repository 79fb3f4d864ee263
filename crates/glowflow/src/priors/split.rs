//! Half of the channels leave the flow; what remains predicts them.
//!
//! Dinh, Sohl-Dickstein & Bengio 2017, section 3.6; the learned prior is that of Glow's code.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::{FoldedNormal, FoldedPrior, FreeNormal, Labels};
use crate::flow::Gradients;
use crate::kernels::normal::{self, Layout};
use crate::nets::{Padding, PreparedZeroConv, ZeroConv, ZeroConvConfig};

/// `p(gone | kept)`, a diagonal normal; a standard one without any of these.
#[derive(Module, Debug)]
pub struct Split {
    /// From the kept channels to mean and log-deviation of the gone ones, interleaved.
    pub prior: Option<ZeroConv>,
    /// The gone channels' own, whatever the kept ones are.
    pub normal: Option<FreeNormal>,
}

/// Sizes and form of a [`Split`].
#[derive(Debug, Clone, Copy)]
pub struct SplitConfig {
    /// Height, width and channels before the split.
    pub shape: [usize; 3],
    /// Where mean and log-deviation come from.
    pub form: PriorForm,
}

/// Where a prior's mean and log-deviation come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PriorForm {
    /// A zero-initialised convolution: of the kept channels, at the top of zeros.
    Conv(Padding),
    /// They are trained themselves, for each of the classes where there are some.
    Free {
        /// Of the model.
        classes: Option<usize>,
    },
}

impl SplitConfig {
    /// A standard normal at first.
    pub fn init(self, device: &Device) -> Split {
        match self.form {
            PriorForm::Conv(padding) => Split { prior: Some(self.conv(padding).init(device)), normal: None },
            PriorForm::Free { classes } => {
                Split { prior: None, normal: Some(FreeNormal::new(self.gone(), classes, device)) }
            }
        }
    }

    /// Trained numbers.
    pub fn parameters(self) -> usize {
        match self.form {
            PriorForm::Conv(padding) => self.conv(padding).parameters(),
            PriorForm::Free { classes } => FreeNormal::parameters(self.gone(), classes),
        }
    }

    fn conv(self, padding: Padding) -> ZeroConvConfig {
        let [_, _, channels] = self.shape;
        ZeroConvConfig { inputs: channels / 2, outputs: channels, padding, scaled: true }
    }

    fn gone(self) -> [usize; 3] {
        let [height, width, channels] = self.shape;
        [height, width, channels / 2]
    }
}

impl Split {
    /// For activations of this height and width.
    pub fn prepare(&self, size: [usize; 2]) -> PreparedSplit {
        PreparedSplit { prior: self.prior.as_ref().map(|prior| prior.prepare(size)), normal: self.normal.clone() }
    }
}

/// A [`Split`] ready to run.
#[derive(Debug, Clone)]
pub struct PreparedSplit {
    prior: Option<PreparedZeroConv>,
    normal: Option<FreeNormal>,
}

/// Mean and log-deviation. Shape `[batch or 1, height, width, 2 * channels]`.
struct Parameters {
    layout: Layout,
    h: Tensor<4>,
}

impl PreparedSplit {
    fn parameters(&self, kept: &Tensor<4>, labels: Option<&Labels>) -> Parameters {
        let [_, height, width, channels] = kept.dims();
        match (&self.prior, &self.normal) {
            (Some(prior), _) => Parameters { layout: Layout::Interleaved, h: prior.forward(kept) },
            (None, Some(normal)) => Parameters { layout: Layout::Halves, h: normal.forward([height, width], labels) },
            (None, None) => {
                let h = Tensor::zeros([1, height, width, 2 * channels], (&kept.device(), kept.dtype()));
                Parameters { layout: Layout::Halves, h }
            }
        }
    }

    /// Whether the prior differs from class to class.
    pub fn sees_class(&self) -> bool {
        self.normal.as_ref().is_some_and(FreeNormal::sees_class)
    }

    /// As other programs write it.
    pub fn folded(&self) -> FoldedPrior {
        match (&self.prior, &self.normal) {
            (Some(prior), _) => FoldedPrior::Conv(prior.folded()),
            (None, Some(normal)) => FoldedPrior::Normal(normal.folded()),
            (None, None) => FoldedPrior::Normal(FoldedNormal::standard()),
        }
    }

    /// `ln p(gone | kept)` of each example, nats.
    pub fn log_prob(&self, kept: &Tensor<4>, gone: &Tensor<4>, labels: Option<&Labels>) -> Tensor<1> {
        let Parameters { layout, h } = self.parameters(kept, labels);
        normal::log_prob(layout, gone, &h)
    }

    /// The gone channels as noise: standard normal under the model.
    pub fn to_noise(&self, kept: &Tensor<4>, gone: &Tensor<4>, labels: Option<&Labels>) -> Tensor<4> {
        let Parameters { layout, h } = self.parameters(kept, labels);
        normal::to_noise(layout, gone, &h)
    }

    /// [`PreparedSplit::log_prob`] and [`PreparedSplit::to_noise`].
    pub fn encode(&self, kept: &Tensor<4>, gone: &Tensor<4>, labels: Option<&Labels>) -> (Tensor<1>, Tensor<4>) {
        let Parameters { layout, h } = self.parameters(kept, labels);
        (normal::log_prob(layout, gone, &h), normal::to_noise(layout, gone, &h))
    }

    /// The gone channels from their noise.
    pub fn from_noise(&self, kept: &Tensor<4>, noise: &Tensor<4>, labels: Option<&Labels>) -> Tensor<4> {
        let Parameters { layout, h } = self.parameters(kept, labels);
        normal::from_noise(layout, noise, &h)
    }

    /// Gradients of kept and gone channels from the cotangent of the log-probability, `[batch]`.
    pub fn backward(
        &self,
        kept: &Tensor<4>,
        gone: &Tensor<4>,
        labels: Option<&Labels>,
        cotangent: &Tensor<1>,
        gradients: &mut Gradients,
    ) -> (Tensor<4>, Tensor<4>) {
        let Parameters { layout, h } = self.parameters(kept, labels);
        let g = normal::backward(layout, gone, &h, cotangent);
        if let Some(prior) = &self.prior {
            return (prior.backward(kept, &g.h, gradients), g.x);
        }
        if let Some(normal) = &self.normal {
            normal.backward(g.h, labels, gradients);
        }
        (kept.zeros_like(), g.x)
    }
}
