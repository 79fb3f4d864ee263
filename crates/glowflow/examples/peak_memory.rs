//! Peak memory of a training step at four depths and one width: `cargo run --release --example peak_memory`.

#[path = "../tests/engine/peak.rs"]
mod peak;

use peak::Peak;

const HIDDEN: usize = 64;

fn main() {
    if peak::answer_if_asked() {
        return;
    }
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    println!("MiB  process peak  weights, gradients, moments  the rest");
    for depth in [8, 16, 32, 64] {
        let found = Peak::of(depth, HIDDEN, |_| {});
        let [peak, trained, rest] = [found.peak, found.trained, found.rest()].map(mib);
        println!("K={depth:<3} {peak:11.1}  {trained:27.1}  {rest:8.1}");
    }
}
