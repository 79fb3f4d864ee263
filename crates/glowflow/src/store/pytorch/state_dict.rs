//! A model as rosinality/glow-pytorch saves it.

use std::collections::HashMap;
use std::path::Path;

use super::archive::NamedTensor;
use super::layout::{EngineTensor, EngineTensors, Numbers, floats};
use super::peer::Peer;
use super::pickle::ElementType;
use super::write::{self, SavedTensor};
use crate::error::{Error, Result};
use crate::models::config::Layout;
use crate::models::{GlowConfig, ScaleKind};

/// A part of a step's `state_dict`.
#[derive(Clone, Copy)]
enum Part {
    /// A tensor of the layout.
    Tensor(&'static str),
    /// Whether data have set the actnorm.
    Flag(&'static str),
    /// Ones on one side of the diagonal, or on it, of a 1x1 convolution in its PLU form.
    Mask(&'static str, std::cmp::Ordering),
}

/// In the order of the project's own files.
const PARTS: [Part; 19] = [
    Part::Tensor("actnorm.loc"),
    Part::Tensor("actnorm.scale"),
    Part::Flag("actnorm.initialized"),
    Part::Tensor("invconv.weight"),
    Part::Tensor("invconv.w_l"),
    Part::Tensor("invconv.w_s"),
    Part::Tensor("invconv.w_u"),
    Part::Tensor("invconv.w_p"),
    Part::Mask("invconv.u_mask", std::cmp::Ordering::Less),
    Part::Mask("invconv.l_mask", std::cmp::Ordering::Greater),
    Part::Tensor("invconv.s_sign"),
    Part::Mask("invconv.l_eye", std::cmp::Ordering::Equal),
    Part::Tensor("coupling.net.0.weight"),
    Part::Tensor("coupling.net.0.bias"),
    Part::Tensor("coupling.net.2.weight"),
    Part::Tensor("coupling.net.2.bias"),
    Part::Tensor("coupling.net.4.scale"),
    Part::Tensor("coupling.net.4.conv.weight"),
    Part::Tensor("coupling.net.4.conv.bias"),
];

/// Writes what the project's `Glow(...).state_dict()` has, masks and flags and all, as `torch.save` does.
///
/// A prior that is not learned becomes zeros, a fixed order of channels the P of a PLU form: the same model.
///
/// # Errors
///
/// [`Error::Option`] for the option that keeps the model from being held; as [`write::write`].
pub(crate) fn write_rosinality(
    path: &Path,
    config: &GlowConfig,
    mut tensors: EngineTensors,
    initialized: bool,
) -> Result<()> {
    check_held(config)?;
    if !config.learn_top {
        let [_, _, channels] = config.level_shape(config.levels - 1);
        let shapes = [
            ("weight", vec![channels, 18 * channels]),
            ("bias", vec![2 * channels]),
            ("log_scale", vec![2 * channels]),
        ];
        for (field, shape) in shapes {
            let zeros = vec![0.0; shape.iter().product()];
            tensors.insert(format!("top.learned.{field}"), floats(shape, zeros));
        }
    }
    for level in 0..config.levels {
        let [_, _, channels] = config.level_shape(level);
        for k in 0..config.depth {
            let permutation = format!("levels.{level}.steps.{k}.mix.permutation");
            if tensors.contains_key(&format!("{permutation}.weight")) {
                continue;
            }
            // L and U of the identity.
            let zeros = floats(vec![channels; 2], vec![0.0; channels * channels]);
            let signs = EngineTensor { shape: vec![channels], numbers: Numbers::Integers(vec![1; channels]) };
            tensors.insert(format!("{permutation}.weight"), zeros);
            tensors.insert(format!("{permutation}.signs"), signs);
        }
    }
    let exported = Peer::Rosinality.export(config, &tensors);
    drop(tensors);
    let mut by_name: HashMap<String, NamedTensor> =
        exported.into_iter().map(|tensor| (tensor.name.clone(), tensor)).collect();
    let mut saved = Vec::new();
    for level in 0..config.levels {
        let [_, _, channels] = config.level_shape(level);
        for k in 0..config.depth {
            let step = format!("blocks.{level}.flows.{k}");
            let factored = by_name.contains_key(&format!("{step}.invconv.w_s"));
            let name = |field: &str| format!("{step}.{field}");
            for part in PARTS {
                match part {
                    Part::Tensor(field) => saved.extend(by_name.remove(&name(field)).map(trained)),
                    Part::Flag(field) => {
                        let values = vec![f32::from(u8::from(initialized))];
                        let tensor = NamedTensor { name: name(field), shape: Vec::new(), values };
                        saved.push(SavedTensor { tensor, dtype: ElementType::U8 });
                    }
                    Part::Mask(field, side) if factored => {
                        let one = |at: usize| f32::from(u8::from((at / channels).cmp(&(at % channels)) == side));
                        let values = (0..channels * channels).map(one).collect();
                        saved.push(trained(NamedTensor { name: name(field), shape: vec![channels; 2], values }));
                    }
                    Part::Mask(..) => {}
                }
            }
        }
        for field in ["scale", "conv.weight", "conv.bias"] {
            saved.extend(by_name.remove(&format!("blocks.{level}.prior.{field}")).map(trained));
        }
    }
    if let Some(name) = by_name.into_keys().next() {
        return Err(Error::Internal { message: format!("{name} has no place in a file of rosinality") });
    }
    write::write(path, &saved)
}

fn trained(tensor: NamedTensor) -> SavedTensor {
    SavedTensor { tensor, dtype: ElementType::F32 }
}

fn check_held(config: &GlowConfig) -> Result<()> {
    if config.layout != Layout::Rosinality {
        let held = "\"rosinality\", whose convolutions see ones around the image where others see zeros,";
        let found = serde_json::to_string(&config.layout).unwrap_or_default();
        return Err(Error::option("layout", held, found));
    }
    if let Some(classes) = config.classes {
        return Err(Error::option("classes", "none, of which rosinality's models know nothing,", classes));
    }
    if config.scale != ScaleKind::Sigmoid {
        return Err(Error::option("scale", "\"sigmoid\", the only one of rosinality's models,", "\"bounded\""));
    }
    Ok(())
}
