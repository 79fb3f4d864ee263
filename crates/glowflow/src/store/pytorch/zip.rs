//! The zip container of PyTorch's checkpoints: records that are stored as they are.

use std::io::{Read, Seek, SeekFrom};

use super::archive::Extent;

/// Bytes of the longest directory that is read: a million records.
const LONGEST_DIRECTORY: u64 = 64 << 20;
/// Bytes of the record that ends a zip file, without its comment.
const END: usize = 22;
/// Bytes of what may stand before it in files above 4 GB.
const LOCATOR: usize = 20;
/// Bytes of that record itself, as far as they are read.
const END64: usize = 56;
/// Bytes of a directory entry without its name.
const ENTRY: usize = 46;
/// Bytes of the header in front of a record, without its name.
const HEADER: usize = 30;

/// A record of a zip file.
#[derive(Debug)]
pub(super) struct Record {
    pub name: String,
    pub extent: Extent,
}

/// A number at a place of a record whose length has been checked.
fn number<const N: usize>(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number[..N].copy_from_slice(&bytes[at..at + N]);
    u64::from_le_bytes(number)
}

/// What a part of the reader gives: an error is the system's, or a sentence as its `InvalidData`.
type Outcome<T> = std::io::Result<T>;

fn bad(reason: impl Into<String>) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidData, reason.into())
}

fn read_at(file: &mut (impl Read + Seek), at: u64, bytes: usize) -> Outcome<Vec<u8>> {
    file.seek(SeekFrom::Start(at))?;
    let mut buffer = vec![0; bytes];
    file.read_exact(&mut buffer)?;
    Ok(buffer)
}

/// The records of a zip file of `len` bytes, in the order of its directory.
///
/// # Errors
///
/// Of kind `InvalidData` with a sentence where the directory is not one, or a record is outside the file or compressed.
pub(super) fn records(file: &mut (impl Read + Seek), len: u64) -> Outcome<Vec<Record>> {
    let tail_len = len.min((END + LOCATOR + usize::from(u16::MAX)) as u64);
    let tail = read_at(file, len - tail_len, tail_len as usize)?;
    let end = (0..(tail.len() + 1).saturating_sub(END)).rev().find(|&at| {
        tail[at..].starts_with(b"PK\x05\x06") && at + END + number::<2>(&tail, at + 20) as usize == tail.len()
    });
    let end = end.ok_or_else(|| bad("Expected the directory of a zip file but found none: it is truncated"))?;
    let (mut size, mut start) = (number::<4>(&tail, end + 12), number::<4>(&tail, end + 16));
    if end >= LOCATOR && tail[end - LOCATOR..].starts_with(b"PK\x06\x07") {
        let at = number::<8>(&tail, end - LOCATOR + 8);
        if at > len.saturating_sub(END64 as u64) {
            return Err(bad("Expected a directory inside the zip file but found one outside"));
        }
        let wide = read_at(file, at, END64)?;
        if !wide.starts_with(b"PK\x06\x06") {
            return Err(bad("Expected the directory of a large zip file but found none"));
        }
        (size, start) = (number::<8>(&wide, 40), number::<8>(&wide, 48));
    }
    if size > LONGEST_DIRECTORY || start.checked_add(size).is_none_or(|end| end > len) {
        return Err(bad("Expected a directory inside the zip file but found one outside"));
    }
    let directory = read_at(file, start, size as usize)?;

    let mut records = Vec::new();
    let mut rest = &directory[..];
    while !rest.is_empty() {
        let (record, length) = entry(file, rest, len)?;
        records.push(record);
        rest = &rest[length..];
    }
    Ok(records)
}

/// The first record of a directory, and the length of its entry.
fn entry(file: &mut (impl Read + Seek), directory: &[u8], len: u64) -> Outcome<(Record, usize)> {
    if directory.len() < ENTRY || !directory.starts_with(b"PK\x01\x02") {
        return Err(bad("Expected an entry of a zip file's directory but found something else"));
    }
    let lengths = [28, 30, 32].map(|at| number::<2>(directory, at) as usize);
    let [name_len, extra_len, _] = lengths;
    let length = ENTRY + lengths.iter().sum::<usize>();
    if directory.len() < length {
        return Err(bad("Expected an entry of a zip file's directory but it is truncated"));
    }
    let name = String::from_utf8_lossy(&directory[ENTRY..ENTRY + name_len]).into_owned();
    let (flags, method) = (number::<2>(directory, 8), number::<2>(directory, 10));
    // Bit 0: encrypted.
    if method != 0 || flags & 1 != 0 {
        return Err(bad(format!(
            "Expected records stored as they are, as torch.save does, but {} is compressed",
            super::pickle::shortened(&name)
        )));
    }
    let mut fields = [number::<4>(directory, 24), number::<4>(directory, 20), number::<4>(directory, 42)];
    widen(&mut fields, &directory[ENTRY + name_len..ENTRY + name_len + extra_len])?;
    let [size, stored, header_at] = fields;
    let outside =
        || bad(format!("Expected the record {} inside the file: it is truncated", super::pickle::shortened(&name)));
    if size != stored || header_at > len.saturating_sub(HEADER as u64) {
        return Err(outside());
    }
    let header = read_at(file, header_at, HEADER)?;
    if !header.starts_with(b"PK\x03\x04") {
        return Err(outside());
    }
    let offset = header_at + HEADER as u64 + number::<2>(&header, 26) + number::<2>(&header, 28);
    if offset.checked_add(size).is_none_or(|end| end > len) {
        return Err(outside());
    }
    let checksum = Some(number::<4>(directory, 16) as u32);
    Ok((Record { extent: Extent { offset, bytes: size, checksum }, name }, length))
}

/// Takes what does not fit in 32 bits from an entry's extra fields.
fn widen(fields: &mut [u64; 3], mut extra: &[u8]) -> Outcome<()> {
    while extra.len() >= 4 {
        let (kind, length) = (number::<2>(extra, 0), number::<2>(extra, 2) as usize);
        let Some(mut wide) = extra.get(4..4 + length) else { break };
        if kind == 1 {
            for field in fields.iter_mut().filter(|field| **field == u64::from(u32::MAX)) {
                let (value, rest) =
                    wide.split_at_checked(8).ok_or_else(|| bad("Expected the size of a zip file's record"))?;
                *field = number::<8>(value, 0);
                wide = rest;
            }
        }
        extra = &extra[4 + length..];
    }
    Ok(())
}
