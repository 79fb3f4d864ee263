//! From the gradient of a scaled weight to those of weight and scale.

use rayon::prelude::*;

use super::super::isa::{Isa, per_isa};
use super::super::matrix::PANEL;
use super::super::scratch;
use super::ConvGradients;

/// Rows that are unfolded at once: their contributions to the scales are added up in f32.
pub const ROWS: usize = 32;

/// A weight [rows, columns], column c with the scale `scale[c % scale.len()]`, and what becomes of its gradient.
pub struct Unfold<'a> {
    w: &'a [f32],
    columns: usize,
    factors: Vec<f32>,
    scales: usize,
    weight: Vec<f32>,
    /// For each [`ROWS`] rows the dot products of their gradient's columns with those of w.
    dots: Vec<f32>,
}

/// [`ROWS`] rows of an [`Unfold`].
pub struct Rows<'a> {
    w: &'a [f32],
    factors: &'a [f32],
    weight: &'a mut [f32],
    dots: &'a mut [f32],
}

impl<'a> Unfold<'a> {
    pub fn new(w: &'a [f32], columns: usize, scale: &[f32]) -> Self {
        let factors = scale.iter().copied().cycle().take(columns).collect();
        let parts = w.len().div_ceil(ROWS * columns);
        Unfold {
            w,
            columns,
            factors,
            scales: scale.len(),
            weight: scratch::exact(w.len()),
            dots: vec![0.0; parts * columns],
        }
    }

    /// The rows, [`ROWS`] at a time: each wants [`Rows::set`] once.
    pub fn rows(&mut self) -> impl IndexedParallelIterator<Item = Rows<'_>> {
        let size = ROWS * self.columns;
        let (factors, dots) = (&*self.factors, self.dots.par_chunks_mut(self.columns));
        let rows = self.weight.par_chunks_mut(size).zip(self.w.par_chunks(size)).zip(dots);
        rows.map(move |((weight, w), dots)| Rows { w, factors, weight, dots })
    }

    /// The gradients, with that of the bias beside them.
    pub fn finish(self, bias: Vec<f32>) -> ConvGradients {
        let mut log_scale = vec![0.0f64; self.scales];
        for dots in self.dots.chunks_exact(self.columns) {
            for (column, (dot, factor)) in dots.iter().zip(&self.factors).enumerate() {
                log_scale[column % self.scales] += f64::from(dot * factor);
            }
        }
        ConvGradients { weight: self.weight, log_scale: log_scale.into_iter().map(|sum| sum as f32).collect(), bias }
    }
}

impl Rows<'_> {
    /// `piece(row, panel)` is the gradient of the scaled weight, from column `panel * PANEL` on; rows count from the first
    /// of these.
    pub fn set<'b>(self, isa: Isa, piece: impl Fn(usize, usize) -> &'b [f32]) {
        let columns = self.factors.len();
        self.dots.fill(0.0);
        for (row, (out, w)) in self.weight.chunks_exact_mut(columns).zip(self.w.chunks_exact(columns)).enumerate() {
            let by_panel = out.chunks_mut(PANEL).zip(w.chunks(PANEL)).zip(self.factors.chunks(PANEL));
            for (panel, (((out, w), factors), dots)) in by_panel.zip(self.dots.chunks_mut(PANEL)).enumerate() {
                set_piece(isa, &piece(row, panel)[..w.len()], w, factors, out, dots);
            }
        }
    }
}

per_isa! {
    fn set_piece<S>(gradient: &[f32], w: &[f32], factors: &[f32], out: &mut [f32], dots: &mut [f32]) {
        for ((((g, w), factor), out), dot) in gradient.iter().zip(w).zip(factors).zip(out).zip(dots) {
            *dot += g * w;
            *out = g * factor;
        }
    }
}
