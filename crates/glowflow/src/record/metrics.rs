//! Events as lines of JSON, and what a resumed run keeps of them.

use std::io::{self, BufRead, BufReader, Read, Seek, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Curves;
use crate::error::{Error, Result};
use crate::store::file::{open_file, write_atomically};
use crate::train::TrainEvent;

/// Bytes of a line; longer ones are none of ours.
const LONGEST: u64 = 1 << 20;

/// What a line says: the event, and when.
#[derive(Serialize)]
pub(super) struct Line<'a> {
    #[serde(flatten)]
    pub event: &'a TrainEvent,
    /// Seconds since the Unix epoch.
    pub time: f64,
}

/// What is read of a line.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Found {
    step: Option<u64>,
    loss: Option<f64>,
    merged: Option<u64>,
    bits_per_dim: Option<f64>,
    /// Of the run's end, which has its step in there.
    summary: Option<Box<Found>>,
}

impl Found {
    fn step(&self) -> u64 {
        let end = self.summary.as_ref().and_then(|summary| summary.step);
        self.step.or(end).unwrap_or(0)
    }
}

/// Leaves in a file only whole lines of JSON of steps up to `step`, as they are, and gives their curves.
///
/// A run that was killed may have written beyond the checkpoint that it is resumed from, and half a line.
pub(super) fn resume(path: &Path, step: u64) -> Result<Curves> {
    let mut file = BufReader::new(open_file(path)?.file);
    let mut curves = Curves::new();
    let all = keep(&mut file, step, |_, found| {
        let step = found.step();
        if let Some(loss) = found.loss {
            curves.training.push(step, loss, found.merged.unwrap_or(1));
        }
        if let Some(bits) = found.bits_per_dim {
            curves.held_out.push(step, bits, 1);
        }
        Ok(())
    });
    if !all.map_err(Error::io(path))? {
        file.rewind().map_err(Error::io(path))?;
        write_atomically(path, |writer| keep(&mut file, step, |line, _| writer.write_all(line)).map(drop))?;
    }
    Ok(curves)
}

/// Passes on every line that is kept, with its end; whether those were all.
fn keep(
    file: &mut impl BufRead,
    step: u64,
    mut pass_on: impl FnMut(&[u8], Found) -> io::Result<()>,
) -> io::Result<bool> {
    let (mut line, mut all) = (Vec::new(), true);
    loop {
        line.clear();
        if file.take(LONGEST).read_until(b'\n', &mut line)? == 0 {
            return Ok(all);
        }
        if line.last() != Some(&b'\n') {
            all = false;
            file.skip_until(b'\n')?;
            continue;
        }
        match serde_json::from_slice::<Found>(&line) {
            Ok(found) if found.step() <= step => pass_on(&line, found)?,
            _ => all = false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn resumed(text: &[u8], step: u64) -> (Vec<u8>, Curves) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        fs::write(&path, text).unwrap();
        let curves = resume(&path, step).unwrap();
        (fs::read(&path).unwrap(), curves)
    }

    const WHOLE: &str = concat!(
        r#"{"type":"run-start","step":0,"batchesPerEpoch":1.5,"seconds":0.0,"time":1.0}"#,
        "\n",
        r#"{"type":"step-end","step":1,"loss":4.5,"merged":1,"time":2.0}"#,
        "\n",
        r#"{"type":"step-end","step":2,  "loss":null,"merged":1,"time":3.0}"#,
        "\n",
        r#"{"type":"evaluation-end","step":2,"bitsPerDim":4.25,"images":3}"#,
        "\n",
    );
    const LATER: &str = concat!(
        r#"{"type":"step-end","step":3,"loss":9.0,"merged":1}"#,
        "\n",
        r#"{"type":"run-end","summary":{"step":3,"loss":9.0}}"#,
        "\n",
    );

    #[test]
    fn later_lines_and_half_a_line_go_and_the_others_stay_as_they_are() {
        let half = r#"{"type":"step-end","step":2,"lo"#;
        for rest in ["", LATER, half, "\n", "\0\0\0\0\n", "[1]\n", "{\"step\":-1}\n", "{\"step\":\"2\"}\n"] {
            let (kept, curves) = resumed(format!("{WHOLE}{rest}").as_bytes(), 2);
            assert_eq!(kept, WHOLE.as_bytes(), "{rest}");
            assert_eq!(curves.training.points(), [(1.0, 4.5)]);
            assert_eq!(curves.held_out.points(), [(2.0, 4.25)]);
        }
        let (kept, curves) = resumed(format!("{WHOLE}{LATER}{half}").as_bytes(), 3);
        assert_eq!(kept, format!("{WHOLE}{LATER}").as_bytes());
        assert_eq!(curves.training.points(), [(1.0, 4.5), (3.0, 9.0)]);
        assert_eq!(resumed(LATER.as_bytes(), 0).0, b"");
    }

    #[test]
    fn a_line_without_end_is_left_out_without_being_held() {
        let mut text = WHOLE.as_bytes().to_vec();
        text.extend(vec![b' '; 3 * LONGEST as usize]);
        text.push(b'\n');
        text.extend(WHOLE.as_bytes());
        assert_eq!(resumed(&text, 2).0, format!("{WHOLE}{WHOLE}").as_bytes());
    }

    #[test]
    fn what_is_no_file_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(resume(folder.path(), 1), Err(Error::File { .. })));
    }
}
