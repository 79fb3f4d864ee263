//! What is done at random to training images: flips and shifts.

use serde::{Deserialize, Serialize};

use crate::images::{Batch, ImageShape, Pixels};
use crate::random::{Key, Purpose};

/// How training images are varied. None of it is done to images that are evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Augment {
    /// Left and right are exchanged in every second image.
    pub flip: bool,
    /// Largest shift in each direction, as a part of the size: 0.1 in Glow's code. The border is repeated.
    pub shift: f64,
}

impl Augment {
    /// Varies the images of a step, keyed by the step and each image's index in its data set.
    pub fn apply(&self, images: &mut Pixels, indices: &[usize], seed: u64, step: u64) {
        match images {
            Pixels::Bytes(images) => self.vary(images, indices, seed, step),
            Pixels::Floats(images) => self.vary(images, indices, seed, step),
        }
    }

    fn vary<T: Copy + Default>(&self, images: &mut Batch<T>, indices: &[usize], seed: u64, step: u64) {
        let ImageShape { height, width, .. } = images.shape;
        let (down, right) = (largest(height, self.shift), largest(width, self.shift));
        if !self.flip && down == 0 && right == 0 {
            return;
        }
        let dims = images.shape.dims();
        let mut source = vec![T::default(); dims];
        for (image, &index) in images.data.chunks_exact_mut(dims).zip(indices) {
            let mut draws = [0.0; 3];
            Key { seed, purpose: Purpose::Augment, step, image: index as u64 }.stream().fill_uniform(&mut draws);
            let shift = |draw: f32, most: i64| (f64::from(draw) * (2 * most + 1) as f64) as i64 - most;
            let moved = Moved {
                flipped: self.flip && draws[0] < 0.5,
                down: shift(draws[1], down),
                right: shift(draws[2], right),
            };
            source.copy_from_slice(image);
            moved.copy(&source, image, images.shape);
        }
    }
}

/// Pixels of the largest shift.
fn largest(size: usize, part: f64) -> i64 {
    (size as f64 * part) as i64
}

/// What is done to one image.
struct Moved {
    flipped: bool,
    down: i64,
    right: i64,
}

impl Moved {
    fn copy<T: Copy>(&self, source: &[T], out: &mut [T], ImageShape { height, width, channels }: ImageShape) {
        let from = |at: usize, shift: i64, size: usize| (at as i64 - shift).clamp(0, size as i64 - 1) as usize;
        for (y, row) in out.chunks_exact_mut(width * channels).enumerate() {
            let source = &source[from(y, self.down, height) * width * channels..][..width * channels];
            for (x, pixel) in row.chunks_exact_mut(channels).enumerate() {
                let x = from(x, self.right, width);
                let x = if self.flipped { width - 1 - x } else { x };
                pixel.copy_from_slice(&source[x * channels..(x + 1) * channels]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images::Images;

    const SHAPE: ImageShape = ImageShape { height: 2, width: 3, channels: 2 };

    fn moved(flipped: bool, down: i64, right: i64) -> Vec<u8> {
        let source: Vec<u8> = (0..12).collect();
        let mut out = vec![0; 12];
        Moved { flipped, down, right }.copy(&source, &mut out, SHAPE);
        out
    }

    #[test]
    fn pixels_move_whole_and_the_border_is_repeated() {
        assert_eq!(moved(false, 0, 0), (0..12).collect::<Vec<u8>>());
        assert_eq!(moved(true, 0, 0), [4, 5, 2, 3, 0, 1, 10, 11, 8, 9, 6, 7]);
        assert_eq!(moved(false, 1, 0), [0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5]);
        assert_eq!(moved(false, 0, -1), [2, 3, 4, 5, 4, 5, 8, 9, 10, 11, 10, 11]);
        assert_eq!(moved(true, 0, 1), [4, 5, 4, 5, 2, 3, 10, 11, 10, 11, 8, 9]);
    }

    #[test]
    fn every_shift_and_both_sides_come_evenly_and_depend_on_the_key_alone() {
        let shape = ImageShape { height: 1, width: 20, channels: 1 };
        let row: Vec<u8> = (0..20).collect();
        let count = 4000;
        let draw = |step| {
            let mut images = Pixels::Bytes(Images::new(row.repeat(count), count, shape).unwrap());
            let indices: Vec<usize> = (0..count).collect();
            Augment { flip: true, shift: 0.1 }.apply(&mut images, &indices, 7, step);
            images
        };
        let images = draw(3);
        let bytes = images.clone().bytes();
        let mut seen = std::collections::BTreeMap::new();
        for index in 0..count {
            *seen.entry(bytes.image(index)[10]).or_insert(0) += 1;
        }
        // The middle pixel shows 8 to 12, or 7 to 11 where the image is flipped.
        assert_eq!(seen.keys().copied().collect::<Vec<u8>>(), [7, 8, 9, 10, 11, 12]);
        for (pixel, expected) in [(7, 400), (8, 800), (9, 800), (10, 800), (11, 800), (12, 400)] {
            assert!((seen[&pixel] as i64 - expected).abs() < 100, "{seen:?}");
        }
        assert_eq!(draw(3), images);
        assert_ne!(draw(4), images);

        let mut one = Pixels::Bytes(Images::new(row.clone(), 1, shape).unwrap());
        Augment { flip: true, shift: 0.1 }.apply(&mut one, &[1234], 7, 3);
        assert_eq!(one.bytes().data, bytes.image(1234), "the batch does not matter");
    }

    #[test]
    fn nothing_asked_for_changes_nothing() {
        let shape = ImageShape { height: 4, width: 4, channels: 1 };
        let mut images = Pixels::Bytes(Images::new((0..16).collect(), 1, shape).unwrap());
        Augment { flip: false, shift: 0.1 }.apply(&mut images, &[0], 0, 0);
        assert_eq!(images.bytes().data, (0..16).collect::<Vec<u8>>(), "a tenth of 4 pixels is none");
    }
}
