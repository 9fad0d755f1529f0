//! One training at a time in a folder: a lock of the operating system on a file in it, which ends with the process that holds
//! it, however that ends. The file stays.

use std::fs::{File, TryLockError};
use std::io::{Read, Write};
use std::path::Path;
use std::thread;
use std::time::Duration;

use crate::files::disk::DiskFile;
use crate::{Error, Result};

/// The file in a run's folder.
pub(super) const FILE: &str = ".lock";
/// How often, and after how long, a lock is asked for again.
const PATIENCE: u32 = 5;
const MOMENT: Duration = Duration::from_millis(20);

/// The right to write into a run's folder, until it is dropped.
#[derive(Debug)]
pub(super) struct RunLock {
    _file: DiskFile,
}

impl RunLock {
    /// Takes it. Where the file system knows no locks there is none, and nobody is kept out.
    ///
    /// # Errors
    /// [`Error::Locked`] when another process, or another trainer of this one, has it.
    pub(super) fn take(folder: &Path) -> Result<RunLock> {
        let path = folder.join(FILE);
        let open = DiskFile::open(File::options().read(true).write(true).create(true).truncate(false), &path);
        let mut file = open.map_err(Error::io("opening", &path))?;
        match taken(file.file()) {
            Ok(()) => {
                let written = file.set_len(0).and_then(|()| write!(file, "process {}", std::process::id()));
                written.map_err(Error::io("writing", &path))?;
            }
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Who it is helps, but is not needed to say that there is somebody.
                let _ = Read::by_ref(file.file()).take(100).read_to_string(&mut holder);
                return Err(Error::Locked { folder: folder.into(), holder });
            }
            Err(TryLockError::Error(_)) => {}
        }
        Ok(RunLock { _file: file })
    }
}

/// Takes the lock; [`is_held`] may have it for a moment.
fn taken(file: &File) -> Result<(), TryLockError> {
    for _ in 0..PATIENCE {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => thread::sleep(MOMENT),
            taken => return taken,
        }
    }
    file.try_lock()
}

/// Whether another process, or another trainer of this one, has it.
pub(super) fn is_held(folder: &Path) -> bool {
    // The lock that is taken here for a moment is shared, so that one look does not keep another away.
    File::open(folder.join(FILE)).is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_holder_who_is_named_to_others() {
        let folder = tempfile::tempdir().unwrap();
        let first = RunLock::take(folder.path()).unwrap();
        let second = RunLock::take(folder.path()).unwrap_err();
        let process = format!("process {}", std::process::id());
        assert!(matches!(&second, Error::Locked { holder, .. } if *holder == process), "{second}");
        assert!(is_held(folder.path()) && !is_held(&folder.path().join("none")));
        drop(first);
        RunLock::take(folder.path()).unwrap();
        assert!(!is_held(folder.path()));
    }
}
