//! NICE: additive couplings between reversals, and a diagonal scaling.
//!
//! Dinh, Krueger & Bengio 2015.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::chain::{Chain, Stage};
use super::config::{NiceConfig, NicePrior};
use crate::error::Result;
use crate::flow::Pass;
use crate::images::ImageShape;
use crate::layers::{AdditiveCoupling, Rearrange, Scaling, Whitening};
use crate::nets::MlpConfig;
use crate::priors::{Prior, TopPrior};

/// The parameters of a NICE model.
#[derive(Module, Debug)]
pub struct Nice {
    /// To [0, 1], or whitened.
    pub input: Whitening,
    /// Each is followed by a reversal of all values.
    pub couplings: Vec<AdditiveCoupling>,
    /// Ends the model.
    pub scale: Scaling,
    #[module(skip)]
    image: [usize; 3],
}

impl Nice {
    /// Small random weights, and a scale of 1. A whitening waits for [`Nice::initialize`].
    pub fn new(config: &NiceConfig, device: &Device) -> Self {
        let (dims, ImageShape { height, width, channels }) = (config.image.dims(), config.image);
        let net = MlpConfig { inputs: dims / 2, hidden: config.hidden, layers: config.layers, outputs: dims / 2 };
        let coupling = |index: usize| AdditiveCoupling { net: net.init(config.seed, index as u64, device) };
        Self {
            input: Whitening::new(config.whitening, dims, device),
            couplings: (0..config.couplings).map(coupling).collect(),
            scale: Scaling::new(dims, device),
            image: [height, width, channels],
        }
    }

    /// Ready to run.
    pub fn chain(&self, config: &NiceConfig, pass: impl Into<Pass>) -> Chain {
        let pass = pass.into();
        let tile = Rearrange::Tile(self.image);
        let mut stages = vec![Stage::Rearrange(tile), Stage::layer("input".into(), &self.input)];
        for (index, coupling) in self.couplings.iter().enumerate() {
            stages.push(Stage::layer(format!("couplings.{index}"), coupling));
            stages.push(Stage::Rearrange(Rearrange::Reverse));
        }
        stages.push(Stage::layer("scale".into(), &self.scale));
        let like = self.scale.log_scale.val();
        let dims = config.image.dims();
        let prior = match config.prior {
            NicePrior::Logistic => Prior::Logistic,
            NicePrior::Gaussian => TopPrior::standard().prepare([1, 1, dims], 0.0, &like).into(),
        };
        Chain::new(stages, prior, pass)
    }

    /// Sets the whitening from data. `parts` are scaled images, `[batch, height, width, channels]`.
    pub fn initialize(&mut self, parts: Vec<Tensor<4>>) -> Result<()> {
        let parts: Vec<_> = parts.into_iter().map(|x| Rearrange::Tile(self.image).forward(x)).collect();
        self.input.set_from(&parts, "input")
    }
}
