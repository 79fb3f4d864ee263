//! Checkpoints of PyTorch and safetensors files as named tensors.
//!
//! `torch.save` writes a zip file since PyTorch 1.6: a pickle in `data.pkl`, each storage in `data/<key>`. Before that it
//! wrote one stream: magic number, protocol, the system's sizes, the pickle, the storages' keys, the storages.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use burn::tensor::{bf16, f16};
use flate2::Crc;

use super::pickle::{self, ElementType, Id, Pickle, Value, View};
use super::zip;
use crate::error::{Error, Result};
use crate::models::memory;
use crate::store::file::{OpenFile, buffer, open_file};
use crate::store::safetensors::{Dtype, SafeFile};

/// The number at the front of a stream, little-endian.
const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
/// The only version of the stream.
const PROTOCOL: i64 = 1001;
/// How deep in a checkpoint its weights are looked for.
const DEEPEST: usize = 4;
/// Elements that views may make of any file, however small.
const FEW_ELEMENTS: u64 = 1 << 20;
/// What wrappers of a model put before every name.
const WRAPPERS: [&str; 2] = ["module.", "_orig_mod."];

/// A tensor of a checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedTensor {
    /// Its name, without what wrappers put before all of them.
    pub name: String,
    /// Sizes, the last one varying fastest.
    pub shape: Vec<usize>,
    /// As many as the shape says.
    pub values: Vec<f32>,
}

/// The weights of a checkpoint.
#[derive(Debug)]
pub struct Checkpoint {
    /// Where it was read from.
    pub path: PathBuf,
    /// In the order of the file.
    pub tensors: Vec<NamedTensor>,
}

/// Where bytes lie in a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extent {
    pub offset: u64,
    pub bytes: u64,
    /// CRC-32 of the bytes.
    pub checksum: Option<u32>,
}

/// The elements that tensors are views of.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Storage {
    pub key: String,
    pub dtype: ElementType,
    /// Elements.
    pub count: u64,
    /// Elements before the first one, where the storage is itself a view.
    pub offset: u64,
}

impl Checkpoint {
    /// Reads a file of `torch.save` or a safetensors file. Of a checkpoint with more than weights, the weights.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] where the system refuses; [`Error::File`] where the file is neither, is damaged, or would have to be
    /// run.
    pub fn read(path: &Path) -> Result<Self> {
        let OpenFile { mut file, len } = open_file(path)?;
        memory::check_bytes("a file of weights of this size", len)?;
        let mut front = Vec::new();
        file.by_ref().take(9).read_to_end(&mut front).map_err(Error::io(path))?;
        let mut tensors = match front[..] {
            [b'P', b'K', 3, 4, ..] => Source::zip(path, file, len)?.tensors()?,
            [0x80, 0..=5, ..] => Source::stream(path, file, len)?.tensors()?,
            [_, _, _, _, _, _, _, _, b'{'] => safetensors(path)?,
            _ => return Err(Error::file(path, "Expected a file of torch.save or of safetensors but found another")),
        };
        for wrapper in std::iter::repeat_n(WRAPPERS, DEEPEST).flatten() {
            if tensors.iter().all(|tensor| tensor.name.starts_with(wrapper)) {
                tensors.iter_mut().for_each(|tensor| drop(tensor.name.drain(..wrapper.len())));
            }
        }
        Ok(Self { path: path.to_owned(), tensors })
    }
}

fn safetensors(path: &Path) -> Result<Vec<NamedTensor>> {
    let file = SafeFile::open(path)?;
    let read = |name: String| {
        let tensor = file.tensor(&name)?;
        let dtype = match tensor.dtype {
            Dtype::F16 => ElementType::F16,
            Dtype::BF16 => ElementType::BF16,
            Dtype::F32 => ElementType::F32,
            Dtype::F64 => ElementType::F64,
            Dtype::U8 => ElementType::U8,
            Dtype::I8 => ElementType::I8,
            Dtype::I16 => ElementType::I16,
            Dtype::I32 => ElementType::I32,
            Dtype::I64 => ElementType::I64,
            Dtype::BOOL => ElementType::Bool,
            other => return Err(Error::file(path, format!("Expected numbers in {name} but found the type {other:?}"))),
        };
        let values = tensor.data.chunks_exact(dtype.bytes() as usize).map(|bytes| element(dtype, bytes)).collect();
        Ok(NamedTensor { name, shape: tensor.shape.to_vec(), values })
    };
    file.names_in_order().into_iter().map(read).collect()
}

/// A checkpoint whose pickle has been read, and where its storages lie.
struct Source<'a> {
    path: &'a Path,
    file: File,
    len: u64,
    pickle: Pickle,
    storages: HashMap<String, Extent>,
    big_endian: bool,
}

impl<'a> Source<'a> {
    fn zip(path: &'a Path, file: File, len: u64) -> Result<Self> {
        let failed = |error: std::io::Error| match error.kind() {
            ErrorKind::InvalidData => Error::file(path, error.to_string()),
            _ => Error::io(path)(error),
        };
        let mut file = BufReader::new(file);
        let records = zip::records(&mut file, len).map_err(failed)?;
        let mut file = file.into_inner();
        // Every record lies in one folder, which has the name that the file once had.
        let root = records.iter().find_map(|record| match record.name.strip_suffix("data.pkl") {
            Some(root) if root.is_empty() || root.ends_with('/') => Some((root.to_owned(), record.extent)),
            _ => None,
        });
        let (root, extent) =
            root.ok_or_else(|| Error::file(path, "Expected a checkpoint of PyTorch but the zip file has no data.pkl"))?;
        let mut big_endian = false;
        let mut storages = HashMap::new();
        for record in &records {
            let Some(name) = record.name.strip_prefix(&root) else { continue };
            if let Some(key) = name.strip_prefix("data/") {
                storages.insert(key.to_owned(), record.extent);
            } else if name == "byteorder" {
                big_endian = read_extent(path, &mut file, name, record.extent)? == b"big";
            }
        }
        if extent.bytes > pickle::LONGEST {
            return Err(Error::file(path, format!("Expected a pickle of at most {} bytes", pickle::LONGEST)));
        }
        let bytes = read_extent(path, &mut file, "data.pkl", extent)?;
        let pickle = Pickle::read(&mut &bytes[..]).map_err(|reason| Error::file(path, reason))?;
        Ok(Self { path, file, len, pickle, storages, big_endian })
    }

    fn stream(path: &'a Path, mut file: File, len: u64) -> Result<Self> {
        let bad = |reason: String| Error::file(path, reason);
        let mut front = buffer(path, len.min(pickle::LONGEST))?;
        file.rewind().map_err(Error::io(path))?;
        file.by_ref().take(pickle::LONGEST).read_to_end(&mut front).map_err(Error::io(path))?;
        let mut rest = &front[..];
        let mut next = || Pickle::read(&mut rest).map_err(bad);

        let magic = next()?;
        if magic[magic.root] != Value::Bytes(MAGIC.to_vec()) {
            return Err(bad("Expected a checkpoint of PyTorch but found a pickle of something else".into()));
        }
        let protocol = next()?;
        if protocol[protocol.root] != Value::Int(PROTOCOL) {
            return Err(bad(format!("Expected protocol {PROTOCOL} of PyTorch's checkpoints but found another")));
        }
        let _sizes = next()?;
        let pickle = next()?;
        let keys = next()?;
        let Value::List(list) = &keys[keys.root] else {
            return Err(bad("Expected the keys of storages but found something else".into()));
        };

        let dtypes: HashMap<&str, ElementType> = pickle
            .values()
            .iter()
            .filter_map(|value| match value {
                Value::Storage(storage) => Some((storage.key.as_str(), storage.dtype)),
                _ => None,
            })
            .collect();
        let mut at = (front.len() - rest.len()) as u64;
        let mut storages = HashMap::new();
        for &key in list {
            let Value::Text(key) = &keys[key] else {
                return Err(bad("Expected the key of a storage but found something else".into()));
            };
            let truncated =
                || bad(format!("Expected the storage {} inside the file: it is truncated", pickle::shortened(key)));
            let dtype = dtypes.get(key.as_str()).ok_or_else(|| {
                bad(format!("Expected a tensor of the storage {} but found none", pickle::shortened(key)))
            })?;
            let mut count = [0; 8];
            file.seek(SeekFrom::Start(at)).map_err(Error::io(path))?;
            file.read_exact(&mut count).map_err(|_| truncated())?;
            let bytes = u64::from_le_bytes(count).checked_mul(dtype.bytes()).ok_or_else(truncated)?;
            let offset = at + 8;
            at = offset.checked_add(bytes).filter(|&end| end <= len).ok_or_else(truncated)?;
            storages.insert(key.clone(), Extent { offset, bytes, checksum: None });
        }
        Ok(Self { path, file, len, pickle, storages, big_endian: false })
    }

    fn bad(&self, reason: String) -> Error {
        Error::file(self.path, reason)
    }

    /// The checkpoint's weights: of its dictionaries the one with the most tensors.
    fn tensors(mut self) -> Result<Vec<NamedTensor>> {
        let mut found: Vec<(String, View)> = Vec::new();
        for dict in dictionaries(&self.pickle) {
            let Value::Dict(entries) = &self.pickle[dict] else { continue };
            let named = |&(name, value): &(Id, Id)| match (&self.pickle[name], &self.pickle[value]) {
                (Value::Text(name), Value::Tensor(view)) => Some((name.as_str(), &**view)),
                _ => None,
            };
            if entries.iter().filter_map(named).count() > found.len() {
                // A name that comes twice has its last value, where it came first.
                let mut places = HashMap::new();
                found.clear();
                for (name, view) in entries.iter().filter_map(named) {
                    let place = *places.entry(name).or_insert(found.len());
                    match found.get_mut(place) {
                        Some(earlier) => earlier.1 = view.clone(),
                        None => found.push((name.to_owned(), view.clone())),
                    }
                }
            }
        }
        if found.is_empty() {
            return Err(self.bad("Expected a state_dict but found no dictionary of tensors".into()));
        }
        let elements =
            |view: &View| view.shape.iter().try_fold(1u64, |product, &size| product.checked_mul(size as u64));
        let most = self.len.max(FEW_ELEMENTS);
        let total = found.iter().try_fold(0u64, |sum, (_, view)| sum.checked_add(elements(view)?));
        if total.is_none_or(|total| total > most) {
            return Err(self.bad(format!("Expected tensors of at most {most} elements, by the file's length")));
        }

        // Storage after storage: each is read once, however many tensors share it.
        let mut by_storage: Vec<usize> = (0..found.len()).collect();
        by_storage.sort_by(|&a, &b| found[a].1.storage.key.cmp(&found[b].1.storage.key));
        let mut values: Vec<Vec<f32>> = vec![Vec::new(); found.len()];
        let mut read = 0;
        for group in by_storage.chunk_by(|&a, &b| found[a].1.storage.key == found[b].1.storage.key) {
            let storage = &found[group[0]].1.storage;
            let extent = *self.storages.get(&storage.key).ok_or_else(|| {
                self.bad(format!("Expected the storage {} of {} but found none", storage.key, found[group[0]].0))
            })?;
            read += extent.bytes;
            if read > self.len {
                return Err(self.bad("Expected storages that lie beside each other but some overlap".into()));
            }
            let mut bytes = read_extent(self.path, &mut self.file, &storage.key, extent)?;
            if self.big_endian {
                bytes.chunks_exact_mut(storage.dtype.bytes() as usize).for_each(<[u8]>::reverse);
            }
            for &tensor in group {
                let (name, view) = &found[tensor];
                values[tensor] = gather(view, storage.dtype, &bytes).ok_or_else(|| {
                    self.bad(format!(
                        "Expected the elements of {} inside its storage but some are outside",
                        pickle::shortened(name)
                    ))
                })?;
            }
        }
        let named = found.into_iter().zip(values);
        Ok(named.map(|((name, view), values)| NamedTensor { name, shape: view.shape, values }).collect())
    }
}

/// Bytes of a file, of the length that its directory has said they have.
fn read_extent(path: &Path, file: &mut File, name: &str, extent: Extent) -> Result<Vec<u8>> {
    let mut bytes = buffer(path, extent.bytes)?;
    file.seek(SeekFrom::Start(extent.offset)).map_err(Error::io(path))?;
    file.take(extent.bytes).read_to_end(&mut bytes).map_err(Error::io(path))?;
    let mut crc = Crc::new();
    crc.update(&bytes);
    if bytes.len() as u64 != extent.bytes || extent.checksum.is_some_and(|checksum| checksum != crc.sum()) {
        return Err(Error::file(
            path,
            format!("Expected the checksum of {name} but found another: the file is damaged"),
        ));
    }
    Ok(bytes)
}

/// The dictionaries of a checkpoint, from the outside in, each once.
fn dictionaries(pickle: &Pickle) -> Vec<Id> {
    let mut found = vec![pickle.root];
    let mut seen = std::collections::HashSet::from([pickle.root]);
    let mut start = 0;
    for _ in 0..DEEPEST {
        let end = found.len();
        for at in start..end {
            if let Value::Dict(entries) = &pickle[found[at]] {
                let inner = entries.iter().map(|&(_, value)| value);
                found.extend(inner.filter(|&id| matches!(pickle[id], Value::Dict(_)) && seen.insert(id)));
            }
        }
        start = end;
    }
    found
}

/// A view's elements; `None` where some are outside the storage.
fn gather(view: &View, dtype: ElementType, bytes: &[u8]) -> Option<Vec<f32>> {
    if view.storage.dtype != dtype {
        return None;
    }
    if view.shape.contains(&0) {
        return Some(Vec::new());
    }
    let first = view.storage.offset.checked_add(view.offset)?;
    let axes = || view.shape.iter().zip(&view.stride);
    let last = axes()
        .try_fold(first, |last, (&size, &stride)| last.checked_add((size as u64 - 1).checked_mul(stride as u64)?))?;
    let width = dtype.bytes();
    if last.checked_add(1)?.checked_mul(width)? > bytes.len() as u64 {
        return None;
    }
    // The rows of the last axis, by counting through the others.
    let (&columns, &step) = (view.shape.last().unwrap_or(&1), view.stride.last().unwrap_or(&1));
    let rows: usize = view.shape.iter().rev().skip(1).product();
    let mut values = Vec::with_capacity(rows * columns);
    let mut index = vec![0usize; view.shape.len().saturating_sub(1)];
    let mut at = first as usize;
    let width = width as usize;
    for _ in 0..rows {
        values.extend((0..columns).map(|column| {
            let from = (at + column * step) * width;
            element(dtype, &bytes[from..from + width])
        }));
        for (axis, count) in index.iter_mut().enumerate().rev() {
            *count += 1;
            // The stride of an axis of size 1 may be anything, and is taken back.
            at = at.wrapping_add(view.stride[axis]);
            if *count < view.shape[axis] {
                break;
            }
            at = at.wrapping_sub(count.wrapping_mul(view.stride[axis]));
            *count = 0;
        }
    }
    Some(values)
}

/// An element from as many bytes as it has, little-endian.
fn element(dtype: ElementType, bytes: &[u8]) -> f32 {
    fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
        bytes.try_into().expect("an element's bytes")
    }
    match dtype {
        ElementType::F16 => f16::from_le_bytes(array(bytes)).to_f32(),
        ElementType::BF16 => bf16::from_le_bytes(array(bytes)).to_f32(),
        ElementType::F32 => f32::from_le_bytes(array(bytes)),
        ElementType::F64 => f64::from_le_bytes(array(bytes)) as f32,
        ElementType::U8 => f32::from(bytes[0]),
        ElementType::I8 => f32::from(bytes[0] as i8),
        ElementType::I16 => f32::from(i16::from_le_bytes(array(bytes))),
        ElementType::I32 => i32::from_le_bytes(array(bytes)) as f32,
        ElementType::I64 => i64::from_le_bytes(array(bytes)) as f32,
        ElementType::Bool => f32::from(u8::from(bytes[0] != 0)),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::random::{Key, Purpose};

    fn fixture(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/peers").join(name)
    }

    #[test]
    fn every_fixture_is_what_its_safetensors_file_is() {
        for peer in ["ros_affine_lu_small", "ros_affine_nolu", "chai_affine_nolu", "y0ast_affine_lu", "nf_glow_lu"] {
            let mut expected = Checkpoint::read(&fixture(&format!("{peer}/model.safetensors"))).unwrap().tensors;
            expected.sort_by(|a, b| a.name.cmp(&b.name));
            assert!(expected.len() > 50 && !expected[0].name.starts_with("module."));
            let legacy = (peer == "ros_affine_lu_small").then_some("model_legacy.pt");
            for file in ["model.pt"].into_iter().chain(legacy) {
                let mut found = Checkpoint::read(&fixture(&format!("{peer}/{file}"))).unwrap().tensors;
                found.sort_by(|a, b| a.name.cmp(&b.name));
                assert!(found == expected, "{peer}/{file}");
            }
        }
    }

    #[test]
    fn every_type_stride_and_offset() {
        let eighths = |from: usize, count: usize| (from..from + count).map(|i| i as f32 / 8.0).collect::<Vec<_>>();
        let transposed = (0..12).map(|i| (6 + i / 3 + 4 * (i % 3)) as f32 / 8.0).collect();
        let expected: [(&str, &[usize], Vec<f32>); 16] = [
            ("float32", &[2, 3], eighths(0, 6)),
            ("transposed", &[4, 3], transposed),
            ("offset", &[4], eighths(20, 4)),
            ("expanded", &[2, 3], vec![1.5; 6]),
            ("scalar", &[], vec![-2.0]),
            ("empty", &[0, 3], vec![]),
            ("float16", &[2], vec![0.5, -65504.0]),
            ("bfloat16", &[2], vec![0.5, -3.0]),
            ("float64", &[2], vec![0.1, 1e-30]),
            ("uint8", &[2], vec![0.0, 255.0]),
            ("int8", &[2], vec![-128.0, 127.0]),
            ("int16", &[2], vec![-32768.0, 5.0]),
            ("int32", &[2], vec![-70000.0, 5.0]),
            ("int64", &[2], vec![-(2f32.powi(40)), 5.0]),
            ("bool", &[2], vec![1.0, 0.0]),
            ("parameter", &[1], vec![3.0]),
        ];
        for file in ["checkpoint.pt", "checkpoint_legacy.pt"] {
            let found = Checkpoint::read(&fixture(file)).unwrap().tensors;
            assert_eq!(found.len(), expected.len());
            for (found, (name, shape, values)) in found.iter().zip(&expected) {
                assert_eq!((found.name.as_str(), &found.shape[..], &found.values), (*name, *shape, values), "{file}");
            }
        }
    }

    #[track_caller]
    fn refused(bytes: &[u8], sentence: &str) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.pt");
        fs::write(&path, bytes).unwrap();
        let error = Checkpoint::read(&path).unwrap_err();
        assert!(matches!(&error, Error::File { path: named, .. } if *named == path), "{error:?}");
        assert!(error.to_string().contains(sentence), "{error}");
    }

    #[test]
    fn files_of_something_else_are_refused() {
        refused(b"", "torch.save");
        refused(b"GIF89a, say", "torch.save");
        refused(b"PK\x03\x04", "truncated");
        refused(b"\x80\x02N.", "something else");
        refused(b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02K\x01.", "protocol");
    }

    /// Bytes of a fixture with `from`, which it has once, replaced.
    fn replaced(name: &str, from: &[u8], to: &[u8]) -> Vec<u8> {
        let mut bytes = fs::read(fixture(name)).unwrap();
        let at = bytes.windows(from.len()).position(|window| window == from).expect("the bytes to replace");
        bytes.splice(at..at + from.len(), to.iter().copied());
        bytes
    }

    #[test]
    fn a_stream_that_claims_what_it_has_not_is_refused() {
        let file = "checkpoint_legacy.pt";
        refused(&replaced(file, b"ctorch\nFloatStorage", b"cposix\nsystem"), "posix.system");
        let whole = fs::read(fixture(file)).unwrap();
        refused(&whole[..whole.len() - 8], "truncated");
        refused(&whole[..whole.len() / 4], "truncated");
        // The shape [2, 3] with the strides [3, 1], and what takes more than the storage or the file.
        let view = |shape: &[u8], stride: &[u8]| {
            replaced(file, b"K\x02K\x03\x86q\x0cK\x03K\x01\x86", &[shape, b"\x86q\x0c", stride, b"\x86"].concat())
        };
        refused(&view(b"K\x02K\x19", b"K\x03K\x01"), "outside");
        refused(&view(b"K\x02K\x03", b"K\x17K\x01"), "outside");
        refused(&view(b"J\xff\xff\xff\x7fJ\xff\xff\xff\x7f", b"K\0K\0"), "by the file's length");
        refused(&view(b"J\xff\xff\xff\xffK\x03", b"K\x03K\x01"), "Expected a size");
    }

    #[test]
    fn damage_to_a_zip_file_is_found() {
        let whole = fs::read(fixture("checkpoint.pt")).unwrap();
        refused(&whole[..whole.len() - 1], "truncated");
        // 20 / 8, in the storage that three tensors share.
        refused(&replaced("checkpoint.pt", &2.5f32.to_le_bytes(), &2.75f32.to_le_bytes()), "damaged");
    }

    #[test]
    fn no_damage_makes_a_panic() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.pt");
        let (mut read, mut refused) = (0, 0);
        for (file, step) in [("checkpoint.pt", 0), ("checkpoint_legacy.pt", 1)] {
            let whole = fs::read(fixture(file)).unwrap();
            for image in 0..400 {
                let mut stream = Key { seed: 1, purpose: Purpose::Weights, step, image }.stream();
                let mut random = vec![0.0; 5];
                stream.fill_normal(1.0, &mut random);
                let [a, b, c, d, e] = random[..] else { unreachable!() };
                let place = |x: f32| (x.abs() * 1e6) as usize % whole.len();
                let mut bytes = whole.clone();
                bytes[place(a)] = (b * 1e6) as i64 as u8;
                // Near the front is the pickle, near the end the directory.
                bytes[place(c) % 7000] = (d * 1e6) as i64 as u8;
                let end = bytes.len() - 1 - place(e) % 4000;
                bytes[end] ^= 1 << (place(a) % 8);
                fs::write(&path, &bytes).unwrap();
                match Checkpoint::read(&path) {
                    Ok(_) => read += 1,
                    Err(Error::File { .. }) => refused += 1,
                    Err(other) => panic!("{other:?}"),
                }
            }
        }
        assert!(read > 5 && refused > 200, "{read} read, {refused} refused");
    }
}
