//! From the gradient of a scaled weight to those of weight and scale.

use rayon::prelude::*;

use super::super::isa::{Isa, per_isa};
use super::super::matrix::PANEL;
use super::super::scratch;
use super::ConvGradients;

/// Rows whose contributions to the scales are added up in f32.
const PART: usize = 32;

/// The gradients of w [rows, columns] and of the logarithms of its columns' scales, column c that of
/// `scale[c % scale.len()]`. `piece(row, panel)` is the gradient of the scaled weight, from column `panel * PANEL` on.
pub fn unfold<'a>(
    piece: impl Fn(usize, usize) -> &'a [f32] + Sync,
    w: &[f32],
    columns: usize,
    scale: &[f32],
    bias: Vec<f32>,
) -> ConvGradients {
    let isa = Isa::active();
    let factors: Vec<f32> = scale.iter().copied().cycle().take(columns).collect();
    let mut weight = scratch::exact(w.len());
    let parts = weight.par_chunks_mut(PART * columns).zip(w.par_chunks(PART * columns));
    let sums: Vec<Vec<f32>> = parts
        .with_min_len((1 << 14) / (PART * columns) + 1)
        .enumerate()
        .map(|(part, (out, w))| {
            let mut sums = vec![0.0; columns];
            for (row, (out, w)) in out.chunks_exact_mut(columns).zip(w.chunks_exact(columns)).enumerate() {
                let by_panel = out.chunks_mut(PANEL).zip(w.chunks(PANEL)).zip(factors.chunks(PANEL));
                for (panel, (((out, w), factors), sums)) in by_panel.zip(sums.chunks_mut(PANEL)).enumerate() {
                    unfold_piece(isa, &piece(part * PART + row, panel)[..w.len()], w, factors, out, sums);
                }
            }
            sums
        })
        .collect();
    let mut log_scale = vec![0.0f64; scale.len()];
    for part in &sums {
        for (column, (sum, factor)) in part.iter().zip(&factors).enumerate() {
            log_scale[column % scale.len()] += f64::from(sum * factor);
        }
    }
    ConvGradients { weight, log_scale: log_scale.into_iter().map(|sum| sum as f32).collect(), bias }
}

per_isa! {
    fn unfold_piece<S>(gradient: &[f32], w: &[f32], factors: &[f32], out: &mut [f32], sums: &mut [f32]) {
        for ((((g, w), factor), out), sum) in gradient.iter().zip(w).zip(factors).zip(out).zip(sums) {
            *sum += g * w;
            *out = g * factor;
        }
    }
}
