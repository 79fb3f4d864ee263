//! A file of directions in latent space, one safetensors file.
//!
//! One tensor, a row a direction; their names are JSON in the metadata, where they may be any text in any order.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use ::safetensors::Dtype;

use super::safetensors::{NewTensor, SafeFile, StoredTensor, words, write_safetensors};
use crate::error::{Error, Result};
use crate::models::{NamedDirection, check_direction};

/// The `format` of the file's metadata.
const FORMAT: &str = "glowflow-directions";
/// Versions that differ in what they store differ in this.
const VERSION: &str = "1";
/// The only tensor: `[directions, dims]`, f32.
const TENSOR: &str = "directions";

/// Writes directions, beside and renamed.
///
/// # Errors
///
/// [`Error::Option`] without directions or with two of a name; [`Error::Shape`] where they differ in length or are not
/// finite; [`Error::Io`].
pub fn write(path: &Path, directions: &[NamedDirection]) -> Result<()> {
    let Some(first) = directions.first() else {
        return Err(Error::option("directions", "one direction at least", "none"));
    };
    let dims = first.values.len();
    for NamedDirection { name, values } in directions {
        check_direction(&format!("direction {name:?}"), values, dims)?;
    }
    let names: Vec<&str> = directions.iter().map(|direction| direction.name.as_str()).collect();
    if let Some(name) = repeated(&names) {
        return Err(Error::option("directions", "each name once", format!("{name:?} twice")));
    }
    let json = serde_json::to_string(&names).map_err(|error| Error::Internal { message: error.to_string() })?;
    let metadata: BTreeMap<String, String> = [("format", FORMAT), ("version", VERSION), ("names", &json)]
        .map(|(key, value)| (key.into(), value.into()))
        .into();
    let values: Vec<f32> = directions.iter().flat_map(|direction| &direction.values).copied().collect();
    write_safetensors(path, [NewTensor::floats(TENSOR.into(), vec![directions.len(), dims], &values)], &metadata)
}

/// Reads a file of [`write()`], in the order in which it was written.
///
/// # Errors
///
/// [`Error::File`] for a file of another format or version, or one that contradicts itself; [`Error::Io`].
pub fn read(path: &Path) -> Result<Vec<NamedDirection>> {
    let file = SafeFile::open(path)?;
    let bad = |reason: String| Error::file(path, reason);
    let what = "directions";
    file.expect_format(what, FORMAT, VERSION)?;
    let names: Vec<String> = serde_json::from_str(file.expect_metadata(what, "names")?)
        .map_err(|error| bad(format!("Expected a list of names but found: {error}")))?;
    if let Some(name) = repeated(&names) {
        return Err(bad(format!("Expected each name once but found {name:?} twice")));
    }
    let held = file.names();
    if held != [TENSOR] {
        return Err(bad(format!("Expected one tensor, {TENSOR}, but found {held:?}")));
    }
    let StoredTensor { dtype, shape, data } = file.tensor(TENSOR)?;
    let dims = match (dtype, shape) {
        (Dtype::F32, &[count, dims]) if count == names.len() && count > 0 && dims > 0 => dims,
        _ => return Err(bad(format!("Expected F32 [{}, dims] but found {dtype:?} {shape:?}", names.len()))),
    };
    let rows = data.chunks_exact(4 * dims);
    names
        .into_iter()
        .zip(rows)
        .map(|(name, row)| {
            let values: Vec<f32> = words(row).map(f32::from_le_bytes).collect();
            check_direction(&format!("direction {name:?}"), &values, dims).map_err(|error| bad(error.to_string()))?;
            Ok(NamedDirection { name, values })
        })
        .collect()
}

fn repeated<T: AsRef<str>>(names: &[T]) -> Option<&str> {
    let mut seen = HashSet::new();
    names.iter().map(AsRef::as_ref).find(|name| !seen.insert(*name))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn direction(name: &str, values: &[f32]) -> NamedDirection {
        NamedDirection { name: name.into(), values: values.to_vec() }
    }

    fn file() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("directions.safetensors");
        (folder, path)
    }

    #[test]
    fn directions_come_back_in_their_order_whatever_they_are_called() {
        let (_folder, path) = file();
        let names = [
            "b",
            "a",
            "",
            "__metadata__",
            "__proto__",
            "names",
            "\0",
            "a\nb",
            "\"\\",
            "5_o'Clock",
            "Ünïcødé 👓",
            "../x",
            " ",
        ];
        let directions: Vec<_> =
            names.iter().enumerate().map(|(i, name)| direction(name, &[i as f32, -0.0, 1e-40])).collect();
        write(&path, &directions).unwrap();
        let back = read(&path).unwrap();
        assert_eq!(back, directions);
        assert!(back[0].values[1].is_sign_negative());
    }

    #[test]
    fn what_could_not_be_read_again_is_not_written() {
        let (folder, path) = file();
        for (directions, sentence) in [
            (vec![], "Expected one direction at least for directions but received none"),
            (vec![direction("a", &[1.0]), direction("b", &[1.0, 2.0])], "Expected direction \"b\" of 1 but received 2"),
            (
                vec![direction("a", &[1.0]), direction("b", &[f32::NAN])],
                "Expected direction \"b\" of finite numbers but received NaN at 0",
            ),
            (
                vec![direction("a", &[1.0]), direction("a", &[2.0])],
                "Expected each name once for directions but received \"a\" twice",
            ),
        ] {
            assert_eq!(write(&path, &directions).unwrap_err().to_string(), sentence);
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_file_with_one_thing_wrong_is_refused_by_its_name() {
        let (_folder, path) = file();
        let broken = |key: &str, value: Option<&str>, shape: &[usize], dtype, data: Vec<u8>, name: &str| {
            let mut metadata: BTreeMap<String, String> =
                [("format", FORMAT), ("version", VERSION), ("names", r#"["a","b"]"#)]
                    .map(|(key, value)| (key.into(), value.into()))
                    .into();
            match value {
                Some(value) => metadata.insert(key.into(), value.into()),
                None => metadata.remove(key),
            };
            let tensor = NewTensor { name: name.into(), dtype, shape: shape.to_vec(), data: data.into() };
            write_safetensors(&path, [tensor], &metadata).unwrap();
            match read(&path) {
                Ok(_) => "read".to_owned(),
                Err(error) => {
                    assert!(matches!(&error, Error::File { path: named, .. } if *named == path), "{error:?}");
                    error.to_string()
                }
            }
        };
        let of = |key: &str, value| broken(key, value, &[2, 3], Dtype::F32, vec![0; 24], TENSOR);
        assert_eq!(of("other", Some("string")), "read");
        let tensor = |shape: &[usize], dtype, bytes: usize| broken("x", Some(""), shape, dtype, vec![0; bytes], TENSOR);
        for (sentence, words) in [
            (of("format", None), "Expected directions of glowflow but found no format"),
            (of("format", Some("glowflow")), "Expected directions of glowflow but found the format glowflow"),
            (of("version", Some("2")), "Expected version 1 of the format but found 2"),
            (of("names", None), "found no names"),
            (of("names", Some("a,b")), "Expected a list of names but found"),
            (of("names", Some(r#"["a",1]"#)), "Expected a list of names but found"),
            (of("names", Some(r#"["a","\ud800"]"#)), "Expected a list of names but found"),
            (of("names", Some(r#"["a","a"]"#)), "Expected each name once but found \"a\" twice"),
            (of("names", Some(r#"["a"]"#)), "Expected F32 [1, dims] but found F32 [2, 3]"),
            (of("names", Some(&"[".repeat(100_000))), "Expected a list of names"),
            (tensor(&[6], Dtype::F32, 24), "found F32 [6]"),
            (tensor(&[2, 3, 1], Dtype::F32, 24), "found F32 [2, 3, 1]"),
            (tensor(&[2, 0], Dtype::F32, 0), "found F32 [2, 0]"),
            (tensor(&[2, 3], Dtype::I32, 24), "found I32 [2, 3]"),
            (
                broken("x", Some(""), &[2, 3], Dtype::F32, vec![0; 24], "b"),
                "Expected one tensor, directions, but found [\"b\"]",
            ),
            (
                broken("x", Some(""), &[2, 3], Dtype::F32, vec![0xff; 24], TENSOR),
                "Expected direction \"a\" of finite numbers but received NaN at 0",
            ),
            (broken("names", Some("[]"), &[0, 3], Dtype::F32, vec![], TENSOR), "Expected F32 [0, dims]"),
        ] {
            assert!(sentence.contains(words), "{sentence}");
        }
    }

    #[test]
    fn other_files_are_refused() {
        let (_folder, path) = file();
        assert!(matches!(read(&path), Err(Error::Io { .. })));
        write(&path, &[direction("a", &[1.0, 2.0])]).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for length in 0..whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            assert!(matches!(read(&path), Err(Error::File { .. })), "cut to {length} bytes");
        }
    }
}
