//! y0ast/Glow-PyTorch: chaiyujin's model, with its convolutions one name deeper.

use super::chaiyujin::{self, Names};
use super::peer::{Layout, nothing_to_finish};

const NAMES: Names =
    Names { net: "block", conv: ".conv", linear: ".linear", lower: "lower", upper: "upper", top: "learn_top_fn" };

pub(super) const Y0AST: Layout = Layout {
    example: "flow.layers.1.block.0.conv.weight",
    read: |weights| chaiyujin::read(&NAMES, weights),
    entries: |sizes, weights, _| chaiyujin::entries(&NAMES, sizes, weights),
    finish: nothing_to_finish,
    constants: &["prior_h", ".invconv.l_mask", ".invconv.eye"],
    flag: "",
    refused: &[],
};
