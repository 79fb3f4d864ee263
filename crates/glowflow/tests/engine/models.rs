//! A whole model: its likelihood and gradients, what it gives back, what it refuses.

use std::f64::consts::TAU;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use burn::module::Module;
use burn::tensor::{DType, Device as BurnDevice, FloatDType, Tensor, TensorData};
use glowflow::data::InMemory;
use glowflow::flow::{Gradients, Mode, named_parameters};
use glowflow::layers::PermutationKind;
use glowflow::models::glow::Glow;
use glowflow::random::{Key, Purpose};
use glowflow::train::Activations;
use glowflow::{
    Call, ClassLabels, CouplingKind, Dequantize, Error, FloatImages, FlowModel, GlowConfig, ImageShape, Images,
    InterpolationPath, Latents, Layout, Noise, Pixels, ScaleKind,
};

use crate::common::{
    chain, cpu, double, glow, images, labels, loaded, model, normal, perturbed, relative_error, scale_up, scaled, tiny,
    values,
};
use crate::laws::{by_autodiff, log_abs_det_of};

const WAYS: [Activations; 3] = [Activations::Stored, Activations::Inputs, Activations::Constant];

/// Small models of every kind.
fn kinds() -> Vec<GlowConfig> {
    let base = GlowConfig { edge_bias: true, ..tiny(4, 4, 1) };
    let plain = GlowConfig { edge_bias: false, ..base.clone() };
    let conditional = GlowConfig { classes: Some(3), ..plain.clone() };
    vec![
        base.clone(),
        GlowConfig { scale: ScaleKind::Bounded, permutation: PermutationKind::Conv1x1, ..base.clone() },
        GlowConfig { coupling: CouplingKind::Additive, permutation: PermutationKind::Shuffle, ..base.clone() },
        GlowConfig { learn_top: false, permutation: PermutationKind::Reverse, ..plain.clone() },
        GlowConfig { layout: Layout::Rosinality, permutation: PermutationKind::Conv1x1, ..plain.clone() },
        GlowConfig { layout: Layout::Chaiyujin, ..plain.clone() },
        GlowConfig { layout: Layout::Normflows, ..plain.clone() },
        GlowConfig { layout: Layout::Normflows, ..conditional.clone() },
        conditional.clone(),
        GlowConfig { levels: 1, classifier_weight: 0.5, ..conditional.clone() },
        GlowConfig { learn_top: false, classifier_weight: 0.5, ..conditional },
    ]
}

fn bytes(images: &Images) -> Pixels {
    Pixels::Bytes(images.clone())
}

fn all_equal(found: &Images, truth: &Images, what: &str) {
    assert_eq!(found.count, truth.count, "{what}");
    let wrong = found.data.iter().zip(&truth.data).filter(|(f, t)| f != t).count();
    assert_eq!(wrong, 0, "{what}: {wrong} of {} pixels differ", truth.data.len());
}

#[test]
fn log_prob_is_the_noises_and_the_jacobians() {
    for config in kinds() {
        let chain = chain(&config, &double(glow(&config, 0.05)));
        let x = values(scaled(&images(1, config.image, 6)));
        let run = |x: &[f64]| {
            let data = TensorData::new(x.to_vec(), [1, 4, 4, 1]);
            let (x, device) = (Tensor::from_data(data, (&BurnDevice::flex(), DType::F64)), BurnDevice::flex());
            chain.encode(x, labels(config.classes, 1, &device).as_ref()).unwrap()
        };
        let noise_of = |x: &[f64]| run(x).latents.into_iter().flat_map(values).collect::<Vec<f64>>();
        let log_normal: f64 = noise_of(&x).iter().map(|z| -0.5 * (z * z + TAU.ln())).sum();
        let truth = log_normal + log_abs_det_of(&x, noise_of);
        let found = values(run(&x).log_prob)[0];
        assert!((found - truth).abs() < 1e-6, "{config:?}: {found} is not {truth}");
    }
}

#[test]
fn every_way_to_hold_activations_gives_autodiffs_gradients() {
    for config in kinds() {
        let plain = BurnDevice::flex();
        let glow = glow(&config, 0.05);
        let x = scaled(&images(3, config.image, 6));
        let cotangent = normal([3], 2, &plain);
        let tracked = double(glow.clone()).fork(&plain.clone().autodiff()).train();
        let wide = x.clone().cast(FloatDType::F64).autodiff().require_grad();
        let known = labels(config.classes, 3, &plain.clone().autodiff());
        let encoded = chain(&config, &tracked).encode(wide.clone(), known.as_ref()).unwrap();
        let objective = match (encoded.scores, known) {
            (Some(scores), Some(known)) => {
                // In nats, where the loss in bits per dimension counts the classifier's bits `classifier_weight` times.
                let weight = config.classifier_weight * config.image.dims() as f64;
                encoded.log_prob + scores.log_prob(&known).mul_scalar(weight)
            }
            _ => encoded.log_prob,
        };
        let tape = (objective * cotangent.clone().cast(FloatDType::F64).autodiff()).sum().backward();
        let (dx, gradients) = (values(wide.grad(&tape).unwrap()), by_autodiff(&tracked, &tape));

        let chain = glow.chain(&config, Mode::Training);
        let found = WAYS.map(|way| {
            let tape = chain.forward(x.clone(), labels(config.classes, 3, &plain), way).unwrap();
            let mut found = Gradients::default();
            let back = chain.backward(tape, &cotangent, &mut found).unwrap();
            assert!(relative_error(&values(back.x), &values(x.clone())) < 1e-4, "{way:?}: the input");
            assert!(relative_error(&values(back.dx), &dx) < 1e-3, "{config:?}, {way:?}: the input's gradient");
            let mut of_each = Vec::new();
            for (parameter, truth) in named_parameters(&glow).iter().zip(&gradients) {
                let found = found.get(parameter.id).map_or_else(Vec::new, |gradient| values(gradient.clone()));
                let error = relative_error(&found, truth);
                assert!(error < 1e-3, "{config:?}, {way:?}: the gradient of {} is off by {error:e}", parameter.name);
                of_each.push(found);
            }
            of_each
        });
        assert_eq!(found[0], found[1], "kept inputs give the very activations that were not stored");
    }
}

/// Nodes in (0, 1) and weights of Gauss and Legendre's five-point rule.
const NODES: [(f64, f64); 5] = [
    (0.046_910_077_030_668, 0.118_463_442_528_095),
    (0.230_765_344_947_158, 0.239_314_335_249_683),
    (0.5, 0.284_444_444_444_444),
    (0.769_234_655_052_842, 0.239_314_335_249_683),
    (0.953_089_922_969_332, 0.118_463_442_528_095),
];

#[test]
fn the_probabilities_of_all_images_of_a_tiny_world_add_up_to_1() {
    let image = ImageShape { height: 2, width: 2, channels: 1 };
    for (coupling, scale) in [(CouplingKind::Affine, ScaleKind::Sigmoid), (CouplingKind::Additive, ScaleKind::Sigmoid)]
    {
        let config = GlowConfig { image, levels: 1, bits: 2, coupling, scale, ..tiny(2, 2, 1) };
        let mut glow = Glow::new(&config, &BurnDevice::flex());
        // Values of deviation 0.06 become standard normal: hardly any mass lies outside of the pixels' range.
        let norm = &mut glow.levels[0].steps[0].mix.actnorm;
        scale_up(norm, (1.0f32 / 0.06).ln());
        let model = loaded(&config, &perturbed(glow, 0.03, 8), &cpu());
        // Every image with its pixel values in the middle of 64 grey levels, at every node of the rule.
        let (mut pixels, mut noise, mut weights) = (Vec::new(), Vec::new(), Vec::new());
        for world in 0..256usize {
            for node in 0..NODES.len().pow(4) {
                let mut weight = 1.0;
                for dim in 0..4 {
                    let (at, share) = NODES[node / NODES.len().pow(dim) % NODES.len()];
                    pixels.push((world >> (2 * dim) & 3) as u8 * 64 + 17);
                    noise.push(at as f32);
                    weight *= share;
                }
                weights.push(weight);
            }
        }
        let images = Images::new(pixels, weights.len(), image).unwrap();
        let noise = Noise { dequantize: Dequantize::Given(noise), ..Noise::midpoint() };
        let call = Call { batch_size: Some(8192), ..Call::default() };
        let log_probs = model.log_prob(&Pixels::Bytes(images), &noise, &call).unwrap();
        let sum: f64 = log_probs.iter().zip(weights).map(|(log_prob, weight)| log_prob.exp() * weight).sum();
        assert!((sum - 1.0).abs() < 1e-3, "{coupling:?}: probabilities add up to {sum}");
    }
}

#[test]
fn eight_bit_pixels_come_back_cut_to_the_models_bits() {
    for bits in [8, 5] {
        for (coupling, scale) in [
            (CouplingKind::Affine, ScaleKind::Sigmoid),
            (CouplingKind::Affine, ScaleKind::Bounded),
            (CouplingKind::Additive, ScaleKind::Sigmoid),
        ] {
            let config = GlowConfig { bits, depth: 4, coupling, scale, ..tiny(8, 8, 3) };
            let model = model(&config, 0.02);
            let data = images(20, config.image, 5);
            let latents = model.encode(&bytes(&data), &Noise::midpoint(), &Call::default()).unwrap();
            let found = model.decode(&latents, &Call::default()).unwrap();
            let cut = data.data.iter().map(|v| v / (1 << (8 - bits)) * (1 << (8 - bits))).collect();
            all_equal(
                &found,
                &Images::new(cut, 20, config.image).unwrap(),
                &format!("{bits} bits, {coupling:?} {scale:?}"),
            );
            let verification = model.verify(&bytes(&data), &Call::default()).unwrap();
            assert_eq!(verification.pixel_mismatches, 0);
            assert!(verification.max_error < 1e-4 && verification.max_error > 0.0, "{verification:?}");
            assert!(verification.max_condition_number >= 1.0, "{verification:?}");
            let mut paths = (0..2).flat_map(|l| (0..4).map(move |k| format!("levels.{l}.steps.{k}")));
            assert!(paths.any(|path| path == verification.worst_layer), "{verification:?}");
        }
    }
}

#[test]
fn continuous_pixels_come_back() {
    let config = tiny(8, 8, 3);
    let model = model(&config, 0.02);
    let data: Vec<f32> = images(5, config.image, 5).data.iter().map(|&v| f32::from(v) + 0.3).collect();
    let floats = FloatImages::new(data, 5, config.image).unwrap();
    let pixels = Pixels::Floats(floats.clone());
    let latents = model.encode(&pixels, &Noise::midpoint(), &Call::default()).unwrap();
    let back = model.decode_float(&latents, &Call::default()).unwrap();
    let worst = back.data.iter().zip(&floats.data).map(|(b, f)| (b - f).abs()).fold(0.0, f32::max);
    assert!(worst < 0.01, "a pixel is {worst} off");
    // A density over [0, 256) is that of scaled values over 256^D: what 8-bit pixels in the middle of their bins cost.
    let middle = floats.data.iter().map(|v| v.floor() + 0.5).collect();
    let middle = Pixels::Floats(FloatImages::new(middle, 5, config.image).unwrap());
    let whole = Images::new(floats.data.iter().map(|&v| v as u8).collect(), 5, config.image).unwrap();
    let log_prob = |pixels: &Pixels| model.log_prob(pixels, &Noise::midpoint(), &Call::default()).unwrap();
    assert_eq!(log_prob(&middle), log_prob(&bytes(&whole)));
}

#[test]
fn bits_per_dim_is_log_prob_over_d_ln_2() {
    let config = GlowConfig { bits: 5, ..tiny(4, 8, 3) };
    let model = model(&config, 0.02);
    let data = bytes(&images(3, config.image, 5));
    let noise = Noise::uniform(4);
    let log_probs = model.log_prob(&data, &noise, &Call::default()).unwrap();
    let bits = model.bits_per_dim(&data, &noise, &Call::default()).unwrap();
    for (bits, log_prob) in bits.iter().zip(log_probs) {
        assert!((bits + log_prob / (96.0 * std::f64::consts::LN_2)).abs() < 1e-12);
    }
}

#[test]
fn draws_are_averaged_as_probabilities() {
    const DRAWS: u64 = 8;
    let config = tiny(4, 4, 1);
    let model = model(&config, 0.05);
    let data = bytes(&images(3, config.image, 5));
    let log_prob = |noise: &Noise| model.log_prob(&data, noise, &Call::default()).unwrap();
    // The same noise, draw by draw.
    let each: Vec<Vec<f64>> = (0..DRAWS)
        .map(|draw| {
            let mut noise = vec![0.0; 3 * config.image.dims()];
            for (image, out) in noise.chunks_mut(config.image.dims()).enumerate() {
                let key = Key { seed: 3, purpose: Purpose::Likelihood, step: draw, image: image as u64 };
                key.stream().fill_uniform(out);
            }
            log_prob(&Noise { dequantize: Dequantize::Given(noise), ..Noise::midpoint() })
        })
        .collect();
    assert_eq!(log_prob(&Noise::uniform(3)), each[0]);
    let found = log_prob(&Noise { draws: DRAWS as u32, ..Noise::uniform(3) });
    for (image, found) in found.into_iter().enumerate() {
        let of = |f: &dyn Fn(f64) -> f64| each.iter().map(|draw| f(draw[image])).sum::<f64>() / DRAWS as f64;
        let largest = each.iter().map(|draw| draw[image]).fold(f64::MIN, f64::max);
        let truth = largest + of(&|log_prob| (log_prob - largest).exp()).ln();
        assert!((found - truth).abs() < 1e-9, "image {image}: {found} is not {truth}");
        assert!(found > of(&|log_prob| log_prob), "image {image}: the bound is not tighter than one draw's mean");
    }
}

#[test]
fn an_evaluation_does_not_depend_on_the_batch_size() {
    let config = tiny(8, 8, 3);
    let model = model(&config, 0.02);
    let data = InMemory::new(images(7, config.image, 5), None, None).unwrap();
    let of =
        |batch_size, limit, seed| model.evaluate(&data, limit, seed, &Call { batch_size, ..Call::default() }).unwrap();
    let whole = of(None, None, 1);
    assert_eq!(whole.images, 7);
    assert!(whole.standard_error > 0.0);
    for batch_size in [1, 2, 5] {
        assert_eq!(of(Some(batch_size), None, 1), whole, "batch size {batch_size}");
    }
    assert_ne!(of(None, None, 2).bits_per_dim, whole.bits_per_dim, "the seed draws the noise");
    assert_eq!(of(None, Some(3), 1).images, 3);
    assert_eq!(of(None, Some(300), 1), whole);
}

#[test]
fn a_model_that_was_saved_is_the_same_when_loaded() {
    for config in kinds() {
        let model = model(&config, 0.05);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a model.safetensors");
        model.save(&path).unwrap();
        let back = FlowModel::load(&path, &cpu()).unwrap();
        assert_eq!(back.config(), model.config());
        assert_eq!((back.step(), back.initialized()), (model.step(), true));
        assert_eq!(back.parameter_count(), model.parameter_count());
        let data = bytes(&images(3, config.image, 5));
        let labels = config.classes.map(|classes| ClassLabels::in_turn(3, classes));
        let call = Call { labels, ..Call::default() };
        let log_prob = |model: &FlowModel| model.log_prob(&data, &Noise::midpoint(), &call).unwrap();
        assert_eq!(log_prob(&back), log_prob(&model));
        let again = folder.path().join("again.safetensors");
        back.save(&again).unwrap();
        assert!(std::fs::read(path).unwrap() == std::fs::read(again).unwrap(), "the same model, other bytes");
    }
}

#[test]
fn an_interpolation_begins_and_ends_with_its_images() {
    let config = GlowConfig { depth: 4, ..tiny(8, 8, 3) };
    let model = model(&config, 0.02);
    let (from, to) = (images(3, config.image, 5), images(3, config.image, 6));
    for path in [InterpolationPath::Linear, InterpolationPath::Spherical] {
        for frames in [2, 5] {
            let found = model.interpolate(&from, &to, frames, path, &Call::default()).unwrap();
            assert_eq!(found.count, 3 * frames);
            for pair in 0..3 {
                assert_eq!(found.image(pair * frames), from.image(pair), "{path:?}: the first of {frames}");
                assert_eq!(found.image(pair * frames + frames - 1), to.image(pair), "{path:?}: the last of {frames}");
            }
            if frames > 2 {
                assert!(found.image(2) != from.image(0) && found.image(2) != to.image(0), "{path:?}: the middle");
            }
        }
    }
}

#[test]
fn the_spherical_middle_keeps_the_latents_norm() {
    let config = tiny(8, 8, 1);
    let model = model(&config, 0.02);
    let (from, to) = (images(1, config.image, 5), images(1, config.image, 60));
    let norm = |images: &Images| {
        let latents = model.encode(&bytes(images), &Noise::midpoint(), &Call::default()).unwrap();
        latents.data.iter().map(|v| f64::from(v * v)).sum::<f64>().sqrt()
    };
    let middle = |path| model.interpolate(&from, &to, 3, path, &Call::default()).unwrap().slice(1..2);
    let mean = 0.5 * (norm(&from) + norm(&to));
    let (linear, spherical) = (norm(&middle(InterpolationPath::Linear)), norm(&middle(InterpolationPath::Spherical)));
    // Pixels are cut into bins on the way, hence the tolerance.
    assert!((spherical / mean - 1.0).abs() < 0.02, "{spherical} is far from {mean}");
    assert!(linear < 0.95 * mean, "two latents that are far from parallel: {linear}, {mean}");
}

#[test]
fn a_shift_goes_along_the_direction_between_the_means() {
    let config = GlowConfig { depth: 4, ..tiny(8, 8, 3) };
    let model = model(&config, 0.02);
    let (having, without) = (images(3, config.image, 5), images(40, config.image, 6));
    let data = |images: &Images| InMemory::new(images.clone(), None, None).unwrap();
    let call = Call::default();
    let direction = model.direction(&data(&having), &data(&without), &call).unwrap();
    assert_eq!(direction.len(), config.image.dims());
    let mean = |images: &Images| {
        let latents = model.encode(&bytes(images), &Noise::midpoint(), &call).unwrap();
        (0..latents.dims)
            .map(|dim| latents.data[dim..].iter().step_by(latents.dims).map(|&v| f64::from(v)).sum::<f64>())
            .map(|sum| sum / images.count as f64)
            .collect::<Vec<f64>>()
    };
    let truth: Vec<f64> = mean(&having).iter().zip(mean(&without)).map(|(h, w)| h - w).collect();
    let found: Vec<f64> = direction.iter().map(|&v| f64::from(v)).collect();
    assert!(relative_error(&found, &truth) < 1e-5);

    let shifted = model.shift(&having, &direction, &[0.0, 1.0, 0.0], &call).unwrap();
    assert_eq!(shifted.count, 9);
    for image in 0..3 {
        assert_eq!(shifted.image(3 * image), having.image(image), "by 0");
        assert_ne!(shifted.image(3 * image + 1), having.image(image), "by 1");
        assert_eq!(shifted.image(3 * image + 2), having.image(image), "by 0");
    }
    // From one image to another in one step.
    let (one, other) = (having.slice(0..1), without.slice(0..1));
    let direction = model.direction(&data(&other), &data(&one), &call).unwrap();
    all_equal(&model.shift(&one, &direction, &[1.0], &call).unwrap(), &other, "one image to another");
}

/// The error's code, and that its sentence has these words.
#[track_caller]
fn refused<T: std::fmt::Debug>(outcome: Result<T, Error>, code: &str, words: &str) {
    let error = outcome.unwrap_err();
    assert_eq!(error.code(), code, "{error}");
    assert!(error.to_string().contains(words), "{error}");
}

#[test]
fn a_model_that_data_have_not_set_refuses_to_be_used() {
    let config = tiny(8, 8, 3);
    let model = FlowModel::create(config.clone(), &cpu()).unwrap();
    assert!(!model.initialized());
    let data = bytes(&images(2, config.image, 1));
    let code = "ERR_GLOW_NOT_INITIALIZED";
    refused(model.encode(&data, &Noise::midpoint(), &Call::default()), code, "initialize");
    refused(model.log_prob(&data, &Noise::midpoint(), &Call::default()), code, "initialize");
    refused(model.sample(1, 0.7, 1, &Call::default()), code, "initialize");
    let set = InMemory::new(images(20, config.image, 1), None, None).unwrap();
    model.initialize(&set, 16).unwrap();
    assert!(model.initialized());
    model.encode(&data, &Noise::midpoint(), &Call::default()).unwrap();
}

#[test]
fn actnorms_are_set_again_only_when_asked() {
    let config = tiny(8, 8, 3);
    let model = FlowModel::create(config.clone(), &cpu()).unwrap();
    let data = |seed| InMemory::new(images(20, config.image, seed), None, None).unwrap();
    let noise = Noise::midpoint();
    let test = bytes(&images(2, config.image, 9));
    let log_prob = || model.log_prob(&test, &noise, &Call::default()).unwrap();
    model.initialize(&data(1), 16).unwrap();
    let first = log_prob();
    // What is prepared for inference is made anew.
    model.initialize(&InMemory::new(images(20, config.image, 2), None, None).unwrap(), 7).unwrap();
    assert_ne!(log_prob(), first);
    model.initialize(&data(1), 16).unwrap();
    assert_eq!(log_prob(), first);
}

#[test]
fn a_constant_channel_is_named() {
    let config = tiny(4, 4, 3);
    let model = FlowModel::create(config.clone(), &cpu()).unwrap();
    let mut constant = images(8, config.image, 1);
    constant.data.iter_mut().skip(1).step_by(3).for_each(|value| *value = 77);
    let data = InMemory::new(constant, None, None).unwrap();
    refused(model.initialize(&data, 8), "ERR_GLOW_DATA", "channel 1 of the images");
    assert!(!model.initialized());
}

#[test]
fn a_model_that_was_disposed_of_says_so() {
    let config = tiny(8, 8, 3);
    let model = model(&config, 0.02);
    let data = images(2, config.image, 1);
    model.dispose();
    model.dispose();
    let (code, words) = ("ERR_GLOW_DISPOSED", "disposed");
    refused(model.encode(&bytes(&data), &Noise::midpoint(), &Call::default()), code, words);
    refused(model.sample(1, 0.7, 1, &Call::default()), code, words);
    refused(model.save(std::path::Path::new("/nowhere/model")), code, words);
    refused(model.initialize(&InMemory::new(data, None, None).unwrap(), 2), code, words);
}

#[test]
fn a_call_that_was_cancelled_ends() {
    let config = tiny(8, 8, 3);
    let model = model(&config, 0.02);
    let call = Call { cancel: Arc::new(AtomicBool::new(true)), batch_size: Some(1), ..Call::default() };
    refused(model.sample(3, 0.7, 1, &call), "ERR_GLOW_ABORTED", "aborted");
    let data = bytes(&images(3, config.image, 1));
    refused(model.log_prob(&data, &Noise::midpoint(), &call), "ERR_GLOW_ABORTED", "aborted");
}

#[test]
fn bad_input_is_named() {
    let config = tiny(8, 8, 3);
    let model = model(&config, 0.02);
    let data = images(2, config.image, 1);
    let (shape, option) = ("ERR_GLOW_SHAPE", "ERR_GLOW_OPTION");
    let call = Call::default();

    let wide = images(2, ImageShape { height: 8, width: 16, channels: 3 }, 1);
    refused(model.encode(&bytes(&wide), &Noise::midpoint(), &call), shape, "8x8x3 but received 8x16x3");
    refused(model.log_prob(&bytes(&wide), &Noise::midpoint(), &call), shape, "8x8x3 but received 8x16x3");
    refused(model.verify(&bytes(&wide), &call), shape, "8x8x3 but received 8x16x3");
    refused(Images::new(vec![0; 5], 1, config.image), shape, "1 x 8x8x3");
    for bad in [f32::NAN, f32::INFINITY] {
        let mut values = vec![1.0; 192];
        values[7] = bad;
        let floats = Pixels::Floats(FloatImages::new(values.clone(), 1, config.image).unwrap());
        refused(model.encode(&floats, &Noise::midpoint(), &call), shape, &format!("{bad} at 7"));
        let latents = Latents { data: values, count: 1, dims: 192 };
        refused(model.decode(&latents, &call), shape, &format!("{bad} at 7"));
        refused(model.decode_float(&latents, &call), shape, &format!("{bad} at 7"));
    }
    refused(model.decode(&Latents { data: vec![0.0; 191], count: 1, dims: 191 }, &call), shape, "rows of 192");
    refused(model.decode(&Latents { data: vec![0.0; 191], count: 1, dims: 192 }, &call), shape, "rows of 192");
    refused(model.decode(&Latents { data: vec![], count: usize::MAX, dims: 192 }, &call), shape, "rows of 192");

    let given = |noise: Vec<f32>, draws| Noise { dequantize: Dequantize::Given(noise), seed: 0, draws };
    let encode = |noise: &Noise| model.encode(&bytes(&data), noise, &call);
    refused(encode(&given(vec![0.5; 383], 1)), shape, "384 but received 383");
    refused(encode(&given(vec![1.0; 384], 1)), option, "not including 1");
    refused(encode(&given(vec![f32::NAN; 384], 1)), option, "not including 1");
    refused(encode(&given(vec![0.5; 384], 2)), option, "draws");
    refused(encode(&Noise { draws: 0, ..Noise::uniform(1) }), option, "draws");

    refused(model.sample(0, 0.7, 1, &call), option, "count");
    for temperature in [-0.1, f32::NAN, f32::INFINITY] {
        refused(model.sample(1, temperature, 1, &call), option, "temperature");
    }
    refused(model.sample(1, 0.7, 1, &Call { batch_size: Some(0), ..Call::default() }), option, "batchSize");
    let linear = InterpolationPath::Linear;
    refused(model.interpolate(&data, &data, 1, linear, &call), option, "frames");
    refused(model.interpolate(&data, &data.slice(0..1), 3, linear, &call), shape, "2 but received 1");
    refused(model.interpolate(&wide, &wide, 3, linear, &call), shape, "8x16x3");
    refused(model.shift(&data, &[0.0; 191], &[1.0], &call), shape, "direction of 192 but received 191");
    refused(model.shift(&data, &[0.0; 192], &[f32::NAN], &call), option, "amounts");
    refused(model.shift(&data, &[f32::NAN; 192], &[1.0], &call), shape, "NaN");
    let other = InMemory::new(wide, None, None).unwrap();
    refused(model.initialize(&other, 2), shape, "8x8x3 but received 8x16x3");
    refused(model.evaluate(&other, None, 1, &call), shape, "8x8x3 but received 8x16x3");
    refused(model.direction(&other, &other, &call), shape, "8x8x3 but received 8x16x3");
    let same = InMemory::new(data, None, None).unwrap();
    refused(model.evaluate(&same, Some(0), 1, &call), shape, "at least 1");
}

#[test]
fn a_config_out_of_range_is_refused_by_the_name_of_its_option() {
    let create = |config: GlowConfig| FlowModel::create(config, &cpu());
    let base = || tiny(8, 8, 3);
    let image = |height, width, channels| GlowConfig { image: ImageShape { height, width, channels }, ..base() };
    for (config, name) in [
        (GlowConfig { levels: 0, ..base() }, "levels"),
        (GlowConfig { levels: usize::MAX, ..base() }, "levels"),
        (GlowConfig { depth: 0, ..base() }, "depth"),
        (GlowConfig { hidden: 0, ..base() }, "hidden"),
        (GlowConfig { bits: 0, ..base() }, "bits"),
        (GlowConfig { bits: 9, ..base() }, "bits"),
        (image(8, 8, 2), "channels"),
        (image(0, 8, 3), "imageSize"),
        (image(8, 10, 3), "imageSize"),
        (image(usize::MAX - 3, 8, 3), "imageSize"),
    ] {
        refused(create(config), "ERR_GLOW_OPTION", name);
    }
    let huge = GlowConfig { depth: 1024, hidden: 8192, levels: 5, ..image(4096, 4096, 4) };
    refused(create(huge), "ERR_GLOW_OUT_OF_MEMORY", "a model of this size");
}

#[test]
fn the_smallest_model_works() {
    let config = GlowConfig { levels: 1, depth: 1, hidden: 1, bits: 1, ..tiny(2, 2, 1) };
    let model = FlowModel::create(config.clone(), &cpu()).unwrap();
    let data = images(4, config.image, 1);
    model.initialize(&InMemory::new(data.clone(), None, None).unwrap(), 4).unwrap();
    let latents = model.encode(&bytes(&data), &Noise::midpoint(), &Call::default()).unwrap();
    let cut = data.data.iter().map(|v| v >> 7 << 7).collect();
    all_equal(&model.decode(&latents, &Call::default()).unwrap(), &Images::new(cut, 4, config.image).unwrap(), "1 bit");
}

#[test]
fn an_inverse_that_overflows_is_an_error_and_never_a_black_pixel() {
    let config = tiny(4, 4, 1);
    let mut broken = glow(&config, 0.05);
    let bias = &mut broken.levels[0].steps[0].coupling.net.last.bias;
    // A raw scale of -200: its sigmoid is 0 in f32, and what it was multiplied with is lost.
    *bias = bias.clone().map(|bias| bias.sub_scalar(200.0));
    let model = loaded(&config, &broken, &cpu());
    let error = model.sample(3, 1.0, 1, &Call::default()).unwrap_err();
    assert_eq!(error.code(), "ERR_GLOW_NOT_FINITE", "{error}");
    let pixels = bytes(&images(2, config.image, 3));
    assert!(model.verify(&pixels, &Call::default()).unwrap().max_error.is_nan());
}
