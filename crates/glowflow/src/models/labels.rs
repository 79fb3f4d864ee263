//! The classes of a call's images, checked against those of the model.

use std::ops::Range;

use super::config::ModelConfig;
use super::flow_model::Call;
use crate::data::{Dataset, LabelledImages};
use crate::error::{Error, Result};

/// Classes of a call's images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClassLabels {
    /// One for all.
    One(u32),
    /// One each.
    Each(Vec<u32>),
}

impl ClassLabels {
    /// Every class in turn, for `count` images.
    pub fn in_turn(count: usize, classes: usize) -> Self {
        Self::Each((0..count).map(|image| (image % classes) as u32).collect())
    }

    /// For images each of which has become `times`, one after the other.
    pub(super) fn each_repeated(&self, times: usize) -> Self {
        match self {
            Self::One(label) => Self::One(*label),
            Self::Each(labels) => {
                Self::Each(labels.iter().flat_map(|&label| std::iter::repeat_n(label, times)).collect())
            }
        }
    }
}

/// A class for each image of a call; nothing for a model without classes.
#[derive(Debug, Clone)]
pub(crate) struct CheckedLabels(Option<Vec<u32>>);

impl CheckedLabels {
    /// The labels that a call gives for `count` images.
    ///
    /// # Errors
    ///
    /// [`Error::Labels`] where a class-conditional model gets none, any other some, or where they are too few, too many
    /// or out of range.
    pub fn of_call(config: &ModelConfig, call: &Call, count: usize) -> Result<Self> {
        let given = call.labels.as_ref();
        let received = || match given {
            None => "none".to_owned(),
            Some(ClassLabels::One(label)) => format!("class {label}"),
            Some(ClassLabels::Each(labels)) => format!("{} classes", labels.len()),
        };
        let wrong = |expected: String| Error::Labels { expected, received: received() };
        let Some(classes) = config.classes() else {
            return match given {
                None => Ok(Self(None)),
                Some(_) => Err(wrong("none, as the model has no classes,".into())),
            };
        };
        let labels = match given {
            None => return Err(wrong(format!("a class below {classes} for all images or one each"))),
            Some(ClassLabels::One(label)) => vec![*label; count],
            Some(ClassLabels::Each(labels)) if labels.len() == count => labels.clone(),
            Some(ClassLabels::Each(_)) => return Err(wrong(format!("{count} classes"))),
        };
        check_range(&labels, classes)?;
        Ok(Self(Some(labels)))
    }

    /// The labels of a data set's batch.
    ///
    /// # Errors
    ///
    /// [`Error::Labels`] for a class-conditional model where the batch has none, or one that the model does not know.
    pub fn of_batch(config: &ModelConfig, batch: &LabelledImages) -> Result<Self> {
        let Some(classes) = config.classes() else { return Ok(Self(None)) };
        let labels = batch.labels.clone().ok_or_else(|| missing(classes))?;
        check_range(&labels, classes)?;
        Ok(Self(Some(labels)))
    }

    /// Those of a part of the images.
    pub fn part(&self, range: Range<usize>) -> Self {
        Self(self.0.as_ref().map(|labels| labels[range].to_vec()))
    }

    /// As tensors.
    pub fn on(&self, config: &ModelConfig, device: &burn::tensor::Device) -> Option<crate::priors::Labels> {
        Some(crate::priors::Labels::new(self.0.as_ref()?, config.classes()?, device))
    }

    /// As a call gives them.
    pub fn into_call(self) -> Option<ClassLabels> {
        self.0.map(ClassLabels::Each)
    }
}

/// [`Error::Labels`] for data that a class-conditional model cannot learn or score.
pub(crate) fn check_classes(config: &ModelConfig, data: &dyn Dataset) -> Result<()> {
    match (config.classes(), data.classes()) {
        (None, _) => Ok(()),
        (Some(classes), None) => Err(missing(classes)),
        (Some(classes), Some(names)) if names.len() > classes => Err(Error::Labels {
            expected: format!("at most {classes} classes"),
            received: format!("data with {}", names.len()),
        }),
        _ => Ok(()),
    }
}

fn missing(classes: usize) -> Error {
    Error::Labels { expected: format!("one of {classes} classes for each image"), received: "data without".into() }
}

fn check_range(labels: &[u32], classes: usize) -> Result<()> {
    match labels.iter().find(|&&label| label as usize >= classes) {
        None => Ok(()),
        Some(label) => Err(Error::Labels { expected: format!("classes below {classes}"), received: label.to_string() }),
    }
}
