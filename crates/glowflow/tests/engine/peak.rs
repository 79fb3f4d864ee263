//! Peak memory of a training step, each measured in a process of its own: a process has one peak. The test and
//! `examples/peak_memory.rs` share this file.

use std::process::Command;
use std::sync::Arc;

use glowflow::data::InMemory;
use glowflow::train::Activations;
use glowflow::{Control, Device, FlowModel, GlowConfig, ImageShape, Images, TrainConfig};

/// Asks a child to measure at this depth.
const DEPTH: &str = "GLOWFLOW_PEAK_DEPTH";
/// A child's answer follows this.
const ANSWER: &str = "peak memory:";
/// The second step's peak has the moments, too.
const STEPS: u64 = 2;
const BATCH: usize = 256;
const HIDDEN: usize = 64;

/// What a child process found, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Peak {
    /// Resident before the model was made: the program itself, its threads, the data.
    pub before: u64,
    /// Largest resident size of the process.
    pub peak: u64,
    /// Weights, gradients and both moments.
    pub trained: u64,
}

impl Peak {
    /// Runs this very program as a child with these arguments, which lead it to [`answer_if_asked`].
    pub fn of(depth: usize, arguments: &[&str]) -> Self {
        let program = std::env::current_exe().expect("a program has a path");
        let output = Command::new(program).args(arguments).env(DEPTH, depth.to_string()).output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stdout);
        let numbers = said.lines().find_map(|line| line.split_once(ANSWER)).map(|(_, numbers)| numbers);
        let numbers: Vec<u64> = numbers
            .unwrap_or_else(|| panic!("no answer in {said}{}", String::from_utf8_lossy(&output.stderr)))
            .split_whitespace()
            .map(|number| number.parse().expect("a number of bytes"))
            .collect();
        Self { before: numbers[0], peak: numbers[1], trained: numbers[2] }
    }

    /// What does not belong to the weights: the program, the data and the activations.
    pub fn rest(&self) -> u64 {
        self.peak - self.trained
    }

    /// The activations, and whatever else a training step needs.
    pub fn of_the_step(&self) -> u64 {
        self.rest() - self.before
    }
}

/// In a child of [`Peak::of`]: makes a few training steps that rebuild activations, and prints what they took.
pub fn answer_if_asked() -> bool {
    let Ok(depth) = std::env::var(DEPTH) else { return false };
    let depth = depth.parse().expect("a depth");
    let shape = ImageShape { height: 32, width: 32, channels: 3 };
    let values = (0..BATCH * shape.dims()).map(|i| (i * i / 7) as u8).collect();
    let data = Arc::new(InMemory::new(Images::new(values, BATCH, shape).unwrap(), None, None).unwrap());
    let device = Device::open("cpu").unwrap();
    let before = resident("VmRSS:");
    let config = GlowConfig { image: shape, levels: 3, depth, hidden: HIDDEN, ..GlowConfig::default() };
    let model = FlowModel::create(config, &device).unwrap();
    let train = TrainConfig {
        steps: Some(STEPS),
        batch_size: BATCH,
        init_images: 16,
        activations: Some(Activations::Constant),
        ..TrainConfig::default()
    };
    model.train(data, None, train, &Control::new(), &mut |_| {}).unwrap();
    let trained = 4 * 4 * model.parameter_count();
    println!("{ANSWER} {before} {} {trained}", resident("VmHWM:"));
    true
}

/// A line of this process's status, in bytes.
fn resident(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with(name)).expect("a line of this name");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number of KiB") * 1024
}
