//! The same model on wgpu as on the CPU: training, encoding, decoding and sampling run whole there.

use std::sync::Arc;

use glowflow::data::InMemory;
use glowflow::train::Activations;
use glowflow::{Call, Control, Device, FlowModel, GlowConfig, Noise, Pixels, RunData, TrainConfig, TrainEvent};

use crate::common::{cpu, glow, images, loaded, relative_error, tiny, wgpu_device};

fn losses(config: &GlowConfig, activations: Activations, device: &Device) -> Vec<f64> {
    let model = FlowModel::create(config.clone(), device).unwrap();
    let data = Arc::new(InMemory::new(images(64, config.image, 1), None, None).unwrap());
    let options = TrainConfig {
        steps: Some(20),
        batch_size: 8,
        init_images: 16,
        warmup: 5,
        activations: Some(activations),
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
    for activations in [Activations::Stored, Activations::Constant] {
        let (found, truth) = (losses(&config, activations, &device), losses(&config, activations, &cpu()));
        assert_eq!((found.len(), truth.len()), (20, 20));
        assert!(truth[19] < truth[0] - 0.1, "it learns: {truth:?}");
        for (step, (found, truth)) in found.iter().zip(&truth).enumerate() {
            assert!((found - truth).abs() < 1e-3 * truth.abs(), "{activations:?}, step {step}: {found} is not {truth}");
        }
    }
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
    glowflow::models::self_check::check(&tiny(8, 8, 3), 5, &device).unwrap();
}
