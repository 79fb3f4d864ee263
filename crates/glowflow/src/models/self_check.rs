//! A GPU's answers against the CPU's, before they are believed.
//!
//! Compilers and tuners of GPU kernels have chosen kernels that are wrong for some shapes. So each shape of a model and
//! batch is tried once in a process: one perturbed step of flow for each level, forward and backward.

use std::collections::HashSet;
use std::sync::{LazyLock, Mutex};

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device as BurnDevice, Tensor, TensorData};

use super::config::GlowConfig;
use super::glow::step_of_level;
use super::verify::larger;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::flow::{Cotangent, Gradients, Invertible, Layer, NamedParameter, named_parameters};
use crate::kernels::host::read;
use crate::layers::FlowStep;
use crate::random::{Key, Purpose, Stream};

/// Largest difference, relative to the largest value: far above rounding, far below a wrong kernel.
const TOLERANCE: f64 = 1e-2;

/// Size of what is added to every parameter: the zero-initialised ones would hide what is multiplied with them.
const PERTURBATION: f32 = 0.05;

/// Device, config and batch of the checks that have passed.
static PASSED: LazyLock<Mutex<HashSet<String>>> = LazyLock::new(Mutex::default);

/// Checks a hardware GPU for a model and batch size, once in a process. Software devices compute by the CPU's rules.
pub fn check_once(config: &GlowConfig, batch: usize, device: &Device) -> Result<()> {
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
pub fn check(config: &GlowConfig, batch: usize, device: &Device) -> Result<()> {
    let (config, on) = (config.clone(), device.clone());
    device.run(move || {
        for level in 0..config.levels {
            let truth = results(&config, level, batch, &BurnDevice::flex())?;
            for ((name, found), (_, truth)) in results(&config, level, batch, on.burn())?.iter().zip(&truth) {
                let scale = truth.iter().fold(1e-6, |scale: f64, value| scale.max(value.abs()));
                let error = found.iter().zip(truth).map(|(f, t)| (f - t).abs()).fold(0.0, larger) / scale;
                if error.is_nan() || error > TOLERANCE {
                    let reason = format!("it computes {name} of level {level} wrongly: off by {error:e}");
                    return Err(Error::DeviceUnavailable { device: on.info().name.clone(), reason });
                }
            }
        }
        Ok(())
    })
}

/// What one step of a level gives: its output, its input's gradient and its parameters' gradients.
fn results(config: &GlowConfig, level: usize, batch: usize, device: &BurnDevice) -> Result<Vec<(String, Vec<f64>)>> {
    let [height, width, channels] = config.level_shape(level);
    let mut stream = Key { seed: 0, purpose: Purpose::SelfCheck, step: level as u64, image: 0 }.stream();
    let step = step_of_level(config, level, 0, &BurnDevice::flex()).map(&mut Perturb(&mut stream)).fork(device);
    let prepared = Layer::prepare(&step, "the self-check")?;
    let mut normal = |shape: [usize; 4]| {
        let mut values = vec![0.0; shape.iter().product()];
        stream.fill_normal(1.0, &mut values);
        Tensor::<4>::from_data(TensorData::new(values, shape), device)
    };
    let shape = [batch, height, width, channels];
    let (out, saved) = prepared.forward_saving(normal(shape));
    let cotangent = Cotangent { z: normal(shape), log_det: Tensor::ones([batch], device) };
    let mut gradients = Gradients::default();
    let back = prepared.backward(out.z.clone(), Some(saved), cotangent, &mut gradients)?;
    let mut results = vec![("the output".to_owned(), read(out.z)), ("the gradient".to_owned(), read(back.dx))];
    results.extend(parameter_gradients(&step, &gradients));
    Ok(results)
}

fn parameter_gradients(step: &FlowStep, gradients: &Gradients) -> Vec<(String, Vec<f64>)> {
    let of = |parameter: NamedParameter| {
        let gradient = gradients.get(parameter.id)?;
        Some((format!("the gradient of {}", parameter.name), read(gradient.clone())))
    };
    named_parameters(step).into_iter().filter_map(of).collect()
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
