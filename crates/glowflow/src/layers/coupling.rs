//! Coupling layers: half of the channels changes by an amount that the other half decides.
//!
//! Dinh, Sohl-Dickstein & Bengio 2017, section 3.2; Kingma & Dhariwal 2018, table 1.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use crate::error::Result;
use crate::flow::{Cotangent, Forward, Gradients, Invertible, Layer, Output, Pass, Pullback};
use crate::kernels::coupling::{self, Kind};
use crate::kernels::net::Hidden;
use crate::nets::{ConvNet, ConvNetConfig, NetForm, PreparedConvNet};

/// A coupling whose net sees the first half of the channels and changes the second.
#[derive(Module, Debug)]
pub struct Coupling {
    /// Gives shift and raw scale.
    pub net: ConvNet,
    #[module(skip)]
    kind: Kind,
    #[module(skip)]
    size: [usize; 2],
}

/// Sizes of a [`Coupling`].
#[derive(Debug, Clone, Copy)]
pub struct CouplingConfig {
    /// Additive, or affine with one of the scales.
    pub kind: Kind,
    /// Channels of the layer.
    pub channels: usize,
    /// Height and width of its activations.
    pub size: [usize; 2],
    /// Channels inside the net.
    pub hidden: usize,
    /// Of what the net is made.
    pub form: NetForm,
}

impl CouplingConfig {
    /// Near the identity: the net's last convolution is zero.
    pub fn init(self, seed: u64, layer: u64, device: &Device) -> Coupling {
        Coupling { net: self.net().init(seed, layer, device), kind: self.kind, size: self.size }
    }

    /// Of its net.
    pub fn net(self) -> ConvNetConfig {
        ConvNetConfig {
            inputs: self.channels / 2,
            hidden: self.hidden,
            outputs: self.kind.parameters(self.channels),
            form: self.form,
        }
    }
}

impl Layer for Coupling {
    type Prepared = PreparedCoupling;

    fn prepare(&self, _path: &str, pass: Pass) -> Result<PreparedCoupling> {
        Ok(PreparedCoupling { net: self.net.prepare(self.size, pass.precision), kind: self.kind })
    }
}

/// A [`Coupling`] ready to run.
#[derive(Debug, Clone)]
pub struct PreparedCoupling {
    net: PreparedConvNet,
    kind: Kind,
}

/// What the backward pass would otherwise compute again.
#[derive(Debug, Clone)]
pub struct SavedCoupling {
    x: Tensor<4>,
    pub(super) net: SavedNet,
}

/// The net's output and its activations.
#[derive(Debug, Clone)]
pub struct SavedNet {
    /// Shift and raw scale.
    pub h: Tensor<4>,
    /// After each ReLU.
    pub hidden: Hidden,
}

impl PreparedCoupling {
    /// Gives shift and raw scale.
    pub fn net(&self) -> &PreparedConvNet {
        &self.net
    }

    /// What is done with them.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The gradient of the input, from the output `z` and what its net saved.
    pub fn pull_back(
        &self,
        z: &Tensor<4>,
        net: &SavedNet,
        cotangent: &Cotangent,
        gradients: &mut Gradients,
    ) -> Tensor<4> {
        let g = coupling::backward(self.kind, z, &net.h, &cotangent.z, &cotangent.log_det);
        let dkept = self.net.backward(&coupling::kept(z), &net.hidden, &g.h, gradients);
        coupling::add_to_kept(g.x, dkept)
    }

    fn run_net(&self, kept: &Tensor<4>) -> SavedNet {
        let (h, hidden) = self.net.forward_saving(kept);
        SavedNet { h, hidden }
    }
}

impl Invertible for PreparedCoupling {
    type Saved = SavedCoupling;

    fn forward(&self, x: Tensor<4>) -> Forward {
        let h = self.net.forward(&coupling::kept(&x));
        coupling::forward(self.kind, &x, &h)
    }

    fn forward_saving(&self, x: Tensor<4>) -> (Forward, SavedCoupling) {
        let net = self.run_net(&coupling::kept(&x));
        (coupling::forward(self.kind, &x, &net.h), SavedCoupling { x, net })
    }

    fn inverse(&self, z: Tensor<4>) -> Result<Tensor<4>> {
        let h = self.net.forward(&coupling::kept(&z));
        Ok(coupling::inverse(self.kind, &z, &h))
    }

    /// Runs the net once even where the input is rebuilt: it reads the half that did not change.
    fn backward(
        &self,
        Output { z, .. }: Output,
        saved: Option<SavedCoupling>,
        cotangent: Cotangent,
        gradients: &mut Gradients,
    ) -> Result<Pullback> {
        let SavedCoupling { x, net } = saved.unwrap_or_else(|| {
            let net = self.run_net(&coupling::kept(&z));
            SavedCoupling { x: coupling::inverse(self.kind, &z, &net.h), net }
        });
        let dx = self.pull_back(&z, &net, &cotangent, gradients);
        Ok(Pullback { x, dx })
    }
}
