//! Directions in latent space: from the mean of images without something to that of images that have it.
//!
//! Kingma & Dhariwal 2018, section 6.

use super::dequantize::Noise;
use super::flow_model::{Call, FlowModel};
use super::labels::{CheckedLabels, check_classes};
use super::latents::Latents;
use crate::data::{Dataset, LabelledImages, read_batch};
use crate::error::{Error, Result};
use crate::random::{Key, Purpose};

/// A direction and what it is of.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedDirection {
    /// The attribute or class: any text.
    pub name: String,
    /// Height x width x channels values.
    pub values: Vec<f32>,
}

/// Checks that a direction has `dims` values, all finite. `what` names it.
pub(crate) fn check_direction(what: &str, values: &[f32], dims: usize) -> Result<()> {
    if values.len() != dims {
        return Err(Error::shape(what, dims, values.len()));
    }
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(index) => Err(Error::shape(what, "finite numbers", format!("{} at {index}", values[index]))),
    }
}

impl FlowModel {
    /// The direction from the mean latent of `without` to that of `having`. Length: height x width x channels.
    pub fn direction(&self, having: &dyn Dataset, without: &dyn Dataset, call: &Call) -> Result<Vec<f32>> {
        self.check_data(having)?;
        self.check_data(without)?;
        let sum = |data| {
            let mut sum = Sum::of_none(self.config().image().dims());
            self.encode_data(data, call, |_, latents| latents.rows().for_each(|row| sum.add(row)))?;
            Ok(sum)
        };
        Ok(sum(having)?.minus_means_of(&sum(without)?))
    }

    /// A direction for each attribute of the data, or where they have none for each class: from the mean latent of all
    /// images without it to that of those with it. `only`: the names of those wanted. Each image is encoded once; held are
    /// one latent in f64 for each name and the part at hand.
    ///
    /// # Errors
    ///
    /// [`Error::Data`] for data with neither, and, before anything is encoded, with the names of all that every image
    /// has or none; [`Error::Option`] for a name in `only` that the data do not have.
    pub fn directions(&self, data: &dyn Dataset, only: Option<&[String]>, call: &Call) -> Result<Vec<NamedDirection>> {
        self.check_data(data)?;
        let marks = Marks::of(data)?;
        let wanted = marks.wanted(only)?;
        self.check_contrast(data, &marks, &wanted, call)?;
        let mut all = Sum::of_none(self.config().image().dims());
        let mut having = vec![all.clone(); wanted.len()];
        self.encode_data(data, call, |batch, latents| {
            for (image, row) in latents.rows().enumerate() {
                all.add(row);
                for (sum, &mark) in having.iter_mut().zip(&wanted) {
                    if marks.has(batch, image, mark) {
                        sum.add(row);
                    }
                }
            }
        })?;
        let direction = |(&mark, having): (&usize, Sum)| NamedDirection {
            name: marks.names()[mark].clone(),
            values: having.minus_means_of(&all.rest(&having)),
        };
        Ok(wanted.iter().zip(having).map(direction).collect())
    }

    fn check_data(&self, data: &dyn Dataset) -> Result<()> {
        self.check_shape("images", data.shape())?;
        check_classes(self.config(), data)?;
        if data.is_empty() { Err(Error::shape("images", "at least 1", 0)) } else { Ok(()) }
    }

    /// Encodes the data part by part.
    fn encode_data(
        &self,
        data: &dyn Dataset,
        call: &Call,
        mut part: impl FnMut(&LabelledImages, &Latents),
    ) -> Result<()> {
        self.in_parts(data.len(), call, |range| {
            let batch = read_batch(data, &range.collect::<Vec<_>>())?;
            let labels = CheckedLabels::of_batch(self.config(), &batch)?.into_call();
            let call = Call { labels, ..call.clone() };
            part(&batch, &self.encode(&batch.images, &Noise::midpoint(), &call)?);
            Ok(())
        })
    }

    /// That of each mark there are images with and without it. Reads images until that is known, in random order, since
    /// data are often sorted: of most data a few hundred.
    fn check_contrast(&self, data: &dyn Dataset, marks: &Marks<'_>, wanted: &[usize], call: &Call) -> Result<()> {
        let order = Key { seed: 0, purpose: Purpose::Order, step: u64::MAX, image: 0 }.stream().permutation(data.len());
        let (mut with, mut without) = (vec![false; wanted.len()], vec![false; wanted.len()]);
        self.in_parts(data.len(), call, |range| {
            if with.iter().zip(&without).all(|(with, without)| *with && *without) {
                return Ok(());
            }
            let count = range.len();
            let batch = read_batch(data, &order[range])?;
            for image in 0..count {
                for (at, &mark) in wanted.iter().enumerate() {
                    let seen = if marks.has(&batch, image, mark) { &mut with } else { &mut without };
                    seen[at] = true;
                }
            }
            Ok(())
        })?;
        let never = |seen: &[bool]| -> Vec<String> {
            let unseen = wanted.iter().zip(seen).filter(|(_, seen)| !**seen);
            unseen.map(|(&mark, _)| format!("{:?}", marks.names()[mark])).collect()
        };
        let found: Vec<String> = [("no image has", never(&with)), ("every image has", never(&without))]
            .into_iter()
            .filter(|(_, names)| !names.is_empty())
            .map(|(which, names)| format!("{which} {}", names.join(", ")))
            .collect();
        if found.is_empty() {
            return Ok(());
        }
        let (what, found) = (marks.noun(), found.join(" and "));
        let reason = format!("Expected images with and without each {what} but {found}: name the others in only");
        Err(Error::Data { what: "the data set".into(), index: None, reason })
    }
}

/// What an image may have: attributes, or where the data have none one of the classes.
enum Marks<'a> {
    Attributes(&'a [String]),
    Classes(&'a [String]),
}

impl<'a> Marks<'a> {
    fn of(data: &'a dyn Dataset) -> Result<Self> {
        match (data.attributes().filter(|names| !names.is_empty()), data.classes()) {
            (Some(names), _) => Ok(Self::Attributes(names)),
            (None, Some(names)) => Ok(Self::Classes(names)),
            (None, None) => Err(Error::Data {
                what: "the data set".into(),
                index: None,
                reason: "Expected attributes or classes but it has neither".into(),
            }),
        }
    }

    fn names(&self) -> &'a [String] {
        match self {
            Self::Attributes(names) | Self::Classes(names) => names,
        }
    }

    fn noun(&self) -> &'static str {
        match self {
            Self::Attributes(_) => "attribute",
            Self::Classes(_) => "class",
        }
    }

    /// Indices of those asked for.
    fn wanted(&self, only: Option<&[String]>) -> Result<Vec<usize>> {
        let Some(only) = only else { return Ok((0..self.names().len()).collect()) };
        if only.is_empty() {
            return Err(Error::option("only", "one name at least", "none"));
        }
        let mut wanted = Vec::with_capacity(only.len());
        for name in only {
            let index = self.names().iter().position(|known| known == name);
            match index.filter(|index| !wanted.contains(index)) {
                Some(index) => wanted.push(index),
                None => {
                    let expected = format!("the name of each {} wanted, once,", self.noun());
                    return Err(Error::option("only", expected, format!("{name:?}")));
                }
            }
        }
        Ok(wanted)
    }

    /// Whether an image of a batch that [`read_batch`] has checked has this.
    fn has(&self, batch: &LabelledImages, image: usize, mark: usize) -> bool {
        match self {
            Self::Attributes(names) => {
                batch.attributes.as_ref().is_some_and(|values| values[image * names.len() + mark] != 0)
            }
            Self::Classes(_) => batch.labels.as_ref().is_some_and(|labels| labels[image] as usize == mark),
        }
    }
}

/// Of rows of latents.
#[derive(Clone)]
struct Sum {
    values: Vec<f64>,
    count: usize,
}

impl Sum {
    fn of_none(dims: usize) -> Self {
        Self { values: vec![0.0; dims], count: 0 }
    }

    fn add(&mut self, row: &[f32]) {
        self.values.iter_mut().zip(row).for_each(|(sum, &value)| *sum += f64::from(value));
        self.count += 1;
    }

    /// Of the rows that are not in `part`.
    fn rest(&self, part: &Self) -> Self {
        let values = self.values.iter().zip(&part.values).map(|(all, part)| all - part).collect();
        Self { values, count: self.count - part.count }
    }

    fn minus_means_of(&self, other: &Self) -> Vec<f32> {
        let means = |sum: &Self| {
            let count = sum.count as f64;
            sum.values.iter().map(move |value| value / count).collect::<Vec<f64>>()
        };
        means(self).into_iter().zip(means(other)).map(|(mean, other)| (mean - other) as f32).collect()
    }
}
