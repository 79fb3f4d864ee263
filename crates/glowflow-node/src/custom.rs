//! Datasets written in JavaScript.
//!
//! A thread of the engine that wants a batch asks Node's thread for it and waits. Node's thread never waits for one of
//! the engine's, and a waiting thread looks every few milliseconds whether its run or call has been stopped: so neither a
//! batch that never comes nor the end of the program leaves two threads waiting for each other.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use glowflow::data::{self, LabelledImages};
use glowflow::{Error, ImageShape, Images, Result};
use napi::Status;
use napi::bindgen_prelude::{Function, Uint32Array};
use napi::threadsafe_function::ThreadsafeFunctionCallMode;
use napi_derive::napi;

use crate::data::Dataset;
use crate::error::to_napi;
use crate::images::Pixels;

/// How often a waiting thread looks whether it has been stopped.
const LOOK: Duration = Duration::from_millis(20);

/// Whether a run or a call is no longer wanted.
type Stopped = Arc<dyn Fn() -> bool + Send + Sync>;

thread_local! {
    /// Of the run or call that this thread reads for.
    static STOPPED: RefCell<Option<Stopped>> = const { RefCell::new(None) };
}

fn is_stopped() -> bool {
    STOPPED.with_borrow(|stopped| stopped.as_ref().is_some_and(|stopped| stopped()))
}

/// A dataset as one run or call reads it: a batch that is waited for is left, with [`Error::Aborted`], when that run or
/// call is stopped.
pub struct Stoppable {
    inner: Arc<dyn data::Dataset>,
    stopped: Stopped,
}

impl Stoppable {
    /// `stopped` is asked from other threads.
    pub fn new(inner: Arc<dyn data::Dataset>, stopped: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self { inner, stopped: Arc::new(stopped) }
    }

    fn read(&self, read: impl FnOnce(&dyn data::Dataset) -> Result<LabelledImages>) -> Result<LabelledImages> {
        let _outer = Restore(STOPPED.replace(Some(Arc::clone(&self.stopped))));
        read(&*self.inner)
    }
}

/// Puts back what was there, after a panic as well: threads of calls are used again.
struct Restore(Option<Stopped>);

impl Drop for Restore {
    fn drop(&mut self) {
        STOPPED.set(self.0.take());
    }
}

impl data::Dataset for Stoppable {
    fn len(&self) -> usize {
        self.inner.len()
    }

    fn shape(&self) -> ImageShape {
        self.inner.shape()
    }

    fn classes(&self) -> Option<&[String]> {
        self.inner.classes()
    }

    fn attributes(&self) -> Option<&[String]> {
        self.inner.attributes()
    }

    fn fingerprint(&self) -> String {
        self.inner.fingerprint()
    }

    fn batch(&self, indices: &[usize]) -> Result<LabelledImages> {
        self.read(|data| data.batch(indices))
    }

    fn training_batch(&self, indices: &[usize], seed: u64, step: u64) -> Result<LabelledImages> {
        self.read(|data| data.training_batch(indices, seed, step))
    }
}

/// What a program says about its images.
#[napi(object, object_to_js = false)]
pub struct CustomSource {
    /// Names the data.
    pub id: String,
    /// Number of images.
    pub length: u32,
    /// Rows.
    pub height: u32,
    /// Columns.
    pub width: u32,
    /// Values of a pixel.
    pub channels: u32,
    /// Class names, in label order, where there are labels.
    pub classes: Option<Vec<String>>,
}

struct Custom {
    id: String,
    len: usize,
    shape: ImageShape,
    classes: Option<Vec<String>>,
    /// Whether Node's thread will see the question.
    ask: Box<dyn Fn(BatchRequest) -> bool + Send + Sync>,
}

/// A batch that a thread of the engine waits for. Answered once; later answers are dropped, as is one that nobody waits
/// for any more.
#[napi]
pub struct BatchRequest {
    indices: Vec<u32>,
    answer: Sender<Result<LabelledImages, String>>,
}

#[napi]
impl BatchRequest {
    /// The images that are wanted, in this order.
    #[napi(getter)]
    pub fn indices(&self) -> Vec<u32> {
        self.indices.clone()
    }

    /// Copies the batch.
    #[napi]
    pub fn resolve(&self, images: Pixels, labels: Option<Uint32Array>) -> napi::Result<()> {
        let images = images.copy().map_err(|error| to_napi(&error))?;
        let labels = labels.map(|labels| labels.to_vec());
        // Nobody listens any more: nothing to tell.
        let _ = self.answer.send(Ok(LabelledImages { images, labels, attributes: None }));
        Ok(())
    }

    /// There is none, for this reason.
    #[napi]
    pub fn reject(&self, reason: String) {
        let _ = self.answer.send(Err(reason));
    }
}

impl Custom {
    fn bad(&self, reason: String) -> Error {
        Error::Data { what: format!("the data set '{}'", self.id), index: None, reason }
    }
}

impl data::Dataset for Custom {
    fn len(&self) -> usize {
        self.len
    }

    fn shape(&self) -> ImageShape {
        self.shape
    }

    fn classes(&self) -> Option<&[String]> {
        self.classes.as_deref()
    }

    fn fingerprint(&self) -> String {
        data::id_fingerprint(&self.id, self.len, self.shape, self.classes())
    }

    fn batch(&self, indices: &[usize]) -> Result<LabelledImages> {
        data::check_indices(indices, self.len)?;
        if indices.is_empty() {
            let images = glowflow::Pixels::Bytes(Images::new(Vec::new(), 0, self.shape)?);
            return Ok(LabelledImages { images, labels: self.classes.as_ref().map(|_| Vec::new()), attributes: None });
        }
        if is_stopped() {
            return Err(Error::Aborted);
        }
        let (answer, answered) = channel();
        let indices_asked = indices.iter().map(|&index| index as u32).collect();
        if !(self.ask)(BatchRequest { indices: indices_asked, answer }) {
            // The program ends.
            return Err(Error::Aborted);
        }
        let batch = loop {
            match answered.recv_timeout(LOOK) {
                Ok(answer) => break answer.map_err(|reason| self.bad(reason))?,
                Err(RecvTimeoutError::Timeout) if is_stopped() => return Err(Error::Aborted),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(self.bad("Expected a batch but its promise was forgotten unsettled".into()));
                }
            }
        };
        data::check_batch(self, indices, &batch)?;
        Ok(batch)
    }
}

/// Images that a program has: `ask` is called with every batch that is wanted, and answers it when it can.
#[napi]
pub fn custom_dataset(source: CustomSource, ask: Function<'_, BatchRequest, ()>) -> napi::Result<Dataset> {
    // Weak: a dataset does not keep the process alive.
    let ask =
        ask.build_threadsafe_function::<BatchRequest>().weak::<true>().build_callback(|context| Ok(context.value))?;
    let ask = move |request| ask.call(request, ThreadsafeFunctionCallMode::NonBlocking) == Status::Ok;
    let CustomSource { id, length, height, width, channels, classes } = source;
    let shape = ImageShape { height: height as usize, width: width as usize, channels: channels as usize };
    let custom = Custom { id, len: length as usize, shape, classes, ask: Box::new(ask) };
    Ok(Dataset { inner: Arc::new(custom) })
}
