//! `metrics.jsonl`: one line of JSON per epoch, appended and flushed to the disk as soon as the epoch ends. A last line that a
//! kill or a power failure has torn is ignored, and cut when the run goes on.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::Path;

use serde::{Deserialize, Deserializer, Serialize};

use super::progress::is_better;
use crate::files::disk::DiskFile;
use crate::{Error, Result};

/// What an epoch came to. Also the form in which the command line prints it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochMetrics {
    /// Counted from 1.
    pub epoch: usize,
    /// Mean cross-entropy over the training pictures, while they were learned from. NaN is written as `null`.
    #[serde(deserialize_with = "nan_for_null")]
    pub train_loss: f64,
    /// Share of training pictures recognised while they were learned from, 0 to 1.
    pub train_accuracy: f64,
    /// Mean cross-entropy over a sample of the training pictures after the epoch, as they are and measured as the validation
    /// pictures are; `null` where none is measured, or it is not finite.
    #[serde(default)]
    pub train_eval_loss: Option<f64>,
    /// Share of this sample recognised, 0 to 1.
    #[serde(default)]
    pub train_eval_accuracy: Option<f64>,
    /// Mean cross-entropy over the validation pictures after the epoch, or over the test pictures where there are none of
    /// these; `null` where there are neither, or it is not finite.
    pub val_loss: Option<f64>,
    /// Share of these pictures recognised, 0 to 1.
    pub val_accuracy: Option<f64>,
    /// Time the epoch took.
    pub seconds: f64,
    /// Share of the time of the epoch's steps in which training waited for pictures, 0 to 1.
    #[serde(default)]
    pub data_wait: f64,
    /// The same for other processes; there is none where one process trains.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process_wait: Option<f64>,
    /// Pictures learned from in a second, evaluation left out; `null` where that is not finite.
    #[serde(default)]
    pub images_per_second: Option<f64>,
    /// Learning rate of the epoch's last step.
    #[serde(default)]
    pub lr: Option<f64>,
    /// Mean norm of the steps' gradients before they were clipped; `null` where no gradients are.
    #[serde(default)]
    pub grad_norm: Option<f64>,
}

impl EpochMetrics {
    /// Share of the training pictures recognised after the epoch, where that is measured, else while they were learned from.
    pub fn accuracy_in_training(&self) -> f64 {
        self.train_eval_accuracy.unwrap_or(self.train_accuracy)
    }

    /// Whether it is better than the best epoch before it: it recognises more of the validation pictures, or as many with a lower
    /// loss.
    pub fn is_better_than(&self, best: &EpochMetrics) -> bool {
        let rank = |epoch: &EpochMetrics| {
            let accuracy = epoch.val_accuracy.unwrap_or(f64::NEG_INFINITY);
            (accuracy, epoch.val_loss.filter(|loss| loss.is_finite()))
        };
        is_better(rank(self), rank(best))
    }
}

fn nan_for_null<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

/// Appends a line and flushes it to the disk.
///
/// # Errors
/// [`Error::Io`] when the file cannot be written.
pub fn append_metrics(path: &Path, metrics: &EpochMetrics) -> Result<()> {
    let mut line = serde_json::to_vec(metrics).map_err(|e| Error::file(path, e.to_string()))?;
    line.push(b'\n');
    let write = || {
        let mut file = DiskFile::open(File::options().create(true).append(true), path)?;
        file.write_all(&line)?;
        file.sync()
    };
    write().map_err(Error::io("writing", path))
}

/// Reads all lines but a torn last one; none when there is no file yet.
///
/// # Errors
/// [`Error::Io`] when the file cannot be read; [`Error::File`], with its number, for a line that is not an epoch's.
pub fn read_metrics(path: &Path) -> Result<Vec<EpochMetrics>> {
    Ok(parse(path)?.whole.into_iter().map(|(metrics, _)| metrics).collect())
}

/// Prepares to go on after `epoch`: cuts what later epochs and a kill have left, and returns the lines that stay.
///
/// # Errors
/// As [`read_metrics`], and [`Error::Io`] when the file cannot be cut.
pub fn resume_metrics(path: &Path, epoch: usize) -> Result<Vec<EpochMetrics>> {
    let mut lines = parse(path)?.whole;
    let kept = lines.iter().take_while(|(metrics, _)| metrics.epoch <= epoch).count();
    lines.truncate(kept);
    let end = lines.last().map_or(0, |&(_, end)| end);
    let cut = || match DiskFile::open(File::options().write(true), path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        file => {
            let file = file?;
            file.set_len(end)?;
            file.sync()
        }
    };
    cut().map_err(Error::io("writing", path))?;
    Ok(lines.into_iter().map(|(metrics, _)| metrics).collect())
}

/// The number of the last line, counted from 1, where a power failure or a kill has torn it: it does not end, or is no JSON.
/// It is passed over, and cut when the run goes on.
///
/// # Errors
/// As [`read_metrics`].
pub fn torn_line(path: &Path) -> Result<Option<usize>> {
    Ok(parse(path)?.torn)
}

/// The lines of a file.
#[derive(Default)]
struct Lines {
    /// The whole ones, each with the offset at which it ends.
    whole: Vec<(EpochMetrics, u64)>,
    /// The number of a torn last one.
    torn: Option<usize>,
}

fn parse(path: &Path) -> Result<Lines> {
    let text = match fs::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Lines::default()),
        text => text.map_err(Error::io("reading", path))?,
    };
    let (mut end, mut whole) = (0, Vec::new());
    for (line, number) in text.split_inclusive(|&byte| byte == b'\n').zip(1..) {
        end += line.len() as u64;
        let is_last = end == text.len() as u64;
        match serde_json::from_slice(line) {
            _ if !line.ends_with(b"\n") => return Ok(Lines { whole, torn: Some(number) }),
            Ok(metrics) => whole.push((metrics, end)),
            Err(error) if is_last && !error.is_data() => return Ok(Lines { whole, torn: Some(number) }),
            Err(error) => {
                let problem = format!("line {number}: expected the metrics of an epoch: {error}");
                return Err(Error::file(path, problem));
            }
        }
    }
    Ok(Lines { whole, torn: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epoch(epoch: usize) -> EpochMetrics {
        let loss = 1.0 / 3.0 / epoch as f64;
        EpochMetrics {
            epoch,
            train_loss: loss,
            train_accuracy: 0.9,
            train_eval_loss: Some(loss * 0.9),
            train_eval_accuracy: Some(0.92),
            val_loss: Some(loss * 1.1),
            val_accuracy: Some(0.95),
            seconds: 1.5,
            data_wait: 0.25,
            process_wait: None,
            images_per_second: Some(40.0),
            lr: Some(0.125),
            grad_norm: None,
        }
    }

    fn written(count: usize) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        (1..=count).for_each(|i| append_metrics(&path, &epoch(i)).unwrap());
        (folder, path)
    }

    #[test]
    fn lines_come_back_exactly() {
        let (_folder, path) = written(3);
        assert_eq!(read_metrics(&path).unwrap(), [epoch(1), epoch(2), epoch(3)]);
        let text = fs::read_to_string(&path).unwrap();
        assert!(
            text.starts_with(r#"{"epoch":1,"train_loss":0.3333333333333333,"train_accuracy":0.9,"train_eval_loss":"#),
            "{text}"
        );
    }

    #[test]
    fn a_line_torn_anywhere_is_ignored_and_cut_on_resume() {
        let (_folder, path) = written(2);
        let whole = fs::read(&path).unwrap();
        let first = 1 + whole.iter().position(|&b| b == b'\n').unwrap();
        for length in first..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            assert_eq!(read_metrics(&path).unwrap(), [epoch(1)]);
            assert_eq!(resume_metrics(&path, 1).unwrap(), [epoch(1)]);
            append_metrics(&path, &epoch(2)).unwrap();
            assert_eq!(fs::read(&path).unwrap(), whole);
        }
    }

    /// What a file system may leave of a line after a power failure.
    #[test]
    fn a_last_line_of_rubbish_is_torn_as_well() {
        let (_folder, path) = written(2);
        let whole = fs::read(&path).unwrap();
        assert_eq!(torn_line(&path).unwrap(), None);
        for rubbish in
            [&b"\0\0\0\0\0\0\0\0\n"[..], b"{\"epoch\":3,\"train\n", b"\xff\xfe\n", b"\0\0\0", b"{\"epoch\":3,"]
        {
            fs::write(&path, [&whole[..], rubbish].concat()).unwrap();
            assert_eq!((torn_line(&path).unwrap(), read_metrics(&path).unwrap().len()), (Some(3), 2), "{rubbish:?}");
            assert_eq!(resume_metrics(&path, 3).unwrap(), [epoch(1), epoch(2)]);
            assert_eq!(fs::read(&path).unwrap(), whole);
        }
        // In the middle it is damage of another kind.
        fs::write(&path, [b"\0\0\n", &whole[..]].concat()).unwrap();
        assert!(torn_line(&path).unwrap_err().to_string().contains("line 1: expected the metrics"));
    }

    #[test]
    fn resuming_drops_later_epochs() {
        let (_folder, path) = written(4);
        assert_eq!(resume_metrics(&path, 2).unwrap(), [epoch(1), epoch(2)]);
        assert_eq!(read_metrics(&path).unwrap().len(), 2);
        assert_eq!(resume_metrics(&path, 0).unwrap(), []);
        assert_eq!(fs::read(&path).unwrap(), b"");
    }

    #[test]
    fn missing_and_foreign_files() {
        let (folder, path) = written(0);
        assert_eq!(read_metrics(&path).unwrap(), []);
        assert_eq!(resume_metrics(&path, 3).unwrap(), []);
        fs::write(&path, "{\"epoch\":1}\n").unwrap();
        assert!(read_metrics(&path).unwrap_err().to_string().contains("line 1: expected the metrics"));
        assert!(read_metrics(folder.path()).is_err());
    }

    #[test]
    fn nan_survives() {
        let (_folder, path) = written(0);
        append_metrics(&path, &EpochMetrics { train_loss: f64::NAN, val_loss: None, ..epoch(1) }).unwrap();
        let read = read_metrics(&path).unwrap()[0];
        assert!(read.train_loss.is_nan() && read.val_loss.is_none());
    }
}
