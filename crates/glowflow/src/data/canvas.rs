//! Padding and channels: what lies between stored pixels and a data set's.

use super::DatasetOptions;
use crate::error::{Error, Result};
use crate::images::ImageShape;

/// Widest padding: far beyond any use, and too little to overflow a size.
const WIDEST_PAD: usize = 1024;

/// Draws stored images onto a padded background, in the channels asked for.
#[derive(Debug, Clone)]
pub(super) struct Canvas {
    from: ImageShape,
    to: ImageShape,
    pad: usize,
    background: [u8; 3],
}

impl Canvas {
    /// For stored images of `from`, whose channels are 1, 3 or 4.
    pub fn new(from: ImageShape, options: &DatasetOptions) -> Result<Self> {
        let &DatasetOptions { pad, background, channels } = options;
        if pad > WIDEST_PAD {
            return Err(Error::option("pad", format!("an integer from 0 to {WIDEST_PAD}"), pad));
        }
        let channels = channels.unwrap_or(from.channels);
        let possible: &[usize] = if from.channels == 1 { &[1, 3, 4] } else { &[3, 4] };
        if !possible.contains(&channels) {
            let possible: Vec<String> = possible.iter().map(usize::to_string).collect();
            let expected = format!("{} for images of {} channels", possible.join(" or "), from.channels);
            return Err(Error::option("channels", expected, channels));
        }
        if channels == 1 && pad > 0 && background != [background[0]; 3] {
            let expected = "three equal numbers, as the images have one channel,";
            return Err(Error::option("background", expected, format!("{background:?}")));
        }
        let to = ImageShape { height: from.height + 2 * pad, width: from.width + 2 * pad, channels };
        Ok(Self { from, to, pad, background })
    }

    /// Of the images drawn.
    pub fn shape(&self) -> ImageShape {
        self.to
    }

    /// Appends the image drawn from `pixels`, `from.dims()` values.
    pub fn draw(&self, pixels: &[u8], out: &mut Vec<u8>) {
        let [red, green, blue] = self.background;
        let background = &[red, green, blue, u8::MAX][..self.to.channels];
        let fill = |out: &mut Vec<u8>, count: usize| (0..count).for_each(|_| out.extend_from_slice(background));
        fill(out, self.pad * self.to.width);
        for row in pixels.chunks_exact(self.from.width * self.from.channels) {
            fill(out, self.pad);
            self.draw_row(row, out);
            fill(out, self.pad);
        }
        fill(out, self.pad * self.to.width);
    }

    fn draw_row(&self, row: &[u8], out: &mut Vec<u8>) {
        match (self.from.channels, self.to.channels) {
            (1, 3) => row.iter().for_each(|&grey| out.extend_from_slice(&[grey; 3])),
            (1, 4) => row.iter().for_each(|&grey| out.extend_from_slice(&[grey, grey, grey, u8::MAX])),
            (3, 4) => row.chunks_exact(3).for_each(|rgb| out.extend_from_slice(&[rgb[0], rgb[1], rgb[2], u8::MAX])),
            (4, 3) => row.chunks_exact(4).for_each(|rgba| {
                let alpha = rgba[3] as u32;
                let blend = |(&over, &under): (&u8, &u8)| {
                    ((over as u32 * alpha + under as u32 * (255 - alpha) + 127) / 255) as u8
                };
                out.extend(rgba.iter().zip(&self.background).map(blend));
            }),
            _ => out.extend_from_slice(row),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(from: [usize; 3], options: DatasetOptions, pixels: &[u8]) -> Vec<u8> {
        let [height, width, channels] = from;
        let canvas = Canvas::new(ImageShape { height, width, channels }, &options).unwrap();
        let mut out = Vec::new();
        canvas.draw(pixels, &mut out);
        assert_eq!(out.len(), canvas.shape().dims());
        out
    }

    #[test]
    fn padding_surrounds_the_image() {
        let options = DatasetOptions { pad: 1, background: [9; 3], channels: None };
        assert_eq!(draw([1, 2, 1], options, &[1, 2]), [9, 9, 9, 9, 9, 1, 2, 9, 9, 9, 9, 9]);
        let options = DatasetOptions { pad: 1, background: [7, 8, 9], channels: Some(3) };
        let drawn = draw([1, 1, 1], options, &[5]);
        assert_eq!(drawn.chunks(3).map(|p| p.to_vec()).filter(|p| *p == [7, 8, 9]).count(), 8);
        assert_eq!(drawn[12..15], [5, 5, 5]);
    }

    #[test]
    fn channels_are_replicated_blended_or_left() {
        let to = |channels| DatasetOptions { channels: Some(channels), background: [0, 100, 200], pad: 0 };
        assert_eq!(draw([1, 2, 1], to(1), &[5, 6]), [5, 6]);
        assert_eq!(draw([1, 2, 1], to(3), &[5, 6]), [5, 5, 5, 6, 6, 6]);
        assert_eq!(draw([1, 1, 1], to(4), &[5]), [5, 5, 5, 255]);
        assert_eq!(draw([1, 1, 3], to(3), &[1, 2, 3]), [1, 2, 3]);
        assert_eq!(draw([1, 1, 3], to(4), &[1, 2, 3]), [1, 2, 3, 255]);
        assert_eq!(draw([1, 1, 4], to(4), &[1, 2, 3, 4]), [1, 2, 3, 4]);
        assert_eq!(draw([1, 2, 4], to(3), &[1, 2, 3, 255, 1, 2, 3, 0]), [1, 2, 3, 0, 100, 200]);
        assert_eq!(draw([1, 1, 4], to(3), &[255, 255, 255, 51]), [51, 131, 211]);
    }

    #[test]
    fn what_cannot_be_done_is_named() {
        let refused = |channels, options: DatasetOptions| {
            Canvas::new(ImageShape { height: 2, width: 2, channels }, &options).unwrap_err().to_string()
        };
        let options = DatasetOptions::default;
        assert_eq!(
            refused(3, DatasetOptions { channels: Some(1), ..options() }),
            "Expected 3 or 4 for images of 3 channels for channels but received 1"
        );
        assert!(refused(1, DatasetOptions { channels: Some(2), ..options() }).starts_with("Expected 1 or 3 or 4"));
        assert!(refused(1, DatasetOptions { pad: 5000, ..options() }).contains("from 0 to 1024 for pad"));
        assert!(
            refused(1, DatasetOptions { pad: 1, background: [1, 2, 3], ..options() }).contains("received [1, 2, 3]")
        );
    }
}
