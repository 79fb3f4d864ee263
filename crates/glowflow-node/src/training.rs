//! A training run and the way of its events to JavaScript.
//!
//! The training thread never waits for a reader: it puts events into the mailboxes that are open and wakes Node once.
//! Node then takes what it has readers for. In a mailbox that is not read, steps merge into one event and everything
//! else queues.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use std::path::PathBuf;

use glowflow::data::Dataset;
use glowflow::{Control, FlowModel, RunData, TrainConfig, TrainEvent, TrainSummary};
use napi::Env;
use napi::bindgen_prelude::{Function, PromiseRaw};
use napi::threadsafe_function::ThreadsafeFunctionCallMode;
use napi_derive::napi;

use crate::custom::Stoppable;
use crate::device::Device;
use crate::error::{to_json, to_napi};
use crate::model::Model;
use crate::options::over;
use crate::task::{guard, spawn};

/// A checkpoint to go on from, until a run has taken it.
#[napi]
pub struct Checkpoint {
    model: FlowModel,
    train: TrainConfig,
    inner: Mutex<Option<glowflow::Checkpoint>>,
}

#[napi]
impl Checkpoint {
    /// Its model.
    #[napi(getter)]
    pub fn model(&self) -> Model {
        Model { inner: self.model.clone() }
    }

    /// What the run's nets are computed in.
    #[napi(getter)]
    pub fn precision(&self) -> String {
        self.train.precision.to_string()
    }

    /// The run's options with what `json` gives put over them: an engine `TrainConfig` as JSON, whole.
    #[napi]
    pub fn options(&self, json: String) -> napi::Result<String> {
        to_js(&over(&self.train, &json)?)
    }

    pub(crate) fn take(&self) -> napi::Result<glowflow::Checkpoint> {
        let taken = lock(&self.inner).take();
        taken.ok_or_else(|| to_napi(&glowflow::Error::Internal { message: "a checkpoint was used twice".into() }))
    }
}

/// The checkpoint that a path stands for, and its model.
#[napi]
pub fn read_checkpoint<'env>(
    env: &'env Env,
    path: String,
    device: &Device,
) -> napi::Result<PromiseRaw<'env, Checkpoint>> {
    let device = device.inner.clone();
    let path = PathBuf::from(path);
    let convert = |_: &Env, (model, checkpoint): (FlowModel, glowflow::Checkpoint)| {
        let train = checkpoint.state.train.clone();
        Ok(Checkpoint { model, train, inner: Mutex::new(Some(checkpoint)) })
    };
    spawn(env, move || FlowModel::resume(&path, &device), convert)
}

/// An event, or nothing more to come.
type News = Option<TrainEvent>;

#[derive(Default)]
struct Readers {
    open: Vec<Weak<Mutex<VecDeque<News>>>>,
    /// What a reader that comes later gets first: a run may start before anybody can listen.
    start: News,
    /// What the run came to, once it has.
    outcome: Option<Result<TrainSummary, String>>,
}

impl Readers {
    fn post(&mut self, news: &News) {
        if let Some(TrainEvent::RunStart { .. }) = news {
            self.start.clone_from(news);
        }
        self.open.retain(|mailbox| {
            let Some(mailbox) = mailbox.upgrade() else { return false };
            let mut mailbox = lock(&mailbox);
            match (mailbox.back_mut(), news) {
                (Some(Some(TrainEvent::StepEnd(unread))), Some(TrainEvent::StepEnd(step))) => {
                    unread.absorb(step.clone());
                }
                _ => mailbox.push_back(news.clone()),
            }
            true
        });
    }
}

/// A run under way or over.
#[napi]
pub struct Run {
    readers: Arc<Mutex<Readers>>,
    control: Arc<Control>,
}

#[napi]
impl Run {
    pub(crate) fn start(
        model: FlowModel,
        data: RunData,
        config: TrainConfig,
        from: Option<glowflow::Checkpoint>,
        wake: &Function<'_, (), ()>,
    ) -> napi::Result<Self> {
        let woken = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&woken);
        // Weak: `src/training.ts` alone decides whether a run keeps the process alive.
        let wake = wake.build_threadsafe_function::<()>().weak::<true>().build_callback(move |_| {
            seen.store(false, Ordering::Release);
            Ok(())
        })?;
        let wake = move || {
            if !woken.swap(true, Ordering::AcqRel) {
                wake.call((), ThreadsafeFunctionCallMode::NonBlocking);
            }
        };

        let run = Self { readers: Arc::default(), control: Arc::new(Control::new()) };
        let (readers, control) = (Arc::clone(&run.readers), Arc::clone(&run.control));
        let stoppable = |data: Arc<dyn Dataset>| -> Arc<dyn Dataset> {
            let control = Arc::clone(&run.control);
            Arc::new(Stoppable::new(data, move || control.is_stopped()))
        };
        let data = RunData { training: stoppable(data.training), held_out: data.held_out.map(stoppable) };
        let training = move || {
            let outcome = guard(|| {
                model.train(data, config, from, &control, &mut |event| {
                    // `src/training.ts` makes this one of the outcome.
                    if !matches!(event, TrainEvent::RunEnd { .. }) {
                        lock(&readers).post(&Some(event));
                        wake();
                    }
                })
            });
            let mut readers = lock(&readers);
            readers.outcome = Some(outcome.map_err(|error| to_json(&error)));
            readers.post(&None);
            drop(readers);
            wake();
        };
        std::thread::Builder::new()
            .name("glowflow-train".to_string())
            .spawn(training)
            .map_err(|error| napi::Error::from_reason(error.to_string()))?;
        Ok(run)
    }

    /// Ends the run after the step under way.
    #[napi]
    pub fn stop(&self) {
        self.control.stop();
    }

    /// What the run came to: nothing yet, its summary as JSON, or its failure.
    #[napi]
    pub fn outcome(&self) -> napi::Result<Option<String>> {
        match lock(&self.readers).outcome.clone() {
            None => Ok(None),
            Some(Ok(summary)) => to_js(&summary).map(Some),
            Some(Err(failure)) => Err(napi::Error::from_reason(failure)),
        }
    }

    /// A mailbox for the start of the run and the events from now on.
    #[napi]
    pub fn open(&self) -> Mailbox {
        let mailbox = Mailbox::default();
        let mut readers = lock(&self.readers);
        if readers.outcome.is_some() {
            lock(&mailbox.news).push_back(None);
        } else {
            lock(&mailbox.news).extend(readers.start.clone().map(Some));
            readers.open.push(Arc::downgrade(&mailbox.news));
        }
        mailbox
    }
}

/// Events of a run that one reader has not read yet.
#[napi]
#[derive(Default)]
pub struct Mailbox {
    news: Arc<Mutex<VecDeque<News>>>,
}

#[napi]
impl Mailbox {
    /// The next event as JSON, `"null"` where the run is over, or nothing yet.
    #[napi]
    pub fn next(&self) -> napi::Result<Option<String>> {
        let news = lock(&self.news).pop_front();
        news.as_ref().map(to_js).transpose()
    }
}

fn to_js(value: &impl serde::Serialize) -> napi::Result<String> {
    serde_json::to_string(value).map_err(|error| napi::Error::from_reason(error.to_string()))
}

/// A panic of another holder leaves these queues as good as before it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
