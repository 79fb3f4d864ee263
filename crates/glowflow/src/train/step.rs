//! One step of training: forward, backward, clip, update. Nothing that is not finite reaches the weights.

use std::f64::consts::LN_2;
use std::ops::ControlFlow;

use burn::tensor::{Device, Tensor};

use super::config::{Activations, TrainConfig};
use super::optimizer::Adam;
use super::reducer::Reducer;
use crate::data::PrefetchedBatch;
use crate::error::{Error, Result};
use crate::flow::{Gradients, NamedParameter, named_parameters};
use crate::kernels::reduce::sum_of_squares;
use crate::models::glow::{Glow, RunningGlow};
use crate::models::{GlowConfig, bits_per_dim, discrete_log_prob, training_batch};

/// Steps between two measurements of the rebuild error.
const REBUILD_CHECK: u64 = 100;

/// What a training run carries from step to step, beside the weights.
pub struct Trainer {
    config: TrainConfig,
    activations: Activations,
    optimizer: Adam,
    reducer: Box<dyn Reducer>,
}

/// What a step found.
#[derive(Debug, Clone, Copy)]
pub struct StepOutcome {
    /// Bits per dimension of the batch, before the update.
    pub loss: f64,
    /// Norm of the gradient, before clipping.
    pub gradient_norm: f64,
    /// Largest error of the rebuilt batch, where activations are rebuilt, every 100th step and the first.
    pub rebuild_error: Option<f32>,
}

impl Trainer {
    /// For a run that holds activations this way.
    pub fn new(config: &TrainConfig, activations: Activations, reducer: Box<dyn Reducer>) -> Self {
        Self { config: config.clone(), activations, optimizer: Adam::new(config.optimizer.clone()), reducer }
    }

    /// Makes step `step`, from 1, on a batch. On an error the weights are as they were.
    pub fn step(
        &mut self,
        glow: &mut Glow,
        model: &GlowConfig,
        batch: &PrefetchedBatch,
        learning_rate: f64,
        step: u64,
        device: &Device,
    ) -> Result<StepOutcome> {
        self.optimizer.make_moments(glow);
        let x = training_batch(&batch.batch.images, &batch.indices, model.bits, self.config.seed, batch.step, device);
        let (count, dims) = (batch.indices.len() as f64, model.image.dims() as f64);
        let mut gradients = Gradients::default();
        let running = RunningGlow::new(glow, model, false);
        let tape = running.forward(x.clone(), self.activations)?;
        let log_probs: Vec<f64> = tape.log_prob.clone().try_into_vec_as::<f64>().expect("f64 data");
        let log_prob = log_probs.iter().sum::<f64>() / count;
        let loss = bits_per_dim(discrete_log_prob(log_prob, model.image, model.bits), model.image);
        if !loss.is_finite() {
            let layer = first_not_finite(&running, x)?;
            return Err(Error::NotFinite { what: "the loss".into(), step, layer });
        }
        let weight = -1.0 / (count * dims * LN_2);
        let cotangent = Tensor::full([batch.indices.len()], weight as f32, device);
        let rebuilt = running.backward(tape, &cotangent, &mut gradients)?.x;
        let rebuild_error = (self.activations == Activations::Constant && step % REBUILD_CHECK == 1)
            .then(|| (rebuilt - x).abs().max().into_scalar::<f32>());
        // Lets go of the weights' tensors, so that the update can be made in place.
        drop(running);

        self.reducer.reduce(&mut gradients)?;
        let gradient_norm = gradient_norm(glow, &gradients, step)?;
        let scale = (self.config.clip_norm / gradient_norm).min(1.0);
        let weights = std::mem::replace(glow, Glow { levels: Vec::new(), ..glow.clone() });
        *glow = self.optimizer.step(weights, gradients, learning_rate, scale as f32);
        Ok(StepOutcome { loss, gradient_norm, rebuild_error })
    }
}

/// The norm of all gradients together; an error that names the parameter where it is not finite.
fn gradient_norm(glow: &Glow, gradients: &Gradients, step: u64) -> Result<f64> {
    let parameters = named_parameters(glow);
    let found = |parameter: &NamedParameter| gradients.get(parameter.id).cloned();
    let squares = sum_of_squares(&parameters.iter().filter_map(found).collect::<Vec<_>>());
    if squares.is_finite() {
        return Ok(squares.sqrt());
    }
    // The sweep goes from the top down: what is furthest up went wrong first.
    let wrong = parameters
        .iter()
        .rev()
        .find(|parameter| found(parameter).is_some_and(|gradient| !sum_of_squares(&[gradient]).is_finite()));
    let layer = wrong.map_or_else(|| "all parameters together".to_owned(), |parameter| parameter.name.clone());
    Err(Error::NotFinite { what: "the gradient".into(), step, layer })
}

/// Path of the first step of flow whose output or log-determinant is not finite.
fn first_not_finite(running: &RunningGlow, x: Tensor<4>) -> Result<String> {
    let found = running.walk(x, |path, _, _, out| {
        let sum = out.z.clone().abs().sum().into_scalar::<f64>() + out.log_det.clone().sum().into_scalar::<f64>();
        Ok(if sum.is_finite() { ControlFlow::Continue(()) } else { ControlFlow::Break(path) })
    })?;
    Ok(match found {
        ControlFlow::Break(path) => path,
        ControlFlow::Continue(()) => "the priors".to_owned(),
    })
}
