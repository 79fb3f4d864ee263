//! What can be asked of a data set that reads files.

/// How stored images become those of a data set.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DatasetOptions {
    /// Pixels of background added on every side: MNIST's 28 become 32 with 2.
    pub pad: usize,
    /// Red, green and blue behind transparent pixels and padding. For images of one channel it must be a grey.
    pub background: [u8; 3],
    /// 1, 3 or 4; the stored images' own if `None`. Grey is replicated, a missing alpha is opaque, and an alpha that
    /// is not asked for is blended with the background; colour never becomes grey.
    pub channels: Option<usize>,
}
