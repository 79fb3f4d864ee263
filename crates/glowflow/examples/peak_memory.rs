//! Peak memory of a training step at four depths and one width: `cargo run --release --example peak_memory`.

#[path = "../tests/engine/peak.rs"]
mod peak;

use peak::Peak;

fn main() {
    if peak::answer_if_asked() {
        return;
    }
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    println!("MiB  process peak  weights, gradients, moments  the rest  of it before the model");
    for depth in [8, 16, 32, 64] {
        let found = Peak::of(depth, &[]);
        let [peak, trained, rest, before] = [found.peak, found.trained, found.rest(), found.before].map(mib);
        println!("K={depth:<3} {peak:11.1}  {trained:27.1}  {rest:8.1}  {before:22.1}");
    }
}
