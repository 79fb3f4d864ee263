//! Values on their way from a device to the host.

use std::cell::Cell;

use burn::tensor::{Element, Tensor};

thread_local! {
    static READS: Cell<u64> = const { Cell::new(0) };
}

/// The values, in their order. On a GPU this waits for everything that was asked of it.
pub fn read<T: Element, const D: usize>(tensor: Tensor<D>) -> Vec<T> {
    READS.set(READS.get() + 1);
    tensor.try_into_vec_as::<T>().expect("numbers can be read as numbers")
}

/// How often this thread has waited for a device.
#[doc(hidden)]
pub fn reads() -> u64 {
    READS.get()
}
