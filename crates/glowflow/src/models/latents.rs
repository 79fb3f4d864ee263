//! Latents as plain numbers, and what is done with them without a model.

use std::ops::Range;

use super::direction::check_direction;
use crate::error::{Error, Result};
use crate::random::{Key, Purpose, Stream};

/// The latents of a batch, one row an image: every scale's part, finest first, flattened.
#[derive(Debug, Clone, PartialEq)]
pub struct Latents {
    /// `count * dims` values; under the model of the distribution that [`LatentScale`] names.
    pub data: Vec<f32>,
    /// Number of images.
    pub count: usize,
    /// Length of a row: height x width x channels.
    pub dims: usize,
}

/// How latents are distributed under their model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LatentDistribution {
    /// Standard normal.
    Normal,
    /// Standard logistic: a NICE model's with that prior.
    Logistic,
}

impl LatentDistribution {
    /// Fills with draws, times `temperature`.
    pub(super) fn fill(self, stream: &mut Stream, temperature: f32, values: &mut [f32]) {
        match self {
            Self::Normal => stream.fill_normal(temperature, values),
            Self::Logistic => stream.fill_logistic(temperature, values),
        }
    }
}

/// Where a scale's part lies in a row of [`Latents`], and what it is drawn from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LatentScale {
    /// First value.
    pub offset: usize,
    /// Height, width and channels.
    pub shape: [usize; 3],
    /// Of its values.
    pub distribution: LatentDistribution,
}

impl LatentScale {
    /// Its values of a row.
    pub fn range(&self) -> Range<usize> {
        self.offset..self.offset + self.shape.iter().product::<usize>()
    }
}

/// The way from one latent to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InterpolationPath {
    /// Straight, as in the paper.
    Linear,
    /// On a great circle: the norm goes evenly from one end's to the other's.
    Spherical,
}

impl Latents {
    /// From each of these to its counterpart in `to`: `frames` rows for each pair, both ends included.
    ///
    /// # Errors
    ///
    /// [`Error::Option`] below 2 frames; [`Error::Shape`] where the two differ in count or dims.
    pub fn interpolate(&self, to: &Self, frames: usize, path: InterpolationPath) -> Result<Self> {
        check_frames(frames)?;
        self.check()?;
        to.check()?;
        if (self.count, self.dims) != (to.count, to.dims) {
            let size = |latents: &Self| format!("{} x {}", latents.count, latents.dims);
            return Err(Error::shape("latents to interpolate to", size(self), size(to)));
        }
        let mut data = Vec::with_capacity(self.data.len() * frames);
        for (a, b) in self.rows().zip(to.rows()) {
            for frame in 0..frames {
                let t = frame as f64 / (frames - 1) as f64;
                let (weight_a, weight_b) = match path {
                    InterpolationPath::Linear => (1.0 - t, t),
                    InterpolationPath::Spherical => spherical(a, b, t),
                };
                data.extend(a.iter().zip(b).map(|(&a, &b)| (weight_a * f64::from(a) + weight_b * f64::from(b)) as f32));
            }
        }
        Ok(Self { data, count: self.count * frames, dims: self.dims })
    }

    /// Each row once for each amount, row by row: plus `amount` times the direction.
    ///
    /// # Errors
    ///
    /// [`Error::Option`] for an amount that is not finite; [`Error::Shape`] for a direction of another length, or whose
    /// values are not.
    pub fn shift(&self, direction: &[f32], amounts: &[f32]) -> Result<Self> {
        self.check()?;
        check_direction("direction", direction, self.dims)?;
        check_amounts(amounts)?;
        let mut data = Vec::with_capacity(self.data.len() * amounts.len());
        for row in self.rows() {
            for amount in amounts {
                data.extend(row.iter().zip(direction).map(|(z, d)| z + amount * d));
            }
        }
        Ok(Self { data, count: self.count * amounts.len(), dims: self.dims })
    }

    /// A copy whose scales of these indices (0 the finest) are drawn anew, with standard deviation `temperature`.
    ///
    /// What a row's scale becomes depends on `seed`, the row's index and the scale alone, not on what else is drawn.
    /// `layout`: [`FlowModel::latent_scales`](super::FlowModel::latent_scales).
    ///
    /// # Errors
    ///
    /// [`Error::Option`] for a temperature below 0 and for an index that is out of range or there twice;
    /// [`Error::Shape`] for a layout that does not fill a row.
    pub fn resample(&self, layout: &[LatentScale], scales: &[usize], temperature: f32, seed: u64) -> Result<Self> {
        self.check()?;
        check_layout(layout, self.dims)?;
        check_temperature(temperature)?;
        for (at, &scale) in scales.iter().enumerate() {
            if scale >= layout.len() {
                return Err(Error::option("scales", format!("indices from 0 to {}", layout.len() - 1), scale));
            }
            if scales[..at].contains(&scale) {
                return Err(Error::option("scales", "each index once", format!("{scale} twice")));
            }
        }
        let mut drawn = self.clone();
        for (image, row) in drawn.data.chunks_exact_mut(self.dims).enumerate() {
            for &scale in scales {
                let key = Key { seed, purpose: Purpose::Resample, step: scale as u64, image: image as u64 };
                let LatentScale { distribution, .. } = layout[scale];
                distribution.fill(&mut key.stream(), temperature, &mut row[layout[scale].range()]);
            }
        }
        Ok(drawn)
    }

    /// The rows, one an image.
    pub(super) fn rows(&self) -> impl Iterator<Item = &[f32]> {
        self.data.chunks_exact(self.dims)
    }

    fn check(&self) -> Result<()> {
        let Self { data, count, dims } = self;
        if *dims > 0 && count.checked_mul(*dims) == Some(data.len()) {
            return Ok(());
        }
        Err(Error::shape("latents", format!("{count} rows of {dims}"), format!("{} values", data.len())))
    }
}

/// The scales follow on one another and fill a row.
fn check_layout(layout: &[LatentScale], dims: usize) -> Result<()> {
    let end = layout.iter().try_fold(0usize, |end, &LatentScale { offset, shape: [height, width, channels], .. }| {
        let size = height.checked_mul(width)?.checked_mul(channels)?;
        if offset == end { end.checked_add(size) } else { None }
    });
    if end == Some(dims) {
        return Ok(());
    }
    let received = layout.iter().map(|LatentScale { offset, shape: [h, w, c], .. }| format!("{h}x{w}x{c} at {offset}"));
    let expected = format!("parts that follow on one another and fill a row of {dims}");
    Err(Error::shape("latents.scales", expected, received.collect::<Vec<_>>().join(", ")))
}

pub(super) fn check_temperature(temperature: f32) -> Result<()> {
    if temperature.is_finite() && temperature >= 0.0 {
        return Ok(());
    }
    Err(Error::option("temperature", "a number not below 0", temperature))
}

pub(super) fn check_frames(frames: usize) -> Result<()> {
    if frames < 2 { Err(Error::option("frames", "a whole number above 1", frames)) } else { Ok(()) }
}

pub(super) fn check_amounts(amounts: &[f32]) -> Result<()> {
    match amounts.iter().find(|amount| !amount.is_finite()) {
        None => Ok(()),
        Some(amount) => Err(Error::option("amounts", "finite numbers", amount)),
    }
}

/// Weights of both ends at `t` on the great circle through them; a straight line where they are nearly parallel.
fn spherical(a: &[f32], b: &[f32], t: f64) -> (f64, f64) {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
    let (norm_a, norm_b) = (dot(a, a).sqrt(), dot(b, b).sqrt());
    let angle = (dot(a, b) / (norm_a * norm_b)).clamp(-1.0, 1.0).acos();
    // The ends are exact: they are to decode to the inputs, pixel for pixel.
    if t == 0.0 || t == 1.0 || !angle.is_finite() || angle.sin() < 1e-6 {
        return (1.0 - t, t);
    }
    let norm = (1.0 - t) * norm_a + t * norm_b;
    let weight = |t: f64| (t * angle).sin() / angle.sin() * norm;
    (weight(1.0 - t) / norm_a, weight(t) / norm_b)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn normal(offset: usize, shape: [usize; 3]) -> LatentScale {
        LatentScale { offset, shape, distribution: LatentDistribution::Normal }
    }

    const LAYOUT: [LatentScale; 3] = [normal(0, [2, 2, 2]), normal(8, [1, 1, 4]), normal(12, [1, 1, 8])];

    fn latents(count: usize) -> Latents {
        Latents { data: (0..20 * count).map(|i| i as f32 + 0.5).collect(), count, dims: 20 }
    }

    #[track_caller]
    fn refused(outcome: Result<Latents>, sentence: &str) {
        assert_eq!(outcome.unwrap_err().to_string(), sentence);
    }

    #[test]
    fn the_spherical_path_keeps_the_norm_between_its_ends() {
        let (a, b) = ([3.0, 0.0], [0.0, 5.0]);
        let (wa, wb) = spherical(&a, &b, 0.5);
        let norm = ((3.0 * wa).powi(2) + (5.0 * wb).powi(2)).sqrt();
        assert!((norm - 4.0).abs() < 1e-12, "{norm}");
        assert_eq!(spherical(&a, &b, 0.0), (1.0, 0.0));
        assert_eq!(spherical(&a, &a, 0.5), (0.5, 0.5));
    }

    #[test]
    fn an_interpolation_has_its_frames_pair_by_pair() {
        let of = |data: &[f32]| Latents { data: data.to_vec(), count: 2, dims: 2 };
        let (from, to) = (of(&[3.0, 0.0, 1.0, 1.0]), of(&[0.0, 5.0, 3.0, -1.0]));
        let linear = from.interpolate(&to, 3, InterpolationPath::Linear).unwrap();
        assert_eq!(linear.data, [3.0, 0.0, 1.5, 2.5, 0.0, 5.0, 1.0, 1.0, 2.0, 0.0, 3.0, -1.0]);
        assert_eq!((linear.count, linear.dims), (6, 2));
        let around = from.interpolate(&to, 3, InterpolationPath::Spherical).unwrap();
        let half = 4.0 * std::f32::consts::FRAC_1_SQRT_2;
        assert_eq!((around.data[0], around.data[1], around.data[4], around.data[5]), (3.0, 0.0, 0.0, 5.0));
        assert!((around.data[2] - half).abs() < 1e-6 && (around.data[3] - half).abs() < 1e-6, "{:?}", around.data);
    }

    #[test]
    fn a_shift_adds_the_amount_of_the_direction() {
        let start = Latents { data: vec![1.0, 2.0, 3.0, 4.0], count: 2, dims: 2 };
        let moved = start.shift(&[0.5, -1.0], &[0.0, 2.0]).unwrap();
        assert_eq!(moved.data, [1.0, 2.0, 2.0, 0.0, 3.0, 4.0, 4.0, 2.0]);
        assert_eq!((moved.count, moved.dims), (4, 2));
    }

    #[test]
    fn only_the_scales_asked_for_are_drawn_anew_each_by_its_own_key() {
        let start = latents(3);
        let draw = |scales: &[usize], seed| start.resample(&LAYOUT, scales, 0.7, seed).unwrap();
        let (both, one) = (draw(&[2, 0], 5), draw(&[2], 5));
        for image in 0..3 {
            let part = |latents: &Latents, scale: usize| latents.data[20 * image..][LAYOUT[scale].range()].to_vec();
            assert_eq!(part(&both, 1), part(&start, 1));
            assert_eq!(part(&one, 0), part(&start, 0));
            assert_eq!(part(&one, 1), part(&start, 1));
            assert_eq!(part(&both, 2), part(&one, 2), "what else is drawn makes no difference");
            assert!(part(&both, 0).iter().zip(part(&start, 0)).all(|(a, b)| *a != b));
        }
        assert_ne!(both.data[0..8], both.data[20..28], "each image draws its own");
        assert_eq!(both, draw(&[0, 2], 5));
        assert_ne!(both, draw(&[0, 2], 6));
        assert_eq!(draw(&[], 5), start);
        let first = Latents { data: start.data[..20].to_vec(), count: 1, dims: 20 };
        assert_eq!(first.resample(&LAYOUT, &[0, 2], 0.7, 5).unwrap().data, both.data[..20], "alone or in a batch");
        let still = start.resample(&LAYOUT, &[0, 1, 2], 0.0, 5).unwrap();
        assert!(still.data.iter().all(|&value| value == 0.0));
    }

    #[test]
    fn what_is_drawn_has_the_deviation_of_the_temperature() {
        let layout = [normal(0, [8, 8, 4]), normal(256, [4, 4, 16])];
        let start = Latents { data: vec![9.0; 200 * 512], count: 200, dims: 512 };
        let drawn = start.resample(&layout, &[1], 0.5, 3).unwrap();
        let values: Vec<f64> = drawn.rows().flat_map(|row| &row[256..]).map(|&value| f64::from(value)).collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64;
        // Standard errors: 0.0022 and 0.0016.
        assert!(mean.abs() < 0.01 && (variance - 0.25).abs() < 0.008, "{mean} {variance}");
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let start = latents(2);
        let linear = InterpolationPath::Linear;
        refused(start.interpolate(&start, 1, linear), "Expected a whole number above 1 for frames but received 1");
        refused(
            start.interpolate(&latents(1), 2, linear),
            "Expected latents to interpolate to of 2 x 20 but received 1 x 20",
        );
        let short = Latents { count: 3, ..latents(2) };
        let sentence = "Expected latents of 3 rows of 20 but received 40 values";
        refused(short.interpolate(&start, 2, linear), sentence);
        refused(short.shift(&[0.0; 20], &[1.0]), sentence);
        refused(short.resample(&LAYOUT, &[0], 1.0, 1), sentence);
        let none = Latents { data: vec![], count: 4, dims: 0 };
        refused(none.shift(&[], &[1.0]), "Expected latents of 4 rows of 0 but received 0 values");

        refused(start.shift(&[0.0; 19], &[1.0]), "Expected direction of 20 but received 19");
        refused(start.shift(&[f32::NAN; 20], &[1.0]), "Expected direction of finite numbers but received NaN at 0");
        refused(start.shift(&[0.0; 20], &[1.0, f32::INFINITY]), "Expected finite numbers for amounts but received inf");

        refused(start.resample(&LAYOUT, &[0, 3], 1.0, 1), "Expected indices from 0 to 2 for scales but received 3");
        refused(start.resample(&LAYOUT, &[1, 1], 1.0, 1), "Expected each index once for scales but received 1 twice");
        for temperature in [-0.1, f32::NAN, f32::INFINITY] {
            let error = start.resample(&LAYOUT, &[0], temperature, 1).unwrap_err();
            assert!(error.to_string().contains("a number not below 0 for temperature"), "{error}");
        }
        let of = |offset, shape| vec![LAYOUT[0], normal(offset, shape)];
        for layout in [
            vec![],
            LAYOUT[..2].to_vec(),
            of(9, [1, 1, 12]),
            of(7, [1, 1, 12]),
            of(8, [usize::MAX, 2, 1]),
            of(8, [1, 1, 13]),
        ] {
            let error = start.resample(&layout, &[0], 1.0, 1).unwrap_err();
            assert!(error.to_string().contains("latents.scales of parts that follow"), "{error}");
        }
    }
}
