//! Images in picture files, decoded when they are asked for.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::cache::Cache;
use super::decode::{Picture, measure, read_picture};
use super::pipeline::{Crop, Pipeline};
use super::{Dataset, DatasetOptions, LabelledImages, check_indices, pick_labels};
use crate::error::{Error, Result};
use crate::images::{ImageShape, Images, Pixels};
use crate::models::memory;

/// The part of the memory that is free when a data set is opened that its decoded images may fill.
const CACHE_SHARE: u64 = 4;

/// Channels of picture files, where nothing else is asked for: a folder may mix grey and colour.
const CHANNELS: usize = 3;

/// A data set of picture files. Decoded and resized images are kept in a quarter of the memory that was free when it was
/// opened; what does not fit is decoded each time. Padding and crop are applied to what is kept.
pub struct ImageFiles {
    files: Vec<PathBuf>,
    labels: Option<Vec<u32>>,
    classes: Option<Vec<String>>,
    attributes: Option<Attributes>,
    pipeline: Pipeline,
    cache: Cache,
    fingerprint: String,
}

/// Yes-or-no attributes of images.
pub(super) struct Attributes {
    pub names: Vec<String>,
    /// A row of 0 and 1 for each image.
    pub values: Vec<u8>,
}

/// What a kind of data set knows of its files.
pub(super) struct Listing {
    /// One at least.
    pub files: Vec<PathBuf>,
    pub labels: Option<Vec<u32>>,
    pub classes: Option<Vec<String>>,
    pub attributes: Option<Attributes>,
    pub fingerprint: String,
}

impl ImageFiles {
    /// Without a size in `options`, reads the header of every file: all must have one size.
    pub(super) fn new(listing: Listing, options: &DatasetOptions) -> Result<Self> {
        let budget = usize::try_from(memory::available() / CACHE_SHARE).unwrap_or(usize::MAX);
        Self::with_cache(listing, options, budget)
    }

    fn with_cache(listing: Listing, options: &DatasetOptions, budget: usize) -> Result<Self> {
        let Listing { files, labels, classes, attributes, fingerprint } = listing;
        let pipeline = pipeline_of(&files, options)?;
        let cache = Cache::new(files.len(), budget);
        Ok(Self { files, labels, classes, attributes, pipeline, cache, fingerprint })
    }

    fn read(&self, indices: &[usize], crop: Crop) -> Result<LabelledImages> {
        check_indices(indices, self.len())?;
        let images = self.pipeline.draw(indices, crop, |index| {
            self.cache.get_or_read(index, || prepare(&self.pipeline, &self.files[index], index))
        })?;
        let attributes = self.attributes.as_ref().map(|attributes| {
            let row = |&index: &usize| &attributes.values[index * attributes.names.len()..][..attributes.names.len()];
            indices.iter().flat_map(row).copied().collect()
        });
        let images = Pixels::Bytes(images);
        Ok(LabelledImages { images, labels: pick_labels(self.labels.as_deref(), indices), attributes })
    }
}

impl Dataset for ImageFiles {
    fn len(&self) -> usize {
        self.files.len()
    }

    fn shape(&self) -> ImageShape {
        self.pipeline.shape()
    }

    fn classes(&self) -> Option<&[String]> {
        self.classes.as_deref()
    }

    fn attributes(&self) -> Option<&[String]> {
        self.attributes.as_ref().map(|attributes| attributes.names.as_slice())
    }

    fn fingerprint(&self) -> String {
        self.fingerprint.clone()
    }

    fn batch(&self, indices: &[usize]) -> Result<LabelledImages> {
        self.read(indices, Crop::Centre)
    }

    fn training_batch(&self, indices: &[usize], seed: u64, step: u64) -> Result<LabelledImages> {
        self.read(indices, Crop::Drawn { seed, step })
    }
}

/// Reads picture files, with a random crop about the centre: `options` are those of a data set.
///
/// # Errors
///
/// [`Error::Image`] names a file that is no picture, or, without a size, the first of another size than the others;
/// [`Error::Io`]; [`Error::Option`].
pub fn read_images(files: &[PathBuf], options: &DatasetOptions) -> Result<Images> {
    if files.is_empty() {
        return Err(Error::option("files", "one file at least", "none"));
    }
    let pipeline = pipeline_of(files, options)?;
    let indices: Vec<usize> = (0..files.len()).collect();
    pipeline.draw(&indices, Crop::Centre, |index| prepare(&pipeline, &files[index], index).map(Cow::Owned))
}

fn pipeline_of(files: &[PathBuf], options: &DatasetOptions) -> Result<Pipeline> {
    let [height, width] = match options.size {
        Some(size) => size,
        None => {
            // Options that no image could satisfy are named before a million headers are read.
            let first = stored_shape(measure(&files[0], 0)?);
            Pipeline::new(first, options)?;
            one_size(files)?
        }
    };
    Pipeline::new(stored_shape([height, width]), options)
}

fn stored_shape([height, width]: [usize; 2]) -> ImageShape {
    ImageShape { height, width, channels: CHANNELS }
}

/// The size of every picture.
fn one_size(files: &[PathBuf]) -> Result<[usize; 2]> {
    let sizes: Vec<Result<[usize; 2]>> =
        files.par_iter().enumerate().map(|(index, file)| measure(file, index)).collect();
    let mut first = None;
    for (index, size) in sizes.into_iter().enumerate() {
        let size = size?;
        if *first.get_or_insert(size) != size {
            return Err(other_size(&files[index], index, first.unwrap_or(size), size));
        }
    }
    // Nobody asks for the size of no files.
    Ok(first.unwrap_or([1, 1]))
}

fn other_size(file: &Path, index: usize, [height, width]: [usize; 2], found: [usize; 2]) -> Error {
    let reason = format!(
        "Expected {height}x{width}, as the first image is, but found {}x{}: give a size to resize them",
        found[0], found[1]
    );
    Error::Image { file: file.to_path_buf(), index, reason }
}

/// What is kept of a file.
fn prepare(pipeline: &Pipeline, file: &Path, index: usize) -> Result<Vec<u8>> {
    let Picture { pixels, shape } = read_picture(file, index)?;
    let base = pipeline.base();
    if !pipeline.resizes() && (shape.height, shape.width) != (base.height, base.width) {
        return Err(other_size(file, index, [base.height, base.width], [shape.height, shape.width]));
    }
    Ok(pipeline.prepare(pixels.into(), shape)?.into_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use image::ImageFormat;
    use tempfile::TempDir;

    use super::*;
    use crate::data::decode::tests::{encode, noise};

    struct Files(TempDir, Vec<PathBuf>);

    impl Files {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap(), Vec::new())
        }

        fn put(&mut self, name: &str, bytes: &[u8]) -> &mut Self {
            let path = self.0.path().join(name);
            fs::write(&path, bytes).unwrap();
            self.1.push(path);
            self
        }

        fn png(&mut self, sizes: [usize; 3], pixels: &[u8]) -> &mut Self {
            let name = format!("{}.png", self.1.len());
            self.put(&name, &encode(ImageFormat::Png, sizes, pixels))
        }

        fn open(&self, options: &DatasetOptions, budget: usize) -> Result<ImageFiles> {
            let listing = Listing {
                files: self.1.clone(),
                labels: None,
                classes: None,
                attributes: None,
                fingerprint: String::new(),
            };
            ImageFiles::with_cache(listing, options, budget)
        }
    }

    fn all(data: &ImageFiles) -> Result<Vec<u8>> {
        Ok(data.batch(&(0..data.len()).collect::<Vec<_>>())?.images.bytes().data)
    }

    #[test]
    fn grey_and_colour_mix() {
        let mut files = Files::new();
        files.png([1, 2, 1], &[5, 6]).png([1, 2, 3], &[255, 0, 0, 1, 1, 1]).png([1, 2, 4], &[9, 9, 9, 0, 8, 8, 8, 255]);
        let options = DatasetOptions { background: [100; 3], ..DatasetOptions::default() };
        let data = files.open(&options, 0).unwrap();
        assert_eq!(data.shape().to_string(), "1x2x3");
        assert_eq!(all(&data).unwrap(), [5, 5, 5, 6, 6, 6, 255, 0, 0, 1, 1, 1, 100, 100, 100, 8, 8, 8]);
        let grey = files.open(&DatasetOptions { channels: Some(1), ..options }, 0).unwrap();
        assert_eq!(all(&grey).unwrap(), [5, 6, 76, 1, 100, 8]);
    }

    #[test]
    fn the_cache_changes_nothing() {
        let mut files = Files::new();
        for seed in 0..9 {
            files.png([20 + seed, 30, 3], &noise((20 + seed) * 30 * 3, seed as u64));
        }
        let options = DatasetOptions { size: Some([12, 12]), pad: 2, random_crop: Some(9), ..Default::default() };
        let image = 12 * 12 * 3;
        let [none, some, every] = [0, 4 * image, 100 * image].map(|budget| files.open(&options, budget).unwrap());
        let indices: Vec<usize> = (0..9).chain([3, 3]).collect();
        for step in 0..4 {
            let [a, b, c] =
                [&none, &some, &every].map(|data| data.training_batch(&indices, 1, step).unwrap().images.bytes());
            assert!(a == b && b == c);
            assert_eq!(a.image(3), a.image(9));
            assert_ne!(a, none.training_batch(&indices, 1, step + 1).unwrap().images.bytes());
        }
        assert!(all(&none).unwrap() == all(&every).unwrap());
        // What is kept is not read again.
        files.1.iter().for_each(|file| fs::remove_file(file).unwrap());
        all(&every).unwrap();
        assert!(matches!(all(&some), Err(Error::Io { .. })) && matches!(all(&none), Err(Error::Io { .. })));
    }

    #[test]
    fn a_broken_image_is_named_and_leaves_the_others() {
        let mut files = Files::new();
        let jpeg = encode(ImageFormat::Jpeg, [16, 16, 3], &noise(768, 1));
        let png = encode(ImageFormat::Png, [16, 16, 3], &noise(768, 2));
        files.put("a.jpg", &jpeg).put("b.jpg", &jpeg[..jpeg.len() - 20]).put("c.png", &png[..500]).put("d.png", &png);
        // Headers are whole: the folder opens.
        let data = files.open(&DatasetOptions::default(), 1 << 20).unwrap();
        for (index, name) in [(1, "b.jpg"), (2, "c.png")] {
            let error = data.batch(&[0, index, 3]).unwrap_err();
            assert_eq!(error.code(), "ERR_GLOW_DATA");
            let details = error.details();
            assert_eq!(
                (details["index"].as_u64(), details["what"].as_str()),
                (Some(index as u64), details["file"].as_str())
            );
            assert!(details["file"].as_str().unwrap().ends_with(name), "{details}");
            assert!(error.to_string().contains(name), "{error}");
        }
        data.batch(&[0, 3]).unwrap();
        assert!(data.training_batch(&[3, 2, 1], 0, 0).unwrap_err().to_string().contains("c.png"));
    }

    #[test]
    fn without_a_size_all_have_one() {
        let mut files = Files::new();
        files.png([4, 6, 1], &[1; 24]).png([4, 6, 1], &[1; 24]).png([6, 4, 1], &[1; 24]);
        let error = files.open(&DatasetOptions::default(), 0).err().unwrap();
        assert!(matches!(&error, Error::Image { index: 2, file, .. } if *file == files.1[2]), "{error:?}");
        assert!(error.to_string().contains("Expected 4x6, as the first image is, but found 6x4"), "{error}");
        let crop = DatasetOptions { random_crop: Some(5), ..DatasetOptions::default() };
        assert!(matches!(files.open(&crop, 0), Err(Error::Option { .. })));
        let data = files.open(&DatasetOptions { size: Some([3, 3]), ..DatasetOptions::default() }, 0).unwrap();
        assert_eq!(all(&data).unwrap(), [1; 81]);
        // A file that has changed since.
        files.1.pop();
        let data = files.open(&DatasetOptions::default(), 0).unwrap();
        fs::write(&files.1[1], encode(ImageFormat::Png, [6, 4, 1], &[1; 24])).unwrap();
        assert!(all(&data).unwrap_err().to_string().contains("but found 6x4"));
    }

    #[test]
    fn pictures_are_read_as_a_data_set_reads_them() {
        let mut files = Files::new();
        files.png([2, 2, 1], &[1, 2, 3, 4]).png([2, 2, 1], &[5, 6, 7, 8]);
        let options = DatasetOptions { channels: Some(1), random_crop: Some(1), ..DatasetOptions::default() };
        let images = read_images(&files.1, &options).unwrap();
        assert_eq!((images.count, images.data), (2, vec![1, 5]));
        assert_eq!(read_images(&files.1, &DatasetOptions::default()).unwrap().shape.channels, 3);
        let error = read_images(&[], &options).unwrap_err();
        assert_eq!(error.to_string(), "Expected one file at least for files but received none");
        files.png([2, 3, 1], &[0; 6]);
        assert!(matches!(read_images(&files.1, &options), Err(Error::Image { index: 2, .. })));
    }
}
