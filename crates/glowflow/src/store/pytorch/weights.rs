//! A checkpoint as a layout sees it: what it finds by name, and the account of what was found.

use std::collections::{HashMap, HashSet};

use serde::Serialize;

use super::archive::{Checkpoint, NamedTensor};
use super::layout::{EngineTensors, Entry};
use super::pickle::shortened;
use crate::error::{Error, Result};

/// Missing names for which the closest of the file is looked for.
const MOST_CLOSEST: usize = 32;
/// Names that are looked at for each of them.
const MOST_CANDIDATES: usize = 4096;

/// A name that the layout has and the file has not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Missing {
    /// The name.
    pub name: String,
    /// The most similar of the file's names that have not been used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closest: Option<String>,
}

/// What became of a checkpoint's tensors, by their names there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Now the model's.
    pub applied: Vec<String>,
    /// Needed and not in the file: the model keeps what it was made with.
    pub missing: Vec<Missing>,
    /// Masks, flags and the like, which follow from the rest.
    pub constant: Vec<String>,
    /// In the file and unknown.
    pub unused: Vec<String>,
}

impl Report {
    /// The names that are missing, as a sentence's end.
    fn sentence(&self) -> String {
        const MOST: usize = 8;
        let one = |missing: &Missing| match &missing.closest {
            Some(closest) => format!("{} (closest: {})", missing.name, shortened(closest)),
            None => missing.name.clone(),
        };
        let named: Vec<String> = self.missing.iter().take(MOST).map(one).collect();
        let more = self.missing.len().saturating_sub(MOST);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!(
            "Expected tensors that the file has not: {}{more}. {} were found, {} are unknown",
            named.join(", "),
            self.applied.len(),
            self.unused.len()
        )
    }
}

/// The tensors of a checkpoint by name.
pub(super) struct Weights<'a> {
    checkpoint: &'a Checkpoint,
    by_name: HashMap<&'a str, &'a NamedTensor>,
}

impl<'a> Weights<'a> {
    pub fn of(checkpoint: &'a Checkpoint) -> Self {
        let by_name = checkpoint.tensors.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
        Self { checkpoint, by_name }
    }

    pub fn misfit(&self, reason: impl Into<String>) -> Error {
        Error::weights(&self.checkpoint.path, reason)
    }

    pub fn has(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    pub fn names(&self) -> impl Iterator<Item = &'a str> {
        self.checkpoint.tensors.iter().map(|tensor| tensor.name.as_str())
    }

    /// A tensor.
    pub fn get(&self, name: &str) -> Option<&'a NamedTensor> {
        self.by_name.get(name).copied()
    }

    /// The size of an axis of the first of these that the file has.
    pub fn size(&self, names: impl IntoIterator<Item = String>, axis: usize) -> Option<usize> {
        names.into_iter().find_map(|name| self.get(&name)).and_then(|tensor| tensor.shape.get(axis).copied())
    }

    /// Elements of the first of these that the file has.
    pub fn elements(&self, names: impl IntoIterator<Item = String>) -> Option<usize> {
        names.into_iter().find_map(|name| self.get(&name)).map(|tensor| tensor.values.len())
    }

    /// One more than the largest index that names have between `before` and the next point.
    pub fn count(&self, before: &str) -> usize {
        let index = |name: &str| name.strip_prefix(before)?.split('.').next()?.parse::<usize>().ok();
        self.names().filter_map(index).max().map_or(0, |largest| largest.saturating_add(1))
    }

    /// Our tensors by a layout's entries, and the account of it. `constant` says which names follow from the rest.
    pub fn apply(&self, entries: &[Entry], constant: impl Fn(&str) -> bool) -> Result<(EngineTensors, Report)> {
        let mut tensors = EngineTensors::new();
        let mut report = Report::default();
        let mut used = HashSet::new();
        let mut missing = Vec::new();
        for entry in entries {
            let wanted = entry.theirs();
            used.extend(wanted.iter().map(|(name, _)| name.to_string()));
            let mut found = Vec::with_capacity(wanted.len());
            for (name, shape) in &wanted {
                match self.get(name) {
                    Some(tensor) => {
                        self.check(tensor, shape)?;
                        found.push(tensor);
                    }
                    None => missing.push(name.to_string()),
                }
            }
            if found.len() == wanted.len() {
                tensors.extend(entry.import(&found).map_err(|reason| self.misfit(reason))?);
                report.applied.extend(wanted.iter().map(|(name, _)| name.to_string()));
            }
        }
        for name in self.names().filter(|name| !used.contains(*name)) {
            let list = if constant(name) { &mut report.constant } else { &mut report.unused };
            list.push(name.to_owned());
        }
        report.missing = missing
            .into_iter()
            .enumerate()
            .map(|(i, name)| Missing {
                closest: (i < MOST_CLOSEST).then(|| closest(&name, &report.unused)).flatten(),
                name,
            })
            .collect();
        Ok((tensors, report))
    }

    /// An error where names are missing.
    pub fn complete(&self, report: &Report) -> Result<()> {
        if report.missing.is_empty() {
            return Ok(());
        }
        let (path, report) = (self.checkpoint.path.clone(), Some(Box::new(report.clone())));
        Err(Error::Weights {
            path,
            reason: report.as_ref().map_or_else(String::new, |report| report.sentence()),
            report,
        })
    }

    fn check(&self, tensor: &NamedTensor, shape: &[usize]) -> Result<()> {
        if tensor.shape != shape {
            return Err(
                self.misfit(format!("Expected the shape {shape:?} for {} but found {:?}", tensor.name, tensor.shape))
            );
        }
        match tensor.values.iter().find(|value| !value.is_finite()) {
            Some(value) => Err(self.misfit(format!("Expected finite numbers in {} but found {value}", tensor.name))),
            None => Ok(()),
        }
    }
}

/// The name with the fewest edits from `name`, if these are less than half of it.
fn closest(name: &str, names: &[String]) -> Option<String> {
    let near = |candidate: &&String| candidate.len() <= 2 * name.len();
    let candidates = names.iter().filter(near).take(MOST_CANDIDATES);
    let (edits, found) = candidates.map(|candidate| (edits(name, candidate), candidate)).min()?;
    (edits < name.len() / 2).then(|| found.clone())
}

/// Levenshtein's distance, in bytes.
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_counted() {
        for (a, b, expected) in
            [("", "", 0), ("", "abc", 3), ("kitten", "sitting", 3), ("flaw", "lawn", 2), ("ab", "ba", 2)]
        {
            assert_eq!((edits(a, b), edits(b, a)), (expected, expected), "{a} {b}");
        }
    }

    #[test]
    fn the_closest_name_is_one_that_is_close() {
        let names = ["blocks.0.actnorm.lok".to_owned(), "optimizer".to_owned()];
        assert_eq!(closest("blocks.0.actnorm.loc", &names).as_deref(), Some("blocks.0.actnorm.lok"));
        assert_eq!(closest("zzz", &names), None);
    }
}
