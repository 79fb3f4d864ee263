//! A training run from its first step to its last.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use burn::tensor::Device;
use serde_json::json;

use super::checkpoint::{Best, Checkpoint, Checkpoints, RunState};
use super::config::{Activations, CheckpointConfig, OnNotFinite, SampleConfig, TrainConfig};
use super::event::{StepEnd, TrainEvent, TrainSummary};
use super::optimizer::Optimizer;
use super::reducer::Identity;
use super::schedule::Progress;
use super::step::{Outcomes, Trainer, Weights};
use crate::data::{Dataset, Order, Plan, Prefetch};
use crate::error::{Error, Result};
use crate::models::flow_model::{State, read_checkpoint};
use crate::models::memory::{self, MemoryEstimate};
use crate::models::{Call, ClassLabels, Evaluation, FlowModel, check_classes, self_check};
use crate::picture::{GridOptions, write_png_grid};
use crate::record::Recorder;
use crate::store::lock::Lock;

/// Part of the free memory that a run may plan to use.
const MEMORY_SHARE: f64 = 0.6;

/// Largest error of a rebuilt batch before a warning: half a bin of 8-bit pixels.
const REBUILD_WARNING: f32 = 1.0 / 512.0;

/// A run loses no more time than this to a power cut, however long its steps are.
const LONGEST_UNSAVED: Duration = Duration::from_secs(15 * 60);

/// Times that a run goes back to its last checkpoint before it ends: what fails again and again will not pass.
const MOST_ROLLBACKS: u32 = 3;

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

/// What a run trains on.
#[derive(Clone)]
pub struct RunData {
    /// What the weights learn.
    pub training: Arc<dyn Dataset>,
    /// What they are scored on.
    pub held_out: Option<Arc<dyn Dataset>>,
}

impl RunData {
    /// Without anything to score.
    pub fn of(training: Arc<dyn Dataset>) -> Self {
        Self { training, held_out: None }
    }
}

impl FlowModel {
    /// Trains until a limit is reached or `control` stops it; blocks. `from` is the checkpoint that the model was
    /// [resumed](FlowModel::resume) from, if it was.
    ///
    /// Every batch is one piece of work on the device's queue: calls from other threads come between two of them, and
    /// see the weights of one step boundary.
    ///
    /// With an average (`ema`) everything but the training itself uses that; when the run is over, the average is the
    /// model.
    ///
    /// # Errors
    ///
    /// [`Error::Option`] for options out of range, [`Error::Busy`] if the model is in training, [`Error::Data`] if a
    /// checkpoint's data were others, [`Error::NotFinite`] for a loss or gradient that is not finite: the weights are
    /// then those of the last good step. Whatever ends a run, a checkpoint is written first where they are asked for.
    pub fn train(
        &self,
        data: RunData,
        config: TrainConfig,
        from: Option<Checkpoint>,
        control: &Control,
        on_event: &mut dyn FnMut(TrainEvent),
    ) -> Result<TrainSummary> {
        config.validate()?;
        self.check_shape("training images", data.training.shape())?;
        if let Some(held_out) = &data.held_out {
            self.check_shape("evaluation images", held_out.shape())?;
        }
        self.check_precision(config.precision)?;
        check_classes(self.config(), &*data.training)?;
        if let Some(held_out) = &data.held_out {
            check_classes(self.config(), &**held_out)?;
        }
        let fingerprint = data.training.fingerprint();
        if let Some(checkpoint) = &from {
            check_continuation(checkpoint, &config, &fingerprint)?;
        }
        let _mark = self.begin_training()?;
        let activations = self.activations(&config)?;
        // The choice is kept, so that a resumed run makes the same one on a machine with other memory.
        let config = TrainConfig { activations: Some(activations), ..config.resolved() };
        self_check::check_once(self.config(), config.batch_size, self.device())?;
        let _locks = locks(&config)?;
        let checkpoints = config.checkpoint.as_ref().map(|to| Checkpoints::open(to, self.step())).transpose()?;
        if !self.initialized() {
            match self.initialize_marked(&*data.training, config.init_images, config.seed) {
                // Stopped before there was anything to train, sample or store.
                Err(Error::Aborted) if control.is_stopped() => {
                    let (step, reason) = (self.step(), "stopped");
                    return Ok(TrainSummary { step, loss: f64::NAN, reason, seconds: 0.0, checkpoint: None });
                }
                initialized => initialized?,
            }
        }
        let state = match &from {
            Some(checkpoint) => RunState { train: config.clone(), ..checkpoint.state.clone() },
            None => RunState {
                step: self.step(),
                images: self.step() * config.images_per_step(),
                optimizer_steps: 0,
                seconds: 0.0,
                best: None,
                data: fingerprint,
                train: config.clone(),
            },
        };
        let recorder = self.recorder(&config, &state, &*data.training)?;
        let trainer = self.trainer(&config, activations, from)?;
        let run = Run {
            model: self,
            config: &config,
            data: &data,
            checkpoints,
            recorder,
            control,
            on_event,
            trainer,
            earlier_seconds: state.seconds,
            state,
            started: Instant::now(),
            loss: f64::NAN,
            rollbacks: 0,
            evaluated: None,
            improved: false,
            sampled: None,
            last_checkpoint: None,
            saved: Instant::now(),
        };
        let outcome = run.go();
        // Fails where the model has been disposed of: there is nothing left to be made the model then.
        let _ = self.with_state(|state| {
            if let Some(average) = state.average.take() {
                state.forget_prepared();
                state.network = average;
            }
            Ok(())
        });
        outcome
    }

    /// What writes the run's folder, if it has one.
    fn recorder(&self, config: &TrainConfig, state: &RunState, data: &dyn Dataset) -> Result<Option<Recorder>> {
        let Some(folder) = &config.folder else { return Ok(None) };
        let settings = json!({
            "glowflow": env!("CARGO_PKG_VERSION"),
            "device": self.device().info().label,
            "model": self.config(),
            "train": config,
            "data": { "images": data.len(), "shape": data.shape(), "fingerprint": state.data },
        });
        Recorder::open(folder, state.step, &settings).map(Some)
    }

    /// Puts a checkpoint's weights, or the start of an average, in place.
    fn trainer(
        &self,
        config: &TrainConfig,
        activations: Activations,
        from: Option<Checkpoint>,
    ) -> Result<Arc<Mutex<Trainer>>> {
        let (config, model) = (config.clone(), self.config().clone());
        self.with_state(move |state| {
            let optimizer = restore(state, &config, from);
            let trainer = Trainer::new(&config, &model, activations, optimizer, Box::new(Identity));
            Ok(Arc::new(Mutex::new(trainer)))
        })
    }

    /// The asked-for way to hold activations, or the first that fits in memory.
    fn activations(&self, config: &TrainConfig) -> Result<Activations> {
        let estimate = MemoryEstimate::of(self.config(), config);
        let available = (memory::available() as f64 * MEMORY_SHARE) as u64;
        let ways = match &config.activations {
            Some(way) => std::slice::from_ref(way),
            None => config.ways(),
        };
        let fits = ways.iter().copied().find(|&way| estimate.with(way) <= available);
        fits.ok_or_else(|| Error::OutOfMemory {
            what: "a training step of this size".into(),
            needed: estimate.with(ways[ways.len() - 1]),
            available,
        })
    }
}

/// Holds the folders that one run at a time may write to.
fn locks(config: &TrainConfig) -> Result<Vec<Lock>> {
    let checkpoints = config.checkpoint.as_ref().map(|checkpoint| &checkpoint.folder);
    config.folder.iter().chain(checkpoints).map(|folder| Lock::acquire(folder)).collect()
}

/// Whether a run of this config can go on from the checkpoint, with these data.
fn check_continuation(checkpoint: &Checkpoint, config: &TrainConfig, fingerprint: &str) -> Result<()> {
    let RunState { data, train, .. } = &checkpoint.state;
    if data != fingerprint {
        return Err(Error::Data {
            what: "the training data".into(),
            index: None,
            reason: format!("Expected those of the checkpoint, {data}, but received {fingerprint}"),
        });
    }
    if train.optimizer.name != config.optimizer.name {
        let [expected, received] = [train, config].map(|config| format!("{:?}", config.optimizer.name).to_lowercase());
        return Err(Error::option("optimizer.name", format!("{expected}, as in the checkpoint,"), received));
    }
    Ok(())
}

/// Makes the weights and the optimizer those of a checkpoint, or those of a start.
fn restore(state: &mut State, config: &TrainConfig, from: Option<Checkpoint>) -> Optimizer {
    state.forget_prepared();
    let mut optimizer = match from {
        None => Optimizer::new(config.optimizer.clone()),
        Some(Checkpoint { state: RunState { optimizer_steps, .. }, moments, weights, .. }) => {
            if let Some(weights) = weights {
                state.average = Some(std::mem::replace(&mut state.network, weights));
            }
            Optimizer::restore(config.optimizer.clone(), optimizer_steps, moments, &state.network)
        }
    };
    optimizer.make_moments(&state.network);
    match config.ema {
        None => state.average = None,
        Some(_) => {
            state.average.get_or_insert_with(|| state.network.clone());
        }
    }
    optimizer
}

struct Run<'a> {
    model: &'a FlowModel,
    config: &'a TrainConfig,
    data: &'a RunData,
    checkpoints: Option<Checkpoints>,
    recorder: Option<Recorder>,
    control: &'a Control,
    on_event: &'a mut dyn FnMut(TrainEvent),
    trainer: Arc<Mutex<Trainer>>,
    state: RunState,
    /// Of the parts of this run before this one.
    earlier_seconds: f64,
    started: Instant,
    loss: f64,
    rollbacks: u32,
    /// Steps at which these were done last.
    evaluated: Option<u64>,
    sampled: Option<u64>,
    last_checkpoint: Option<(u64, PathBuf)>,
    /// When that was, or the run began.
    saved: Instant,
    /// The last evaluation was the best, and its weights have no checkpoint yet.
    improved: bool,
}

/// Why the steps have ended.
enum End {
    Over,
    NotFinite(Error),
}

impl Run<'_> {
    fn go(mut self) -> Result<TrainSummary> {
        let batches_per_epoch = self.data.training.len() as f64 / self.config.batch_size as f64;
        let (step, seconds) = (self.state.step, self.earlier_seconds);
        self.tell(TrainEvent::RunStart { step, batches_per_epoch, seconds });
        let ended = self.run().and_then(|()| {
            let stopped = self.control.is_stopped();
            if !stopped {
                self.evaluate(true)?;
            }
            self.sample(true)?;
            Ok(stopped)
        });
        let stopped = match ended {
            Ok(stopped) => stopped,
            Err(error) => {
                // The weights are still the last good ones. What ended the run is told, not what befell its checkpoint.
                let _ = self.checkpoint(true);
                return Err(error);
            }
        };
        self.checkpoint(true)?;
        let summary = TrainSummary {
            step: self.state.step,
            loss: self.loss,
            reason: if stopped { "stopped" } else { "finished" },
            seconds: self.seconds(),
            checkpoint: self.last_checkpoint.take().map(|(_, path)| path),
        };
        self.tell(TrainEvent::RunEnd { summary: summary.clone() });
        Ok(summary)
    }

    fn run(&mut self) -> Result<()> {
        self.sample(true)?;
        let rollback = self.config.on_not_finite == OnNotFinite::Rollback;
        if rollback {
            self.checkpoint(true)?;
        }
        loop {
            match self.steps()? {
                End::Over => return Ok(()),
                End::NotFinite(error) if rollback && self.rollbacks < MOST_ROLLBACKS => self.roll_back(&error)?,
                End::NotFinite(error) => return Err(error),
            }
        }
    }

    /// Steps until the run is over or one fails.
    fn steps(&mut self) -> Result<End> {
        let order = Order::new(self.data.training.len(), self.config.seed)?;
        let plan = Plan {
            position: self.state.images,
            step: self.state.step,
            batch_size: self.config.batch_size,
            accumulate: self.config.accumulate,
            augment: self.config.augment,
        };
        let mut batches = Prefetch::new(self.data.training.clone(), order, plan)?;
        let mut last = Instant::now();
        loop {
            let at = self.progress();
            if self.control.is_stopped() || self.config.is_over(self.state.step, at.epochs, at.seconds) {
                return Ok(self.collect(true, &mut last)?.map_or(End::Over, End::NotFinite));
            }
            match self.step(&mut batches, self.config.learning_rate(at)) {
                // The data set was left because the run is stopped: the loop ends above.
                Err(Error::Aborted) if self.control.is_stopped() => continue,
                stepped => stepped?,
            }
            if let Some(error) = self.collect(self.something_is_due(), &mut last)? {
                return Ok(End::NotFinite(error));
            }
            let before = Instant::now();
            self.evaluate(false)?;
            self.sample(false)?;
            self.checkpoint(false)?;
            last += before.elapsed();
        }
    }

    /// Where the next step is.
    fn progress(&self) -> Progress {
        let epochs = self.state.images as f64 / self.data.training.len() as f64;
        Progress { step: self.state.step + 1, epochs, seconds: self.seconds() }
    }

    fn seconds(&self) -> f64 {
        self.earlier_seconds + self.started.elapsed().as_secs_f64()
    }

    fn step(&mut self, batches: &mut Prefetch, learning_rate: f64) -> Result<()> {
        let step = self.state.step + 1;
        for batch in 1..=self.config.accumulate {
            let read = batches.next_batch()?;
            let last = batch == self.config.accumulate;
            let model = self.model.clone();
            self.on_queue(move |trainer, state, device| {
                // What is prepared for inference shares the weights' memory.
                if last {
                    state.forget_prepared();
                }
                trainer.accumulate(&state.network, read, device)?;
                if last {
                    let weights = Weights { network: &mut state.network, average: &mut state.average };
                    trainer.update(weights, learning_rate, step, device)?;
                    model.set_step(step);
                }
                Ok(())
            })?;
        }
        self.state.step = step;
        self.state.images += self.config.images_per_step();
        self.state.optimizer_steps += 1;
        Ok(())
    }

    /// Tells of the steps whose findings can be read, or of all if `now`; the error of the first bad one.
    fn collect(&mut self, now: bool, last: &mut Instant) -> Result<Option<Error>> {
        let Outcomes { found, failed } =
            self.on_queue(move |trainer, state, device| trainer.outcomes(&state.network, now, device))?;
        let told = found.len() as f64;
        if told > 0.0 {
            let each = last.elapsed().as_secs_f64() / told;
            *last = Instant::now();
            for outcome in found {
                self.loss = outcome.loss;
                let steps_ago = self.state.step - outcome.step;
                let images = self.state.images - steps_ago * self.config.images_per_step();
                self.tell(TrainEvent::StepEnd(StepEnd {
                    step: outcome.step,
                    epoch: images / self.data.training.len() as u64,
                    loss: outcome.loss,
                    gradient_norm: outcome.gradient_norm,
                    learning_rate: outcome.learning_rate,
                    images_per_second: self.config.images_per_step() as f64 / each,
                    rebuild_error: outcome.rebuild_error,
                    merged: 1,
                }));
                self.watch(outcome.step, outcome.rebuild_error);
            }
        }
        Ok(failed.map(|(step, error)| {
            // Nothing from the bad step on has reached the weights; its images count as seen.
            let undone = self.state.step + 1 - step;
            self.state.step -= undone;
            self.state.optimizer_steps -= undone;
            self.state.images -= (undone - 1) * self.config.images_per_step();
            self.model.set_step(self.state.step);
            error
        }))
    }

    /// Goes back to the last checkpoint's weights, with the images that come after the bad ones.
    fn roll_back(&mut self, error: &Error) -> Result<()> {
        let Some((_, path)) = self.last_checkpoint.clone() else { return Ok(()) };
        self.rollbacks += 1;
        let config = self.config.clone();
        let at = self.on_queue(move |trainer, state, device| {
            let (stored, checkpoint) = read_checkpoint(&path, device)?;
            let at = checkpoint.state.clone();
            state.network = stored.network;
            trainer.continue_with(restore(state, &config, Some(checkpoint)));
            Ok(at)
        })?;
        self.model.set_step(at.step);
        (self.state.step, self.state.optimizer_steps) = (at.step, at.optimizer_steps);
        let message = format!("{error}: the run goes on from the checkpoint of step {}", self.state.step);
        self.warn("ROLLED_BACK", &message);
        Ok(())
    }

    fn tell(&mut self, event: TrainEvent) {
        let recorded = self.recorder.as_mut().map_or(Ok(()), |recorder| recorder.record(&event));
        (self.on_event)(event);
        if let Err(error) = recorded {
            self.warn("RECORD_FAILED", &error);
        }
    }

    fn warn(&mut self, code: &'static str, message: &impl ToString) {
        self.tell(TrainEvent::Warning { step: self.state.step, code, message: message.to_string() });
    }

    /// `work` on the device's queue.
    fn on_queue<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Trainer, &mut State, &Device) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (trainer, model) = (self.trainer.clone(), self.model.clone());
        self.model.with_state(move |state| {
            let mut trainer = trainer.lock().map_err(|_| Error::Internal { message: "a step has panicked".into() })?;
            work(&mut trainer, state, model.device().burn())
        })
    }

    /// Whether what is done every so many steps, and was done last at `last`, is due.
    fn is_due(&self, every: u64, last: Option<u64>, at_an_end: bool) -> bool {
        let step = self.state.step;
        last != Some(step) && (at_an_end || step.is_multiple_of(every))
    }

    fn something_is_due(&self) -> bool {
        let every = [
            self.config.evaluate.as_ref().map(|evaluate| evaluate.every),
            self.config.sample.as_ref().map(|sample| sample.every),
            self.config.checkpoint.as_ref().map(|checkpoint| checkpoint.every),
        ];
        every.into_iter().flatten().any(|every| self.state.step.is_multiple_of(every)) || self.is_long_unsaved()
    }

    fn is_long_unsaved(&self) -> bool {
        self.config.checkpoint.is_some() && self.saved.elapsed() > LONGEST_UNSAVED
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
        let (Some(evaluate), Some(data)) = (&self.config.evaluate, &self.data.held_out) else { return Ok(()) };
        if !self.is_due(evaluate.every, self.evaluated, at_the_end) {
            return Ok(());
        }
        let step = self.state.step;
        self.evaluated = Some(step);
        let (cancel, precision) = (self.control.stopped.clone(), self.config.precision);
        let call = Call { cancel, precision, ..Call::default() };
        match self.model.evaluate(&**data, evaluate.limit, self.config.seed, &call) {
            Ok(evaluation) => self.evaluated(step, evaluation),
            Err(Error::Aborted) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn evaluated(&mut self, step: u64, evaluation: Evaluation) {
        let bits_per_dim = evaluation.bits_per_dim;
        if self.state.best.is_none_or(|best| bits_per_dim < best.bits_per_dim) {
            self.state.best = Some(Best { step, bits_per_dim });
            self.improved = true;
        }
        self.tell(TrainEvent::EvaluationEnd { step, evaluation });
    }

    fn sample(&mut self, at_an_end: bool) -> Result<()> {
        let Some(SampleConfig { folder, every, count, temperature }) = &self.config.sample else { return Ok(()) };
        if !self.is_due(*every, self.sampled, at_an_end) {
            return Ok(());
        }
        let step = self.state.step;
        self.sampled = Some(step);
        let labels = self.model.config().classes().map(|classes| ClassLabels::in_turn(*count, classes));
        let call = Call { labels, ..Call::default() };
        let images = match self.model.sample(*count, *temperature as f32, self.config.seed, &call) {
            // A young model may not invert everywhere: no reason to end its training.
            Err(error @ Error::Overflow { .. }) => {
                self.warn("SAMPLE_NOT_FINITE", &error);
                return Ok(());
            }
            images => images?,
        };
        let path = folder.join(format!("step-{step:08}.png"));
        let made = std::fs::create_dir_all(folder).map_err(Error::io(folder));
        match made.and_then(|()| write_png_grid(&path, &images, &GridOptions::default())) {
            // A full disk: a picture is no reason to end a training.
            Err(error @ Error::Io { .. }) => self.warn("SAMPLE_FAILED", &error),
            written => {
                written?;
                self.tell(TrainEvent::SampleEnd { step, path });
            }
        }
        Ok(())
    }

    fn checkpoint(&mut self, at_an_end: bool) -> Result<()> {
        let Some(CheckpointConfig { every, .. }) = self.config.checkpoint else { return Ok(()) };
        let last = self.last_checkpoint.as_ref().map(|(step, _)| *step);
        if !self.is_due(every, last, at_an_end || self.improved || self.is_long_unsaved()) {
            return Ok(());
        }
        self.saved = Instant::now();
        self.state.seconds = self.seconds();
        // What is before the checkpoint is then on disk: a resumed run keeps those lines and no others.
        if let Some(Err(error)) = self.recorder.as_mut().map(Recorder::sync) {
            self.warn("RECORD_FAILED", &error);
        }
        let Some(checkpoints) = &self.checkpoints else { return Ok(()) };
        let moments = self.on_queue(|trainer, state, _| Ok(trainer.optimizer().stored_moments(&state.network)))?;
        let step = self.state.step;
        match checkpoints.write(self.model, moments, &self.state) {
            Ok(path) => {
                self.improved = false;
                self.last_checkpoint = Some((step, path.clone()));
                self.tell(TrainEvent::CheckpointEnd { step, path });
                Ok(())
            }
            // A full disk may have space again by the next one: no reason to lose what is not yet written.
            Err(error @ Error::Io { .. }) if !at_an_end => {
                self.warn("CHECKPOINT_FAILED", &error);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}
