//! y0ast/Glow-PyTorch: chaiyujin's model, with its convolutions one name deeper.

use super::chaiyujin::{self, Names};
use super::peer::{ClassifierWeight, Naming};
use crate::models::config::Layout;

const NAMES: Names =
    Names { net: "block", conv: ".conv", linear: ".linear", lower: "lower", upper: "upper", top: "learn_top_fn" };

pub(super) const Y0AST: Naming = Naming {
    example: "flow.layers.1.block.0.conv.weight",
    read: |weights| chaiyujin::read(&NAMES, weights),
    entries: |sizes, _| chaiyujin::entries(&NAMES, sizes),
    constants: &["prior_h", ".invconv.l_mask", ".invconv.eye"],
    flag: "",
    refused: &[],
    divisors: &[],
    layout: Layout::Chaiyujin,
    classifier: ClassifierWeight::PerDimension(0.01),
};
