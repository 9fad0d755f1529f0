//! The runs that are shown: their configuration, their epochs so far, and whether they are still under way.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use convnet::train::RunFolder;
use convnet::{Error, Result};
use serde_json::Value;

use crate::sessions::lock;

/// Runs by name.
#[derive(Debug, Default)]
pub(crate) struct Runs(pub(crate) BTreeMap<String, Arc<Run>>);

impl Runs {
    /// Adds the folder of a run.
    pub(crate) fn add(&mut self, name: &str, folder: &Path) -> Result<()> {
        let folder = RunFolder::open(folder)?;
        let run = Run { folder, read: Mutex::default() };
        match self.0.insert(name.to_owned(), Arc::new(run)) {
            None => Ok(()),
            Some(_) => {
                Err(Error::invalid(format!("two runs are called '{name}': name one of them apart, as NAME=PATH")))
            }
        }
    }
}

/// A run, and what has been read of its metrics.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) folder: RunFolder,
    read: Mutex<Read>,
}

#[derive(Debug, Default)]
struct Read {
    /// Length of the file and when it was written; nothing before it is read, or where there is none.
    version: Option<(u64, SystemTime)>,
    /// The whole lines that have been read.
    text: Vec<u8>,
    epochs: Epochs,
}

/// The epochs of a run so far, each the JSON document that its metrics have.
#[derive(Clone, Debug, Default)]
pub(crate) struct Epochs {
    pub(crate) rows: Arc<Vec<Arc<Value>>>,
    /// Counts how often the metrics began anew: a run that is resumed writes the epochs after its checkpoint again.
    pub(crate) beginning: usize,
}

impl Run {
    /// The epochs that there are; what has been read before is not read again. None before the first epoch has ended.
    pub(crate) fn epochs(&self) -> Epochs {
        let (path, mut read) = (self.folder.metrics_jsonl(), lock(&self.read));
        let version = fs::metadata(&path).ok().and_then(|file| Some((file.len(), file.modified().ok()?)));
        if version.is_some() && version == read.version {
            return read.epochs.clone();
        }
        let mut text = fs::read(&path).unwrap_or_default();
        // The last line may be half written.
        text.truncate(text.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1));
        let mut rows = match text.strip_prefix(&read.text[..]) {
            Some(_) => read.epochs.rows.to_vec(),
            None => {
                read.text.clear();
                read.epochs.beginning += 1;
                Vec::new()
            }
        };
        let lines = text[read.text.len()..].split(|&byte| byte == b'\n');
        rows.extend(lines.filter_map(|line| serde_json::from_slice(line).ok()).map(Arc::new));
        let epochs = Epochs { rows: Arc::new(rows), beginning: read.epochs.beginning };
        *read = Read { version, text, epochs: epochs.clone() };
        epochs
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn epochs_are_read_as_they_come_and_anew_when_a_run_is_resumed() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("config.toml"), "").unwrap();
        let run = Run { folder: RunFolder::open(folder.path()).unwrap(), read: Mutex::default() };
        let path = run.folder.metrics_jsonl();
        let numbers = || -> Vec<u64> { run.epochs().rows.iter().map(|row| row["epoch"].as_u64().unwrap()).collect() };
        assert!(numbers().is_empty());
        fs::write(&path, "{\"epoch\": 1}\n{\"epoch\": 2}\n{\"ep").unwrap();
        assert_eq!((numbers(), run.epochs().beginning), (vec![1, 2], 0));
        let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"och\": 3}\n").unwrap();
        assert_eq!((numbers(), run.epochs().beginning), (vec![1, 2, 3], 0));
        fs::write(&path, "{\"epoch\": 1}\n{\"epoch\": 2, \"again\": true}\n").unwrap();
        assert_eq!((numbers(), run.epochs().beginning), (vec![1, 2], 1));
    }
}
