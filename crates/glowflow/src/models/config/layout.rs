//! The parametrisations of Glow in other projects' code.

use serde::{Deserialize, Serialize};

use crate::layers::ScaleForm;
use crate::nets::{NetForm, Padding};

/// Whose numbers are trained. The maps that a model can be are the same; the steps of an optimizer are not, so a model
/// that another project has trained goes on in its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// openai/glow.
    #[default]
    Glow,
    /// rosinality/glow-pytorch.
    Rosinality,
    /// chaiyujin/glow-pytorch and y0ast/Glow-PyTorch.
    Chaiyujin,
    /// `GlowBlock` and `GlowBase` of normflows.
    Normflows,
}

impl Layout {
    /// Of the actnorms between couplings.
    pub(super) fn actnorm_scale(self) -> ScaleForm {
        match self {
            Self::Glow => ScaleForm::ThirdOfLog,
            Self::Chaiyujin | Self::Normflows => ScaleForm::Log,
            Self::Rosinality => ScaleForm::Linear,
        }
    }

    /// Of the coupling nets. The edge channel is Glow's alone.
    pub(super) fn net(self, edge_bias: bool) -> NetForm {
        let plain = NetForm {
            hidden_scale: None,
            first_padding: Padding::Zeros,
            last_padding: Padding::Zeros,
            last_scaled: true,
        };
        match self {
            Self::Glow => NetForm::of_paper(edge_bias),
            Self::Chaiyujin => NetForm { hidden_scale: Some(ScaleForm::Log), ..plain },
            Self::Rosinality => NetForm { last_padding: Padding::Ones, ..plain },
            Self::Normflows => NetForm { last_scaled: false, ..plain },
        }
    }

    /// Of the convolutions that give priors; `None`: priors are trained themselves.
    pub(super) fn prior_padding(self, edge_bias: bool) -> Option<Padding> {
        match self {
            Self::Normflows => None,
            _ => Some(self.net(edge_bias).last_padding),
        }
    }
}
