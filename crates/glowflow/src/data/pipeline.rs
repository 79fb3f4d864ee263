//! What lies between stored pixels and a data set's: channels, size, padding and crop, the same for every source.

use std::borrow::Cow;
use std::cell::RefCell;

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use rayon::prelude::*;

use super::DatasetOptions;
use crate::error::{Error, Result};
use crate::images::{ImageShape, Images};
use crate::random::{Key, Purpose};

/// Widest padding: far beyond any use, and too little to overflow a size.
const WIDEST_PAD: usize = 1024;

/// Longest side that images are resized to or cropped to, for the same reason.
const LONGEST_SIDE: usize = 8192;

/// ITU-R BT.601, the grey that JPEG itself stores.
const LUMA: [u32; 3] = [299, 587, 114];

/// Makes a data set's images of stored ones, in two stages: [`Pipeline::prepare`], worth keeping, and
/// [`Pipeline::frame`], which is cheap and may differ between two readings.
#[derive(Debug, Clone)]
pub(super) struct Pipeline {
    size: Option<[usize; 2]>,
    base: ImageShape,
    pad: usize,
    background: [u8; 3],
    shape: ImageShape,
}

/// Where images are cropped.
#[derive(Debug, Clone, Copy)]
pub(super) enum Crop {
    /// About the centre.
    Centre,
    /// Drawn for a step of training.
    Drawn { seed: u64, step: u64 },
}

impl Pipeline {
    /// For stored images of `stored`, whose channels are 1, 3 or 4. Its height and width do not matter with `size`.
    pub fn new(stored: ImageShape, options: &DatasetOptions) -> Result<Self> {
        let &DatasetOptions { pad, background, channels, size, random_crop } = options;
        let channels = channels.unwrap_or(stored.channels);
        if ![1, 3, 4].contains(&channels) {
            return Err(Error::option("channels", "1, 3 or 4", channels));
        }
        let side = |option: &str, side: usize| match side {
            1..=LONGEST_SIDE => Ok(()),
            _ => Err(Error::option(option, format!("an integer from 1 to {LONGEST_SIDE}"), side)),
        };
        size.into_iter().flatten().try_for_each(|length| side("size", length))?;
        if pad > WIDEST_PAD {
            return Err(Error::option("pad", format!("an integer from 0 to {WIDEST_PAD}"), pad));
        }
        if channels == 1 && pad > 0 && background != [background[0]; 3] {
            let expected = "three equal numbers, as the images have one channel,";
            return Err(Error::option("background", expected, format!("{background:?}")));
        }
        let [height, width] = size.unwrap_or([stored.height, stored.width]);
        let base = ImageShape { height, width, channels };
        let padded = ImageShape { height: height + 2 * pad, width: width + 2 * pad, channels };
        let mut shape = padded;
        if let Some(crop) = random_crop {
            side("randomCrop", crop)?;
            let most = padded.height.min(padded.width);
            if crop > most {
                let expected = format!("at most {most}, as the images are {}x{},", padded.height, padded.width);
                return Err(Error::option("randomCrop", expected, crop));
            }
            shape = ImageShape { height: crop, width: crop, channels };
        }
        Ok(Self { size, base, pad, background, shape })
    }

    /// Leaves images as they are, whatever their channels.
    pub fn as_stored(shape: ImageShape) -> Self {
        Self { size: None, base: shape, pad: 0, background: [0; 3], shape }
    }

    /// Of a data set's images.
    pub fn shape(&self) -> ImageShape {
        self.shape
    }

    /// Of prepared images.
    pub fn base(&self) -> ImageShape {
        self.base
    }

    /// Whether images of any size become those of [`Pipeline::base`].
    pub fn resizes(&self) -> bool {
        self.size.is_some()
    }

    /// `pixels` of shape `from` in the channels and the size asked for. Without a size, `from` is as high and wide as
    /// [`Pipeline::base`].
    pub fn prepare<'a>(&self, pixels: Cow<'a, [u8]>, from: ImageShape) -> Result<Cow<'a, [u8]>> {
        let channels = self.base.channels;
        let pixels =
            if from.channels == channels { pixels } else { convert(&pixels, from.channels, channels, self.background) };
        match self.size {
            Some(size) if size != [from.height, from.width] => {
                resize(&pixels, ImageShape { channels, ..from }, size).map(Cow::Owned)
            }
            _ => Ok(pixels),
        }
    }

    /// The data set's images, the `i`th from the prepared pixels `base(i)`, drawn in parallel.
    pub fn draw<'a>(
        &self,
        indices: &[usize],
        crop: Crop,
        base: impl Fn(usize) -> Result<Cow<'a, [u8]>> + Sync,
    ) -> Result<Images> {
        let mut data = vec![0; indices.len() * self.shape.dims()];
        let drawn: Vec<Result<()>> = data
            .par_chunks_exact_mut(self.shape.dims())
            .zip(indices)
            .map(|(out, &index)| {
                self.frame(&base(index)?, self.corner(crop, index), out);
                Ok(())
            })
            .collect();
        // In order, so that of two broken images it is always the same that is named.
        drawn.into_iter().collect::<Result<()>>()?;
        Images::new(data, indices.len(), self.shape)
    }

    /// Top and left of the crop, in padded pixels.
    fn corner(&self, crop: Crop, index: usize) -> [usize; 2] {
        let room =
            [self.base.height + 2 * self.pad - self.shape.height, self.base.width + 2 * self.pad - self.shape.width];
        match crop {
            Crop::Drawn { seed, step } if room != [0, 0] => {
                let mut draws = [0.0; 2];
                Key { seed, purpose: Purpose::Crop, step, image: index as u64 }.stream().fill_uniform(&mut draws);
                // In f64 the product stays below the bound: in f32 it could round up to it.
                [0, 1].map(|axis| (f64::from(draws[axis]) * (room[axis] + 1) as f64) as usize)
            }
            _ => room.map(|room| room / 2),
        }
    }

    /// The crop at `[top, left]` of the padded image.
    fn frame(&self, base: &[u8], [top, left]: [usize; 2], out: &mut [u8]) {
        let Self { base: ImageShape { height, width, channels }, pad, shape, .. } = *self;
        let [red, green, blue] = self.background;
        // Images without padding may have any number of channels.
        let background = &[red, green, blue, u8::MAX][..channels.min(4)];
        let fill = |out: &mut [u8]| out.chunks_exact_mut(channels).for_each(|pixel| pixel.copy_from_slice(background));
        // Columns of the crop that the image covers.
        let first = pad.saturating_sub(left).min(shape.width);
        let last = (pad + width).saturating_sub(left).clamp(first, shape.width);
        for (row, out) in out.chunks_exact_mut(shape.width * channels).enumerate() {
            let Some(y) = (row + top).checked_sub(pad).filter(|&y| y < height && last > first) else {
                fill(out);
                continue;
            };
            let from = (y * width + first + left - pad) * channels;
            let covered = (last - first) * channels;
            fill(&mut out[..first * channels]);
            out[first * channels..last * channels].copy_from_slice(&base[from..from + covered]);
            fill(&mut out[last * channels..]);
        }
    }
}

/// Pixels of `from` channels as pixels of `to` others.
fn convert(pixels: &[u8], from: usize, to: usize, background: [u8; 3]) -> Cow<'static, [u8]> {
    let mut out = Vec::with_capacity(pixels.len() / from * to);
    for pixel in pixels.chunks_exact(from) {
        let rgb = match *pixel {
            [grey] => [grey; 3],
            [red, green, blue, alpha] if to != 4 => blend([red, green, blue], alpha, background),
            _ => [pixel[0], pixel[1], pixel[2]],
        };
        match to {
            1 => out.push(luma(rgb)),
            3 => out.extend_from_slice(&rgb),
            _ => out.extend_from_slice(&[rgb[0], rgb[1], rgb[2], u8::MAX]),
        }
    }
    out.into()
}

fn blend(rgb: [u8; 3], alpha: u8, background: [u8; 3]) -> [u8; 3] {
    let alpha = u32::from(alpha);
    let mix = |over: u8, under: u8| ((u32::from(over) * alpha + u32::from(under) * (255 - alpha) + 127) / 255) as u8;
    [0, 1, 2].map(|channel| mix(rgb[channel], background[channel]))
}

fn luma(rgb: [u8; 3]) -> u8 {
    let sum: u32 = rgb.iter().zip(LUMA).map(|(&value, weight)| u32::from(value) * weight).sum();
    ((sum + 500) / 1000) as u8
}

/// Resized, antialiased, until it covers `size`, and cropped to it about the centre.
fn resize(pixels: &[u8], from: ImageShape, [height, width]: [usize; 2]) -> Result<Vec<u8>> {
    thread_local! {
        static RESIZER: RefCell<Resizer> = RefCell::new(Resizer::new());
    }
    let channels = from.channels;
    // Of the whole image once it covers the size. It is never made: a strip of one row would be gigabytes.
    let rounded = |a: usize, b: usize| (a + b / 2) / b;
    let [tall, wide] = if from.width * height >= from.height * width {
        [height, rounded(from.width * height, from.height).max(width)]
    } else {
        [rounded(from.height * width, from.width).max(height), width]
    };
    let [top, left] = [(tall - height) / 2, (wide - width) / 2];
    if [tall, wide] == [from.height, from.width] {
        let row = |y: usize| &pixels[((top + y) * wide + left) * channels..][..width * channels];
        return Ok((0..height).flat_map(row).copied().collect());
    }

    let [down, across] = [from.height as f64 / tall as f64, from.width as f64 / wide as f64];
    let [y, x] = [top as f64 * down, left as f64 * across];
    let crop_width = (width as f64 * across).min(from.width as f64 - x);
    let crop_height = (height as f64 * down).min(from.height as f64 - y);
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear)).crop(
        x,
        y,
        crop_width,
        crop_height,
    );
    let kind = match channels {
        1 => PixelType::U8,
        3 => PixelType::U8x3,
        _ => PixelType::U8x4,
    };
    let internal = |error: &dyn std::fmt::Display| Error::Internal { message: format!("resizing {from}: {error}") };
    let source = ImageRef::new(from.width as u32, from.height as u32, pixels, kind).map_err(|e| internal(&e))?;
    let mut resized = Image::new(width as u32, height as u32, kind);
    RESIZER
        .with_borrow_mut(|resizer| resizer.resize(&source, &mut resized, &options))
        .map_err(|error| internal(&error))?;
    Ok(resized.into_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape([height, width, channels]: [usize; 3]) -> ImageShape {
        ImageShape { height, width, channels }
    }

    fn draw_at(from: [usize; 3], options: DatasetOptions, pixels: &[u8], crop: Crop, index: usize) -> Vec<u8> {
        let pipeline = Pipeline::new(shape(from), &options).unwrap();
        let prepared = |_| pipeline.prepare(Cow::Borrowed(pixels), shape(from));
        let drawn = pipeline.draw(&[index], crop, prepared).unwrap();
        assert_eq!(drawn.shape, pipeline.shape());
        drawn.data
    }

    fn draw(from: [usize; 3], options: DatasetOptions, pixels: &[u8]) -> Vec<u8> {
        draw_at(from, options, pixels, Crop::Centre, 0)
    }

    fn counting(count: usize) -> Vec<u8> {
        (0..count).map(|i| i as u8).collect()
    }

    #[test]
    fn padding_surrounds_the_image() {
        let options = DatasetOptions { pad: 1, background: [9; 3], ..DatasetOptions::default() };
        assert_eq!(draw([1, 2, 1], options, &[1, 2]), [9, 9, 9, 9, 9, 1, 2, 9, 9, 9, 9, 9]);
        let options = DatasetOptions { pad: 1, background: [7, 8, 9], channels: Some(3), ..DatasetOptions::default() };
        let drawn = draw([1, 1, 1], options, &[5]);
        assert_eq!(drawn.chunks(3).map(|p| p.to_vec()).filter(|p| *p == [7, 8, 9]).count(), 8);
        assert_eq!(drawn[12..15], [5, 5, 5]);
    }

    #[test]
    fn channels_are_replicated_weighed_blended_or_left() {
        let to = |channels| DatasetOptions {
            channels: Some(channels),
            background: [0, 100, 200],
            ..DatasetOptions::default()
        };
        assert_eq!(draw([1, 2, 1], to(1), &[5, 6]), [5, 6]);
        assert_eq!(draw([1, 2, 1], to(3), &[5, 6]), [5, 5, 5, 6, 6, 6]);
        assert_eq!(draw([1, 1, 1], to(4), &[5]), [5, 5, 5, 255]);
        assert_eq!(draw([1, 1, 3], to(3), &[1, 2, 3]), [1, 2, 3]);
        assert_eq!(draw([1, 1, 3], to(4), &[1, 2, 3]), [1, 2, 3, 255]);
        assert_eq!(draw([1, 1, 4], to(4), &[1, 2, 3, 4]), [1, 2, 3, 4]);
        assert_eq!(draw([1, 2, 4], to(3), &[1, 2, 3, 255, 1, 2, 3, 0]), [1, 2, 3, 0, 100, 200]);
        assert_eq!(draw([1, 1, 4], to(3), &[255, 255, 255, 51]), [51, 131, 211]);
        let primaries = [255, 0, 0, 0, 255, 0, 0, 0, 255, 255, 255, 255, 7, 7, 7];
        assert_eq!(draw([1, 5, 3], to(1), &primaries), [76, 150, 29, 255, 7]);
        // Of the blend [51, 131, 211].
        assert_eq!(draw([1, 1, 4], to(1), &[255, 255, 255, 51]), [116]);
    }

    #[test]
    fn what_cannot_be_done_is_named() {
        let refused = |channels, options: DatasetOptions| {
            Pipeline::new(shape([2, 3, channels]), &options).unwrap_err().to_string()
        };
        let options = DatasetOptions::default;
        assert_eq!(
            refused(3, DatasetOptions { channels: Some(2), ..options() }),
            "Expected 1, 3 or 4 for channels but received 2"
        );
        assert!(refused(1, DatasetOptions { pad: 5000, ..options() }).contains("from 0 to 1024 for pad"));
        assert!(
            refused(1, DatasetOptions { pad: 1, background: [1, 2, 3], ..options() }).contains("received [1, 2, 3]")
        );
        assert_eq!(
            refused(1, DatasetOptions { random_crop: Some(3), ..options() }),
            "Expected at most 2, as the images are 2x3, for randomCrop but received 3"
        );
        let padded = DatasetOptions { random_crop: Some(9), pad: 1, size: Some([4, 8]), ..options() };
        assert!(refused(1, padded).contains("at most 6, as the images are 6x10,"));
        assert!(refused(1, DatasetOptions { random_crop: Some(0), ..options() }).contains("from 1 to 8192"));
        assert!(refused(1, DatasetOptions { size: Some([4, 0]), ..options() }).contains("for size but received 0"));
        assert!(refused(1, DatasetOptions { size: Some([1 << 40, 4]), ..options() }).contains("from 1 to 8192"));
    }

    #[test]
    fn a_crop_about_the_centre_leaves_the_smaller_half_first() {
        let crop = |side| DatasetOptions { random_crop: Some(side), ..DatasetOptions::default() };
        // Rows 1 and 2 of 5, columns 0 and 1 of 3.
        assert_eq!(draw([5, 3, 1], crop(2), &counting(15)), [3, 4, 6, 7]);
        let padded = DatasetOptions { pad: 2, background: [99; 3], ..crop(3) };
        assert_eq!(draw([1, 1, 1], padded, &[5]), [99, 99, 99, 99, 5, 99, 99, 99, 99]);
    }

    #[test]
    fn a_size_that_only_crops_copies_pixels() {
        let size = |height, width| DatasetOptions { size: Some([height, width]), ..DatasetOptions::default() };
        assert_eq!(draw([2, 5, 1], size(2, 2), &counting(10)), [1, 2, 6, 7]);
        assert_eq!(draw([4, 2, 1], size(1, 2), &counting(8)), [2, 3]);
        assert_eq!(draw([2, 2, 3], size(2, 2), &counting(12)), counting(12));
    }

    #[test]
    fn resizing_keeps_a_constant_and_the_mean() {
        for channels in [1, 3, 4] {
            for (from, to) in [([7, 31], [5, 5]), ([5, 5], [64, 17]), ([1, 300], [8, 8]), ([218, 178], [64, 64])] {
                let pixel = &[40, 150, 222, 255][..channels];
                let options = DatasetOptions { size: Some(to), ..DatasetOptions::default() };
                let drawn = draw([from[0], from[1], channels], options, &pixel.repeat(from[0] * from[1]));
                assert_eq!(drawn, pixel.repeat(to[0] * to[1]), "{from:?} to {to:?}");
            }
        }
        // A checkerboard halves to its mean but for the border, where the filter is cut.
        let board: Vec<u8> = (0..64).map(|i| if (i / 8 + i % 8) % 2 == 0 { 200 } else { 100 }).collect();
        let options = DatasetOptions { size: Some([4, 4]), ..DatasetOptions::default() };
        let drawn = draw([8, 8, 1], options, &board);
        assert!(drawn.iter().all(|&value| value.abs_diff(150) <= 7), "{drawn:?}");
    }

    #[test]
    fn a_strip_that_covers_a_size_takes_no_more_memory_than_the_size() {
        let options = DatasetOptions { size: Some([4096, 1]), ..DatasetOptions::default() };
        assert_eq!(draw([1, 60_000, 1], options, &vec![3; 60_000]), vec![3; 4096]);
    }

    #[test]
    fn resizing_crops_about_the_centre() {
        // Left third black, the middle white, right third black: the square middle is all that is left.
        let pixels: Vec<u8> = (0..40 * 120).map(|i| if (40..80).contains(&(i % 120)) { 255 } else { 0 }).collect();
        let options = DatasetOptions { size: Some([10, 10]), ..DatasetOptions::default() };
        let drawn = draw([40, 120, 1], options, &pixels);
        assert!(drawn.chunks(10).all(|row| row[1..9] == [255; 8] && row[0] == row[9]), "{drawn:?}");
    }

    #[test]
    fn drawn_crops_are_keyed_and_cover_the_range() {
        let options = || DatasetOptions { random_crop: Some(1), ..DatasetOptions::default() };
        let at = |seed, step, index| draw_at([3, 5, 1], options(), &counting(15), Crop::Drawn { seed, step }, index)[0];
        assert_eq!(at(1, 2, 3), at(1, 2, 3));
        let many = |f: &dyn Fn(u64) -> u8| (0..600).map(f).collect::<Vec<u8>>();
        let steps = many(&|step| at(1, step, 3));
        assert_ne!(steps, many(&|step| at(2, step, 3)));
        assert_ne!(steps, many(&|step| at(1, step, 4)));
        for corner in 0..15 {
            let hits = steps.iter().filter(|&&hit| hit == corner).count();
            assert!((15..80).contains(&hits), "{corner}: {hits} of 600, 40 expected");
        }
        // Everywhere else the same one.
        assert_eq!(draw([3, 5, 1], options(), &counting(15)), [7]);
        // The pipeline of a drawn crop without room draws nothing.
        let whole = DatasetOptions { random_crop: Some(2), ..DatasetOptions::default() };
        assert_eq!(draw_at([2, 2, 1], whole, &counting(4), Crop::Drawn { seed: 1, step: 1 }, 0), counting(4));
    }

    #[test]
    fn of_several_failures_the_first_is_returned() {
        let pipeline = Pipeline::new(shape([1, 1, 1]), &DatasetOptions::default()).unwrap();
        let indices: Vec<usize> = (0..1000).collect();
        for _ in 0..20 {
            let error = pipeline
                .draw(&indices, Crop::Centre, |index| match index % 100 {
                    7 => Err(Error::file("x", index.to_string())),
                    _ => Ok(Cow::Owned(vec![0])),
                })
                .unwrap_err();
            assert_eq!(error.to_string(), "x: 7");
        }
    }
}
