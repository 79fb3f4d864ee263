//! What tells one data set from another.

use xxhash_rust::xxh3::Xxh3;

use crate::images::{ImageShape, Images};

/// Gathers everything that makes a data set what it is.
#[derive(Default)]
pub(super) struct Fingerprint(Xxh3);

impl Fingerprint {
    /// Starts with the kind of data set.
    pub fn of(kind: &str) -> Self {
        Self::default().bytes(kind.as_bytes())
    }

    /// Adds bytes of any length.
    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        // The length keeps "ab", "c" from being "a", "bc".
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
        self
    }

    /// Adds numbers.
    pub fn numbers(mut self, numbers: &[usize]) -> Self {
        self.0.update(&(numbers.len() as u64).to_le_bytes());
        numbers.iter().for_each(|&number| self.0.update(&(number as u64).to_le_bytes()));
        self
    }

    /// Adds the labels of images that have some.
    pub fn labels(self, labels: Option<&[u32]>) -> Self {
        let Some(labels) = labels else { return self };
        self.numbers(&labels.iter().map(|&label| label as usize).collect::<Vec<_>>())
    }

    /// 32 hexadecimal digits.
    pub fn finish(self) -> String {
        format!("{:032x}", self.0.digest128())
    }
}

/// Of images that are in memory, and their labels.
pub(super) fn pixel_fingerprint(kind: &str, images: &Images, labels: Option<&[u32]>) -> String {
    let shape = images.shape;
    let sizes = [images.count, shape.height, shape.width, shape.channels];
    Fingerprint::of(kind).numbers(&sizes).bytes(&images.data).labels(labels).finish()
}

/// Of images that only their name tells from others.
pub fn id_fingerprint(id: &str, len: usize, shape: ImageShape, classes: Option<&[String]>) -> String {
    let sizes = [len, shape.height, shape.width, shape.channels];
    let named = Fingerprint::of("custom").bytes(id.as_bytes()).numbers(&sizes);
    classes.unwrap_or_default().iter().fold(named, |named, class| named.bytes(class.as_bytes())).finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_and_its_place_count() {
        let of = |parts: &[&str]| parts.iter().fold(Fingerprint::of("a"), |f, p| f.bytes(p.as_bytes())).finish();
        assert_eq!(of(&["x", "y"]), of(&["x", "y"]));
        assert_ne!(of(&["x", "y"]), of(&["xy"]));
        assert_ne!(of(&["x", "y"]), of(&["y", "x"]));
        assert_ne!(Fingerprint::of("a").numbers(&[1, 2]).finish(), Fingerprint::of("a").numbers(&[2, 1]).finish());
        assert_eq!(of(&[]).len(), 32);
    }
}
