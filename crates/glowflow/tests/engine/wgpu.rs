//! The same model on wgpu as on the CPU: training, encoding, decoding and sampling run whole there.

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::Device as BurnDevice;
use glowflow::data::{Dataset, InMemory, PrefetchedBatch};
use glowflow::flow::named_parameters;
use glowflow::kernels::host::reads;
use glowflow::layers::ActNorm;
use glowflow::models::network::Network;
use glowflow::train::{
    Activations, CheckpointConfig, Identity, Optimizer, OptimizerConfig, Outcomes, Trainer, Weights,
};
use glowflow::{
    Call, Control, Device, Error, FlowModel, GlowConfig, Layout, ModelConfig, Noise, Pixels, RealNvpConfig, RunData,
    TrainConfig, TrainEvent,
};

use crate::common::{
    cpu, glow, images, loaded, realnvp, relative_error, scale_up, tiny, tiny_realnvp, values, wgpu_device,
};

fn losses(config: &ModelConfig, activations: Activations, learning_rate: f64, device: &Device) -> Vec<f64> {
    let model = FlowModel::create(config.clone(), device).unwrap();
    let labels = config.classes().map(|classes| (0..64).map(|image| image % classes as u32).collect());
    let data = Arc::new(InMemory::new(images(64, config.image(), 1), labels, None).unwrap());
    let options = TrainConfig {
        steps: Some(20),
        batch_size: 8,
        init_images: 16,
        warmup: 5,
        activations: Some(activations),
        optimizer: OptimizerConfig { learning_rate, ..OptimizerConfig::default() },
        ..TrainConfig::default()
    };
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

#[test]
fn twenty_training_steps_on_wgpu_give_the_cpus_losses() {
    let Some(device) = wgpu_device("training on wgpu") else { return };
    let config = GlowConfig { hidden: 16, ..tiny(8, 8, 3) };
    let other = |layout| GlowConfig { layout, ..config.clone() };
    let conditional = GlowConfig { classes: Some(4), ..config.clone() };
    let cases: [(ModelConfig, Activations); 6] = [
        (tiny_realnvp(8, 8, 3).into(), Activations::Constant),
        (config.clone().into(), Activations::Stored),
        (config.clone().into(), Activations::Constant),
        (other(Layout::Rosinality).into(), Activations::Constant),
        (GlowConfig { layout: Layout::Normflows, ..conditional.clone() }.into(), Activations::Stored),
        (GlowConfig { classifier_weight: 0.1, ..conditional }.into(), Activations::Constant),
    ];
    for (config, activations) in cases {
        // What is not set from data has further to go.
        let rate = if config.is_set_from_data() { 1e-3 } else { 1e-2 };
        let [found, truth] = [&device, &cpu()].map(|device| losses(&config, activations, rate, device));
        assert_eq!((found.len(), truth.len()), (20, 20));
        assert!(truth[19] < truth[0] - 0.1, "it learns: {truth:?}");
        for (step, (found, truth)) in found.iter().zip(&truth).enumerate() {
            assert!(
                (found - truth).abs() < 1e-3 * truth.abs(),
                "{config:?}, {activations:?}, step {step}: {found} is not {truth}"
            );
        }
    }
}

/// Runs steps of a trainer on the device's queue, every look at their outcomes included.
fn on_queue<T: Send + 'static>(
    device: &Device,
    config: &ModelConfig,
    network: Network,
    activations: Activations,
    work: impl FnOnce(&mut Trainer, &mut Network, &mut dyn FnMut(u64) -> PrefetchedBatch, &BurnDevice) -> T + Send + 'static,
) -> T {
    let (on, config) = (device.clone(), config.clone());
    device
        .run(move || {
            let options = TrainConfig { batch_size: 4, ..TrainConfig::default() };
            let optimizer = Optimizer::new(options.optimizer.clone());
            let mut trainer = Trainer::new(&options, &config, activations, optimizer, Box::new(Identity));
            let data = InMemory::new(images(8, config.image(), 1), None, None).unwrap();
            let mut batch = |step: u64| {
                let indices = vec![0, 3, 5, step as usize % 8];
                PrefetchedBatch { step, batch: data.batch(&indices).unwrap(), indices }
            };
            let mut network = network.fork(on.burn());
            Ok(work(&mut trainer, &mut network, &mut batch, on.burn()))
        })
        .unwrap()
}

#[test]
fn a_step_on_a_gpu_waits_for_nothing() {
    let Some(device) = wgpu_device("training without waits on wgpu") else { return };
    let config = tiny(8, 8, 3);
    let start = Network::Glow(glow(&config, 0.02));
    let realnvp_config = RealNvpConfig { levels: 1, ..tiny_realnvp(2, 2, 1) };
    let realnvp = Network::RealNvp(realnvp(&realnvp_config, 0.02));
    for (config, network, way) in [
        (ModelConfig::from(config.clone()), start.clone(), Activations::Stored),
        (config.clone().into(), start.clone(), Activations::Inputs),
        (config.into(), start, Activations::Constant),
        (realnvp_config.into(), realnvp, Activations::Constant),
    ] {
        on_queue(&device, &config, network, way, |trainer, network, batch, device| {
            for step in 0..25 {
                let before = reads();
                trainer.accumulate(network, batch(step), device).unwrap();
                trainer.update(Weights { network, average: &mut None }, 1e-3, step + 1, device).unwrap();
                assert_eq!(reads(), before, "step {step}");
                let found = trainer.outcomes(network, false, device).unwrap().found;
                let due = step % 10 == 9;
                assert_eq!((found.len(), reads() - before), if due { (10, 1) } else { (0, 0) });
            }
            let last = trainer.outcomes(network, true, device).unwrap().found;
            assert_eq!(last.iter().map(|found| found.step).collect::<Vec<_>>(), [21, 22, 23, 24, 25]);
        });
    }
}

/// The first actnorm of the second level.
fn actnorm_of(network: &mut Network) -> &mut ActNorm {
    let Network::Glow(glow) = network else { panic!("a Glow model") };
    &mut glow.levels[1].steps[0].mix.actnorm
}

#[test]
fn a_bad_step_on_a_gpu_changes_nothing_and_neither_do_those_after_it() {
    let Some(device) = wgpu_device("a bad step on wgpu") else { return };
    let config = tiny(8, 8, 3);
    let start = Network::Glow(glow(&config, 0.02));
    on_queue(&device, &config.into(), start, Activations::Stored, |trainer, network, batch, device| {
        let mut step = |trainer: &mut Trainer, network: &mut Network, step: u64, rate: f64| {
            trainer.accumulate(network, batch(step), device).unwrap();
            trainer.update(Weights { network, average: &mut None }, rate, step + 1, device).unwrap();
        };
        step(trainer, network, 0, 1e-3);
        // Weights that the next loss overflows with.
        scale_up(actnorm_of(network), 120.0);
        let bad: Vec<Vec<f64>> = named_parameters(network).into_iter().map(|p| values(p.values)).collect();
        step(trainer, network, 1, 1e-3);
        // Masked, although its own loss is finite.
        scale_up(actnorm_of(network), -120.0);
        step(trainer, network, 2, 1e-3);
        scale_up(actnorm_of(network), 120.0);

        let Outcomes { found, failed } = trainer.outcomes(network, true, device).unwrap();
        assert_eq!(found.iter().map(|found| found.step).collect::<Vec<_>>(), [1]);
        let (at, error) = failed.unwrap();
        assert!(
            matches!(&error, Error::NotFinite { what, step: 2, layer } if what == "the loss" && layer == "levels.1.steps.0"),
            "{error}"
        );
        assert_eq!(at, 2);
        let after: Vec<Vec<f64>> = named_parameters(network).into_iter().map(|p| values(p.values)).collect();
        assert_eq!(after, bad);
    });
}

#[test]
fn a_run_goes_on_on_another_device() {
    let Some(device) = wgpu_device("resuming on wgpu") else { return };
    let config = tiny(8, 8, 3);
    let folder = tempfile::tempdir().unwrap();
    let data = RunData::of(Arc::new(InMemory::new(images(64, config.image, 1), None, None).unwrap()));
    let options = |steps| TrainConfig {
        steps: Some(steps),
        batch_size: 8,
        init_images: 16,
        warmup: 5,
        ema: Some(0.9),
        checkpoint: Some(CheckpointConfig { folder: folder.path().into(), every: 10, keep: 9 }),
        ..TrainConfig::default()
    };
    let score = |model: &FlowModel| {
        let pixels = Pixels::Bytes(images(8, config.image, 2));
        model.bits_per_dim(&pixels, &Noise::uniform(3), &Call::default()).unwrap().iter().sum::<f64>() / 8.0
    };
    let train = |model: &FlowModel, steps, from| {
        model.train(data.clone(), options(steps), from, &Control::new(), &mut |_| {}).unwrap();
        score(model)
    };
    let start = FlowModel::create(config.clone(), &cpu()).unwrap();
    train(&start, 10, None);
    let (here, from) = FlowModel::resume(&folder.path().join("step-00000010"), &cpu()).unwrap();
    let truth = train(&here, 25, Some(from));
    for later in ["step-00000020", "step-00000025"] {
        std::fs::remove_dir_all(folder.path().join(later)).unwrap();
    }
    let (there, from) = FlowModel::resume(&folder.path().join("step-00000010"), &device).unwrap();
    let found = train(&there, 25, Some(from));
    assert!((found - truth).abs() < 1e-3 * truth, "{found} is not {truth}");
    // And back: what the GPU has written is a checkpoint like any other.
    let (back, _) = FlowModel::resume(folder.path(), &cpu()).unwrap();
    assert_eq!(back.step(), 25);
}

#[test]
fn a_model_saved_on_one_device_is_the_same_on_the_other() {
    let Some(device) = wgpu_device("models on wgpu") else { return };
    let config = GlowConfig { edge_bias: true, ..tiny(8, 8, 3) };
    let here = loaded(&config, &glow(&config, 0.02), &cpu());
    let folder = tempfile::tempdir().unwrap();
    let (path, back) = (folder.path().join("model"), folder.path().join("back"));
    here.save(&path).unwrap();
    let there = FlowModel::load(&path, &device).unwrap();
    there.save(&back).unwrap();
    assert!(std::fs::read(&path).unwrap() == std::fs::read(&back).unwrap(), "the file changes on its way");

    let data = Pixels::Bytes(images(5, config.image, 5));
    let (noise, call) = (Noise::uniform(3), Call::default());
    let log_prob = |model: &FlowModel| model.log_prob(&data, &noise, &call).unwrap();
    let (found, truth) = (log_prob(&there), log_prob(&here));
    assert!(relative_error(&found, &truth) < 1e-4, "{found:?} {truth:?}");
    let latents = |model: &FlowModel| {
        let latents = model.encode(&data, &noise, &call).unwrap();
        latents.data.into_iter().map(f64::from).collect::<Vec<f64>>()
    };
    assert!(relative_error(&latents(&there), &latents(&here)) < 1e-4);
}

#[test]
fn pixels_come_back_from_wgpu_and_samples_are_the_cpus() {
    let Some(device) = wgpu_device("decoding and sampling on wgpu") else { return };
    let config = GlowConfig { depth: 4, ..tiny(8, 8, 3) };
    let glow = glow(&config, 0.02);
    let (here, there) = (loaded(&config, &glow, &cpu()), loaded(&config, &glow, &device));
    let data = images(6, config.image, 5);
    let (pixels, call) = (Pixels::Bytes(data.clone()), Call { batch_size: Some(4), ..Call::default() });
    let latents = there.encode(&pixels, &Noise::midpoint(), &call).unwrap();
    assert_eq!(there.decode(&latents, &call).unwrap(), data);
    assert_eq!(here.decode(&latents, &call).unwrap(), data, "latents of one device, decoded on the other");
    let verification = there.verify(&pixels, &call).unwrap();
    assert_eq!(verification.pixel_mismatches, 0);
    assert!(verification.max_error < 1e-4, "{verification:?}");

    let sample = |model: &FlowModel| model.sample(5, 0.7, 3, &call).unwrap();
    // A value near the edge of a bin may fall on its other side.
    let (found, truth) = (sample(&there), sample(&here));
    let furthest = found.data.iter().zip(&truth.data).map(|(f, t)| f.abs_diff(*t)).max().unwrap();
    assert!(furthest <= 1, "a pixel of a sample is {furthest} off");
    assert_eq!(there.sample(3, 0.7, 3, &call).unwrap(), found.slice(0..3));
}

#[test]
fn the_self_check_of_hardware_gpus_passes_on_wgpu() {
    let Some(device) = wgpu_device("self-check on wgpu") else { return };
    glowflow::models::self_check::check(&tiny_realnvp(4, 4, 1).into(), 5, &device).unwrap();
    glowflow::models::self_check::check(&tiny(8, 8, 3).into(), 5, &device).unwrap();
}
