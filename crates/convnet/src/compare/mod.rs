//! Runs side by side: what each came to, which settings differ, and their curves over one another.

mod csv;
mod page;
#[cfg(test)]
mod tests;

use std::path::Path;

use serde::Serialize;

use crate::classifier::Description;
use crate::columns::{duration, thousands};
use crate::train::{EpochMetrics, RunFolder, SETTINGS, Settings, TestResult, TrainConfig, read_metrics};
use crate::weights::safetensors;
use crate::{Error, Result};

/// Some runs. Also the form in which the command line prints them.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// In the order in which they were named.
    pub runs: Vec<ComparedRun>,
    /// Settings whose values are not the same in all runs.
    pub settings: Vec<DifferentSetting>,
}

/// A run and what it came to.
#[derive(Clone, Debug, Serialize)]
pub struct ComparedRun {
    /// Its folder as it was named.
    pub run: String,
    /// Name of its network.
    pub network: String,
    /// The network's trained parameters; unknown before the first epoch has ended.
    pub parameters: Option<u64>,
    /// Epochs that it was to take.
    pub planned_epochs: usize,
    /// The epoch with the best accuracy on the held-out pictures, of equals that with the lowest loss.
    pub best: Option<EpochMetrics>,
    /// What the test pictures came to, once the run has ended.
    pub test: Option<TestResult>,
    /// Time that its epochs took.
    pub seconds: f64,
    /// Each epoch that has ended.
    pub epochs: Vec<EpochMetrics>,
    #[serde(skip)]
    config: TrainConfig,
}

/// A setting and its value in each run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DifferentSetting {
    /// Its key: `optimizer.lr`.
    pub key: &'static str,
    /// In the order of the runs; nothing where it is not set.
    pub values: Vec<Option<String>>,
}

/// Rows of texts under headings, of which the first `names` columns are names and the others numbers.
#[derive(Clone, Debug)]
pub struct Table {
    /// A heading for each column.
    pub headings: Vec<String>,
    /// How many columns are names.
    pub names: usize,
    /// A text for each column.
    pub rows: Vec<Vec<String>>,
}

impl Comparison {
    /// Reads the folders of runs, which may still go on.
    ///
    /// # Errors
    /// A folder that is none of a run, or whose files are damaged.
    pub fn read<P: AsRef<Path>>(runs: &[P]) -> Result<Comparison> {
        let runs = runs.iter().map(|run| ComparedRun::read(run.as_ref())).collect::<Result<Vec<_>>>()?;
        let settings = different(&runs)?;
        Ok(Comparison { runs, settings })
    }

    /// What each run came to, a row each.
    pub fn results(&self) -> Table {
        let headings = ["run", "network", "parameters", "epochs", "best accuracy", "in epoch", "loss"];
        let of_the_last = ["last accuracy", "loss", "training loss", "test accuracy", "time"];
        let headings = headings.iter().chain(&of_the_last).map(|&heading| heading.to_owned());
        Table { headings: headings.collect(), names: 2, rows: self.runs.iter().map(ComparedRun::cells).collect() }
    }

    /// The settings that differ, a row each and a column for each run.
    pub fn settings(&self) -> Table {
        let headings = std::iter::once("setting").chain(self.runs.iter().map(|run| run.run.as_str()));
        let row = |setting: &DifferentSetting| {
            let values = setting.values.iter().map(|value| or_dash(value.clone()));
            std::iter::once(setting.key.to_owned()).chain(values).collect()
        };
        Table {
            headings: headings.map(str::to_owned).collect(),
            names: 1,
            rows: self.settings.iter().map(row).collect(),
        }
    }

    /// The page: curves over one another, what each run came to, and the settings that differ.
    pub fn to_html(&self) -> String {
        page::page(self)
    }

    /// Every epoch of every run as CSV, a line each.
    pub fn to_csv(&self) -> String {
        csv::csv(self)
    }
}

impl ComparedRun {
    fn read(path: &Path) -> Result<ComparedRun> {
        let run = RunFolder::open(path)?;
        let (config, epochs) = (run.config()?, read_metrics(&run.metrics_jsonl())?);
        let measured = epochs.iter().filter(|epoch| epoch.val_accuracy.is_some()).copied();
        let best = measured.reduce(|best, epoch| if epoch.is_better_than(&best) { epoch } else { best });
        Ok(ComparedRun {
            run: path.display().to_string(),
            network: config.net_name(),
            parameters: parameters(&run)?,
            planned_epochs: config.recipe.epochs,
            best,
            test: TestResult::read(&run.test_json())?,
            seconds: epochs.iter().fold(0.0, |sum, epoch| sum + epoch.seconds),
            epochs,
            config,
        })
    }

    /// What it came to, as it stands under the headings of [`Comparison::results`].
    fn cells(&self) -> Vec<String> {
        let accuracy = |epoch: Option<&EpochMetrics>| {
            or_dash(epoch.and_then(|epoch| epoch.val_accuracy).map(|share| format!("{:.2} %", 100.0 * share)))
        };
        let loss = |value: Option<f64>| or_dash(value.map(|loss| format!("{loss:.4}")));
        let (best, last) = (self.best.as_ref(), self.last());
        vec![
            self.run.clone(),
            self.network.clone(),
            or_dash(self.parameters.map(thousands)),
            // A run that went on with fewer epochs than it had made has made them all the same.
            format!("{} of {}", self.epochs.len(), self.planned_epochs.max(self.epochs.len())),
            accuracy(best),
            or_dash(best.map(|epoch| epoch.epoch.to_string())),
            loss(best.and_then(|epoch| epoch.val_loss)),
            accuracy(last),
            loss(last.and_then(|epoch| epoch.val_loss)),
            loss(last.map(|epoch| epoch.train_loss)),
            or_dash(self.test.map(|test| format!("{:.2} %", 100.0 * test.accuracy))),
            duration(self.seconds),
        ]
    }

    /// The last epoch that has ended.
    pub fn last(&self) -> Option<&EpochMetrics> {
        self.epochs.last()
    }
}

/// What stands where there is nothing to say.
fn or_dash(text: Option<String>) -> String {
    text.unwrap_or_else(|| "–".into())
}

/// How many parameters the network has that the run's weights describe, of which the header alone is read.
fn parameters(run: &RunFolder) -> Result<Option<u64>> {
    let path = run.best_safetensors();
    if !path.exists() {
        return Ok(None);
    }
    let description = Description::from_metadata(None, &safetensors::read_metadata(&path)?);
    let description = description.map_err(|error| Error::file(&path, error.to_string()))?;
    Ok(Some(description.net().parameter_count()))
}

fn different(runs: &[ComparedRun]) -> Result<Vec<DifferentSetting>> {
    let settings = |run: &ComparedRun| Settings::from_toml(&run.config.to_toml()?).map_err(Error::invalid);
    let all = runs.iter().map(settings).collect::<Result<Vec<Settings>>>()?;
    let values = |setting| all.iter().map(|settings| settings.text(setting)).collect();
    let each = SETTINGS.iter().map(|setting| DifferentSetting { key: setting.path, values: values(setting) });
    Ok(each.filter(|setting| setting.values.windows(2).any(|two| two[0] != two[1])).collect())
}
