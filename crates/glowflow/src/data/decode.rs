//! Picture files to pixels: PNG, JPEG and WebP, told apart by their content.

use std::io::{BufRead, BufReader, Cursor, Read, Seek};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};

use crate::error::{Error, Result};
use crate::images::ImageShape;
use crate::store::file::{OpenFile, buffer, open_file};

/// Most bytes of a file and of its pixels: a photograph of 100 megapixels has 300 MB. A few bytes can claim far more.
const MOST_BYTES: u64 = 512 << 20;

/// Longest side, that of JPEG.
const LONGEST_SIDE: u32 = u16::MAX as u32;

/// An upright picture.
#[derive(Debug, PartialEq)]
pub(super) struct Picture {
    pub pixels: Vec<u8>,
    /// Channels: 1, 3 or 4.
    pub shape: ImageShape,
}

/// Reads image `index` of a data set from its file. 16-bit values are rounded to 8, palettes and CMYK become colour.
///
/// # Errors
///
/// [`Error::Io`] where the system refuses; [`Error::Image`] for a file that is no whole picture.
pub(super) fn read_picture(path: &Path, index: usize) -> Result<Picture> {
    let bytes = read_whole(path, MOST_BYTES).map_err(|error| of_image(error, index))?;
    named(path, index, || decode(&bytes))
}

/// Height and width of a picture as [`read_picture`] would return it, from its header alone.
pub(super) fn measure(path: &Path, index: usize) -> Result<[usize; 2]> {
    let OpenFile { file, .. } = open_file(path).map_err(|error| of_image(error, index))?;
    let mut file = BufReader::new(file);
    let start = file.fill_buf().map_err(Error::io(path))?;
    let format = format_of(start);
    named(path, index, || {
        let (decoder, orientation) = open(file, format?)?;
        let (width, height) = decoder.dimensions();
        let size = [height as usize, width as usize];
        Ok(if turns(orientation) { [size[1], size[0]] } else { size })
    })
}

/// A file that cannot be a picture, as one of a data set.
fn of_image(error: Error, index: usize) -> Error {
    match error {
        Error::File { path, reason } => Error::Image { file: path, index, reason },
        other => other,
    }
}

/// A file's bytes.
pub(super) fn read_whole(path: &Path, most: u64) -> Result<Vec<u8>> {
    let OpenFile { file, len } = open_file(path)?;
    if len > most {
        return Err(Error::file(path, format!("Expected at most {most} bytes but found {len}")));
    }
    let mut bytes = buffer(path, len)?;
    file.take(most).read_to_end(&mut bytes).map_err(Error::io(path))?;
    Ok(bytes)
}

/// Says which file a failure is about. Decoders are the part that hostile files reach: a panic is one more failure.
fn named<T>(path: &Path, index: usize, work: impl FnOnce() -> Result<T, String>) -> Result<T> {
    let outcome = catch_unwind(AssertUnwindSafe(work));
    outcome
        .unwrap_or_else(|panic| Err(Error::from_panic(&*panic, "the decoder").to_string()))
        .map_err(|reason| Error::Image { file: path.to_path_buf(), index, reason })
}

fn decode(bytes: &[u8]) -> Result<Picture, String> {
    let format = format_of(bytes)?;
    // The decoder would fill what is missing with grey.
    if format == ImageFormat::Jpeg && !has_end_of_image(bytes) {
        return Err("Expected a whole JPEG but it is truncated: its end marker is missing".into());
    }
    let (decoder, orientation) = open(Cursor::new(bytes), format)?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(damaged)?;
    image.apply_orientation(orientation);
    let (height, width) = (image.height() as usize, image.width() as usize);
    let color = image.color();
    let (pixels, channels) = match (color.has_color(), color.has_alpha()) {
        (_, true) => (image.into_rgba8().into_raw(), 4),
        (true, false) => (image.into_rgb8().into_raw(), 3),
        (false, false) => (image.into_luma8().into_raw(), 1),
    };
    Ok(Picture { pixels, shape: ImageShape { height, width, channels } })
}

/// By the first bytes of a file.
fn format_of(start: &[u8]) -> Result<ImageFormat, String> {
    match image::guess_format(start) {
        Ok(format @ (ImageFormat::Png | ImageFormat::Jpeg | ImageFormat::WebP)) => Ok(format),
        Ok(other) => Err(format!("Expected a PNG, JPEG or WebP picture but found {other:?}")),
        Err(_) if start.is_empty() => Err("Expected a picture but found an empty file".into()),
        Err(_) => Err("Expected a PNG, JPEG or WebP picture but found something else".into()),
    }
}

/// A decoder that has read the header, and how its picture is to be turned.
fn open<'a>(
    source: impl BufRead + Seek + 'a,
    format: ImageFormat,
) -> Result<(impl ImageDecoder + 'a, Orientation), String> {
    let mut reader = ImageReader::with_format(source, format);
    let mut limits = Limits::default();
    limits.max_image_width = Some(LONGEST_SIDE);
    limits.max_image_height = Some(LONGEST_SIDE);
    limits.max_alloc = Some(MOST_BYTES);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(damaged)?;
    let (width, height) = decoder.dimensions();
    if decoder.total_bytes() > MOST_BYTES {
        return Err(format!("Expected at most {MOST_BYTES} bytes of pixels but its header claims {height}x{width}"));
    }
    if width == 0 || height == 0 {
        return Err(format!("Expected one pixel at least but its header claims {height}x{width}"));
    }
    // Damaged EXIF data say nothing about the pixels.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    Ok((decoder, orientation))
}

fn turns(orientation: Orientation) -> bool {
    use Orientation::{Rotate90, Rotate90FlipH, Rotate270, Rotate270FlipH};
    matches!(orientation, Rotate90 | Rotate270 | Rotate90FlipH | Rotate270FlipH)
}

fn damaged(error: ImageError) -> String {
    match error {
        ImageError::Limits(_) => {
            format!(
                "Expected sides of at most {LONGEST_SIDE} and {MOST_BYTES} bytes of pixels but its header claims more"
            )
        }
        ImageError::Unsupported(error) => format!("Expected a common kind of picture but found another: {error}"),
        error => format!("Expected a whole picture but it is damaged: {error}"),
    }
}

/// Whether a JPEG's pixels are followed by the marker that ends it. A thumbnail among its metadata has one of its own.
fn has_end_of_image(bytes: &[u8]) -> bool {
    const START_OF_SCAN: u8 = 0xda;
    let mut at = 2;
    // Every segment before the first scan says how long it is.
    while let Some(&[0xff, marker, high, low]) = bytes.get(at..at + 4) {
        if marker == 0xff {
            at += 1;
            continue;
        }
        at += 2 + usize::from(u16::from_be_bytes([high, low]));
        if marker == START_OF_SCAN {
            break;
        }
    }
    bytes.get(at..).is_some_and(|scans| scans.windows(2).any(|pair| pair == [0xff, 0xd9]))
}

#[cfg(test)]
pub(super) mod tests {
    use std::fs;
    use std::path::PathBuf;

    use image::codecs::jpeg::JpegEncoder;
    use image::{ExtendedColorType, ImageBuffer, ImageEncoder, Rgb};
    use tempfile::TempDir;

    use super::*;
    use crate::random::{Key, Purpose};

    /// A file in this format of these pixels; the color follows from their number.
    pub fn encode(format: ImageFormat, [height, width, channels]: [usize; 3], pixels: &[u8]) -> Vec<u8> {
        let color = match channels {
            1 => ExtendedColorType::L8,
            2 => ExtendedColorType::La8,
            3 => ExtendedColorType::Rgb8,
            _ => ExtendedColorType::Rgba8,
        };
        let mut out = Cursor::new(Vec::new());
        image::write_buffer_with_format(&mut out, pixels, width as u32, height as u32, color, format).unwrap();
        out.into_inner()
    }

    pub fn noise(count: usize, seed: u64) -> Vec<u8> {
        let mut values = vec![0.0; count];
        Key { seed, purpose: Purpose::Sample, step: 0, image: 0 }.stream().fill_uniform(&mut values);
        values.into_iter().map(|value| (value * 256.0) as u8).collect()
    }

    struct Folder(TempDir);

    impl Folder {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn put(&self, bytes: &[u8]) -> PathBuf {
            let path = self.0.path().join("picture");
            fs::write(&path, bytes).unwrap();
            path
        }

        fn read(&self, bytes: &[u8]) -> Result<Picture> {
            read_picture(&self.put(bytes), 7)
        }

        #[track_caller]
        fn refused(&self, bytes: &[u8], sentence: &str) {
            let path = self.put(bytes);
            let error = read_picture(&path, 7).unwrap_err();
            assert!(matches!(&error, Error::Image { file, index: 7, .. } if *file == path), "{error:?}");
            assert!(error.to_string().contains(sentence), "{error}");
        }
    }

    fn picture([height, width, channels]: [usize; 3], pixels: &[u8]) -> Picture {
        Picture { pixels: pixels.to_vec(), shape: ImageShape { height, width, channels } }
    }

    /// A chunk of a PNG.
    fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
        let mut crc = flate2::Crc::new();
        crc.update(kind);
        crc.update(data);
        [&(data.len() as u32).to_be_bytes()[..], kind, data, &crc.sum().to_be_bytes()].concat()
    }

    fn exif(orientation: u8) -> Vec<u8> {
        let mut exif = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".to_vec();
        exif.extend([orientation, 0, 0, 0, 0, 0, 0, 0]);
        exif
    }

    #[test]
    fn formats_are_told_by_content_and_lossless_ones_exact() {
        let folder = Folder::new();
        for channels in [1, 3, 4] {
            let sizes = [5, 3, channels];
            let pixels = noise(15 * channels, 1);
            assert_eq!(folder.read(&encode(ImageFormat::Png, sizes, &pixels)).unwrap(), picture(sizes, &pixels));
            if channels > 1 {
                assert_eq!(folder.read(&encode(ImageFormat::WebP, sizes, &pixels)).unwrap(), picture(sizes, &pixels));
            }
        }
        let jpeg = folder.read(&encode(ImageFormat::Jpeg, [8, 16, 1], &[130; 128])).unwrap();
        assert_eq!(jpeg, picture([8, 16, 1], &[130; 128]));
        let jpeg = folder.read(&encode(ImageFormat::Jpeg, [8, 16, 3], &[130; 384])).unwrap();
        assert_eq!(jpeg, picture([8, 16, 3], &[130; 384]));
    }

    #[test]
    fn depths_palettes_and_grey_with_alpha_become_8_bit_channels() {
        let folder = Folder::new();
        let deep: ImageBuffer<Rgb<u16>, Vec<u16>> = ImageBuffer::from_raw(1, 1, vec![0, 0x8080, 0xffff]).unwrap();
        let mut bytes = Cursor::new(Vec::new());
        deep.write_to(&mut bytes, ImageFormat::Png).unwrap();
        assert_eq!(folder.read(bytes.get_ref()).unwrap(), picture([1, 1, 3], &[0, 0x80, 255]));

        let write = |color, depth, palette: Option<Vec<u8>>, transparency: Option<Vec<u8>>, data: &[u8]| {
            let mut bytes = Vec::new();
            let mut encoder = png::Encoder::new(&mut bytes, 2, 1);
            encoder.set_color(color);
            encoder.set_depth(depth);
            palette.into_iter().for_each(|palette| encoder.set_palette(palette));
            transparency.into_iter().for_each(|alpha| encoder.set_trns(alpha));
            encoder.write_header().unwrap().write_image_data(data).unwrap();
            bytes
        };
        let palette = || Some(vec![1, 2, 3, 4, 5, 6]);
        let indexed = write(png::ColorType::Indexed, png::BitDepth::One, palette(), None, &[0b1000_0000]);
        assert_eq!(folder.read(&indexed).unwrap(), picture([1, 2, 3], &[4, 5, 6, 1, 2, 3]));
        let clear = write(png::ColorType::Indexed, png::BitDepth::Eight, palette(), Some(vec![9]), &[0, 1]);
        assert_eq!(folder.read(&clear).unwrap(), picture([1, 2, 4], &[1, 2, 3, 9, 4, 5, 6, 255]));
        let bilevel = write(png::ColorType::Grayscale, png::BitDepth::One, None, None, &[0b0100_0000]);
        assert_eq!(folder.read(&bilevel).unwrap(), picture([1, 2, 1], &[0, 255]));
        let grey_alpha = write(png::ColorType::GrayscaleAlpha, png::BitDepth::Eight, None, None, &[7, 8, 9, 10]);
        assert_eq!(folder.read(&grey_alpha).unwrap(), picture([1, 2, 4], &[7, 7, 7, 8, 9, 9, 9, 10]));
    }

    /// A JPEG of one block in four colours, stored inverted as Adobe's programs do. Its only coefficients are the means:
    /// the quantizer of 8 makes them the values themselves, and every category of them has a code of four bits.
    fn cmyk_jpeg(inverted: [u8; 4]) -> Vec<u8> {
        let mut bits = String::new();
        for value in inverted {
            let mean = i32::from(value) - 128;
            let category = (i32::BITS - mean.unsigned_abs().leading_zeros()) as usize;
            let magnitude = if mean < 0 { mean + (1 << category) - 1 } else { mean };
            bits += &format!("{category:04b}");
            (0..category).rev().for_each(|bit| bits += if magnitude >> bit & 1 == 1 { "1" } else { "0" });
            bits += "0";
        }
        bits += "1111111";
        let scan = bits.as_bytes().chunks_exact(8).flat_map(|byte| {
            let byte = byte.iter().fold(0, |byte, bit| byte << 1 | (bit - b'0'));
            if byte == 0xff { vec![byte, 0] } else { vec![byte] }
        });
        let segment = |marker: u8, data: &[u8]| [&[0xff, marker, 0, data.len() as u8 + 2], data].concat();
        let components: Vec<u8> = (1..=4).flat_map(|id| [id, 0x11, 0]).collect();
        let lengths = |count: u8, of: usize| -> Vec<u8> { (1..=16).map(|l| if l == of { count } else { 0 }).collect() };
        [
            vec![0xff, 0xd8],
            segment(0xee, b"Adobe\0\x64\0\0\0\0\0"),
            segment(0xdb, &[&[0][..], &[8; 64]].concat()),
            segment(0xc0, &[&[8, 0, 8, 0, 8, 4], &components[..]].concat()),
            segment(0xc4, &[&[0x00], &lengths(9, 4)[..], &[0, 1, 2, 3, 4, 5, 6, 7, 8]].concat()),
            segment(0xc4, &[&[0x10], &lengths(1, 1)[..], &[0]].concat()),
            segment(0xda, &[4, 1, 0, 2, 0, 3, 0, 4, 0, 0, 63, 0]),
            scan.collect(),
            vec![0xff, 0xd9],
        ]
        .concat()
    }

    #[test]
    fn cmyk_becomes_colour() {
        let folder = Folder::new();
        for (stored, rgb) in [([200, 100, 50, 255], [200, 100, 50]), ([255, 255, 255, 100], [100; 3])] {
            let read = folder.read(&cmyk_jpeg(stored)).unwrap();
            assert_eq!(read.shape.to_string(), "8x8x3");
            let close = |pixel: &[u8]| pixel.iter().zip(rgb).all(|(value, expected)| value.abs_diff(expected) <= 1);
            assert!(read.pixels.chunks(3).all(close), "{:?}", &read.pixels[..3]);
        }
    }

    #[test]
    fn exif_orientation_turns_every_format_upright() {
        let folder = Folder::new();
        let (height, width) = (8, 16);
        // Row and column of the stored pixel that the upright one at (y, x) is, by the EXIF standard's figure.
        let stored = |orientation: u8, y: usize, x: usize| match orientation {
            1 => (y, x),
            2 => (y, width - 1 - x),
            3 => (height - 1 - y, width - 1 - x),
            4 => (height - 1 - y, x),
            5 => (x, y),
            6 => (height - 1 - x, y),
            7 => (height - 1 - x, width - 1 - y),
            _ => (x, width - 1 - y),
        };
        let pixels = noise(height * width * 3, 2);
        for format in [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::WebP] {
            let plain = encode(format, [height, width, 3], &pixels);
            let flat = folder.read(&plain).unwrap();
            for orientation in 1..=8 {
                let exif = exif(orientation);
                let turned = match format {
                    ImageFormat::Jpeg => {
                        let payload = [&b"Exif\0\0"[..], &exif].concat();
                        let length = (payload.len() as u16 + 2).to_be_bytes();
                        [&plain[..2], &[0xff, 0xe1], &length, &payload, &plain[2..]].concat()
                    }
                    // Behind the signature and IHDR.
                    ImageFormat::Png => [&plain[..33], &chunk(b"eXIf", &exif), &plain[33..]].concat(),
                    _ => {
                        let mut out = Vec::new();
                        let mut encoder = image::codecs::webp::WebPEncoder::new_lossless(&mut out);
                        encoder.set_exif_metadata(exif).unwrap();
                        let color = ExtendedColorType::Rgb8;
                        encoder.write_image(&pixels, width as u32, height as u32, color).unwrap();
                        out
                    }
                };
                let read = folder.read(&turned).unwrap();
                let [tall, wide] = if orientation > 4 { [width, height] } else { [height, width] };
                let expected: Vec<u8> = (0..tall * wide)
                    .flat_map(|at| {
                        let (y, x) = stored(orientation, at / wide, at % wide);
                        flat.pixels[3 * (y * width + x)..][..3].to_vec()
                    })
                    .collect();
                assert_eq!(read, picture([tall, wide, 3], &expected), "{format:?} {orientation}");
                assert_eq!(measure(&folder.put(&turned), 0).unwrap(), [tall, wide]);
            }
        }
    }

    #[test]
    fn what_is_no_whole_picture_is_named() {
        let folder = Folder::new();
        folder.refused(b"", "found an empty file");
        folder.refused(b"This is a letter.", "Expected a PNG, JPEG or WebP picture but found something else");
        folder.refused(b"GIF89a\x01\0\x01\0\0\0\0;", "but found Gif");
        let pixels = noise(64 * 64 * 3, 3);
        for format in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::WebP] {
            let whole = encode(format, [64, 64, 3], &pixels);
            for part in [whole.len() / 2, whole.len() - whole.len() / 10, 40] {
                folder.refused(&whole[..part], "Expected a whole");
            }
        }
        let error = read_picture(&folder.0.path().join("missing"), 0).unwrap_err();
        assert!(matches!(error, Error::Io { .. }));
        assert!(matches!(read_picture(folder.0.path(), 3), Err(Error::Image { index: 3, .. })));
    }

    #[test]
    fn the_end_of_a_thumbnail_is_not_the_end_of_a_jpeg() {
        let mut whole = Vec::new();
        JpegEncoder::new(&mut whole).encode(&noise(3072, 4), 32, 32, ExtendedColorType::Rgb8).unwrap();
        let thumbnail = [0xff, 0xe1, 0, 6, 0xff, 0xd9, 0, 0];
        let with = [&whole[..2], &thumbnail, &whole[2..]].concat();
        assert!(has_end_of_image(&with) && has_end_of_image(&[&whole[..], &[0; 100]].concat()));
        assert!(!has_end_of_image(&with[..with.len() - 2]));
        assert!((0..whole.len() - 1).all(|len| !has_end_of_image(&whole[..len])));
    }

    #[test]
    fn claims_are_refused_before_memory_is_asked_for() {
        let folder = Folder::new();
        let header = |width: u32, height: u32| {
            let sizes = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[8, 2, 0, 0, 0]].concat();
            let idat = chunk(b"IDAT", &[0x78, 0x9c, 3, 0, 0, 0, 0, 1]);
            [&b"\x89PNG\r\n\x1a\n"[..], &chunk(b"IHDR", &sizes), &idat, &chunk(b"IEND", &[])].concat()
        };
        folder.refused(&header(60_000, 60_000), "bytes of pixels but its header claims");
        folder.refused(&header(1 << 30, 1), "Expected sides of at most 65535");
        let mut jpeg = encode(ImageFormat::Jpeg, [8, 8, 3], &[0; 192]);
        let frame = jpeg.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
        jpeg[frame + 5..frame + 9].copy_from_slice(&[0xff, 0xff, 0xff, 0xff]);
        folder.refused(&jpeg, "its header claims 65535x65535");
    }

    #[test]
    fn damaged_files_are_read_or_refused() {
        let folder = Folder::new();
        let pixels = noise(16 * 16 * 3, 5);
        let mut stream = Key { seed: 6, purpose: Purpose::Sample, step: 0, image: 0 }.stream();
        let mut draw = [0.0f32; 8];
        for format in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::WebP] {
            let whole = encode(format, [16, 16, 3], &pixels);
            for round in 0..400 {
                stream.fill_uniform(&mut draw);
                let at = |i: usize, bound: usize| (draw[i] * bound as f32) as usize;
                let mut bytes = whole.clone();
                for i in 0..1 + round % 4 {
                    let bound = if round % 3 == 0 { 64 } else { bytes.len() };
                    bytes[at(i, bound)] = at(i + 4, 256) as u8;
                }
                if let Err(error) = folder.read(&bytes) {
                    assert!(matches!(error, Error::Image { .. }), "{error:?}");
                }
            }
        }
    }
}
