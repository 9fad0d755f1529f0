//! The calls by which this crate changes what is on a disk. With the feature `failpoints`, and in this crate's own tests, any
//! of them can be made to fail (as the crate `fail` does it); without, they are the standard library's and nothing else.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

#[cfg(test)]
pub(crate) use self::failpoint::{Fault, with_fault};

/// A file that is written to.
#[derive(Debug)]
pub(crate) struct DiskFile(File);

impl DiskFile {
    /// An empty file, in the place of an older one of that name.
    pub(crate) fn create(path: &Path) -> io::Result<DiskFile> {
        DiskFile::open(File::options().write(true).create(true).truncate(true), path)
    }

    /// A file as the options say.
    pub(crate) fn open(options: &OpenOptions, path: &Path) -> io::Result<DiskFile> {
        failpoint::reach()?;
        options.open(path).map(DiskFile)
    }

    /// Cuts or lengthens it.
    pub(crate) fn set_len(&self, len: u64) -> io::Result<()> {
        failpoint::reach()?;
        self.0.set_len(len)
    }

    /// Returns once everything written is on the disk.
    pub(crate) fn sync(&self) -> io::Result<()> {
        failpoint::reach()?;
        self.0.sync_all()
    }

    /// The file itself, for what is not writing.
    pub(crate) fn file(&mut self) -> &mut File {
        &mut self.0
    }
}

impl Write for DiskFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        failpoint::reach()?;
        self.0.write(failpoint::shortened(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// As [`fs::rename`].
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    failpoint::reach()?;
    fs::rename(from, to)
}

/// As [`fs::remove_file`].
pub(crate) fn remove_file(path: &Path) -> io::Result<()> {
    failpoint::reach()?;
    fs::remove_file(path)
}

/// As [`fs::create_dir`].
pub(crate) fn create_dir(path: &Path) -> io::Result<()> {
    failpoint::reach()?;
    fs::create_dir(path)
}

/// As [`fs::create_dir_all`].
pub(crate) fn create_dir_all(path: &Path) -> io::Result<()> {
    failpoint::reach()?;
    fs::create_dir_all(path)
}

/// Makes the rename of `path` itself last. Only Unix can open a folder to flush it.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    if !cfg!(unix) {
        return Ok(());
    }
    failpoint::reach()?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

#[cfg(not(any(test, feature = "failpoints")))]
mod failpoint {
    #[inline(always)]
    pub(super) fn reach() -> std::io::Result<()> {
        Ok(())
    }

    #[inline(always)]
    pub(super) fn shortened(bytes: &[u8]) -> &[u8] {
        bytes
    }
}

#[cfg(any(test, feature = "failpoints"))]
mod failpoint {
    use std::cell::Cell;
    use std::env;
    use std::io::{self, ErrorKind};

    /// The environment variable that makes a program's call fail: `CONVNET_FAIL_AT=12` the call number 12 of each thread,
    /// counted from 0, `12..` that one and all after it.
    const VARIABLE: &str = "CONVNET_FAIL_AT";

    /// A call that fails.
    #[derive(Clone, Copy, Debug)]
    pub(crate) struct Fault {
        /// How many calls come before it.
        pub(crate) after: u64,
        /// Whether all after it fail, too, as on a full disk.
        pub(crate) lasts: bool,
        /// With which error.
        pub(crate) kind: ErrorKind,
        /// Bytes that a write takes at most.
        pub(crate) longest_write: usize,
    }

    thread_local! {
        static FAULT: Cell<Option<Fault>> = Cell::new(from_environment());
    }

    fn from_environment() -> Option<Fault> {
        let text = env::var(VARIABLE).ok()?;
        let (number, lasts) = text.strip_suffix("..").map_or((text.as_str(), false), |number| (number, true));
        let after = number.parse().ok()?;
        Some(Fault { after, lasts, kind: ErrorKind::Other, longest_write: usize::MAX })
    }

    /// Fails where this is the call that is to fail.
    pub(super) fn reach() -> io::Result<()> {
        let Some(fault) = FAULT.get() else { return Ok(()) };
        if fault.after > 0 {
            FAULT.set(Some(Fault { after: fault.after - 1, ..fault }));
            return Ok(());
        }
        FAULT.set(fault.lasts.then_some(fault));
        Err(io::Error::new(fault.kind, "made to fail by a test"))
    }

    /// What a write takes of these bytes.
    pub(super) fn shortened(bytes: &[u8]) -> &[u8] {
        let longest = FAULT.get().map_or(usize::MAX, |fault| fault.longest_write);
        &bytes[..bytes.len().min(longest)]
    }

    /// Calls `run` with a fault in this thread.
    #[cfg(test)]
    pub(crate) fn with_fault<T>(fault: Fault, run: impl FnOnce() -> T) -> T {
        FAULT.set(Some(fault));
        let result = run();
        FAULT.set(None);
        result
    }
}
