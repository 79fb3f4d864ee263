//! Runs: what they do to the weights, what they tell, how they end.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use glowflow::data::{Continuous, Dataset, InMemory};
use glowflow::models::glow::Glow;
use glowflow::store::safetensors::{Dtype, SafeFile};
use glowflow::train::{
    Activations, CheckpointConfig, EvaluateConfig, OnNotFinite, OptimizerKind, RunState, SampleConfig, ScheduleKind,
};
use glowflow::{
    Call, Control, Error, FloatImages, FlowModel, GlowConfig, ImageShape, Images, ModelConfig, Noise, Pixels, RunData,
    StepEnd, TrainConfig, TrainEvent, TrainSummary,
};

use crate::common::{cpu, glow, images, loaded, perturbed, scale_up, tiny};

fn data(image: ImageShape, count: usize, seed: u64) -> Arc<dyn Dataset> {
    Arc::new(InMemory::new(images(count, image, seed), None, None).unwrap())
}

fn options(steps: u64) -> TrainConfig {
    TrainConfig { steps: Some(steps), batch_size: 8, init_images: 16, warmup: 0, ..TrainConfig::default() }
}

/// A run's events and what it returned.
struct Run {
    events: Vec<TrainEvent>,
    outcome: Result<TrainSummary, Error>,
}

impl Run {
    fn of(model: &FlowModel, config: TrainConfig) -> Self {
        Self::watched(model, config, &Control::new(), |_| {})
    }

    fn watched(model: &FlowModel, config: TrainConfig, control: &Control, mut watch: impl FnMut(&TrainEvent)) -> Self {
        let mut events = Vec::new();
        let (train, held_out) = (data(model.config().image(), 40, 1), data(model.config().image(), 20, 2));
        let outcome =
            model.train(RunData { training: train, held_out: Some(held_out) }, config, None, control, &mut |event| {
                watch(&event);
                events.push(event);
            });
        Self { events, outcome }
    }

    fn steps(&self) -> Vec<&StepEnd> {
        self.events
            .iter()
            .filter_map(|event| if let TrainEvent::StepEnd(step) = event { Some(step) } else { None })
            .collect()
    }

    fn losses(&self) -> Vec<f64> {
        self.steps().iter().map(|step| step.loss).collect()
    }

    fn summary(&self) -> &TrainSummary {
        self.outcome.as_ref().unwrap()
    }
}

fn new_model(config: &(impl Into<ModelConfig> + Clone)) -> FlowModel {
    FlowModel::create(config.clone(), &cpu()).unwrap()
}

fn log_probs(model: &FlowModel) -> Vec<f64> {
    let test = Pixels::Bytes(images(4, model.config().image(), 9));
    model.log_prob(&test, &Noise::midpoint(), &Call::default()).unwrap()
}

#[test]
fn every_way_to_hold_activations_gives_the_same_loss_curve() {
    let config = GlowConfig { depth: 4, ..tiny(8, 8, 3) };
    let curves = [Activations::Stored, Activations::Inputs, Activations::Constant].map(|way| {
        let run = Run::of(&new_model(&config), TrainConfig { activations: Some(way), ..options(20) });
        assert_eq!(run.losses().len(), 20);
        run.losses()
    });
    assert!(curves[0][19] < curves[0][0] - 0.1, "it learns: {:?}", curves[0]);
    assert_eq!(curves[0], curves[1], "kept inputs give the bits of stored activations");
    for (step, (stored, constant)) in curves[0].iter().zip(&curves[2]).enumerate() {
        assert!((stored - constant).abs() < 1e-3 * stored.abs(), "step {step}: {stored} {constant}");
    }
}

#[test]
fn a_seed_gives_the_same_bits_again_and_another_seed_others() {
    let config = tiny(8, 8, 3);
    let train = |seed| {
        let model = new_model(&config);
        let run = Run::of(&model, TrainConfig { seed, ..options(12) });
        (run.losses(), log_probs(&model))
    };
    let first = train(1);
    assert_eq!(train(1), first);
    assert_ne!(train(2), first);
}

#[test]
fn events_come_in_order_and_say_what_happened() {
    let folder = tempfile::tempdir().unwrap();
    let config = tiny(8, 8, 3);
    let model = new_model(&config);
    let run = Run::of(
        &model,
        TrainConfig {
            evaluate: Some(EvaluateConfig { every: 2, limit: Some(5) }),
            checkpoint: Some(CheckpointConfig { folder: folder.path().join("checkpoints"), every: 2, keep: 9 }),
            sample: Some(SampleConfig { folder: folder.path().join("samples"), every: 2, count: 3, temperature: 0.7 }),
            ..options(5)
        },
    );
    let mut told: Vec<String> = Vec::new();
    for event in &run.events {
        let json = serde_json::to_value(event).unwrap();
        match event {
            TrainEvent::RunStart { step, batches_per_epoch, seconds } => {
                assert_eq!((*step, *batches_per_epoch, *seconds), (0, 5.0, 0.0));
            }
            TrainEvent::StepEnd(step) => {
                assert_eq!((step.merged, step.epoch), (1, step.step / 5));
                assert!(step.loss.is_finite() && step.gradient_norm > 0.0 && step.images_per_second > 0.0);
                assert_eq!(step.learning_rate, 1e-3);
            }
            TrainEvent::EvaluationEnd { evaluation, .. } => {
                assert_eq!(evaluation.images, 5);
                assert!(evaluation.bits_per_dim.is_finite() && evaluation.standard_error > 0.0);
            }
            TrainEvent::SampleEnd { path, .. } => {
                assert_eq!(&std::fs::read(path).unwrap()[1..4], b"PNG");
            }
            TrainEvent::CheckpointEnd { step, path } => {
                assert_eq!(FlowModel::load(path, &cpu()).unwrap().step(), *step);
            }
            TrainEvent::RunEnd { summary } => assert_eq!(summary, run.summary()),
            TrainEvent::Warning { .. } => panic!("{event:?}"),
        }
        let step = json.get("step").or_else(|| json["summary"].get("step")).unwrap();
        told.push(format!("{} {step}", json["type"].as_str().unwrap()));
    }
    assert_eq!(
        told,
        [
            "run-start 0",
            "sample-end 0",
            "step-end 1",
            "step-end 2",
            "evaluation-end 2",
            "sample-end 2",
            "checkpoint-end 2",
            "step-end 3",
            "step-end 4",
            "evaluation-end 4",
            "sample-end 4",
            "checkpoint-end 4",
            "step-end 5",
            "evaluation-end 5",
            "sample-end 5",
            "checkpoint-end 5",
            "run-end 5",
        ]
    );
    let summary = run.summary();
    assert_eq!((summary.step, summary.reason, summary.loss), (5, "finished", *run.losses().last().unwrap()));
    assert_eq!(summary.checkpoint.as_deref(), Some(folder.path().join("checkpoints/step-00000005").as_path()));
}

#[test]
fn what_is_due_with_the_last_step_happens_once() {
    let folder = tempfile::tempdir().unwrap();
    let run = Run::of(
        &new_model(&tiny(4, 4, 1)),
        TrainConfig {
            evaluate: Some(EvaluateConfig { every: 2, limit: Some(5) }),
            checkpoint: Some(CheckpointConfig { folder: folder.path().join("checkpoints"), every: 2, keep: 9 }),
            sample: Some(SampleConfig { folder: folder.path().join("samples"), every: 2, count: 3, temperature: 0.7 }),
            ..options(4)
        },
    );
    let at_the_end =
        |wanted: fn(&TrainEvent) -> Option<u64>| run.events.iter().filter_map(wanted).filter(|&step| step == 4).count();
    assert_eq!(at_the_end(|e| if let TrainEvent::EvaluationEnd { step, .. } = e { Some(*step) } else { None }), 1);
    assert_eq!(at_the_end(|e| if let TrainEvent::CheckpointEnd { step, .. } = e { Some(*step) } else { None }), 1);
    assert_eq!(at_the_end(|e| if let TrainEvent::SampleEnd { step, .. } = e { Some(*step) } else { None }), 1);
}

#[test]
fn the_first_limit_ends_the_run() {
    let config = tiny(4, 4, 1);
    // 40 images in batches of 8: five steps an epoch.
    let epochs = Run::of(&new_model(&config), TrainConfig { steps: None, epochs: Some(1.5), ..options(0) });
    assert_eq!((epochs.summary().step, epochs.summary().reason), (8, "finished"));
    let steps = Run::of(&new_model(&config), TrainConfig { epochs: Some(1.5), ..options(3) });
    assert_eq!(steps.summary().step, 3);
    let seconds = Run::of(&new_model(&config), TrainConfig { steps: None, seconds: Some(0.2), ..options(0) });
    assert!(seconds.summary().step > 0 && seconds.summary().seconds >= 0.2, "{:?}", seconds.outcome);
}

#[test]
fn a_later_run_goes_on_where_the_first_one_ended() {
    let model = new_model(&tiny(4, 4, 1));
    Run::of(&model, options(3));
    let second = Run::of(&model, options(5));
    assert_eq!(second.steps().iter().map(|step| step.step).collect::<Vec<_>>(), [4, 5]);
    assert!(matches!(second.events[0], TrainEvent::RunStart { step: 3, .. }));
    assert_eq!(Run::of(&model, options(5)).steps().len(), 0);
}

#[test]
fn a_run_that_is_stopped_ends_after_its_step() {
    let folder = tempfile::tempdir().unwrap();
    let model = new_model(&tiny(4, 4, 1));
    let control = Control::new();
    let endless = TrainConfig {
        steps: None,
        checkpoint: Some(CheckpointConfig { folder: folder.path().into(), every: 1000, keep: 1 }),
        ..options(0)
    };
    let run = Run::watched(&model, endless, &control, |event| {
        if matches!(event, TrainEvent::StepEnd(step) if step.step == 3) {
            control.stop();
        }
    });
    assert_eq!((run.summary().step, run.summary().reason), (3, "stopped"));
    let saved = FlowModel::load(run.summary().checkpoint.as_ref().unwrap(), &cpu()).unwrap();
    assert_eq!(log_probs(&saved), log_probs(&model));
}

#[test]
fn batch_size_1_trains() {
    let model = new_model(&tiny(8, 8, 3));
    let held_out = data(model.config().image(), 20, 2);
    let options = TrainConfig { batch_size: 1, warmup: 20, ..options(100) };
    model.initialize(&*data(model.config().image(), 40, 1), 16).unwrap();
    let before = model.evaluate(&*held_out, None, 1, &Call::default()).unwrap().bits_per_dim;
    let run = Run::of(&model, options);
    assert!(run.losses().iter().all(|loss| loss.is_finite()));
    let after = model.evaluate(&*held_out, None, 1, &Call::default()).unwrap().bits_per_dim;
    assert!(after < before - 0.1, "{before} {after}");
}

#[test]
fn learning_rates_rise_and_then_follow_the_schedule() {
    let of = |schedule| {
        let run = Run::of(&new_model(&tiny(4, 4, 1)), TrainConfig { warmup: 4, schedule, ..options(8) });
        run.steps().iter().map(|step| step.learning_rate / 1e-3).collect::<Vec<f64>>()
    };
    assert_eq!(of(ScheduleKind::Constant), [0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0]);
    let cosine = of(ScheduleKind::Cosine);
    assert!((cosine[4] - 0.5).abs() < 1e-12 && cosine[7] > 0.0 && cosine[7] < 0.05, "{cosine:?}");
}

#[test]
fn clipping_bounds_the_gradient_that_adam_sees_and_not_the_one_reported() {
    let config = tiny(8, 8, 3);
    // Adam divides the size of all gradients away, unless its epsilon is larger than they are.
    let run = |clip_norm| {
        let model = new_model(&config);
        let mut options = TrainConfig { clip_norm, ..options(1) };
        options.optimizer.epsilon = 1e3;
        options.optimizer.learning_rate = 1e3;
        model.initialize(&*data(config.image, 40, 1), 16).unwrap();
        let before = weights(&model);
        let run = Run::of(&model, options);
        let moved = before.iter().zip(weights(&model)).map(|(b, a)| f64::from(a - b).powi(2)).sum::<f64>().sqrt();
        (run.steps()[0].gradient_norm, moved)
    };
    let (free, moved) = run(1e9);
    let (clipped, moved_less) = run(free / 4.0);
    assert_eq!(clipped, free, "the norm before clipping");
    // The first step is the gradient over (itself + epsilon).
    assert!((moved / free - 1.0).abs() < 0.01, "{moved} along a gradient of {free}");
    assert!((moved_less / moved - 0.25).abs() < 0.01, "{moved_less} is not a quarter of {moved}");
}

/// Every trained number of a model.
fn weights(model: &FlowModel) -> Vec<f32> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model");
    model.save(&path).unwrap();
    let file = SafeFile::open(&path).unwrap();
    let names = file.names();
    let tensors = names.iter().map(|name| file.tensor(name).unwrap()).filter(|tensor| tensor.dtype == Dtype::F32);
    let word = |word: &[u8]| f32::from_le_bytes(word.try_into().unwrap());
    tensors.flat_map(|tensor| tensor.data.chunks(4).map(word)).collect()
}

/// A model whose loss overflows in one layer, of weights that are finite themselves.
fn overflowing(config: &GlowConfig, change: impl Fn(&mut Glow)) -> FlowModel {
    let mut glow = glow(config, 0.02);
    change(&mut glow);
    loaded(config, &glow, &cpu())
}

fn overflow_a_scale(glow: &mut Glow) {
    // Finite itself, but not its exponential.
    scale_up(&mut glow.levels[1].steps[0].mix.actnorm, 120.0);
}

#[test]
fn a_loss_that_is_not_finite_ends_the_run_and_leaves_the_weights() {
    for activations in [Activations::Stored, Activations::Inputs, Activations::Constant] {
        let folder = tempfile::tempdir().unwrap();
        let config = tiny(8, 8, 3);
        let model = overflowing(&config, overflow_a_scale);
        let before = weights(&model);
        let checkpoint = CheckpointConfig { folder: folder.path().into(), every: 1, keep: 2 };
        let run =
            Run::of(&model, TrainConfig { activations: Some(activations), checkpoint: Some(checkpoint), ..options(3) });
        let error = run.outcome.as_ref().unwrap_err();
        assert!(
            matches!(error, Error::NotFinite { what, step: 1, layer } if what == "the loss" && layer == "levels.1.steps.0"),
            "{error}"
        );
        assert!(run.steps().is_empty() && !run.events.iter().any(|event| matches!(event, TrainEvent::RunEnd { .. })));
        assert_eq!((weights(&model), model.step()), (before.clone(), 0));
        // The last good state, on disk.
        let saved = FlowModel::load(&folder.path().join("step-00000000"), &cpu()).unwrap();
        assert_eq!(weights(&saved), before);
        // The model is not left in training.
        model.initialize(&*data(config.image, 40, 1), 16).unwrap();
    }
}

#[test]
fn a_gradient_that_is_not_finite_ends_the_run_and_leaves_the_weights() {
    let config = tiny(8, 8, 3);
    let model = overflowing(&config, |glow| {
        // Mean and log-deviation of -5 by a factor near the largest number: the loss is finite, its gradient by what
        // is multiplied by the factor is not.
        let prior = glow.levels[0].split.as_mut().unwrap().prior.as_mut().unwrap();
        prior.log_scale =
            prior.log_scale.take().map(|scale| scale.map(|values| values.mul_scalar(0.0).add_scalar(29.5)));
        prior.weight = prior.weight.clone().map(|values| values.mul_scalar(0.0));
        prior.bias = prior.bias.clone().map(|values| values.mul_scalar(0.0).add_scalar(-5.0 * (-88.5f32).exp()));
    });
    let before = weights(&model);
    let run = Run::of(&model, options(3));
    let error = run.outcome.as_ref().unwrap_err();
    assert!(
        matches!(error, Error::NotFinite { what, step: 1, layer } if what == "the gradient" && layer.starts_with("levels.0.split.prior")),
        "{error}"
    );
    assert_eq!((weights(&model), model.step()), (before, 0));
}

#[test]
fn a_run_that_fails_later_keeps_the_last_good_weights() {
    let config = tiny(8, 8, 3);
    let folder = tempfile::tempdir().unwrap();
    let model = loaded(&config, &perturbed(glow(&config, 0.02), 0.02, 6), &cpu());
    // A learning rate that throws the weights far out of everything.
    let mut options = options(50);
    options.optimizer.learning_rate = 1e4;
    options.checkpoint = Some(CheckpointConfig { folder: folder.path().into(), every: 1000, keep: 1 });
    let run = Run::of(&model, options);
    let Err(Error::NotFinite { step, .. }) = run.outcome else { panic!("{:?}", run.outcome) };
    assert_eq!(step, model.step() + 1);
    assert!(step > 1, "the first step's weights are good");
    assert!(weights(&model).iter().all(|weight| weight.is_finite()));
    let saved = FlowModel::load(&folder.path().join(format!("step-{:08}", model.step())), &cpu()).unwrap();
    assert_eq!(weights(&saved), weights(&model));
}

/// Names in a folder, sorted.
fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name != ".lock");
    names.sort();
    names
}

#[test]
fn the_newest_checkpoints_stay_and_load_as_folders() {
    let folder = tempfile::tempdir().unwrap();
    // What a run that was killed has left.
    std::fs::create_dir(folder.path().join(".step-00000004.unfinished")).unwrap();
    std::fs::write(folder.path().join(".step-00000004.unfinished/model.safetensors"), b"half").unwrap();
    // Not ours: it stays.
    std::fs::create_dir(folder.path().join("step-notes")).unwrap();
    let model = new_model(&tiny(4, 4, 1));
    let checkpoint = CheckpointConfig { folder: folder.path().into(), every: 2, keep: 2 };
    let run = Run::of(&model, TrainConfig { checkpoint: Some(checkpoint), ..options(7) });
    assert_eq!(names(folder.path()), ["latest", "step-00000006", "step-00000007", "step-notes"]);
    assert_eq!(run.summary().checkpoint.as_deref(), Some(folder.path().join("step-00000007").as_path()));
    let last = FlowModel::load(&folder.path().join("step-00000007"), &cpu()).unwrap();
    assert_eq!((last.step(), log_probs(&last)), (7, log_probs(&model)));
    let other = FlowModel::load(&folder.path().join("step-00000006"), &cpu()).unwrap();
    assert_eq!(other.step(), 6);
    assert_ne!(log_probs(&other), log_probs(&model));
}

#[test]
fn a_checkpoint_keeps_the_run_s_options_with_the_activations_that_were_chosen() {
    for (asked, kept) in [(None, "stored"), (Some(Activations::Constant), "constant")] {
        let folder = tempfile::tempdir().unwrap();
        let checkpoint = CheckpointConfig { folder: folder.path().into(), every: 2, keep: 2 };
        let model = new_model(&tiny(4, 4, 1));
        Run::of(&model, TrainConfig { activations: asked, checkpoint: Some(checkpoint), seed: 77, ..options(2) });
        let file = SafeFile::open(&folder.path().join("step-00000002/training.safetensors")).unwrap();
        let state: serde_json::Value = serde_json::from_str(file.metadata("state").unwrap()).unwrap();
        let train = &state["train"];
        assert_eq!((train["activations"].as_str(), train["seed"].as_u64()), (Some(kept), Some(77)));
        assert_eq!((state["step"].as_u64(), state["images"].as_u64()), (Some(2), Some(16)));
        serde_json::from_value::<RunState>(state).unwrap();
    }
}

#[test]
fn other_calls_come_between_steps_and_those_that_change_weights_are_refused() {
    let model = new_model(&tiny(8, 8, 3));
    let control = Control::new();
    let (called, ended) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let mut other = None;
        let endless = TrainConfig { steps: None, seconds: Some(60.0), ..options(0) };
        let run = Run::watched(&model, endless, &control, |event| {
            if matches!(event, TrainEvent::StepEnd(step) if step.step == 2) {
                other = Some(scope.spawn(|| {
                    let images = images(3, model.config().image(), 4);
                    for _ in 0..3 {
                        model.encode(&Pixels::Bytes(images.clone()), &Noise::midpoint(), &Call::default()).unwrap();
                        model.sample(2, 0.7, 1, &Call::default()).unwrap();
                    }
                    let data = data(model.config().image(), 40, 1);
                    assert!(matches!(model.initialize(&*data, 16), Err(Error::Busy)));
                    let again = model.train(RunData::of(data), options(1), None, &Control::new(), &mut |_| {});
                    assert!(matches!(again, Err(Error::Busy)), "{again:?}");
                    assert!(!ended.load(Ordering::Acquire), "the run has gone on meanwhile");
                    called.store(true, Ordering::Release);
                    control.stop();
                }));
            }
        });
        ended.store(true, Ordering::Release);
        other.unwrap().join().unwrap();
        assert_eq!(run.summary().reason, "stopped");
    });
    assert!(called.into_inner());
    // Calls have changed nothing: the same steps alone give the same weights.
    let alone = new_model(model.config());
    Run::of(&alone, options(model.step()));
    assert_eq!(weights(&alone), weights(&model));
}

#[test]
fn a_model_disposed_of_in_training_ends_the_run() {
    let model = new_model(&tiny(4, 4, 1));
    let endless = TrainConfig { steps: None, seconds: Some(60.0), ..options(0) };
    let run = Run::watched(&model, endless, &Control::new(), |event| {
        if matches!(event, TrainEvent::StepEnd(step) if step.step == 2) {
            model.dispose();
        }
    });
    assert!(matches!(run.outcome, Err(Error::Disposed)), "{:?}", run.outcome);
}

#[test]
fn the_rebuild_error_is_measured_every_hundredth_step_where_activations_are_rebuilt() {
    let measured = |activations| {
        let run = Run::of(&new_model(&tiny(4, 4, 1)), TrainConfig { activations: Some(activations), ..options(102) });
        run.steps().iter().filter_map(|step| step.rebuild_error.map(|error| (step.step, error))).collect::<Vec<_>>()
    };
    let found = measured(Activations::Constant);
    assert_eq!(found.iter().map(|(step, _)| *step).collect::<Vec<_>>(), [1, 101]);
    assert!(found.iter().all(|(_, error)| (0.0..1e-4).contains(error)), "{found:?}");
    assert_eq!(measured(Activations::Stored), []);
}

#[test]
fn a_run_that_cannot_be_is_refused_before_it_starts() {
    let model = new_model(&tiny(8, 8, 3));
    let refused = |config: TrainConfig, code: &str, words: &str| {
        let run = Run::of(&model, config);
        let error = run.outcome.unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        assert!(error.to_string().contains(words), "{error}");
        assert!(run.events.is_empty());
    };
    let option = "ERR_GLOW_OPTION";
    refused(TrainConfig { batch_size: 0, ..options(1) }, option, "batchSize");
    refused(options(0), option, "steps");
    refused(TrainConfig { epochs: Some(f64::NAN), ..options(1) }, option, "epochs");
    refused(TrainConfig { clip_norm: 0.0, ..options(1) }, option, "clipNorm");
    let huge = TrainConfig { batch_size: 1 << 40, ..options(1) };
    let error = Run::of(&model, huge).outcome.unwrap_err();
    assert!(["ERR_GLOW_OUT_OF_MEMORY", option].contains(&error.code()), "{error}");
    let wide = data(tiny(8, 16, 3).image, 40, 1);
    let error = model.train(RunData::of(wide), options(1), None, &Control::new(), &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("training images of 8x8x3 but received 8x16x3"), "{error}");
}

/// Trained numbers after a run on the first 40 images.
fn trained(config: TrainConfig) -> Vec<f32> {
    let model = new_model(&tiny(8, 8, 3));
    let run = Run::of(&model, config);
    run.outcome.unwrap();
    weights(&model)
}

#[test]
fn accumulated_batches_step_like_one_of_all_their_images() {
    let of = |batch_size, accumulate| TrainConfig { batch_size, accumulate, ..options(5) };
    let (whole, parts) = (trained(of(12, 1)), trained(of(4, 3)));
    let furthest = whole.iter().zip(&parts).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(furthest < 1e-4, "{furthest}");
    let single = trained(of(4, 1));
    assert!(single.iter().zip(&whole).any(|(a, b)| (a - b).abs() > 1e-3), "other images make other steps");
}

#[test]
fn the_average_is_that_of_the_weights_after_each_step() {
    // The weights after each step of the same run, from runs that end there.
    let decay = 0.8_f64;
    let steps: Vec<Vec<f32>> = (1..=6).map(|steps| trained(options(steps))).collect();
    let found = trained(TrainConfig { ema: Some(decay), ..options(6) });
    let total: f64 = (0..6).map(|ago| decay.powi(ago)).sum();
    for (i, found) in found.iter().enumerate() {
        let sum: f64 = steps.iter().rev().zip(0..).map(|(w, ago)| decay.powi(ago) * f64::from(w[i])).sum();
        assert!((f64::from(*found) - sum / total).abs() < 1e-5, "{found} {}", sum / total);
    }
}

#[test]
fn every_option_of_the_optimizer_reaches_the_weights() {
    let plain = options(3);
    let with = |change: &dyn Fn(&mut TrainConfig)| {
        let mut config = plain.clone();
        change(&mut config);
        trained(config)
    };
    let adam = trained(plain.clone());
    let adamax = with(&|config| config.optimizer.name = OptimizerKind::Adamax);
    let decayed = with(&|config| config.optimizer.weight_decay = 0.1);
    let flipped = with(&|config| config.augment.flip = true);
    let shifted = with(&|config| config.augment.shift = 0.2);
    let all = [adam, adamax, decayed, flipped, shifted];
    for (i, one) in all.iter().enumerate() {
        assert!(all[i + 1..].iter().all(|other| other != one), "{i}");
    }
}

/// Images of which one cannot be read.
struct Broken(InMemory);

impl Dataset for Broken {
    fn len(&self) -> usize {
        self.0.len()
    }
    fn shape(&self) -> glowflow::ImageShape {
        self.0.shape()
    }
    fn classes(&self) -> Option<&[String]> {
        None
    }
    fn fingerprint(&self) -> String {
        "broken".into()
    }
    fn batch(&self, indices: &[usize]) -> Result<glowflow::data::LabelledImages, Error> {
        if indices.contains(&13) {
            let reason = "Expected a picture but found half of one".into();
            return Err(Error::Data { what: "a/13.png".into(), index: Some(13), reason });
        }
        self.0.batch(indices)
    }
}

#[test]
fn an_image_that_cannot_be_read_ends_the_run_with_a_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let config = tiny(8, 8, 3);
    let data = Arc::new(Broken(InMemory::new(images(40, config.image, 1), None, None).unwrap()));
    let model = new_model(&config);
    let checkpoint = CheckpointConfig { folder: folder.path().into(), every: 1000, keep: 2 };
    // The actnorms are set from few images, not from the broken one; the run comes to it in its first epoch.
    let train = TrainConfig { init_images: 2, batch_size: 2, checkpoint: Some(checkpoint), ..options(50) };
    let mut steps = 0;
    let error = model
        .train(RunData::of(data), train, None, &Control::new(), &mut |event| {
            steps += u64::from(matches!(event, TrainEvent::StepEnd(_)));
        })
        .unwrap_err();
    assert!(matches!(&error, Error::Data { what, index: Some(13), .. } if what == "a/13.png"), "{error}");
    assert!(steps > 0 && steps < 20);
    assert_eq!(FlowModel::load(folder.path(), &cpu()).unwrap().step(), steps, "nothing that was learnt is lost");
}

#[test]
fn a_run_that_rolls_back_goes_on_with_other_images_and_ends_where_it_cannot() {
    let folder = tempfile::tempdir().unwrap();
    let config = tiny(8, 8, 3);
    let model = overflowing(&config, overflow_a_scale);
    let before = weights(&model);
    let checkpoint = CheckpointConfig { folder: folder.path().into(), every: 1000, keep: 2 };
    let on_not_finite = OnNotFinite::Rollback;
    let run = Run::of(&model, TrainConfig { on_not_finite, checkpoint: Some(checkpoint), ..options(3) });
    assert!(matches!(run.outcome, Err(Error::NotFinite { step: 1, .. })), "{:?}", run.outcome);
    let warnings = run.events.iter().filter(|event| matches!(event, TrainEvent::Warning { code: "ROLLED_BACK", .. }));
    assert_eq!(warnings.count(), 3);
    assert_eq!(weights(&model), before);
    let (_, from) = FlowModel::resume(folder.path(), &cpu()).unwrap();
    assert_eq!((from.state.step, from.state.images), (0, 0), "the checkpoint that it went back to");

    let refused = TrainConfig { on_not_finite, ..options(3) }.validate().unwrap_err();
    assert!(refused.to_string().contains("'stop', as there are no checkpoints"), "{refused}");
}

/// The steps of the warnings of this code.
fn warned(run: &Run, expected: &str) -> Vec<u64> {
    let step = |event: &TrainEvent| match event {
        TrainEvent::Warning { step, code, .. } if *code == expected => Some(*step),
        _ => None,
    };
    run.events.iter().filter_map(step).collect()
}

#[test]
fn a_grid_that_cannot_be_written_is_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("samples");
    std::fs::write(&file, b"not a folder").unwrap();
    let sample = SampleConfig { folder: file, every: 2, count: 1, temperature: 0.7 };
    let run = Run::of(&new_model(&tiny(4, 4, 1)), TrainConfig { sample: Some(sample), ..options(3) });
    assert_eq!(run.summary().step, 3);
    assert_eq!(warned(&run, "SAMPLE_FAILED"), [0, 2, 3]);
}

#[test]
fn samples_that_a_young_model_cannot_make_are_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let config = tiny(4, 4, 1);
    let mut young = glow(&config, 0.05);
    let bias = &mut young.levels[0].steps[0].coupling.net.last.bias;
    // A scale that is 0 in f32: what it was multiplied with is lost.
    *bias = bias.clone().map(|bias| bias.sub_scalar(200.0));
    let model = loaded(&config, &young, &cpu());
    let sample = SampleConfig { folder: folder.path().into(), every: 2, count: 3, temperature: 1.0 };
    let run = Run::of(&model, TrainConfig { sample: Some(sample), ..options(3) });
    assert_eq!(run.summary().step, 3);
    assert_eq!(warned(&run, "SAMPLE_NOT_FINITE"), [0, 2, 3]);
}

#[test]
fn continuous_data_are_trained_by_their_density() {
    let config = tiny(8, 8, 3);
    let floats = |count, seed| {
        let Images { data, count, shape } = images(count, config.image, seed);
        let data = data.into_iter().map(|pixel| f32::from(pixel) + 0.25).collect();
        FloatImages { data, count, shape }
    };
    let data: Arc<dyn Dataset> = Arc::new(Continuous::new(floats(8, 1), None).unwrap());
    let model = new_model(&config);
    model.initialize(&*data, 8).unwrap();
    let density = |model: &FlowModel| {
        let bits = model.bits_per_dim(&Pixels::Floats(floats(8, 1)), &Noise::uniform(3), &Call::default()).unwrap();
        bits.iter().sum::<f64>() / 8.0
    };
    let before = density(&model);
    let evaluated = model.evaluate(&*data, None, 7, &Call::default()).unwrap().bits_per_dim;
    assert!((evaluated - before).abs() < 1e-9, "{evaluated} is not {before}: was noise added?");
    let mut losses = Vec::new();
    model
        .train(RunData::of(data), options(30), None, &Control::new(), &mut |event| {
            if let TrainEvent::StepEnd(step) = event {
                losses.push(step.loss);
            }
        })
        .unwrap();
    // The first step's batch is all the images: its loss is their density, bin widths left out.
    assert!((losses[0] - before).abs() < 1e-5, "{} is not {before}", losses[0]);
    assert!(density(&model) < before - 0.1);
}
