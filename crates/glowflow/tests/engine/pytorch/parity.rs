//! Every number that other projects' own code has computed, held to what our models compute with the same weights.
//!
//! The table of `docs/import.md` is what this prints.

use std::collections::BTreeMap;
use std::f64::consts::LN_2;
use std::path::Path;

use burn::tensor::{Device as BurnDevice, Tensor, TensorData};
use glowflow::data::{Continuous, Dataset, PrefetchedBatch};
use glowflow::flow::{Gradients, Invertible, Layer, Mode, named_parameters};
use glowflow::layers::Rearrange;
use glowflow::models::glow::Glow;
use glowflow::models::network::Network;
use glowflow::store::pytorch::{Checkpoint, EngineTensor, EngineTensors, ImportOptions, Numbers, Peer};
use glowflow::store::safetensors::{Dtype, SafeFile};
use glowflow::train::{Activations, Identity, Optimizer, Trainer, Weights};
use glowflow::{
    Call, Dequantize, FloatImages, FlowModel, GlowConfig, ImageShape, Images, ModelConfig, Noise, Pixels, TrainConfig,
    store,
};

use super::{FIXTURES, Fixture};
use crate::common::{cpu, relative_error, values};

const SHAPE: ImageShape = ImageShape { height: 16, width: 16, channels: 3 };

/// What is told apart in the table.
const COLUMNS: [&str; 9] = [
    "bits/dim, 8 bits",
    "bits/dim, 5 bits",
    "log-dets",
    "latents",
    "layers",
    "samples",
    "reconstruction",
    "gradients",
    "losses of 10 steps",
];

/// The largest relative difference of each kind.
#[derive(Default)]
struct Row([f64; COLUMNS.len()]);

impl Row {
    fn compare(&mut self, column: &str, found: &[f64], truth: &[f64]) {
        let at = COLUMNS.iter().position(|name| *name == column).unwrap();
        let error = relative_error(found, truth);
        assert!(error < 1e-4, "{column}: {error:e}");
        self.0[at] = self.0[at].max(error);
    }
}

fn numbers(file: &SafeFile, name: &str) -> Vec<f64> {
    let tensor = file.tensor(name).unwrap();
    match tensor.dtype {
        Dtype::U8 => tensor.data.iter().map(|&byte| f64::from(byte)).collect(),
        Dtype::F32 => tensor.data.as_chunks().0.iter().map(|&bytes| f64::from(f32::from_le_bytes(bytes))).collect(),
        Dtype::F64 => tensor.data.as_chunks().0.iter().map(|&bytes| f64::from_le_bytes(bytes)).collect(),
        other => panic!("{name} is of {other:?}"),
    }
}

/// `[batch, channels, height, width]` as `[batch, height, width, channels]`.
fn channels_last(file: &SafeFile, name: &str) -> Tensor<4> {
    let &[batch, channels, height, width] = file.tensor(name).unwrap().shape else { panic!("{name} is no batch") };
    let data = TensorData::new(
        numbers(file, name).into_iter().map(|value| value as f32).collect::<Vec<_>>(),
        [batch, channels, height, width],
    );
    Tensor::<4>::from_data(data, &BurnDevice::flex()).permute([0, 2, 3, 1])
}

fn channels_first(x: Tensor<4>) -> Vec<f64> {
    values(x.permute([0, 3, 1, 2]))
}

/// Names of a step's actnorm, 1x1 convolution and coupling in the trace.
fn traced(peer: Peer, config: &GlowConfig, level: usize, k: usize) -> [String; 3] {
    match peer {
        Peer::Rosinality => {
            ["actnorm", "invconv", "coupling"].map(|part| format!("blocks.{level}.flows.{k}.{part}.out"))
        }
        Peer::Chaiyujin | Peer::Y0ast => {
            let layer = level * (config.depth + 2) + 1 + k;
            [".actnorm", ".invconv", ""].map(|part| format!("flow.layers.{layer}{part}.out"))
        }
        Peer::Normflows => {
            let block = format!("flows.{}.{}", config.levels - 1 - level, config.depth - 1 - k);
            [2, 1, 0].map(|part| format!("{block}.flows.{part}.out"))
        }
    }
}

/// Our index of a level's latents in a project's list.
fn latent(peer: Peer, config: &GlowConfig, level: usize) -> usize {
    if peer == Peer::Normflows { config.levels - 1 - level } else { level }
}

/// Runs the layers one by one: outputs, raw latents, log-determinants.
fn layers(row: &mut Row, fixture: &Fixture, config: &GlowConfig, glow: &Glow, io: &SafeFile) {
    let trace = SafeFile::open(&fixture.file("trace.safetensors")).unwrap();
    let mut x = channels_last(io, "x");
    let mut log_det = vec![0.0; 2];
    for (l, level) in glow.levels.iter().enumerate() {
        x = Rearrange::Squeeze.forward(x);
        let [_, height, width, channels] = x.dims();
        for (k, step) in level.steps.iter().enumerate() {
            let [actnorm, mix, coupling] = traced(fixture.peer, config, l, k);
            let by_channel = |values: Tensor<1>| values.reshape([1, 1, 1, channels]);
            let normed = (x.clone() + by_channel(step.mix.actnorm.bias.val())) * by_channel(step.mix.actnorm.scale());
            row.compare("layers", &channels_first(normed), &numbers(&trace, &actnorm));
            let step = step.prepare("step", Mode::Evaluation.into()).unwrap();
            let mixed = step.mix.forward(x);
            row.compare("layers", &channels_first(mixed.z.clone()), &numbers(&trace, &mix));
            let out = step.coupling.forward(mixed.z);
            row.compare("layers", &channels_first(out.z.clone()), &numbers(&trace, &coupling));
            for log_dets in [mixed.log_det, out.log_det] {
                log_det.iter_mut().zip(values(log_dets)).for_each(|(sum, log_det)| *sum += log_det);
            }
            x = out.z;
        }
        let gone = if level.split.is_some() {
            let gone = x.clone().slice([0..2, 0..height, 0..width, channels / 2..channels]);
            x = x.slice([0..2, 0..height, 0..width, 0..channels / 2]);
            gone
        } else {
            x.clone()
        };
        let truth = numbers(io, &format!("f64.z{}", latent(fixture.peer, config, l)));
        row.compare("latents", &channels_first(gone), &truth);
    }
    row.compare("log-dets", &log_det, &numbers(io, "f64.logdet"));
}

/// Bits per dimension of 8-bit images by a model's own call, the noise being the fixture's.
fn likelihoods(row: &mut Row, fixture: &Fixture, file: &Path, io: &SafeFile) {
    let (bytes, noise) = (numbers(io, "x_u8"), numbers(io, "u"));
    let from = |at: usize| (at / 768 * 3 + at % 3) * 256 + at / 3 % 256;
    let data: Vec<u8> = (0..bytes.len()).map(|at| bytes[from(at)] as u8).collect();
    let images = Pixels::Bytes(Images::new(data, bytes.len() / 768, SHAPE).unwrap());
    for (bits, column) in [(8, "bits/dim, 8 bits"), (5, "bits/dim, 5 bits")] {
        // The same point of space as of 8 bits: a bin of 5 bits is 8 of those.
        let bin = 2f64.powi(8 - bits);
        let place = |at: usize| ((bytes[from(at)] % bin + noise[from(at)]) / bin) as f32;
        let dequantize = Dequantize::Given((0..bytes.len()).map(place).collect());
        let noise = Noise { dequantize, seed: 0, draws: 1 };
        let options = ImportOptions { bits: bits as u32, ..ImportOptions::of_size([16, 16]) };
        let model = FlowModel::import(file, fixture.peer, &options, &cpu()).unwrap().model;
        let found = model.bits_per_dim(&images, &noise, &Call::default()).unwrap();
        let truth: Vec<f64> =
            numbers(io, "f64.bpd_8bit").into_iter().map(|truth| truth - 8.0 + f64::from(bits)).collect();
        row.compare(column, &found, &truth);
        if bits == 5 {
            row.compare(column, &found, &numbers(io, "bpd_5bit"));
        }
    }
}

/// Gradients by their names there, all of them.
fn gradients(row: &mut Row, fixture: &Fixture, config: &GlowConfig, network: &Network, io: &SafeFile) {
    let model = ModelConfig::from(config.clone());
    let chain = network.chain(&model, Mode::Training);
    let tape = chain.forward(channels_last(io, "x"), None, Activations::Stored).unwrap();
    let weight = -1.0 / (2.0 * SHAPE.dims() as f64 * LN_2);
    let mut found = Gradients::default();
    chain.backward(tape, &Tensor::full([2], weight, &BurnDevice::flex()), &mut found).unwrap();
    let parameters = named_parameters(network).into_iter().filter_map(|parameter| {
        let values: Vec<f32> = values(found.get(parameter.id)?.clone()).into_iter().map(|value| value as f32).collect();
        Some((parameter.name, EngineTensor { shape: parameter.shape, numbers: Numbers::Floats(values) }))
    });
    let mut ours: EngineTensors = parameters.collect();
    for level in 0..config.levels {
        let [_, _, channels] = config.level_shape(level);
        for k in 0..config.depth {
            // P and the signs are not trained: any will do where only gradients are wanted.
            let permutation = format!("levels.{level}.steps.{k}.mix.permutation");
            for (field, values) in [("order", (0..channels as i32).collect()), ("signs", vec![1; channels])] {
                let tensor = EngineTensor { shape: vec![channels], numbers: Numbers::Integers(values) };
                ours.insert(format!("{permutation}.{field}"), tensor);
            }
        }
    }
    let theirs: BTreeMap<String, Vec<f64>> = fixture
        .peer
        .export(config, &ours)
        .into_iter()
        .map(|tensor| (tensor.name, tensor.values.into_iter().map(f64::from).collect()))
        .collect();
    let truth = SafeFile::open(&fixture.file("grads.safetensors")).unwrap();
    let names = truth.names();
    assert!(names.len() > 50);
    for name in names {
        let found = theirs.get(&name).unwrap_or_else(|| panic!("no gradient of {name}"));
        row.compare("gradients", found, &numbers(&truth, &name));
    }
}

/// Losses of Adam's first steps, by the trainer itself.
fn training(row: &mut Row, fixture: &Fixture, config: &GlowConfig, network: &Network, io: &SafeFile) {
    let meta: serde_json::Value =
        serde_json::from_slice(&std::fs::read(fixture.file("meta.json")).unwrap()).expect("JSON");
    let truth: Vec<f64> =
        meta["adam_lr1e3_losses"].as_array().unwrap().iter().map(|loss| loss.as_f64().unwrap()).collect();
    assert_eq!(truth.len(), 10);
    // Continuous values: no noise is added to them.
    let x = values(channels_last(io, "x")).into_iter().map(|x| ((x + 0.5) * 256.0) as f32).collect();
    let data = Continuous::new(FloatImages::new(x, 2, SHAPE).unwrap(), None).unwrap();
    let options = TrainConfig { clip_norm: 1e9, batch_size: 2, ..TrainConfig::default() };
    let optimizer = Optimizer::new(options.optimizer.clone());
    let model = ModelConfig::from(config.clone());
    let mut trainer = Trainer::new(&options, &model, Activations::Constant, optimizer, Box::new(Identity));
    let (mut network, device) = (network.clone(), BurnDevice::flex());
    let mut found = Vec::new();
    for step in 1..=10 {
        let batch = PrefetchedBatch { step, batch: data.batch(&[0, 1]).unwrap(), indices: vec![0, 1] };
        trainer.accumulate(&network, batch, &device).unwrap();
        trainer.update(Weights { network: &mut network, average: &mut None }, 1e-3, step, &device).unwrap();
        found.push(trainer.outcomes(&network, true, &device).unwrap().found[0].loss);
    }
    row.compare("losses of 10 steps", &found, &truth);
}

fn parity(fixture: &Fixture, file: &str) -> Row {
    let mut row = Row::default();
    let path = fixture.file(file);
    let io = SafeFile::open(&fixture.file("io.safetensors")).unwrap();
    likelihoods(&mut row, fixture, &path, &io);

    let options = ImportOptions::of_size([16, 16]);
    let imported = FlowModel::import(&path, fixture.peer, &options, &cpu()).unwrap();
    let report = imported.report;
    assert!(report.missing.is_empty() && report.unused.is_empty(), "{report:?}");
    assert_eq!(report.applied.len() + report.constant.len(), Checkpoint::read(&path).unwrap().tensors.len());
    let folder = tempfile::tempdir().unwrap();
    let saved = folder.path().join("model.safetensors");
    imported.model.save(&saved).unwrap();
    let stored = store::model::read(&saved, &BurnDevice::flex()).unwrap();
    assert!(stored.initialized);
    let (ModelConfig::Glow(config), Network::Glow(glow)) = (&stored.config, &stored.network) else { panic!() };

    layers(&mut row, fixture, config, glow, &io);
    let chain = stored.network.chain(&stored.config, Mode::Evaluation);
    let scales = 0..config.levels;
    let eps = scales.map(|level| channels_last(&io, &format!("eps{}", latent(fixture.peer, config, level))));
    let sample = chain.decode(eps.clone().collect(), None).unwrap();
    row.compare("samples", &channels_first(sample.clone()), &numbers(&io, "f64.sample"));
    for (found, eps) in chain.encode(sample, None).unwrap().latents.into_iter().zip(eps) {
        row.compare("latents", &values(found), &values(eps));
    }
    let encoded = chain.encode(channels_last(&io, "x"), None).unwrap().latents;
    let back = channels_first(chain.decode(encoded, None).unwrap());
    row.compare("reconstruction", &back, &numbers(&io, "x_reconstructed"));
    row.compare("reconstruction", &back, &numbers(&io, "x"));
    gradients(&mut row, fixture, config, &stored.network, &io);
    training(&mut row, fixture, config, &stored.network, &io);
    row
}

#[test]
fn imported_models_compute_what_their_own_code_does() {
    println!("| model | file | {} |", COLUMNS.join(" | "));
    println!("| --- | --- |{}", " --- |".repeat(COLUMNS.len()));
    for fixture in &FIXTURES {
        for file in fixture.files {
            let row = parity(fixture, file);
            let cells: Vec<String> = row.0.iter().map(|error| format!("{error:.0e}")).collect();
            println!("| {} | {file} | {} |", fixture.name, cells.join(" | "));
        }
    }
}
