//! RealNVP as a whole: numbers that are known in advance, gradients, and what batch normalisation must not do.

use std::f64::consts::TAU;
use std::sync::Arc;

use burn::module::{Module, Param};
use burn::tensor::{DType, Device as BurnDevice, FloatDType, Tensor, TensorData};
use glowflow::data::{Dataset, InMemory, PrefetchedBatch};
use glowflow::flow::{
    Gradients, Invertible, Layer, Mode, Penalised, RunningAverage, add_penalties, move_running_averages,
    named_parameters,
};
use glowflow::layers::{Logit, Rearrange};
use glowflow::models::memory::parameter_count;
use glowflow::models::network::Network;
use glowflow::models::realnvp::RealNvp;
use glowflow::models::structure::layers;
use glowflow::train::{Activations, CheckpointConfig, Identity, Optimizer, Trainer, Weights};
use glowflow::{
    Call, Control, FlowModel, ImageShape, Images, ModelConfig, Noise, Pixels, RealNvpConfig, RunData, TrainConfig,
    TrainEvent,
};

use crate::common::{
    cpu, double, everything, images, loaded_network, normal, realnvp, relative_error, relative_error_of, scaled,
    tiny_realnvp, values,
};
use crate::laws::{by_autodiff, log_abs_det_of};

const WAYS: [Activations; 3] = [Activations::Stored, Activations::Inputs, Activations::Constant];

fn options(steps: u64) -> TrainConfig {
    TrainConfig { steps: Some(steps), batch_size: 8, warmup: 0, ..TrainConfig::default() }
}

fn data(config: &RealNvpConfig) -> Arc<InMemory> {
    Arc::new(InMemory::new(images(40, config.image, 1), None, None).unwrap())
}

/// The losses of a run.
fn losses(model: &FlowModel, config: &RealNvpConfig, options: TrainConfig) -> Vec<f64> {
    let mut losses = Vec::new();
    model
        .train(RunData::of(data(config)), options, None, &Control::new(), &mut |event| {
            if let TrainEvent::StepEnd(step) = event {
                losses.push(step.loss);
            }
        })
        .unwrap();
    losses
}

#[test]
fn parameters_are_as_many_as_counted_before_a_model_is_made() {
    for (levels, blocks, channels) in [(1, 1, 1), (2, 3, 3), (3, 2, 4)] {
        let config = RealNvpConfig { levels, blocks, ..tiny_realnvp(8, 16, channels) };
        let parameters = named_parameters(&RealNvp::new(&config, &BurnDevice::flex()));
        let found: usize = parameters.iter().map(|p| p.shape.iter().product::<usize>()).sum();
        let config: ModelConfig = config.into();
        assert_eq!(found as u64, parameter_count(&config), "{config:?}");
        for layer in layers(&config) {
            let inside = parameters.iter().filter(|p| p.name.starts_with(&format!("{}.", layer.path)));
            let found: usize = inside.map(|p| p.shape.iter().product::<usize>()).sum();
            assert_eq!(found as u64, layer.parameters, "{} of {config:?}", layer.path);
        }
    }
}

fn fill<const D: usize>(parameter: &mut Param<Tensor<D>>, value: f64) {
    *parameter = parameter.clone().map(|values| values.full_like(value));
}

#[test]
fn an_identity_flow_costs_8_2075_bits_a_dimension_on_uniform_pixels() {
    let config = RealNvpConfig { levels: 3, ..tiny_realnvp(16, 16, 1) };
    let mut network = RealNvp::new(&config, &BurnDevice::flex());
    for level in &mut network.levels {
        let masked = level.masked.iter_mut().map(|layer| (&mut layer.net, &mut layer.norm));
        let channel = level.channel.iter_mut().map(|layer| (&mut layer.net, &mut layer.norm));
        for (net, norm) in masked.chain(channel) {
            fill(&mut net.residual.last.magnitude.as_mut().unwrap().value, 0.0);
            // What is added to a variance before it divides makes it 1.
            fill(&mut norm.variance.value, 1.0 - 1e-4);
        }
    }
    let model = loaded_network(&config.clone().into(), &Network::RealNvp(network), &cpu());
    let images = Images::new((0..=255).collect(), 1, config.image).unwrap();
    let found = model.bits_per_dim(&Pixels::Bytes(images), &Noise::midpoint(), &Call::default()).unwrap()[0];
    assert!((found - 8.2075).abs() < 1e-4, "{found}");
    let bits = |pixel: u32| {
        let y = 0.05 + 0.9 * (f64::from(pixel) + 0.5) / 256.0;
        let logit = (y / (1.0 - y)).ln();
        (0.5 * (logit * logit + TAU.ln()) + (y * (1.0 - y) / 0.9).ln() + 256f64.ln()) / 2f64.ln()
    };
    let truth = (0..256).map(bits).sum::<f64>() / 256.0;
    assert!((found - truth).abs() < 1e-5, "{found} is not {truth}");
}

#[test]
fn an_ordered_squeeze_puts_the_diagonals_of_each_block_apart() {
    let shape = [2, 4, 6, 3];
    let numbered: Vec<f32> = (0..shape.iter().product()).map(|i| i as f32).collect();
    let x = Tensor::<4>::from_data(TensorData::new(numbered, shape), &BurnDevice::flex());
    let z = Rearrange::OrderedSqueeze.forward(x.clone());
    assert_eq!(z.dims(), [2, 2, 3, 12]);
    let places = [(0, 0), (1, 1), (0, 1), (1, 0)];
    for (index, value) in values(z.clone()).into_iter().enumerate() {
        let (channel, column, row, image) = (index % 12, index / 12 % 3, index / 36 % 2, index / 72);
        let (dy, dx) = places[channel / 3];
        let source = ((image * 4 + 2 * row + dy) * 6 + 2 * column + dx) * 3 + channel % 3;
        assert_eq!(value, source as f64, "channel {channel} of pixel ({row}, {column})");
    }
    assert_eq!(values(Rearrange::OrderedSqueeze.inverse(z)), values(x));
}

#[test]
fn a_logit_comes_back_from_however_far_out() {
    let logit = Logit::default().prepare("logit", Mode::Evaluation.into()).unwrap();
    let of = |z: f32| {
        let z = Tensor::<1>::from_floats([z], &BurnDevice::flex()).reshape([1, 1, 1, 1]);
        values(logit.inverse(z).unwrap())[0]
    };
    for z in [0.0, 1e-4, 1.0, 15.0, 90.0, 1e4, f32::MAX] {
        let share = 1.0 / (1.0 + (-f64::from(z)).exp());
        let truth = (share - 0.05) / 0.9 - 0.5;
        assert!((of(z) - truth).abs() < 1e-6, "{z}: {} is not {truth}", of(z));
        assert_eq!(of(-z), -of(z));
    }
}

#[test]
fn log_prob_is_the_noises_and_the_jacobians() {
    let config = tiny_realnvp(4, 4, 1);
    let chain = double(realnvp(&config, 0.05)).chain(&config, Mode::Evaluation);
    let x = values(scaled(&images(1, config.image, 6)));
    let run = |x: &[f64]| {
        let data = TensorData::new(x.to_vec(), [1, 4, 4, 1]);
        chain.encode(Tensor::from_data(data, (&BurnDevice::flex(), DType::F64)), None).unwrap()
    };
    let noise_of = |x: &[f64]| run(x).latents.into_iter().flat_map(values).collect::<Vec<f64>>();
    let log_normal: f64 = noise_of(&x).iter().map(|z| -0.5 * (z * z + TAU.ln())).sum();
    let truth = log_normal + log_abs_det_of(&x, noise_of);
    let found = values(run(&x).log_prob)[0];
    assert!((found - truth).abs() < 1e-5, "{found} is not {truth}");
}

#[test]
fn every_way_to_hold_activations_gives_autodiffs_gradients_through_the_batchs_statistics() {
    let config = tiny_realnvp(8, 4, 1);
    let plain = BurnDevice::flex();
    let network = realnvp(&config, 0.05);
    let x = scaled(&images(4, config.image, 6));
    let cotangent = normal([4], 2, &plain);
    let tracked = double(network.clone()).fork(&plain.clone().autodiff()).train();
    let wide = x.clone().cast(FloatDType::F64).autodiff().require_grad();
    let log_prob = tracked.chain(&config, Mode::Training).encode(wide.clone(), None).unwrap().log_prob;
    let tape = (log_prob * cotangent.clone().cast(FloatDType::F64).autodiff()).sum().backward();
    let (dx, gradients) = (values(wide.grad(&tape).unwrap()), by_autodiff(&tracked, &tape));

    let chain = network.chain(&config, Mode::Training);
    let found = WAYS.map(|way| {
        let tape = chain.forward(x.clone(), None, way).unwrap();
        let mut found = Gradients::default();
        let back = chain.backward(tape, &cotangent, &mut found).unwrap();
        assert!(relative_error(&values(back.x), &values(x.clone())) < 1e-4, "{way:?}: the input");
        assert!(relative_error(&values(back.dx), &dx) < 1e-3, "{way:?}: the input's gradient");
        let mut of_each = Vec::new();
        for (index, parameter) in named_parameters(&network).iter().enumerate() {
            let found = found.get(parameter.id).map_or_else(Vec::new, |gradient| values(gradient.clone()));
            let error = relative_error_of(index, &found, &gradients);
            assert!(error < 1e-3, "{way:?}: the gradient of {} is off by {error:e}", parameter.name);
            of_each.push(found);
        }
        of_each
    });
    assert_eq!(found[0], found[1], "kept inputs give the very activations that were not stored");
}

#[test]
fn every_way_to_hold_activations_gives_the_same_loss_curve() {
    let config = tiny_realnvp(8, 8, 3);
    let curves = WAYS.map(|way| {
        let model = FlowModel::create(config.clone(), &cpu()).unwrap();
        losses(&model, &config, TrainConfig { activations: Some(way), ..options(30) })
    });
    assert!(curves[0][29] < curves[0][0] - 0.1, "it learns: {:?}", curves[0]);
    assert_eq!(curves[0], curves[1], "kept inputs give the bits of stored activations");
    for (step, (stored, constant)) in curves[0].iter().zip(&curves[2]).enumerate() {
        assert!((stored - constant).abs() < 1e-3 * stored.abs(), "step {step}: {stored} {constant}");
    }
}

/// The first norm that an image meets.
fn first_norm(network: &RealNvp) -> [&RunningAverage; 2] {
    let norm = &network.levels[0].masked[0].net.norm;
    [&norm.mean, &norm.variance]
}

#[test]
fn running_averages_move_by_a_tenth_of_the_way_to_what_each_batch_shows() {
    let config = tiny_realnvp(4, 4, 1);
    let mut network = RealNvp::new(&config, &BurnDevice::flex());
    let mut truth = [0.0, 1.0];
    for step in 0..4 {
        let batch = scaled(&images(5, config.image, step));
        let tape = network.chain(&config, Mode::Training).forward(batch.clone(), None, WAYS[2]).unwrap();
        // The logits of the pixels that are kept, and zeros.
        let logit = |(index, x): (usize, f64)| {
            let y = 0.5 + 0.9 * x;
            if (index / 4 + index) % 2 == 1 { 0.0 } else { (y / (1.0 - y)).ln() }
        };
        let seen: Vec<f64> = values(batch).into_iter().enumerate().map(logit).collect();
        let mean = seen.iter().sum::<f64>() / seen.len() as f64;
        let variance = seen.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / seen.len() as f64;
        truth = [0.9 * truth[0] + 0.1 * mean, 0.9 * truth[1] + 0.1 * variance];
        network = move_running_averages(network, tape.statistics(), None);
        let found = first_norm(&network).map(|average| values(average.value.val())[0]);
        assert!(relative_error(&found, &truth) < 1e-5, "step {step}: {found:?} is not {truth:?}");
    }
}

#[test]
fn a_step_moves_every_running_average_once_however_activations_are_held() {
    let config = tiny_realnvp(8, 8, 3);
    let data = data(&config);
    let trained = WAYS.map(|way| {
        let options = options(1);
        let (device, model) = (BurnDevice::flex(), config.clone().into());
        let mut trainer =
            Trainer::new(&options, &model, way, Optimizer::new(options.optimizer.clone()), Box::new(Identity));
        let mut network = Network::new(&model, &device);
        let before = everything(&network);
        let indices: Vec<usize> = (0..8).collect();
        let batch = PrefetchedBatch { step: 0, batch: data.batch(&indices).unwrap(), indices };
        trainer.accumulate(&network, batch, &device).unwrap();
        assert_eq!(everything(&network), before, "a pass alone moves nothing");
        trainer.update(Weights { network: &mut network, average: &mut None }, 0.0, 1, &device).unwrap();
        let after = everything(&network);
        let trained = named_parameters(&network).len();
        let moved = after.iter().zip(&before).filter(|(after, before)| after != before).count();
        assert_eq!(moved, after.len() - trained, "{way:?}: at a rate of 0 running averages alone move");
        after
    });
    assert!(trained.iter().all(|other| *other == trained[0]));
}

#[test]
fn magnitudes_and_rescales_have_a_penalty() {
    let network = realnvp(&tiny_realnvp(4, 4, 1), 0.05);
    let mut gradients = Gradients::default();
    add_penalties(&network, &mut gradients);
    for parameter in named_parameters(&network) {
        let penalised = parameter.name.ends_with("magnitude.value") || parameter.name.ends_with("rescale.value");
        let found = gradients.get(parameter.id).map(|gradient| values(gradient.clone()));
        let truth = penalised.then(|| values(parameter.values).into_iter().map(|v| 1e-4 * v).collect::<Vec<_>>());
        match (found, truth) {
            (None, None) => {}
            (Some(found), Some(truth)) => assert!(relative_error(&found, &truth) < 1e-6, "{}", parameter.name),
            other => panic!("{}: {other:?}", parameter.name),
        }
    }
    let alone = Penalised::new(Tensor::from_floats([3.0], &BurnDevice::flex()));
    add_penalties(&alone, &mut gradients);
    assert!((values(gradients.get(alone.value.id).unwrap().clone())[0] - 3e-4).abs() < 1e-9);
}

#[test]
fn pixels_come_back_from_a_trained_model() {
    let config = RealNvpConfig { levels: 3, ..tiny_realnvp(8, 8, 3) };
    let model = FlowModel::create(config.clone(), &cpu()).unwrap();
    losses(&model, &config, options(20));
    let pixels = images(6, config.image, 7);
    let call = Call::default();
    let latents = model.encode(&Pixels::Bytes(pixels.clone()), &Noise::midpoint(), &call).unwrap();
    assert_eq!(model.decode(&latents, &call).unwrap(), pixels);
    let verification = model.verify(&Pixels::Bytes(pixels), &call).unwrap();
    assert_eq!(verification.pixel_mismatches, 0);
    assert!(verification.max_error < 1e-4, "{verification:?}");
    assert_eq!(
        model.latent_scales().iter().map(|scale| scale.shape).collect::<Vec<_>>(),
        [[4, 4, 6], [2, 2, 12], [2, 2, 12]]
    );
    assert_eq!(model.sample(2, 1.0, 3, &call).unwrap().count, 2);
}

#[test]
fn a_run_that_is_resumed_gives_the_bytes_of_one_that_was_not_cut() {
    let config = tiny_realnvp(8, 8, 3);
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = CheckpointConfig { folder: folder.path().into(), every: 3, keep: 9 };
    let options = |steps| TrainConfig { ema: Some(0.9), checkpoint: Some(checkpoint.clone()), ..options(steps) };
    let whole = FlowModel::create(config.clone(), &cpu()).unwrap();
    losses(&whole, &config, options(6));
    let saved = |model: &FlowModel, name: &str| {
        let path = folder.path().join(name);
        model.save(&path).unwrap();
        std::fs::read(path).unwrap()
    };
    let truth = saved(&whole, "whole");
    std::fs::remove_dir_all(folder.path().join("step-00000006")).unwrap();
    let (model, from) = FlowModel::resume(&folder.path().join("step-00000003"), &cpu()).unwrap();
    model.train(RunData::of(data(&config)), options(6), Some(from), &Control::new(), &mut |_| {}).unwrap();
    assert!(saved(&model, "resumed") == truth, "the resumed run ends elsewhere");
    let loaded = FlowModel::load(&folder.path().join("whole"), &cpu()).unwrap();
    assert!(saved(&loaded, "again") == truth, "loading changes the model");
}

#[test]
fn a_config_out_of_range_is_refused_by_the_name_of_its_option() {
    let base = || tiny_realnvp(8, 8, 3);
    let image = |height, width| RealNvpConfig { image: ImageShape { height, width, channels: 3 }, ..base() };
    for (config, name) in [
        (RealNvpConfig { levels: 0, ..base() }, "levels"),
        (RealNvpConfig { levels: usize::MAX, ..base() }, "levels"),
        (RealNvpConfig { blocks: 0, ..base() }, "blocks"),
        (RealNvpConfig { hidden: 0, ..base() }, "hidden"),
        (RealNvpConfig { bits: 9, ..base() }, "bits"),
        (image(0, 8), "imageSize"),
        (image(8, 7), "imageSize"),
        (RealNvpConfig { levels: 3, ..image(8, 10) }, "imageSize"),
    ] {
        let error = FlowModel::create(config, &cpu()).expect_err("refused");
        assert!(error.to_string().contains(name), "{name}: {error}");
    }
    // The last level is not squeezed.
    assert!(image(8, 10).problems().is_empty());
    let text = r#"{"kind":"realnvp","image":{"height":8,"width":8,"channels":3},"levels":2,"blocks":1,"hidden":6,"bits":8,"seed":5"#;
    let of = |rest: &str| serde_json::from_str::<ModelConfig>(&format!("{text}{rest}}}"));
    assert_eq!(of("").unwrap(), base().into());
    assert!(of(r#","depth":3"#).is_err());
}
