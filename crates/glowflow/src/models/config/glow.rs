//! What a Glow model is made of.

use serde::{Deserialize, Serialize};

use super::{Layout, MOST_LEVELS, image_problems, out_of_range};
use crate::error::Error;
use crate::images::ImageShape;
use crate::kernels::coupling::Kind;
use crate::layers::{CouplingConfig, PermutationKind, StepConfig};
use crate::priors::{PriorForm, SplitConfig, TopConfig};

/// How a coupling changes its second half.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CouplingKind {
    /// Scale and shift.
    Affine,
    /// Shift: volume preserving.
    Additive,
}

/// An affine coupling's scale, of the net's raw output `r`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScaleKind {
    /// `sigmoid(r + 2)`, as in Glow's code.
    Sigmoid,
    /// Within [0.5, 2], and 1 at `r = 0`: neither direction can explode.
    Bounded,
}

/// What a table of logits bounds.
const MOST_CLASSES: usize = 100_000;

/// Options of a Glow model; [`Default`] has the paper's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GlowConfig {
    /// Of the images.
    pub image: ImageShape,
    /// Scales, L in the paper.
    pub levels: usize,
    /// Flow steps of each scale, K in the paper.
    pub depth: usize,
    /// Channels inside each coupling net.
    pub hidden: usize,
    /// Affine or additive.
    pub coupling: CouplingKind,
    /// What mixes the channels.
    pub permutation: PermutationKind,
    /// Whether 3x3 convolutions see the border, as in Glow's code.
    pub edge_bias: bool,
    /// Of the affine coupling.
    pub scale: ScaleKind,
    /// Whether the prior of the coarsest latents is learned.
    pub learn_top: bool,
    /// Classes of a class-conditional model.
    pub classes: Option<usize>,
    /// What the classifier's error counts for in the loss; 0: there is no classifier.
    pub classifier_weight: f64,
    /// Whose numbers are trained.
    pub layout: Layout,
    /// Bits of each channel that are modelled.
    pub bits: u32,
    /// Of the initial weights.
    pub seed: u64,
}

impl Default for GlowConfig {
    fn default() -> Self {
        Self {
            image: ImageShape { height: 32, width: 32, channels: 3 },
            levels: 3,
            depth: 32,
            hidden: 512,
            coupling: CouplingKind::Affine,
            permutation: PermutationKind::Conv1x1Lu,
            edge_bias: false,
            scale: ScaleKind::Sigmoid,
            learn_top: true,
            classes: None,
            classifier_weight: 0.0,
            layout: Layout::Glow,
            bits: 8,
            seed: 0,
        }
    }
}

impl GlowConfig {
    /// Every option that is out of range.
    pub fn problems(&self) -> Vec<Error> {
        let mut problems = Vec::new();
        let mut range = |option: &str, value, low, high| problems.extend(out_of_range(option, value, low, high));
        range("levels", self.levels, 1, MOST_LEVELS);
        range("depth", self.depth, 1, 1024);
        range("hidden", self.hidden, 1, 8192);
        range("bits", self.bits as usize, 1, 8);
        let halvings = self.levels;
        problems.extend(image_problems(self.image, halvings, "2 to the number of levels"));
        if self.edge_bias && self.layout != Layout::Glow {
            problems.push(Error::option("edgeBias", "false in a layout other than \"glow\"", true));
        }
        match self.classes {
            Some(classes) if !(2..=MOST_CLASSES).contains(&classes) => {
                let expected = format!("a whole number from 2 to {MOST_CLASSES}");
                problems.push(Error::option("classes", expected, classes));
            }
            _ => {}
        }
        if !(self.classifier_weight >= 0.0 && self.classifier_weight.is_finite()) {
            problems.push(Error::option("classifierWeight", "a finite number from 0", self.classifier_weight));
        } else if self.classifier_weight > 0.0 && self.classes.is_none() {
            problems.push(Error::option("classifierWeight", "0 where classes is not set", self.classifier_weight));
        }
        problems
    }

    /// A step of flow of a level.
    pub(crate) fn step(&self, level: usize) -> StepConfig {
        let [height, width, channels] = self.level_shape(level);
        let coupling = CouplingConfig {
            kind: self.coupling_kind(),
            channels,
            size: [height, width],
            hidden: self.hidden,
            form: self.layout.net(self.edge_bias),
        };
        StepConfig { scale: self.layout.actnorm_scale(), permutation: self.permutation_of(level), coupling }
    }

    /// What mixes the channels of a level: rosinality's code uses the PLU form in the last one, whatever is asked for.
    pub fn permutation_of(&self, level: usize) -> PermutationKind {
        match (self.layout, self.permutation) {
            (Layout::Rosinality, PermutationKind::Conv1x1) if level + 1 == self.levels => PermutationKind::Conv1x1Lu,
            (_, permutation) => permutation,
        }
    }

    /// The split that ends a level, all but the last.
    pub(crate) fn split(&self, level: usize) -> Option<SplitConfig> {
        (level + 1 < self.levels).then(|| SplitConfig { shape: self.level_shape(level), form: self.prior_form() })
    }

    /// The prior of the coarsest latents.
    pub(crate) fn top(&self) -> TopConfig {
        let form = self.learn_top.then(|| self.prior_form());
        let shape = self.level_shape(self.levels - 1);
        TopConfig {
            shape,
            form,
            inputs: self.layout.top_inputs(shape[2]),
            classes: self.classes.filter(|_| !matches!(form, Some(PriorForm::Free { .. }))),
            classifier: self.classes.filter(|_| self.classifier_weight > 0.0),
        }
    }

    fn prior_form(&self) -> PriorForm {
        match self.layout.prior_padding(self.edge_bias) {
            Some(padding) => PriorForm::Conv(padding),
            None => PriorForm::Free { classes: self.classes },
        }
    }

    /// What the classifier's log-probability of a class counts for beside an image's log-probability, both in nats: the
    /// loss of `D` dimensions is `bits/dim + classifier_weight * bits of the class`.
    pub(crate) fn class_weight(&self) -> f64 {
        self.classifier_weight * self.image.dims() as f64
    }

    /// The coupling's arithmetic.
    pub(crate) fn coupling_kind(&self) -> Kind {
        match (self.coupling, self.scale) {
            (CouplingKind::Additive, _) => Kind::Additive,
            (CouplingKind::Affine, ScaleKind::Sigmoid) => Kind::Sigmoid,
            (CouplingKind::Affine, ScaleKind::Bounded) => Kind::Bounded,
        }
    }

    /// Height, width and channels of the activations of a level, after its squeeze.
    pub fn level_shape(&self, level: usize) -> [usize; 3] {
        let ImageShape { height, width, channels } = self.image;
        let shrink = 2usize << level;
        [height / shrink, width / shrink, (channels * 4) << level]
    }

    /// Height, width and channels of each scale's latents, the finest first.
    pub fn latent_shapes(&self) -> Vec<[usize; 3]> {
        (0..self.levels)
            .map(|level| {
                let [height, width, channels] = self.level_shape(level);
                [height, width, if level + 1 < self.levels { channels / 2 } else { channels }]
            })
            .collect()
    }
}
