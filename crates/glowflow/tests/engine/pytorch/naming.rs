//! Files of every layout in random sizes, named here once more from what the projects' code says.

use std::collections::BTreeMap;

use glowflow::layers::PermutationKind;
use glowflow::models::config::Layout;
use glowflow::random::{Key, Purpose};
use glowflow::store::pytorch::{Checkpoint, Imported, NamedTensor, Peer};
use glowflow::store::safetensors::{NewTensor, write_safetensors};
use glowflow::train::OptimizerConfig;
use glowflow::{
    Call, ClassLabels, Control, CouplingKind, Error, FlowModel, ImageShape, ImportOptions, Noise, Pixels, RunData,
    TrainConfig,
};

use crate::common::{cpu, images};

/// A model of another project.
#[derive(Debug, Clone, Copy)]
struct Case {
    peer: Peer,
    size: [usize; 2],
    channels: usize,
    levels: usize,
    depth: usize,
    hidden: usize,
    affine: bool,
    lu: bool,
    learn_top: bool,
    classes: Option<usize>,
}

const RANDOM: usize = 24;

fn cases() -> impl Iterator<Item = Case> {
    (0..RANDOM).map(|index| {
        let key = Key { seed: 91, purpose: Purpose::Sample, step: 0, image: index as u64 };
        let order = key.stream().permutation(5040);
        let draw = |at: usize, count: usize| order[at] % count;
        let peer = Peer::ALL[index % 4];
        let levels = 1 + draw(0, 3);
        let knows_classes = peer != Peer::Rosinality && draw(1, 2) == 0;
        Case {
            peer,
            size: [(1 + draw(2, 2)) << levels, (1 + draw(3, 2)) << levels],
            channels: [1, 3][draw(4, 2)],
            levels,
            depth: 1 + draw(5, 3),
            hidden: 3 + draw(6, 6),
            affine: draw(7, 2) == 0,
            lu: draw(8, 2) == 0,
            learn_top: matches!(peer, Peer::Rosinality | Peer::Normflows) || draw(9, 2) == 0,
            classes: knows_classes.then(|| 2 + draw(10, 4)),
        }
    })
}

/// What a tensor holds.
#[derive(Clone, Copy)]
enum Fill {
    Small,
    /// Around 1, of either sign.
    Scale,
    Rotation,
    Permutation,
    Signs,
    Lower,
    Upper,
    One,
}

struct Writer {
    seed: u64,
    tensors: Vec<NamedTensor>,
}

impl Writer {
    fn push(&mut self, name: impl Into<String>, shape: &[usize], fill: Fill) {
        let key = Key { seed: self.seed, purpose: Purpose::Sample, step: 1, image: self.tensors.len() as u64 };
        let mut values = vec![0.0; shape.iter().product()];
        key.stream().fill_normal(0.1, &mut values);
        let size = shape.first().copied().unwrap_or(1);
        let order = key.stream().permutation(size);
        for (at, value) in values.iter_mut().enumerate() {
            let (row, column) = (at / size, at % size);
            let one = |is: bool| if is { 1.0 } else { 0.0 };
            *value = match fill {
                Fill::Small => *value,
                Fill::Scale | Fill::Signs => {
                    let sign = if *value < 0.0 { -1.0 } else { 1.0 };
                    if matches!(fill, Fill::Signs) { sign } else { sign + *value / 2.0 }
                }
                Fill::Rotation => one(order[row] == column) + *value / 4.0,
                Fill::Permutation => one(order[row] == column),
                Fill::Lower => one(column < row) * *value,
                Fill::Upper => one(column > row) * *value,
                Fill::One => 1.0,
            };
        }
        self.tensors.push(NamedTensor { name: name.into(), shape: shape.to_vec(), values });
    }

    fn factors(&mut self, [p, l, u, log_s, sign]: [String; 5], channels: usize) {
        self.push(p, &[channels; 2], Fill::Permutation);
        self.push(l, &[channels; 2], Fill::Lower);
        self.push(u, &[channels; 2], Fill::Upper);
        self.push(log_s, &[channels], Fill::Small);
        self.push(sign, &[channels], Fill::Signs);
    }
}

/// The tensors that are trained, and P and signs; flags and masks where there are some.
fn state_dict(case: &Case, seed: u64) -> Vec<NamedTensor> {
    let mut writer = Writer { seed, tensors: Vec::new() };
    let w = &mut writer;
    let Case { peer, levels, depth, hidden, .. } = *case;
    for level in 0..levels {
        let c = (4 * case.channels) << level;
        let outputs = if case.affine { c } else { c / 2 };
        let last = level + 1 == levels;
        for k in 0..depth {
            match peer {
                Peer::Rosinality => {
                    let flow = format!("blocks.{level}.flows.{k}");
                    w.push(format!("{flow}.actnorm.loc"), &[1, c, 1, 1], Fill::Small);
                    w.push(format!("{flow}.actnorm.scale"), &[1, c, 1, 1], Fill::Scale);
                    w.push(format!("{flow}.actnorm.initialized"), &[], Fill::One);
                    if case.lu || last {
                        w.factors(
                            ["w_p", "w_l", "w_u", "w_s", "s_sign"].map(|name| format!("{flow}.invconv.{name}")),
                            c,
                        );
                        w.push(format!("{flow}.invconv.l_eye"), &[c, c], Fill::One);
                    } else {
                        w.push(format!("{flow}.invconv.weight"), &[c, c, 1, 1], Fill::Rotation);
                    }
                    let net = format!("{flow}.coupling.net");
                    w.push(format!("{net}.0.weight"), &[hidden, c / 2, 3, 3], Fill::Small);
                    w.push(format!("{net}.0.bias"), &[hidden], Fill::Small);
                    w.push(format!("{net}.2.weight"), &[hidden, hidden, 1, 1], Fill::Small);
                    w.push(format!("{net}.2.bias"), &[hidden], Fill::Small);
                    w.push(format!("{net}.4.scale"), &[1, outputs, 1, 1], Fill::Small);
                    w.push(format!("{net}.4.conv.weight"), &[outputs, hidden, 3, 3], Fill::Small);
                    w.push(format!("{net}.4.conv.bias"), &[outputs], Fill::Small);
                }
                Peer::Chaiyujin | Peer::Y0ast => {
                    let step = format!("flow.layers.{}", level * (depth + 2) + 1 + k);
                    let y0ast = peer == Peer::Y0ast;
                    let (net, conv) = if y0ast { ("block", ".conv") } else { ("f", "") };
                    w.push(format!("{step}.actnorm.bias"), &[1, c, 1, 1], Fill::Small);
                    w.push(format!("{step}.actnorm.logs"), &[1, c, 1, 1], Fill::Small);
                    if case.lu {
                        let names = if y0ast {
                            ["p", "lower", "upper", "log_s", "sign_s"]
                        } else {
                            ["p", "l", "u", "log_s", "sign_s"]
                        };
                        w.factors(names.map(|name| format!("{step}.invconv.{name}")), c);
                    } else {
                        w.push(format!("{step}.invconv.weight"), &[c, c], Fill::Rotation);
                    }
                    for (index, inputs, side) in [(0, c / 2, 3), (2, hidden, 1)] {
                        let layer = format!("{step}.{net}.{index}");
                        w.push(format!("{layer}{conv}.weight"), &[hidden, inputs, side, side], Fill::Small);
                        w.push(format!("{layer}.actnorm.bias"), &[1, hidden, 1, 1], Fill::Small);
                        w.push(format!("{layer}.actnorm.logs"), &[1, hidden, 1, 1], Fill::Small);
                    }
                    let layer = format!("{step}.{net}.4");
                    w.push(format!("{layer}{conv}.weight"), &[outputs, hidden, 3, 3], Fill::Small);
                    w.push(format!("{layer}{conv}.bias"), &[outputs], Fill::Small);
                    w.push(format!("{layer}.logs"), &[outputs, 1, 1], Fill::Small);
                }
                Peer::Normflows => {
                    let block = format!("flows.{}.{}.flows", levels - 1 - level, depth - 1 - k);
                    w.push(format!("{block}.2.s"), &[1, c, 1, 1], Fill::Small);
                    w.push(format!("{block}.2.t"), &[1, c, 1, 1], Fill::Small);
                    w.push(format!("{block}.2.data_dep_init_done"), &[], Fill::One);
                    if case.lu {
                        w.factors(["P", "L", "U", "log_S", "sign_S"].map(|name| format!("{block}.1.{name}")), c);
                    } else {
                        w.push(format!("{block}.1.W"), &[c, c], Fill::Rotation);
                    }
                    let net = format!("{block}.0.flows.1.param_map.net");
                    for (index, shape) in
                        [(0, [hidden, c / 2, 3, 3]), (2, [hidden, hidden, 1, 1]), (4, [outputs, hidden, 3, 3])]
                    {
                        w.push(format!("{net}.{index}.weight"), &shape, Fill::Small);
                        w.push(format!("{net}.{index}.bias"), &shape[..1], Fill::Small);
                    }
                }
            }
        }
        let [height, width] = case.size.map(|side| side >> (level + 1));
        let gone = if last { c } else { c / 2 };
        match peer {
            Peer::Rosinality => {
                let prior = format!("blocks.{level}.prior");
                w.push(format!("{prior}.scale"), &[1, 2 * gone, 1, 1], Fill::Small);
                w.push(format!("{prior}.conv.weight"), &[2 * gone, gone, 3, 3], Fill::Small);
                w.push(format!("{prior}.conv.bias"), &[2 * gone], Fill::Small);
            }
            Peer::Chaiyujin | Peer::Y0ast => {
                let (conv, linear) = if peer == Peer::Y0ast { (".conv", ".linear") } else { ("", "") };
                let top = if peer == Peer::Y0ast { "learn_top_fn" } else { "learn_top" };
                let mut zero_conv = |name: String, outputs: usize, inputs: usize| {
                    w.push(format!("{name}{conv}.weight"), &[outputs, inputs, 3, 3], Fill::Small);
                    w.push(format!("{name}{conv}.bias"), &[outputs], Fill::Small);
                    w.push(format!("{name}.logs"), &[outputs, 1, 1], Fill::Small);
                };
                if !last {
                    zero_conv(format!("flow.layers.{}.conv", level * (depth + 2) + 1 + depth), c, c / 2);
                } else if case.learn_top {
                    zero_conv(top.into(), 2 * c, 2 * c);
                }
                if let (true, Some(classes)) = (last, case.classes) {
                    for (name, outputs, inputs) in [("project_ycond", 2 * c, classes), ("project_class", classes, c)] {
                        w.push(format!("{name}{linear}.weight"), &[outputs, inputs], Fill::Small);
                        w.push(format!("{name}{linear}.bias"), &[outputs], Fill::Small);
                        w.push(format!("{name}.logs"), &[outputs], Fill::Small);
                    }
                }
            }
            Peer::Normflows => {
                let base = format!("q0.{}", levels - 1 - level);
                if let Some(classes) = case.classes {
                    for name in ["loc", "log_scale"] {
                        w.push(format!("{base}.{name}"), &[gone, height, width, classes], Fill::Small);
                    }
                } else {
                    for name in ["loc", "loc_logs", "log_scale", "log_scale_logs"] {
                        w.push(format!("{base}.{name}"), &[1, gone, 1, 1], Fill::Small);
                    }
                }
            }
        }
    }
    if peer == Peer::Chaiyujin {
        writer.push("prior_h", &[1], Fill::Small);
    }
    writer.tensors
}

fn write(tensors: &[NamedTensor]) -> tempfile::TempPath {
    let path = tempfile::Builder::new().suffix(".safetensors").tempfile().unwrap().into_temp_path();
    let named = tensors.iter().map(|t| NewTensor::floats(t.name.clone(), t.shape.clone(), &t.values));
    write_safetensors(&path, named, &BTreeMap::new()).unwrap();
    path
}

fn call(case: &Case, count: usize) -> Call {
    let of = |classes: usize| ClassLabels::Each((0..count).map(|image| (image % classes) as u32).collect());
    Call { labels: case.classes.map(of), ..Call::default() }
}

#[test]
fn files_of_any_size_are_imported_whole_and_invert() {
    for (index, case) in cases().enumerate() {
        let tensors = state_dict(&case, index as u64);
        let path = write(&tensors);
        let options = ImportOptions::of_size(case.size);
        let imported = Imported::read(&path, case.peer, &options).unwrap_or_else(|error| panic!("{case:?}: {error}"));
        let config = imported.config.clone();
        let (coupling, permutation) = (
            if case.affine { CouplingKind::Affine } else { CouplingKind::Additive },
            // The last block of rosinality's code has factors whatever is asked for: of one block nothing else is known.
            if case.lu || (case.peer == Peer::Rosinality && case.levels == 1) {
                PermutationKind::Conv1x1Lu
            } else {
                PermutationKind::Conv1x1
            },
        );
        let layout = match case.peer {
            Peer::Rosinality => Layout::Rosinality,
            Peer::Chaiyujin | Peer::Y0ast => Layout::Chaiyujin,
            Peer::Normflows => Layout::Normflows,
        };
        assert_eq!(config.image, ImageShape { height: case.size[0], width: case.size[1], channels: case.channels });
        assert_eq!((config.levels, config.depth, config.hidden), (case.levels, case.depth, case.hidden), "{case:?}");
        assert_eq!((config.coupling, config.permutation, config.layout), (coupling, permutation, layout), "{case:?}");
        assert_eq!((config.learn_top, config.classes), (case.learn_top, case.classes), "{case:?}");
        let has_classifier = case.classes.is_some() && layout == Layout::Chaiyujin;
        assert_eq!(config.classifier_weight > 0.0, has_classifier, "{case:?}");

        let report = &imported.report;
        assert!(report.missing.is_empty() && report.unused.is_empty(), "{case:?}: {report:?}");
        assert_eq!(report.applied.len() + report.constant.len(), tensors.len());
        // Back again every tensor is what it was.
        let back = case.peer.export(&config, &imported.tensors);
        assert_eq!(back.len(), report.applied.len());
        for tensor in back {
            let truth = tensors.iter().find(|truth| truth.name == tensor.name).expect("a name of the file");
            assert_eq!((&tensor.shape, &tensor.values), (&truth.shape, &truth.values), "{case:?}: {}", tensor.name);
        }

        let model = FlowModel::import(&path, case.peer, &options, &cpu()).unwrap().model;
        assert!(model.initialized());
        let pixels = images(3, config.image, 4);
        let call = call(&case, 3);
        let latents = model.encode(&Pixels::Bytes(pixels.clone()), &Noise::midpoint(), &call).unwrap();
        let found = model.decode(&latents, &call).unwrap();
        let kept = 255u8 << (8 - config.bits);
        let truth: Vec<u8> = pixels.data.iter().map(|&value| value & kept).collect();
        assert_eq!(found.data, truth, "{case:?}");
    }
}

#[test]
fn training_goes_on_in_every_layout() {
    for peer in Peer::ALL {
        let case = Case {
            peer,
            size: [8, 8],
            channels: 1,
            levels: 2,
            depth: 2,
            hidden: 6,
            affine: true,
            lu: peer == Peer::Y0ast,
            learn_top: true,
            classes: (peer != Peer::Rosinality).then_some(3),
        };
        let path = write(&state_dict(&case, 7));
        let model = FlowModel::import(&path, peer, &ImportOptions::of_size(case.size), &cpu()).unwrap().model;
        let pixels = images(16, model.config().image(), 4);
        let labels = case.classes.map(|classes| (0..16).map(|image| (image % classes) as u32).collect());
        let names = case.classes.map(|classes| (0..classes).map(|class| class.to_string()).collect());
        let data = glowflow::data::InMemory::new(pixels.clone(), labels, names).unwrap();
        let call = call(&case, 16);
        let score =
            |model: &FlowModel| model.bits_per_dim(&Pixels::Bytes(pixels.clone()), &Noise::midpoint(), &call).unwrap();
        let before = score(&model);
        let optimizer = OptimizerConfig { learning_rate: 3e-3, ..OptimizerConfig::default() };
        let options = TrainConfig { steps: Some(20), batch_size: 16, warmup: 0, optimizer, ..TrainConfig::default() };
        model.train(RunData::of(std::sync::Arc::new(data)), options, None, &Control::new(), &mut |_| {}).unwrap();
        let after = score(&model);
        let mean = |bits: &[f64]| bits.iter().sum::<f64>() / bits.len() as f64;
        assert!(mean(&after) < mean(&before) - 0.02, "{peer:?}: {} to {}", mean(&before), mean(&after));
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("model.safetensors");
        model.save(&file).unwrap();
        let loaded = FlowModel::load(&file, &cpu()).unwrap();
        assert_eq!((loaded.config(), loaded.step()), (model.config(), 20));
        assert_eq!(score(&loaded), after);
    }
}

#[test]
fn options_say_what_weights_cannot() {
    use glowflow::store::pytorch::InputRange;
    let case = cases().find(|case| case.peer == Peer::Y0ast).unwrap();
    let path = write(&state_dict(&case, 3));
    let plain = ImportOptions::of_size(case.size);
    let import =
        |options: &ImportOptions| FlowModel::import(&path, case.peer, options, &cpu()).map(|found| found.model);
    let pixels = images(2, import(&plain).unwrap().config().image(), 3);
    let call = call(&case, 2);
    let encoded = |model: FlowModel, pixels: glowflow::FloatImages| {
        model.encode(&Pixels::Floats(pixels), &Noise::midpoint(), &call).unwrap().data
    };
    let floats = |shift: f32| {
        let data = pixels.data.iter().map(|&value| f32::from(value) + shift).collect();
        glowflow::FloatImages::new(data, pixels.count, pixels.shape).unwrap()
    };
    // An owner whose pixels were in [0, 1) had the same network see values that are a half higher.
    let unit = import(&ImportOptions { input_range: InputRange::Unit, ..plain.clone() }).unwrap();
    let found = encoded(unit, floats(0.0));
    let truth = encoded(import(&plain).unwrap(), floats(128.0));
    let worst = found.iter().zip(&truth).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst < 1e-4, "{worst}");
    assert_eq!(import(&ImportOptions { bits: 3, ..plain.clone() }).unwrap().config().bits(), 3);
    let error = import(&ImportOptions { bits: 9, ..plain }).unwrap_err();
    assert!(matches!(&error, Error::Option { option, .. } if option == "bits"), "{error}");
}

#[test]
fn a_model_that_does_not_fit_is_refused_with_the_estimate() {
    // One tensor of a wide level, from which the sizes of the others follow: petabytes.
    let case = Case {
        peer: Peer::Rosinality,
        size: [1024, 1024],
        channels: 3,
        levels: 1,
        depth: 1,
        hidden: 8192,
        affine: true,
        lu: true,
        learn_top: true,
        classes: None,
    };
    let tensor = |name: String, shape: Vec<usize>| {
        let values = vec![1.0; shape.iter().product()];
        NamedTensor { name, shape, values }
    };
    let mut tensors = vec![
        tensor("blocks.0.flows.0.actnorm.loc".into(), vec![1, 12, 1, 1]),
        tensor("blocks.9.flows.1023.actnorm.loc".into(), vec![1, 12 << 9, 1, 1]),
        tensor("blocks.0.flows.0.coupling.net.0.weight".into(), vec![case.hidden, 6, 3, 3]),
        tensor("blocks.0.flows.0.coupling.net.4.conv.weight".into(), vec![12, case.hidden, 3, 3]),
    ];
    let import = |tensors: &[NamedTensor]| {
        let options = ImportOptions { partial: true, ..ImportOptions::of_size(case.size) };
        FlowModel::import(&write(tensors), Peer::Rosinality, &options, &cpu()).unwrap_err()
    };
    let error = import(&tensors);
    assert!(matches!(error, Error::OutOfMemory { needed, available, .. } if needed > available), "{error:?}");
    tensors[0].shape = vec![12];
    assert!(matches!(import(&tensors), Error::Weights { .. }));
}

#[test]
fn a_partial_import_keeps_what_a_new_model_has() {
    let case = cases().find(|case| case.peer == Peer::Rosinality && case.levels > 1).unwrap();
    let mut tensors = state_dict(&case, 5);
    let name = "blocks.0.prior.conv.bias";
    tensors.retain(|tensor| tensor.name != name);
    let path = write(&tensors);
    let options = ImportOptions::of_size(case.size);
    let error = FlowModel::import(&path, case.peer, &options, &cpu()).unwrap_err();
    assert!(matches!(&error, Error::Weights { report: Some(report), .. } if report.missing[0].name == name), "{error}");
    let found = FlowModel::import(&path, case.peer, &ImportOptions { partial: true, ..options }, &cpu()).unwrap();
    assert_eq!(found.report.missing.len(), 1);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.pt");
    found.model.export_rosinality(&file).unwrap();
    let back = Checkpoint::read(&file).unwrap();
    let bias = back.tensors.iter().find(|tensor| tensor.name == name).unwrap();
    assert!(bias.values.iter().all(|&value| value == 0.0));
}
