//! Tools of the tests: seeded tensors, perturbed modules, and the devices to run on.

use std::io::Write;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Device as BurnDevice, FloatDType, Tensor, TensorData};
use glowflow::flow::Mode;
use glowflow::layers::{ActNorm, LOG_SCALE_FACTOR};
use glowflow::models::chain::Chain;
use glowflow::models::glow::Glow;
use glowflow::models::network::Network;
use glowflow::models::realnvp::RealNvp;
use glowflow::priors::Labels;
use glowflow::random::{Key, Purpose};
use glowflow::store;
use glowflow::{Device, FlowModel, GlowConfig, ImageShape, Images, ModelConfig, RealNvpConfig};

/// Draws from N(0, 1), the same in every run.
pub fn normal<const D: usize>(shape: [usize; D], seed: u64, device: &BurnDevice) -> Tensor<D> {
    let mut values = vec![0.0; shape.iter().product()];
    stream(seed, 0).fill_normal(1.0, &mut values);
    Tensor::from_data(TensorData::new(values, shape), device)
}

fn stream(seed: u64, image: u64) -> glowflow::random::Stream {
    Key { seed, purpose: Purpose::Sample, step: 77, image }.stream()
}

/// Adds noise to every parameter, zero-initialised ones too.
pub fn perturbed<M: Module>(module: M, deviation: f32, seed: u64) -> M {
    struct Perturb(f32, u64, u64);
    impl ModuleMapper for Perturb {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            self.2 += 1;
            let (deviation, seed, index) = (self.0, self.1, self.2);
            param.map(|values| {
                let shape = values.dims();
                let mut noise = vec![0.0; shape.iter().product()];
                stream(seed, index).fill_normal(deviation, &mut noise);
                let device = values.device();
                values + Tensor::from_data(TensorData::new(noise, shape), &device)
            })
        }
    }
    module.map(&mut Perturb(deviation, seed, 0))
}

/// The module in f64.
pub fn double<M: Module>(module: M) -> M {
    struct Double;
    impl ModuleMapper for Double {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            param.map(|values| values.cast(FloatDType::F64))
        }
    }
    module.map(&mut Double)
}

/// Values of every parameter and running average.
pub fn everything<M: Module>(module: &M) -> Vec<Vec<f64>> {
    #[derive(Default)]
    struct Visitor(Vec<Vec<f64>>);
    impl ModuleVisitor for Visitor {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0.push(values(param.val()));
        }
    }
    let mut visitor = Visitor::default();
    module.visit(&mut visitor);
    visitor.0
}

/// A tensor's values.
pub fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.try_into_vec_as::<f64>().expect("f64 data")
}

/// Largest difference relative to the largest value of `truth`.
pub fn relative_error(found: &[f64], truth: &[f64]) -> f64 {
    error_above(1e-6, found, truth)
}

/// [`relative_error`] of gradients through a batch's statistics, of this parameter out of all.
///
/// Where a norm takes a bias away again its true gradient is 0, and what is found rounding: that is held to a hundredth
/// of the largest gradient.
pub fn relative_error_of(parameter: usize, found: &[f64], truths: &[Vec<f64>]) -> f64 {
    let largest = truths.iter().flatten().fold(0.0f64, |largest, v| largest.max(v.abs()));
    error_above(1e-2 * largest, found, &truths[parameter])
}

fn error_above(least: f64, found: &[f64], truth: &[f64]) -> f64 {
    assert_eq!(found.len(), truth.len());
    let scale = truth.iter().fold(least, |scale, v| scale.max(v.abs()));
    found.iter().zip(truth).map(|(f, t)| (f - t).abs()).fold(0.0, |a, b| if a >= b { a } else { b }) / scale
}

/// The first wgpu device, software ones included; without one the test `name` is skipped, or fails where it is required.
pub fn wgpu_device(name: &str) -> Option<Device> {
    let found = Device::list().into_iter().find(|info| info.name.starts_with("gpu"));
    let Some(info) = found else {
        let required = std::env::var("GLOWFLOW_REQUIRE").is_ok_and(|what| what == "vulkan");
        assert!(!required, "{name}: GLOWFLOW_REQUIRE=vulkan but there is no Vulkan driver");
        // Past the test runner's capture, which hides what passing tests print.
        let _ = writeln!(std::io::stderr(), "skipped: {name} (no Vulkan driver)");
        return None;
    };
    Some(Device::open(&info.name).expect("a listed device opens"))
}

/// A model that is small in everything.
pub fn tiny(height: usize, width: usize, channels: usize) -> GlowConfig {
    let image = ImageShape { height, width, channels };
    GlowConfig { image, levels: 2, depth: 2, hidden: 8, seed: 5, ..GlowConfig::default() }
}

/// Smooth random images: each pixel near its left neighbour.
pub fn images(count: usize, shape: ImageShape, seed: u64) -> Images {
    let mut data = Vec::with_capacity(count * shape.dims());
    for image in 0..count {
        let mut noise = vec![0.0; shape.dims()];
        stream(seed, image as u64).fill_normal(30.0, &mut noise);
        let mut row = vec![128.0; shape.channels];
        for pixel in noise.chunks(shape.channels) {
            for (value, noise) in row.iter_mut().zip(pixel) {
                *value = (0.7 * *value + 0.3 * 128.0 + noise).clamp(0.0, 255.0);
                data.push(*value as u8);
            }
        }
    }
    Images::new(data, count, shape).unwrap()
}

/// The CPU; one queue for all tests.
pub fn cpu() -> Device {
    Device::open("cpu").expect("every machine has one")
}

/// 8-bit images as the flow sees them, each pixel in the middle of its bin.
pub fn scaled(images: &Images) -> Tensor<4> {
    let values: Vec<f32> = images.data.iter().map(|&pixel| (f32::from(pixel) + 0.5) / 256.0 - 0.5).collect();
    let ImageShape { height, width, channels } = images.shape;
    Tensor::from_data(TensorData::new(values, [images.count, height, width, channels]), &BurnDevice::flex())
}

/// Parameters on the CPU: actnorms set from images, then every parameter moved at random.
pub fn glow(config: &GlowConfig, deviation: f32) -> Glow {
    let mut glow = Glow::new(config, &BurnDevice::flex());
    glow.initialize(vec![scaled(&images(16, config.image, 3))]).expect("these images vary");
    perturbed(glow, deviation, 4)
}

/// These classes in turn, for so many images.
pub fn labels(classes: Option<usize>, count: usize, device: &BurnDevice) -> Option<Labels> {
    let classes = classes?;
    let labels: Vec<u32> = (0..count).map(|image| (image % classes) as u32).collect();
    Some(Labels::new(&labels, classes, device))
}

/// An actnorm that multiplies by `e^by` more.
pub fn scale_up(norm: &mut ActNorm, by: f32) {
    let scale = norm.scale.take().expect("it has a scale");
    norm.scale = Some(scale.map(|values| values.add_scalar(by / LOG_SCALE_FACTOR)));
}

/// A RealNVP that is small in everything.
pub fn tiny_realnvp(height: usize, width: usize, channels: usize) -> RealNvpConfig {
    let image = ImageShape { height, width, channels };
    RealNvpConfig { image, levels: 2, blocks: 1, hidden: 6, seed: 5, ..RealNvpConfig::default() }
}

/// Parameters on the CPU, every one and every running average moved at random.
pub fn realnvp(config: &RealNvpConfig, deviation: f32) -> RealNvp {
    perturbed(RealNvp::new(config, &BurnDevice::flex()), deviation, 4)
}

/// A Glow model ready for inference.
pub fn chain(config: &GlowConfig, glow: &Glow) -> Chain {
    glow.chain(config, Mode::Evaluation)
}

/// A model of these parameters on a device, by way of a file: it counts as initialized.
pub fn loaded(config: &GlowConfig, glow: &Glow, device: &Device) -> FlowModel {
    loaded_network(&config.clone().into(), &Network::Glow(glow.clone()), device)
}

/// As [`loaded`], of any kind.
pub fn loaded_network(config: &ModelConfig, network: &Network, device: &Device) -> FlowModel {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    store::model::write(&path, config, network, true, 0).unwrap();
    FlowModel::load(&path, device).unwrap()
}

/// A model of [`glow`]'s parameters on the CPU.
pub fn model(config: &GlowConfig, deviation: f32) -> FlowModel {
    loaded(config, &glow(config, deviation), &cpu())
}
