//! PNG files.

use png::{BitDepth, ColorType, Encoder};

use crate::error::{Error, Result};
use crate::images::ImageShape;

/// One image as a PNG file. The same pixels give the same bytes.
///
/// # Errors
///
/// [`Error::Shape`] where `pixels` are not one image of `shape`, or the channels are not 1, 3 or 4.
pub fn encode_png(pixels: &[u8], shape: ImageShape) -> Result<Vec<u8>> {
    let color = match shape.channels {
        1 => ColorType::Grayscale,
        3 => ColorType::Rgb,
        4 => ColorType::Rgba,
        channels => return Err(Error::shape("images", "1, 3 or 4 channels", channels)),
    };
    if pixels.is_empty() || shape.checked_dims() != Some(pixels.len()) {
        return Err(Error::shape("images", format!("{shape} values, one at least"), pixels.len()));
    }
    // The format's own limit is 2^31 - 1; beyond it the encoder says so.
    let side = |pixels: usize| u32::try_from(pixels).unwrap_or(u32::MAX);
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, side(shape.width), side(shape.height));
    encoder.set_color(color);
    encoder.set_depth(BitDepth::Eight);
    let written = encoder.write_header().and_then(|mut writer| {
        writer.write_image_data(pixels)?;
        writer.finish()
    });
    written.map_err(|error| Error::shape("images", "sizes that PNG can hold", format!("{shape}: {error}")))?;
    Ok(bytes)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The pixels of a PNG file.
    pub(in crate::picture) fn decode(bytes: &[u8]) -> (ImageShape, Vec<u8>) {
        let mut reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        let channels = info.color_type.samples();
        (ImageShape { height: info.height as usize, width: info.width as usize, channels }, pixels)
    }

    #[test]
    fn pixels_come_back() {
        for channels in [1, 3, 4] {
            let shape = ImageShape { height: 5, width: 7, channels };
            let pixels: Vec<u8> = (0..shape.dims()).map(|i| (i * 37) as u8).collect();
            let bytes = encode_png(&pixels, shape).unwrap();
            assert_eq!(decode(&bytes), (shape, pixels.clone()));
            assert_eq!(bytes, encode_png(&pixels, shape).unwrap());
        }
    }

    #[test]
    fn what_is_no_picture_is_refused() {
        for (height, width, channels, values) in
            [(1, 1, 2, 2), (1, 1, 0, 0), (0, 5, 3, 0), (2, 2, 1, 3), (usize::MAX, 2, 1, 5)]
        {
            let error = encode_png(&vec![0; values], ImageShape { height, width, channels }).unwrap_err();
            assert!(matches!(error, Error::Shape { .. }), "{error:?}");
        }
    }
}
