//! Other projects' models.

mod exchange;
mod naming;
mod parity;

use std::path::{Path, PathBuf};

use glowflow::store::pytorch::Peer;

/// A folder of the fixtures, whose model it is, and its files with the same weights.
struct Fixture {
    name: &'static str,
    peer: Peer,
    files: &'static [&'static str],
}

const BOTH: &[&str] = &["model.pt", "model.safetensors"];
const FIXTURES: [Fixture; 5] = [
    Fixture {
        name: "ros_affine_lu_small",
        peer: Peer::Rosinality,
        files: &["model.pt", "model_legacy.pt", "model.safetensors"],
    },
    Fixture { name: "ros_affine_nolu", peer: Peer::Rosinality, files: BOTH },
    Fixture { name: "chai_affine_nolu", peer: Peer::Chaiyujin, files: BOTH },
    Fixture { name: "y0ast_affine_lu", peer: Peer::Y0ast, files: BOTH },
    Fixture { name: "nf_glow_lu", peer: Peer::Normflows, files: BOTH },
];

impl Fixture {
    fn file(&self, file: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/peers").join(self.name).join(file)
    }
}
