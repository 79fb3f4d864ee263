//! A curve of any number of steps in bounded memory.

/// Stretches of a curve, of which a plot shows the lowest and the highest value; more than it has columns, always.
const MOST_STRETCHES: usize = 4096;

/// The running mean spans this part of the curve to either side.
const MEAN_REACH: usize = 50;

/// Values by step. When there are too many stretches, each two of the same double length become one: what a curve holds
/// depends on its values alone, not on when a run was interrupted.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Curve {
    /// Steps of a stretch, a power of two.
    width: u64,
    stretches: Vec<Stretch>,
}

#[derive(Debug, Clone, PartialEq)]
struct Stretch {
    /// Its steps divided by the width.
    index: u64,
    lowest: (u64, f64),
    highest: (u64, f64),
    /// Sums over its values, each as often as it was merged.
    weight: f64,
    steps: f64,
    values: f64,
}

impl Curve {
    pub(super) fn new() -> Self {
        Self { width: 1, stretches: Vec::new() }
    }

    /// Adds the mean `value` of the `merged` steps up to `step`. One that is not finite is left out.
    pub(super) fn push(&mut self, step: u64, value: f64, merged: u64) {
        if !value.is_finite() {
            return;
        }
        let weight = merged.max(1) as f64;
        let (point, steps, values) = ((step, value), step as f64 * weight, value * weight);
        self.add(Stretch { index: step / self.width, lowest: point, highest: point, weight, steps, values });
        while self.stretches.len() > MOST_STRETCHES {
            self.width *= 2;
            for stretch in std::mem::take(&mut self.stretches) {
                self.add(Stretch { index: stretch.index / 2, ..stretch });
            }
        }
    }

    fn add(&mut self, next: Stretch) {
        match self.stretches.last_mut() {
            // Steps ascend; one that does not is taken for one of the last stretch.
            Some(last) if next.index <= last.index => last.absorb(next),
            _ => self.stretches.push(next),
        }
    }

    /// The lowest and the highest point of every stretch: all points of a curve of few steps.
    pub(super) fn points(&self) -> Vec<(f64, f64)> {
        let ends = self.stretches.iter().flat_map(|stretch| {
            let Stretch { lowest, highest, .. } = *stretch;
            let (first, second) = if lowest.0 < highest.0 { (lowest, highest) } else { (highest, lowest) };
            [Some(first), (second != first).then_some(second)]
        });
        ends.flatten().map(|(step, value)| (step as f64, value)).collect()
    }

    /// The mean of the values around each stretch.
    pub(super) fn running_mean(&self) -> Vec<(f64, f64)> {
        let reach = self.stretches.len() / MEAN_REACH;
        let around = |at: usize| &self.stretches[at.saturating_sub(reach)..(at + reach + 1).min(self.stretches.len())];
        let mean = |(at, stretch): (usize, &Stretch)| {
            let (values, weight) = around(at)
                .iter()
                .fold((0.0, 0.0), |(values, weight), stretch| (values + stretch.values, weight + stretch.weight));
            (stretch.steps / stretch.weight, values / weight)
        };
        self.stretches.iter().enumerate().map(mean).collect()
    }
}

impl Stretch {
    fn absorb(&mut self, later: Self) {
        if later.lowest.1 < self.lowest.1 {
            self.lowest = later.lowest;
        }
        if later.highest.1 > self.highest.1 {
            self.highest = later.highest;
        }
        self.weight += later.weight;
        self.steps += later.steps;
        self.values += later.values;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(values: impl IntoIterator<Item = (u64, f64)>) -> Curve {
        let mut curve = Curve::new();
        values.into_iter().for_each(|(step, value)| curve.push(step, value, 1));
        curve
    }

    #[test]
    fn a_short_curve_is_held_whole() {
        let values = [(1, 5.0), (2, 4.0), (3, f64::NAN), (4, f64::INFINITY), (5, 3.0)];
        let curve = curve(values);
        assert_eq!(curve.points(), [(1.0, 5.0), (2.0, 4.0), (5.0, 3.0)]);
        assert_eq!(curve.running_mean(), curve.points());
        assert_eq!((Curve::new().points(), Curve::new().running_mean()), (vec![], vec![]));
    }

    #[test]
    fn a_long_curve_keeps_its_spikes_in_bounded_memory() {
        let steps = 3_000_000;
        let value = |step| {
            if step == 1_234_567 {
                70.0
            } else if step == 7 {
                -70.0
            } else {
                (step % 2) as f64
            }
        };
        let curve = curve((1..=steps).map(|step| (step, value(step))));
        assert!(curve.stretches.len() <= MOST_STRETCHES && curve.stretches.len() > MOST_STRETCHES / 2);
        let points = curve.points();
        assert!(points.contains(&(1_234_567.0, 70.0)) && points.contains(&(7.0, -70.0)));
        assert!(points.is_sorted_by(|a, b| a.0 < b.0));
        let mean = curve.running_mean();
        assert!(mean.is_sorted_by(|a, b| a.0 < b.0));
        assert!(mean[100..].iter().all(|&(_, mean)| (mean - 0.5).abs() < 1e-2));
    }

    #[test]
    fn merged_steps_count_as_many() {
        let mut curve = Curve::new();
        (0..100).for_each(|step| curve.push(step, 0.0, 1));
        curve.push(100, 8.0, 13);
        // Two stretches before it: 13 * 8 / (13 + 2).
        assert_eq!(curve.running_mean()[100], (100.0, 104.0 / 15.0));
    }

    #[test]
    fn steps_of_any_size_and_order_are_taken() {
        let far = curve((0..10_000).map(|at| (at * (u64::MAX / 10_000), at as f64)).chain([(3, 1.0), (u64::MAX, 2.0)]));
        assert!(far.stretches.len() <= MOST_STRETCHES);
        let mut odd = Curve::new();
        odd.push(u64::MAX, f64::MAX, u64::MAX);
        odd.push(0, f64::MIN, 0);
        assert_eq!(odd.points(), [(0.0, f64::MIN), (u64::MAX as f64, f64::MAX)]);
    }
}
