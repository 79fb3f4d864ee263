//! One run at a time in a folder.

use std::fs::{self, File, TryLockError};
use std::io::{Read, Write};
use std::path::Path;
use std::thread;
use std::time::Duration;

use crate::error::{Error, Result};

/// The locked file. It stays when the lock is gone: whoever removed it could take it from under another run.
const FILE: &str = ".lock";

/// How often, 10 ms apart, a holder's process id is looked for: it is written just after the lock is taken.
const LOOKS: usize = 10;

/// A folder held for this run, against others of this process too, until it is dropped.
///
/// The system releases it when the process ends, however it ends. Where the file system has no locks the folder is not
/// held at all: no reason not to train there.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

impl Lock {
    /// Holds the folder, which is made if it is not there.
    ///
    /// # Errors
    ///
    /// [`Error::Locked`] while another run holds it, with process 0 where that cannot be read (as on Windows);
    /// [`Error::Io`].
    pub fn acquire(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).map_err(Error::io(folder))?;
        let path = folder.join(FILE);
        // Not truncated: until it is locked, what it says is another's.
        let file = File::options().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = file.map_err(Error::io(&path))?;
        if let Err(TryLockError::WouldBlock) = file.try_lock() {
            return Err(Error::Locked { path: folder.to_path_buf(), pid: holder(&path) });
        }
        // For people, and for the error above: that it cannot be written (a full disk) does not weaken the lock.
        let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Self { file })
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Whoever locks it next is not taken for this process.
        let _ = self.file.set_len(0);
    }
}

fn holder(path: &Path) -> u32 {
    for _ in 0..LOOKS {
        let mut text = String::new();
        // A process id has at most ten digits.
        let read = File::open(path).and_then(|file| file.take(16).read_to_string(&mut text));
        if let (Ok(_), Ok(pid)) = (read, text.trim().parse()) {
            return pid;
        }
        thread::sleep(Duration::from_millis(10));
    }
    0
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    use super::*;

    const CHILD: &str = "GLOWFLOW_TEST_LOCK";

    #[test]
    fn a_folder_is_held_once_until_it_is_let_go() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("a/run");
        let lock = Lock::acquire(&folder).unwrap();
        assert_eq!(fs::read_to_string(folder.join(".lock")).unwrap(), format!("{}\n", std::process::id()));
        let error = Lock::acquire(&folder).unwrap_err();
        assert!(matches!(&error, Error::Locked { path, pid } if *path == folder && *pid == std::process::id()));
        assert_eq!(
            (error.code(), error.to_string()),
            ("ERR_GLOW_LOCKED", format!("{} is in use by the run of process {}", folder.display(), std::process::id()))
        );
        // The one that was refused has not let it go.
        assert!(Lock::acquire(&folder).is_err());
        drop(lock);
        assert_eq!(fs::read(folder.join(".lock")).unwrap(), b"");
        drop(Lock::acquire(&folder).unwrap());
    }

    #[test]
    fn what_is_no_folder_or_holds_nonsense_is_an_error_not_a_panic() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, b"").unwrap();
        assert!(matches!(Lock::acquire(&path), Err(Error::Io { .. })));
        fs::write(folder.path().join(".lock"), [0xff; 100]).unwrap();
        let _lock = Lock::acquire(folder.path()).unwrap();
        fs::write(folder.path().join(".lock"), [0xff; 100]).unwrap();
        assert!(matches!(Lock::acquire(folder.path()), Err(Error::Locked { pid: 0, .. })));
    }

    /// Not a test: the process that the next one kills.
    #[test]
    #[ignore = "run by a_killed_holder_frees_it"]
    fn hold() {
        let Some(folder) = std::env::var_os(CHILD) else { return };
        let _lock = Lock::acquire(Path::new(&folder)).unwrap();
        println!("\nheld");
        thread::sleep(Duration::from_secs(60));
    }

    #[test]
    fn a_killed_holder_frees_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "store::lock::tests::hold", "--ignored", "--nocapture"])
            .env(CHILD, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap() == "held"));
        let error = Lock::acquire(folder.path()).unwrap_err();
        assert!(matches!(error, Error::Locked { pid, .. } if pid == child.id()), "{error}");
        child.kill().unwrap();
        child.wait().unwrap();
        // It had no time to empty the file: the lock counts, not what the file says.
        assert_ne!(fs::read(folder.path().join(".lock")).unwrap(), b"");
        Lock::acquire(folder.path()).unwrap();
    }
}
