//! Files as `torch.save` writes them since PyTorch 1.6: a zip of a pickle and one record a tensor.

use std::io::{self, Write};
use std::path::Path;

use flate2::Crc;

use super::archive::NamedTensor;
use super::pickle::ElementType;
use crate::error::{Error, Result};
use crate::store::file::write_atomically;

/// Where in the file a record's bytes begin is a multiple of this.
const ALIGNMENT: usize = 64;
/// Name of the folder that all records lie in.
const ROOT: &str = "archive";
/// Midnight of the first day that a zip file can name.
const DATE: u16 = 1 << 5 | 1;

/// A tensor of a `state_dict`.
pub(super) struct SavedTensor {
    pub tensor: NamedTensor,
    /// `F32` or `U8`.
    pub dtype: ElementType,
}

impl SavedTensor {
    fn bytes(&self) -> Vec<u8> {
        let values = self.tensor.values.iter();
        match self.dtype {
            ElementType::U8 => values.map(|&value| value as u8).collect(),
            _ => values.flat_map(|value| value.to_le_bytes()).collect(),
        }
    }
}

/// Writes a `state_dict`, beside and renamed: `torch.load` reads it, also with `weights_only=True`.
///
/// # Errors
///
/// [`Error::File`] above 4 GB; [`Error::Io`] where the system refuses.
pub(super) fn write(path: &Path, tensors: &[SavedTensor]) -> Result<()> {
    let bytes: u64 = tensors.iter().map(|saved| saved.tensor.values.len() as u64 * saved.dtype.bytes()).sum();
    // Headers and the directory: well below 1 kB a tensor.
    if bytes + 1024 * (tensors.len() as u64 + 8) > u64::from(u32::MAX) || tensors.len() > usize::from(u16::MAX) - 8 {
        return Err(Error::file(path, format!("Expected weights of at most 4 GB but found {bytes} bytes")));
    }
    write_atomically(path, |file| {
        let mut zip = Zip { file, at: 0, directory: Vec::new(), records: 0 };
        zip.record("data.pkl", &pickle(tensors))?;
        zip.record("byteorder", b"little")?;
        for (key, tensor) in tensors.iter().enumerate() {
            zip.record(&format!("data/{key}"), &tensor.bytes())?;
        }
        zip.record("version", b"3\n")?;
        zip.end()
    })
}

struct Zip<'a, W: Write> {
    file: &'a mut W,
    at: usize,
    directory: Vec<u8>,
    records: u16,
}

impl<W: Write> Zip<'_, W> {
    fn record(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let name = format!("{ROOT}/{name}");
        let mut crc = Crc::new();
        crc.update(bytes);
        let mut sizes = Vec::new();
        for number in [crc.sum(), bytes.len() as u32, bytes.len() as u32] {
            sizes.extend(number.to_le_bytes());
        }
        // Version 2.0; no flags; stored; the date.
        let mut common = Vec::new();
        for number in [20, 0, 0, 0, DATE] {
            common.extend(u16::to_le_bytes(number));
        }
        common.extend(sizes);
        common.extend((name.len() as u16).to_le_bytes());
        // An extra field of its own kind fills up to the alignment.
        let front = self.at + 30 + name.len() + 4;
        let filling = front.next_multiple_of(ALIGNMENT) - front;
        let mut header = b"PK\x03\x04".to_vec();
        header.extend(&common);
        header.extend((filling as u16 + 4).to_le_bytes());
        header.extend(name.bytes());
        header.extend(b"FB");
        header.extend((filling as u16).to_le_bytes());
        header.resize(header.len() + filling, b'Z');

        self.directory.extend(b"PK\x01\x02\x14\0");
        self.directory.extend(&common);
        // No extra field, no comment, disk 0, no attributes.
        self.directory.extend([0; 12]);
        self.directory.extend((self.at as u32).to_le_bytes());
        self.directory.extend(name.bytes());
        self.records += 1;
        self.at += header.len() + bytes.len();
        self.file.write_all(&header)?;
        self.file.write_all(bytes)
    }

    fn end(self) -> io::Result<()> {
        self.file.write_all(&self.directory)?;
        let mut end = b"PK\x05\x06\0\0\0\0".to_vec();
        end.extend(self.records.to_le_bytes());
        end.extend(self.records.to_le_bytes());
        end.extend((self.directory.len() as u32).to_le_bytes());
        end.extend((self.at as u32).to_le_bytes());
        end.extend([0, 0]);
        self.file.write_all(&end)
    }
}

/// An `OrderedDict` of tensors, protocol 2.
fn pickle(tensors: &[SavedTensor]) -> Vec<u8> {
    let mut out = vec![0x80, 2];
    dict(&mut out);
    out.push(b'(');
    for (key, SavedTensor { tensor, dtype }) in tensors.iter().enumerate() {
        text(&mut out, &tensor.name);
        out.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        text(&mut out, "storage");
        out.extend(match dtype {
            ElementType::U8 => &b"ctorch\nByteStorage\n"[..],
            _ => b"ctorch\nFloatStorage\n",
        });
        text(&mut out, &key.to_string());
        text(&mut out, "cpu");
        int(&mut out, tensor.values.len());
        out.extend(b"tQ");
        int(&mut out, 0);
        sizes(&mut out, &tensor.shape);
        let stride = |axis: usize| tensor.shape[axis + 1..].iter().product();
        sizes(&mut out, &(0..tensor.shape.len()).map(stride).collect::<Vec<_>>());
        // Not trained as it is; no hooks.
        out.push(0x89);
        dict(&mut out);
        out.extend(b"tR");
    }
    out.extend(b"u.");
    out
}

fn dict(out: &mut Vec<u8>) {
    out.extend(b"ccollections\nOrderedDict\n)R");
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.push(b'X');
    out.extend((text.len() as u32).to_le_bytes());
    out.extend(text.bytes());
}

fn int(out: &mut Vec<u8>, value: usize) {
    if let Ok(value) = i32::try_from(value) {
        out.push(b'J');
        out.extend(value.to_le_bytes());
    } else {
        out.extend([0x8a, 9]);
        out.extend((value as u64).to_le_bytes());
        out.push(0);
    }
}

fn sizes(out: &mut Vec<u8>, sizes: &[usize]) {
    out.push(b'(');
    sizes.iter().for_each(|&size| int(out, size));
    out.push(b't');
}
