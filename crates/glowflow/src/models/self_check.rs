//! A GPU's answers against the CPU's, before they are believed.
//!
//! Compilers and tuners of GPU kernels have chosen kernels that are wrong for some shapes. So each shape of a model and
//! batch is tried once in a process: a perturbed model with one layer of each shape, forward and backward.

use std::collections::HashSet;
use std::sync::{LazyLock, Mutex};

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device as BurnDevice, Tensor, TensorData};

use super::config::ModelConfig;
use super::network::Network;
use super::verify::larger;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::flow::{Gradients, Mode, NamedParameter, named_parameters};
use crate::images::ImageShape;
use crate::kernels::host::read;
use crate::priors::Labels;
use crate::random::{Key, Purpose, Stream};
use crate::train::Activations;

/// Largest difference, relative to the largest value: far above rounding, far below a wrong kernel.
const TOLERANCE: f64 = 1e-2;

/// Of the largest gradient: one below is taken as this large. Where a norm takes a bias away again, its true gradient is 0
/// and what is found is rounding.
const ROUNDING: f64 = 1e-2;

/// Size of what is added to every parameter: the zero-initialised ones would hide what is multiplied with them.
const PERTURBATION: f32 = 0.05;

/// Device, config and batch of the checks that have passed.
static PASSED: LazyLock<Mutex<HashSet<String>>> = LazyLock::new(Mutex::default);

/// Checks a hardware GPU for a model and batch size, once in a process. Software devices compute by the CPU's rules.
pub fn check_once(config: &ModelConfig, batch: usize, device: &Device) -> Result<()> {
    if device.info().software {
        return Ok(());
    }
    let what = format!("{} {batch} {}", device.info().name, serde_json::json!(config));
    let passed = || PASSED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if !passed().contains(&what) {
        check(config, batch, device)?;
        passed().insert(what);
    }
    Ok(())
}

/// [`Error::DeviceUnavailable`] that names what the device gets wrong.
pub fn check(config: &ModelConfig, batch: usize, device: &Device) -> Result<()> {
    let (config, on) = (config.one_of_each_shape(), device.clone());
    device.run(move || {
        let truth = results(&config, batch, &BurnDevice::flex())?;
        let largest = |values: &[f64]| values.iter().fold(1e-6, |largest: f64, value| largest.max(value.abs()));
        let steepest = truth.iter().filter(|result| result.of_parameter).map(|result| largest(&result.values));
        let rounding = steepest.fold(0.0, f64::max) * ROUNDING;
        for (Computed { name, values: found, .. }, truth) in results(&config, batch, on.burn())?.iter().zip(&truth) {
            let least = if truth.of_parameter { rounding } else { 0.0 };
            let scale = largest(&truth.values).max(least);
            let error = found.iter().zip(&truth.values).map(|(f, t)| (f - t).abs()).fold(0.0, larger) / scale;
            if error.is_nan() || error > TOLERANCE {
                let reason = format!("it computes {name} wrongly: off by {error:e}");
                return Err(Error::DeviceUnavailable { device: on.info().name.clone(), reason });
            }
        }
        Ok(())
    })
}

/// Something that a device has computed.
struct Computed {
    name: String,
    values: Vec<f64>,
    /// Whether it is a parameter's gradient.
    of_parameter: bool,
}

/// What a model gives: each scale's latents, its log-probability, its input's gradient and its parameters' gradients.
fn results(config: &ModelConfig, batch: usize, device: &BurnDevice) -> Result<Vec<Computed>> {
    let mut stream = Key { seed: 0, purpose: Purpose::SelfCheck, step: 0, image: 0 }.stream();
    let network = Network::new(config, &BurnDevice::flex()).map(&mut Perturb(&mut stream)).fork(device);
    let ImageShape { height, width, channels } = config.image();
    let mut pixels = vec![0.0; batch * config.image().dims()];
    stream.fill_uniform(&mut pixels);
    let shape = [batch, height, width, channels];
    let x = Tensor::<4>::from_data(TensorData::new(pixels, shape), device).sub_scalar(0.5);
    let labels = config.classes().map(|classes| Labels::new(&vec![0; batch], classes, device));
    let chain = network.chain(config, Mode::Training);
    let encoded = chain.encode(x.clone(), labels.as_ref())?;
    let tape = chain.forward(x, labels, Activations::Stored)?;
    let mut gradients = Gradients::default();
    let back = chain.backward(tape, &Tensor::ones([batch], device), &mut gradients)?;
    let output = |name: String, values| Computed { name, values, of_parameter: false };
    let mut results = vec![output("the log-probability".into(), read(encoded.log_prob))];
    let latents = encoded.latents.into_iter().enumerate();
    results.extend(latents.map(|(scale, latents)| output(format!("the latents of scale {scale}"), read(latents))));
    results.push(output("the gradient of an image".into(), read(back.dx)));
    let gradient = |parameter: NamedParameter| {
        let values = read(gradients.get(parameter.id)?.clone());
        Some(Computed { name: format!("the gradient of {}", parameter.name), values, of_parameter: true })
    };
    results.extend(named_parameters(&network).into_iter().filter_map(gradient));
    Ok(results)
}

struct Perturb<'a>(&'a mut Stream);

impl ModuleMapper for Perturb<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|values| {
            let shape = values.dims();
            let mut noise = vec![0.0; shape.iter().product()];
            self.0.fill_normal(PERTURBATION, &mut noise);
            let device = values.device();
            values + Tensor::from_data(TensorData::new(noise, shape), &device)
        })
    }
}
