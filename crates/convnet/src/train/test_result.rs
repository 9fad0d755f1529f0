//! `test.json`: what the weights that a run has kept come to on the test pictures. They are shown to the network once, when the
//! run ends, and choose nothing.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::evaluate::Evaluation;
use crate::files::{disk, write_atomic};
use crate::{Error, Result};

/// What the test pictures came to. Also the form in which the command line prints it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TestResult {
    /// The epoch whose weights were measured: the best, or the last where no validation pictures choose.
    pub epoch: usize,
    /// Number of pictures.
    pub images: usize,
    /// Share of these recognised, 0 to 1.
    pub accuracy: f64,
    /// Its 95 % confidence interval.
    pub accuracy_interval: [f64; 2],
    /// Mean cross-entropy; `null` where it is not finite.
    pub loss: Option<f64>,
}

impl TestResult {
    /// The result of weights of an epoch.
    pub(super) fn new(epoch: usize, evaluation: &Evaluation) -> TestResult {
        let Evaluation { images, top1, top1_interval, loss, .. } = *evaluation;
        let loss = Some(loss).filter(|loss| loss.is_finite());
        TestResult { epoch, images, accuracy: top1, accuracy_interval: top1_interval, loss }
    }

    /// Reads a run's file; nothing where the run has not ended, or has no test pictures.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be read; [`Error::File`] when it is of another form.
    pub fn read(path: &Path) -> Result<Option<TestResult>> {
        let text = match fs::read(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            text => text.map_err(Error::io("reading", path))?,
        };
        let result = serde_json::from_slice(&text);
        result.map(Some).map_err(|error| Error::file(path, format!("expected the result of a test: {error}")))
    }

    pub(super) fn write(&self, path: &Path) -> Result<()> {
        write_atomic(path, |out| {
            serde_json::to_writer(&mut *out, self)?;
            out.write_all(b"\n")
        })
    }

    /// Removes the file of a run that goes on.
    pub(super) fn forget(path: &Path) -> Result<()> {
        match path.exists() {
            true => disk::remove_file(path).map_err(Error::io("removing", path)),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_comes_back_and_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("test.json");
        assert_eq!(TestResult::read(&path).unwrap(), None);
        TestResult::forget(&path).unwrap();
        let evaluation =
            Evaluation { images: 8, top1: 0.75, top1_interval: [0.5, 0.875], loss: 0.5, ..Evaluation::default() };
        let result = TestResult::new(3, &evaluation);
        result.write(&path).unwrap();
        assert_eq!(TestResult::read(&path).unwrap(), Some(result));
        let endless = Evaluation { loss: f64::INFINITY, ..evaluation };
        TestResult::new(3, &endless).write(&path).unwrap();
        assert_eq!(TestResult::read(&path).unwrap(), Some(TestResult { loss: None, ..result }));
        fs::write(&path, "{}").unwrap();
        assert!(TestResult::read(&path).unwrap_err().to_string().contains("expected the result of a test"));
        TestResult::forget(&path).unwrap();
        assert!(!path.exists());
    }
}
