//! glowflow: invertible generative models of images.
//!
//! # Notation
//!
//! `x` is an image or what becomes of it on the way, `z` a latent. *Forward* is always image to latent, *inverse* latent
//! to image. Activations are `[batch, height, width, channels]`. A `log_det` is `ln |det dz/dx|` of each example, shape
//! `[batch]`; log-probabilities and log-determinants are in nats until `models::bits_per_dim` divides them. `h` is what a
//! net says, `s` a scale, `D` the number of values of an image. A *cotangent* is the gradient of the loss with respect
//! to an output, and `dx` stands for the gradient with respect to `x`.

pub mod data;
pub mod device;
pub mod error;
pub mod flow;
pub mod images;
pub mod kernels;
pub mod layers;
mod linalg;
pub mod models;
pub mod nets;
pub mod picture;
pub mod priors;
pub mod random;
pub mod record;
pub mod store;
pub mod train;

pub use device::{Device, DeviceInfo, Precision};
pub use error::{Error, Result};
pub use images::{Batch, FloatImages, ImageShape, Images, Pixels};
pub use models::{
    Call, ClassLabels, CouplingKind, Dequantize, Evaluation, FlowModel, GlowConfig, InterpolationPath,
    LatentDistribution, LatentScale, Latents, Layout, ModelConfig, NamedDirection, NiceConfig, NicePrior, Noise,
    RealNvpConfig, ScaleKind, Verification,
};
pub use store::pytorch::{ImportOptions, InputRange};
pub use train::{Checkpoint, Control, RunData, StepEnd, TrainConfig, TrainEvent, TrainSummary};
