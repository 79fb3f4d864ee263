//! Peak memory of a training step, each measured in a process of its own: a process has one peak. The test and
//! `examples/peak_memory.rs` share this file.

use std::process::Command;
use std::sync::Arc;

use glowflow::data::InMemory;
use glowflow::train::Activations;
use glowflow::{Control, Device, FlowModel, GlowConfig, ImageShape, Images, RunData, TrainConfig};

/// Asks a child to measure at this depth and width.
const ASKED: &str = "GLOWFLOW_PEAK";
/// A child's answer follows this.
const ANSWER: &str = "peak memory:";
/// The second step's peak has the moments, too.
const STEPS: u64 = 2;
const BATCH: usize = 512;

/// What a child process found, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Peak {
    /// Largest resident size of the process.
    pub peak: u64,
    /// Weights, gradients and both moments.
    pub trained: u64,
}

impl Peak {
    /// Runs this very program as a child that `lead` leads to [`answer_if_asked`].
    ///
    /// The child gives large blocks back to the system when they are free: elsewhere glibc decides as it goes along
    /// which ones to keep, and where among them small blocks find room moves the peak by 3 % from run to run. Nor does it
    /// take more from the system than was asked for.
    pub fn of(depth: usize, hidden: usize, lead: impl FnOnce(&mut Command)) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("a program has a path"));
        child.env(ASKED, format!("{depth} {hidden}"));
        child.envs([("MALLOC_MMAP_THRESHOLD_", "1048576"), ("MALLOC_TOP_PAD_", "0")]);
        lead(&mut child);
        let output = child.output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stdout);
        let numbers = said.lines().find_map(|line| line.split_once(ANSWER)).map(|(_, numbers)| numbers);
        let numbers: Vec<u64> = numbers
            .unwrap_or_else(|| panic!("no answer in {said}{}", String::from_utf8_lossy(&output.stderr)))
            .split_whitespace()
            .map(|number| number.parse().expect("a number of bytes"))
            .collect();
        Self { peak: numbers[0], trained: numbers[1] }
    }

    /// What does not belong to the weights: the program, the data and the activations.
    pub fn rest(&self) -> u64 {
        self.peak - self.trained
    }
}

/// In a child of [`Peak::of`]: makes a few training steps that rebuild activations, and prints what they took.
pub fn answer_if_asked() -> bool {
    let Ok(asked) = std::env::var(ASKED) else { return false };
    let mut sizes = asked.split(' ').map(|size| size.parse().expect("a size"));
    let (depth, hidden) = (sizes.next().expect("a depth"), sizes.next().expect("a width"));
    let shape = ImageShape { height: 32, width: 32, channels: 3 };
    let values = (0..BATCH * shape.dims()).map(|i| (i * i / 7) as u8).collect();
    let data = Arc::new(InMemory::new(Images::new(values, BATCH, shape).unwrap(), None, None).unwrap());
    let device = Device::open("cpu").unwrap();
    let config = GlowConfig { image: shape, levels: 3, depth, hidden, ..GlowConfig::default() };
    let model = FlowModel::create(config, &device).unwrap();
    let train = TrainConfig {
        steps: Some(STEPS),
        batch_size: BATCH,
        init_images: 16,
        activations: Some(Activations::Constant),
        ..TrainConfig::default()
    };
    model.train(RunData::of(data), train, None, &Control::new(), &mut |_| {}).unwrap();
    let trained = 4 * 4 * model.parameter_count();
    println!("{ANSWER} {} {trained}", peak());
    true
}

/// Largest resident size of this process so far, in bytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("a line of this name");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number of KiB") * 1024
}
