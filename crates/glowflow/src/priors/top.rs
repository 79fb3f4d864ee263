//! The prior of the coarsest latents, and what tells their class.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::{ClassScores, FoldedNormal, FreeNormal, Labels, PriorForm};
use crate::flow::Gradients;
use crate::kernels::normal::{self, Layout};
use crate::kernels::reduce;
use crate::nets::{PreparedZeroConv, PreparedZeroLinear, ZeroConv, ZeroConvConfig, ZeroLinear};

/// A standard normal without any of its parts. Mean in the first half of their outputs, log-deviation in the second.
#[derive(Module, Debug)]
pub struct TopPrior {
    /// A convolution of zeros, so that only its bias and edge weights act.
    pub learned: Option<ZeroConv>,
    /// In its place: a normal that is trained itself.
    pub normal: Option<FreeNormal>,
    /// From the class to what it adds at every pixel.
    pub classes: Option<ZeroLinear>,
    /// From the mean of the latents over pixels to the logits of the classes.
    pub classifier: Option<ZeroLinear>,
}

/// Sizes and form of a [`TopPrior`].
#[derive(Debug, Clone, Copy)]
pub struct TopConfig {
    /// Height, width and channels of the coarsest latents.
    pub shape: [usize; 3],
    /// Where mean and log-deviation come from; `None`: a standard normal.
    pub form: Option<PriorForm>,
    /// Channels of the zeros that a convolution sees.
    pub inputs: usize,
    /// Classes that move mean and log-deviation, beside a free form.
    pub classes: Option<usize>,
    /// Classes that a classifier tells apart.
    pub classifier: Option<usize>,
}

impl TopConfig {
    /// A standard normal at first, and a classifier that knows nothing.
    pub fn init(self, device: &Device) -> TopPrior {
        let [_, _, channels] = self.shape;
        let (learned, normal) = match self.form {
            None => (None, None),
            Some(PriorForm::Conv(padding)) => (Some(self.conv(padding).init(device)), None),
            Some(PriorForm::Free { classes }) => (None, Some(FreeNormal::new(self.shape, classes, device))),
        };
        TopPrior {
            learned,
            normal,
            classes: self.classes.map(|classes| ZeroLinear::new(classes, 2 * channels, device)),
            classifier: self.classifier.map(|classes| ZeroLinear::new(channels, classes, device)),
        }
    }

    /// Trained numbers.
    pub fn parameters(self) -> usize {
        let [_, _, channels] = self.shape;
        let prior = match self.form {
            None => 0,
            Some(PriorForm::Conv(padding)) => self.conv(padding).parameters(),
            Some(PriorForm::Free { classes }) => FreeNormal::parameters(self.shape, classes),
        };
        let classes = self.classes.map_or(0, |classes| ZeroLinear::parameters(classes, 2 * channels));
        let classifier = self.classifier.map_or(0, |classes| ZeroLinear::parameters(channels, classes));
        prior + classes + classifier
    }

    fn conv(self, padding: crate::nets::Padding) -> ZeroConvConfig {
        let [_, _, channels] = self.shape;
        ZeroConvConfig { inputs: self.inputs, outputs: 2 * channels, padding, scaled: true }
    }
}

impl TopPrior {
    /// A standard normal.
    pub fn standard() -> Self {
        Self { learned: None, normal: None, classes: None, classifier: None }
    }

    /// For latents of this shape, height, width and channels, and the type of `like`. `class_weight` is what the
    /// classifier's log-probability counts for in [`PreparedTop::backward`].
    pub fn prepare(&self, [height, width, channels]: [usize; 3], class_weight: f64, like: &Tensor<1>) -> PreparedTop {
        let inputs = self.learned.as_ref().map_or(2 * channels, |conv| conv.weight.dims()[0]);
        let zeros = Tensor::zeros([1, height, width, inputs], (&like.device(), like.dtype()));
        let learned = self.learned.as_ref().map(|conv| conv.prepare([height, width]));
        let shared = learned.as_ref().map_or_else(|| zeros.clone(), |conv| conv.forward(&zeros));
        PreparedTop {
            zeros,
            learned,
            normal: self.normal.clone(),
            classes: self.classes.as_ref().map(ZeroLinear::prepare),
            classifier: self.classifier.as_ref().map(ZeroLinear::prepare),
            class_weight,
            shared,
        }
    }
}

/// A [`TopPrior`] ready to run.
#[derive(Debug, Clone)]
pub struct PreparedTop {
    zeros: Tensor<4>,
    learned: Option<PreparedZeroConv>,
    normal: Option<FreeNormal>,
    classes: Option<PreparedZeroLinear>,
    classifier: Option<PreparedZeroLinear>,
    class_weight: f64,
    /// Of the convolution, shared by the batch. Shape `[1, height, width, 2 * channels]`.
    shared: Tensor<4>,
}

impl PreparedTop {
    /// Mean and log-deviation. Shape `[batch or 1, height, width, 2 * channels]`.
    fn parameters(&self, labels: Option<&Labels>) -> Tensor<4> {
        let [_, height, width, columns] = self.shared.dims();
        let h = match &self.normal {
            Some(normal) => normal.forward([height, width], labels),
            None => self.shared.clone(),
        };
        match (&self.classes, labels) {
            (Some(classes), Some(labels)) => {
                let [batch, _] = labels.one_hot.dims();
                h + classes.forward(&labels.one_hot.clone().cast(self.zeros.dtype())).reshape([batch, 1, 1, columns])
            }
            _ => h,
        }
    }

    /// Whether the prior differs from class to class.
    pub fn sees_class(&self) -> bool {
        self.classes.is_some() || self.normal.as_ref().is_some_and(FreeNormal::sees_class)
    }

    /// As other programs write it.
    pub fn folded(&self) -> FoldedNormal {
        if let Some(normal) = &self.normal {
            return normal.folded();
        }
        let by_class = self.classes.as_ref().map(|classes| {
            let table = classes.table();
            let [count, columns] = table.dims();
            table.reshape([count, 1, 1, columns])
        });
        FoldedNormal { shared: self.learned.as_ref().map(|_| self.shared.clone()), by_class }
    }

    /// `ln p(z)` of each example, nats.
    pub fn log_prob(&self, z: &Tensor<4>, labels: Option<&Labels>) -> Tensor<1> {
        normal::log_prob(Layout::Halves, z, &self.parameters(labels))
    }

    /// The latents as noise: standard normal under the model.
    pub fn to_noise(&self, z: &Tensor<4>, labels: Option<&Labels>) -> Tensor<4> {
        normal::to_noise(Layout::Halves, z, &self.parameters(labels))
    }

    /// Undoes [`PreparedTop::to_noise`].
    pub fn from_noise(&self, noise: &Tensor<4>, labels: Option<&Labels>) -> Tensor<4> {
        normal::from_noise(Layout::Halves, noise, &self.parameters(labels))
    }

    /// What the classifier says of the latents, where there is one.
    pub fn class_scores(&self, z: &Tensor<4>) -> Option<ClassScores> {
        Some(ClassScores { logits: self.classifier.as_ref()?.forward(&pixel_means(z)) })
    }

    /// What training adds to the log-probability of each example: the classifier's of the label, times its weight; nats.
    /// Nothing without a classifier.
    pub fn class_term(&self, z: &Tensor<4>, labels: Option<&Labels>) -> Option<Tensor<1>> {
        Some(self.class_scores(z)?.log_prob(labels?).mul_scalar(self.class_weight))
    }

    /// Gradient of the latents from the cotangent, `[batch]`, of [`PreparedTop::log_prob`] plus
    /// [`PreparedTop::class_term`].
    pub fn backward(
        &self,
        z: &Tensor<4>,
        labels: Option<&Labels>,
        cotangent: &Tensor<1>,
        gradients: &mut Gradients,
    ) -> Tensor<4> {
        let g = normal::backward(Layout::Halves, z, &self.parameters(labels), cotangent);
        if let (Some(classes), Some(labels)) = (&self.classes, labels) {
            classes.backward(&labels.one_hot, &pixel_sums(&g.h), gradients);
        }
        if let Some(normal) = &self.normal {
            normal.backward(self.summed(g.h, normal.sees_class()), labels, gradients);
        } else if let Some(conv) = &self.learned {
            conv.backward(&self.zeros, &self.summed(g.h, false), gradients);
        }
        match (&self.classifier, labels) {
            (Some(classifier), Some(labels)) => {
                let [batch, height, width, channels] = z.dims();
                let means = pixel_means(z);
                let scores = ClassScores { logits: classifier.forward(&means) };
                let dlogits = scores.backward(labels, &cotangent.clone().mul_scalar(self.class_weight));
                let dmeans = classifier.backward(&means, &dlogits, gradients).div_scalar((height * width) as f64);
                g.x + dmeans.reshape([batch, 1, 1, channels])
            }
            _ => g.x,
        }
    }

    /// Gradient of what the batch shares, from that of each example; as it is where each has its own.
    fn summed(&self, dh: Tensor<4>, each: bool) -> Tensor<4> {
        let [batch, height, width, columns] = dh.dims();
        if each || batch == 1 {
            return dh;
        }
        let rows = dh.reshape([batch, height * width * columns]);
        reduce::column_sums(&rows).reshape([1, height, width, columns])
    }
}

/// The sum over each image's pixels. `[batch, height, width, channels]` to `[batch, channels]`.
fn pixel_sums(x: &Tensor<4>) -> Tensor<2> {
    let [batch, height, width, channels] = x.dims();
    let by_pixel = x.clone().reshape([batch, height * width, channels]).swap_dims(0, 1);
    reduce::column_sums(&by_pixel.reshape([height * width, batch * channels])).reshape([batch, channels])
}

/// The mean over each image's pixels. `[batch, height, width, channels]` to `[batch, channels]`.
fn pixel_means(x: &Tensor<4>) -> Tensor<2> {
    let [_, height, width, _] = x.dims();
    pixel_sums(x).div_scalar((height * width) as f64)
}
