//! Numbers that are known in advance.

use std::collections::HashMap;
use std::f64::consts::{LN_2, TAU};
use std::sync::Arc;

use burn::tensor::{Device as BurnDevice, Tensor, TensorData};
use glowflow::data::InMemory;
use glowflow::flow::{Invertible, Layer, Mode, named_parameters};
use glowflow::kernels::coupling::{self, Kind};
use glowflow::kernels::{available_paths, conv, force};
use glowflow::layers::{ActNorm, CouplingConfig, Mix, Permutation, PermutationKind, Rearrange, ScaleForm, StepConfig};
use glowflow::models::glow::Glow;
use glowflow::models::memory::parameter_count;
use glowflow::models::structure::layers;
use glowflow::nets::{ConvNet, NetForm};
use glowflow::{
    Call, Control, CouplingKind, FlowModel, GlowConfig, ImageShape, Images, Layout, Noise, Pixels, RunData, ScaleKind,
    TrainConfig,
};

use crate::common::{chain, cpu, images, loaded, model, normal, relative_error, scaled, tiny, values};

const PERMUTATIONS: [PermutationKind; 4] =
    [PermutationKind::Conv1x1Lu, PermutationKind::Conv1x1, PermutationKind::Shuffle, PermutationKind::Reverse];

fn close(found: f64, truth: f64, tolerance: f64, what: &str) {
    assert!((found - truth).abs() < tolerance, "{what}: {found} is not {truth}");
}

#[test]
fn a_coupling_that_starts_at_zero_has_the_log_det_of_its_constant_scale() {
    let device = BurnDevice::flex();
    let shape = [3, 2, 4, 12];
    let transformed = 2.0 * 4.0 * 6.0;
    // -softplus(-2) is -0.1269280.
    let sigmoid = -((-2.0f64).exp().ln_1p());
    close(sigmoid, -0.126_928_0, 1e-7, "-softplus(-2)");
    for (kind, each) in [(Kind::Sigmoid, sigmoid), (Kind::Additive, 0.0), (Kind::Bounded, 0.0)] {
        let config = CouplingConfig { kind, channels: 12, size: [2, 4], hidden: 16, form: NetForm::of_paper(true) };
        let coupling = config.init(1, 0, &device).prepare("coupling", Mode::Evaluation.into()).unwrap();
        let x = normal(shape, 1, &device);
        for path in available_paths() {
            let out = force(path, || coupling.forward(x.clone()));
            for log_det in values(out.log_det) {
                close(log_det, each * transformed, 1e-5, &format!("{kind:?} by {path:?}"));
            }
            // Only the second half is scaled.
            for (index, (z, x)) in values(out.z).iter().zip(values(x.clone())).enumerate() {
                let scale = if index % 12 < 6 { 1.0 } else { each.exp() };
                close(*z, x * scale, 1e-6, &format!("{kind:?} by {path:?}, value {index}"));
            }
        }
    }
}

/// Mean 0 and variance 1 of every channel. Shape `[.., channels]`.
fn assert_normalized(activations: Tensor<4>, what: &str) {
    let [batch, height, width, channels] = activations.dims();
    let rows = (batch * height * width) as f64;
    let values = values(activations);
    for channel in 0..channels {
        let of = |f: &dyn Fn(f64) -> f64| values[channel..].iter().step_by(channels).map(|&v| f(v)).sum::<f64>() / rows;
        let mean = of(&|v| v);
        close(mean, 0.0, 1e-5, &format!("{what}: mean of channel {channel}"));
        // The floor under deviations, 1e-6, is all that is missing to 1.
        close(of(&|v| (v - mean).powi(2)), 1.0, 1e-4, &format!("{what}: variance of channel {channel}"));
    }
}

/// `(x W + bias) s` of a hidden layer, by another convolution kernel than the net's own.
fn hidden_layer(x: &Tensor<4>, weight: Tensor<2>, norm: &ActNorm) -> Tensor<4> {
    let ([.., inputs], [rows, hidden]) = (x.dims(), weight.dims());
    let per_channel = |values: Tensor<1>| values.reshape([1, 1, 1, hidden]);
    let outputs = if rows == inputs {
        let [batch, height, width, _] = x.dims();
        x.clone().reshape([batch * height * width, inputs]).matmul(weight).reshape([batch, height, width, hidden])
    } else {
        let by_input = weight.reshape([9, inputs, hidden]).swap_dims(0, 1).reshape([inputs, 9 * hidden]);
        conv::forward(x, &by_input, &Tensor::zeros([1, hidden], &x.device()))
    };
    (outputs + per_channel(norm.bias.val())) * per_channel(norm.scale())
}

#[test]
fn actnorms_give_mean_0_and_variance_1_on_the_data_that_set_them() {
    for scale in [ScaleForm::ThirdOfLog, ScaleForm::Log, ScaleForm::Linear] {
        assert_set_from_data(scale);
    }
}

fn assert_set_from_data(scale: ScaleForm) {
    let device = BurnDevice::flex();
    let form = NetForm { hidden_scale: Some(scale), ..NetForm::of_paper(false) };
    let coupling = CouplingConfig { kind: Kind::Sigmoid, channels: 8, size: [4, 3], hidden: 10, form };
    let mut step = StepConfig { scale, permutation: PermutationKind::Reverse, coupling }.init(1, 0, &device);
    let lopsided = |batch, seed| normal([batch, 4, 3, 8], seed, &device).mul_scalar(7.0).add_scalar(100.0);
    // Uneven parts: each counts by its images.
    let parts: Vec<Tensor<4>> = vec![lopsided(5, 1), lopsided(1, 2), lopsided(2, 3)];
    step.initialize(parts.clone(), "step").unwrap();
    let x = Tensor::cat(parts, 0);
    // A reversal permutes: it changes no channel's moments.
    let mixed = step.mix.prepare("mix", Mode::Evaluation.into()).unwrap().forward(x).z;
    assert_normalized(mixed.clone(), "mix.actnorm");
    let ConvNet { first, middle, .. } = &step.coupling.net;
    let first = hidden_layer(&coupling::kept(&mixed), first.weight.val(), &first.norm);
    assert_normalized(first.clone(), "coupling.net.first.norm");
    let middle = hidden_layer(&first.clamp_min(0.0), middle.weight.val(), &middle.norm);
    assert_normalized(middle, "coupling.net.middle.norm");
}

#[test]
fn a_new_1x1_convolution_is_a_rotation() {
    let device = BurnDevice::flex();
    for kind in [PermutationKind::Conv1x1, PermutationKind::Conv1x1Lu] {
        for channels in [4, 12, 48, 96] {
            let permutation = Permutation::new(kind, channels, 7, 3, &device);
            let mix = Mix { actnorm: ActNorm::new(channels, Some(ScaleForm::ThirdOfLog), &device), permutation }
                .prepare("mix", Mode::Evaluation.into())
                .unwrap();
            // Pixel j is unit vector j, so that the image is the transposed matrix.
            let units = Tensor::<2>::eye(channels, &device).reshape([1, 1, channels, channels]);
            let out = mix.forward(units);
            close(values(out.log_det)[0] / channels as f64, 0.0, 1e-5, &format!("{kind:?} of {channels}: log-det"));
            let w: Tensor<2> = out.z.reshape([channels, channels]);
            let product = values(w.clone().transpose().matmul(w.clone()) - Tensor::eye(channels, &device));
            let error = product.iter().fold(0.0f64, |worst, v| worst.max(v.abs()));
            assert!(error < 1e-5, "{kind:?} of {channels}: W^T W is {error:e} off the identity");
            let far = values(w - Tensor::eye(channels, &device)).iter().fold(0.0f64, |worst, v| worst.max(v.abs()));
            assert!(far > 0.1, "{kind:?} of {channels}: a random rotation is not the identity");
        }
    }
}

#[test]
fn latents_are_as_many_as_pixels_and_lie_where_latent_scales_say() {
    for (levels, shape) in [(1, [2, 6, 1]), (2, [4, 8, 3]), (3, [8, 16, 4])] {
        let config = GlowConfig { levels, depth: 1, ..tiny(shape[0], shape[1], shape[2]) };
        let glow = crate::common::glow(&config, 0.02);
        let model = loaded(&config, &glow, &cpu());
        let batch = images(2, config.image, 8);
        let call = Call::default();
        let found = model.encode(&Pixels::Bytes(batch.clone()), &Noise::midpoint(), &call).unwrap();
        assert_eq!((found.count, found.dims), (2, config.image.dims()));
        let scales = model.latent_scales();
        let mut offset = 0;
        let truth = chain(&config, &glow).encode(scaled(&batch), None).unwrap().latents;
        assert_eq!(scales.len(), levels);
        for (scale, truth) in scales.iter().zip(truth) {
            assert_eq!((scale.offset, scale.shape.as_slice()), (offset, &truth.dims()[1..]));
            let size = scale.shape.iter().product::<usize>();
            let rows = found.data.chunks(found.dims).flat_map(|row| &row[offset..offset + size]);
            assert_eq!(rows.map(|&v| f64::from(v)).collect::<Vec<_>>(), values(truth));
            offset += size;
        }
        assert_eq!(offset, config.image.dims(), "the scales' sizes add up to D");
    }
}

#[test]
fn parameters_are_as_many_as_counted_before_a_model_is_made() {
    let image = ImageShape { height: 8, width: 16, channels: 3 };
    let base = GlowConfig { levels: 3, image, ..tiny(8, 16, 3) };
    for permutation in PERMUTATIONS {
        for coupling in [CouplingKind::Affine, CouplingKind::Additive] {
            for (edge_bias, learn_top) in [(false, false), (false, true), (true, false), (true, true)] {
                counted(&GlowConfig { permutation, coupling, edge_bias, learn_top, ..base.clone() });
            }
        }
    }
    for layout in [Layout::Glow, Layout::Rosinality, Layout::Chaiyujin, Layout::Normflows] {
        for (classes, classifier_weight) in [(None, 0.0), (Some(5), 0.0), (Some(5), 0.1)] {
            for learn_top in [false, true] {
                counted(&GlowConfig { layout, classes, classifier_weight, learn_top, ..base.clone() });
            }
        }
    }
}

fn counted(config: &GlowConfig) {
    let parameters = named_parameters(&Glow::new(config, &BurnDevice::flex()));
    let found: usize = parameters.iter().map(|p| p.shape.iter().product::<usize>()).sum();
    assert_eq!(found as u64, parameter_count(&config.clone().into()), "{config:?}");
    for layer in layers(&config.clone().into()) {
        let inside = parameters.iter().filter(|p| p.name.starts_with(&format!("{}.", layer.path)));
        let found: usize = inside.map(|p| p.shape.iter().product::<usize>()).sum();
        assert_eq!(found as u64, layer.parameters, "{} of {config:?}", layer.path);
    }
}

/// The names and shapes that an importer writes.
#[test]
fn a_layout_has_the_parameters_of_its_project() {
    let of = |layout, classes| {
        let permutation = PermutationKind::Conv1x1;
        let config = GlowConfig { layout, classes, permutation, depth: 1, ..tiny(4, 4, 1) };
        let glow = Glow::new(&config, &BurnDevice::flex());
        let lu = glow.levels.iter().map(|level| level.steps[0].mix.permutation.signs.is_some()).collect::<Vec<_>>();
        let shapes: HashMap<String, Vec<usize>> =
            named_parameters(&glow).into_iter().map(|p| (p.name, p.shape)).collect();
        (lu, shapes)
    };
    let net = "levels.0.steps.0.coupling.net";
    let (lu, glow) = of(Layout::Glow, None);
    assert_eq!(lu, [false, false]);
    assert_eq!(glow[&format!("{net}.first.norm.scale")], [8]);
    assert_eq!(glow[&format!("{net}.last.log_scale")], [4]);
    let (lu, rosinality) = of(Layout::Rosinality, None);
    assert_eq!(lu, [false, true], "the last level has the PLU form, whatever is asked for");
    assert!(!rosinality.contains_key(&format!("{net}.first.norm.scale")));
    assert_eq!(rosinality["levels.0.steps.0.mix.actnorm.scale"], [4]);
    assert_eq!(rosinality["levels.0.split.prior.weight"], [2, 36]);
    let (_, normflows) = of(Layout::Normflows, None);
    assert!(!normflows.contains_key(&format!("{net}.last.log_scale")));
    for (place, channels) in [("levels.0.split", 2), ("top", 8)] {
        for name in ["loc", "loc_logs", "log_scale", "log_scale_logs"] {
            assert_eq!(normflows[&format!("{place}.normal.{name}")], [channels]);
        }
    }
    let (_, conditional) = of(Layout::Normflows, Some(3));
    assert_eq!(conditional["levels.0.split.normal.mean"], [3, 2, 2, 2]);
    assert_eq!(conditional["top.normal.log_deviation"], [3, 1, 1, 8]);
    let (_, conditional) = of(Layout::Chaiyujin, Some(3));
    assert_eq!(conditional["top.classes.weight"], [16, 3]);
}

/// The bits per dimension of an identity flow on all pixel values of so many bits, each as often.
fn identity_flow_bits(bits: u32) -> f64 {
    let config = GlowConfig {
        coupling: CouplingKind::Additive,
        permutation: PermutationKind::Reverse,
        learn_top: false,
        bits,
        ..tiny(16, 16, 1)
    };
    // New, and taken as it is: actnorms and couplings are the identity, the priors standard normal.
    let model = loaded(&config, &Glow::new(&config, &BurnDevice::flex()), &cpu());
    let images = Images::new((0..=255).collect(), 1, config.image).unwrap();
    model.bits_per_dim(&Pixels::Bytes(images), &Noise::midpoint(), &Call::default()).unwrap()[0]
}

#[test]
fn an_identity_flow_costs_9_386_bits_a_dimension_on_uniform_pixels() {
    for (bits, published) in [(8, 9.386), (5, 6.386)] {
        let found = identity_flow_bits(bits);
        close(found, published, 6e-4, "maths.md 2");
        // The bins' middles lack the variance within a bin.
        let variance = (1.0 - 0.25f64.powi(bits as i32)) / 12.0;
        let truth = f64::from(bits) + 0.5 * TAU.log2() + 0.5 * variance / LN_2;
        close(found, truth, 1e-6, &format!("{bits} bits"));
    }
}

#[test]
fn a_squeeze_puts_channel_c_row_y_column_x_at_4c_2y_x() {
    let device = BurnDevice::flex();
    let shape = [2, 4, 6, 3];
    let numbered: Vec<f32> = (0..shape.iter().product()).map(|i| i as f32).collect();
    let x = Tensor::<4>::from_data(TensorData::new(numbered, shape), &device);
    let z = Rearrange::Squeeze.forward(x.clone());
    assert_eq!(z.dims(), [2, 2, 3, 12]);
    let squeezed = values(z.clone());
    for (index, &value) in squeezed.iter().enumerate() {
        let (channel, column, row, image) = (index % 12, index / 12 % 3, index / 36 % 2, index / 72);
        let (c, dy, dx) = (channel / 4, channel / 2 % 2, channel % 2);
        let source = ((image * 4 + 2 * row + dy) * 6 + 2 * column + dx) * 3 + c;
        assert_eq!(value, source as f64, "channel {channel} of pixel ({row}, {column})");
    }
    assert_eq!(values(Rearrange::Squeeze.inverse(z)), values(x));
}

#[test]
fn samples_at_temperature_0_are_all_the_same_whatever_the_seed() {
    let config = tiny(8, 8, 3);
    let model = model(&config, 0.02);
    let of = |temperature, seed| model.sample(3, temperature, seed, &Call::default()).unwrap();
    let cold = of(0.0, 1);
    assert_eq!(cold, of(0.0, 2));
    assert!((1..3).all(|i| cold.image(i) == cold.image(0)));
    let warm = of(1.0, 1);
    assert_eq!(warm, of(1.0, 1));
    assert_ne!(warm, of(1.0, 2));
    assert_ne!(warm, cold);
    assert_ne!(warm.image(0), warm.image(1));
}

#[test]
fn a_sample_depends_on_the_seed_and_its_index_alone() {
    let model = model(&tiny(8, 8, 3), 0.02);
    let five = model.sample(5, 0.8, 9, &Call::default()).unwrap();
    let three = model.sample(3, 0.8, 9, &Call { batch_size: Some(2), ..Call::default() }).unwrap();
    assert_eq!(three, five.slice(0..3));
}

#[test]
fn the_log_scale_is_finite_and_exact_where_a_sigmoid_underflows() {
    let device = BurnDevice::flex();
    for raw in [-200.0f32, -106.0, -80.0, 0.0, 80.0, 200.0] {
        let h = Tensor::<1>::from_floats([0.0, raw], &device).reshape([1, 1, 1, 2]);
        let x = Tensor::<1>::from_floats([0.3, 0.7], &device).reshape([1, 1, 1, 2]);
        let sigmoid = {
            let t = -(f64::from(raw) + 2.0);
            -(t.max(0.0) + (-t.abs()).exp().ln_1p())
        };
        let bounded = (0.5 + 1.5 / (1.0 + 2.0 * (-f64::from(raw)).exp())).ln();
        for path in available_paths() {
            for (kind, truth) in [(Kind::Sigmoid, sigmoid), (Kind::Bounded, bounded)] {
                let name = format!("{kind:?} at {raw} by {path:?}");
                let out = force(path, || coupling::forward(kind, &x, &h));
                close(values(out.log_det)[0], truth, 1e-6 * truth.abs().max(1.0), &name);
                // Below e^-87 a scale leaves the normal numbers of f32: nothing could bring the input back.
                if kind == Kind::Bounded || raw >= -80.0 {
                    let back = values(force(path, || coupling::inverse(kind, &out.z, &h)));
                    close(back[1], 0.7, 1e-5, &format!("{name}: the inverse"));
                }
            }
        }
    }
}

#[test]
fn every_scale_kind_reaches_the_flow() {
    let config = |coupling, scale| GlowConfig { coupling, scale, depth: 1, levels: 1, ..tiny(2, 2, 1) };
    let log_prob = |config: GlowConfig| {
        let images = images(1, config.image, 1);
        let model = loaded(&config, &Glow::new(&config, &BurnDevice::flex()), &cpu());
        model.log_prob(&Pixels::Bytes(images), &Noise::midpoint(), &Call::default()).unwrap()[0]
    };
    let additive = log_prob(config(CouplingKind::Additive, ScaleKind::Sigmoid));
    // At the start a bounded scale is 1 and a sigmoid one 0.88.
    close(log_prob(config(CouplingKind::Affine, ScaleKind::Bounded)), additive, 1e-6, "bounded");
    assert!((log_prob(config(CouplingKind::Affine, ScaleKind::Sigmoid)) - additive).abs() > 1e-3);
}

#[test]
fn a_trained_model_of_32_steps_a_level_inverts_in_both_directions() {
    for scale in [ScaleKind::Sigmoid, ScaleKind::Bounded] {
        let config = GlowConfig { levels: 3, depth: 32, hidden: 16, scale, ..tiny(16, 16, 3) };
        let model = FlowModel::create(config.clone(), &cpu()).unwrap();
        let data = Arc::new(InMemory::new(images(64, config.image, 1), None, None).unwrap());
        let options =
            TrainConfig { steps: Some(150), batch_size: 16, init_images: 32, warmup: 20, ..TrainConfig::default() };
        let summary = model.train(RunData::of(data), options, None, &Control::new(), &mut |_| {}).unwrap();
        assert!(summary.loss < 7.0, "{scale:?}: it has learned: {}", summary.loss);

        let call = Call::default();
        let there = model.verify(&Pixels::Bytes(images(16, config.image, 2)), &call).unwrap();
        assert!(there.max_error < 1e-3 && there.pixel_mismatches == 0, "{scale:?}, image to image: {there:?}");
        // From latents at which the model is at home, by way of pixels that are not cut into bins.
        let latents = model.encode(&Pixels::Bytes(images(16, config.image, 3)), &Noise::uniform(4), &call).unwrap();
        let pixels = Pixels::Floats(model.decode_float(&latents, &call).unwrap());
        let back = model.encode(&pixels, &Noise::midpoint(), &call).unwrap();
        let wide = |values: &[f32]| values.iter().map(|&value| f64::from(value)).collect::<Vec<_>>();
        let error = relative_error(&wide(&back.data), &wide(&latents.data));
        assert!(error < 1e-3, "{scale:?}, latent to latent: off by {error:e}");
    }
}
