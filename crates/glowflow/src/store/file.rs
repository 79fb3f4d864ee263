//! Files that are written whole or not at all, and opened only if they are files.

use std::fs::{self, File, Metadata};
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// What the closure of [`write_atomically`] writes to.
pub type Writer = BufWriter<File>;

/// Writes a file beside `path` and renames it, so that `path` never holds half a file, not even after a power cut.
///
/// On any error the old file is untouched and the new one removed. A symbolic link stays one: what it points to is
/// replaced. An old file's permissions are kept.
///
/// # Errors
///
/// [`Error::Io`] with `path`, whichever file the system complained about; [`Error::File`] where `path` is something
/// other than a file.
pub fn write_atomically(path: &Path, write: impl FnOnce(&mut Writer) -> io::Result<()>) -> Result<()> {
    let old = match fs::metadata(path) {
        Ok(found) => Some(expect_file(path, found)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(Error::io(path)(error)),
    };
    replace(path, old.as_ref(), write).map_err(Error::io(path))
}

fn replace(path: &Path, old: Option<&Metadata>, write: impl FnOnce(&mut Writer) -> io::Result<()>) -> io::Result<()> {
    let target = if old.is_some() { fs::canonicalize(path)? } else { path.to_path_buf() };
    let folder = folder_of(&target)?;

    // The target's own name stays out of the temporary one: together they could be longer than a name may be.
    let mut builder = tempfile::Builder::new();
    builder.prefix(".glowflow-").suffix(".tmp");
    // tempfile's own default keeps everybody else from reading; a result has the rights of any new file (less the umask).
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let (file, temporary) = builder.tempfile_in(&folder)?.into_parts();

    let mut writer = BufWriter::with_capacity(1 << 16, file);
    write(&mut writer)?;
    let file = writer.into_inner().map_err(io::IntoInnerError::into_error)?;
    if let Some(old) = old {
        file.set_permissions(old.permissions())?;
    }
    file.sync_all()?;
    // Windows refuses to rename an open file.
    drop(file);
    temporary.persist(&target)?;
    // The new name lives in the folder: without this a power cut could bring back the old file.
    #[cfg(unix)]
    File::open(&folder)?.sync_all()?;
    Ok(())
}

fn folder_of(path: &Path) -> io::Result<PathBuf> {
    if path.file_name().is_none() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not the name of a file"));
    }
    Ok(match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_path_buf(),
        _ => PathBuf::from("."),
    })
}

/// A file opened for reading, and its length in bytes.
pub(crate) struct OpenFile {
    pub file: File,
    pub len: u64,
}

/// Opens a file that is one: a pipe would block, a device never end.
pub(crate) fn open_file(path: &Path) -> Result<OpenFile> {
    expect_file(path, fs::metadata(path).map_err(Error::io(path))?)?;
    let file = File::open(path).map_err(Error::io(path))?;
    let len = file.metadata().map_err(Error::io(path))?.len();
    Ok(OpenFile { file, len })
}

fn expect_file(path: &Path, found: Metadata) -> Result<Metadata> {
    if found.is_file() {
        return Ok(found);
    }
    let what = if found.is_dir() { "a folder" } else { "something else (a device or a pipe)" };
    Err(Error::file(path, format!("Expected a file but found {what}")))
}

/// An empty buffer with room for `len` bytes; a refusal of the allocator is an [`Error::Io`], not an abort.
pub(crate) fn buffer(path: &Path, len: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    usize::try_from(len)
        .ok()
        .and_then(|len| bytes.try_reserve_exact(len).ok())
        .ok_or_else(|| Error::io(path)(io::ErrorKind::OutOfMemory.into()))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_written_and_replaced_and_nothing_else_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        write_atomically(&path, |writer| writer.write_all(b"first")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"first");
        write_atomically(&path, |writer| writer.write_all(b"second")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"second");
        assert_eq!(names(folder.path()), ["a.txt"]);
    }

    #[test]
    fn an_error_or_a_panic_leaves_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        fs::write(&path, b"old").unwrap();

        let error = write_atomically(&path, |writer| {
            writer.write_all(&[0; 1 << 17])?;
            Err(io::ErrorKind::StorageFull.into())
        })
        .unwrap_err();
        let Error::Io { path: named, source } = &error else { panic!("{error}") };
        assert_eq!((named, source.kind()), (&path, io::ErrorKind::StorageFull));

        let panicked = std::panic::catch_unwind(|| write_atomically(&path, |_| panic!("on purpose")));
        assert!(panicked.is_err());
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(names(folder.path()), ["a.txt"]);
    }

    #[test]
    fn an_error_names_the_target() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("missing/a.txt");
        let error = write_atomically(&path, |_| Ok(())).unwrap_err();
        assert!(matches!(&error, Error::Io { path: named, .. } if *named == path), "{error}");
    }

    #[test]
    fn only_files_are_replaced_and_opened() {
        let folder = tempfile::tempdir().unwrap();
        let error = write_atomically(folder.path(), |_| Ok(())).unwrap_err();
        assert!(error.to_string().ends_with("Expected a file but found a folder"), "{error}");
        assert!(matches!(open_file(folder.path()), Err(Error::File { .. })));
        // Run by root, a rename would replace the device.
        #[cfg(unix)]
        assert!(matches!(write_atomically(Path::new("/dev/null"), |_| Ok(())), Err(Error::File { .. })));
    }

    #[cfg(unix)]
    #[test]
    fn links_and_permissions_stay() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("a.txt"), folder.path().join("link"));
        fs::write(&path, b"old").unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
        symlink("a.txt", &link).unwrap();
        write_atomically(&link, |writer| writer.write_all(b"new")).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    }

    #[cfg(unix)]
    #[test]
    fn a_new_file_has_the_rights_of_any_new_file() {
        let folder = tempfile::tempdir().unwrap();
        let (ours, plain) = (folder.path().join("ours"), folder.path().join("plain"));
        write_atomically(&ours, |_| Ok(())).unwrap();
        fs::write(&plain, b"").unwrap();
        assert_eq!(fs::metadata(&ours).unwrap().permissions(), fs::metadata(&plain).unwrap().permissions());
    }

    #[test]
    fn a_buffer_that_cannot_be_had_is_an_error() {
        let error = buffer(Path::new("a.bin"), u64::MAX).unwrap_err();
        assert!(matches!(error, Error::Io { source, .. } if source.kind() == io::ErrorKind::OutOfMemory));
        assert_eq!(buffer(Path::new("a.bin"), 0).unwrap().len(), 0);
    }
}
