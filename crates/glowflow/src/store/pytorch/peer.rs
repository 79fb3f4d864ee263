//! The projects whose weights are understood.

use std::f64::consts::LN_2;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::archive::{Checkpoint, NamedTensor};
use super::chaiyujin::CHAIYUJIN;
use super::layout::{EngineTensors, Entry, Numbers};
use super::normflows::NORMFLOWS;
use super::pickle::shortened;
use super::rosinality::ROSINALITY;
use super::weights::{Report, Weights};
use super::y0ast::Y0AST;
use crate::error::{Error, Result};
use crate::images::ImageShape;
use crate::layers::PermutationKind;
use crate::models::config::Layout;
use crate::models::{CouplingKind, GlowConfig, ModelConfig, ScaleKind};

/// Steps of a level that are looked at, more than a model may have.
pub(super) const MOST_STEPS: usize = 1 << 11;
/// What pixels in [0, 1) are above ours.
const UNIT_OFFSET: f32 = 0.5;
/// Where pixels enter a model.
const FIRST_BIAS: &str = "levels.0.steps.0.mix.actnorm.bias";

/// A project whose models can be imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Peer {
    /// rosinality/glow-pytorch.
    Rosinality,
    /// y0ast/Glow-PyTorch.
    Y0ast,
    /// chaiyujin/glow-pytorch.
    Chaiyujin,
    /// normflows, the multi-scale Glow of its examples.
    Normflows,
}

impl Peer {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Rosinality, Self::Y0ast, Self::Chaiyujin, Self::Normflows];

    /// The name in options and sentences.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rosinality => "rosinality",
            Self::Y0ast => "y0ast",
            Self::Chaiyujin => "chaiyujin",
            Self::Normflows => "normflows",
        }
    }

    fn naming(self) -> &'static Naming {
        match self {
            Self::Rosinality => &ROSINALITY,
            Self::Y0ast => &Y0AST,
            Self::Chaiyujin => &CHAIYUJIN,
            Self::Normflows => &NORMFLOWS,
        }
    }

    /// The project whose names a checkpoint has.
    pub fn of(checkpoint: &Checkpoint) -> Option<Self> {
        let weights = Weights::of(checkpoint);
        Self::ALL.into_iter().find(|peer| (peer.naming().read)(&weights).is_some())
    }

    /// Their tensors from ours, of a model in this project's layout, or their gradients from ours. Tensors that take
    /// some of ours that are not there are left out, and so are masks and flags.
    pub fn export(self, config: &GlowConfig, tensors: &EngineTensors) -> Vec<NamedTensor> {
        let ImageShape { height, width, .. } = config.image;
        let entries = (self.naming().entries)(&Architecture::of(config), [height, width]);
        entries.iter().filter_map(|entry| entry.export(tensors)).flatten().collect()
    }
}

impl std::str::FromStr for Peer {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let known = || Self::ALL.map(|peer| format!("\"{}\"", peer.name())).join(" or ");
        Self::ALL
            .into_iter()
            .find(|peer| peer.name() == name)
            .ok_or_else(|| Error::option("layout", known(), format!("{name:?}")))
    }
}

/// Where the pixels of a model's owner were.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InputRange {
    /// In [-0.5, 0.5), as ours.
    Centred,
    /// In [0, 1).
    Unit,
}

impl std::str::FromStr for InputRange {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "centred" => Ok(Self::Centred),
            "unit" => Ok(Self::Unit),
            _ => Err(Error::option("inputRange", "\"centred\" or \"unit\"", format!("{name:?}"))),
        }
    }
}

/// What weights cannot tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportOptions {
    /// Height and width of the images.
    pub size: [usize; 2],
    /// Bits of each channel.
    pub bits: u32,
    /// Where the owner's pixels were.
    pub input_range: InputRange,
    /// Whether weights that are missing stay as they are in a new model.
    pub partial: bool,
}

impl ImportOptions {
    /// Of 8 bits around 0, for images of this height and width.
    pub fn of_size(size: [usize; 2]) -> Self {
        Self { size, bits: 8, input_range: InputRange::Centred, partial: false }
    }
}

/// What a project calls its tensors, and what its code does where its weights do not tell.
pub(super) struct Naming {
    /// One of its names, for sentences.
    pub example: &'static str,
    /// The sizes, as its weights have them; `None` for weights of something else.
    pub read: fn(&Weights) -> Option<Architecture>,
    /// Every tensor, for images of this height and width.
    pub entries: fn(&Architecture, [usize; 2]) -> Vec<Entry>,
    /// Ends of the names of tensors that follow from the rest.
    pub constants: &'static [&'static str],
    /// End of the names of what says, not 0, that an actnorm has been set from data; empty where nothing does.
    pub flag: &'static str,
    /// Ends of the names of what the model cannot hold.
    pub refused: &'static [&'static str],
    /// Ends of the names of factors that may not be 0.
    pub divisors: &'static [&'static str],
    /// Whose numbers are trained.
    pub layout: Layout,
    /// What the classifier's error, in nats, counts for beside its loss.
    pub classifier: ClassifierWeight,
}

/// What a classifier's error, in nats, counts for beside a loss.
pub(super) enum ClassifierWeight {
    /// Bits of each dimension.
    PerDimension(f64),
    /// Bits of each pixel, of all its channels.
    PerPixel(f64),
}

impl ClassifierWeight {
    /// Beside bits of each dimension, of the error in bits.
    fn of_bits(&self, channels: usize) -> f64 {
        match self {
            Self::PerDimension(weight) => weight * LN_2,
            Self::PerPixel(weight) => weight * LN_2 / channels as f64,
        }
    }
}

/// A model as its weights show it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Architecture {
    /// Of the images.
    pub channels: usize,
    pub levels: usize,
    pub depth: usize,
    pub hidden: usize,
    pub coupling: CouplingKind,
    pub permutation: PermutationKind,
    pub learn_top: bool,
    pub classes: Option<usize>,
    pub classifier: bool,
    /// Whether the last level has plain matrices where the project's code has factors.
    pub plain_last: bool,
}

impl Architecture {
    fn of(config: &GlowConfig) -> Self {
        Self {
            channels: config.image.channels,
            levels: config.levels,
            depth: config.depth,
            hidden: config.hidden,
            coupling: config.coupling,
            permutation: config.permutation,
            learn_top: config.learn_top,
            classes: config.classes,
            classifier: config.classifier_weight > 0.0,
            plain_last: false,
        }
    }

    /// Channels of a level, after its squeeze.
    pub fn channels_of(&self, level: usize) -> usize {
        (4 * self.channels) << level
    }

    /// Outputs of a level's coupling nets.
    pub fn outputs(&self, level: usize) -> usize {
        match self.coupling {
            CouplingKind::Affine => self.channels_of(level),
            CouplingKind::Additive => self.channels_of(level) / 2,
        }
    }
}

/// Another project's model as ours.
#[derive(Debug, Clone, PartialEq)]
pub struct Imported {
    /// What the model is made of.
    pub config: GlowConfig,
    /// Whether data have set the actnorms.
    pub initialized: bool,
    /// The weights. Those that were missing are not among them.
    pub tensors: EngineTensors,
    /// What became of the file's tensors.
    pub report: Report,
}

impl Imported {
    /// Reads a project's weights. Sizes are those of the weights.
    ///
    /// # Errors
    ///
    /// As [`Checkpoint::read`]; [`Error::Option`] where images of this size do not fit; [`Error::Weights`] for weights of
    /// another project, of other shapes or not finite, and unless partial for weights that are not all there.
    pub fn read(path: &Path, peer: Peer, options: &ImportOptions) -> Result<Self> {
        Self::of(&Checkpoint::read(path)?, peer, options)
    }

    /// [`Imported::read`] of what has been read.
    pub fn of(checkpoint: &Checkpoint, peer: Peer, options: &ImportOptions) -> Result<Self> {
        let weights = Weights::of(checkpoint);
        let naming = peer.naming();
        let sizes = (naming.read)(&weights).ok_or_else(|| other_naming(checkpoint, &weights, peer))?;
        let ends = |name: &str, ends: &[&str]| ends.iter().any(|end| name.ends_with(end));
        if let Some(name) = weights.names().find(|name| ends(name, naming.refused)) {
            return Err(weights.misfit(format!("Expected priors that a model can hold but found {}", shortened(name))));
        }
        for name in weights.names().filter(|name| ends(name, naming.divisors)) {
            if let Some(channel) = weights.get(name).and_then(|tensor| tensor.values.iter().position(|&v| v == 0.0)) {
                let reason =
                    format!("Expected {} to have an inverse but it is 0 in channel {channel}", shortened(name));
                return Err(weights.misfit(reason));
            }
        }
        let [height, width] = options.size;
        let config = GlowConfig {
            image: ImageShape { height, width, channels: sizes.channels },
            levels: sizes.levels,
            depth: sizes.depth,
            hidden: sizes.hidden,
            coupling: sizes.coupling,
            permutation: sizes.permutation,
            edge_bias: false,
            scale: ScaleKind::Sigmoid,
            learn_top: sizes.learn_top,
            classes: sizes.classes,
            classifier_weight: if sizes.classifier { naming.classifier.of_bits(sizes.channels) } else { 0.0 },
            layout: naming.layout,
            bits: options.bits,
            ..GlowConfig::default()
        };
        ModelConfig::from(config.clone()).validate()?;
        let entries = (naming.entries)(&sizes, options.size);
        let (mut tensors, report) = weights.apply(&entries, |name| ends(name, naming.constants))?;
        if !options.partial {
            weights.complete(&report)?;
        }
        if options.input_range == InputRange::Unit
            && let Some(Numbers::Floats(bias)) = tensors.get_mut(FIRST_BIAS).map(|bias| &mut bias.numbers)
        {
            bias.iter_mut().for_each(|bias| *bias += UNIT_OFFSET);
        }
        let is_unset = |name: &str| {
            !naming.flag.is_empty()
                && name.ends_with(naming.flag)
                && weights.get(name).is_some_and(|flag| flag.values.contains(&0.0))
        };
        let initialized = !weights.names().any(is_unset);
        Ok(Self { config, initialized, tensors, report })
    }
}

/// The sentence for weights that have none of a project's names.
fn other_naming(checkpoint: &Checkpoint, weights: &Weights, peer: Peer) -> Error {
    const MOST: usize = 3;
    let found: Vec<String> = weights.names().take(MOST).map(shortened).collect();
    let fits = match Peer::of(checkpoint) {
        Some(other) => format!(": they are of {}", other.name()),
        None => String::new(),
    };
    weights.misfit(format!(
        "Expected the weights of {}, with names like {}, but found {}{fits}",
        peer.name(),
        peer.naming().example,
        found.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::store::pytorch::{EngineTensor, NamedTensor, Numbers};

    fn checkpoint(name: &str) -> Checkpoint {
        let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/peers");
        Checkpoint::read(&peers.join(name).join("model.pt")).unwrap()
    }

    fn import(checkpoint: &Checkpoint, peer: Peer) -> Result<Imported> {
        Imported::of(checkpoint, peer, &ImportOptions::of_size([16, 16]))
    }

    const FIXTURES: [(&str, Peer, usize, PermutationKind); 5] = [
        ("ros_affine_lu_small", Peer::Rosinality, 3, PermutationKind::Conv1x1Lu),
        ("ros_affine_nolu", Peer::Rosinality, 3, PermutationKind::Conv1x1),
        ("chai_affine_nolu", Peer::Chaiyujin, 2, PermutationKind::Conv1x1),
        ("y0ast_affine_lu", Peer::Y0ast, 2, PermutationKind::Conv1x1Lu),
        ("nf_glow_lu", Peer::Normflows, 2, PermutationKind::Conv1x1Lu),
    ];

    #[test]
    fn sizes_are_read_off_the_weights_and_every_tensor_is_used() {
        for (name, peer, depth, permutation) in FIXTURES {
            let checkpoint = checkpoint(name);
            let Imported { config, report, initialized, tensors } = import(&checkpoint, peer).unwrap();
            let layout = peer.naming().layout;
            let image = ImageShape { height: 16, width: 16, channels: 3 };
            let expected =
                GlowConfig { image, levels: 2, depth, hidden: 16, permutation, layout, ..GlowConfig::default() };
            assert_eq!((config, initialized), (expected, true), "{name}");
            assert_eq!((&report.missing[..], &report.unused[..]), (&[][..], &[][..]), "{name}");
            assert_eq!(report.applied.len() + report.constant.len(), checkpoint.tensors.len(), "{name}");
            for (ours, EngineTensor { shape, numbers }) in &tensors {
                let count = match numbers {
                    Numbers::Floats(values) => values.len(),
                    Numbers::Integers(values) => values.len(),
                };
                assert_eq!(count, shape.iter().product::<usize>(), "{name}: {ours}");
            }
            assert_eq!(Peer::of(&checkpoint), Some(peer));
            for other in Peer::ALL.into_iter().filter(|other| *other != peer) {
                let error = import(&checkpoint, other).unwrap_err().to_string();
                assert!(error.contains(peer.name()) && error.contains(other.naming().example), "{error}");
            }
        }
    }

    fn rename(checkpoint: &mut Checkpoint, from: &str, to: &str) {
        checkpoint.tensors.iter_mut().find(|tensor| tensor.name == from).expect("a tensor to rename").name = to.into();
    }

    #[test]
    fn what_is_missing_is_named_with_the_closest_name() {
        let mut checkpoint = checkpoint("ros_affine_nolu");
        let (name, other) = ("blocks.1.flows.2.coupling.net.0.bias", "blocks.1.flows.2.coupling.net.0.biass");
        rename(&mut checkpoint, name, other);
        let error = import(&checkpoint, Peer::Rosinality).unwrap_err();
        let report = &error.details()["report"];
        assert_eq!(report["missing"], serde_json::json!([{ "name": name, "closest": other }]));
        assert_eq!(report["unused"], serde_json::json!([other]));
        assert!(error.to_string().contains(&format!("{name} (closest: {other})")), "{error}");

        let options = ImportOptions { partial: true, ..ImportOptions::of_size([16, 16]) };
        let imported = Imported::of(&checkpoint, Peer::Rosinality, &options).unwrap();
        assert_eq!(
            imported.report.missing,
            [crate::store::pytorch::Missing { name: name.into(), closest: Some(other.into()) }]
        );
        assert_eq!(imported.report.unused, [other]);
        assert!(!imported.tensors.contains_key("levels.1.steps.2.coupling.net.first.norm.bias"));
    }

    /// Every tensor whose name ends so.
    fn each(checkpoint: &mut Checkpoint, end: &str, mut change: impl FnMut(&mut NamedTensor)) {
        checkpoint.tensors.iter_mut().filter(|tensor| tensor.name.ends_with(end)).for_each(&mut change);
    }

    #[test]
    fn weights_that_are_not_what_they_must_be_are_refused() {
        type Change = fn(&mut NamedTensor);
        let cases: [(&str, Change, &str); 6] = [
            ("blocks.0.flows.0.actnorm.scale", |t| t.values[3] = 0.0, "it is 0 in channel 3"),
            ("blocks.0.flows.0.actnorm.loc", |t| t.values[3] = f32::NAN, "finite numbers"),
            ("blocks.0.flows.1.invconv.s_sign", |t| t.values[3] = 0.5, "Expected signs"),
            ("blocks.0.flows.1.invconv.w_p", |t| t.values[3] = 0.5, "permutation matrix"),
            ("blocks.0.flows.1.invconv.w_p", |t| t.values.copy_within(0..12, 12), "permutation matrix"),
            ("blocks.0.flows.1.invconv.w_s", |t| t.shape = vec![1, 12], "[12]"),
        ];
        for (name, change, sentence) in cases {
            let mut checkpoint = checkpoint("ros_affine_lu_small");
            each(&mut checkpoint, name, change);
            let error = import(&checkpoint, Peer::Rosinality).unwrap_err();
            assert!(matches!(error, Error::Weights { .. }), "{error:?}");
            assert!(error.to_string().contains(sentence) && error.to_string().contains("blocks.0.flows."), "{error}");
        }
        let error =
            Imported::of(&checkpoint("nf_glow_lu"), Peer::Normflows, &ImportOptions::of_size([18, 16])).unwrap_err();
        assert!(matches!(error, Error::Option { .. }), "{error:?}");
    }

    #[test]
    fn an_actnorm_that_data_have_not_set_is_seen() {
        for (name, peer, end) in [
            ("ros_affine_nolu", Peer::Rosinality, "blocks.1.flows.0.actnorm.initialized"),
            ("nf_glow_lu", Peer::Normflows, "flows.0.1.flows.2.data_dep_init_done"),
        ] {
            let mut checkpoint = checkpoint(name);
            each(&mut checkpoint, end, |flag| flag.values = vec![0.0]);
            assert!(!import(&checkpoint, peer).unwrap().initialized);
        }
    }

    #[test]
    fn names_that_count_far_are_refused_before_anything_grows() {
        for peer in Peer::ALL {
            let example = peer.naming().example;
            let many =
                example.replacen('0', &usize::MAX.to_string(), 1).replacen(".1.", &format!(".{}.", usize::MAX), 1);
            let tensor = |name: String| NamedTensor { name, shape: vec![1], values: vec![1.0] };
            let tensors = vec![tensor(example.into()), tensor(many)];
            let checkpoint = Checkpoint { path: PathBuf::from("model.pt"), tensors };
            assert!(import(&checkpoint, peer).is_err());
        }
    }

    /// The matrices of a layer's PLU factors or of its plain matrix, as columns by actnorm's scale.
    fn columns(imported: &Imported, mix: &str) -> Vec<f64> {
        let floats = |name: &str| match &imported.tensors[&format!("{mix}.{name}")].numbers {
            Numbers::Floats(values) => values.clone(),
            Numbers::Integers(values) => values.iter().map(|&value| value as f32).collect(),
        };
        let (scale, weight) = (floats("actnorm.scale"), floats("permutation.weight"));
        let size = scale.len();
        let matrix = nalgebra::DMatrix::from_row_iterator(size, size, weight.iter().map(|&value| f64::from(value)));
        let matrix = if imported.tensors.contains_key(&format!("{mix}.permutation.order")) {
            let (order, signs) = (floats("permutation.order"), floats("permutation.signs"));
            let mut lower = matrix.lower_triangle();
            lower.fill_diagonal(1.0);
            let mut upper = matrix.upper_triangle();
            for i in 0..size {
                upper[(i, i)] = f64::from(signs[i]) * matrix[(i, i)].exp();
            }
            let product = lower * upper;
            nalgebra::DMatrix::from_fn(size, size, |row, column| product[(order[row] as usize, column)])
        } else {
            matrix
        };
        (0..size * size).map(|at| matrix[(at / size, at % size)] * f64::from(scale[at % size])).collect()
    }

    #[test]
    fn plain_matrices_in_the_last_block_are_factored() {
        let mut checkpoint = checkpoint("ros_affine_nolu");
        let mixes: Vec<String> = (0..3).map(|k| format!("levels.1.steps.{k}.mix")).collect();
        let expected = import(&checkpoint, Peer::Rosinality).unwrap();
        checkpoint.tensors.retain(|tensor| !(tensor.name.contains("blocks.1.") && tensor.name.contains(".invconv.")));
        for (k, mix) in mixes.iter().enumerate() {
            let scale = expected.tensors[&format!("{mix}.actnorm.scale")].floats().unwrap();
            let unscaled = columns(&expected, mix).into_iter().enumerate();
            let values = unscaled.map(|(at, value)| (value / f64::from(scale[at % 24])) as f32).collect();
            let name = format!("blocks.1.flows.{k}.invconv.weight");
            checkpoint.tensors.push(NamedTensor { name, shape: vec![24, 24, 1, 1], values });
        }
        let found = import(&checkpoint, Peer::Rosinality).unwrap();
        assert!(found.report.unused.is_empty());
        for mix in &mixes {
            for (expected, found) in columns(&expected, mix).into_iter().zip(columns(&found, mix)) {
                assert!((expected - found).abs() < 1e-5, "{mix}: {expected} {found}");
            }
        }
    }

    #[test]
    fn classes_of_normflows_come_with_their_size() {
        let mut checkpoint = checkpoint("nf_glow_lu");
        checkpoint.tensors.retain(|tensor| !tensor.name.starts_with("q0."));
        for (i, shape) in [[24, 4, 4, 10], [6, 8, 8, 10]].into_iter().enumerate() {
            for name in ["loc", "log_scale"] {
                let values = (0..shape.iter().product()).map(|value: usize| value as f32).collect();
                checkpoint.tensors.push(NamedTensor { name: format!("q0.{i}.{name}"), shape: shape.to_vec(), values });
            }
        }
        let imported = import(&checkpoint, Peer::Normflows).unwrap();
        assert_eq!(imported.config.classes, Some(10));
        let table = &imported.tensors["levels.0.split.normal.mean"];
        assert_eq!(table.shape, [10, 8, 8, 6]);
        let Numbers::Floats(values) = &table.numbers else { panic!() };
        // Class 7 at row 1, column 2, of channel 3.
        assert_eq!(values[((7 * 8 + 1) * 8 + 2) * 6 + 3], (((3 * 8 + 1) * 8 + 2) * 10 + 7) as f32);
        let error =
            Imported::of(&checkpoint, Peer::Normflows, &ImportOptions::of_size([32, 32])).unwrap_err().to_string();
        assert!(error.contains("[24, 8, 8, 10]") || error.contains("[6, 16, 16, 10]"), "{error}");
    }
}
