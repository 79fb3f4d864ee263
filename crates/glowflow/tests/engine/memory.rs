//! Memory that does not grow with depth.

use crate::peak::{self, Peak};

/// K = 64 may need this much more than K = 8.
const TOLERANCE: f64 = 0.05;

/// Narrow, so that the deep one is soon done.
const HIDDEN: usize = 16;

#[test]
fn peak_memory_of_a_step_does_not_grow_with_depth() {
    let of = |depth| {
        Peak::of(depth, HIDDEN, |child| {
            // How much several threads need at once depends on the moment.
            child.env("GLOWFLOW_THREADS", "1").args(["--exact", "memory::child", "--nocapture"]);
        })
    };
    let (shallow, deep) = (of(8), of(64));
    assert!(deep.trained > 5 * shallow.trained, "eight times the steps: {shallow:?}, {deep:?}");
    let growth = deep.rest() as f64 / shallow.rest() as f64 - 1.0;
    println!("{:+.1} % from {shallow:?} to {deep:?}", 100.0 * growth);
    assert!(growth < TOLERANCE, "memory grows by {:.1} %: {shallow:?}, {deep:?}", 100.0 * growth);
}

/// Nothing by itself: [`Peak::of`] runs it in a process of its own.
#[test]
fn child() {
    peak::answer_if_asked();
}
