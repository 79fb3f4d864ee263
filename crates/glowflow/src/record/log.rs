//! A file that grows by whole records, whatever the disk does.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::mem;
use std::path::PathBuf;

use crate::error::{Error, Result};

/// Bytes that wait for a disk that takes none; what comes then is lost, and the file goes on where it can.
const MOST_WAITING: usize = 1 << 20;

/// What a [`Log`] writes to.
pub(super) trait Target: Write {
    /// Cuts the file to its first `len` bytes and goes on there.
    fn cut(&mut self, len: u64) -> io::Result<()>;

    /// Returns when the disk has it all.
    fn sync(&mut self) -> io::Result<()>;
}

impl Target for File {
    fn cut(&mut self, len: u64) -> io::Result<()> {
        self.set_len(len)?;
        self.seek(SeekFrom::Start(len)).map(drop)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}

/// Records wait here until [`Log::flush`], and go on waiting where that fails.
pub(super) struct Log<T: Target = File> {
    /// For errors.
    path: PathBuf,
    target: T,
    waiting: Vec<u8>,
    /// Bytes of whole records in the file.
    written: u64,
    /// The last write failed: half a record may follow the whole ones.
    torn: bool,
}

impl<T: Target> Log<T> {
    /// Goes on after the `written` bytes of a file.
    pub(super) fn new(path: PathBuf, target: T, written: u64) -> Self {
        Self { path, target, waiting: Vec::new(), written, torn: false }
    }

    pub(super) fn append(&mut self, record: &[u8]) {
        if !self.torn || self.waiting.len() + record.len() <= MOST_WAITING {
            self.waiting.extend_from_slice(record);
        }
    }

    /// Hands all records to the system.
    pub(super) fn flush(&mut self) -> Result<()> {
        self.write().map_err(Error::io(&self.path))
    }

    fn write(&mut self) -> io::Result<()> {
        if self.torn {
            self.target.cut(self.written)?;
        }
        self.torn = true;
        self.target.write_all(&self.waiting)?;
        self.torn = false;
        self.written += mem::take(&mut self.waiting).len() as u64;
        Ok(())
    }

    /// Returns when the disk has all records.
    pub(super) fn sync(&mut self) -> Result<()> {
        self.flush()?;
        self.target.sync().map_err(Error::io(&self.path))
    }
}

impl<T: Target> Drop for Log<T> {
    fn drop(&mut self) {
        let _ = self.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk with room for so many bytes.
    #[derive(Default)]
    struct Disk {
        bytes: Vec<u8>,
        room: usize,
    }

    impl Write for &mut Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = bytes.len().min(self.room - self.bytes.len());
            self.bytes.extend_from_slice(&bytes[..taken]);
            if taken == 0 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(taken) }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Target for &mut Disk {
        fn cut(&mut self, len: u64) -> io::Result<()> {
            self.bytes.truncate(len as usize);
            Ok(())
        }

        fn sync(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_full_disk_leaves_whole_records_and_loses_none_that_can_wait() {
        let mut disk = Disk { room: 10, ..Disk::default() };
        let mut log = Log::new("log".into(), &mut disk, 0);
        log.append(b"first\n");
        log.flush().unwrap();
        log.append(b"second\n");
        let error = log.flush().unwrap_err();
        assert!(matches!(&error, Error::Io { path, source } if path.as_os_str() == "log"
            && source.kind() == io::ErrorKind::StorageFull));
        assert_eq!(log.target.bytes, b"first\nseco");
        log.append(b"third\n");
        assert!(log.flush().is_err());
        log.target.room = 100;
        log.flush().unwrap();
        assert_eq!(log.target.bytes, b"first\nsecond\nthird\n");
        log.append(b"last\n");
        drop(log);
        assert_eq!(disk.bytes, b"first\nsecond\nthird\nlast\n");
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut disk = Disk::default();
        let mut log = Log::new("log".into(), &mut disk, 0);
        // A large record alone is no reason to lose it.
        log.append(&vec![1; MOST_WAITING]);
        log.append(&[2]);
        assert!(log.flush().is_err());
        log.append(&[3]);
        assert_eq!(log.waiting.len(), MOST_WAITING + 1);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_device_without_room_is_an_error_every_time() {
        let file = File::options().append(true).open("/dev/full").unwrap();
        let mut log = Log::new("/dev/full".into(), file, 0);
        log.append(b"line\n");
        assert!(log.flush().is_err() && log.sync().is_err());
    }
}
