//! What stands between a step's gradients and the optimizer.

use crate::error::Result;
use crate::flow::Gradients;

/// Makes one gradient of those that every process has computed on its part of the batch.
pub trait Reducer: Send {
    /// Averages over the processes, in place.
    fn reduce(&mut self, gradients: &mut Gradients) -> Result<()>;
}

/// One process: its gradient is the gradient.
#[derive(Debug, Clone, Copy, Default)]
pub struct Identity;

impl Reducer for Identity {
    fn reduce(&mut self, _gradients: &mut Gradients) -> Result<()> {
        Ok(())
    }
}
