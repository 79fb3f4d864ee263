//! Peak memory of a training step at four depths and one width: `cargo run --release --workspace --example peak_memory`.

#[path = "../tests/engine/peak.rs"]
mod peak;

fn main() {
    if peak::answer_if_asked() {
        return;
    }
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    println!("   K  process peak  weights, gradients, moments  the rest  of it the step   (MiB)");
    for depth in [8, 16, 32, 64] {
        let found = peak::Peak::of(depth, &[]);
        let (peak, trained) = (mib(found.peak), mib(found.trained));
        println!(
            "{depth:4}  {peak:12.1}  {trained:27.1}  {:8.1}  {:14.1}",
            mib(found.rest()),
            mib(found.of_the_step())
        );
    }
}
