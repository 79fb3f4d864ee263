//! A model as programs use it: one handle, many threads, every call on the device's queue.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use burn::tensor::{Tensor, TensorData};

use super::chain::Chain;
use super::config::ModelConfig;
use super::dequantize::{self, Noise};
use super::labels::{CheckedLabels, ClassLabels, check_classes};
use super::latents::{LatentScale, Latents, check_temperature};
use super::likelihood::{self, Evaluation};
use super::network::Network;
use super::{memory, self_check};
use crate::data::Dataset;
use crate::device::{Device, Precision};
use crate::error::{Error, Result};
use crate::flow::{Mode, Pass, named_parameters};
use crate::images::{Batch, FloatImages, ImageShape, Images, Pixels};
use crate::kernels::host::read;
use crate::priors::Labels;
use crate::random::{Key, Purpose};
use crate::store::{self, model::StoredModel};
use crate::train::{Checkpoint, folder_to_resume, model_file};

/// Images worked on at once where a call does not say.
const DEFAULT_BATCH: usize = 32;
/// Values of the images worked on at once: what bounds the default for large images.
const DEFAULT_BATCH_VALUES: usize = 32 * 64 * 64 * 3;
/// Most images of those that set the actnorms that are run through the model at a time.
const INITIALIZE_PART: usize = 16;

/// How a call runs.
#[derive(Debug, Clone, Default)]
pub struct Call {
    /// Set from outside to stop the call between two parts: [`Error::Aborted`].
    pub cancel: Arc<AtomicBool>,
    /// Images worked on at once; 32, fewer where the images are large.
    pub batch_size: Option<usize>,
    /// Classes of the images: needed by a class-conditional model, refused by any other.
    pub labels: Option<ClassLabels>,
    /// Of the coupling nets.
    pub precision: Precision,
}

/// A model on a device. Cheap to clone; clones share the weights.
#[derive(Clone)]
pub struct FlowModel {
    inner: Arc<Inner>,
}

struct Inner {
    config: ModelConfig,
    device: Device,
    parameter_count: usize,
    step: AtomicU64,
    initialized: AtomicBool,
    training: AtomicBool,
    state: Mutex<Option<State>>,
}

/// The weights, and what inference makes of them.
pub(crate) struct State {
    /// What is trained.
    pub network: Network,
    /// The moving average of a run under way that keeps one.
    pub average: Option<Network>,
    running: BTreeMap<Precision, Arc<Chain>>,
}

impl State {
    /// What everything but training uses: the average, else the weights.
    pub fn inferred(&self) -> &Network {
        self.average.as_ref().unwrap_or(&self.network)
    }

    /// The model ready for inference, made once for each state of the weights.
    fn running(&mut self, config: &ModelConfig, precision: Precision) -> Arc<Chain> {
        let network = self.average.as_ref().unwrap_or(&self.network);
        let make = || Arc::new(network.chain(config, Pass { mode: Mode::Evaluation, precision }));
        self.running.entry(precision).or_insert_with(make).clone()
    }

    /// Call after the weights have changed, and before they change: what is prepared shares their memory.
    pub fn forget_prepared(&mut self) {
        self.running.clear();
    }
}

impl FlowModel {
    /// A new model with random weights.
    pub fn create(config: impl Into<ModelConfig>, device: &Device) -> Result<Self> {
        let config = config.into();
        config.validate()?;
        memory::check(&config)?;
        self_check::check_once(&config, default_batch(&config), device)?;
        let (on, of) = (device.clone(), config.clone());
        let network = device.run(move || Ok(Network::new(&of, on.burn())))?;
        let initialized = !config.is_set_from_data();
        Ok(Self::from_parts(config, device, network, initialized, 0))
    }

    /// Reads a file of [`FlowModel::save`], a checkpoint, or of a run the best one, else the newest.
    pub fn load(path: &Path, device: &Device) -> Result<Self> {
        let (path, on) = (model_file(path)?, device.clone());
        let stored = device.run(move || store::model::read(&path, on.burn()))?;
        self_check::check_once(&stored.config, default_batch(&stored.config), device)?;
        Ok(Self::from_parts(stored.config, device, stored.network, stored.initialized, stored.step))
    }

    /// The model of a checkpoint, of several the newest, and what [`FlowModel::train`] goes on from.
    ///
    /// # Errors
    ///
    /// [`Error::File`] where there is no checkpoint, or one of another format or version, or a damaged one;
    /// [`Error::Weights`] for tensors that are missing, too many, of another shape or not finite.
    pub fn resume(path: &Path, device: &Device) -> Result<(Self, Checkpoint)> {
        let (folder, on) = (folder_to_resume(path)?, device.clone());
        let (stored, checkpoint) = device.run(move || read_checkpoint(&folder, on.burn()))?;
        self_check::check_once(&stored.config, default_batch(&stored.config), device)?;
        let model = Self::from_parts(stored.config, device, stored.network, stored.initialized, stored.step);
        Ok((model, checkpoint))
    }

    pub(super) fn from_parts(
        config: ModelConfig,
        device: &Device,
        network: Network,
        initialized: bool,
        step: u64,
    ) -> Self {
        let parameter_count =
            named_parameters(&network).iter().map(|parameter| parameter.shape.iter().product::<usize>()).sum();
        Self {
            inner: Arc::new(Inner {
                config,
                device: device.clone(),
                parameter_count,
                step: AtomicU64::new(step),
                initialized: AtomicBool::new(initialized),
                training: AtomicBool::new(false),
                state: Mutex::new(Some(State { network, average: None, running: BTreeMap::new() })),
            }),
        }
    }

    /// What the model is made of.
    pub fn config(&self) -> &ModelConfig {
        &self.inner.config
    }

    /// Where it lives.
    pub fn device(&self) -> &Device {
        &self.inner.device
    }

    /// Trained numbers.
    pub fn parameter_count(&self) -> usize {
        self.inner.parameter_count
    }

    /// Optimizer steps that the weights have had.
    pub fn step(&self) -> u64 {
        self.inner.step.load(Ordering::Acquire)
    }

    pub(crate) fn set_step(&self, step: u64) {
        self.inner.step.store(step, Ordering::Release);
    }

    /// Whether data have set the actnorms.
    pub fn initialized(&self) -> bool {
        self.inner.initialized.load(Ordering::Acquire)
    }

    /// Where each scale's part lies in a row of latents, the finest first.
    pub fn latent_scales(&self) -> Vec<LatentScale> {
        let (mut offset, distribution) = (0, self.inner.config.latent_distribution());
        let scale = |shape: [usize; 3]| {
            let scale = LatentScale { offset, shape, distribution };
            offset += shape.iter().product::<usize>();
            scale
        };
        self.inner.config.latent_shapes().into_iter().map(scale).collect()
    }

    fn state(&self) -> Result<MutexGuard<'_, Option<State>>> {
        self.inner.state.lock().map_err(|_| Error::Internal { message: "an earlier call has panicked".into() })
    }

    /// Runs `work` on the device's queue with the weights.
    pub(crate) fn with_state<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut State) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let model = self.clone();
        self.inner.device.run(move || {
            let mut state = model.state()?;
            work(state.as_mut().ok_or(Error::Disposed)?)
        })
    }

    /// Runs `work` on the device's queue with the model ready for inference.
    pub(super) fn infer<T: Send + 'static>(
        &self,
        precision: Precision,
        work: impl FnOnce(&Chain) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let model = self.clone();
        self.with_state(move |state| {
            if !model.initialized() {
                return Err(Error::NotInitialized);
            }
            work(&state.running(model.config(), precision))
        })
    }

    /// Marks the model as in training; a second run, or a call that changes weights, is [`Error::Busy`] until it ends.
    pub(crate) fn begin_training(&self) -> Result<TrainingMark> {
        if self.inner.training.swap(true, Ordering::AcqRel) {
            return Err(Error::Busy);
        }
        Ok(TrainingMark(self.clone()))
    }

    /// Sets the actnorms from the first `init_images` images of the data, in an order drawn from the model's seed.
    ///
    /// Kingma & Dhariwal 2018, section 3.1. Replaces what an earlier call has set.
    pub fn initialize(&self, data: &dyn Dataset, init_images: usize) -> Result<()> {
        let _mark = self.begin_training()?;
        self.initialize_marked(data, init_images, self.inner.config.seed())
    }

    /// [`FlowModel::initialize`] from within a training run.
    pub(crate) fn initialize_marked(&self, data: &dyn Dataset, init_images: usize, seed: u64) -> Result<()> {
        self.check_shape("images", data.shape())?;
        if data.is_empty() {
            return Err(Error::shape("images", "at least 1", 0));
        }
        let order = Key { seed, purpose: Purpose::Order, step: u64::MAX, image: 0 }.stream().permutation(data.len());
        let indices = &order[..init_images.clamp(1, data.len())];
        let pixels = data.batch(indices)?.images;
        check_variety(&pixels)?;
        let model = self.clone();
        self.with_state(move |state| {
            let (bits, image) = (model.config().bits(), model.config().image());
            let noise = Noise::uniform(seed);
            let count = pixels.count();
            let part = default_batch(model.config()).min(INITIALIZE_PART);
            let parts = (0..count).step_by(part).map(|start| {
                let range = start..(start + part).min(count);
                let values = dequantize::scaled_values(&pixels, range.clone(), bits, &noise, 0);
                dequantize::tensor(values, range.len(), image, model.device().burn())
            });
            let mut network = state.network.clone();
            network.initialize(parts.collect())?;
            state.forget_prepared();
            state.network = network;
            model.inner.initialized.store(true, Ordering::Release);
            Ok(())
        })
    }

    /// Every scale's noise for each image.
    pub fn encode(&self, pixels: &Pixels, noise: &Noise, call: &Call) -> Result<Latents> {
        self.check_pixels(pixels)?;
        noise.check(pixels)?;
        let labels = CheckedLabels::of_call(self.config(), call, pixels.count())?;
        let dims = self.config().image().dims();
        let mut data = Vec::with_capacity(pixels.count() * dims);
        self.in_parts(pixels.count(), call, |range| {
            let (labels, scaled) = (self.class_tensor(&labels, range.clone()), self.scaled(pixels, range, noise, 0));
            data.extend(
                self.infer(call.precision, move |chain| Ok(to_rows(chain.latents(scaled(), labels().as_ref())?)))?,
            );
            Ok(())
        })?;
        Ok(Latents { data, count: pixels.count(), dims })
    }

    /// The images of these latents, cut into bins of the model's bits.
    pub fn decode(&self, latents: &Latents, call: &Call) -> Result<Images> {
        let values = self.decode_finite(latents, call)?;
        self.images(dequantize::to_bytes(&values, self.config().bits()))
    }

    /// The images of these latents as pixel values in [0, 256), not cut into bins.
    pub fn decode_float(&self, latents: &Latents, call: &Call) -> Result<FloatImages> {
        let values = self.decode_finite(latents, call)?;
        self.images(dequantize::to_floats(values))
    }

    /// [`Error::Overflow`] for latents at which the inverse is not finite.
    fn decode_finite(&self, latents: &Latents, call: &Call) -> Result<Vec<f32>> {
        let values = self.decode_scaled(latents, call)?;
        match values.iter().position(|value| !value.is_finite()) {
            None => Ok(values),
            Some(at) => Err(Error::Overflow { image: at / latents.dims }),
        }
    }

    fn images<T: Clone>(&self, data: Vec<T>) -> Result<Batch<T>> {
        let shape = self.config().image();
        let count = data.len() / shape.dims();
        Batch::new(data, count, shape)
    }

    /// Scaled values, whatever they are.
    pub(super) fn decode_scaled(&self, latents: &Latents, call: &Call) -> Result<Vec<f32>> {
        let dims = self.config().image().dims();
        if latents.dims != dims || latents.data.len() != latents.count * dims {
            let received = format!("{} values in {} rows of {}", latents.data.len(), latents.count, latents.dims);
            return Err(Error::shape("latents", format!("rows of {dims}"), received));
        }
        if let Some(index) = latents.data.iter().position(|value| !value.is_finite()) {
            return Err(Error::shape("latents", "finite numbers", format!("{} at {index}", latents.data[index])));
        }
        let labels = CheckedLabels::of_call(self.config(), call, latents.count)?;
        let mut data = Vec::with_capacity(latents.data.len());
        self.in_parts(latents.count, call, |range| {
            let rows = latents.data[range.start * dims..range.end * dims].to_vec();
            let scales = self.latent_scales();
            let (labels, device) = (self.class_tensor(&labels, range), self.inner.device.clone());
            data.extend(self.infer(call.precision, move |chain| {
                let latents = from_rows(&rows, &scales, dims, device.burn());
                Ok(read::<f32, 4>(chain.decode(latents, labels().as_ref())?))
            })?);
            Ok(())
        })?;
        Ok(data)
    }

    /// Lower bound on the log-probability of each `bits`-bit image, nats, the bins' width included; for continuous
    /// pixels the log-density of values in [0, 256).
    pub fn log_prob(&self, pixels: &Pixels, noise: &Noise, call: &Call) -> Result<Vec<f64>> {
        Ok(self.score(pixels, noise, call)?.log_probs)
    }

    fn score(&self, pixels: &Pixels, noise: &Noise, call: &Call) -> Result<Scores> {
        self.check_pixels(pixels)?;
        noise.check(pixels)?;
        let labels = CheckedLabels::of_call(self.config(), call, pixels.count())?;
        let mut scores = Scores::default();
        self.in_parts(pixels.count(), call, |range| {
            let mut draws = vec![Vec::new(); range.len()];
            for draw in 0..noise.draws {
                call.check()?;
                let scaled = self.scaled(pixels, range.clone(), noise, u64::from(draw));
                let labels = self.class_tensor(&labels, range.clone());
                let (densities, classes) = self.infer(call.precision, move |chain| {
                    let encoded = chain.encode(scaled(), labels().as_ref())?;
                    let classes = encoded.scores.map(|scores| scores.most_likely()).filter(|_| draw == 0);
                    Ok((read(encoded.log_prob), classes))
                })?;
                draws.iter_mut().zip(densities).for_each(|(draws, density)| draws.push(density));
                scores.classes.extend(classes.into_iter().flatten());
            }
            let log_probs = draws.iter().map(|draws| self.discrete(likelihood::log_mean_exp(draws), pixels));
            scores.log_probs.extend(log_probs);
            Ok(())
        })?;
        Ok(scores)
    }

    /// Log-probability of an image from the log-density of its scaled values, nats.
    fn discrete(&self, log_density: f64, pixels: &Pixels) -> f64 {
        likelihood::discrete_log_prob(log_density, self.config().image(), pixels.bits(self.config().bits()))
    }

    /// `ln p(image | class)` of each image for each class, nats, a row an image: as [`FlowModel::log_prob`] with each of the
    /// labels, in little more time than with one.
    ///
    /// # Errors
    ///
    /// [`Error::Labels`] for a model without classes, or where the call gives labels.
    pub fn log_prob_by_class(&self, pixels: &Pixels, noise: &Noise, call: &Call) -> Result<Vec<Vec<f64>>> {
        self.check_pixels(pixels)?;
        noise.check(pixels)?;
        let classes = self.config().classes().ok_or_else(|| Error::Labels {
            expected: "a class-conditional model".into(),
            received: "one without classes".into(),
        })?;
        if call.labels.is_some() {
            return Err(Error::Labels { expected: "none, as every class is tried,".into(), received: "some".into() });
        }
        let mut rows = Vec::with_capacity(pixels.count());
        self.in_parts(pixels.count(), call, |range| {
            let mut draws = vec![vec![Vec::new(); classes]; range.len()];
            for draw in 0..noise.draws {
                call.check()?;
                let scaled = self.scaled(pixels, range.clone(), noise, u64::from(draw));
                let by_class: Vec<Vec<f64>> = self.infer(call.precision, move |chain| {
                    Ok(chain.log_prob_by_class(scaled(), classes)?.into_iter().map(read).collect())
                })?;
                for (class, densities) in by_class.into_iter().enumerate() {
                    draws.iter_mut().zip(densities).for_each(|(row, density)| row[class].push(density));
                }
            }
            let row = |row: &Vec<Vec<f64>>| -> Vec<f64> {
                row.iter().map(|draws| self.discrete(likelihood::log_mean_exp(draws), pixels)).collect()
            };
            rows.extend(draws.iter().map(row));
            Ok(())
        })?;
        Ok(rows)
    }

    /// The probability of each class for each image, a row an image, by Bayes' rule from `ln p(image | class)`, all classes
    /// equally likely beforehand.
    pub fn classify(&self, pixels: &Pixels, noise: &Noise, call: &Call) -> Result<Vec<Vec<f64>>> {
        Ok(self.log_prob_by_class(pixels, noise, call)?.iter().map(|row| likelihood::normalized(row)).collect())
    }

    /// Bits per dimension of each image: `-log_prob / (D ln 2)`.
    pub fn bits_per_dim(&self, pixels: &Pixels, noise: &Noise, call: &Call) -> Result<Vec<f64>> {
        let log_probs = self.log_prob(pixels, noise, call)?;
        Ok(log_probs.into_iter().map(|log_prob| likelihood::bits_per_dim(log_prob, self.config().image())).collect())
    }

    /// Mean bits per dimension of the first `limit` images, one uniform draw of noise each, and the classifier's errors.
    pub fn evaluate(&self, data: &dyn Dataset, limit: Option<usize>, seed: u64, call: &Call) -> Result<Evaluation> {
        self.check_shape("images", data.shape())?;
        check_classes(self.config(), data)?;
        let count = limit.unwrap_or(usize::MAX).min(data.len());
        if count == 0 {
            return Err(Error::shape("images", "at least 1", 0));
        }
        let (mut bits, mut misclassified) = (Vec::with_capacity(count), None);
        self.in_parts(count, call, |range| {
            let start = range.start as u64;
            let batch = data.batch(&range.collect::<Vec<_>>())?;
            let labels = CheckedLabels::of_batch(self.config(), &batch)?.into_call();
            let pixels = batch.images;
            // The noise of an image is keyed by its index in the data, not in the part.
            let mut noise = vec![0.0; pixels.len()];
            for (index, out) in noise.chunks_exact_mut(pixels.shape().dims()).enumerate() {
                let key = Key { seed, purpose: Purpose::Likelihood, step: 0, image: start + index as u64 };
                key.stream().fill_uniform(out);
            }
            let noise = Noise { dequantize: dequantize::Dequantize::Given(noise), seed, draws: 1 };
            let call = Call { labels, ..call.clone() };
            let Scores { log_probs, classes } = self.score(&pixels, &noise, &call)?;
            let image = self.config().image();
            bits.extend(log_probs.into_iter().map(|log_prob| likelihood::bits_per_dim(log_prob, image)));
            if let (Some(ClassLabels::Each(truth)), false) = (call.labels, classes.is_empty()) {
                *misclassified.get_or_insert(0) += classes.iter().zip(&truth).filter(|(f, t)| f != t).count();
            }
            Ok(())
        })?;
        Ok(Evaluation::of(&bits, misclassified))
    }

    /// New images: draws from the latents' distribution times `temperature`, decoded. Image `i` depends on `seed` and `i` alone.
    pub fn sample(&self, count: usize, temperature: f32, seed: u64, call: &Call) -> Result<Images> {
        if count == 0 {
            return Err(Error::option("count", "a whole number above 0", count));
        }
        self.decode(&self.sample_latents(count, temperature, seed)?, call)
    }

    /// The latents that [`FlowModel::sample`] decodes.
    pub(crate) fn sample_latents(&self, count: usize, temperature: f32, seed: u64) -> Result<Latents> {
        check_temperature(temperature)?;
        let (dims, distribution) = (self.config().image().dims(), self.config().latent_distribution());
        let mut data = vec![0.0; count * dims];
        for (image, row) in data.chunks_exact_mut(dims).enumerate() {
            let mut stream = Key { seed, purpose: Purpose::Sample, step: 0, image: image as u64 }.stream();
            distribution.fill(&mut stream, temperature, row);
        }
        Ok(Latents { data, count, dims })
    }

    /// Weights and config as one safetensors file, written beside and renamed.
    pub fn save(&self, path: &Path) -> Result<()> {
        let (path, model) = (path.to_owned(), self.clone());
        self.with_state(move |state| {
            store::model::write(&path, model.config(), state.inferred(), model.initialized(), model.step())
        })
    }

    /// Frees the weights. Later calls are [`Error::Disposed`].
    pub fn dispose(&self) {
        let mut state = self.inner.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        *state = None;
    }

    /// [`Error::Precision`] unless the model can be run in it on its device.
    pub fn check_precision(&self, wanted: Precision) -> Result<()> {
        self.config().check_precision(wanted, self.device().info())
    }

    fn check_pixels(&self, pixels: &Pixels) -> Result<()> {
        self.check_shape("images", pixels.shape())?;
        pixels.check_finite()
    }

    pub(crate) fn check_shape(&self, what: &str, shape: ImageShape) -> Result<()> {
        let expected = self.config().image();
        if shape == expected { Ok(()) } else { Err(Error::shape(what, expected, shape)) }
    }

    /// Scaled images of a part, made on the queue where it is called.
    fn scaled(
        &self,
        pixels: &Pixels,
        range: std::ops::Range<usize>,
        noise: &Noise,
        draw: u64,
    ) -> impl FnOnce() -> Tensor<4> + Send + 'static {
        let (bits, device) = (self.config().bits(), self.inner.device.clone());
        let tensor = dequantize::scaled_values(pixels, range.clone(), bits, noise, draw);
        let shape = pixels.shape();
        move || dequantize::tensor(tensor, range.len(), shape, device.burn())
    }

    /// Labels of a part, made on the queue where it is called.
    pub(super) fn class_tensor(
        &self,
        labels: &CheckedLabels,
        range: std::ops::Range<usize>,
    ) -> impl FnOnce() -> Option<Labels> + Send + 'static {
        let (labels, model) = (labels.part(range), self.clone());
        move || labels.on(model.config(), model.device().burn())
    }

    /// Whether a call with so many images works on all of them at once: then it is one job of the device.
    pub fn is_one_part(&self, images: usize, call: &Call) -> bool {
        images <= call.batch_size.unwrap_or_else(|| default_batch(&self.inner.config))
    }

    /// Calls `part` for consecutive ranges of the images, looking at `cancel` before each.
    pub(super) fn in_parts(
        &self,
        count: usize,
        call: &Call,
        mut part: impl FnMut(std::ops::Range<usize>) -> Result<()>,
    ) -> Result<()> {
        self.check_precision(call.precision)?;
        let size = match call.batch_size {
            Some(0) => return Err(Error::option("batchSize", "a whole number above 0", 0)),
            Some(size) => size,
            None => default_batch(&self.inner.config),
        };
        for start in (0..count).step_by(size) {
            call.check()?;
            part(start..(start + size).min(count))?;
        }
        Ok(())
    }
}

impl std::fmt::Debug for FlowModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FlowModel").field("config", &self.inner.config).field("device", &self.inner.device).finish()
    }
}

impl Call {
    /// [`Error::Aborted`] once `cancel` is set.
    pub(crate) fn check(&self) -> Result<()> {
        if self.cancel.load(Ordering::Acquire) { Err(Error::Aborted) } else { Ok(()) }
    }
}

/// A checkpoint's model, and the rest of it. On the device's queue.
pub(crate) fn read_checkpoint(folder: &Path, device: &burn::tensor::Device) -> Result<(StoredModel, Checkpoint)> {
    let stored = store::model::read(&model_file(folder)?, device)?;
    let checkpoint = Checkpoint::read(folder, &stored.network, device)?;
    if checkpoint.state.step != stored.step {
        let reason = format!("Expected step {} as in its model but found {}", stored.step, checkpoint.state.step);
        return Err(Error::file(folder, reason));
    }
    Ok((stored, checkpoint))
}

/// Images worked on at once.
pub(super) fn default_batch(config: &ModelConfig) -> usize {
    (DEFAULT_BATCH_VALUES / config.image().dims()).clamp(1, DEFAULT_BATCH)
}

/// What a model says of images.
#[derive(Default)]
struct Scores {
    /// Of each image, nats.
    log_probs: Vec<f64>,
    /// The class that the classifier takes each image for; empty without one.
    classes: Vec<u32>,
}

/// A model in training, until dropped.
pub(crate) struct TrainingMark(FlowModel);

impl Drop for TrainingMark {
    fn drop(&mut self) {
        self.0.inner.training.store(false, Ordering::Release);
    }
}

/// A channel that never varies cannot be normalised, and what a flow would learn of it is its noise.
fn check_variety(pixels: &Pixels) -> Result<()> {
    match pixels {
        Pixels::Bytes(images) => check_channels(images),
        Pixels::Floats(images) => check_channels(images),
    }
}

fn check_channels<T: Copy + Default + PartialEq + std::fmt::Display>(images: &Batch<T>) -> Result<()> {
    let channels = images.shape.channels;
    for channel in 0..channels {
        let mut values = images.data[channel..].iter().step_by(channels);
        let first = values.next().copied().unwrap_or_default();
        if values.all(|&value| value == first) {
            return Err(Error::Data {
                what: format!("channel {channel} of the images"),
                index: None,
                reason: format!("expected values that vary but all of {} images have {first}", images.count),
            });
        }
    }
    Ok(())
}

/// One row an image from every scale's latents.
fn to_rows(scales: Vec<Tensor<4>>) -> Vec<f32> {
    let count = scales[0].dims()[0];
    let parts: Vec<Vec<f32>> = scales.into_iter().map(read).collect();
    let mut rows = Vec::with_capacity(parts.iter().map(Vec::len).sum());
    for image in 0..count {
        for part in &parts {
            let size = part.len() / count;
            rows.extend_from_slice(&part[image * size..(image + 1) * size]);
        }
    }
    rows
}

/// Every scale's latents from rows.
fn from_rows(rows: &[f32], scales: &[LatentScale], dims: usize, device: &burn::tensor::Device) -> Vec<Tensor<4>> {
    let count = rows.len() / dims;
    let scale = |scale: &LatentScale| {
        let [height, width, channels] = scale.shape;
        let values: Vec<f32> = rows.chunks_exact(dims).flat_map(|row| &row[scale.range()]).copied().collect();
        Tensor::from_data(TensorData::new(values, [count, height, width, channels]), device)
    };
    scales.iter().map(scale).collect()
}
