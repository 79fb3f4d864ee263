//! Many images in one picture.

use std::io::Write;
use std::path::Path;

use super::encode_png;
use crate::error::{Error, Result};
use crate::images::{ImageShape, Images};
use crate::store::file::write_atomically;

/// Widest gap between images.
const WIDEST_GAP: usize = 1024;

/// Largest picture in bytes: no viewer opens more.
const LARGEST: usize = 1 << 30;

/// How images are laid out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GridOptions {
    /// Images in a row; as many as bring the picture nearest to a square if `None`.
    pub columns: Option<usize>,
    /// Pixels between images. There are none around them.
    pub gap: usize,
    /// Red, green and blue between images and in empty places.
    pub background: [u8; 3],
}

impl Default for GridOptions {
    fn default() -> Self {
        Self { columns: None, gap: 2, background: [255; 3] }
    }
}

/// A PNG file of all images, row by row. Grey images make a grey picture unless the background has a colour.
///
/// # Errors
///
/// [`Error::Shape`] without images or with channels other than 1, 3 or 4; [`Error::Option`];
/// [`Error::OutOfMemory`] where the picture is larger than 1 GiB.
pub fn png_grid(images: &Images, options: &GridOptions) -> Result<Vec<u8>> {
    let Images { data, count, shape } = images;
    let (count, shape) = (*count, *shape);
    if data.is_empty() || shape.checked_dims().and_then(|dims| dims.checked_mul(count)) != Some(data.len()) {
        return Err(Error::shape(
            "images",
            format!("{count} x {shape} values, one at least"),
            format!("{} values", data.len()),
        ));
    }
    if ![1, 3, 4].contains(&shape.channels) {
        return Err(Error::shape("images", "1, 3 or 4 channels", shape.channels));
    }
    let &GridOptions { columns, gap, background } = options;
    if columns == Some(0) {
        return Err(Error::option("columns", "a positive integer", 0));
    }
    if gap > WIDEST_GAP {
        return Err(Error::option("gap", format!("an integer from 0 to {WIDEST_GAP}"), gap));
    }
    let columns = columns.unwrap_or_else(|| square_columns(count, shape)).min(count);
    let rows = count.div_ceil(columns);
    let grey = background == [background[0]; 3];
    let channels = if shape.channels == 1 && !grey { 3 } else { shape.channels };

    let along = |cells: usize, size: usize| cells.checked_mul(size)?.checked_add((cells - 1) * gap);
    let size = along(rows, shape.height).zip(along(columns, shape.width));
    let picture = size.map(|(height, width)| ImageShape { height, width, channels });
    let bytes = picture.as_ref().and_then(ImageShape::checked_dims);
    let (Some(picture), Some(bytes @ ..=LARGEST)) = (picture, bytes) else {
        let needed = bytes.map_or(u64::MAX, |bytes| bytes as u64);
        return Err(Error::OutOfMemory { what: "the picture".into(), needed, available: LARGEST as u64 });
    };

    let [red, green, blue] = background;
    let mut pixels = [red, green, blue, u8::MAX][..channels].repeat(bytes / channels);
    let stride = picture.width * channels;
    for index in 0..count {
        let (row, column) = (index / columns, index % columns);
        let corner = row * (shape.height + gap) * stride + column * (shape.width + gap) * channels;
        let lines = images.image(index).chunks_exact(shape.width * shape.channels);
        for (y, line) in lines.enumerate() {
            let place = &mut pixels[corner + y * stride..][..shape.width * channels];
            if channels == shape.channels {
                place.copy_from_slice(line);
            } else {
                place.chunks_exact_mut(3).zip(line).for_each(|(rgb, &grey)| rgb.fill(grey));
            }
        }
    }
    encode_png(&pixels, picture)
}

/// Writes [`png_grid`] to a file, whole or not at all.
///
/// # Errors
///
/// Those of [`png_grid`] and [`write_atomically`].
pub fn write_png_grid(path: &Path, images: &Images, options: &GridOptions) -> Result<()> {
    let png = png_grid(images, options)?;
    write_atomically(path, |writer| writer.write_all(&png))
}

/// The smallest number of columns that makes the picture no higher than wide, gaps aside.
fn square_columns(count: usize, shape: ImageShape) -> usize {
    let columns = (count as f64 * shape.height as f64 / shape.width as f64).sqrt().ceil();
    (columns as usize).clamp(1, count)
}

#[cfg(test)]
mod tests {
    use super::super::png::tests::decode;
    use super::*;

    /// Image i is all i + 1.
    fn images(count: usize, height: usize, width: usize, channels: usize) -> Images {
        let shape = ImageShape { height, width, channels };
        Images { data: (0..count).flat_map(|i| vec![(i % 255) as u8 + 1; shape.dims()]).collect(), count, shape }
    }

    fn grid(images: &Images, columns: Option<usize>, gap: usize, background: [u8; 3]) -> (String, Vec<u8>) {
        let (shape, pixels) = decode(&png_grid(images, &GridOptions { columns, gap, background }).unwrap());
        (shape.to_string(), pixels)
    }

    #[test]
    fn images_lie_row_by_row() {
        let (shape, pixels) = grid(&images(3, 1, 2, 1), Some(2), 1, [9; 3]);
        assert_eq!(shape, "3x5x1");
        assert_eq!(pixels, [1, 1, 9, 2, 2, 9, 9, 9, 9, 9, 3, 3, 9, 9, 9]);
        let (shape, pixels) = grid(&images(2, 1, 1, 1), Some(9), 0, [9; 3]);
        assert_eq!((shape.as_str(), &pixels[..]), ("1x2x1", &[1, 2][..]));
    }

    #[test]
    fn channels_follow_images_and_background() {
        let (shape, pixels) = grid(&images(2, 1, 1, 1), Some(1), 1, [7, 8, 9]);
        assert_eq!((shape.as_str(), &pixels[..]), ("3x1x3", &[1, 1, 1, 7, 8, 9, 2, 2, 2][..]));
        let (shape, pixels) = grid(&images(2, 1, 1, 4), Some(1), 1, [7, 8, 9]);
        assert_eq!((shape.as_str(), &pixels[..]), ("3x1x4", &[1, 1, 1, 1, 7, 8, 9, 255, 2, 2, 2, 2][..]));
        assert_eq!(grid(&images(2, 1, 1, 3), None, 0, [0; 3]).0, "1x2x3");
    }

    #[test]
    fn the_default_is_nearest_to_a_square() {
        let columns = |count, height, width| square_columns(count, ImageShape { height, width, channels: 3 });
        assert_eq!([1, 2, 4, 5, 16, 17, 20, 64].map(|count| columns(count, 32, 32)), [1, 2, 2, 3, 4, 5, 5, 8]);
        assert_eq!((columns(16, 10, 40), columns(16, 40, 10)), (2, 8));
        assert_eq!((columns(3, 1, 1000), columns(3, 1000, 1)), (1, 3));
        assert_eq!(grid(&images(4, 3, 3, 1), None, 2, [0; 3]).0, "8x8x1");
        assert_eq!(GridOptions::default().gap, 2);
    }

    #[test]
    fn what_cannot_be_drawn_is_an_error() {
        let refused = |images: &Images, options: GridOptions| png_grid(images, &options).unwrap_err();
        let options = GridOptions::default;
        let one = images(1, 1, 1, 1);
        assert!(matches!(refused(&Images { data: vec![], count: 0, ..one.clone() }, options()), Error::Shape { .. }));
        assert!(matches!(refused(&Images { count: 2, ..one.clone() }, options()), Error::Shape { .. }));
        assert!(matches!(refused(&images(1, 1, 1, 2), options()), Error::Shape { .. }));
        assert!(matches!(refused(&images(1, 1, 1, 5), options()), Error::Shape { .. }));
        assert!(matches!(refused(&one, GridOptions { columns: Some(0), ..options() }), Error::Option { .. }));
        assert!(matches!(refused(&one, GridOptions { gap: 1 << 40, ..options() }), Error::Option { .. }));
        let many = GridOptions { gap: 1024, ..options() };
        assert!(matches!(refused(&images(4096, 1, 1, 1), many), Error::OutOfMemory { .. }));
    }

    #[test]
    fn a_file_holds_the_same_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("grid.png");
        write_png_grid(&path, &images(5, 4, 4, 3), &GridOptions::default()).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), png_grid(&images(5, 4, 4, 3), &GridOptions::default()).unwrap());
    }
}
