//! One image gives the same bits alone, in any batch and on any number of threads, by every kernel of the CPU.

use burn::tensor::{Device as BurnDevice, Tensor};
use glowflow::data::{Dataset, InMemory, PrefetchedBatch};
use glowflow::flow::{Gradients, Mode, Pass, named_parameters};
use glowflow::kernels::{Path, available_paths, force};
use glowflow::models::chain::Chain;
use glowflow::models::network::Network;
use glowflow::priors::Labels;
use glowflow::train::{Activations, Identity, Optimizer, Trainer, Weights};
use glowflow::{GlowConfig, Layout, ModelConfig, Precision, RealNvpConfig, TrainConfig};
use rayon::ThreadPoolBuilder;

use crate::common::{cpu, everything, glow, images, labels, realnvp, scaled, tiny, tiny_realnvp, values};

const IMAGES: usize = 7;

/// Large enough for kernels to share out among threads; widths that are no multiple of a vector's.
fn models() -> Vec<(ModelConfig, Network)> {
    let small = GlowConfig { hidden: 24, ..tiny(8, 8, 3) };
    let glows = [
        GlowConfig { hidden: 72, edge_bias: true, ..tiny(16, 16, 3) },
        GlowConfig { layout: Layout::Rosinality, ..small.clone() },
        GlowConfig { layout: Layout::Normflows, ..small.clone() },
        GlowConfig { layout: Layout::Normflows, classes: Some(3), ..small.clone() },
        GlowConfig { classes: Some(3), classifier_weight: 0.1, ..small },
    ];
    let mut models: Vec<(ModelConfig, Network)> = glows
        .into_iter()
        .map(|config| {
            let network = Network::Glow(glow(&config, 0.02));
            (config.into(), network)
        })
        .collect();
    let config = RealNvpConfig { hidden: 19, ..tiny_realnvp(16, 16, 3) };
    let network = Network::RealNvp(realnvp(&config, 0.02));
    models.push((config.into(), network));
    models
}

/// What `work` returns on each number of threads.
fn on_threads<T: Send>(path: Path, work: impl Fn() -> T + Sync) -> Vec<T> {
    [1, 2, 3]
        .map(|threads| {
            let pool = ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            // The path is the thread's own, and `install` changes the thread.
            pool.install(|| force(path, &work))
        })
        .into()
}

fn cpu_paths() -> impl Iterator<Item = Path> {
    let paths: Vec<_> = available_paths().into_iter().filter(|path| matches!(path, Path::Cpu(_))).collect();
    assert!(!paths.is_empty());
    paths.into_iter()
}

/// Every model by every path in f32, and in what else its nets can be computed in.
fn cases() -> impl Iterator<Item = ((ModelConfig, Network), Path, Precision)> {
    let device = cpu();
    models().into_iter().flat_map(move |model| {
        let in_f32 = cpu_paths().map(|path| (path, Precision::F32));
        let widest = cpu_paths().last().expect("there is one");
        let others = Precision::ALL.into_iter().skip(1).map(|precision| (widest, precision));
        let possible = |(_, precision): &(Path, Precision)| model.0.check_precision(*precision, device.info()).is_ok();
        let passes: Vec<_> = in_f32.chain(others).filter(possible).collect();
        passes.into_iter().map(move |(path, precision)| (model.clone(), path, precision))
    })
}

/// Each image's latents, log-probability and decoded pixels, with so many images at once.
fn run(config: &ModelConfig, chain: &Chain, x: &Tensor<4>, batch: usize) -> Vec<[Vec<f64>; 3]> {
    let [_, height, width, channels] = x.dims();
    let mut found = Vec::new();
    for start in (0..IMAGES).step_by(batch) {
        let count = batch.min(IMAGES - start);
        let part = x.clone().slice([start..start + count, 0..height, 0..width, 0..channels]);
        let labels = config.classes().map(|classes| {
            let labels: Vec<u32> = (start..start + count).map(|image| (image % classes) as u32).collect();
            Labels::new(&labels, classes, &BurnDevice::flex())
        });
        let encoded = chain.encode(part, labels.as_ref()).unwrap();
        let back = values(chain.decode(encoded.latents.clone(), labels.as_ref()).unwrap());
        let latents: Vec<Vec<f64>> = encoded.latents.into_iter().map(values).collect();
        let log_prob = values(encoded.log_prob);
        for image in 0..count {
            let of = |all: &[f64]| all[image * all.len() / count..(image + 1) * all.len() / count].to_vec();
            found.push([latents.iter().flat_map(|scale| of(scale)).collect(), of(&log_prob), of(&back)]);
        }
    }
    found
}

#[test]
fn an_image_gives_the_same_bits_in_any_batch_and_on_any_number_of_threads() {
    for ((config, network), path, precision) in cases() {
        let chain = network.chain(&config, Pass { mode: Mode::Evaluation, precision });
        let x = scaled(&images(IMAGES, config.image(), 5));
        let alone = force(path, || run(&config, &chain, &x, 1));
        for batch in [1, 2, 5, 7] {
            for (threads, found) in on_threads(path, || run(&config, &chain, &x, batch)).into_iter().enumerate() {
                for (image, (found, alone)) in found.iter().zip(&alone).enumerate() {
                    for (what, (found, alone)) in ["latents", "log_prob", "pixels"].iter().zip(found.iter().zip(alone))
                    {
                        assert!(
                            found.iter().map(|v| v.to_bits()).eq(alone.iter().map(|v| v.to_bits())),
                            "{path:?} in {precision}: {what} of image {image} in a batch of {batch} on {} threads",
                            threads + 1
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn gradients_are_the_same_bits_on_any_number_of_threads() {
    let cotangent = Tensor::full([IMAGES], -0.01, &BurnDevice::flex());
    for ((config, network), path, precision) in cases() {
        let x = scaled(&images(IMAGES, config.image(), 5));
        for activations in [Activations::Stored, Activations::Inputs, Activations::Constant] {
            let found = on_threads(path, || {
                let chain = network.chain(&config, Pass { mode: Mode::Training, precision });
                let mut gradients = Gradients::default();
                let tape = chain
                    .forward(x.clone(), labels(config.classes(), IMAGES, &BurnDevice::flex()), activations)
                    .unwrap();
                chain.backward(tape, &cotangent, &mut gradients).unwrap();
                let parameters = named_parameters(&network);
                let of = |parameter: &glowflow::flow::NamedParameter| gradients.get(parameter.id).cloned().map(values);
                parameters.iter().map(|parameter| (parameter.name.clone(), of(parameter))).collect::<Vec<_>>()
            });
            assert!(found[0].iter().all(|(_, gradient)| gradient.is_some()), "every parameter has a gradient");
            for other in &found[1..] {
                for (one, other) in found[0].iter().zip(other) {
                    assert!(
                        one == other,
                        "{path:?} in {precision}, {activations:?}: the gradient of {} differs",
                        one.0
                    );
                }
            }
        }
    }
}

#[test]
fn trained_weights_are_the_same_bits_on_any_number_of_threads() {
    let train = |model: &ModelConfig, start: &Network, precision: Precision| {
        let labels = model.classes().map(|classes| (0..IMAGES).map(|image| (image % classes) as u32).collect());
        let data = InMemory::new(images(IMAGES, model.image(), 5), labels, None).unwrap();
        let mut network = start.clone();
        let (clip_norm, ema) = (0.1, Some(0.9));
        let options = TrainConfig { clip_norm, batch_size: IMAGES, ema, precision, ..TrainConfig::default() };
        let optimizer = Optimizer::new(options.optimizer.clone());
        let mut trainer = Trainer::new(&options, model, Activations::Constant, optimizer, Box::new(Identity));
        let mut average = Some(start.clone());
        let device = BurnDevice::flex();
        let mut found = Vec::new();
        for step in 1..=3 {
            let indices: Vec<usize> = (0..IMAGES).collect();
            let batch = PrefetchedBatch { step, batch: data.batch(&indices).unwrap(), indices };
            trainer.accumulate(&network, batch, &device).unwrap();
            trainer.update(Weights { network: &mut network, average: &mut average }, 1e-3, step, &device).unwrap();
            let outcome = trainer.outcomes(&network, true, &device).unwrap().found[0];
            found.push(vec![outcome.loss, outcome.gradient_norm, f64::from(outcome.rebuild_error.unwrap_or(0.0))]);
        }
        found.extend(everything(&average));
        found.extend(everything(&network));
        found
    };
    for ((config, network), path, precision) in cases() {
        let found = on_threads(path, || train(&config, &network, precision));
        assert!(found.iter().all(|other| *other == found[0]), "{path:?} in {precision}");
    }
}
