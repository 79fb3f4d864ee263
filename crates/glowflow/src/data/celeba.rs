//! Pictures with yes-or-no attributes, in the layout of CelebA and CelebA-HQ (<https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html>).
//!
//! The attribute file has the number of rows on its first line, the attributes' names on the second, then rows such as
//! `000001.jpg -1 1 ...`. A first line with commas is the header of the same table as CSV, without a count.

use std::collections::HashSet;
use std::path::{Component, Path};

use rayon::prelude::*;

use super::DatasetOptions;
use super::decode::read_whole;
use super::files::{Attributes, ImageFiles, Listing};
use super::fingerprint::Fingerprint;
use super::folder::expect_folder;
use crate::error::{Error, Result};

/// Ten times CelebA's own.
const MOST_BYTES: u64 = 256 << 20;

/// The images that `attributes` lists, in its order, from the folder `images`. Others in the folder are left alone.
///
/// # Errors
///
/// [`Error::File`] names the line of the attribute file that cannot be used, or whose image is not there;
/// [`Error::Image`] without a size for the first picture of another size; [`Error::Io`]; [`Error::Option`].
pub fn celeb_a(images: &Path, attributes: &Path, options: &DatasetOptions) -> Result<ImageFiles> {
    expect_folder(images)?;
    let bytes = read_whole(attributes, MOST_BYTES)?;
    let bad = |reason: String| Error::file(attributes, reason);
    let text = std::str::from_utf8(&bytes).map_err(|_| bad("Expected a text file but found other bytes".into()))?;
    let Table { names, rows, values } = parse(text).map_err(bad)?;

    let sizes: Vec<_> = rows.par_iter().map(|row| std::fs::metadata(images.join(row.file))).collect();
    let mut fingerprint = Fingerprint::of("celebA").bytes(format!("{options:?}").as_bytes()).bytes(&bytes);
    for (row, size) in rows.iter().zip(sizes) {
        let size = size.map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                bad(format!("line {}: Expected {} in {} but found no such file", row.line, row.file, images.display()))
            }
            _ => Error::io(images.join(row.file))(error),
        })?;
        fingerprint = fingerprint.numbers(&[size.len() as usize]);
    }
    let listing = Listing {
        files: rows.iter().map(|row| images.join(row.file)).collect(),
        labels: None,
        classes: None,
        attributes: Some(Attributes { names, values }),
        fingerprint: fingerprint.finish(),
    };
    ImageFiles::new(listing, options)
}

struct Table<'a> {
    names: Vec<String>,
    rows: Vec<Row<'a>>,
    /// 0 or 1, row by row.
    values: Vec<u8>,
}

struct Row<'a> {
    file: &'a str,
    /// From 1.
    line: usize,
}

fn parse(text: &str) -> Result<Table<'_>, String> {
    let text = text.trim_start_matches('\u{feff}');
    let mut lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
    let (_, first) = lines.next().ok_or("Expected a list of attributes but found an empty file")?;
    let csv = first.contains(',');
    let fields = |line| -> Vec<&str> {
        if csv { str::split(line, ',').map(str::trim).collect() } else { line.split_whitespace().collect() }
    };
    let (count, names) = if csv {
        (None, fields(first).split_off(1))
    } else {
        let count = first.trim().parse::<usize>();
        let count = count.map_err(|_| {
            format!("line 1: Expected the number of images, or names with commas, but found {:?}", clip(first))
        })?;
        let (_, names) = lines.next().ok_or("line 2: Expected the attributes' names but the file ends")?;
        (Some(count), fields(names))
    };
    let mut seen = HashSet::new();
    if let Some(name) = names.iter().find(|name| name.is_empty() || !seen.insert(**name)) {
        return Err(format!("Expected attribute names that differ but found {:?} twice or empty", clip(name)));
    }

    let (mut rows, mut values) = (Vec::new(), Vec::new());
    let mut files = HashSet::new();
    for (line, text) in lines {
        let row = fields(text);
        let Some((&file, row)) = row.split_first() else { continue };
        if row.len() != names.len() {
            return Err(format!("line {line}: Expected {} values for {file} but found {}", names.len(), row.len()));
        }
        let mut parts = Path::new(file).components();
        if file.is_empty() || !parts.all(|part| matches!(part, Component::Normal(_))) {
            return Err(format!("line {line}: Expected a file in the folder of images but found {:?}", clip(file)));
        }
        if !files.insert(file) {
            return Err(format!("line {line}: Expected each image once but found {file} again"));
        }
        for (value, name) in row.iter().zip(&names) {
            values.push(match *value {
                "1" => 1,
                "-1" | "0" => 0,
                other => {
                    let found = clip(other);
                    return Err(format!("line {line}: Expected -1, 0 or 1 for {name} of {file} but found {found:?}"));
                }
            });
        }
        rows.push(Row { file, line });
    }
    match count {
        Some(count) if count != rows.len() => {
            Err(format!("Expected {count} images, as the first line says, but found {}", rows.len()))
        }
        _ if rows.is_empty() => Err("Expected one image at least but found none".into()),
        _ => Ok(Table { names: names.into_iter().map(String::from).collect(), rows, values }),
    }
}

/// What fits in a sentence.
fn clip(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use image::ImageFormat;
    use tempfile::TempDir;

    use super::*;
    use crate::data::Dataset;
    use crate::data::decode::tests::encode;

    struct Faces(TempDir);

    impl Faces {
        /// Files `1.png`, `2.png` ... of one grey pixel, their number.
        fn new(count: u8) -> Self {
            let folder = tempfile::tempdir().unwrap();
            for number in 1..=count {
                let png = encode(ImageFormat::Png, [1, 1, 1], &[number]);
                fs::write(folder.path().join(format!("{number}.png")), png).unwrap();
            }
            Self(folder)
        }

        fn open(&self, list: &str) -> Result<ImageFiles> {
            let path = self.0.path().join("list.txt");
            fs::write(&path, list).unwrap();
            let options = DatasetOptions { channels: Some(1), ..DatasetOptions::default() };
            celeb_a(self.0.path(), &path, &options)
        }

        #[track_caller]
        fn refused(&self, list: &str, sentence: &str) {
            let error = self.open(list).err().unwrap();
            let Error::File { path, reason } = &error else { panic!("{error:?}") };
            assert_eq!(*path, self.0.path().join("list.txt"));
            assert!(reason.contains(sentence), "{reason}");
        }
    }

    #[test]
    fn every_layout_gives_the_same() {
        let faces = Faces::new(3);
        for list in [
            "2\nBald Smiling  Young\n3.png -1  1 -1\n1.png  1 -1 -1\n",
            "2\r\nBald Smiling Young\r\n3.png 0 1 0\r\n1.png 1 0 0\r\n\r\n",
            "image_id,Bald,Smiling,Young\n3.png,-1,1,-1\n1.png,1,-1,-1\n",
            "\u{feff}image_id,Bald, Smiling,Young\n3.png,0,1,0\n1.png,1,0,0",
        ] {
            let data = faces.open(list).unwrap();
            assert_eq!(data.attributes().unwrap(), ["Bald", "Smiling", "Young"]);
            assert_eq!((data.len(), data.classes()), (2, None));
            let batch = data.batch(&[1, 0, 1]).unwrap();
            assert_eq!(batch.images.bytes().data, [1, 3, 1]);
            assert_eq!(batch.attributes.unwrap(), [1, 0, 0, 0, 1, 0, 1, 0, 0]);
        }
    }

    #[test]
    fn parts_keep_the_attributes() {
        let data = Faces::new(3).0;
        let faces = Faces(data);
        let data = std::sync::Arc::new(faces.open("3\nA B\n1.png 1 1\n2.png 1 0\n3.png 0 1\n").unwrap());
        let part = &crate::data::split(data, &[0.67], 1).unwrap()[0];
        assert_eq!(part.attributes().unwrap(), ["A", "B"]);
        let batch = part.batch(&[0, 1]).unwrap();
        let rows = [[1, 1], [1, 0], [0, 1]];
        let expected: Vec<u8> =
            batch.images.bytes().data.iter().flat_map(|&number| rows[number as usize - 1]).collect();
        assert_eq!(batch.attributes.unwrap(), expected);
    }

    #[test]
    fn lines_that_cannot_be_used_are_named() {
        let faces = Faces::new(2);
        faces.refused("", "an empty file");
        faces.refused("2", "line 2: Expected the attributes' names but the file ends");
        faces.refused("Bald Young\n1.png 1 1", "line 1: Expected the number of images");
        faces.refused("1\nBald Young\n1.png 1\n", "line 3: Expected 2 values for 1.png but found 1");
        faces.refused("1\nBald Young\n1.png 1 1 1\n", "line 3: Expected 2 values for 1.png but found 3");
        faces.refused("2\nBald\n1.png 1\n2.png 2\n", "line 4: Expected -1, 0 or 1 for Bald of 2.png but found \"2\"");
        faces.refused("2\nBald\n1.png 1\n\n7.png 1\n", "line 5: Expected 7.png in");
        faces.refused("2\nBald\n1.png 1\n1.png 1\n", "line 4: Expected each image once but found 1.png again");
        faces.refused("3\nBald\n1.png 1\n", "Expected 3 images, as the first line says, but found 1");
        faces.refused("0\nBald\n", "Expected one image at least but found none");
        faces.refused("image_id,A,A\n1.png,1,1\n", "Expected attribute names that differ but found \"A\"");
        faces
            .refused("1\nBald\n../1.png 1\n", "line 3: Expected a file in the folder of images but found \"../1.png\"");
        faces.refused("1\nBald\n/etc/passwd 1\n", "line 3: Expected a file in the folder of images");
        let missing = celeb_a(&faces.0.path().join("none"), &faces.0.path().join("list.txt"), &Default::default());
        assert!(matches!(missing, Err(Error::Io { .. })));
        fs::write(faces.0.path().join("list.txt"), [0xff, 0xfe, 0]).unwrap();
        let binary = celeb_a(faces.0.path(), &faces.0.path().join("list.txt"), &Default::default());
        assert!(binary.err().unwrap().to_string().contains("Expected a text file"));
    }

    #[test]
    fn the_attributes_are_part_of_the_fingerprint() {
        let faces = Faces::new(2);
        let of = |list: &str| faces.open(list).unwrap().fingerprint();
        assert_eq!(of("1\nBald\n1.png 1\n"), of("1\nBald\n1.png 1\n"));
        assert_ne!(of("1\nBald\n1.png 1\n"), of("1\nBald\n1.png 0\n"));
    }
}
