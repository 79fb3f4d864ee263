//! Between burn tensors of the flex backend and the slices that CPU kernels take.

use std::cell::Cell;
use std::ops::Range;

use burn::backend::Flex;
use burn::backend::tensor::FloatTensor;
use burn::tensor::{DType, Device, Tensor, TensorData};

use super::cpu::{self, Grid, Isa};

/// One way to compute an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path {
    /// burn tensor operations.
    Composed,
    /// The CPU kernels in this instruction set.
    Cpu(Isa),
}

thread_local! {
    static COMPOSED: Cell<bool> = const { Cell::new(false) };
}

/// The ways that this processor has; tests go through all of them.
#[doc(hidden)]
pub fn available_paths() -> Vec<Path> {
    std::iter::once(Path::Composed).chain(Isa::available().into_iter().map(Path::Cpu)).collect()
}

/// Runs `work` with operations on this thread's plain f32 CPU tensors computed one way.
#[doc(hidden)]
pub fn force<T>(path: Path, work: impl FnOnce() -> T) -> T {
    match path {
        Path::Cpu(isa) => Isa::force(isa, work),
        Path::Composed => {
            struct Restore(bool);
            impl Drop for Restore {
                fn drop(&mut self) {
                    COMPOSED.set(self.0);
                }
            }
            let _restore = Restore(COMPOSED.replace(true));
            work()
        }
    }
}

/// True for the flex backend, with or without autodiff.
pub fn is_cpu(device: &Device) -> bool {
    device.clone().inner() == Device::flex()
}

/// A plain f32 tensor of the flex backend; `None` for any other: those take the composed way.
fn plain<const D: usize>(tensor: &Tensor<D>) -> Option<FloatTensor<Flex>> {
    let composed = tensor.dtype() != DType::F32 || COMPOSED.get();
    if composed { None } else { tensor.clone().try_into_primitive::<Flex>().ok() }
}

/// A plain f32 tensor of the flex backend, contiguous.
pub(super) struct Values {
    tensor: FloatTensor<Flex>,
    start: usize,
}

impl Values {
    /// `None` for any other tensor.
    pub fn of<const D: usize>(tensor: &Tensor<D>) -> Option<Self> {
        // A tensor's storage ignores its layout, hence the copy into contiguous order where it is a view.
        let tensor = plain(tensor)?.to_contiguous();
        let (start, _) = tensor.layout().contiguous_offsets()?;
        Some(Self { tensor, start })
    }
}

impl std::ops::Deref for Values {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        let count = self.tensor.layout().num_elements();
        &self.tensor.storage::<f32>()[self.start..self.start + count]
    }
}

/// The pixels of a plain f32 tensor of the flex backend, evenly apart: they may be some channels of a larger one.
pub(super) struct Rows {
    tensor: FloatTensor<Flex>,
    range: Range<usize>,
    /// From one pixel to the next.
    pub distance: usize,
}

impl Rows {
    /// `None` as for [`Values::of`].
    pub fn of(x: &Tensor<4>) -> Option<Self> {
        let [_, height, width, channels] = x.dims();
        let mut tensor = plain(x)?;
        let distance = tensor.layout().strides()[2].unsigned_abs().max(channels);
        let [line, row] = [width * distance, distance].map(|stride| stride as isize);
        let even = *tensor.layout().strides() == [height as isize * line, line, row, 1];
        let distance = if even { distance } else { channels };
        if !even {
            tensor = tensor.to_contiguous();
        }
        let (start, rows) = (tensor.layout().start_offset(), x.dims()[..3].iter().product::<usize>());
        let len = rows.checked_sub(1).map_or(0, |last| last * distance + channels);
        Some(Self { tensor, range: start..start + len, distance })
    }

    /// Without what lies between them, `channels` each.
    pub fn to_vec(&self, channels: usize) -> Vec<f32> {
        let mut values = Vec::with_capacity(self.len().div_ceil(self.distance.max(1)) * channels);
        for row in self.chunks(self.distance.max(1)) {
            values.extend_from_slice(&row[..channels]);
        }
        values
    }
}

impl std::ops::Deref for Rows {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.tensor.storage::<f32>()[self.range.clone()]
    }
}

/// A flex tensor of these values, without a copy.
pub(super) fn tensor<const D: usize, E: burn::tensor::Element>(values: Vec<E>, shape: [usize; D]) -> Tensor<D> {
    Tensor::from_primitive::<Flex>(FloatTensor::<Flex>::from_data(TensorData::new(values, shape)))
}

/// Keeps the memory of a gradient that nobody needs any more for the next one of its size.
pub(super) fn give_back(gradient: Tensor<1>) {
    let Some(values) = Values::of(&gradient) else { return };
    drop(gradient);
    if values.tensor.is_unique() {
        cpu::scratch::give_back(values.tensor.into_data().try_into_vec().expect("f32 values"));
    }
}

/// The tensor with `change` made to its values, in place where nobody else holds them.
pub(super) fn in_place<const D: usize>(x: Tensor<D>, change: impl FnOnce(&mut [f32])) -> Tensor<D> {
    let shape = x.dims();
    let count = shape.iter().product::<usize>();
    // One expression: a second handle, even to a view, would make `storage_mut` copy.
    let mut flat = x.reshape([count]).try_into_primitive::<Flex>().expect("a tensor of the CPU").to_contiguous();
    change(flat.storage_mut());
    Tensor::<1>::from_primitive::<Flex>(flat).reshape(shape)
}

/// Batch, height and width of an activation.
pub(super) fn grid(x: &Tensor<4>) -> Grid {
    let [batch, height, width, _] = x.dims();
    Grid { batch, height, width }
}
