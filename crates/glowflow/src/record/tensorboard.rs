//! TensorBoard's event files: the few messages that a run needs, as protocol buffers in TFRecord frames.

use std::fs::{self, File};
use std::path::Path;
use std::process;

use sysinfo::System;

use super::log::Log;
use crate::error::{Error, Result};
use crate::store::protobuf::Message;

/// The format that readers look for in the first event.
const VERSION: &[u8] = b"brain.Event:2";

/// `SessionLog.START`: readers forget what an earlier file of the folder says of this step and later ones.
const SESSION_START: u64 = 1;

/// A new event file in `folder`, whose first step will be `first_step`. `time` is in seconds since the Unix epoch.
pub(super) fn create(folder: &Path, time: f64, first_step: u64) -> Result<Log> {
    let host = System::host_name().unwrap_or_default();
    let host: String = host.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect();
    let host = if host.is_empty() { "localhost".to_owned() } else { host };
    let name = format!("events.out.tfevents.{}.{host}.{}", time as u64, process::id());
    let mut path = folder.join(&name);
    // Another run of this process and second.
    let mut number = 0;
    while fs::symlink_metadata(&path).is_ok() {
        number += 1;
        path = folder.join(format!("{name}.{number}"));
    }
    let file = File::create_new(&path).map_err(Error::io(&path))?;
    let mut log = Log::new(path, file, 0);
    log.append(&frame(&Message::default().double(1, time).bytes(3, VERSION)));
    let session = Message::default().integer(1, SESSION_START);
    log.append(&frame(&event(time, first_step).message(7, &session)));
    Ok(log)
}

/// A frame with named values of one step.
pub(super) fn scalars(time: f64, step: u64, values: &[(&str, f64)]) -> Vec<u8> {
    let summary = values.iter().fold(Message::default(), |summary, &(tag, value)| {
        summary.message(1, &Message::default().bytes(1, tag).float(2, value as f32))
    });
    frame(&event(time, step).message(5, &summary))
}

/// A frame with a PNG file; `None` where it is none.
pub(super) fn image(time: f64, step: u64, tag: &str, file: &[u8]) -> Option<Vec<u8>> {
    let reader = png::Decoder::new(std::io::Cursor::new(file)).read_info().ok()?;
    let info = reader.info();
    // TensorBoard's colour spaces are numbers of channels.
    let image = Message::default()
        .integer(1, info.height.into())
        .integer(2, info.width.into())
        .integer(3, info.color_type.samples() as u64)
        .bytes(4, file);
    let value = Message::default().bytes(1, tag).message(4, &image);
    Some(frame(&event(time, step).message(5, &Message::default().message(1, &value))))
}

fn event(time: f64, step: u64) -> Message {
    Message::default().double(1, time).integer(2, step)
}

/// A TFRecord: length, its checksum, data, their checksum.
fn frame(message: &Message) -> Vec<u8> {
    frame_bytes(message.as_bytes())
}

fn frame_bytes(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    [&length[..], &masked_crc(&length).to_le_bytes(), data, &masked_crc(data).to_le_bytes()].concat()
}

fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images::ImageShape;
    use crate::picture::encode_png;

    #[test]
    fn checksums_are_those_of_the_standard() {
        // RFC 3720, B.4.
        assert_eq!(crc32c::crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
        // The first twelve bytes of every event file that TensorFlow writes: 24 bytes, and their checksum.
        assert_eq!(frame_bytes(&[0; 24])[..12], [24, 0, 0, 0, 0, 0, 0, 0, 0xa3, 0x7f, 0x4b, 0x22]);
    }

    #[test]
    fn a_frame_holds_length_and_data_between_checksums() {
        let record = frame_bytes(b"abc");
        assert_eq!(record.len(), 8 + 4 + 3 + 4);
        assert_eq!((&record[..8], &record[12..15]), (&[3, 0, 0, 0, 0, 0, 0, 0][..], &b"abc"[..]));
        assert_eq!(record[15..], masked_crc(b"abc").to_le_bytes());
    }

    #[test]
    fn numbers_are_encoded_as_protocol_buffers() {
        let record = scalars(1.5, 3, &[("loss", 2.0)]);
        let data = [
            &[0x09, 0, 0, 0, 0, 0, 0, 0xf8, 0x3f, 0x10, 3, 0x2a, 13, 0x0a, 11, 0x0a, 4][..],
            &b"loss"[..],
            &[0x15, 0, 0, 0, 0x40],
        ];
        assert_eq!(record, frame_bytes(&data.concat()));
    }

    #[test]
    fn an_image_says_its_size() {
        let shape = ImageShape { height: 2, width: 3, channels: 3 };
        let file = encode_png(&[7; 18], shape).unwrap();
        let record = image(0.0, 1, "samples", &file).unwrap();
        let mut head = vec![8, 2, 16, 3, 24, 3, 0x22, file.len() as u8];
        head.extend(&file);
        assert!(record.windows(head.len()).any(|window| window == head));
        assert_eq!(image(0.0, 1, "samples", b"no picture"), None);
    }

    #[test]
    fn two_files_of_one_second_are_two() {
        let folder = tempfile::tempdir().unwrap();
        drop((create(folder.path(), 5.0, 1).unwrap(), create(folder.path(), 5.0, 1).unwrap()));
        let mut names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        let names: Vec<_> = names.iter().map(|name| name.to_str().unwrap()).collect();
        assert!(names[0].starts_with("events.out.tfevents.5.") && names[0].ends_with(&format!(".{}", process::id())));
        assert_eq!(names[1], format!("{}.1", names[0]));
    }
}
