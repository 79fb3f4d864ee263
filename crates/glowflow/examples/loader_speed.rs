//! Images per second that a folder gives, in the first epoch, which decodes, and in later ones, which find images kept.
//!
//! `cargo run --release --workspace --example loader_speed`: pictures are made in a folder that is gone afterwards, so their
//! files are in the system's cache.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use glowflow::data::{Augment, Dataset, DatasetOptions, Order, Plan, Prefetch, image_folder};
use glowflow::random::{Key, Purpose};
use image::{ExtendedColorType, ImageFormat};

const BATCH: usize = 64;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let threads = std::thread::available_parallelism()?;
    println!("batches of {BATCH}, {threads} threads, images/s\n");
    println!("| files | options | first epoch | later epochs |\n| --- | --- | --- | --- |");
    let size = |size: usize| DatasetOptions { size: Some([size; 2]), ..DatasetOptions::default() };
    measure("JPEG 178x218", ImageFormat::Jpeg, [218, 178], 4096, "size 64", &size(64))?;
    let crop = DatasetOptions { random_crop: Some(64), ..size(96) };
    measure("JPEG 178x218", ImageFormat::Jpeg, [218, 178], 4096, "size 96, randomCrop 64", &crop)?;
    measure("PNG 32x32", ImageFormat::Png, [32, 32], 16384, "none", &DatasetOptions::default())?;
    Ok(())
}

fn measure(
    files: &str,
    format: ImageFormat,
    [height, width]: [usize; 2],
    count: usize,
    asked: &str,
    options: &DatasetOptions,
) -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    for index in 0..count {
        let extension = format.extensions_str()[0];
        write_picture(&folder.path().join(format!("{index:06}.{extension}")), format, height, width, index)?;
    }
    let data = Arc::new(image_folder(folder.path(), options)?);
    let order = Order::new(data.len(), 1)?;
    let steps = count / BATCH;
    let plan = Plan { position: 0, step: 0, batch_size: BATCH, accumulate: 1, augment: Augment::default() };
    let mut batches = Prefetch::new(data, order, plan)?;
    let mut epoch = || -> glowflow::Result<f64> {
        let start = Instant::now();
        for _ in 0..steps {
            batches.next_batch()?;
        }
        Ok((steps * BATCH) as f64 / start.elapsed().as_secs_f64())
    };
    let first = epoch()?;
    let later = (0..5).map(|_| epoch()).collect::<glowflow::Result<Vec<f64>>>()?;
    let later = later.iter().sum::<f64>() / later.len() as f64;
    println!("| {files} | {asked} | {first:.0} | {later:.0} |");
    Ok(())
}

/// Smooth shapes with some noise, which compress about as photographs do.
fn write_picture(
    path: &Path,
    format: ImageFormat,
    height: usize,
    width: usize,
    index: usize,
) -> image::ImageResult<()> {
    let mut noise = vec![0.0; height * width * 3];
    Key { seed: 1, purpose: Purpose::Sample, step: 0, image: index as u64 }.stream().fill_uniform(&mut noise);
    let pixels: Vec<u8> = noise
        .iter()
        .enumerate()
        .map(|(at, noise)| {
            let (y, x) = ((at / 3 / width) as f32, (at / 3 % width) as f32);
            let phase = (index * 7 + at % 3 * 40) as f32;
            let wave = ((x + phase) / 19.0).sin() + ((y - phase) / 31.0).cos();
            (128.0 + 50.0 * wave + 16.0 * noise) as u8
        })
        .collect();
    let mut bytes = std::io::Cursor::new(Vec::new());
    image::write_buffer_with_format(&mut bytes, &pixels, width as u32, height as u32, ExtendedColorType::Rgb8, format)?;
    fs::write(path, bytes.into_inner())?;
    Ok(())
}
