//! A step of flow in one go: the mix of the channels, the coupling's net, the coupling. A thread takes images through all
//! of it; where there are fewer images than threads, all threads work on each part of it together.

use rayon::prelude::*;

use super::Grid;
use super::coupling::{self, Kind};
use super::net::{Forward as Net, Hidden, Input, Run};
use super::pixel::Pixel;
use super::scratch;

/// What [`forward`] gives.
pub struct Forward {
    /// [rows, C]
    pub y: Vec<f32>,
    /// Of each image's coupling, nats; the mix is not in it.
    pub log_det: Vec<f64>,
    /// The net's output, [rows, parameters], and its hidden activations, where they are kept.
    pub kept: Option<(Vec<f32>, Hidden)>,
}

/// Mixes x [rows, C], then couples.
pub fn forward(grid: Grid, x: &[f32], mix: &Pixel, net: &Net, kind: Kind, keep: bool) -> Forward {
    let channels = mix.outputs();
    let (half, parameters) = check(grid, x, mix, net, kind);
    let run = Run::new(grid, net, keep);
    let pieces = run.pieces(channels);
    let (mut y, mut hidden) = (vec![0.0; x.len()], run.hidden());
    let mut h = keep.then(|| vec![0.0; grid.rows() * parameters]);
    let mut sums = vec![0.0; grid.batch * pieces.of_image];
    if !x.is_empty() {
        let part = run.part * channels;
        let parts = y.par_chunks_mut(part).zip(x.par_chunks(part));
        let parts = parts.zip(sums.par_chunks_mut(run.part / grid.pixels() * pieces.of_image));
        let kept = run
            .hidden_of_parts(&mut hidden)
            .into_par_iter()
            .zip(run.of_parts(h.as_mut().map(|h| h.chunks_mut(run.part * parameters))));
        parts.zip(kept).with_min_len(run.least_parts()).for_each(|(((y, x), sums), (hidden, h))| {
            let mixed = y.chunks_mut(pieces.rows * channels).zip(x.chunks(pieces.rows * channels));
            run.each(mixed, |_, (y, x)| mix.apply(run.isa, x, y));
            let products = run.products(Input { values: y, row: channels }, hidden);
            let mut room = scratch::take(if h.is_none() { y.len() / channels * parameters } else { 0 });
            let h = h.unwrap_or(&mut room);
            let couplings = pieces.cut(y, channels).zip(pieces.cut(h, parameters)).zip(sums);
            run.each(couplings, |index, ((y, h), sum)| {
                products.output(pieces.first(index), h);
                *sum = coupling::change(run.isa, kind, y, h, half);
            });
        });
    }
    // Pieces count from the image's first row: its sum has one order, whatever the batch.
    let log_det = sums.chunks(pieces.of_image.max(1)).map(|sums| sums.iter().sum()).collect();
    Forward { y, log_det, kept: h.zip(hidden) }
}

/// Undoes [`forward`]; `mix` is the inverse of its.
pub fn inverse(grid: Grid, z: &[f32], mix: &Pixel, net: &Net, kind: Kind) -> Vec<f32> {
    let channels = mix.outputs();
    let (half, parameters) = check(grid, z, mix, net, kind);
    let run = Run::new(grid, net, false);
    let pieces = run.pieces(channels);
    let mut x = vec![0.0; z.len()];
    if z.is_empty() {
        return x;
    }
    let parts = x.par_chunks_mut(run.part * channels).zip(z.par_chunks(run.part * channels));
    parts.with_min_len(run.least_parts()).for_each(|(x, z)| {
        let products = run.products(Input { values: z, row: channels }, None);
        let (mut h, mut mixed) = (scratch::take(x.len() / channels * parameters), scratch::take(x.len()));
        let rooms = pieces.cut(&mut h, parameters).zip(pieces.cut(&mut mixed, channels));
        run.each(pieces.cut(x, channels).zip(rooms), |index, (x, (h, mixed))| {
            let first = pieces.first(index);
            products.output(first, h);
            mixed.copy_from_slice(&z[first * channels..][..x.len()]);
            coupling::restore(run.isa, kind, mixed, h, half);
            mix.apply(run.isa, mixed, x);
        });
    });
    x
}

/// Half of the channels, and columns of the net's output.
fn check(grid: Grid, x: &[f32], mix: &Pixel, net: &Net, kind: Kind) -> (usize, usize) {
    let (channels, sizes) = (mix.outputs(), net.sizes());
    let (half, parameters) = (channels / 2, kind.parameters(channels));
    assert_eq!(mix.inputs(), channels, "the mix is a square");
    assert_eq!(x.len(), grid.rows() * channels, "activations are [rows, {channels}]");
    assert_eq!((sizes.c_in, sizes.c_out), (half, parameters), "the net is of this coupling");
    (half, parameters)
}

#[cfg(test)]
mod tests {
    use super::super::bf16::Unit;
    use super::super::net::{self, NetWeights, Sizes};
    use super::super::reference::{GRIDS, image, on_each_isa, one, same_on_any_threads, values};
    use super::super::{pixel, taps::TAPS};
    use super::*;
    use crate::kernels::Precision;

    struct Case {
        grid: Grid,
        channels: usize,
        kind: Kind,
        x: Vec<f32>,
        mix: Vec<f32>,
        bias: Vec<f32>,
        parameters: [Vec<f32>; 9],
    }

    const HIDDEN: usize = 20;

    impl Case {
        fn new(grid: Grid, channels: usize, kind: Kind) -> Self {
            let (half, outputs) = (channels / 2, kind.parameters(channels));
            let small = |seed, len| values(seed, len).into_iter().map(|x| 0.2 * x).collect::<Vec<f32>>();
            let scales = |seed, len| values(seed, len).into_iter().map(|x| 1.0 + 0.5 * x).collect::<Vec<f32>>();
            let parameters = [
                small(1, TAPS * half * HIDDEN),
                scales(2, HIDDEN),
                small(3, grid.pixels() * HIDDEN),
                small(4, HIDDEN * HIDDEN),
                scales(5, HIDDEN),
                small(6, HIDDEN),
                small(7, HIDDEN * TAPS * outputs),
                scales(8, outputs),
                small(9, outputs),
            ];
            let (x, mix) = (values(10, grid.rows() * channels), small(11, channels * channels));
            Case { grid, channels, kind, x, mix, bias: small(12, channels), parameters }
        }

        fn net(&self, precision: Precision) -> Net {
            let [w1, s1, b1, w2, s2, b2, w3, s3, b3] = &self.parameters;
            let (c_in, c_out) = (self.channels / 2, self.kind.parameters(self.channels));
            let sizes = Sizes { c_in, hidden: HIDDEN, c_out };
            NetWeights { w1, s1, b1, w2, s2, b2, w3, s3, b3, sizes }.forward(precision)
        }

        fn mix(&self) -> Pixel {
            Pixel::new(&self.mix, &self.bias)
        }

        fn run(&self, precision: Precision, grid: Grid, x: &[f32], keep: bool) -> Forward {
            forward(grid, x, &self.mix(), &self.net(precision), self.kind, keep)
        }
    }

    fn cases() -> impl Iterator<Item = Case> {
        let kinds = [Kind::Sigmoid, Kind::Bounded, Kind::Additive].into_iter().cycle();
        let larger = [Grid { batch: 3, height: 12, width: 11 }, Grid { batch: 9, height: 4, width: 4 }];
        let cases = GRIDS.into_iter().chain(larger).zip(kinds).zip([2, 4, 12, 6].into_iter().cycle());
        cases.map(|((grid, kind), channels)| Case::new(grid, channels, kind))
    }

    fn precisions() -> Vec<(Precision, Option<Unit>)> {
        let units = Unit::available().into_iter().map(|unit| (Precision::Bf16, Some(unit)));
        std::iter::once((Precision::F32, None)).chain(units).collect()
    }

    fn on(unit: Option<Unit>, body: impl Fn()) {
        match unit {
            Some(unit) => Unit::force(unit, body),
            None => on_each_isa(|_| body()),
        }
    }

    #[test]
    fn equals_its_parts_to_the_bit() {
        for case in cases() {
            let Case { grid, channels, kind, .. } = case;
            for (precision, unit) in precisions() {
                on(unit, || {
                    let mixed = pixel::forward(&case.x, &case.mix, &case.bias, channels, channels);
                    let (h, _) = net::forward(grid, &coupling::kept(&mixed, channels), &case.net(precision), false);
                    let parts = coupling::forward(kind, grid.batch, &mixed, &h, channels);
                    let whole = case.run(precision, grid, &case.x, true);
                    assert_eq!(whole.kept.as_ref().expect("kept").0, h);
                    assert_eq!(whole.y, parts.y);
                    for (found, expected) in whole.log_det.iter().zip(&parts.log_det) {
                        assert!((found - expected).abs() <= 1e-12 * expected.abs().max(1.0), "{found} for {expected}");
                    }
                    let unkept = case.run(precision, grid, &case.x, false);
                    assert!(unkept.y == whole.y && unkept.log_det == whole.log_det, "keeping changes bits");

                    let back = inverse(grid, &whole.y, &case.mix(), &case.net(precision), kind);
                    let restored = coupling::inverse(kind, &whole.y, &h, channels);
                    assert_eq!(back, pixel::forward(&restored, &case.mix, &case.bias, channels, channels));
                });
            }
        }
    }

    #[test]
    fn an_image_alone_and_any_threads_give_the_same_bits() {
        for case in cases() {
            let Case { grid, channels, kind, .. } = case;
            for (precision, unit) in precisions() {
                on(unit, || {
                    let (mix, net) = (case.mix(), case.net(precision));
                    let whole = case.run(precision, grid, &case.x, false);
                    let back = inverse(grid, &case.x, &mix, &net, kind);
                    for index in 0..grid.batch {
                        let x = image(grid, &case.x, channels, index);
                        let alone = case.run(precision, one(grid), x, false);
                        assert_eq!(alone.y, image(grid, &whole.y, channels, index));
                        assert_eq!(alone.log_det[0], whole.log_det[index]);
                        assert_eq!(inverse(one(grid), x, &mix, &net, kind), image(grid, &back, channels, index));
                    }
                });
                let run = || {
                    let out = case.run(precision, grid, &case.x, false);
                    (out.y, out.log_det, inverse(grid, &case.x, &case.mix(), &case.net(precision), kind))
                };
                match unit {
                    Some(unit) => same_on_any_threads(|| Unit::force(unit, run)),
                    None => same_on_any_threads(run),
                }
            }
        }
    }
}
