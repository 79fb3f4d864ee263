//! The additive coupling of NICE: the first half decides what is added to the second.
//!
//! Dinh, Krueger & Bengio 2015, section 3.2.

use burn::module::Module;
use burn::tensor::Tensor;

use crate::error::Result;
use crate::flow::{Cotangent, Forward, Gradients, Invertible, Layer, Output, Pass, Pullback};
use crate::kernels::coupling::{self, Kind};
use crate::nets::{Mlp, MlpRun};

/// `y1 = x1`, `y2 = x2 + m(x1)` of the halves of `[batch, 1, 1, D]`: volume preserving.
#[derive(Module, Debug)]
pub struct AdditiveCoupling {
    /// `m`, from `D / 2` values to as many.
    pub net: Mlp,
}

impl Layer for AdditiveCoupling {
    type Prepared = PreparedAdditive;

    fn prepare(&self, _path: &str, _pass: Pass) -> Result<PreparedAdditive> {
        Ok(PreparedAdditive { net: self.net.clone() })
    }
}

/// An [`AdditiveCoupling`] ready to run.
#[derive(Debug, Clone)]
pub struct PreparedAdditive {
    net: Mlp,
}

/// What the backward pass would otherwise compute again.
#[derive(Debug, Clone)]
pub struct SavedAdditive {
    x: Tensor<4>,
    run: MlpRun,
}

impl Invertible for PreparedAdditive {
    type Saved = SavedAdditive;

    fn forward(&self, x: Tensor<4>) -> Forward {
        let h = self.net.run(&coupling::kept(&x)).h;
        coupling::forward(Kind::Additive, &x, &h)
    }

    fn forward_saving(&self, x: Tensor<4>) -> (Forward, SavedAdditive) {
        let run = self.net.run(&coupling::kept(&x));
        (coupling::forward(Kind::Additive, &x, &run.h), SavedAdditive { x, run })
    }

    fn inverse(&self, z: Tensor<4>) -> Result<Tensor<4>> {
        let h = self.net.run(&coupling::kept(&z)).h;
        Ok(coupling::inverse(Kind::Additive, &z, &h))
    }

    /// Runs the net once even where the input is rebuilt: it reads the half that did not change.
    fn backward(
        &self,
        Output { z, .. }: Output,
        saved: Option<SavedAdditive>,
        cotangent: Cotangent,
        gradients: &mut Gradients,
    ) -> Result<Pullback> {
        let kept = coupling::kept(&z);
        let SavedAdditive { x, run } = saved.unwrap_or_else(|| {
            let run = self.net.run(&kept);
            SavedAdditive { x: coupling::inverse(Kind::Additive, &z, &run.h), run }
        });
        let g = coupling::backward(Kind::Additive, &z, &run.h, &cotangent.z, &cotangent.log_det);
        let dkept = self.net.backward(&kept, &run, &g.h, gradients);
        Ok(Pullback { x, dx: coupling::add_to_kept(g.x, dkept) })
    }
}
