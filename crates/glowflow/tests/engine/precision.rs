//! Nets in fewer bits: what they are good for, and what is refused.

use std::sync::Arc;

use glowflow::data::InMemory;
use glowflow::train::Activations;
use glowflow::{
    Call, Control, Device, Error, FlowModel, GlowConfig, ModelConfig, Noise, Pixels, Precision, RunData, TrainConfig,
    TrainEvent,
};

use crate::common::{cpu, images, tiny, tiny_realnvp};

/// What the processor has beside f32; what it lacks is named.
fn others() -> Vec<Precision> {
    let has = cpu().info().precisions.clone();
    let (here, lacking): (Vec<_>, Vec<_>) = Precision::ALL.into_iter().skip(1).partition(|one| has.contains(one));
    lacking.iter().for_each(|precision| println!("skipped: this processor lacks {precision}"));
    here
}

fn call(precision: Precision) -> Call {
    Call { precision, ..Call::default() }
}

/// A model whose nets do something.
fn learned() -> FlowModel {
    trained(Precision::F32, Activations::Stored, 120).1
}

/// What the losses and the weights of a run in a precision come to, and how far rebuilt activations were off.
fn trained(precision: Precision, activations: Activations, steps: u64) -> (Vec<f64>, FlowModel, f32) {
    let config = GlowConfig { depth: 4, hidden: 32, ..tiny(16, 16, 3) };
    let model = FlowModel::create(config.clone(), &cpu()).unwrap();
    let data = RunData::of(Arc::new(InMemory::new(images(256, config.image, 6), None, None).unwrap()));
    let options = TrainConfig {
        steps: Some(steps),
        batch_size: 16,
        warmup: 10,
        precision,
        activations: Some(activations),
        ..TrainConfig::default()
    };
    let (mut losses, mut drift) = (Vec::new(), 0.0f32);
    let mut watch = |event| {
        if let TrainEvent::StepEnd(step) = event {
            losses.push(step.loss);
            drift = drift.max(step.rebuild_error.unwrap_or(0.0));
        }
    };
    model.train(data, options, None, &Control::new(), &mut watch).unwrap();
    (losses, model, drift)
}

#[test]
fn bf16x3_gives_every_pixel_back() {
    let model = learned();
    let pixels = Pixels::Bytes(images(100, model.config().image(), 9));
    for precision in others() {
        let [exact, found] = [Precision::F32, precision].map(|one| model.verify(&pixels, &call(one)).unwrap());
        println!("{precision}: largest error {:e}, in f32 {:e}", found.max_error, exact.max_error);
        assert_eq!(exact.pixel_mismatches, 0);
        if precision == Precision::Bf16x3 {
            assert_eq!(found.pixel_mismatches, 0);
            assert!(found.max_error < 1e-4, "{}", found.max_error);
        }
    }
}

#[test]
fn precisions_differ_by_their_bits_and_no_more() {
    let model = learned();
    let pixels = Pixels::Bytes(images(50, model.config().image(), 9));
    let bits = |precision| model.bits_per_dim(&pixels, &Noise::uniform(1), &call(precision)).unwrap();
    let exact = bits(Precision::F32);
    for precision in others() {
        let bound = if precision == Precision::Bf16 { 0.01 } else { 1e-4 };
        let errors: Vec<f64> = bits(precision).iter().zip(&exact).map(|(a, b)| a - b).collect();
        let mean = errors.iter().sum::<f64>() / errors.len() as f64;
        assert!(mean.abs() < bound, "{precision}: {mean} bits/dim");
        assert!(errors.iter().any(|&error| error != 0.0), "{precision} is not f32");
    }
}

#[test]
fn equal_training_gives_equal_losses() {
    let last = |losses: &[f64]| losses[losses.len() - 20..].iter().sum::<f64>() / 20.0;
    let (exact, model, _) = trained(Precision::F32, Activations::Stored, 120);
    assert!(last(&exact) < exact[0] - 0.3, "it learns: {} from {}", last(&exact), exact[0]);
    let weights = |model: &FlowModel| {
        let pixels = Pixels::Bytes(images(2, model.config().image(), 9));
        model.encode(&pixels, &Noise::midpoint(), &Call::default()).unwrap().data
    };
    for precision in others() {
        let (losses, other, _) = trained(precision, Activations::Stored, 120);
        assert!((last(&losses) - last(&exact)).abs() < 0.01, "{precision}: {} and {}", last(&losses), last(&exact));
        assert_ne!(weights(&other), weights(&model), "{precision} is not f32");
    }
}

#[test]
fn activations_are_rebuilt_only_where_they_do_not_drift() {
    let (_, _, exact) = trained(Precision::F32, Activations::Constant, 101);
    for precision in others() {
        if precision == Precision::Bf16 {
            let options = TrainConfig { precision, activations: Some(Activations::Constant), ..TrainConfig::default() };
            let error = options.validate().unwrap_err();
            assert!(error.to_string().contains("activations") && error.to_string().contains("drifts"), "{error}");
            continue;
        }
        let (_, _, drift) = trained(precision, Activations::Constant, 101);
        println!("{precision}: rebuilt activations are off by {drift:e}, in f32 by {exact:e}");
        assert!(drift > exact && drift < 1e-5, "{drift}");
    }
}

#[test]
fn a_run_goes_on_in_its_precision() {
    let image = tiny(8, 8, 3).image;
    let data = || RunData::of(Arc::new(InMemory::new(images(64, image, 6), None, None).unwrap()));
    for precision in others() {
        let folder = tempfile::tempdir().unwrap();
        let options = |steps, folder: Option<&std::path::Path>| TrainConfig {
            steps: Some(steps),
            batch_size: 16,
            precision,
            folder: folder.map(Into::into),
            ..TrainConfig::default()
        };
        let run = |steps, folder| {
            let model = FlowModel::create(tiny(8, 8, 3), &cpu()).unwrap();
            model.train(data(), options(steps, folder), None, &Control::new(), &mut |_| {}).unwrap();
            model
        };
        let whole = run(8, None);
        run(4, Some(folder.path()));
        let (model, checkpoint) = FlowModel::resume(folder.path(), &cpu()).unwrap();
        let config = TrainConfig { steps: Some(8), ..checkpoint.state.train.clone() };
        assert_eq!(config.precision, precision);
        model.train(data(), config, Some(checkpoint), &Control::new(), &mut |_| {}).unwrap();
        let pixels = Pixels::Bytes(images(2, image, 9));
        let latents = |model: &FlowModel| model.encode(&pixels, &Noise::midpoint(), &Call::default()).unwrap().data;
        assert!(latents(&model).iter().map(|v| v.to_bits()).eq(latents(&whole).iter().map(|v| v.to_bits())));
    }
}

#[test]
fn what_cannot_be_had_is_refused_and_never_replaced() {
    let refused = |outcome: Result<(), Error>| {
        let error = outcome.unwrap_err();
        assert_eq!(error.code(), "ERR_GLOW_PRECISION_UNSUPPORTED");
        assert_eq!(error.details()["precisions"], serde_json::json!(["f32"]));
        assert!(error.to_string().contains("f32") && error.to_string().contains("bf16"), "{error}");
    };
    let realnvp = FlowModel::create(ModelConfig::from(tiny_realnvp(8, 8, 3)), &cpu()).unwrap();
    let pixels = Pixels::Bytes(images(2, realnvp.config().image(), 9));
    let bf16 = call(Precision::Bf16);
    refused(realnvp.encode(&pixels, &Noise::midpoint(), &bf16).map(|_| ()));
    refused(realnvp.log_prob(&pixels, &Noise::midpoint(), &bf16).map(|_| ()));
    refused(realnvp.sample(1, 0.7, 1, &bf16).map(|_| ()));
    let data = RunData::of(Arc::new(InMemory::new(images(8, realnvp.config().image(), 6), None, None).unwrap()));
    let options = TrainConfig { steps: Some(1), precision: Precision::Bf16, ..TrainConfig::default() };
    refused(realnvp.train(data, options, None, &Control::new(), &mut |_| {}).map(|_| ()));
    match Device::list().into_iter().find(|info| info.name.starts_with("gpu")) {
        None => println!("skipped: this machine has no GPU, not even one in software"),
        Some(gpu) => refused(ModelConfig::from(tiny(8, 8, 3)).check_precision(Precision::Bf16, &gpu)),
    }
}
