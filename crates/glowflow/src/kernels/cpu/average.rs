//! A moving average, one step on.

use rayon::prelude::*;

use super::isa::{Isa, per_isa};

/// Values of a task.
const TASK: usize = 1 << 14;

/// Moves each average by `rate` of its way to the value.
pub fn step(average: &mut [f32], values: &[f32], rate: f32) {
    assert_eq!(average.len(), values.len(), "one average a value");
    let isa = Isa::active();
    let tasks = average.par_chunks_mut(TASK).zip(values.par_chunks(TASK));
    tasks.for_each(|(average, values)| step_values(isa, average, values, rate));
}

per_isa! {
    fn step_values<S>(average: &mut [f32], values: &[f32], rate: f32) {
        for (average, value) in average.iter_mut().zip(values) {
            *average += rate * (value - *average);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::reference::{on_each_isa, values};
    use super::*;

    #[test]
    fn equals_the_definition_to_the_bit() {
        on_each_isa(|_| {
            let (mut average, new) = (values(1, 40_001), values(2, 40_001));
            let expected: Vec<f32> = average.iter().zip(&new).map(|(a, v)| a + 0.25 * (v - a)).collect();
            step(&mut average, &new, 0.25);
            assert!(average == expected);
        });
    }
}
