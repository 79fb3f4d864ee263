//! The arithmetic of RealNVP's couplings: `u = (x + shift) exp(scale tanh(raw))`, then a batch normalisation, on the
//! part that changes.
//!
//! Dinh, Sohl-Dickstein & Bengio 2017, sections 3.2 and 3.7.

use burn::module::Param;
use burn::tensor::Tensor;

use super::partition::{Partition, Parts};
use crate::error::Result;
use crate::flow::{
    Cotangent, Forward, Gradients, Invertible, Mode, Output, Pullback, Seen, Statistics, accumulator, sum_per_example,
};
use crate::kernels::{coupling::halves, host::read, reduce, taps};
use crate::nets::{BatchNorm, FoldedNorm, FoldedSignedNet, PreparedSignedNet, SavedSignedNet};

/// A masked or a channel coupling ready to run.
#[derive(Debug, Clone)]
pub struct PreparedRescaled {
    /// What it keeps and what it changes.
    pub(super) partition: Partition,
    /// Gives shift and raw log-scale.
    pub(super) net: PreparedSignedNet,
    /// Shape `[1]`.
    pub(super) scale: Param<Tensor<1>>,
    /// Of the changed part.
    pub(super) norm: BatchNorm,
    /// What the norms divide by on the way forward.
    pub(super) mode: Mode,
}

/// A masked or a channel coupling by running averages, as other programs write it.
#[derive(Debug, Clone)]
pub struct FoldedRescaled {
    /// What it keeps and what it changes.
    pub partition: Partition,
    /// Gives shift, then raw log-scale.
    pub net: FoldedSignedNet,
    /// Of the bounded log-scale.
    pub scale: f32,
    /// Of the changed part.
    pub norm: FoldedNorm,
}

/// What the backward pass would otherwise compute again.
#[derive(Debug, Clone)]
pub struct SavedRescaled {
    x: Tensor<4>,
    net: SavedNet,
}

/// The net's output and its activations.
#[derive(Debug, Clone)]
struct SavedNet {
    h: Tensor<4>,
    inside: SavedSignedNet,
}

/// What the net's output means. Shapes of the changed part, zero outside.
struct Affine {
    shift: Tensor<4>,
    tanh: Tensor<4>,
    log_scale: Tensor<4>,
}

impl PreparedRescaled {
    /// By running averages.
    pub fn folded(&self) -> FoldedRescaled {
        FoldedRescaled {
            partition: self.partition.clone(),
            net: self.net.folded(),
            scale: read(self.scale.val())[0],
            norm: self.norm.folded(),
        }
    }

    fn affine(&self, h: &Tensor<4>) -> Affine {
        let (shift, raw) = halves(h);
        let shift = self.partition.on_changed(shift);
        let tanh = self.partition.on_changed(raw).tanh();
        let log_scale = tanh.clone() * self.scale.val().unsqueeze();
        Affine { shift, tanh, log_scale }
    }

    fn run_net(&self, kept: &Tensor<4>, seen: &mut Seen) -> SavedNet {
        let (h, inside) = self.net.forward_saving(kept, seen);
        SavedNet { h, inside }
    }

    fn change(&self, Parts { kept, changed }: Parts, h: &Tensor<4>, mut seen: Seen) -> Forward {
        let [batch, ..] = changed.dims();
        let Affine { shift, log_scale, .. } = self.affine(h);
        let pixels = self.partition.changed_pixels(&changed);
        // Zero outside the changed part, and counted so by the norm.
        let u = (changed + shift) * log_scale.clone().exp();
        let moments = self.norm.moments(&u, &mut seen);
        let of_norm = moments.log_det(accumulator(&u.device())).mul_scalar(pixels as f64).expand([batch]);
        let changed = self.partition.on_changed(moments.normalise(&u));
        Forward {
            z: self.partition.join(Parts { kept, changed }),
            log_det: sum_per_example(log_scale) + of_norm,
            statistics: seen.into_statistics(),
        }
    }

    fn change_back(&self, Parts { kept, changed }: Parts, h: &Tensor<4>, seen: &mut Seen) -> Tensor<4> {
        let Affine { shift, log_scale, .. } = self.affine(h);
        let u = self.partition.on_changed(self.norm.moments(&changed, seen).restore(&changed));
        self.partition.join(Parts { kept, changed: u * log_scale.neg().exp() - shift })
    }
}

impl Invertible for PreparedRescaled {
    type Saved = SavedRescaled;

    fn forward(&self, x: Tensor<4>) -> Forward {
        let mut seen = Seen::new(self.mode, Statistics::default());
        let parts = self.partition.parts(&x);
        let h = self.net.forward(&parts.kept, &mut seen);
        self.change(parts, &h, seen)
    }

    fn forward_saving(&self, x: Tensor<4>) -> (Forward, SavedRescaled) {
        let mut seen = Seen::new(self.mode, Statistics::default());
        let parts = self.partition.parts(&x);
        let net = self.run_net(&parts.kept, &mut seen);
        (self.change(parts, &net.h, seen), SavedRescaled { x, net })
    }

    fn inverse(&self, z: Tensor<4>) -> Result<Tensor<4>> {
        let mut seen = Seen::Running;
        let parts = self.partition.parts(&z);
        let h = self.net.forward(&parts.kept, &mut seen);
        Ok(self.change_back(parts, &h, &mut seen))
    }

    /// Runs the net once even where the input is rebuilt: it reads the part that did not change, and its norms divide by
    /// what they have seen in the forward pass.
    fn backward(
        &self,
        Output { z, statistics }: Output,
        saved: Option<SavedRescaled>,
        cotangent: Cotangent,
        gradients: &mut Gradients,
    ) -> Result<Pullback> {
        let [batch, ..] = z.dims();
        let mut seen = Seen::new(self.mode, statistics);
        let parts = self.partition.parts(&z);
        let kept = parts.kept.clone();
        let y = parts.changed.clone();
        let SavedRescaled { x, net } = saved.unwrap_or_else(|| {
            let net = self.run_net(&kept, &mut seen);
            SavedRescaled { x: self.change_back(parts, &net.h, &mut seen), net }
        });
        let dz = self.partition.parts(&cotangent.z);
        let Affine { tanh, log_scale, .. } = self.affine(&net.h);

        let moments = self.norm.moments(&y, &mut seen);
        let pixels = self.partition.changed_pixels(&y) as f64;
        let dnorm = cotangent.log_det.clone().sum().mul_scalar(pixels);
        let du = self.partition.on_changed(moments.backward(&y, dz.changed, Some(dnorm)));
        let u = self.partition.on_changed(moments.restore(&y));
        let dchanged = du.clone() * log_scale.exp();
        let dlog_scale = self.partition.on_changed(du * u + cotangent.log_det.reshape([batch, 1, 1, 1]));
        let dscale = reduce::column_dots(&taps::rows(dlog_scale.clone()), &taps::rows(tanh.clone())).sum();
        gradients.add(&self.scale, dscale);
        let draw = dlog_scale * tanh.square().neg().add_scalar(1.0) * self.scale.val().unsqueeze();
        let dh = Tensor::cat(vec![dchanged.clone(), draw], 3);
        let dkept = self.net.backward(&kept, net.inside, &dh, &mut seen, gradients);
        let kept = dz.kept + self.partition.on_kept(dkept);
        Ok(Pullback { x, dx: self.partition.join(Parts { kept, changed: dchanged }) })
    }
}
