//! A training run from its first step to its last.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::checkpoint;
use super::config::{Activations, SampleConfig, TrainConfig};
use super::event::{StepEnd, TrainEvent, TrainSummary};
use super::reducer::Identity;
use super::schedule::Progress;
use super::step::Trainer;
use crate::data::{Dataset, Order, Prefetch};
use crate::error::{Error, Result};
use crate::models::memory::{self, MemoryEstimate};
use crate::models::{Call, FlowModel, self_check};
use crate::picture::{GridOptions, write_png_grid};

/// Part of the free memory that a run may plan to use.
const MEMORY_SHARE: f64 = 0.6;

/// Largest error of a rebuilt batch before a warning: half a bin of 8-bit pixels.
const REBUILD_WARNING: f32 = 1.0 / 512.0;

/// Stops a run from outside.
#[derive(Debug, Default)]
pub struct Control {
    stopped: Arc<AtomicBool>,
}

impl Control {
    /// Not stopped.
    pub fn new() -> Self {
        Self::default()
    }

    /// Ends the run after the step under way.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
    }

    /// Whether the run has been stopped.
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }
}

impl FlowModel {
    /// Trains until a limit is reached or `control` stops it; blocks.
    ///
    /// Every step is one piece of work on the device's queue: calls from other threads come between two of them.
    ///
    /// # Errors
    ///
    /// [`Error::Option`] for options out of range, [`Error::Busy`] if the model is in training, [`Error::NotFinite`] for
    /// a loss or gradient that is not finite: the weights are then those of the last good step, and in a checkpoint
    /// where checkpoints are asked for.
    pub fn train(
        &self,
        data: Arc<dyn Dataset>,
        held_out: Option<Arc<dyn Dataset>>,
        config: TrainConfig,
        control: &Control,
        on_event: &mut dyn FnMut(TrainEvent),
    ) -> Result<TrainSummary> {
        config.validate()?;
        self.check_shape("training images", data.shape())?;
        if let Some(held_out) = &held_out {
            self.check_shape("evaluation images", held_out.shape())?;
        }
        let _mark = self.begin_training()?;
        let started = Instant::now();
        let activations = self.activations(&config)?;
        self_check::check_once(self.config(), config.batch_size, self.device())?;
        if !self.initialized() {
            match self.initialize_marked(&*data, config.init_images, config.seed) {
                // Stopped before there was anything to train, sample or store.
                Err(Error::Aborted) if control.is_stopped() => {
                    let seconds = started.elapsed().as_secs_f64();
                    let (step, reason) = (self.step(), "stopped");
                    return Ok(TrainSummary { step, loss: f64::NAN, reason, seconds, checkpoint: None });
                }
                initialized => initialized?,
            }
        }
        Run {
            model: self,
            config: &config,
            activations,
            held_out: held_out.as_deref(),
            control,
            on_event,
            started,
            evaluated: None,
            sampled: None,
            last_checkpoint: None,
        }
        .go(data)
    }

    /// The asked-for way to hold activations, or the first that fits in memory.
    fn activations(&self, config: &TrainConfig) -> Result<Activations> {
        let estimate = MemoryEstimate::of(self.config(), config.batch_size);
        let available = (memory::available() as f64 * MEMORY_SHARE) as u64;
        let ways = match &config.activations {
            Some(way) => std::slice::from_ref(way),
            None => &[Activations::Stored, Activations::Inputs, Activations::Constant],
        };
        let fits = ways.iter().copied().find(|&way| estimate.with(way) <= available);
        fits.ok_or_else(|| Error::OutOfMemory {
            what: "a training step of this size".into(),
            needed: estimate.with(ways[ways.len() - 1]),
            available,
        })
    }
}

struct Run<'a> {
    model: &'a FlowModel,
    config: &'a TrainConfig,
    activations: Activations,
    held_out: Option<&'a dyn Dataset>,
    control: &'a Control,
    on_event: &'a mut dyn FnMut(TrainEvent),
    started: Instant,
    /// Steps at which these were done last.
    evaluated: Option<u64>,
    sampled: Option<u64>,
    last_checkpoint: Option<(u64, PathBuf)>,
}

impl Run<'_> {
    fn go(mut self, data: Arc<dyn Dataset>) -> Result<TrainSummary> {
        let order = Order::new(data.len(), self.config.batch_size, self.config.seed)?;
        let batches_per_epoch = order.batches_per_epoch();
        let first = self.model.step();
        let mut batches = Prefetch::new(data, order, first)?;
        let mut trainer = Trainer::new(self.config, self.activations, Box::new(Identity));
        let mut loss = f64::NAN;
        self.tell(TrainEvent::RunStart { step: first, batches_per_epoch });
        self.sample(true)?;
        let mut last_step = Instant::now();
        loop {
            let done = self.model.step();
            let epochs = done as f64 / batches_per_epoch;
            let seconds = self.started.elapsed().as_secs_f64();
            if self.control.is_stopped() || self.config.is_over(done, epochs, seconds) {
                break;
            }
            let step = done + 1;
            let learning_rate = self.config.learning_rate(Progress { step, epochs, seconds });
            let batch = match batches.next_batch() {
                // The data set was left because the run is stopped.
                Err(Error::Aborted) if self.control.is_stopped() => break,
                batch => batch?,
            };
            let images = batch.indices.len() as f64;
            let outcome;
            (trainer, outcome) = self.step(trainer, batch, learning_rate, step)?;
            let outcome = match outcome {
                Ok(outcome) => outcome,
                Err(error) => {
                    // The weights are still the last good ones.
                    self.checkpoint(true)?;
                    return Err(error);
                }
            };
            loss = outcome.loss;
            self.tell(TrainEvent::StepEnd(StepEnd {
                step,
                epoch: (step as f64 / batches_per_epoch) as u64,
                loss,
                gradient_norm: outcome.gradient_norm,
                learning_rate,
                images_per_second: images / last_step.elapsed().as_secs_f64(),
                rebuild_error: outcome.rebuild_error,
                merged: 1,
            }));
            self.watch(step, outcome.rebuild_error);
            self.evaluate(false)?;
            self.sample(false)?;
            self.checkpoint(false)?;
            last_step = Instant::now();
        }
        let stopped = self.control.is_stopped();
        if !stopped {
            self.evaluate(true)?;
        }
        self.sample(true)?;
        self.checkpoint(true)?;
        let summary = TrainSummary {
            step: self.model.step(),
            loss,
            reason: if stopped { "stopped" } else { "finished" },
            seconds: self.started.elapsed().as_secs_f64(),
            checkpoint: self.last_checkpoint.take().map(|(_, path)| path),
        };
        self.tell(TrainEvent::RunEnd { summary: summary.clone() });
        Ok(summary)
    }

    fn tell(&mut self, event: TrainEvent) {
        (self.on_event)(event);
    }

    /// One step on the device's queue. The trainer goes there and comes back.
    fn step(
        &self,
        mut trainer: Trainer,
        batch: crate::data::PrefetchedBatch,
        learning_rate: f64,
        step: u64,
    ) -> Result<(Trainer, Result<super::StepOutcome>)> {
        let model = self.model.clone();
        self.model.with_state(move |state| {
            state.forget_prepared();
            let device = model.device().burn();
            let outcome = trainer.step(&mut state.glow, model.config(), &batch, learning_rate, step, device);
            if outcome.is_ok() {
                model.set_step(step);
            }
            Ok((trainer, outcome))
        })
    }

    /// Whether what is done every so many steps, and was done last at `last`, is due.
    fn is_due(&self, every: u64, last: Option<u64>, at_an_end: bool) -> bool {
        let step = self.model.step();
        last != Some(step) && (at_an_end || step.is_multiple_of(every))
    }

    fn watch(&mut self, step: u64, rebuild_error: Option<f32>) {
        if let Some(error) = rebuild_error
            && (error.is_nan() || error > REBUILD_WARNING)
        {
            let message = format!(
                "Rebuilt activations are {error:e} away from the true ones: expected at most {REBUILD_WARNING:e}. \
                 Train with activations 'inputs' or 'stored', or a bounded scale"
            );
            self.tell(TrainEvent::Warning { step, code: "REBUILD_ERROR", message });
        }
    }

    fn evaluate(&mut self, at_the_end: bool) -> Result<()> {
        let (Some(evaluate), Some(data)) = (&self.config.evaluate, self.held_out) else { return Ok(()) };
        if !self.is_due(evaluate.every, self.evaluated, at_the_end) {
            return Ok(());
        }
        let step = self.model.step();
        self.evaluated = Some(step);
        let call = Call { cancel: self.control.stopped.clone(), batch_size: None };
        match self.model.evaluate(data, evaluate.limit, self.config.seed, &call) {
            Ok(evaluation) => self.tell(TrainEvent::EvaluationEnd { step, evaluation }),
            Err(Error::Aborted) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn sample(&mut self, at_an_end: bool) -> Result<()> {
        let Some(SampleConfig { folder, every, count, temperature }) = &self.config.sample else { return Ok(()) };
        if !self.is_due(*every, self.sampled, at_an_end) {
            return Ok(());
        }
        let step = self.model.step();
        self.sampled = Some(step);
        let images = match self.model.sample(*count, *temperature, self.config.seed, &Call::default()) {
            // A young model may not invert everywhere: no reason to end its training.
            Err(error @ Error::NotFinite { .. }) => {
                self.tell(TrainEvent::Warning { step, code: "SAMPLE_NOT_FINITE", message: error.to_string() });
                return Ok(());
            }
            images => images?,
        };
        std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
        let path = folder.join(format!("step-{step:08}.png"));
        write_png_grid(&path, &images, &GridOptions::default())?;
        self.tell(TrainEvent::SampleEnd { step, path });
        Ok(())
    }

    fn checkpoint(&mut self, at_the_end: bool) -> Result<()> {
        let Some(to) = &self.config.checkpoint else { return Ok(()) };
        let last = self.last_checkpoint.as_ref().map(|(step, _)| *step);
        if !self.is_due(to.every, last, at_the_end) {
            return Ok(());
        }
        let step = self.model.step();
        let path = checkpoint::write(self.model, self.config, self.activations, to)?;
        self.last_checkpoint = Some((step, path.clone()));
        self.tell(TrainEvent::CheckpointEnd { step, path });
        Ok(())
    }
}
