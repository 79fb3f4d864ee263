//! Directions of data sets: what they are, what they cost and what is refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use glowflow::data::{Dataset, InMemory, LabelledImages};
use glowflow::{
    Call, Error, FlowModel, GlowConfig, ImageShape, Images, InterpolationPath, Latents, NamedDirection, Noise, Pixels,
    Result,
};

use crate::common::{cpu, images, model, relative_error, tiny};

/// Images with attributes, such as no source gives yet; counts the images that are read.
struct Attributed {
    images: Images,
    names: Vec<String>,
    /// A row of 0 and 1 for each image.
    values: Vec<u8>,
    read: AtomicUsize,
    /// Set once so many images have been read.
    cancel: Option<(usize, Arc<AtomicBool>)>,
}

impl Attributed {
    fn new(images: Images, names: &[&str], has: impl Fn(usize, usize) -> bool) -> Self {
        let values = (0..images.count).flat_map(|image| (0..names.len()).map(move |name| (image, name)));
        Self {
            values: values.map(|(image, name)| u8::from(has(image, name))).collect(),
            images,
            names: names.iter().map(|&name| name.to_owned()).collect(),
            read: AtomicUsize::new(0),
            cancel: None,
        }
    }
}

impl Dataset for Attributed {
    fn len(&self) -> usize {
        self.images.count
    }
    fn shape(&self) -> ImageShape {
        self.images.shape
    }
    fn classes(&self) -> Option<&[String]> {
        None
    }
    fn attributes(&self) -> Option<&[String]> {
        Some(&self.names)
    }
    fn fingerprint(&self) -> String {
        "attributed".into()
    }
    fn batch(&self, indices: &[usize]) -> Result<LabelledImages> {
        let read = self.read.fetch_add(indices.len(), Ordering::Relaxed) + indices.len();
        if let Some((after, cancel)) = &self.cancel
            && read >= *after
        {
            cancel.store(true, Ordering::Release);
        }
        let row = |&index: &usize| self.values[index * self.names.len()..][..self.names.len()].to_vec();
        Ok(LabelledImages {
            images: Pixels::Bytes(picked(&self.images, indices)),
            labels: None,
            attributes: Some(indices.iter().flat_map(row).collect()),
        })
    }
}

fn picked(images: &Images, indices: &[usize]) -> Images {
    let data = indices.iter().flat_map(|&index| images.image(index)).copied().collect();
    Images::new(data, indices.len(), images.shape).unwrap()
}

fn encode(model: &FlowModel, images: &Images) -> Latents {
    model.encode(&Pixels::Bytes(images.clone()), &Noise::midpoint(), &Call::default()).unwrap()
}

/// The mean latent of the images that have something, less that of the others, as the definition says it.
fn by_definition(latents: &Latents, has: impl Fn(usize) -> bool) -> Vec<f64> {
    let rows: Vec<&[f32]> = latents.data.chunks_exact(latents.dims).collect();
    let mean = |wanted: bool, dim: usize| {
        let chosen: Vec<f64> =
            (0..rows.len()).filter(|&image| has(image) == wanted).map(|image| f64::from(rows[image][dim])).collect();
        chosen.iter().sum::<f64>() / chosen.len() as f64
    };
    (0..latents.dims).map(|dim| mean(true, dim) - mean(false, dim)).collect()
}

#[track_caller]
fn is_the_direction(found: &NamedDirection, name: &str, truth: &[f64]) {
    assert_eq!(found.name, name);
    let values: Vec<f64> = found.values.iter().map(|&value| f64::from(value)).collect();
    assert!(relative_error(&values, truth) < 1e-6, "{name}: {}", relative_error(&values, truth));
}

const NAMES: [&str; 4] = ["Smiling", "Hat", "Young", "5_o'Clock Shadow"];

/// Frequent and rare ones; each image has its own set.
fn has(image: usize, name: usize) -> bool {
    match name {
        0 => image.is_multiple_of(2),
        1 => image == 41,
        2 => image != 7,
        _ => image.is_multiple_of(3),
    }
}

#[test]
fn each_attribute_has_the_direction_between_its_means_and_each_image_is_encoded_once() {
    let config = GlowConfig { depth: 3, ..tiny(8, 8, 3) };
    let model = model(&config, 0.02);
    let data = Attributed::new(images(60, config.image, 5), &NAMES, has);
    let latents = encode(&model, &data.images);
    let of = |batch_size| model.directions(&data, None, &Call { batch_size, ..Call::default() }).unwrap();
    let found = of(None);
    assert_eq!(found.len(), 4);
    for (name, found) in found.iter().enumerate() {
        is_the_direction(found, NAMES[name], &by_definition(&latents, |image| has(image, name)));
    }
    // At most one look for images with and without each, and one pass.
    assert!(data.read.load(Ordering::Relaxed) <= 120);
    for batch_size in [1, 7, 200] {
        assert_eq!(of(Some(batch_size)), found, "batch size {batch_size}");
    }

    // The same as one direction by itself.
    let having: Vec<usize> = (0..60).filter(|&image| has(image, 3)).collect();
    let without: Vec<usize> = (0..60).filter(|&image| !has(image, 3)).collect();
    let part = |indices: &[usize]| InMemory::new(picked(&data.images, indices), None, None).unwrap();
    let single = model.direction(&part(&having), &part(&without), &Call::default()).unwrap();
    is_the_direction(&found[3], NAMES[3], &single.iter().map(|&value| f64::from(value)).collect::<Vec<_>>());
}

#[test]
fn what_is_frequent_is_found_after_a_few_images() {
    let config = tiny(8, 8, 1);
    let model = model(&config, 0.02);
    // Sorted, as folders of classes are.
    let data = Attributed::new(images(400, config.image, 5), &["a", "b"], |image, name| (image < 200) == (name == 0));
    model.directions(&data, None, &Call { batch_size: Some(10), ..Call::default() }).unwrap();
    let read = data.read.load(Ordering::Relaxed);
    assert!((410..=430).contains(&read), "{read}");
}

#[test]
fn data_with_classes_only_have_a_direction_for_each_class_against_the_others() {
    let config = tiny(8, 8, 1);
    let model = model(&config, 0.02);
    let pixels = images(30, config.image, 5);
    let labels: Vec<u32> = (0..30).map(|image| [0, 2, 2, 3, 0][image % 5]).collect();
    let classes = ["cat", "none of these", "dog", "cow"].map(String::from).to_vec();
    let data = InMemory::new(pixels.clone(), Some(labels.clone()), Some(classes)).unwrap();
    let error = model.directions(&data, None, &Call::default()).unwrap_err();
    let sentence = "the data set: Expected images with and without each class but no image has \"none of these\": \
                    name the others in only";
    assert_eq!((error.code(), error.to_string().as_str()), ("ERR_GLOW_DATA", sentence));
    let only = ["cow", "cat"].map(String::from);
    let found = model.directions(&data, Some(&only), &Call::default()).unwrap();
    let latents = encode(&model, &pixels);
    assert_eq!(found.len(), 2);
    is_the_direction(&found[0], "cow", &by_definition(&latents, |image| labels[image] == 3));
    is_the_direction(&found[1], "cat", &by_definition(&latents, |image| labels[image] == 0));
}

#[test]
fn attributes_without_contrast_are_all_named_before_anything_is_encoded() {
    let config = tiny(8, 8, 1);
    // Not initialized: to encode would be another error.
    let model = FlowModel::create(config.clone(), &cpu()).unwrap();
    let names = ["Bald", "Male", "Hat", "Human"];
    let data =
        Attributed::new(images(50, config.image, 5), &names, |image, name| [false, image == 3, false, true][name]);
    let error = model.directions(&data, None, &Call::default()).unwrap_err();
    assert_eq!(error.code(), "ERR_GLOW_DATA");
    assert_eq!(
        error.to_string(),
        "the data set: Expected images with and without each attribute but no image has \"Bald\", \"Hat\" and every \
         image has \"Human\": name the others in only"
    );
    let only = ["Male".to_owned()];
    let error = model.directions(&data, Some(&only), &Call::default()).unwrap_err();
    assert_eq!(error.code(), "ERR_GLOW_NOT_INITIALIZED");
}

#[test]
fn what_has_no_directions_is_refused() {
    let config = tiny(8, 8, 1);
    let model = model(&config, 0.02);
    let call = Call::default();
    let refused = |data: &dyn Dataset, only: Option<&[&str]>, code: &str, words: &str| {
        let only: Option<Vec<String>> = only.map(|only| only.iter().map(|&name| name.to_owned()).collect());
        let error = model.directions(data, only.as_deref(), &call).unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        assert!(error.to_string().contains(words), "{error}");
    };
    let attributed = |names: &[&str]| Attributed::new(images(6, config.image, 5), names, |image, _| image == 0);
    let plain = InMemory::new(images(6, config.image, 5), None, None).unwrap();
    let (option, data) = ("ERR_GLOW_OPTION", "ERR_GLOW_DATA");
    refused(&plain, None, data, "the data set: Expected attributes or classes but it has neither");
    refused(&attributed(&[]), None, data, "it has neither");
    let expected = "Expected the name of each attribute wanted, once, for only but received";
    refused(&attributed(&["a", "b"]), Some(&["a", "c"]), option, &format!("{expected} \"c\""));
    refused(&attributed(&["a", "b"]), Some(&["b", "b"]), option, &format!("{expected} \"b\""));
    refused(&attributed(&["a"]), Some(&[]), option, "Expected one name at least for only but received none");
    let wide = Attributed::new(images(6, tiny(8, 16, 1).image, 5), &["a"], |image, _| image == 0);
    refused(&wide, None, "ERR_GLOW_SHAPE", "8x8x1 but received 8x16x1");
    let empty = Attributed::new(images(0, config.image, 5), &["a"], |_, _| true);
    refused(&empty, None, "ERR_GLOW_SHAPE", "at least 1 but received 0");
    // Fewer values than names: somebody else may have written the data set.
    let mut short = attributed(&["a", "b"]);
    short.names.push("c".into());
    short.values = vec![1; 18];
    let short = Short(short);
    refused(&short, None, data, "Expected 18 attributes but received 17");
}

/// Loses an attribute of the last image.
struct Short(Attributed);

impl Dataset for Short {
    fn len(&self) -> usize {
        self.0.len()
    }
    fn shape(&self) -> ImageShape {
        self.0.shape()
    }
    fn classes(&self) -> Option<&[String]> {
        None
    }
    fn attributes(&self) -> Option<&[String]> {
        self.0.attributes()
    }
    fn fingerprint(&self) -> String {
        "short".into()
    }
    fn batch(&self, indices: &[usize]) -> Result<LabelledImages> {
        let mut batch = self.0.batch(indices)?;
        batch.attributes.as_mut().unwrap().pop();
        Ok(batch)
    }
}

#[test]
fn the_search_and_the_pass_can_be_cancelled() {
    let config = tiny(8, 8, 1);
    let model = model(&config, 0.02);
    for after in [1, 20, 60] {
        let cancel = Arc::new(AtomicBool::new(false));
        let mut data = Attributed::new(images(40, config.image, 5), &["a"], |image, _| image == 11);
        data.cancel = Some((after, cancel.clone()));
        let error =
            model.directions(&data, None, &Call { cancel, batch_size: Some(1), ..Call::default() }).unwrap_err();
        assert!(matches!(error, Error::Aborted), "{error}");
        assert_eq!(data.read.load(Ordering::Relaxed), after, "it went on");
    }
}

#[test]
fn latents_that_are_edited_decode_to_what_edited_images_are() {
    let config = GlowConfig { depth: 3, ..tiny(8, 8, 3) };
    let model = model(&config, 0.02);
    let call = Call::default();
    let (from, to) = (images(2, config.image, 5), images(2, config.image, 6));
    let (a, b) = (encode(&model, &from), encode(&model, &to));
    for path in [InterpolationPath::Linear, InterpolationPath::Spherical] {
        let frames = model.decode(&a.interpolate(&b, 4, path).unwrap(), &call).unwrap();
        assert_eq!(frames, model.interpolate(&from, &to, 4, path, &call).unwrap());
    }
    let direction: Vec<f32> = a.data[..a.dims].iter().zip(&b.data).map(|(a, b)| 0.1 * (b - a)).collect();
    let shifted = model.decode(&a.shift(&direction, &[0.0, 1.5]).unwrap(), &call).unwrap();
    assert_eq!(shifted, model.shift(&from, &direction, &[0.0, 1.5], &call).unwrap());
    assert_eq!(shifted.image(0), from.image(0));

    let drawn = a.resample(&model.latent_scales(), &[0], 0.7, 1).unwrap();
    let varied = model.decode(&drawn, &call).unwrap();
    assert_ne!(varied, from);
    let again = encode(&model, &from).resample(&model.latent_scales(), &[], 0.7, 1).unwrap();
    assert_eq!(model.decode(&again, &call).unwrap(), from);
}
