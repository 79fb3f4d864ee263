//! The engine's one error type.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::kernels::Precision;
use crate::store::pytorch::Report;

/// What the engine's fallible functions return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong, with what was expected and what came.
///
/// [`Error::code`] is stable across versions; the sentence is for people and may change.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An option that is unknown or out of range.
    #[error("Expected {expected} for {option} but received {received}")]
    Option {
        /// The option's name as in the API.
        option: String,
        /// What it may be.
        expected: String,
        /// What came.
        received: String,
    },
    /// Images, latents or noise of a size that the model does not take.
    #[error("Expected {what} of {expected} but received {received}")]
    Shape {
        /// What was given: `"images"`, `"latents"`.
        what: String,
        /// The sizes that the model takes.
        expected: String,
        /// The sizes that came.
        received: String,
    },
    /// No such device, or one that does not start.
    #[error("The device {device} is not available: {reason}")]
    DeviceUnavailable {
        /// The name that was asked for.
        device: String,
        /// Why it cannot be had.
        reason: String,
    },
    /// Arithmetic that the device, or this kind of model, does not have.
    #[error("Expected {} for the precision of {of} but received {wanted}", list(precisions))]
    Precision {
        /// What was asked for.
        wanted: Precision,
        /// What can be had.
        precisions: Vec<Precision>,
        /// The device, or the kind of model.
        of: String,
    },
    /// The work does not fit; found before anything was allocated.
    #[error("Expected at most {available} bytes of memory but {what} needs {needed}")]
    OutOfMemory {
        /// What needs the memory.
        what: String,
        /// Bytes needed, by estimate.
        needed: u64,
        /// Bytes that can be had.
        available: u64,
    },
    /// A loss, gradient, latent or pixel that is not a number. It never reaches the weights.
    #[error("{what} is not finite at step {step}, first in {layer}")]
    NotFinite {
        /// What was looked at: `"the loss"`, `"a gradient"`.
        what: String,
        /// Optimizer steps that the weights have had.
        step: u64,
        /// Path of the first such layer, e.g. `levels.0.steps.3.coupling`.
        layer: String,
    },
    /// An affine scale can be too small to divide by.
    #[error(
        "Image {image} of these latents is too large for a number: they lie far from what the model has learned. A lower \
         temperature or a smaller amount helps, and so does a model trained with the scale 'bounded'"
    )]
    Overflow {
        /// The first such image, from 0.
        image: usize,
    },
    /// A 1x1 convolution that has no inverse.
    #[error("The 1x1 convolution of {layer} has no inverse")]
    Singular {
        /// Path of the layer.
        layer: String,
    },
    /// A file of another format or version, damaged or hostile, or of a format that cannot hold what it should.
    #[error("{path}: {reason}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What was expected and what was found.
        reason: String,
    },
    /// The system refused.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's own error.
        source: std::io::Error,
    },
    /// Data that cannot be used for what was asked.
    #[error("{what}: {reason}")]
    Data {
        /// Where: a file, `image 12`, `channel 3 of levels.0.steps.0.actnorm`.
        what: String,
        /// Index of the image, where it is one image.
        index: Option<usize>,
        /// What was expected and what came.
        reason: String,
    },
    /// A picture file of a data set that cannot be used.
    #[error("{file} (image {index}): {reason}", file = file.display())]
    Image {
        /// The file.
        file: PathBuf,
        /// Index of the image in its data set.
        index: usize,
        /// What was expected and what came.
        reason: String,
    },
    /// Labels missing, refused or out of range.
    #[error("Expected {expected} for labels but received {received}")]
    Labels {
        /// What they may be.
        expected: String,
        /// What came.
        received: String,
    },
    /// Another run uses the folder.
    #[error("{path} is in use by the run of process {pid}", path = path.display())]
    Locked {
        /// The run's folder.
        path: PathBuf,
        /// The process that uses it.
        pid: u32,
    },
    /// The actnorms have not been set from data.
    #[error("The model is not initialized: call initialize or train first")]
    NotInitialized,
    /// A file of weights that do not fit the model.
    #[error("{path}: {reason}", path = path.display())]
    Weights {
        /// The file.
        path: PathBuf,
        /// The first misfit: which name, what was expected, what was found.
        reason: String,
        /// Of another project's weights, where names are missing: what became of each.
        report: Option<Box<Report>>,
    },
    /// A call that changes a model in training.
    #[error("The model is in training: stop the run first")]
    Busy,
    /// The model has been disposed of.
    #[error("The model has been disposed of")]
    Disposed,
    /// The caller has asked to stop.
    #[error("The call was aborted")]
    Aborted,
    /// A panic inside the engine.
    #[error("Internal error, please report it: {message}")]
    Internal {
        /// The panic's message.
        message: String,
    },
}

impl Error {
    /// An [`Error::Option`] from anything that can be shown.
    pub fn option(option: impl Into<String>, expected: impl Into<String>, received: impl ToString) -> Self {
        Self::Option { option: option.into(), expected: expected.into(), received: received.to_string() }
    }

    /// An [`Error::Shape`] from anything that can be shown.
    pub fn shape(what: impl Into<String>, expected: impl ToString, received: impl ToString) -> Self {
        Self::Shape { what: what.into(), expected: expected.to_string(), received: received.to_string() }
    }

    /// An [`Error::Weights`] without a report.
    pub fn weights(path: impl Into<PathBuf>, reason: impl Into<String>) -> Self {
        Self::Weights { path: path.into(), reason: reason.into(), report: None }
    }

    /// An [`Error::File`].
    pub fn file(path: impl Into<PathBuf>, reason: impl Into<String>) -> Self {
        Self::File { path: path.into(), reason: reason.into() }
    }

    /// For `map_err`: an [`Error::Io`] that names the path.
    pub fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }

    /// An [`Error::Internal`] from what `catch_unwind` caught; `what` panicked.
    pub fn from_panic(panic: &(dyn Any + Send), what: &str) -> Self {
        let message = panic.downcast_ref::<&str>().copied();
        let message = message.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        Self::Internal { message: format!("{what} panicked: {}", message.unwrap_or("without a message")) }
    }

    /// What `work` gives; a panic of it, which is `what`'s, as an [`Error::Internal`].
    pub fn catch<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(Self::from_panic(&*panic, what)))
    }

    /// The stable code, the `code` of a `GlowError` in TypeScript.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Option { .. } => "ERR_GLOW_OPTION",
            Self::Shape { .. } => "ERR_GLOW_SHAPE",
            Self::DeviceUnavailable { .. } => "ERR_GLOW_DEVICE_UNAVAILABLE",
            Self::Precision { .. } => "ERR_GLOW_PRECISION_UNSUPPORTED",
            Self::OutOfMemory { .. } => "ERR_GLOW_OUT_OF_MEMORY",
            Self::NotFinite { .. } | Self::Overflow { .. } => "ERR_GLOW_NOT_FINITE",
            Self::Singular { .. } => "ERR_GLOW_SINGULAR",
            Self::File { .. } => "ERR_GLOW_FILE",
            Self::Io { .. } => "ERR_GLOW_IO",
            Self::Data { .. } | Self::Image { .. } => "ERR_GLOW_DATA",
            Self::Labels { .. } => "ERR_GLOW_LABELS",
            Self::Locked { .. } => "ERR_GLOW_LOCKED",
            Self::NotInitialized => "ERR_GLOW_NOT_INITIALIZED",
            Self::Weights { .. } => "ERR_GLOW_WEIGHTS",
            Self::Busy => "ERR_GLOW_BUSY",
            Self::Disposed => "ERR_GLOW_DISPOSED",
            Self::Aborted => "ERR_GLOW_ABORTED",
            Self::Internal { .. } => "ERR_GLOW_INTERNAL",
        }
    }

    /// The variant's fields under the names that TypeScript's `details` has.
    pub fn details(&self) -> Value {
        match self {
            Self::Option { option, expected, received } => {
                json!({ "option": option, "expected": expected, "received": received })
            }
            Self::Shape { what, expected, received } => {
                json!({ "what": what, "expected": expected, "received": received })
            }
            Self::DeviceUnavailable { device, reason } => json!({ "device": device, "reason": reason }),
            Self::Precision { wanted, precisions, of } => {
                json!({ "precision": wanted, "precisions": precisions, "of": of })
            }
            Self::OutOfMemory { what, needed, available } => {
                json!({ "what": what, "needed": needed, "available": available })
            }
            Self::NotFinite { what, step, layer } => json!({ "what": what, "step": step, "layer": layer }),
            Self::Overflow { image } => json!({ "image": image }),
            Self::Singular { layer } => json!({ "layer": layer }),
            Self::Weights { path, reason, report: Some(report) } => {
                json!({ "path": path.display().to_string(), "reason": reason, "report": report })
            }
            Self::File { path, reason } | Self::Weights { path, reason, report: None } => {
                json!({ "path": path.display().to_string(), "reason": reason })
            }
            Self::Io { path, source } => {
                json!({ "path": path.display().to_string(), "errno": source.raw_os_error() })
            }
            Self::Data { what, index, reason } => json!({ "what": what, "index": index, "reason": reason }),
            Self::Image { file, index, reason } => {
                let file = file.display().to_string();
                json!({ "what": file, "file": file, "index": index, "reason": reason })
            }
            Self::Locked { path, pid } => json!({ "path": path.display().to_string(), "pid": pid }),
            Self::Labels { expected, received } => json!({ "expected": expected, "received": received }),
            Self::Internal { message } => json!({ "message": message }),
            Self::NotInitialized | Self::Busy | Self::Disposed | Self::Aborted => json!({}),
        }
    }
}

/// `a`, `a or b`, `a, b or c`.
fn list(all: &[Precision]) -> String {
    let mut names: Vec<_> = all.iter().map(Precision::to_string).collect();
    let last = names.pop().unwrap_or_default();
    if names.is_empty() { last } else { format!("{} or {last}", names.join(", ")) }
}
