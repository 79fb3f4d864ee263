//! The layers of a model, known before any is made.

use super::config::{GlowConfig, ModelConfig, NiceConfig, RealNvpConfig};
use super::realnvp::{keeps_first, parities};
use crate::layers::PermutationKind;

/// A layer of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerInfo {
    /// Where it is in the model, as in its files: `levels.0.steps.3.coupling`.
    pub path: String,
    /// Height, width and channels of what it gives on the way from image to latent.
    pub shape: [usize; 3],
    /// Trained numbers.
    pub parameters: u64,
    /// What a step of training holds for it.
    pub held: Held,
}

/// Values of one image that a step of training holds for a layer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Held {
    /// Where every activation is kept.
    pub stored: u64,
    /// Of those the ones that take two bytes in bf16: the hidden layers of Glow's nets.
    pub hidden: u64,
    /// Where inputs are kept and the layer is run again.
    pub input: u64,
    /// While the layer is pulled back, whatever is kept.
    pub working: u64,
}

/// Every layer, in the order in which an image meets them.
pub fn layers(config: &ModelConfig) -> Vec<LayerInfo> {
    match config {
        ModelConfig::Glow(config) => glow_layers(config),
        ModelConfig::RealNvp(config) => realnvp_layers(config),
        ModelConfig::Nice(config) => nice_layers(config),
    }
}

fn glow_layers(config: &GlowConfig) -> Vec<LayerInfo> {
    let width = config.hidden as u64;
    let mut layers = Vec::new();
    let mut add = |path: String, shape: [usize; 3], parameters: u64, held: Held| {
        layers.push(LayerInfo { path, shape, parameters, held });
    };
    let nothing = Held::default();
    for level in 0..config.levels {
        let shape = config.level_shape(level);
        let channels = shape[2] as u64;
        let outputs = config.coupling_kind().parameters(shape[2]) as u64;
        let matrix = match config.permutation_of(level) {
            PermutationKind::Conv1x1 | PermutationKind::Conv1x1Lu => channels * channels,
            _ => 0,
        };
        let net = config.step(level).coupling.net().parameters() as u64;
        let pixels = (shape[0] * shape[1]) as u64;
        // The inputs of mix and coupling, the net's output and its two hidden layers.
        let hidden = pixels * 2 * width;
        let stored = pixels * (2 * channels + outputs) + hidden;
        let held = Held {
            stored,
            hidden,
            input: pixels * channels,
            // Activations, their gradients, and the taps of the convolutions.
            working: 2 * stored + pixels * 9 * (channels / 2 + outputs),
        };
        add(format!("levels.{level}.squeeze"), shape, 0, nothing);
        for step in 0..config.depth {
            let path = format!("levels.{level}.steps.{step}");
            add(format!("{path}.mix.actnorm"), shape, 2 * channels, nothing);
            add(format!("{path}.mix.permutation"), shape, matrix, nothing);
            add(format!("{path}.coupling"), shape, net, held);
        }
        if let Some(split) = config.split(level) {
            let [height, width, channels] = shape;
            let parameters = split.parameters() as u64;
            add(format!("levels.{level}.split"), [height, width, channels / 2], parameters, nothing);
        }
    }
    let top = config.top();
    add("top".into(), top.shape, top.parameters() as u64, nothing);
    layers
}

fn realnvp_layers(config: &RealNvpConfig) -> Vec<LayerInfo> {
    let mut layers = Vec::new();
    let mut add = |path: String, shape: [usize; 3], (parameters, held): (u64, Held)| {
        layers.push(LayerInfo { path, shape, parameters, held });
    };
    let nothing = (0, Held::default());
    let image = config.image.dims() as u64;
    add(
        "logit".into(),
        config.level_shape(0),
        (0, Held { stored: image, hidden: 0, input: image, working: 4 * image }),
    );
    for level in 0..config.levels {
        let shape = config.level_shape(level);
        let [height, width, channels] = shape;
        let coupling = RealNvpCoupling {
            pixels: (height * width) as u64,
            layer: channels as u64,
            changed: channels as u64,
            mask: 1,
            hidden: config.level_hidden(level) as u64,
            blocks: config.blocks as u64,
        };
        for k in 0..parities(config, level).len() {
            add(format!("levels.{level}.masked.{k}"), shape, coupling.info());
        }
        if config.is_last(level) {
            add("top".into(), shape, nothing);
            continue;
        }
        let squeezed = [height / 2, width / 2, 4 * channels];
        add(format!("levels.{level}.squeeze"), squeezed, nothing);
        let coupling = RealNvpCoupling {
            pixels: coupling.pixels / 4,
            layer: 4 * coupling.layer,
            changed: 2 * coupling.changed,
            mask: 0,
            hidden: 2 * coupling.hidden,
            ..coupling
        };
        for k in 0..keeps_first(config, level).len() {
            add(format!("levels.{level}.channel.{k}"), squeezed, coupling.info());
        }
        add(format!("levels.{level}.unsqueeze"), shape, nothing);
        add(format!("levels.{level}.orderedSqueeze"), squeezed, nothing);
        add(format!("levels.{level}.split"), config.level_shape(level + 1), nothing);
    }
    layers
}

/// Sizes of a coupling of RealNVP: pixels of an image, channels of the layer, of its changed part, of the mask that the
/// net sees and inside the net.
#[derive(Clone, Copy)]
struct RealNvpCoupling {
    pixels: u64,
    layer: u64,
    changed: u64,
    mask: u64,
    hidden: u64,
    blocks: u64,
}

impl RealNvpCoupling {
    /// Trained numbers and what a step holds.
    fn info(self) -> (u64, Held) {
        let Self { pixels, layer, changed, mask, hidden, blocks } = self;
        let (inputs, outputs) = (2 * changed + mask, 2 * changed);
        let conv = |inputs: u64, outputs: u64, rows: u64| inputs * outputs + rows * outputs;
        let first = conv(9 * inputs, hidden, 1) + conv(hidden, hidden, 2);
        // Each block: a bias for each of two norms, two 3x3 convolutions, a 1x1.
        let block = 2 * hidden + conv(9 * hidden, hidden, 0) + conv(9 * hidden, hidden, 2) + conv(hidden, hidden, 2);
        let last = hidden + conv(hidden, outputs, 2);
        // The input, the net's output, the first convolution's and the skips' sum, two of each block.
        let stored = pixels * (layer + outputs + (2 + 2 * blocks) * hidden);
        // Besides: what a convolution reads, its gradients, and a norm on its way.
        let working = stored + pixels * (4 * layer + 8 * hidden);
        // A bias for each channel of the net's input norm, and the scale.
        let parameters = changed + 1 + first + blocks * block + last;
        (parameters, Held { stored, hidden: 0, input: pixels * layer, working })
    }
}

fn nice_layers(config: &NiceConfig) -> Vec<LayerInfo> {
    let dims = config.image.dims();
    let (half, width, hidden) = (dims as u64 / 2, config.hidden as u64, config.layers as u64);
    let row = |path: String, parameters: u64, held: Held| LayerInfo { path, shape: [1, 1, dims], parameters, held };
    // What a layer needs its input alone for, or that and the input's gradient.
    let whole = 2 * half;
    let elementwise = Held { stored: whole, hidden: 0, input: whole, working: 2 * whole };
    // The coupling's input, the net's output and its hidden layers.
    let stored = whole + half + hidden * width;
    let coupling = Held { stored, hidden: 0, input: whole, working: 2 * stored };
    let net = (half + 1) * width + (hidden - 1) * (width + 1) * width + (width + 1) * half;
    let mut layers = vec![row("tile".into(), 0, Held::default()), row("input".into(), 0, elementwise)];
    layers.extend((0..config.couplings).map(|index| row(format!("couplings.{index}"), net, coupling)));
    layers.push(row("scale".into(), whole, elementwise));
    layers.push(row("top".into(), 0, Held::default()));
    layers
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images::ImageShape;

    #[test]
    fn layers_come_in_the_order_of_an_image_and_halve_it() {
        let image = ImageShape { height: 8, width: 16, channels: 3 };
        let config = GlowConfig { image, levels: 2, depth: 1, hidden: 4, ..GlowConfig::default() };
        let found: Vec<_> = layers(&config.into()).into_iter().map(|layer| (layer.path, layer.shape)).collect();
        let expected = [
            ("levels.0.squeeze", [4, 8, 12]),
            ("levels.0.steps.0.mix.actnorm", [4, 8, 12]),
            ("levels.0.steps.0.mix.permutation", [4, 8, 12]),
            ("levels.0.steps.0.coupling", [4, 8, 12]),
            ("levels.0.split", [4, 8, 6]),
            ("levels.1.squeeze", [2, 4, 24]),
            ("levels.1.steps.0.mix.actnorm", [2, 4, 24]),
            ("levels.1.steps.0.mix.permutation", [2, 4, 24]),
            ("levels.1.steps.0.coupling", [2, 4, 24]),
            ("top", [2, 4, 24]),
        ];
        assert_eq!(found, expected.map(|(path, shape)| (path.to_string(), shape)));
    }
}
