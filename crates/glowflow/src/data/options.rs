//! What can be asked of a data set that reads files.

/// How stored images become those of a data set. Applied in this order: EXIF orientation, channels, size, padding, crop.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DatasetOptions {
    /// Pixels of background added on every side: MNIST's 28 become 32 with 2.
    pub pad: usize,
    /// Red, green and blue behind transparent pixels and padding. For images of one channel it must be a grey.
    pub background: [u8; 3],
    /// 1, 3 or 4; if `None`, 3 for picture files and the stored images' own for arrays of pixels. Grey is replicated,
    /// colour becomes grey by luma (ITU-R BT.601), a missing alpha is opaque, and an alpha that is not asked for is
    /// blended with the background.
    pub channels: Option<usize>,
    /// Height and width: images are resized until they cover it, then cropped about the centre. If `None` they keep
    /// their size, which must then be the same for all.
    pub size: Option<[usize; 2]>,
    /// Side of a square crop: drawn for each step in training, about the centre otherwise.
    pub random_crop: Option<usize>,
}
