//! NICE as a whole: known numbers, its likelihood and gradients, its files and runs.

use std::f64::consts::{PI, TAU};
use std::sync::Arc;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{DType, Device as BurnDevice, FloatDType, Tensor, TensorData};
use glowflow::data::InMemory;
use glowflow::flow::{Gradients, Mode, named_parameters};
use glowflow::kernels::{available_paths, force};
use glowflow::layers::{Rearrange, WhiteningKind};
use glowflow::models::memory::parameter_count;
use glowflow::models::network::Network;
use glowflow::models::nice::Nice;
use glowflow::models::structure::layers;
use glowflow::train::{Activations, CheckpointConfig, OptimizerConfig};
use glowflow::{
    Call, Control, Device, FlowModel, ImageShape, Images, LatentDistribution, ModelConfig, NiceConfig, NicePrior,
    Noise, Pixels, RunData, TrainConfig, TrainEvent, store,
};
use rayon::ThreadPoolBuilder;

use crate::common::{cpu, double, images, normal, perturbed, relative_error, scaled, values, wgpu_device};
use crate::laws::{by_autodiff, log_abs_det_of};

const WAYS: [Activations; 3] = [Activations::Stored, Activations::Inputs, Activations::Constant];

fn small(prior: NicePrior, whitening: WhiteningKind) -> NiceConfig {
    let image = ImageShape { height: 4, width: 3, channels: 1 };
    NiceConfig { image, couplings: 3, hidden: 9, layers: 2, prior, whitening, seed: 5, ..NiceConfig::default() }
}

/// Small models of every kind.
fn kinds() -> Vec<NiceConfig> {
    let whitenings = [WhiteningKind::None, WhiteningKind::Approximate, WhiteningKind::Zca];
    let of = |prior| whitenings.map(|whitening| small(prior, whitening));
    [of(NicePrior::Logistic), of(NicePrior::Gaussian)].concat()
}

/// Parameters on the CPU: the whitening set from images, then everything that is trained moved at random.
fn nice(config: &NiceConfig) -> Nice {
    let mut nice = Nice::new(config, &BurnDevice::flex());
    nice.initialize(vec![scaled(&images(40, config.image, 3))]).expect("these images vary");
    let couplings = nice.couplings.into_iter().enumerate();
    nice.couplings = couplings.map(|(index, coupling)| perturbed(coupling, 0.2, index as u64)).collect();
    nice.scale = perturbed(nice.scale, 0.2, 9);
    nice
}

fn loaded(config: &NiceConfig, nice: Nice, device: &Device) -> FlowModel {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    store::model::write(&path, &config.clone().into(), &Network::Nice(nice), true, 0).unwrap();
    FlowModel::load(&path, device).unwrap()
}

#[test]
fn an_identity_nice_costs_10_1174_or_9_5662_bits_a_dimension_on_uniform_pixels() {
    struct Zero;
    impl ModuleMapper for Zero {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            param.map(|values| values.zeros_like())
        }
    }
    for (prior, truth) in [(NicePrior::Logistic, 10.1174), (NicePrior::Gaussian, 9.5662)] {
        let image = ImageShape { height: 16, width: 16, channels: 1 };
        let config = NiceConfig { image, hidden: 8, prior, ..NiceConfig::default() };
        let model = loaded(&config, Nice::new(&config, &BurnDevice::flex()).map(&mut Zero), &cpu());
        let pixels = Pixels::Bytes(Images::new((0..=255).collect(), 1, image).unwrap());
        let found = model.bits_per_dim(&pixels, &Noise::midpoint(), &Call::default()).unwrap()[0];
        assert!((found - truth).abs() < 5e-5, "{prior:?}: {found} is not {truth}");
    }
}

#[test]
fn tiling_puts_even_places_before_odd_ones() {
    let image: Vec<f32> = (0..12).map(|value| value as f32).collect();
    let x = Tensor::<4>::from_data(TensorData::new(image, [1, 2, 3, 2]), &BurnDevice::flex());
    let tile = Rearrange::Tile([2, 3, 2]);
    let z = tile.forward(x.clone());
    assert_eq!(z.dims(), [1, 1, 1, 12]);
    assert_eq!(values(z.clone()), [0., 2., 4., 6., 8., 10., 1., 3., 5., 7., 9., 11.]);
    assert_eq!(values(tile.inverse(z.clone())), values(x));
    let reversed = Rearrange::Reverse.forward(z.clone());
    assert_eq!(values(reversed.clone()), [11., 9., 7., 5., 3., 1., 10., 8., 6., 4., 2., 0.]);
    assert_eq!(values(Rearrange::Reverse.inverse(reversed)), values(z));
}

#[test]
fn parameters_are_as_many_as_counted_before_a_model_is_made() {
    for config in kinds() {
        let parameters = named_parameters(&Nice::new(&config, &BurnDevice::flex()));
        let size = |shape: &[usize]| shape.iter().product::<usize>() as u64;
        let all: u64 = parameters.iter().map(|parameter| size(&parameter.shape)).sum();
        let config: ModelConfig = config.into();
        assert_eq!(all, parameter_count(&config), "{config:?}");
        for layer in layers(&config) {
            let inside = parameters.iter().filter(|p| p.name.starts_with(&format!("{}.", layer.path)));
            assert_eq!(inside.map(|p| size(&p.shape)).sum::<u64>(), layer.parameters, "{}", layer.path);
        }
    }
}

#[test]
fn weights_start_within_a_hundredth_and_biases_at_0() {
    let config = small(NicePrior::Logistic, WhiteningKind::None);
    for parameter in named_parameters(&Nice::new(&config, &BurnDevice::flex())) {
        let of = values(parameter.values);
        let largest = of.iter().fold(0.0f64, |largest, value| largest.max(value.abs()));
        if parameter.name.ends_with(".weight") {
            let mean = of.iter().sum::<f64>() / of.len() as f64;
            assert!((0.008..=0.01).contains(&largest) && mean.abs() < 0.003, "{}: {largest} {mean}", parameter.name);
        } else {
            assert_eq!(largest, 0.0, "{}", parameter.name);
        }
    }
}

#[test]
fn log_prob_is_the_priors_and_the_jacobians() {
    for config in kinds() {
        let chain = double(nice(&config)).chain(&config, Mode::Evaluation);
        let x = values(scaled(&images(1, config.image, 6)));
        let run = |x: &[f64]| {
            let data = TensorData::new(x.to_vec(), [1, 4, 3, 1]);
            chain.encode(Tensor::from_data(data, (&BurnDevice::flex(), DType::F64)), None).unwrap()
        };
        let noise_of = |x: &[f64]| run(x).latents.into_iter().flat_map(values).collect::<Vec<f64>>();
        let log_density = |z: &f64| match config.prior {
            NicePrior::Logistic => -z - 2.0 * (-z).exp().ln_1p(),
            NicePrior::Gaussian => -0.5 * (z * z + TAU.ln()),
        };
        let truth = noise_of(&x).iter().map(log_density).sum::<f64>() + log_abs_det_of(&x, noise_of);
        let found = values(run(&x).log_prob)[0];
        assert!((found - truth).abs() < 1e-5, "{config:?}: {found} is not {truth}");
    }
}

#[test]
fn every_way_to_hold_activations_gives_autodiffs_gradients() {
    for config in kinds() {
        let plain = BurnDevice::flex();
        let nice = nice(&config);
        let x = scaled(&images(3, config.image, 6));
        let cotangent = normal([3], 2, &plain);
        let tracked = double(nice.clone()).fork(&plain.clone().autodiff()).train();
        let wide = x.clone().cast(FloatDType::F64).autodiff().require_grad();
        let log_prob = tracked.chain(&config, Mode::Evaluation).encode(wide.clone(), None).unwrap().log_prob;
        let tape = (log_prob * cotangent.clone().cast(FloatDType::F64).autodiff()).sum().backward();
        let (dx, gradients) = (values(wide.grad(&tape).unwrap()), by_autodiff(&tracked, &tape));

        let chain = nice.chain(&config, Mode::Training);
        for path in available_paths() {
            for way in WAYS {
                force(path, || {
                    let tape = chain.forward(x.clone(), None, way).unwrap();
                    let mut found = Gradients::default();
                    let back = chain.backward(tape, &cotangent, &mut found).unwrap();
                    let near = |what: &str, found: &[f64], truth: &[f64], tolerance: f64| {
                        let error = relative_error(found, truth);
                        assert!(error < tolerance, "{config:?} {path:?} {way:?}: {what} is off by {error:e}");
                    };
                    near("the input", &values(back.x), &values(x.clone()), 1e-4);
                    near("the input's gradient", &values(back.dx), &dx, 1e-3);
                    for (parameter, truth) in named_parameters(&nice).iter().zip(&gradients) {
                        let found = found.get(parameter.id).expect("every parameter has a gradient");
                        near(&parameter.name, &values(found.clone()), truth, 1e-3);
                    }
                });
            }
        }
    }
}

#[test]
fn images_come_back_exactly_on_cpu_and_wgpu() {
    for config in kinds() {
        let nice = nice(&config);
        let pixels = images(5, config.image, 8);
        for device in std::iter::once(cpu()).chain(wgpu_device("NICE on wgpu")) {
            let model = loaded(&config, nice.clone(), &device);
            let call = Call::default();
            let latents = model.encode(&Pixels::Bytes(pixels.clone()), &Noise::midpoint(), &call).unwrap();
            assert_eq!((latents.count, latents.dims), (5, 12));
            assert_eq!(model.decode(&latents, &call).unwrap(), pixels, "{config:?}");
        }
    }
}

#[test]
fn an_image_gives_the_same_bits_in_any_batch_and_on_any_number_of_threads() {
    let image = ImageShape { height: 10, width: 9, channels: 3 };
    let config = NiceConfig { image, hidden: 200, ..small(NicePrior::Logistic, WhiteningKind::Zca) };
    let chain = nice(&config).chain(&config, Mode::Evaluation);
    let x = scaled(&images(7, config.image, 5));
    let run = |x: Tensor<4>| {
        let encoded = chain.encode(x, None).unwrap();
        [values(encoded.latents[0].clone()), values(encoded.log_prob)].concat()
    };
    for path in available_paths().into_iter().filter(|path| format!("{path:?}") != "Composed") {
        let on = |threads, x: &Tensor<4>| {
            let pool = ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| force(path, || run(x.clone())))
        };
        let all = on(1, &x);
        for threads in [2, 3] {
            assert_eq!(on(threads, &x), all, "{path:?} on {threads} threads");
        }
        for image in 0..7 {
            let alone = on(2, &x.clone().narrow(0, image, 1));
            assert_eq!(alone[..270], all[270 * image..270 * (image + 1)], "{path:?}: image {image}");
            assert_eq!(alone[270], all[270 * 7 + image], "{path:?}: log-probability of image {image}");
        }
    }
}

#[test]
fn samples_are_drawn_from_the_prior() {
    for (prior, variance) in [(NicePrior::Logistic, PI * PI / 3.0), (NicePrior::Gaussian, 1.0)] {
        let image = ImageShape { height: 40, width: 40, channels: 1 };
        let config = NiceConfig { image, hidden: 4, ..small(prior, WhiteningKind::None) };
        let model = FlowModel::create(config, &cpu()).unwrap();
        let expected = match prior {
            NicePrior::Logistic => LatentDistribution::Logistic,
            NicePrior::Gaussian => LatentDistribution::Normal,
        };
        let scales = model.latent_scales();
        assert_eq!((scales.len(), scales[0].shape, scales[0].distribution), (1, [1, 1, 1600], expected));
        // Nets that add next to nothing, a scale of 1 and three reversals: pixels are the noise, but for the order.
        let images = model.sample(20, 0.05, 1, &Call::default()).unwrap();
        let values: Vec<f64> = images.data.iter().map(|&pixel| (f64::from(pixel) + 0.5) / 256.0).collect();
        let inside: Vec<f64> = values.iter().copied().filter(|value| *value > 0.01 && *value < 0.99).collect();
        // Half of the noise is below 0 and clipped there; of the rest the mean square is the variance.
        let square = 2.0 * inside.iter().map(|value| value * value).sum::<f64>() / values.len() as f64 / 0.0025;
        assert!((square / variance - 1.0).abs() < 0.06, "{prior:?}: {square} is not {variance}");
    }
}

/// Each step's loss.
fn losses(model: &FlowModel, data: &Images, options: TrainConfig) -> Vec<f64> {
    let data = Arc::new(InMemory::new(data.clone(), None, None).unwrap());
    let mut losses = Vec::new();
    model
        .train(RunData::of(data), options, None, &Control::new(), &mut |event| {
            if let TrainEvent::StepEnd(step) = event {
                losses.push(step.loss);
            }
        })
        .unwrap();
    losses
}

fn options(steps: u64) -> TrainConfig {
    TrainConfig { steps: Some(steps), batch_size: 8, init_images: 16, warmup: 0, ..TrainConfig::default() }
}

#[test]
fn training_learns_alike_on_cpu_and_wgpu_however_activations_are_held() {
    for config in [small(NicePrior::Logistic, WhiteningKind::Zca), small(NicePrior::Gaussian, WhiteningKind::None)] {
        let data = images(64, config.image, 1);
        let curve = |way, device: &Device| {
            let model = FlowModel::create(config.clone(), device).unwrap();
            assert_eq!(model.initialized(), config.whitening == WhiteningKind::None);
            let optimizer = OptimizerConfig { learning_rate: 1e-2, ..OptimizerConfig::default() };
            losses(&model, &data, TrainConfig { activations: Some(way), optimizer, batch_size: 32, ..options(60) })
        };
        let [stored, inputs, constant] = WAYS.map(|way| curve(way, &cpu()));
        let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
        assert!(mean(&stored[50..]) < mean(&stored[..10]) - 0.05, "it learns: {stored:?}");
        assert_eq!(stored, inputs);
        let close = |found: &[f64], what: &str| {
            for (step, (found, truth)) in found.iter().zip(&stored).enumerate() {
                assert!((found - truth).abs() < 1e-3 * truth.abs(), "{what}, step {step}: {found} is not {truth}");
            }
        };
        close(&constant, "constant");
        if let Some(device) = wgpu_device("training NICE on wgpu") {
            close(&curve(Activations::Constant, &device), "wgpu");
        }
    }
}

#[test]
fn a_resumed_run_gives_the_bytes_of_one_that_was_never_cut() {
    let config = small(NicePrior::Logistic, WhiteningKind::Zca);
    let data = images(40, config.image, 1);
    let whole = FlowModel::create(config.clone(), &cpu()).unwrap();
    let all = losses(&whole, &data, options(8));

    let folder = tempfile::tempdir().unwrap();
    let checkpoint = Some(CheckpointConfig { folder: folder.path().to_owned(), every: 4, keep: 3 });
    let first = FlowModel::create(config, &cpu()).unwrap();
    assert_eq!(losses(&first, &data, TrainConfig { checkpoint, ..options(4) }), all[..4]);
    let (resumed, from) = FlowModel::resume(folder.path(), &cpu()).unwrap();
    let data: Arc<InMemory> = Arc::new(InMemory::new(data, None, None).unwrap());
    resumed.train(RunData::of(data), options(8), Some(from), &Control::new(), &mut |_| {}).unwrap();

    let files = [&whole, &resumed].map(|model| {
        let path = folder.path().join("saved.safetensors");
        model.save(&path).unwrap();
        std::fs::read(path).unwrap()
    });
    assert!(files[0] == files[1], "the files differ");
}

#[test]
fn options_out_of_range_are_refused_by_name() {
    let base = NiceConfig::default();
    let image = |height, width, channels| ImageShape { height, width, channels };
    for (config, option) in [
        (NiceConfig { couplings: 0, ..base.clone() }, "couplings"),
        (NiceConfig { hidden: 0, ..base.clone() }, "hidden"),
        (NiceConfig { layers: 0, ..base.clone() }, "layers"),
        (NiceConfig { bits: 9, ..base.clone() }, "bits"),
        (NiceConfig { image: image(3, 3, 1), ..base.clone() }, "imageSize"),
        (NiceConfig { image: image(0, 4, 1), ..base.clone() }, "imageSize"),
        (NiceConfig { image: image(4, 4, 2), ..base.clone() }, "channels"),
        (NiceConfig { image: image(64, 64, 3), whitening: WhiteningKind::Zca, ..base.clone() }, "whitening"),
    ] {
        let problems: Vec<String> = config.problems().iter().map(ToString::to_string).collect();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].contains(&format!(" for {option} ")), "{problems:?}");
        assert!(FlowModel::create(config, &cpu()).is_err());
    }
    assert!(base.problems().is_empty());
}
