//! Models written as rosinality/glow-pytorch saves them.

use glowflow::layers::PermutationKind;
use glowflow::models::config::Layout;
use glowflow::store::pytorch::{Checkpoint, Peer};
use glowflow::{Call, Error, FlowModel, GlowConfig, ImportOptions, Noise, Pixels, ScaleKind};

use super::FIXTURES;
use crate::common::{cpu, images, model, tiny};

fn exported(model: &FlowModel) -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.pt");
    model.export_rosinality(&file).unwrap();
    (folder, file)
}

#[test]
fn what_was_imported_is_written_back_name_by_name() {
    for fixture in FIXTURES.iter().filter(|fixture| fixture.peer == Peer::Rosinality) {
        let path = fixture.file("model.pt");
        let truth = Checkpoint::read(&path).unwrap().tensors;
        let model = FlowModel::import(&path, fixture.peer, &ImportOptions::of_size([16, 16]), &cpu()).unwrap().model;
        let (_folder, file) = exported(&model);
        let found = Checkpoint::read(&file).unwrap().tensors;
        assert_eq!(found.len(), truth.len());
        for (found, truth) in found.iter().zip(&truth) {
            assert_eq!((&found.name, &found.shape), (&truth.name, &truth.shape));
            // What the masks hide has never been read.
            let hidden = |at: usize| match found.name.rsplit('.').next() {
                Some("w_l") => at / found.shape[0] <= at % found.shape[0],
                Some("w_u") => at / found.shape[0] >= at % found.shape[0],
                _ => false,
            };
            for (at, (found, truth)) in found.values.iter().zip(&truth.values).enumerate() {
                assert!(found == truth || (hidden(at) && *found == 0.0), "{at}: {found} {truth}");
            }
        }
    }
}

#[test]
fn models_of_the_layout_come_back_as_they_were() {
    for (index, (permutation, learn_top)) in [
        (PermutationKind::Conv1x1, true),
        (PermutationKind::Conv1x1Lu, false),
        (PermutationKind::Shuffle, true),
        (PermutationKind::Reverse, false),
    ]
    .into_iter()
    .enumerate()
    {
        let levels = 1 + index % 3;
        let config = GlowConfig { layout: Layout::Rosinality, permutation, learn_top, levels, ..tiny(8, 16, 1) };
        let model = model(&config, 0.05);
        let (_folder, file) = exported(&model);
        let options = ImportOptions { ..ImportOptions::of_size([8, 16]) };
        let back = FlowModel::import(&file, Peer::Rosinality, &options, &cpu()).unwrap().model;
        let pixels = Pixels::Bytes(images(3, config.image, 2));
        let bits = |model: &FlowModel| model.bits_per_dim(&pixels, &Noise::midpoint(), &Call::default()).unwrap();
        for (found, truth) in bits(&back).into_iter().zip(bits(&model)) {
            assert!((found - truth).abs() < 1e-6 * truth.abs(), "{permutation:?}: {found} {truth}");
        }
    }
}

#[test]
fn what_the_layout_cannot_hold_is_refused_by_option() {
    let of = |config: GlowConfig| FlowModel::create(config, &cpu()).unwrap();
    let held = GlowConfig { layout: Layout::Rosinality, ..tiny(8, 8, 1) };
    for (config, expected) in [
        (tiny(8, 8, 1), "layout"),
        (GlowConfig { layout: Layout::Normflows, ..tiny(8, 8, 1) }, "layout"),
        (GlowConfig { classes: Some(2), ..held.clone() }, "classes"),
        (GlowConfig { scale: ScaleKind::Bounded, ..held }, "scale"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let error = of(config).export_rosinality(&folder.path().join("model.pt")).unwrap_err();
        assert!(matches!(&error, Error::Option { option, .. } if option == expected), "{error}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
