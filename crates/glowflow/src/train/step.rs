//! One step of training: forward, backward, clip, update. Nothing that is not finite reaches the weights.
//!
//! On the CPU the loss and the norm are looked at in each step. On a GPU that would be a wait for the device each: there
//! they stay on it, a flag beside them masks every update after the first that is not finite, and all of them are read
//! back together every [`READ_EVERY`] steps.

use std::f64::consts::LN_2;
use std::ops::ControlFlow;

use burn::tensor::{Bool, Device, Tensor};

use super::config::{Activations, TrainConfig};
use super::optimizer::{Optimizer, move_average};
use super::reducer::Reducer;
use crate::data::PrefetchedBatch;
use crate::error::{Error, Result};
use crate::flow::{
    Gradients, Mode, NamedParameter, Pass, Statistics, add_penalties, move_running_averages, named_parameters,
};
use crate::kernels::adam::Clip;
use crate::kernels::host::read;
use crate::kernels::{self, Hoard, reduce};
use crate::models::chain::{Chain, Tape};
use crate::models::network::Network;
use crate::models::{CheckedLabels, ModelConfig, bits_per_dim, discrete_log_prob, training_batch};

/// Steps between two measurements of the rebuild error.
const REBUILD_CHECK: u64 = 100;

/// Steps on a GPU whose findings are read back together.
const READ_EVERY: usize = 10;

/// The weights that are trained, and their average where one is kept.
pub struct Weights<'a> {
    /// What the gradients step.
    pub network: &'a mut Network,
    /// What evaluation, sampling and the saved model use.
    pub average: &'a mut Option<Network>,
}

/// What a training run carries from step to step, beside the weights.
pub struct Trainer {
    config: TrainConfig,
    model: ModelConfig,
    activations: Activations,
    optimizer: Optimizer,
    reducer: Box<dyn Reducer>,
    /// Sum over the batches of the step under way.
    gradients: Gradients,
    /// The batches of the step under way.
    batches: Vec<RunBatch>,
    /// Steps whose findings have not been read yet.
    unread: Vec<Unread>,
    /// On a GPU: whether everything so far has been finite. Shape `[1]`.
    sound: Option<Tensor<1, Bool>>,
    /// Of the CPU's kernels.
    _buffers: Hoard,
}

/// A batch that has been run.
struct RunBatch {
    batch: PrefetchedBatch,
    /// What the step raises, nats. Shape `[batch]`.
    objectives: Tensor<1>,
    /// Whether the loss is; true on a GPU, where that is not looked at.
    finite: bool,
    /// What its batch normalisations saw.
    statistics: Statistics,
    /// Shape `[1]`.
    rebuild_error: Option<Tensor<1>>,
}

/// A step whose findings are on the device.
struct Unread {
    step: u64,
    learning_rate: f64,
    batches: Vec<RunBatch>,
    norm: Norm,
}

enum Norm {
    Host(f64),
    /// Shape `[1]`.
    Device(Tensor<1>),
}

/// What a step found.
#[derive(Debug, Clone, Copy)]
pub struct StepOutcome {
    /// Its count, from 1.
    pub step: u64,
    /// Bits per dimension of its images, before the update; with a classifier, and the bits of their classes times the
    /// classifier's weight.
    pub loss: f64,
    /// Norm of the gradient, before clipping.
    pub gradient_norm: f64,
    /// What it was made with.
    pub learning_rate: f64,
    /// Largest error of the rebuilt batch, where activations are rebuilt, every 100th step and the first.
    pub rebuild_error: Option<f32>,
}

impl Trainer {
    /// For a run that holds activations this way.
    pub fn new(
        config: &TrainConfig,
        model: &ModelConfig,
        activations: Activations,
        optimizer: Optimizer,
        reducer: Box<dyn Reducer>,
    ) -> Self {
        Self {
            config: config.clone(),
            model: model.clone(),
            activations,
            optimizer,
            reducer,
            gradients: Gradients::default(),
            batches: Vec::new(),
            unread: Vec::new(),
            sound: None,
            _buffers: Hoard::new(),
        }
    }

    /// The optimizer's state.
    pub fn optimizer(&self) -> &Optimizer {
        &self.optimizer
    }

    /// Goes on with an optimizer in another state, after a step that failed.
    pub fn continue_with(&mut self, optimizer: Optimizer) {
        self.optimizer = optimizer;
    }

    /// Runs a batch and adds its gradient to those of the step under way.
    pub fn accumulate(&mut self, network: &Network, batch: PrefetchedBatch, device: &Device) -> Result<()> {
        self.optimizer.make_moments(network);
        let x = self.scaled(&batch, device);
        let chain = network.chain(&self.model, self.pass());
        let tape = self.forward(&chain, x.clone(), &batch, device)?;
        let (objectives, statistics) = (tape.objective.clone(), tape.statistics());
        // Where a look costs nothing: a backward pass of what is not finite would find other errors first.
        let finite = !kernels::is_cpu(device) || self.loss(&read(objectives.clone()), &batch).is_finite();
        let mut rebuild_error = None;
        if finite {
            let cotangent = self.cotangent(batch.indices.len(), device);
            let rebuilt = chain.backward(tape, &cotangent, &mut self.gradients)?.x;
            let measured = self.activations == Activations::Constant && batch.step.is_multiple_of(REBUILD_CHECK);
            rebuild_error = measured.then(|| (rebuilt - x).abs().max());
        }
        self.batches.push(RunBatch { batch, objectives, finite, statistics, rebuild_error });
        Ok(())
    }

    fn pass(&self) -> Pass {
        Pass { mode: Mode::Training, precision: self.config.precision }
    }

    fn forward(&self, chain: &Chain, x: Tensor<4>, batch: &PrefetchedBatch, device: &Device) -> Result<Tape> {
        let labels = CheckedLabels::of_batch(&self.model, &batch.batch)?.on(&self.model, device);
        chain.forward(x, labels, self.activations)
    }

    /// Steps the weights along the gradients that [`Trainer::accumulate`] has gathered, as step `step`, from 1.
    pub fn update(&mut self, weights: Weights<'_>, learning_rate: f64, step: u64, device: &Device) -> Result<()> {
        let mut gradients = std::mem::take(&mut self.gradients);
        let mut batches = std::mem::take(&mut self.batches);
        self.reducer.reduce(&mut gradients)?;
        add_penalties(weights.network, &mut gradients);
        let found: Vec<Tensor<1>> =
            named_parameters(weights.network).iter().filter_map(|p| gradients.get(p.id).cloned()).collect();
        let (norm, clip) = if kernels::is_cpu(device) {
            let norm = reduce::sum_of_squares(&found).sqrt();
            let sound = norm.is_finite() && batches.iter().all(|batch| batch.finite);
            (Norm::Host(norm), sound.then(|| Clip::Host((self.config.clip_norm / norm).min(1.0) as f32)))
        } else {
            let norm = reduce::device_sum_of_squares(&found).sqrt();
            let clip = self.device_clip(&norm, &batches);
            (Norm::Device(norm), Some(clip))
        };
        drop(found);
        let seen: Vec<Statistics> = batches.iter_mut().map(|batch| std::mem::take(&mut batch.statistics)).collect();
        self.unread.push(Unread { step, learning_rate, batches, norm });
        if let Some(clip) = clip {
            // Taken out, so that nobody else holds the tensors and they are stepped in place.
            let network = std::mem::replace(weights.network, Network::nothing());
            let network = self.optimizer.step(network, gradients, learning_rate, &clip);
            *weights.network = self.move_running(network, &seen);
            if let (Some(decay), Some(average)) = (self.config.ema, weights.average.take()) {
                let average = move_average(average, weights.network, decay, self.optimizer.steps());
                *weights.average = Some(self.move_running(average, &seen));
            }
        }
        Ok(())
    }

    /// Moves running averages by what each batch has shown, in their order.
    fn move_running(&self, network: Network, seen: &[Statistics]) -> Network {
        let sound = self.sound.as_ref();
        seen.iter().fold(network, |network, seen| move_running_averages(network, seen.clone(), sound))
    }

    /// What the steps since the last call have found; on a GPU only where there are enough of them, or `now`.
    ///
    /// After what was found in the good steps comes the error of the first bad one: weights and average are as they
    /// were before it.
    pub fn outcomes(&mut self, network: &Network, now: bool, device: &Device) -> Result<Outcomes> {
        let mut outcomes = Outcomes::default();
        if !now && !kernels::is_cpu(device) && self.unread.len() < READ_EVERY {
            return Ok(outcomes);
        }
        let unread = std::mem::take(&mut self.unread);
        let mut values = read_back(&unread).into_iter();
        for step in unread {
            let mut next = |count: usize| values.by_ref().take(count).collect::<Vec<f64>>();
            let log_probs: Vec<f64> = step.batches.iter().flat_map(|batch| next(batch.batch.indices.len())).collect();
            let loss = self.loss(&log_probs, &step.batches[0].batch);
            let gradient_norm = match step.norm {
                Norm::Host(norm) => norm,
                Norm::Device(_) => next(1)[0],
            };
            let errors = step.batches.iter().filter(|batch| batch.rebuild_error.is_some()).count();
            let rebuild_error = next(errors).into_iter().map(|error| error as f32).reduce(f32::max);
            if !loss.is_finite() || !gradient_norm.is_finite() {
                outcomes.failed = Some((step.step, self.diagnose(network, &step, device)?));
                self.sound = None;
                break;
            }
            let Unread { step, learning_rate, .. } = step;
            outcomes.found.push(StepOutcome { step, loss, gradient_norm, learning_rate, rebuild_error });
        }
        Ok(outcomes)
    }

    /// What went wrong in a step, found by running it again.
    fn diagnose(&self, network: &Network, at: &Unread, device: &Device) -> Result<Error> {
        let step = at.step;
        let chain = network.chain(&self.model, self.pass());
        let mut gradients = Gradients::default();
        for RunBatch { batch, .. } in &at.batches {
            let x = self.scaled(batch, device);
            let tape = self.forward(&chain, x.clone(), batch, device)?;
            if !self.loss(&read(tape.objective.clone()), batch).is_finite() {
                return Ok(Error::NotFinite { what: "the loss".into(), step, layer: first_not_finite(&chain, x)? });
            }
            chain.backward(tape, &self.cotangent(batch.indices.len(), device), &mut gradients)?;
        }
        // The sweep goes from the top down: what is furthest up went wrong first.
        let found = |parameter: &NamedParameter| gradients.get(parameter.id).cloned();
        let wrong = named_parameters(network).into_iter().rev().find(|parameter| {
            found(parameter).is_some_and(|gradient| !reduce::sum_of_squares(&[gradient]).is_finite())
        });
        let layer = wrong.map_or_else(|| "all parameters together".to_owned(), |parameter| parameter.name);
        Ok(Error::NotFinite { what: "the gradient".into(), step, layer })
    }

    fn scaled(&self, batch: &PrefetchedBatch, device: &Device) -> Tensor<4> {
        training_batch(&batch.batch.images, &batch.indices, self.model.bits(), self.config.seed, batch.step, device)
    }

    /// Of each image's objective: the loss is bits per dimension, the mean over all images of the step.
    fn cotangent(&self, count: usize, device: &Device) -> Tensor<1> {
        let weight = -1.0 / (self.config.images_per_step() as f64 * self.model.image().dims() as f64 * LN_2);
        Tensor::full([count], weight as f32, device)
    }

    /// Bits per dimension of images of this type.
    fn loss(&self, log_probs: &[f64], like: &PrefetchedBatch) -> f64 {
        let log_prob = log_probs.iter().sum::<f64>() / log_probs.len() as f64;
        let bits = like.batch.images.bits(self.model.bits());
        bits_per_dim(discrete_log_prob(log_prob, self.model.image(), bits), self.model.image())
    }

    fn device_clip(&mut self, norm: &Tensor<1>, batches: &[RunBatch]) -> Clip {
        let losses = batches.iter().map(|batch| batch.objectives.clone().sum().cast(norm.dtype()));
        let everything = losses.fold(norm.clone(), |sum, loss| sum + loss);
        let sound = match self.sound.take() {
            Some(sound) => sound.bool_and(everything.is_finite()),
            None => everything.is_finite(),
        };
        self.sound = Some(sound.clone());
        let scale = norm.clone().recip().mul_scalar(self.config.clip_norm).clamp_max(1.0);
        Clip::Device { scale, sound }
    }
}

/// What [`Trainer::outcomes`] has read.
#[derive(Debug, Default)]
pub struct Outcomes {
    /// Good steps, in order.
    pub found: Vec<StepOutcome>,
    /// The step after them that went wrong, and how.
    pub failed: Option<(u64, Error)>,
}

/// Everything that the steps have left on the device, in one read: of each step the objectives, the norm where
/// it is there, the rebuild errors.
fn read_back(steps: &[Unread]) -> Vec<f64> {
    let parts: Vec<Tensor<1>> = steps
        .iter()
        .flat_map(|step| {
            let norm = match &step.norm {
                Norm::Device(norm) => Some(norm.clone()),
                Norm::Host(_) => None,
            };
            let log_probs = step.batches.iter().map(|batch| batch.objectives.clone());
            let errors = step.batches.iter().filter_map(|batch| batch.rebuild_error.clone());
            let dtype = step.batches[0].objectives.dtype();
            log_probs.chain(norm).chain(errors).map(move |part| part.cast(dtype)).collect::<Vec<_>>()
        })
        .collect();
    if parts.is_empty() { Vec::new() } else { read(Tensor::cat(parts, 0)) }
}

/// Path of the first layer whose output or log-determinant is not finite.
fn first_not_finite(chain: &Chain, x: Tensor<4>) -> Result<String> {
    let found = chain.walk(x, |path, _, _, out| {
        let sums = [read::<f64, 1>(out.z.clone().abs().sum()), read(out.log_det.clone().sum())];
        Ok(if sums.iter().flatten().all(|sum| sum.is_finite()) {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(path.to_owned())
        })
    })?;
    Ok(match found {
        ControlFlow::Break(path) => path,
        ControlFlow::Continue(()) => "the priors".to_owned(),
    })
}
