//! Model files that are damaged, of something else, or hostile: an error with its code, never a panic.

use std::collections::BTreeMap;
use std::path::Path;

use glowflow::store::safetensors::{Dtype, NewTensor, SafeFile, write_safetensors};
use glowflow::{Error, FlowModel, GlowConfig, ModelConfig};

use crate::common::{cpu, model, tiny};

const FILE: &str = "ERR_GLOW_FILE";
const WEIGHTS: &str = "ERR_GLOW_WEIGHTS";

/// A model's file taken apart, so that a test can break one thing of it.
struct Parts {
    tensors: Vec<NewTensor<'static>>,
    metadata: BTreeMap<String, String>,
}

impl Parts {
    fn of(path: &Path) -> Self {
        let file = SafeFile::open(path).unwrap();
        let tensor = |name: String| {
            let found = file.tensor(&name).unwrap();
            NewTensor { name, dtype: found.dtype, shape: found.shape.to_vec(), data: found.data.to_vec().into() }
        };
        let keys = ["format", "version", "config", "initialized", "step"];
        let metadata = keys.map(|key| (key.to_owned(), file.metadata(key).unwrap().to_owned()));
        Self { tensors: file.names().into_iter().map(tensor).collect(), metadata: metadata.into() }
    }

    fn tensor(&mut self, name: &str) -> &mut NewTensor<'static> {
        self.tensors.iter_mut().find(|tensor| tensor.name == name).expect("a tensor of this name")
    }

    fn set(&mut self, key: &str, value: impl ToString) {
        self.metadata.insert(key.to_owned(), value.to_string());
    }

    fn config(&mut self, change: impl FnOnce(&mut GlowConfig)) {
        let ModelConfig::Glow(mut config) = serde_json::from_str(&self.metadata["config"]).unwrap() else {
            panic!("a Glow model's file");
        };
        change(&mut config);
        self.set("config", serde_json::to_string(&ModelConfig::Glow(config)).unwrap());
    }
}

fn load(path: &Path) -> Result<FlowModel, Error> {
    FlowModel::load(path, &cpu())
}

#[track_caller]
fn refused(path: &Path, code: &str, words: &str) {
    let error = load(path).unwrap_err();
    assert_eq!(error.code(), code, "{error}");
    assert!(error.to_string().contains(words), "{error}");
    assert!(error.to_string().contains(path.to_str().unwrap()), "the file is not named: {error}");
}

const BIAS: &str = "levels.0.steps.0.mix.actnorm.bias";
const ORDER: &str = "levels.0.steps.0.mix.permutation.order";
const SIGNS: &str = "levels.0.steps.1.mix.permutation.signs";

#[test]
fn a_file_with_one_thing_wrong_is_refused_by_its_name() {
    type Break = Box<dyn Fn(&mut Parts)>;
    let case = |code, words, change: Break| (code, words, change);
    let of_config = |change: fn(&mut GlowConfig)| -> Break { Box::new(move |parts| parts.config(change)) };
    let of_metadata =
        |key: &'static str, value: &'static str| -> Break { Box::new(move |parts| parts.set(key, value)) };
    let bytes_of = |name: &'static str, words: Vec<i32>| -> Break {
        Box::new(move |parts| {
            let data: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            parts.tensor(name).data.to_mut()[..data.len()].copy_from_slice(&data);
        })
    };
    let cases = [
        case(FILE, "no format", Box::new(|parts| parts.metadata.clear())),
        case(FILE, "the format other", of_metadata("format", "other")),
        case(FILE, "version 2", of_metadata("version", "3")),
        case(FILE, "no config", Box::new(|parts| drop(parts.metadata.remove("config")))),
        case(FILE, "config of a model", of_metadata("config", "{")),
        case(FILE, "config of a model", of_metadata("config", "[1]")),
        case(FILE, "steps", of_metadata("step", "-1")),
        case(FILE, "levels", of_config(|config| config.levels = 0)),
        case(FILE, "levels", of_config(|config| config.levels = usize::MAX)),
        case(FILE, "imageSize", of_config(|config| config.image.height = 1 << 40)),
        case(FILE, "bits", of_config(|config| config.bits = 9)),
        // Claims of terabytes are compared with the file before anything is allocated.
        case(WEIGHTS, "bytes of weights", of_config(|config| (config.depth, config.hidden) = (1024, 8192))),
        case(WEIGHTS, "bytes of weights", of_config(|config| config.hidden += 1)),
        case(
            WEIGHTS,
            BIAS,
            Box::new(|parts| parts.tensors.retain(|tensor| tensor.name != ORDER && tensor.name != BIAS)),
        ),
        case(WEIGHTS, ORDER, Box::new(|parts| parts.tensors.retain(|tensor| tensor.name != ORDER))),
        case(
            WEIGHTS,
            "no tensor named extra",
            Box::new(|parts| {
                let data = vec![0; 8].into();
                parts.tensors.push(NewTensor { name: "extra".into(), dtype: Dtype::F32, shape: vec![2], data });
            }),
        ),
        case(WEIGHTS, BIAS, Box::new(|parts| parts.tensor(BIAS).shape = vec![2, 2])),
        case(WEIGHTS, BIAS, Box::new(|parts| parts.tensor(BIAS).dtype = Dtype::I32)),
        case(WEIGHTS, BIAS, bytes_of(BIAS, vec![f32::NAN.to_bits() as i32])),
        case(WEIGHTS, BIAS, bytes_of(BIAS, vec![0, f32::INFINITY.to_bits() as i32])),
        case(WEIGHTS, ORDER, bytes_of(ORDER, vec![0, 0, 1, 2])),
        case(WEIGHTS, ORDER, bytes_of(ORDER, vec![0, 1, 2, 4])),
        case(WEIGHTS, ORDER, bytes_of(ORDER, vec![-1])),
        case(WEIGHTS, SIGNS, bytes_of(SIGNS, vec![0])),
        case(WEIGHTS, SIGNS, bytes_of(SIGNS, vec![i32::MIN])),
    ];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    model(&tiny(4, 4, 1), 0.05).save(&path).unwrap();
    for (code, words, change) in cases {
        let mut parts = Parts::of(&path);
        change(&mut parts);
        // A tensor may have lost its data: enough to fill the config's count must stay for the later checks.
        if parts.tensors.iter().all(|tensor| tensor.name != BIAS) {
            let data = vec![0; 64].into();
            parts.tensors.push(NewTensor { name: "filler".into(), dtype: Dtype::F32, shape: vec![16], data });
        }
        let broken = folder.path().join("broken.safetensors");
        write_safetensors(&broken, parts.tensors, &parts.metadata).unwrap();
        refused(&broken, code, words);
    }
    load(&path).unwrap();
}

#[test]
fn a_config_with_unknown_options_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    model(&tiny(4, 4, 1), 0.05).save(&path).unwrap();
    let mut parts = Parts::of(&path);
    let config = parts.metadata["config"].replacen('{', "{\"attention\":true,", 1);
    parts.set("config", config);
    write_safetensors(&path, parts.tensors, &parts.metadata).unwrap();
    refused(&path, FILE, "attention");
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    model(&tiny(4, 4, 1), 0.05).save(&path).unwrap();
    let whole = std::fs::read(&path).unwrap();
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    for length in [0, 1, 7, 8, 9, header / 2, header - 1, header, header + 1, whole.len() - 1] {
        std::fs::write(&path, &whole[..length]).unwrap();
        refused(&path, FILE, "");
    }
    std::fs::write(&path, [&whole[..], b"more"].concat()).unwrap();
    refused(&path, FILE, "something was added");
}

#[test]
fn other_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    std::fs::write(&path, b"\x89PNG\r\n\x1a\n and so on").unwrap();
    refused(&path, FILE, "header");
    std::fs::write(&path, u64::MAX.to_le_bytes()).unwrap();
    refused(&path, FILE, "claim");
    let foreign = NewTensor { name: "w".into(), dtype: Dtype::F32, shape: vec![1], data: vec![0; 4].into() };
    write_safetensors(&path, [foreign], &BTreeMap::new()).unwrap();
    refused(&path, FILE, "no format");
    let missing = folder.path().join("missing");
    refused(&missing, "ERR_GLOW_IO", "");
    // A folder is taken for a checkpoint, or for one that holds some.
    std::fs::remove_file(&path).unwrap();
    refused(folder.path(), FILE, "a folder of some, but found none");
}

#[test]
fn any_byte_of_the_header_may_be_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    model(&GlowConfig { levels: 1, depth: 1, ..tiny(2, 2, 1) }, 0.05).save(&path).unwrap();
    let whole = std::fs::read(&path).unwrap();
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    for at in (0..header).step_by(5) {
        for flip in [0x01, 0x10, 0x80] {
            let mut damaged = whole.clone();
            damaged[at] ^= flip;
            std::fs::write(&path, &damaged).unwrap();
            // A digit of the seed may well be another digit; nothing may panic.
            if let Err(error) = load(&path) {
                assert_ne!(error.code(), "ERR_GLOW_INTERNAL", "byte {at}: {error}");
            }
        }
    }
}
