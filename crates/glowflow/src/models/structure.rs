//! The layers of a model, known before any is made.

use super::config::{GlowConfig, ModelConfig, NiceConfig};
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
    /// Where inputs are kept and the layer is run again.
    pub input: u64,
    /// While the layer is pulled back, whatever is kept.
    pub working: u64,
}

/// Every layer, in the order in which an image meets them.
pub fn layers(config: &ModelConfig) -> Vec<LayerInfo> {
    match config {
        ModelConfig::Glow(config) => glow_layers(config),
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
        let stored = pixels * (2 * channels + outputs + 2 * width);
        let held = Held {
            stored,
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

fn nice_layers(config: &NiceConfig) -> Vec<LayerInfo> {
    let dims = config.image.dims();
    let (half, width, hidden) = (dims as u64 / 2, config.hidden as u64, config.layers as u64);
    let row = |path: String, parameters: u64, held: Held| LayerInfo { path, shape: [1, 1, dims], parameters, held };
    // What a layer needs its input alone for, or that and the input's gradient.
    let whole = 2 * half;
    let elementwise = Held { stored: whole, input: whole, working: 2 * whole };
    // The coupling's input, the net's output and its hidden layers.
    let stored = whole + half + hidden * width;
    let coupling = Held { stored, input: whole, working: 2 * stored };
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
