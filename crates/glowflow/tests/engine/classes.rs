//! Class-conditional models: what they learn of classes, how they tell them apart, which labels they refuse.

use std::sync::Arc;

use glowflow::data::{Dataset, InMemory};
use glowflow::random::{Key, Purpose};
use glowflow::{
    Call, ClassLabels, Control, Error, FlowModel, GlowConfig, ImageShape, Images, Latents, Layout, Noise, Pixels,
    RunData, TrainConfig,
};

use crate::common::{cpu, images, model, tiny};

fn with(labels: ClassLabels) -> Call {
    Call { labels: Some(labels), ..Call::default() }
}

fn refused<T: std::fmt::Debug>(outcome: Result<T, Error>, sentence: &str) {
    let error = outcome.unwrap_err();
    assert_eq!((error.code(), error.to_string().as_str()), ("ERR_GLOW_LABELS", sentence));
}

fn labelled(count: usize, shape: ImageShape, labels: Vec<u32>) -> InMemory {
    InMemory::new(images(count, shape, 1), Some(labels), None).unwrap()
}

#[test]
fn labels_that_do_not_fit_the_model_are_refused() {
    let plain = tiny(4, 4, 1);
    let config = GlowConfig { classes: Some(3), ..plain.clone() };
    let pixels = Pixels::Bytes(images(2, config.image, 1));
    let noise = Noise::midpoint();
    let encode = |model: &FlowModel, call: Call| model.encode(&pixels, &noise, &call);
    let (unconditional, conditional) = (model(&plain, 0.02), model(&config, 0.02));
    let of = |labels: &[u32]| with(ClassLabels::Each(labels.to_vec()));

    let none = "Expected none, as the model has no classes, for labels but received class 1";
    refused(encode(&unconditional, with(ClassLabels::One(1))), none);
    let missing = "Expected a class below 3 for all images or one each for labels but received none";
    refused(encode(&conditional, Call::default()), missing);
    refused(conditional.sample(1, 0.7, 1, &Call::default()), missing);
    refused(conditional.verify(&pixels, &Call::default()), missing);
    let latents = Latents { data: vec![0.0; 32], count: 2, dims: 16 };
    refused(conditional.decode(&latents, &Call::default()), missing);
    refused(encode(&conditional, of(&[0, 1, 2])), "Expected 2 classes for labels but received 3 classes");
    refused(encode(&conditional, of(&[0, 3])), "Expected classes below 3 for labels but received 3");
    encode(&conditional, of(&[0, 2])).unwrap();
    encode(&conditional, with(ClassLabels::One(2))).unwrap();

    let options = TrainConfig { steps: Some(1), batch_size: 2, ..TrainConfig::default() };
    let train = |data: InMemory| {
        conditional.train(RunData::of(Arc::new(data)), options.clone(), None, &Control::new(), &mut |_| {})
    };
    let without = || InMemory::new(images(4, config.image, 1), None, None).unwrap();
    let one_each = "Expected one of 3 classes for each image for labels but received data without";
    refused(train(without()), one_each);
    refused(conditional.evaluate(&without(), None, 1, &Call::default()), one_each);
    let four = labelled(4, config.image, vec![0, 1, 2, 3]);
    refused(train(four), "Expected at most 3 classes for labels but received data with 4");

    let classify = |model: &FlowModel, call: Call| model.classify(&pixels, &noise, &call);
    let no_classes = "Expected a class-conditional model for labels but received one without classes";
    refused(classify(&unconditional, Call::default()), no_classes);
    let every = "Expected none, as every class is tried, for labels but received some";
    refused(classify(&conditional, with(ClassLabels::One(1))), every);
}

#[test]
fn each_class_of_a_classification_is_that_labels_log_prob() {
    for layout in [Layout::Glow, Layout::Normflows] {
        let config = GlowConfig { classes: Some(3), layout, ..tiny(8, 8, 3) };
        let model = model(&config, 0.05);
        let pixels = Pixels::Bytes(images(4, config.image, 1));
        for noise in [Noise::midpoint(), Noise { draws: 3, ..Noise::uniform(5) }] {
            let rows = model.log_prob_by_class(&pixels, &noise, &Call::default()).unwrap();
            let parts = Call { batch_size: Some(3), ..Call::default() };
            assert_eq!(model.log_prob_by_class(&pixels, &noise, &parts).unwrap(), rows);
            for class in 0..3 {
                let truth = model.log_prob(&pixels, &noise, &with(ClassLabels::One(class))).unwrap();
                for (row, truth) in rows.iter().zip(truth) {
                    let found = row[class as usize];
                    assert!((found - truth).abs() < 1e-9 * truth.abs(), "{layout:?}: {found} is not {truth}");
                }
            }
            let probabilities = model.classify(&pixels, &noise, &Call::default()).unwrap();
            for (row, log_probs) in probabilities.iter().zip(&rows) {
                assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-12);
                let ratio = (log_probs[0] - log_probs[1]).exp();
                assert!((row[0] / row[1] - ratio).abs() < 1e-9 * ratio);
            }
            assert!(rows.iter().all(|row| row[0] != row[1]), "the class matters");
        }
    }
}

/// Images of two classes, dark and bright, each pixel drawn about its class's grey.
fn dark_and_bright(count: usize, shape: ImageShape, seed: u64) -> InMemory {
    let labels: Vec<u32> = (0..count as u32).map(|image| image % 2).collect();
    let mut data = Vec::new();
    for (image, label) in labels.iter().enumerate() {
        let mut noise = vec![0.0; shape.dims()];
        Key { seed, purpose: Purpose::Sample, step: 3, image: image as u64 }.stream().fill_normal(20.0, &mut noise);
        let grey = if *label == 0 { 60.0f32 } else { 190.0 };
        data.extend(noise.iter().map(|noise| (grey + noise).clamp(0.0, 255.0) as u8));
    }
    InMemory::new(Images::new(data, count, shape).unwrap(), Some(labels), None).unwrap()
}

#[test]
fn a_conditional_model_learns_its_classes() {
    for layout in [Layout::Glow, Layout::Normflows] {
        let config = GlowConfig { classes: Some(2), classifier_weight: 0.1, layout, ..tiny(4, 4, 1) };
        let model = FlowModel::create(config.clone(), &cpu()).unwrap();
        let (training, held_out) = (dark_and_bright(256, config.image, 1), dark_and_bright(64, config.image, 2));
        let images = held_out.batch(&(0..64).collect::<Vec<_>>()).unwrap();
        let mut options = TrainConfig { steps: Some(150), batch_size: 32, warmup: 5, ..TrainConfig::default() };
        options.optimizer.learning_rate = 1e-2;
        model.train(RunData::of(Arc::new(training)), options, None, &Control::new(), &mut |_| {}).unwrap();

        let evaluation = model.evaluate(&held_out, None, 1, &Call::default()).unwrap();
        let error = evaluation.classification_error.unwrap();
        assert!(error < 0.1, "{layout:?}: the classifier is wrong on {error} of the images");
        let rows = model.classify(&images.images, &Noise::midpoint(), &Call::default()).unwrap();
        let right = rows.iter().zip(images.labels.unwrap()).filter(|(row, label)| row[*label as usize] > 0.5).count();
        assert!(right > 58, "{layout:?}: {right} of 64 by Bayes' rule");
        let mean = |label| {
            let samples = model.sample(32, 0.7, 1, &with(ClassLabels::One(label))).unwrap();
            samples.data.iter().map(|&value| f64::from(value)).sum::<f64>() / samples.data.len() as f64
        };
        let (dark, bright) = (mean(0), mean(1));
        assert!(dark + 60.0 < bright, "{layout:?}: samples of mean {dark} and {bright}");
    }
}

#[test]
fn the_loss_is_bits_per_dim_and_the_classifiers_bits_by_its_weight() {
    let config = GlowConfig { classes: Some(4), classifier_weight: 0.3, ..tiny(4, 4, 1) };
    let first_loss = |config: &GlowConfig| {
        let model = FlowModel::create(config.clone(), &cpu()).unwrap();
        let data = labelled(16, config.image, (0..16).map(|image| image % 4).collect());
        let options = TrainConfig { steps: Some(1), batch_size: 16, ..TrainConfig::default() };
        let mut loss = 0.0;
        model
            .train(RunData::of(Arc::new(data)), options, None, &Control::new(), &mut |event| {
                if let glowflow::TrainEvent::StepEnd(step) = event {
                    loss = step.loss;
                }
            })
            .unwrap();
        loss
    };
    // A new classifier takes four classes for equally likely: 2 bits.
    let difference = first_loss(&config) - first_loss(&GlowConfig { classifier_weight: 0.0, ..config.clone() });
    assert!((difference - 0.3 * 2.0).abs() < 1e-6, "{difference}");
}

#[test]
fn other_labels_are_other_data() {
    let shape = ImageShape { height: 4, width: 4, channels: 1 };
    let of = |labels: Vec<u32>| labelled(4, shape, labels).fingerprint();
    assert_eq!(of(vec![0, 1, 1, 0]), of(vec![0, 1, 1, 0]));
    assert_ne!(of(vec![0, 1, 1, 0]), of(vec![0, 1, 0, 1]));
    assert_ne!(InMemory::new(images(4, shape, 1), None, None).unwrap().fingerprint(), of(vec![0, 1, 1, 0]));
}

#[test]
fn a_scale_of_0_is_named() {
    let config = GlowConfig { layout: Layout::Rosinality, ..tiny(4, 4, 1) };
    let mut glow = crate::common::glow(&config, 0.02);
    let norm = &mut glow.levels[1].steps[0].mix.actnorm;
    norm.scale = norm.scale.take().map(|scale| scale.map(|values| values.mul_scalar(0.0)));
    let model = crate::common::loaded(&config, &glow, &cpu());
    let pixels = Pixels::Bytes(images(1, config.image, 1));
    let error = model.encode(&pixels, &Noise::midpoint(), &Call::default()).unwrap_err();
    assert!(matches!(&error, Error::Singular { layer } if layer == "levels.1.steps.0.mix.actnorm"), "{error}");
}
