//! The CPU's kernels at the sizes of Glow on images of 32x32x3. `cargo bench --workspace --bench kernels`

use burn::tensor::{Device, Tensor, TensorData};
use divan::Bencher;
use divan::counter::ItemsCount;
use glowflow::Precision;
use glowflow::kernels::cpu::net::{self, NetWeights, Sizes};
use glowflow::kernels::cpu::{Grid, pixel};

fn main() {
    divan::main();
}

/// Height and width of a scale, and the channels that its nets see.
const SCALES: [(usize, usize); 3] = [(16, 6), (8, 12), (4, 24)];
const WIDTHS: [usize; 3] = [64, 128, 512];
const BATCHES: [usize; 2] = [1, 16];

/// Numbers around 0 that no kernel can take a short cut for.
fn values(len: usize, scale: f32) -> Vec<f32> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64 ^ len as u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..len).map(|_| scale * next()).collect()
}

#[derive(Clone, Copy)]
struct Case {
    grid: Grid,
    sizes: Sizes,
    precision: Precision,
}

impl std::fmt::Display for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Case { grid, sizes, precision } = self;
        write!(f, "{precision} {}x{} {}-{} batch {}", grid.height, grid.width, sizes.c_in, sizes.hidden, grid.batch)
    }
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for precision in Precision::of_cpu() {
        for hidden in WIDTHS {
            for (size, c_in) in SCALES {
                for batch in BATCHES {
                    let grid = Grid { batch, height: size, width: size };
                    cases.push(Case { grid, sizes: Sizes { c_in, hidden, c_out: 2 * c_in }, precision });
                }
            }
        }
    }
    cases
}

/// A net's weights, and multiplications of an image's way through it.
struct Net {
    w1: Vec<f32>,
    w2: Vec<f32>,
    w3: Vec<f32>,
    hidden: Vec<f32>,
    out: Vec<f32>,
    sizes: Sizes,
}

impl Net {
    fn new(sizes: Sizes) -> Self {
        let Sizes { c_in, hidden, c_out } = sizes;
        Net {
            w1: values(9 * c_in * hidden, 0.1),
            w2: values(hidden * hidden, 0.1),
            w3: values(hidden * 9 * c_out, 0.1),
            hidden: values(hidden, 1.0),
            out: values(c_out, 1.0),
            sizes,
        }
    }

    fn weights(&self) -> NetWeights<'_> {
        let (hidden, out, sizes) = (&self.hidden, &self.out, self.sizes);
        let (w1, w2, w3) = (&self.w1, &self.w2, &self.w3);
        NetWeights { w1, s1: hidden, b1: hidden, w2, s2: hidden, b2: hidden, w3, s3: out, b3: out, sizes }
    }

    fn multiplications(&self, grid: Grid) -> ItemsCount {
        ItemsCount::new(grid.rows() * (self.w1.len() + self.w2.len() + self.w3.len()))
    }
}

/// Rows, depth and columns of the products of the first scale's nets, and of a few pixels.
const PRODUCTS: [(usize, usize, usize); 4] = [(4096, 54, 512), (4096, 512, 512), (4096, 512, 108), (64, 512, 512)];

/// As the nets multiply in f32; weights are packed in each call.
#[divan::bench(args = PRODUCTS)]
fn product(bencher: Bencher, (rows, depth, columns): (usize, usize, usize)) {
    let (x, w, b) = (values(rows * depth, 1.0), values(depth * columns, 0.1), values(columns, 1.0));
    let work = ItemsCount::new(rows * depth * columns);
    bencher.counter(work).bench(|| pixel::forward(&x, &w, &b, depth, columns));
}

/// The same, without a bias, by the `gemm` crate, which multiplies burn's tensors on CPUs.
#[divan::bench(args = PRODUCTS)]
fn product_of_gemm(bencher: Bencher, (rows, depth, columns): (usize, usize, usize)) {
    let device = Device::flex();
    let tensor = |rows, columns| -> Tensor<2> {
        Tensor::from_data(TensorData::new(values(rows * columns, 1.0), [rows, columns]), &device)
    };
    let (x, w) = (tensor(rows, depth), tensor(depth, columns));
    let work = ItemsCount::new(rows * depth * columns);
    bencher.counter(work).bench(|| x.clone().matmul(w.clone()));
}

#[divan::bench(args = cases())]
fn net_forward(bencher: Bencher, case: &Case) {
    let (net, x) = (Net::new(case.sizes), values(case.grid.rows() * case.sizes.c_in, 1.0));
    let packed = net.weights().forward(case.precision);
    bencher.counter(net.multiplications(case.grid)).bench(|| net::forward(case.grid, &x, &packed, false));
}

#[divan::bench(args = cases())]
fn net_backward(bencher: Bencher, case: &Case) {
    let net = Net::new(case.sizes);
    let (x, dy): (Vec<f32>, Vec<f32>) =
        [case.sizes.c_in, case.sizes.c_out].map(|channels| values(case.grid.rows() * channels, 1.0)).into();
    let (w, packed) = (net.weights(), net.weights().backward(case.precision));
    let (_, hidden) = net::forward(case.grid, &x, &w.forward(case.precision), true);
    let hidden = hidden.expect("it was asked for");
    bencher.counter(net.multiplications(case.grid)).bench(|| net::backward(case.grid, &x, &w, &packed, &hidden, &dy));
}
