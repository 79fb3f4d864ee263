//! A model ready to run: a chain of stages from the image to the coarsest latents, and the prior of those.

use std::ops::ControlFlow;
use std::sync::{Arc, OnceLock};

use burn::tensor::Tensor;

use crate::error::Result;
use crate::flow::{
    Cotangent, Forward, Gradients, Layer, Link, Mode, Output, Pass, Pullback, Saved, Statistics, zeros_per_example,
};
use crate::kernels::coupling::halves;
use crate::layers::Rearrange;
use crate::priors::{ClassScores, Labels, PreparedSplit, Prior};
use crate::train::Activations;

/// A part of a chain.
pub enum Stage {
    /// Moves values about; its log-det is 0.
    Rearrange(Rearrange),
    /// A layer, prepared when it is needed.
    Layer(Lazy),
    /// The second half of the channels leaves; boxed, since the others are small.
    Split(Box<PreparedSplit>),
}

impl Stage {
    /// A layer at its path in the model's files.
    pub fn layer<L: Layer + Sync + 'static>(path: String, layer: &L) -> Self {
        let layer = layer.clone();
        let prepare = move |path: &str, pass| Ok(Arc::new(layer.prepare(path, pass)?) as Arc<dyn Link>);
        Self::Layer(Lazy { path, prepare: Box::new(prepare), kept: OnceLock::new() })
    }
}

type Prepare = dyn Fn(&str, Pass) -> Result<Arc<dyn Link>> + Send + Sync;

/// A layer's parameters, and what runs once it has been asked for.
pub struct Lazy {
    path: String,
    prepare: Box<Prepare>,
    kept: OnceLock<Arc<dyn Link>>,
}

/// A model at one state of its weights.
///
/// For inference its layers are prepared once and kept. For training each is prepared as the sweep comes to it and let
/// go, so that memory does not grow with depth.
pub struct Chain {
    stages: Vec<Stage>,
    top: Prior,
    pass: Pass,
}

/// A batch encoded.
pub struct Encoded {
    /// Every scale's noise, finest first: standard normal under the model, logistic where its prior is.
    pub latents: Vec<Tensor<4>>,
    /// `ln p(x)` of each scaled image, nats. Shape `[batch]`, [`accumulator`](crate::flow::accumulator) type.
    pub log_prob: Tensor<1>,
    /// What the classifier says, where there is one.
    pub scores: Option<ClassScores>,
}

/// What a forward pass leaves for the backward pass.
pub struct Tape {
    /// `ln p(x)` of each scaled image, nats. Shape `[batch]`, [`accumulator`](crate::flow::accumulator) type.
    pub log_prob: Tensor<1>,
    /// `log_prob` and, where there is a classifier, its log-probability of the label times its weight: what training
    /// raises, nats. Shape `[batch]`.
    pub objective: Tensor<1>,
    /// Of each stage.
    held: Vec<Held>,
    top: Tensor<4>,
    labels: Option<Labels>,
}

impl Tape {
    /// What the batch normalisations saw.
    pub fn statistics(&self) -> Statistics {
        let mut all = Statistics::default();
        for held in &self.held {
            if let Held::Layer { statistics, .. } = held {
                all.extend(statistics.clone());
            }
        }
        all
    }
}

/// How a stage waits for the backward pass.
enum Held {
    Rearranged,
    /// Statistics wait beside the activations, which are held as asked for.
    Layer {
        statistics: Statistics,
        activations: HeldActivations,
    },
    /// The channels that left, raw: rebuilding them from noise would feed them the drift of the others.
    Gone(Tensor<4>),
}

enum HeldActivations {
    Stored(Saved),
    Input(Tensor<4>),
    Nothing,
}

impl Chain {
    /// Of these stages, in the order of the forward pass.
    pub fn new(stages: Vec<Stage>, top: impl Into<Prior>, pass: Pass) -> Self {
        Self { stages, top: top.into(), pass }
    }

    fn ready(&self, lazy: &Lazy) -> Result<Arc<dyn Link>> {
        if let Some(layer) = lazy.kept.get() {
            return Ok(layer.clone());
        }
        let layer = (lazy.prepare)(&lazy.path, self.pass)?;
        Ok(match self.pass.mode {
            Mode::Training => layer,
            Mode::Evaluation => lazy.kept.get_or_init(|| layer).clone(),
        })
    }

    /// Goes through the layers in the order of the forward pass: path, layer, input and output, until `visit` breaks
    /// off.
    pub fn walk<B>(
        &self,
        mut x: Tensor<4>,
        mut visit: impl FnMut(&str, &dyn Link, Tensor<4>, &Forward) -> Result<ControlFlow<B>>,
    ) -> Result<ControlFlow<B>> {
        for stage in &self.stages {
            x = match stage {
                Stage::Rearrange(rearrange) => rearrange.forward(x),
                Stage::Split(_) => halves(&x).0,
                Stage::Layer(lazy) => {
                    let layer = self.ready(lazy)?;
                    let out = layer.forward(x.clone());
                    if let ControlFlow::Break(found) = visit(&lazy.path, &*layer, x, &out)? {
                        return Ok(ControlFlow::Break(found));
                    }
                    out.z
                }
            };
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Runs the flow from image to latent: what a layer gives goes to `log_det`, the halves at a split to `split`. Gives the
    /// coarsest activations.
    fn sweep(
        &self,
        mut x: Tensor<4>,
        mut log_det: impl FnMut(Tensor<1>),
        mut split: impl FnMut(&PreparedSplit, &Tensor<4>, &Tensor<4>),
    ) -> Result<Tensor<4>> {
        for stage in &self.stages {
            x = match stage {
                Stage::Rearrange(rearrange) => rearrange.forward(x),
                Stage::Layer(lazy) => {
                    let out = self.ready(lazy)?.forward(x);
                    log_det(out.log_det);
                    out.z
                }
                Stage::Split(prior) => {
                    let (kept, gone) = halves(&x);
                    split(prior, &kept, &gone);
                    kept
                }
            };
        }
        Ok(x)
    }

    /// Latents of scaled images, `[batch, height, width, channels]`: every scale's noise, finest first.
    pub fn latents(&self, x: Tensor<4>, labels: Option<&Labels>) -> Result<Vec<Tensor<4>>> {
        let mut latents = Vec::new();
        let top = self.sweep(x, drop, |split, kept, gone| latents.push(split.to_noise(kept, gone, labels)))?;
        latents.push(self.top.to_noise(&top, labels));
        Ok(latents)
    }

    /// Latents and log-probability of scaled images, `[batch, height, width, channels]`.
    pub fn encode(&self, x: Tensor<4>, labels: Option<&Labels>) -> Result<Encoded> {
        let (mut log_det, mut log_prob) = (zeros_per_example(&x), zeros_per_example(&x));
        let mut latents = Vec::new();
        let x = self.sweep(
            x,
            |of_layer| add(&mut log_det, of_layer),
            |split, kept, gone| {
                let (of_split, noise) = split.encode(kept, gone, labels);
                add(&mut log_prob, of_split);
                latents.push(noise);
            },
        )?;
        latents.push(self.top.to_noise(&x, labels));
        add(&mut log_prob, self.top.log_prob(&x, labels));
        Ok(Encoded { latents, log_prob: log_det + log_prob, scores: self.top.class_scores(&x) })
    }

    /// `ln p(x | class)` of each image for each class, `[batch]` each: one pass through the layers, one look at the priors
    /// that differ from class to class for each of them.
    pub fn log_prob_by_class(&self, x: Tensor<4>, classes: usize) -> Result<Vec<Tensor<1>>> {
        let ([batch, ..], device) = (x.dims(), x.device());
        let labels: Vec<Labels> =
            (0..classes as u32).map(|class| Labels::new(&vec![class; batch], classes, &device)).collect();
        let (mut log_det, mut shared) = (zeros_per_example(&x), zeros_per_example(&x));
        let mut by_class = vec![shared.clone(); classes];
        let mut add_prior = |sees_class: bool, log_prob: &dyn Fn(Option<&Labels>) -> Tensor<1>| {
            if sees_class {
                by_class.iter_mut().zip(&labels).for_each(|(sum, labels)| add(sum, log_prob(Some(labels))));
            } else {
                add(&mut shared, log_prob(None));
            }
        };
        let x = self.sweep(
            x,
            |of_layer| add(&mut log_det, of_layer),
            |split, kept, gone| add_prior(split.sees_class(), &|labels| split.log_prob(kept, gone, labels)),
        )?;
        add_prior(self.top.sees_class(), &|labels| self.top.log_prob(&x, labels));
        let shared = log_det + shared;
        Ok(by_class.into_iter().map(|of_class| of_class + shared.clone()).collect())
    }

    /// Scaled images from every scale's noise, finest first: undoes [`Chain::encode`].
    pub fn decode(&self, mut latents: Vec<Tensor<4>>, labels: Option<&Labels>) -> Result<Tensor<4>> {
        let mut x = self.top.from_noise(&latents.pop().expect("every model has a top"), labels);
        for stage in self.stages.iter().rev() {
            x = match stage {
                Stage::Rearrange(rearrange) => rearrange.inverse(x),
                Stage::Layer(lazy) => self.ready(lazy)?.inverse(x)?,
                Stage::Split(split) => {
                    let gone = split.from_noise(&x, &latents.pop().expect("one for each split"), labels);
                    Tensor::cat(vec![x, gone], 3)
                }
            };
        }
        Ok(x)
    }

    /// Runs the flow for training, holding activations as asked.
    pub fn forward(&self, x: Tensor<4>, labels: Option<Labels>, activations: Activations) -> Result<Tape> {
        let mut log_prob = zeros_per_example(&x);
        let mut held = Vec::with_capacity(self.stages.len());
        let mut x = x;
        for stage in &self.stages {
            x = match stage {
                Stage::Rearrange(rearrange) => {
                    held.push(Held::Rearranged);
                    rearrange.forward(x)
                }
                Stage::Layer(lazy) => {
                    let layer = self.ready(lazy)?;
                    let (out, activations) = match activations {
                        Activations::Stored => {
                            let (out, saved) = layer.forward_saving(x);
                            (out, HeldActivations::Stored(saved))
                        }
                        Activations::Inputs => (layer.forward(x.clone()), HeldActivations::Input(x)),
                        Activations::Constant => (layer.forward(x), HeldActivations::Nothing),
                    };
                    log_prob = log_prob + out.log_det;
                    held.push(Held::Layer { statistics: out.statistics, activations });
                    out.z
                }
                Stage::Split(split) => {
                    let (kept, gone) = halves(&x);
                    log_prob = log_prob + split.log_prob(&kept, &gone, labels.as_ref());
                    held.push(Held::Gone(gone));
                    kept
                }
            };
        }
        log_prob = log_prob + self.top.log_prob(&x, labels.as_ref());
        let objective = match self.top.class_term(&x, labels.as_ref()) {
            Some(term) => log_prob.clone() + term,
            None => log_prob.clone(),
        };
        Ok(Tape { log_prob, objective, held, top: x, labels })
    }

    /// Parameter gradients of `sum(cotangent * objective)`; returns the input, rebuilt or held, and its gradient.
    ///
    /// `cotangent` is `[batch]`, of the flow's own type.
    pub fn backward(&self, tape: Tape, cotangent: &Tensor<1>, gradients: &mut Gradients) -> Result<Pullback> {
        let Tape { held, top, labels, .. } = tape;
        let dx = self.top.backward(&top, labels.as_ref(), cotangent, gradients);
        let mut at = Pullback { x: top, dx };
        for (stage, held) in self.stages.iter().zip(held).rev() {
            at = match (stage, held) {
                (Stage::Rearrange(rearrange), _) => {
                    Pullback { x: rearrange.inverse(at.x), dx: rearrange.inverse(at.dx) }
                }
                (Stage::Split(split), Held::Gone(gone)) => {
                    let (dkept, dgone) = split.backward(&at.x, &gone, labels.as_ref(), cotangent, gradients);
                    Pullback { x: Tensor::cat(vec![at.x, gone], 3), dx: Tensor::cat(vec![at.dx + dkept, dgone], 3) }
                }
                (Stage::Layer(lazy), Held::Layer { statistics, activations }) => {
                    let layer = self.ready(lazy)?;
                    let (z, saved) = match activations {
                        HeldActivations::Stored(saved) => (at.x, Some(saved)),
                        HeldActivations::Nothing => (at.x, None),
                        HeldActivations::Input(x) => {
                            let (out, saved) = layer.forward_saving(x);
                            (out.z, Some(saved))
                        }
                    };
                    let cotangent = Cotangent { z: at.dx, log_det: cotangent.clone() };
                    layer.backward(Output { z, statistics }, saved, cotangent, gradients)?
                }
                _ => unreachable!("a tape belongs to its chain"),
            };
        }
        Ok(at)
    }
}

fn add(sum: &mut Tensor<1>, term: Tensor<1>) {
    *sum = sum.clone() + term;
}
