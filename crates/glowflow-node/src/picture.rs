//! PNG grids and plots.

use std::path::PathBuf;

use glowflow::picture;
use napi::Env;
use napi::bindgen_prelude::{PromiseRaw, Uint8ArraySlice};
use napi_derive::napi;

use crate::error::to_napi;
use crate::images::Pixels;
use crate::task::spawn;

/// How a grid is laid out.
#[napi(object, object_to_js = false)]
#[derive(Default)]
pub struct GridOptions {
    /// Images in a row.
    pub columns: Option<u32>,
    /// Pixels between images.
    pub gap: Option<u32>,
    /// Between images, red, green and blue.
    pub background: Option<Vec<u8>>,
}

impl From<GridOptions> for picture::GridOptions {
    fn from(options: GridOptions) -> Self {
        let default = Self::default();
        Self {
            columns: options.columns.map(|columns| columns as usize).or(default.columns),
            gap: options.gap.map_or(default.gap, |gap| gap as usize),
            background: options.background.and_then(|rgb| rgb.try_into().ok()).unwrap_or(default.background),
        }
    }
}

/// The images in rows, as a PNG file's bytes.
#[napi]
pub fn png_grid<'env>(
    env: &'env Env,
    images: Pixels,
    options: GridOptions,
) -> napi::Result<PromiseRaw<'env, Uint8ArraySlice<'env>>> {
    let images = images.copy_bytes().map_err(|error| to_napi(&error))?;
    spawn(env, move || picture::png_grid(&images, &options.into()), Uint8ArraySlice::copy_from)
}

/// The same, written to a file.
#[napi]
pub fn write_png_grid(
    env: &Env,
    file: String,
    images: Pixels,
    options: GridOptions,
) -> napi::Result<PromiseRaw<'_, ()>> {
    let images = images.copy_bytes().map_err(|error| to_napi(&error))?;
    let file = PathBuf::from(file);
    spawn(env, move || picture::write_png_grid(&file, &images, &options.into()), |_, ()| Ok(()))
}

/// One curve of a plot.
#[napi(object, object_to_js = false)]
pub struct Series {
    /// In the legend; left out of it if empty.
    pub name: Option<String>,
    /// x of each point, ascending.
    pub x: Vec<f64>,
    /// y of each point.
    pub y: Vec<f64>,
    /// Thin and pale, in the colour of the next curve that is not.
    pub faint: Option<bool>,
}

/// What a plot says about itself.
#[napi(object, object_to_js = false)]
pub struct Plot {
    /// Above the plot.
    pub title: Option<String>,
    /// Of the horizontal axis.
    pub x_label: Option<String>,
    /// Of the vertical axis.
    pub y_label: Option<String>,
    /// The curves.
    pub series: Vec<Series>,
}

/// Writes a line plot, SVG or PNG.
#[napi]
pub fn write_plot(env: &Env, file: String, plot: Plot) -> napi::Result<PromiseRaw<'_, ()>> {
    let file = PathBuf::from(file);
    let Plot { title, x_label, y_label, series } = plot;
    let labels = picture::Plot {
        title: title.unwrap_or_default(),
        x_label: x_label.unwrap_or_default(),
        y_label: y_label.unwrap_or_default(),
    };
    let series: Vec<_> = series
        .into_iter()
        .map(|Series { name, x, y, faint }| picture::Series {
            name: name.unwrap_or_default(),
            points: x.into_iter().zip(y).collect(),
            faint: faint.unwrap_or_default(),
        })
        .collect();
    spawn(env, move || picture::write_plot(&file, &labels, &series), |_, ()| Ok(()))
}
