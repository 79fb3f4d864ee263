//! safetensors files: read with every check made before anything is allocated, written with the same bytes each time.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{BufReader, Read, Write};
use std::path::{Path, PathBuf};

use safetensors::tensor::{Metadata, TensorInfo};
use serde::Serializer;
use serde::ser::SerializeMap;
use xxhash_rust::xxh3::Xxh3;

use super::file::{OpenFile, buffer, open_file, write_atomically};
use crate::error::{Error, Result};

pub use safetensors::Dtype;

/// Bytes before the header: its length, a little-endian u64.
const PREFIX: u64 = 8;

/// Longest header that is read. The format allows 100 MB, but parsed JSON takes many times its length in memory, and
/// this already holds 100,000 tensors.
const LONGEST_HEADER: u64 = 16 << 20;

/// The header's key of the file's own strings.
const METADATA: &str = "__metadata__";

/// The string that holds the checksum of everything else, in the files that are written here.
const CHECKSUM: &str = "checksum";

/// A safetensors file in memory, whose header has been checked.
#[derive(Debug)]
pub struct SafeFile {
    path: PathBuf,
    header: Metadata,
    data: Vec<u8>,
}

/// A tensor of a [`SafeFile`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StoredTensor<'a> {
    /// Type of the elements.
    pub dtype: Dtype,
    /// Sizes, the last one varying fastest.
    pub shape: &'a [usize],
    /// The elements, little-endian: as many bytes as `dtype` and `shape` say. Not aligned to anything.
    pub data: &'a [u8],
}

impl SafeFile {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] where the system refuses; [`Error::File`] where the header is not one, or its tensors do not fill
    /// the file exactly, each as long as its shape says and none over another.
    pub fn open(path: &Path) -> Result<Self> {
        let OpenFile { file, len } = open_file(path)?;
        let mut file = BufReader::new(file);
        let bad = |reason: String| Error::file(path, reason);
        if len < PREFIX {
            return Err(bad(format!("Expected a safetensors file but found {len} bytes")));
        }
        let mut prefix = [0; PREFIX as usize];
        file.read_exact(&mut prefix).map_err(Error::io(path))?;
        let header_len = u64::from_le_bytes(prefix);
        let longest = LONGEST_HEADER.min(len - PREFIX);
        if header_len > longest {
            return Err(bad(format!(
                "Expected a safetensors header of at most {longest} bytes but found a claim of {header_len}"
            )));
        }

        let mut header = buffer(path, header_len)?;
        file.by_ref().take(header_len).read_to_end(&mut header).map_err(Error::io(path))?;
        // Checks offsets against shapes, too: they start at 0, leave no gap and do not overlap.
        let header: Metadata = serde_json::from_slice(&header)
            .map_err(|error| bad(format!("Expected a safetensors header but found one that is not valid: {error}")))?;

        let (claimed, left) = (header.data_len() as u64, len - PREFIX - header_len);
        if claimed != left {
            let how = if claimed > left { "it is truncated" } else { "something was added" };
            return Err(bad(format!("Expected {claimed} bytes of tensors but found {left}: {how}")));
        }
        let mut data = buffer(path, claimed)?;
        file.take(claimed).read_to_end(&mut data).map_err(Error::io(path))?;
        if data.len() as u64 != claimed {
            return Err(bad(format!("Expected {claimed} bytes of tensors but found {}", data.len())));
        }
        let file = Self { path: path.to_path_buf(), header, data };
        match file.metadata(CHECKSUM) {
            Some(expected) if expected != file.checksum() => {
                Err(bad("Expected the checksum of its header but found another: the file is damaged".into()))
            }
            _ => Ok(file),
        }
    }

    fn checksum(&self) -> String {
        let strings = self.header.metadata().iter().flatten().collect::<BTreeMap<_, _>>();
        let mut checksum = Checksum::of(strings.into_iter());
        for name in self.header.offset_keys() {
            if let Some(info) = self.header.info(&name) {
                let (start, end) = info.data_offsets;
                checksum.add(&name, info.dtype, &info.shape, &self.data[start..end]);
            }
        }
        checksum.finish()
    }

    /// Where it was read from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// One of the file's own strings.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.header.metadata().as_ref()?.get(key).map(String::as_str)
    }

    /// One of the file's own strings that every file of this kind has: `what` a file of `format` holds, for the sentence.
    ///
    /// # Errors
    ///
    /// [`Error::File`] without it.
    pub fn expect_metadata(&self, what: &str, key: &str) -> Result<&str> {
        self.metadata(key)
            .ok_or_else(|| Error::file(&self.path, format!("Expected {what} of glowflow but found no {key}")))
    }

    /// Checks that the file is of this `format` and `version`.
    ///
    /// # Errors
    ///
    /// [`Error::File`] if not.
    pub fn expect_format(&self, what: &str, format: &str, version: &str) -> Result<()> {
        let bad = |reason: String| Err(Error::file(&self.path, reason));
        let found = self.expect_metadata(what, "format")?;
        if found != format {
            return bad(format!("Expected {what} of glowflow but found the format {found}"));
        }
        let found = self.expect_metadata(what, "version")?;
        if found != version {
            return bad(format!("Expected version {version} of the format but found {found}"));
        }
        Ok(())
    }

    /// The tensors' names, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names = self.names_in_order();
        names.sort_unstable();
        names
    }

    /// The tensors' names, in the order in which they lie in the file.
    pub fn names_in_order(&self) -> Vec<String> {
        self.header.offset_keys()
    }

    /// A tensor.
    ///
    /// # Errors
    ///
    /// [`Error::Weights`] where there is none of this name.
    pub fn tensor(&self, name: &str) -> Result<StoredTensor<'_>> {
        let info = self
            .header
            .info(name)
            .ok_or_else(|| Error::weights(&self.path, format!("Expected a tensor named {name} but found none")))?;
        let (start, end) = info.data_offsets;
        Ok(StoredTensor { dtype: info.dtype, shape: &info.shape, data: &self.data[start..end] })
    }
}

/// The elements of a tensor whose type has four bytes.
pub(super) fn words(bytes: &[u8]) -> impl Iterator<Item = [u8; 4]> {
    bytes.chunks_exact(4).map(|word| word.try_into().expect("four bytes"))
}

/// A tensor for [`write_safetensors`].
#[derive(Debug, Clone)]
pub struct NewTensor<'a> {
    /// Its name in the file.
    pub name: String,
    /// Type of the elements.
    pub dtype: Dtype,
    /// Sizes, the last one varying fastest.
    pub shape: Vec<usize>,
    /// The elements, little-endian.
    pub data: Cow<'a, [u8]>,
}

impl NewTensor<'static> {
    /// Of floats, as many as the shape says.
    pub fn floats(name: String, shape: Vec<usize>, values: &[f32]) -> Self {
        let mut data = Vec::with_capacity(size_of_val(values));
        values.iter().for_each(|value| data.extend_from_slice(&value.to_le_bytes()));
        Self { name, dtype: Dtype::F32, shape, data: data.into() }
    }
}

/// Writes a safetensors file, by [`write_atomically`]. The same tensors and strings, in any order, give the same bytes.
///
/// # Errors
///
/// [`Error::Io`] where the system refuses; [`Error::Internal`] where two names are equal or data do not fit their shape.
pub fn write_safetensors<'a>(
    path: &Path,
    tensors: impl IntoIterator<Item = NewTensor<'a>>,
    metadata: &BTreeMap<String, String>,
) -> Result<()> {
    let mut tensors: Vec<NewTensor<'a>> = tensors.into_iter().collect();
    // The widest elements first, so that every tensor begins at a multiple of its element's size, as in the crate.
    tensors.sort_by(|a, b| b.dtype.cmp(&a.dtype).then_with(|| a.name.cmp(&b.name)));
    let mut checksum = Checksum::of(metadata.iter());
    tensors.iter().for_each(|tensor| checksum.add(&tensor.name, tensor.dtype, &tensor.shape, &tensor.data));
    let mut metadata = metadata.clone();
    metadata.insert(CHECKSUM.to_owned(), checksum.finish());
    let header = header(&tensors, &metadata)?;
    write_atomically(path, |writer| {
        writer.write_all(&(header.len() as u64).to_le_bytes())?;
        writer.write_all(&header)?;
        tensors.iter().try_for_each(|tensor| writer.write_all(&tensor.data))
    })
}

/// XXH3 over strings and tensors, in the order of the file.
struct Checksum(Xxh3);

impl Checksum {
    fn of<'a>(strings: impl Iterator<Item = (&'a String, &'a String)>) -> Self {
        let mut checksum = Self(Xxh3::new());
        for (key, value) in strings.filter(|(key, _)| *key != CHECKSUM) {
            checksum.bytes(key.as_bytes());
            checksum.bytes(value.as_bytes());
        }
        checksum
    }

    fn add(&mut self, name: &str, dtype: Dtype, shape: &[usize], data: &[u8]) {
        self.bytes(name.as_bytes());
        self.bytes(format!("{dtype:?} {shape:?}").as_bytes());
        self.bytes(data);
    }

    /// The length goes in, too: "ab", "c" is not "a", "bc".
    fn bytes(&mut self, bytes: &[u8]) {
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    fn finish(self) -> String {
        format!("xxh3-128:{:032x}", self.0.digest128())
    }
}

/// The header's JSON, padded with spaces to a multiple of 8 bytes. Written here because the crate's own writer takes
/// the strings from a `HashMap`, whose order differs from run to run.
fn header(tensors: &[NewTensor<'_>], metadata: &BTreeMap<String, String>) -> Result<Vec<u8>> {
    let mut infos = BTreeMap::new();
    let mut order = Vec::with_capacity(tensors.len());
    let mut start = 0;
    for tensor in tensors {
        let data_offsets = (start, start + tensor.data.len());
        start = data_offsets.1;
        let info = TensorInfo { dtype: tensor.dtype, shape: tensor.shape.clone(), data_offsets };
        if tensor.name == METADATA || infos.insert(&tensor.name, ()).is_some() {
            return Err(internal(format!("a second tensor named {}", tensor.name)));
        }
        order.push((tensor.name.clone(), info));
    }
    let mut json = serde_json::Serializer::new(Vec::new());
    let written = (|| {
        let mut map = json.serialize_map(None)?;
        if !metadata.is_empty() {
            map.serialize_entry(METADATA, metadata)?;
        }
        order.iter().try_for_each(|(name, info)| map.serialize_entry(name, info))?;
        map.end()
    })();
    written.map_err(|error| internal(error.to_string()))?;
    // The check that readers make: lengths and shapes agree.
    Metadata::new(None, order).map_err(|error| internal(error.to_string()))?;
    let mut header = json.into_inner();
    header.resize(header.len().next_multiple_of(PREFIX as usize), b' ');
    Ok(header)
}

fn internal(reason: String) -> Error {
    Error::Internal { message: format!("tensors that cannot be written: {reason}") }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::random::{Key, Purpose};

    fn tensor(name: &str, dtype: Dtype, shape: &[usize], bytes: usize) -> NewTensor<'static> {
        let data = (0..bytes).map(|i| i as u8).collect::<Vec<u8>>();
        NewTensor { name: name.into(), dtype, shape: shape.to_vec(), data: data.into() }
    }

    fn example() -> (Vec<NewTensor<'static>>, BTreeMap<String, String>) {
        let tensors = vec![
            tensor("b", Dtype::U8, &[3], 3),
            tensor("a", Dtype::F32, &[2, 3], 24),
            tensor("empty", Dtype::F32, &[0, 5], 0),
            tensor("scalar", Dtype::F64, &[], 8),
        ];
        let metadata = (0..8).map(|i| (format!("key{i}"), format!("value \"{i}\""))).collect();
        (tensors, metadata)
    }

    /// A file of this header, then `data` zero bytes.
    fn raw(folder: &Path, header: &str, data: usize) -> PathBuf {
        let path = folder.join("raw.safetensors");
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.bytes());
        bytes.resize(bytes.len() + data, 0);
        fs::write(&path, bytes).unwrap();
        path
    }

    #[track_caller]
    fn refused(path: &Path, sentence: &str) {
        let error = SafeFile::open(path).unwrap_err();
        assert!(matches!(&error, Error::File { path: named, .. } if named == path), "{error:?}");
        assert!(error.to_string().contains(sentence), "{error}");
    }

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        let (tensors, metadata) = example();
        write_safetensors(&path, tensors.clone(), &metadata).unwrap();

        let file = SafeFile::open(&path).unwrap();
        assert_eq!(file.names(), ["a", "b", "empty", "scalar"]);
        assert_eq!(file.metadata("key3"), Some("value \"3\""));
        assert_eq!(file.metadata("key9"), None);
        for tensor in &tensors {
            let read = file.tensor(&tensor.name).unwrap();
            assert_eq!((read.dtype, read.shape, read.data), (tensor.dtype, &tensor.shape[..], &*tensor.data));
        }
        let error = file.tensor("c").unwrap_err();
        assert!(matches!(error, Error::Weights { .. }), "{error}");

        // The crate's own reader agrees.
        let bytes = fs::read(&path).unwrap();
        let theirs = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(theirs.tensor("a").unwrap().data(), &*tensors[1].data);
    }

    #[test]
    fn order_does_not_change_the_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (folder.path().join("1"), folder.path().join("2"));
        let (mut tensors, metadata) = example();
        write_safetensors(&one, tensors.clone(), &metadata).unwrap();
        tensors.reverse();
        write_safetensors(&other, tensors, &metadata).unwrap();
        assert_eq!(fs::read(one).unwrap(), fs::read(other).unwrap());
    }

    #[test]
    fn tensors_that_contradict_themselves_are_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        for tensors in [
            vec![tensor("a", Dtype::F32, &[2], 7)],
            vec![tensor("a", Dtype::F32, &[1], 4), tensor("a", Dtype::U8, &[1], 1)],
            vec![tensor(METADATA, Dtype::F32, &[1], 4)],
        ] {
            let error = write_safetensors(&path, tensors, &BTreeMap::new()).unwrap_err();
            assert!(matches!(error, Error::Internal { .. }), "{error}");
        }
        assert!(!path.exists());
    }

    #[test]
    fn a_header_that_is_none_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("short");
        fs::write(&path, [1, 2, 3]).unwrap();
        refused(&path, "Expected a safetensors file but found 3 bytes");
        fs::write(&path, [0xff; 20]).unwrap();
        refused(&path, "at most 12 bytes but found a claim of 18446744073709551615");
        fs::write(&path, [0; 8]).unwrap();
        refused(&path, "not valid");
        refused(&raw(folder.path(), "{\"a\":", 0), "not valid");
        refused(&raw(folder.path(), &"[".repeat(100_000), 0), "not valid");
        refused(&raw(folder.path(), r#"{"a":{"dtype":"F33","shape":[1],"data_offsets":[0,4]}}"#, 4), "F33");
        let missing = folder.path().join("missing");
        assert!(matches!(SafeFile::open(&missing), Err(Error::Io { path, .. }) if path == missing));
    }

    #[test]
    fn a_long_header_is_refused_before_it_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("long");
        fs::write(&path, (17u64 << 20).to_le_bytes()).unwrap();
        // Sparse: no disk is used.
        fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(1 << 40).unwrap();
        refused(&path, "at most 16777216 bytes but found a claim of 17825792");
    }

    #[test]
    fn tensors_that_do_not_fill_the_file_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let one = |shape: &str, start: u64, end: u64| {
            format!(r#"{{"a":{{"dtype":"F32","shape":{shape},"data_offsets":[{start},{end}]}}}}"#)
        };
        SafeFile::open(&raw(folder.path(), &one("[1]", 0, 4), 4)).unwrap();
        refused(&raw(folder.path(), &one("[1]", 0, 4), 3), "Expected 4 bytes of tensors but found 3: it is truncated");
        refused(
            &raw(folder.path(), &one("[1]", 0, 4), 5),
            "Expected 4 bytes of tensors but found 5: something was added",
        );
        refused(&raw(folder.path(), &one("[2]", 0, 4), 4), "invalid shape");
        refused(&raw(folder.path(), &one("[1]", 4, 8), 8), "invalid offset for tensor `a`");
        refused(&raw(folder.path(), &one("[1]", 4, 0), 4), "invalid offset");
        refused(&raw(folder.path(), &one("[-1]", 0, 4), 4), "not valid");
        refused(&raw(folder.path(), &one("[4294967296,4294967296]", 0, 4), 4), "overflow");
        // A terabyte that is claimed without contradiction, in a file of 4 bytes.
        refused(&raw(folder.path(), &one("[274877906944]", 0, 1 << 40), 4), "Expected 1099511627776 bytes");
        let two = |start: u64| {
            format!(
                r#"{{"a":{{"dtype":"F32","shape":[1],"data_offsets":[0,4]}},"b":{{"dtype":"F32","shape":[1],"data_offsets":[{start},{}]}}}}"#,
                start + 4
            )
        };
        SafeFile::open(&raw(folder.path(), &two(4), 8)).unwrap();
        refused(&raw(folder.path(), &two(2), 6), "invalid offset");
        refused(&raw(folder.path(), &two(5), 9), "invalid offset");
        // Each of the 8 claims is possible by itself; their sum, and the header's length, pass 2^64.
        let piece = 1u64 << 61;
        let mut many: Vec<String> = (0..7)
            .map(|i| {
                let shape = piece - 1;
                let start = i * shape;
                format!(r#""{i}":{{"dtype":"U8","shape":[{shape}],"data_offsets":[{start},{}]}}"#, start + shape)
            })
            .collect();
        let start = 7 * (piece - 1);
        many.push(format!(
            r#""z":{{"dtype":"U8","shape":[{}],"data_offsets":[{start},{}]}}"#,
            u64::MAX - start,
            u64::MAX
        ));
        let error = SafeFile::open(&raw(folder.path(), &format!("{{{}}}", many.join(",")), 4)).unwrap_err();
        assert!(matches!(error, Error::File { .. }), "{error}");
    }

    #[test]
    fn damaged_files_are_read_or_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        let (tensors, metadata) = example();
        write_safetensors(&path, tensors, &metadata).unwrap();
        let whole = fs::read(&path).unwrap();
        let mut stream = Key { seed: 11, purpose: Purpose::Sample, step: 0, image: 0 }.stream();
        let mut draw = [0.0f32; 8];
        for round in 0..2000 {
            stream.fill_uniform(&mut draw);
            let at = |i: usize, bound: usize| (draw[i] * bound as f32) as usize;
            let mut bytes = whole.clone();
            if round % 3 == 0 {
                bytes.truncate(at(0, whole.len()));
            }
            for i in 1..1 + round % 4 {
                if !bytes.is_empty() {
                    let index = at(i, bytes.len());
                    // Digits and brackets get further than noise does.
                    bytes[index] =
                        if round % 2 == 0 { b"0123456789[]{},\":-e"[at(i + 3, 19)] } else { at(i + 3, 256) as u8 };
                }
            }
            fs::write(&path, &bytes).unwrap();
            match SafeFile::open(&path) {
                Ok(file) => {
                    for name in file.names() {
                        let _ = file.tensor(&name).unwrap();
                    }
                }
                Err(error) => assert!(matches!(error, Error::File { .. }), "{error}"),
            }
        }
    }
}
