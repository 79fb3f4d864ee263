//! The machine's own peaks, as one line of JSON: floating point operations a second of all cores.

use glowflow::kernels::cpu::peak;

fn main() {
    let (f32, bf16) = (peak::f32(10), peak::bf16(10));
    println!("{}", serde_json::json!({ "f32": f32, "bf16": bf16 }));
}
