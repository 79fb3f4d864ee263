//! IDX files, the format of MNIST and its relatives (<https://yann.lecun.com/exdb/mnist/>), plain or gzipped.
//!
//! A file is two zero bytes, the type of its values, the number of its dimensions, each dimension as a big-endian u32,
//! then the values, the last dimension varying fastest.

use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

use super::{DatasetOptions, InMemory};
use crate::error::{Error, Result};
use crate::images::{ImageShape, Images};
use crate::store::file::{OpenFile, buffer, open_file};

/// Unpacked bytes that no gzipped file is asked to justify, and bytes for each packed one beyond that. Pictures come
/// nowhere near (MNIST: 5); gzip's own limit of 1032 would let 10 MB take 10 GB of memory.
const UNPACKED: u64 = 256 << 20;
const UNPACKED_PER_BYTE: u64 = 100;

/// Reads images, `[count, height, width]` or `[count, height, width, channels]` unsigned bytes, and their labels,
/// `[count]` unsigned bytes. The classes are "0" to the largest label.
///
/// # Errors
///
/// [`Error::Io`] where the system refuses; [`Error::File`] where a file is not IDX, holds something else, is not as long
/// as its header says, or unpacks to more than any picture would; [`Error::Labels`] where the counts differ;
/// [`Error::Option`].
pub fn idx_files(images: &Path, labels: Option<&Path>, options: &DatasetOptions) -> Result<InMemory> {
    let Array { dims, values } = read_array(images, Holds::Images)?;
    let (count, height, width) = (dims[0], dims[1], dims[2]);
    let channels = dims.get(3).copied().unwrap_or(1);
    if values.is_empty() {
        let sizes = sizes(&dims);
        return Err(Error::file(images, format!("Expected one image of one pixel at least but found {sizes}")));
    }
    if ![1, 3, 4].contains(&channels) {
        return Err(Error::file(images, format!("Expected images of 1, 3 or 4 channels but found {channels}")));
    }
    let stored = Images::new(values, count, ImageShape { height, width, channels })?;
    let labels = labels.map(|path| read_labels(path, count)).transpose()?;
    InMemory::stored("idx", stored, labels, None, Some(options))
}

fn read_labels(path: &Path, images: usize) -> Result<Vec<u32>> {
    let Array { values, .. } = read_array(path, Holds::Labels)?;
    if values.len() != images {
        return Err(Error::Labels {
            expected: format!("{images}, one an image,"),
            received: format!("{} from {}", values.len(), path.display()),
        });
    }
    Ok(values.into_iter().map(u32::from).collect())
}

/// What a file is expected to hold.
#[derive(Clone, Copy)]
enum Holds {
    Images,
    Labels,
}

/// An IDX file of unsigned bytes.
struct Array {
    dims: Vec<usize>,
    values: Vec<u8>,
}

fn read_array(path: &Path, holds: Holds) -> Result<Array> {
    let OpenFile { file, len } = open_file(path)?;
    let mut file = BufReader::new(file);
    let gzipped = file.fill_buf().map_err(Error::io(path))?.starts_with(&[0x1f, 0x8b]);
    if gzipped {
        let unpacked = read_from(MultiGzDecoder::new(file), holds, |claimed| {
            let most = UNPACKED.max(len.saturating_mul(UNPACKED_PER_BYTE));
            (claimed > most as u128).then(|| format!("Expected at most {most} bytes from {len} gzipped ones"))
        });
        return unpacked.map_err(|error| error.at(path, "gzip that unpacks"));
    }
    let read = read_from(file, holds, |claimed| {
        (claimed != len as u128).then(|| format!("Expected a file of {claimed} bytes"))
    });
    // Said of the file as a whole, so that a truncated one is told from a wrong header.
    read.map_err(|error| match error {
        Failure::Claim { sentence, sizes } => {
            Error::file(path, format!("{sentence}, as its header says {sizes}, but found {len}"))
        }
        other => other.at(path, "a whole file"),
    })
}

/// Why reading stopped, before it is known what to call the file.
enum Failure {
    /// What the header claims cannot be.
    Claim { sentence: String, sizes: String },
    /// Not what was expected.
    Format(String),
    /// From the system or the unpacker.
    Read(io::Error),
}

impl Failure {
    fn at(self, path: &Path, expected: &str) -> Error {
        match self {
            Self::Claim { sentence, sizes } => Error::file(path, format!("{sentence} but its header claims {sizes}")),
            Self::Format(reason) => Error::file(path, reason),
            Self::Read(error) => match error.kind() {
                io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => {
                    Error::file(path, format!("Expected {expected} but it is damaged: {error}"))
                }
                _ => Error::io(path)(error),
            },
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Read(error)
    }
}

/// Reads header and values. `refuse` looks at the bytes that the header claims, before anything is allocated.
fn read_from(
    mut reader: impl Read,
    holds: Holds,
    refuse: impl FnOnce(u128) -> Option<String>,
) -> Result<Array, Failure> {
    let mut magic = Vec::with_capacity(4);
    reader.by_ref().take(4).read_to_end(&mut magic)?;
    let rank = check_magic(&magic, holds).map_err(Failure::Format)?;
    let mut dims = [0; 4];
    for dim in &mut dims[..rank] {
        let mut bytes = [0; 4];
        reader.read_exact(&mut bytes)?;
        *dim = u32::from_be_bytes(bytes);
    }
    let dims = &dims[..rank];
    // Four 32-bit factors cannot overflow 128 bits.
    let claimed: u128 = dims.iter().map(|&dim| dim as u128).product();
    let dims: Vec<usize> = dims.iter().map(|&dim| dim as usize).collect();
    let header = 4 + 4 * rank as u128;
    if let Some(sentence) = refuse(claimed.saturating_add(header)) {
        return Err(Failure::Claim { sentence, sizes: sizes(&dims) });
    }

    let mut values = buffer(Path::new(""), claimed as u64).map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
    reader.by_ref().take(claimed as u64).read_to_end(&mut values)?;
    if values.len() as u128 != claimed {
        return Err(Failure::Format(format!(
            "Expected {claimed} values, as its header says, but found {}",
            values.len()
        )));
    }
    // For gzip this also reads the checksum.
    if reader.read(&mut [0])? != 0 {
        return Err(Failure::Format(format!("Expected {claimed} values, as its header says, but found more")));
    }
    Ok(Array { dims, values })
}

/// The number of dimensions that the first four bytes announce.
fn check_magic(magic: &[u8], holds: Holds) -> Result<usize, String> {
    let (what, ranks) = match holds {
        Holds::Images => ("images (3 or 4 dimensions)", 3..=4),
        Holds::Labels => ("labels (1 dimension)", 1..=1),
    };
    let &[0, 0, kind, rank] = magic else {
        let found: String = magic.iter().map(|byte| format!("{byte:02x}")).collect();
        return Err(format!("Expected an IDX file, which begins with 0000, but found {}", or_nothing(&found)));
    };
    if kind != 0x08 {
        let found = match kind {
            0x09 => "signed bytes",
            0x0b => "16-bit integers",
            0x0c => "32-bit integers",
            0x0d => "32-bit floats",
            0x0e => "64-bit floats",
            _ => "an unknown type",
        };
        return Err(format!("Expected unsigned bytes (IDX type 0x08) but found {found} (0x{kind:02x})"));
    }
    let rank = rank as usize;
    if !ranks.contains(&rank) {
        let found = match rank {
            1 => "labels".to_string(),
            3 | 4 => "images".to_string(),
            _ => format!("{rank} dimensions"),
        };
        return Err(format!("Expected an IDX file of {what} but found {found}"));
    }
    Ok(rank)
}

fn or_nothing(found: &str) -> &str {
    if found.is_empty() { "an empty file" } else { found }
}

/// `60000 x 28 x 28`
fn sizes(dims: &[usize]) -> String {
    dims.iter().map(usize::to_string).collect::<Vec<_>>().join(" x ")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;
    use std::path::PathBuf;

    use flate2::{Compression, write::GzEncoder};
    use tempfile::TempDir;

    use super::*;
    use crate::data::Dataset;
    use crate::random::{Key, Purpose};

    fn idx(kind: u8, dims: &[u32], values: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, 0, kind, dims.len() as u8];
        bytes.extend(dims.iter().flat_map(|dim| dim.to_be_bytes()));
        bytes.extend(values);
        bytes
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn counting(count: usize) -> Vec<u8> {
        (0..count).map(|i| i as u8).collect()
    }

    struct Files {
        folder: TempDir,
    }

    impl Files {
        fn new() -> Self {
            Self { folder: tempfile::tempdir().unwrap() }
        }

        fn put(&self, name: &str, bytes: &[u8]) -> PathBuf {
            let path = self.folder.path().join(name);
            fs::write(&path, bytes).unwrap();
            path
        }

        /// Opens these bytes as images.
        fn open(&self, bytes: &[u8]) -> Result<InMemory> {
            idx_files(&self.put("images", bytes), None, &DatasetOptions::default())
        }

        #[track_caller]
        fn refused(&self, bytes: &[u8], sentence: &str) {
            let error = self.open(bytes).unwrap_err();
            let Error::File { path, reason } = &error else { panic!("{error:?}") };
            assert_eq!(*path, self.folder.path().join("images"));
            assert!(reason.contains(sentence), "{reason}");
        }
    }

    #[test]
    fn images_and_labels_are_read_plain_and_gzipped() {
        let files = Files::new();
        let (images, labels) = (idx(8, &[3, 2, 2], &counting(12)), idx(8, &[3], &[2, 0, 4]));
        for packed in [false, true] {
            let pack = |bytes: &[u8]| if packed { gzip(bytes) } else { bytes.to_vec() };
            let (images, labels) = (files.put("images", &pack(&images)), files.put("labels", &pack(&labels)));
            let data = idx_files(&images, Some(&labels), &DatasetOptions::default()).unwrap();
            assert_eq!((data.len(), data.shape().to_string()), (3, "2x2x1".to_string()));
            assert_eq!(data.classes().unwrap(), ["0", "1", "2", "3", "4"]);
            let batch = data.batch(&[2, 0, 2]).unwrap();
            assert_eq!(batch.images.bytes().data, [8, 9, 10, 11, 0, 1, 2, 3, 8, 9, 10, 11]);
            assert_eq!(batch.labels.unwrap(), [4, 2, 4]);
            assert!(matches!(data.batch(&[3]), Err(Error::Option { .. })));
        }
    }

    #[test]
    fn options_change_the_shape() {
        let files = Files::new();
        let path = files.put("images", &idx(8, &[1, 1, 1], &[7]));
        let options = DatasetOptions { pad: 1, background: [1; 3], channels: Some(3), ..DatasetOptions::default() };
        let data = idx_files(&path, None, &options).unwrap();
        assert_eq!(data.shape().to_string(), "3x3x3");
        let batch = data.batch(&[0]).unwrap();
        assert_eq!(batch.images.bytes().data[9..18], [1, 1, 1, 7, 7, 7, 1, 1, 1]);
        assert!(batch.labels.is_none() && data.classes().is_none());
    }

    #[test]
    fn four_dimensions_are_channels_last() {
        let data = Files::new().open(&idx(8, &[2, 1, 2, 3], &counting(12))).unwrap();
        assert_eq!(data.shape().to_string(), "1x2x3");
        assert_eq!(data.batch(&[1]).unwrap().images.bytes().data, [6, 7, 8, 9, 10, 11]);
    }

    #[test]
    fn gzip_of_several_members_is_one_file() {
        let whole = idx(8, &[1, 2, 2], &counting(4));
        let parts = [gzip(&whole[..10]), gzip(&whole[10..])].concat();
        assert_eq!(Files::new().open(&parts).unwrap().len(), 1);
    }

    #[test]
    fn other_formats_are_named() {
        let files = Files::new();
        files.refused(b"", "found an empty file");
        files.refused(&[0, 0, 8], "found 000008");
        files.refused(b"\x89PNG\r\n", "begins with 0000, but found 89504e47");
        files.refused(&idx(0x0d, &[1, 1, 1], &[0; 4]), "found 32-bit floats (0x0d)");
        files.refused(&idx(0x77, &[1, 1, 1], &[0; 4]), "found an unknown type (0x77)");
        files.refused(&idx(8, &[4], &[0; 4]), "Expected an IDX file of images (3 or 4 dimensions) but found labels");
        files.refused(&idx(8, &[2, 2], &[0; 4]), "found 2 dimensions");
        files.refused(&idx(8, &[1, 1, 1, 2], &[0; 2]), "Expected images of 1, 3 or 4 channels but found 2");
        files.refused(&idx(8, &[0, 28, 28], &[]), "Expected one image of one pixel at least but found 0 x 28 x 28");
        files.refused(&idx(8, &[5, 0, 28], &[]), "found 5 x 0 x 28");
        let images = files.put("images", &idx(8, &[1, 1, 1], &[0]));
        let error = idx_files(&images, Some(&images), &DatasetOptions::default()).unwrap_err();
        assert!(error.to_string().contains("of labels (1 dimension) but found images"), "{error}");
        let missing = files.folder.path().join("missing");
        assert!(matches!(idx_files(&missing, None, &DatasetOptions::default()), Err(Error::Io { .. })));
    }

    #[test]
    fn a_file_is_as_long_as_its_header_says() {
        let files = Files::new();
        let whole = idx(8, &[2, 2, 2], &counting(8));
        files.refused(&whole[..23], "Expected a file of 24 bytes, as its header says 2 x 2 x 2, but found 23");
        files.refused(&[&whole[..], &[0]].concat(), "Expected a file of 24 bytes");
        files.refused(&whole[..9], "damaged");
        files.refused(&gzip(&whole[..23]), "Expected 8 values, as its header says, but found 7");
        files.refused(&gzip(&[&whole[..], &[0]].concat()), "Expected 8 values, as its header says, but found more");
        files.refused(&gzip(&whole[..9]), "damaged");
    }

    #[test]
    fn claims_are_refused_before_memory_is_asked_for() {
        let files = Files::new();
        let huge = idx(8, &[u32::MAX; 3], &[0; 8]);
        files.refused(&huge, "but found 24");
        files.refused(&gzip(&huge), "Expected at most 268435456 bytes from");
        files.refused(&idx(8, &[u32::MAX; 4], &[0; 8]), "but found 28");
        files.refused(&gzip(&idx(8, &[u32::MAX; 4], &[0; 8])), "header claims 4294967295 x 4294967295");
    }

    #[test]
    fn a_gzip_bomb_is_refused() {
        let files = Files::new();
        // 300 MB that gzip packs into 300 kB, and that the header does announce.
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&idx(8, &[300, 1000, 1000], &[])).unwrap();
        (0..300).for_each(|_| encoder.write_all(&vec![0; 1_000_000]).unwrap());
        files.refused(&encoder.finish().unwrap(), "but its header claims 300 x 1000 x 1000");
        // One that hides behind a small header is left after the first byte too many.
        let mut small = idx(8, &[1, 1, 1], &[]);
        small.resize(1 << 24, 0);
        files.refused(&gzip(&small), "Expected 1 values, as its header says, but found more");
    }

    #[test]
    fn damaged_gzip_is_refused() {
        let files = Files::new();
        let whole = gzip(&idx(8, &[4, 4, 4], &counting(64)));
        files.refused(&whole[..whole.len() - 3], "damaged");
        let mut checksum = whole.clone();
        let last = checksum.len() - 5;
        checksum[last] ^= 1;
        files.refused(&checksum, "damaged");
        files.refused(&[&whole[..], b"junk"].concat(), "damaged");
    }

    #[test]
    fn labels_are_one_an_image() {
        let files = Files::new();
        let images = files.put("images", &idx(8, &[3, 1, 1], &[0; 3]));
        let labels = files.put("labels", &idx(8, &[2], &[0; 2]));
        let error = idx_files(&images, Some(&labels), &DatasetOptions::default()).unwrap_err();
        assert!(matches!(error, Error::Labels { .. }), "{error:?}");
        assert!(error.to_string().starts_with("Expected 3, one an image, for labels but received 2 from"), "{error}");
    }

    #[test]
    fn damaged_files_are_read_or_refused() {
        let files = Files::new();
        let plain = idx(8, &[4, 3, 3], &counting(36));
        let packed = gzip(&plain);
        let mut stream = Key { seed: 5, purpose: Purpose::Sample, step: 0, image: 0 }.stream();
        let mut draw = [0.0f32; 7];
        for round in 0..3000 {
            stream.fill_uniform(&mut draw);
            let at = |i: usize, bound: usize| (draw[i] * bound as f32) as usize;
            let mut bytes = if round % 2 == 0 { plain.clone() } else { packed.clone() };
            if round % 3 == 0 {
                bytes.truncate(at(0, bytes.len()));
            }
            for i in 1..1 + round % 4 {
                if !bytes.is_empty() {
                    let bound = if round % 5 == 0 { bytes.len().min(16) } else { bytes.len() };
                    bytes[at(i, bound)] = at(i + 3, 256) as u8;
                }
            }
            if let Err(error) = files.open(&bytes) {
                assert!(matches!(error, Error::File { .. }), "{error:?}");
            }
        }
    }
}
