//! Files that are either whole or absent: content goes to a temporary file in the same folder, is flushed to the disk,
//! takes its name by a rename, and the folder is flushed too. Whatever fails, and even when the process is killed, the
//! old file stays readable; only a kill can leave the temporary (`.<name>.tmp`) behind, the next write reuses it, and
//! `remove_temporaries` clears a folder of them.

use std::ffi::OsString;
use std::fs;
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

pub(crate) mod disk;

use self::disk::DiskFile;
pub(crate) use self::disk::sync_folder;
use crate::{Error, Result};

/// Writes a file atomically; an older one of that name is replaced.
///
/// # Errors
/// [`Error::Io`] when the folder is missing or read-only, the disk is full, or `fill` fails; then the older file is as it was,
/// or, where nothing but the flush of the folder has failed, replaced.
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("notes.txt");
/// convnet::files::write_atomic(&path, |out| out.write_all(b"whole or absent")).unwrap();
/// assert_eq!(std::fs::read(&path).unwrap(), b"whole or absent");
/// ```
pub fn write_atomic(path: &Path, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    replace(path, None, fill)
}

/// As [`write_atomic`], but an older file of that name is kept as `previous`. At any moment at least one of the two is
/// whole, if one was before.
///
/// # Errors
/// As [`write_atomic`].
pub fn write_atomic_keeping(
    path: &Path,
    previous: &Path,
    fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<()> {
    replace(path, Some(previous), fill)
}

/// The one way in which files are replaced.
fn replace(path: &Path, previous: Option<&Path>, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    let write = || {
        let mut replacement = Replacement::begin(path)?;
        fill(&mut replacement.writer)?;
        replacement.finish(previous)
    };
    write().map_err(failed(path))
}

/// A file that is written piece by piece, and takes its name once it is whole: dropped before that, it leaves nothing.
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("notes.txt");
/// use std::io::Write;
/// let mut file = convnet::files::AtomicFile::create(&path).unwrap();
/// file.write_all(b"whole or ").unwrap();
/// assert!(!path.exists());
/// file.write_all(b"absent").unwrap();
/// file.finish().unwrap();
/// assert_eq!(std::fs::read(&path).unwrap(), b"whole or absent");
/// ```
#[derive(Debug)]
pub struct AtomicFile {
    path: PathBuf,
    replacement: Replacement,
}

impl AtomicFile {
    /// Begins a file, in the place of an older one of that name once it is finished.
    ///
    /// # Errors
    /// [`Error::Io`] when the folder is missing or read-only, or `path` is a folder.
    pub fn create(path: &Path) -> Result<AtomicFile> {
        let replacement = Replacement::begin(path).map_err(failed(path))?;
        Ok(AtomicFile { path: path.into(), replacement })
    }

    /// Flushes it to the disk and gives it its name.
    ///
    /// # Errors
    /// [`Error::Io`] when the disk is full; then nothing has changed.
    pub fn finish(self) -> Result<()> {
        self.replacement.finish(None).map_err(failed(&self.path))
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.replacement.writer.write(bytes).map_err(advise)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.replacement.writer.flush().map_err(advise)
    }
}

/// For `map_err`: an error of writing this file, with what to do about it.
fn failed(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let error = Error::io("writing", path);
    move |source| error(advise(source))
}

/// A file under its temporary name, which is closed before that is removed.
#[derive(Debug)]
struct Replacement {
    path: PathBuf,
    writer: BufWriter<DiskFile>,
    temporary: Temporary,
}

impl Replacement {
    fn begin(path: &Path) -> io::Result<Replacement> {
        if path.is_dir() {
            return Err(io::Error::new(ErrorKind::IsADirectory, "expected a file, found a folder of that name"));
        }
        let temporary = Temporary::beside(path)?;
        let writer = BufWriter::new(DiskFile::create(&temporary.0)?);
        Ok(Replacement { path: path.into(), writer, temporary })
    }

    fn finish(self, previous: Option<&Path>) -> io::Result<()> {
        let Replacement { path, writer, temporary } = self;
        let file = writer.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync()?;
        drop(file);
        let kept = previous.filter(|_| path.exists());
        if let Some(previous) = kept {
            disk::rename(&path, previous)?;
        }
        disk::rename(&temporary.0, &path).inspect_err(|_| {
            if let Some(previous) = kept {
                // Where this fails, too, the older file is still there, under its other name.
                let _ = disk::rename(previous, &path);
            }
        })?;
        sync_folder(&path)
    }
}

/// Name of the temporary file; removed on drop, which does nothing once it has been renamed.
#[derive(Debug)]
struct Temporary(PathBuf);

impl Temporary {
    fn beside(path: &Path) -> io::Result<Temporary> {
        let name = path.file_name().ok_or_else(|| io::Error::new(ErrorKind::InvalidInput, "expected a file's name"))?;
        let mut hidden = OsString::from(".");
        hidden.push(name);
        hidden.push(".tmp");
        Ok(Temporary(path.with_file_name(hidden)))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // Nothing can be done about a failure here, and the error that led here is the one to report.
        let _ = fs::remove_file(&self.0);
    }
}

/// Removes the temporary files that kills have left in a folder, into which nobody else may be writing.
///
/// # Errors
/// [`Error::Io`] when the folder cannot be read, or one of them not be removed.
pub(crate) fn remove_temporaries(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(Error::io("reading", folder))? {
        let entry = entry.map_err(Error::io("reading", folder))?;
        let name = entry.file_name();
        let is_temporary = name.to_str().is_some_and(|name| name.starts_with('.') && name.ends_with(".tmp"));
        if is_temporary {
            disk::remove_file(&entry.path()).map_err(Error::io("removing", entry.path()))?;
        }
    }
    Ok(())
}

/// Adds what to do to the errors that a user can mend.
fn advise(error: io::Error) -> io::Error {
    let advice = match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            "the disk is full; free some space and try again, files written before are intact"
        }
        ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied => "choose a folder that can be written to",
        ErrorKind::NotFound | ErrorKind::NotADirectory => "the folder does not exist; create it first",
        _ => return error,
    };
    io::Error::new(error.kind(), format!("{error}: {advice}"))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::disk::{Fault, with_fault};
    use super::*;

    /// Calls `attempt` with its first, second, … call failing, until it makes no more; how many failed. Writes are short.
    pub(crate) fn each_fault(
        kind: ErrorKind,
        mut attempt: impl FnMut() -> Result<()>,
        mut check: impl FnMut(Error),
    ) -> usize {
        let faults = (0..).take_while(|&nth| {
            let fault = Fault { after: nth / 2, lasts: nth % 2 == 1, kind, longest_write: 1000 };
            with_fault(fault, &mut attempt).map_err(&mut check).is_err()
        });
        faults.count()
    }

    /// Names in a folder, sorted.
    pub(crate) fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_fault_at_any_call_leaves_the_old_file_and_no_temporary() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("last");
        for kind in [ErrorKind::StorageFull, ErrorKind::Other] {
            fs::write(&path, "old").unwrap();
            let fill = |out: &mut dyn Write| (0..30).try_for_each(|i| out.write_all(&[i; 997]));
            let faults = each_fault(
                kind,
                || write_atomic(&path, fill),
                |error| {
                    assert!(error.to_string().starts_with("writing "), "{error}");
                    assert_eq!(kind == ErrorKind::StorageFull, error.to_string().contains("free some space"));
                    assert_eq!(names(folder.path()), ["last"]);
                    // The flush of the folder comes after the rename.
                    let content = fs::read(&path).unwrap();
                    assert!(content == b"old" || content.len() == 30 * 997);
                },
            );
            assert!(faults > 30, "writes, flush and renames were all to fail once: {faults}");
            assert_eq!(fs::read(&path).unwrap().len(), 30 * 997);
        }
    }

    #[test]
    fn temporaries_alone_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        for name in [".sample.png.tmp", ".last.tmp", ".lock", "last", "own.tmp"] {
            fs::write(folder.path().join(name), "half").unwrap();
        }
        remove_temporaries(folder.path()).unwrap();
        assert_eq!(names(folder.path()), [".lock", "last", "own.tmp"]);
    }

    #[test]
    fn a_file_that_is_not_finished_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "old").unwrap();
        let mut file = AtomicFile::create(&path).unwrap();
        file.write_all(b"half").unwrap();
        drop(file);
        assert_eq!((names(folder.path()), fs::read(&path).unwrap()), (vec!["file".to_owned()], b"old".to_vec()));
        let missing = AtomicFile::create(&folder.path().join("missing/file")).map(drop).unwrap_err().to_string();
        assert!(missing.contains("create it first"), "{missing}");
    }

    #[test]
    fn a_failing_fill_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        assert!(write_atomic(&path, |_| Err(ErrorKind::Other.into())).is_err());
        assert!(names(folder.path()).is_empty());
    }

    #[test]
    fn the_older_file_is_kept_under_its_other_name() {
        let folder = tempfile::tempdir().unwrap();
        let (path, previous) = (folder.path().join("last"), folder.path().join("previous"));
        for content in ["1", "2", "3"] {
            write_atomic_keeping(&path, &previous, |out| out.write_all(content.as_bytes())).unwrap();
        }
        assert_eq!((fs::read(&path).unwrap(), fs::read(&previous).unwrap()), (b"3".to_vec(), b"2".to_vec()));
    }

    #[test]
    fn impossible_places_are_refused_with_advice() {
        let folder = tempfile::tempdir().unwrap();
        let message = |path: &Path| write_atomic(path, |_| Ok(())).unwrap_err().to_string();
        assert!(message(&folder.path().join("missing/file")).contains("create it first"));
        assert!(message(folder.path()).contains("found a folder"));
        assert!(message(Path::new("")).contains("expected a file's name"));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_full_disk_is_explained() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::os::unix::fs::symlink("/dev/full", folder.path().join(".file.tmp")).unwrap();
        let error = write_atomic(&path, |out| out.write_all(b"x")).unwrap_err();
        assert!(error.to_string().contains("the disk is full"), "{error}");
    }
}
