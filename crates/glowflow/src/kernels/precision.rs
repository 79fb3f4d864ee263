//! Arithmetic of the coupling nets' products.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::cpu::bf16::Unit;

/// Arithmetic of the products inside Glow's coupling nets. Everything else is f32, sums over an example f64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// IEEE single precision.
    #[default]
    F32,
    /// Each operand the sum of two bf16, about 16 bits: good enough for inverses.
    Bf16x3,
    /// Operands of 8 bits, sums in f32.
    Bf16,
}

impl Precision {
    /// Every one, whatever a device has.
    pub const ALL: [Precision; 3] = [Precision::F32, Precision::Bf16x3, Precision::Bf16];

    /// What this processor computes in, and faster than in f32; with `GLOWFLOW_UNIT` everything that its unit can.
    pub fn of_cpu() -> Vec<Precision> {
        let units = Unit::available();
        let mut all = vec![Precision::F32];
        if Unit::asked().is_some() || units.contains(&Unit::Amx) {
            all.extend([Precision::Bf16x3, Precision::Bf16]);
        } else if units.contains(&Unit::Dot) && Unit::dot_is_fast() {
            all.push(Precision::Bf16);
        }
        all
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Precision::F32 => "f32",
            Precision::Bf16x3 => "bf16x3",
            Precision::Bf16 => "bf16",
        })
    }
}
