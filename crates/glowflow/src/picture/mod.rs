//! Pictures: grids of images, plots of training curves.

pub mod grid;
pub mod plot;
pub mod png;
mod raster;

pub use grid::{GridOptions, png_grid, write_png_grid};
pub use plot::{Plot, Series, write_plot};
pub use png::encode_png;
