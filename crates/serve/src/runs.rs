//! The runs that are shown: their configuration, their epochs so far, and whether they are still under way.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use convnet::train::RunFolder;
use convnet::{Error, Result};
use serde_json::Value;

/// Runs by name.
#[derive(Debug, Default)]
pub(crate) struct Runs(pub(crate) BTreeMap<String, RunFolder>);

impl Runs {
    /// Adds the folder of a run, under its own name.
    pub(crate) fn add(&mut self, folder: &Path) -> Result<()> {
        let run = RunFolder::open(folder)?;
        let name = run.name();
        match self.0.insert(name.clone(), run) {
            None => Ok(()),
            Some(_) => {
                Err(Error::invalid(format!("two runs are called '{name}': expected different names of folders")))
            }
        }
    }
}

/// The whole lines of a run's metrics, each the JSON document of an epoch; none before its first epoch has ended.
pub(crate) fn epochs(run: &RunFolder) -> Vec<Value> {
    let text = fs::read_to_string(run.metrics_jsonl()).unwrap_or_default();
    // The last line may be half written.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}
