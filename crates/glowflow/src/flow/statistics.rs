//! What a batch normalisation has seen: kept from the forward to the backward pass, and moved into running averages
//! with the optimizer's step, never by a forward pass.

use std::collections::HashMap;

use burn::module::{Module, ModuleMapper, Param, ParamId};
use burn::tensor::{Bool, Tensor};

/// What a batch normalisation divides by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The statistics of the batch at hand.
    Training,
    /// Running averages: an image's latents depend on it alone.
    Evaluation,
}

/// Means and variances of one batch, each under the running average that it moves. Empty for layers without.
#[derive(Debug, Clone, Default)]
pub struct Statistics(Vec<(ParamId, Tensor<1>)>);

impl Statistics {
    /// Adds what was seen.
    pub fn add(&mut self, running: &RunningAverage, seen: Tensor<1>) {
        self.0.push((running.value.id, seen));
    }

    /// What was seen for this running average. Shape `[channels]`.
    pub fn of(&self, running: &RunningAverage) -> Option<&Tensor<1>> {
        self.0.iter().find(|(id, _)| *id == running.value.id).map(|(_, seen)| seen)
    }

    /// Adds those of another layer.
    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// True where nothing was seen.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// What the batch normalisations of one pass divide by.
#[derive(Debug, Clone)]
pub enum Seen {
    /// Running averages.
    Running,
    /// The batch at hand: its statistics are taken from here, and put here where they are not known yet.
    Batch(Statistics),
}

impl Seen {
    /// Of a pass in this mode, given what is known of the batch.
    pub fn new(mode: Mode, known: Statistics) -> Self {
        match mode {
            Mode::Training => Self::Batch(known),
            Mode::Evaluation => Self::Running,
        }
    }

    /// What the pass has seen of its batch.
    pub fn into_statistics(self) -> Statistics {
        match self {
            Self::Running => Statistics::default(),
            Self::Batch(statistics) => statistics,
        }
    }
}

/// A mean over steps, `r + rate (seen - r)`: a parameter of the file that no gradient steps.
#[derive(Module, Debug)]
pub struct RunningAverage {
    /// Shape `[channels]`.
    pub value: Param<Tensor<1>>,
}

impl RunningAverage {
    /// Part of the difference that one step moves it by (Dinh, Sohl-Dickstein & Bengio 2017, appendix E).
    const RATE: f64 = 0.1;

    /// Starts at `values`, `[channels]`.
    pub fn new(values: Tensor<1>) -> Self {
        Self { value: Param::from_tensor(values) }
    }
}

/// The module with its running averages moved by what one batch has shown; where there is a flag `sound`, `[1]`, only if
/// that holds.
pub fn move_running_averages<M: Module>(module: M, seen: Statistics, sound: Option<&Tensor<1, Bool>>) -> M {
    if seen.is_empty() {
        return module;
    }
    module.map(&mut Mover { seen: seen.0.into_iter().collect(), sound })
}

struct Mover<'a> {
    seen: HashMap<ParamId, Tensor<1>>,
    sound: Option<&'a Tensor<1, Bool>>,
}

impl ModuleMapper for Mover<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(seen) = self.seen.remove(&param.id) else { return param };
        param.map(|value| {
            let seen = seen.reshape(value.dims());
            let moved = value.clone() + (seen - value.clone()).mul_scalar(RunningAverage::RATE);
            match self.sound {
                None => moved,
                Some(sound) => {
                    let holds: Tensor<D, Bool> = sound.clone().reshape([1; D]).expand(value.dims());
                    value.mask_where(holds, moved)
                }
            }
        })
    }
}
