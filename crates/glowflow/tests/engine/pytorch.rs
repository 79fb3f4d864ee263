//! Other projects' models: what is imported gives the likelihoods that their own code has given.
//!
//! Each layout is said here once more, in Glow's own parameters: the same map and density, found another way.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use glowflow::layers::PermutationKind;
use glowflow::store::pytorch::{EngineTensor, Imported, Numbers, Peer};
use glowflow::store::safetensors::{Dtype, NewTensor, SafeFile, write_safetensors};
use glowflow::{Call, FloatImages, FlowModel, ImageShape, Noise, Pixels};

use crate::common::cpu;

fn fixture(name: &str, file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/peers").join(name).join(file)
}

/// The tensors of a Glow model that computes the same.
struct Lowered(BTreeMap<String, (Vec<usize>, Numbers)>);

impl Lowered {
    fn floats(&self, name: &str) -> Option<Vec<f32>> {
        match self.0.get(name) {
            Some((_, Numbers::Floats(values))) => Some(values.clone()),
            _ => None,
        }
    }

    fn set(&mut self, name: &str, shape: Vec<usize>, values: Vec<f32>) {
        self.0.insert(name.to_owned(), (shape, Numbers::Floats(values)));
    }

    /// A vector, zeros where there is none.
    fn vector(&mut self, name: &str, len: usize, change: impl Fn(f32) -> f32) {
        let values = self.floats(name).map_or(vec![0.0; len], |values| values.into_iter().map(change).collect());
        self.set(name, vec![len], values);
    }

    /// The matrix of a permutation's factors in their place.
    fn multiply_out(&mut self, permutation: &str, size: usize) {
        let packed = self.floats(&format!("{permutation}.weight")).unwrap();
        let mut integers = |field: &str| match self.0.remove(&format!("{permutation}.{field}")) {
            Some((_, Numbers::Integers(values))) => values,
            _ => panic!("{permutation} has no {field}"),
        };
        let (order, signs) = (integers("order"), integers("signs"));
        let value = |row: usize, column: usize| f64::from(packed[row * size + column]);
        let entry = |at: usize| {
            let (row, column) = (order[at / size] as usize, at % size);
            let lower = |k: usize| if k < row { value(row, k) } else { 1.0 };
            let upper = |k: usize| if k < column { value(k, column) } else { f64::from(signs[k]) * value(k, k).exp() };
            (0..=row.min(column)).map(|k| lower(k) * upper(k)).sum::<f64>() as f32
        };
        self.set(&format!("{permutation}.weight"), vec![size, size], (0..size * size).map(entry).collect());
    }

    /// The edge weights that give a convolution the effect of padding with ones: the sums over its inputs.
    fn ones_around(&mut self, conv: &str) {
        let (shape, _) = self.0[&format!("{conv}.weight")].clone();
        let weight = self.floats(&format!("{conv}.weight")).unwrap();
        let (columns, outputs) = (shape[1], shape[1] / 9);
        let edge = |at: usize| {
            let (output, tap) = (at / 9, at % 9);
            weight.chunks_exact(columns).map(|row| row[tap * outputs + output]).sum()
        };
        self.set(&format!("{conv}.edge"), vec![outputs, 9], (0..columns).map(edge).collect());
    }
}

fn lowered(imported: &Imported, peer: Peer) -> Lowered {
    let tensors = imported.tensors.iter();
    let mut glow = Lowered(
        tensors
            .map(|(name, EngineTensor { shape, numbers })| (name.clone(), (shape.clone(), numbers.clone())))
            .collect(),
    );
    let config = &imported.config;
    let ones = peer == Peer::Rosinality;
    for level in 0..config.levels {
        let [_, _, channels] = config.level_shape(level);
        for k in 0..config.depth {
            let step = format!("levels.{level}.steps.{k}");
            let scale = glow.floats(&format!("{step}.mix.actnorm.scale")).unwrap();
            let log_scale = |s: f32| if ones { s.ln() / 3.0 } else { s / 3.0 };
            glow.0.remove(&format!("{step}.mix.actnorm.scale"));
            let log_scale = scale.into_iter().map(log_scale).collect();
            glow.set(&format!("{step}.mix.actnorm.log_scale"), vec![channels], log_scale);
            let permutation = format!("{step}.mix.permutation");
            if config.permutation == PermutationKind::Conv1x1 && glow.0.contains_key(&format!("{permutation}.order")) {
                glow.multiply_out(&permutation, channels);
            }
            for part in ["first", "middle"] {
                let norm = format!("{step}.coupling.net.{part}.norm");
                glow.vector(&format!("{norm}.scale"), config.hidden, |s| s / 3.0);
                let scale = glow.0.remove(&format!("{norm}.scale")).unwrap();
                glow.0.insert(format!("{norm}.log_scale"), scale);
            }
            glow.vector(&format!("{step}.coupling.net.last.log_scale"), channels, |s| s);
            if ones {
                let edge = format!("{step}.coupling.net.first.edge");
                glow.set(&edge, vec![config.hidden, 9], vec![0.0; 9 * config.hidden]);
                glow.ones_around(&format!("{step}.coupling.net.last"));
            }
        }
        let last = level + 1 == config.levels;
        let (ours, prior) = if last {
            ("top".to_owned(), "top.learned".to_owned())
        } else {
            (format!("levels.{level}.split"), format!("levels.{level}.split.prior"))
        };
        if let Some(mean) = glow.floats(&format!("{ours}.constant.mean")) {
            let mut take = |field: &str| {
                let name = format!("{ours}.constant.{field}");
                let values = glow.floats(&name).unwrap();
                glow.0.remove(&name);
                values
            };
            let scaled = |values: Vec<f32>, logs: Vec<f32>| -> Vec<f32> {
                values.iter().zip(logs).map(|(value, log)| value * (3.0 * log).exp()).collect()
            };
            take("mean");
            let mean = scaled(mean, take("mean_scale"));
            let deviation = scaled(take("log_deviation"), take("log_deviation_scale"));
            let outputs = 2 * mean.len();
            let bias = if last {
                [mean, deviation].concat()
            } else {
                mean.into_iter().zip(deviation).flat_map(|(mean, deviation)| [mean, deviation]).collect()
            };
            let inputs = if last { outputs } else { outputs / 2 };
            glow.set(&format!("{prior}.weight"), vec![inputs, 9 * outputs], vec![0.0; inputs * 9 * outputs]);
            glow.set(&format!("{prior}.bias"), vec![outputs], bias);
            glow.set(&format!("{prior}.log_scale"), vec![outputs], vec![0.0; outputs]);
        }
        if ones {
            glow.ones_around(&prior);
            if last {
                // Its convolution has half as many inputs as ours, all of them 0.
                let mut weight = glow.floats(&format!("{prior}.weight")).unwrap();
                weight.resize(2 * weight.len(), 0.0);
                glow.set(&format!("{prior}.weight"), vec![2 * channels, 18 * channels], weight);
            }
        }
    }
    glow
}

fn model(imported: &Imported, peer: Peer) -> FlowModel {
    let mut config = imported.config.clone();
    config.edge_bias = peer == Peer::Rosinality;
    let mut template = FlowModel::create(config.clone(), &cpu()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    template.save(&path).unwrap();
    let metadata = {
        let file = SafeFile::open(&path).unwrap();
        let keys = ["format", "version", "model", "config", "initialized", "step"];
        let mut metadata = BTreeMap::from(keys.map(|key| (key.to_owned(), file.metadata(key).unwrap().to_owned())));
        metadata.insert("initialized".into(), "true".into());
        metadata
    };
    let mut tensors: BTreeMap<String, NewTensor> = BTreeMap::new();
    for (name, (shape, numbers)) in lowered(imported, peer).0 {
        let tensor = match numbers {
            Numbers::Floats(values) => NewTensor::floats(name.clone(), shape, &values),
            Numbers::Integers(values) => NewTensor {
                name: name.clone(),
                dtype: Dtype::I32,
                shape,
                data: values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>().into(),
            },
        };
        tensors.insert(name, tensor);
    }
    write_safetensors(&path, tensors.into_values(), &metadata).unwrap();
    template = FlowModel::load(&path, &cpu()).unwrap();
    template
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

#[test]
fn imported_models_give_the_likelihoods_of_their_own_code() {
    for (name, peer) in [
        ("ros_affine_lu_small", Peer::Rosinality),
        ("ros_affine_nolu", Peer::Rosinality),
        ("chai_affine_nolu", Peer::Chaiyujin),
        ("y0ast_affine_lu", Peer::Y0ast),
        ("nf_glow_lu", Peer::Normflows),
    ] {
        let mut imported = Imported::read(&fixture(name, "model.pt"), peer, [16, 16], false).unwrap();
        if peer == Peer::Normflows {
            // The fixture was run on pixels less a half, as the others; the project's own examples take [0, 1).
            let bias = imported.tensors.get_mut("levels.0.steps.0.mix.actnorm.bias").unwrap();
            let Numbers::Floats(bias) = &mut bias.numbers else { panic!("a bias is trained") };
            bias.iter_mut().for_each(|bias| *bias -= 0.5);
        }
        let model = model(&imported, peer);
        let io = SafeFile::open(&fixture(name, "io.safetensors")).unwrap();
        let (bytes, noise) = (numbers(&io, "x_u8"), numbers(&io, "u"));
        let shape = ImageShape { height: 16, width: 16, channels: 3 };
        let channels_first = |at: usize| (at / 768 * 3 + at % 3) * 256 + at / 3 % 256;
        let data = (0..bytes.len()).map(channels_first).map(|at| (bytes[at] + noise[at]) as f32).collect();
        let images = FloatImages::new(data, bytes.len() / 768, shape).unwrap();
        let found = model.bits_per_dim(&Pixels::Floats(images), &Noise::midpoint(), &Call::default()).unwrap();
        for (found, truth) in found.iter().zip(numbers(&io, "f64.bpd_8bit")) {
            assert!((found - truth).abs() < 2e-6, "{name}: {found} instead of {truth}");
        }
    }
}
