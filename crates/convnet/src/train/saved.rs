//! What a run leaves in its folder while it is trained: metrics, curves, the best weights, a checkpoint, pictures.
//!
//! A checkpoint (`last.safetensors`) holds weights, optimizer state and [`Progress`], and as strings the description of
//! the classifier and the configuration. Where a moving average is kept, the weights are the average, as everything that reads a
//! run expects, and those that are trained stand in the optimizer state.

use std::collections::BTreeMap;
use std::time::Duration;

use super::lock::RunLock;
#[cfg(feature = "plots")]
use super::plots;
use super::tensorboard::write_events;
use super::{EpochMetrics, Progress, RunFolder, TrainConfig, append_metrics, read_metrics, resume_metrics, summary};
use crate::classifier::{Classifier, Description};
use crate::data::{Dataset, picture};
use crate::files::{disk, remove_temporaries, write_atomic};
use crate::weights::{self, Checkpoint, Recovered, previous_path};
use crate::{Error, Result, StateDict};

/// Metadata key of the [`Progress`], as JSON.
const PROGRESS_KEY: &str = "progress";
/// Metadata key of the number of training pictures, by which another data set shows.
pub(super) const IMAGES_KEY: &str = "train_images";
/// And of how many pictures were held out of the training part.
pub(super) const HELD_OUT_KEY: &str = "held_out_images";

/// Before the names of weights that are trained, among the optimizer's tensors, where the weights are an average of them.
const TRAINED: &str = "trained.";

/// Time after which a checkpoint is due, unless the configuration says steps.
const CHECKPOINT_TIME: Duration = Duration::from_secs(600);

/// A run's folder, which nobody else writes into, and the configuration that is written into it.
pub(super) struct Saved {
    pub(super) folder: RunFolder,
    pub(super) config: TrainConfig,
    _lock: RunLock,
}

/// Where a run stood.
pub(super) struct Restored {
    /// With the weights that are trained.
    pub(super) classifier: Classifier,
    /// Their moving average, where there is one.
    pub(super) average: Option<StateDict>,
    pub(super) optimizer: StateDict,
    pub(super) progress: Progress,
    pub(super) epochs: Vec<EpochMetrics>,
}

impl Saved {
    /// Takes a folder for a training, and clears it of files that a kill has left half written.
    ///
    /// # Errors
    /// [`Error::Locked`] when another one is under way there; [`Error::Io`] when it cannot be written to.
    pub(super) fn take(folder: RunFolder, config: TrainConfig) -> Result<Saved> {
        let lock = RunLock::take(folder.path())?;
        remove_temporaries(folder.path())?;
        Ok(Saved { folder, config, _lock: lock })
    }

    /// Whether a checkpoint is due, so many steps and so much time after the last one.
    pub(super) fn is_due(&self, steps: u64, time: Duration) -> bool {
        self.config.output.checkpoint_every.map_or(time >= CHECKPOINT_TIME, |every| steps >= every)
    }

    /// Writes a picture to try the run out with, unless it is there.
    pub(super) fn write_sample(&self, data: &Dataset) -> Result<()> {
        let path = self.folder.sample_png();
        match data.shape()[0] {
            1 | 3 if !path.exists() => picture::write_png(&path, data.shape(), &data.image(0)?),
            _ => Ok(()),
        }
    }

    /// Reads the last checkpoint, or the one before when that is missing or damaged: then the error says why. Nothing where
    /// the run was stopped before its first.
    pub(super) fn restore(&self, train: &Dataset) -> Result<(Option<Restored>, Option<Error>)> {
        let last = self.folder.last_safetensors();
        if !last.exists() && !previous_path(&last).exists() {
            resume_metrics(&self.folder.metrics_jsonl(), 0)?;
            return Ok((None, None));
        }
        let Recovered { checkpoint, path, problem } = Checkpoint::load_or_previous(&last)?;
        let epochs = |progress: &Progress| resume_metrics(&self.folder.metrics_jsonl(), progress.epoch);
        let restored = restored(checkpoint, train, epochs).map_err(|error| Error::file(&path, error.to_string()))?;
        if problem.is_some() {
            // Else the next save would keep the damaged file and drop this one.
            disk::rename(&path, &last).map_err(Error::io("renaming", path))?;
        }
        Ok((Some(restored), problem))
    }

    /// The last checkpoint of a run that another process has the folder of, which stays as it is; nothing before the first.
    pub(super) fn read(folder: &RunFolder, train: &Dataset) -> Result<Option<Restored>> {
        let last = folder.last_safetensors();
        if !last.exists() {
            return Ok(None);
        }
        let Recovered { checkpoint, .. } = Checkpoint::load_or_previous(&last)?;
        let epochs = |progress: &Progress| {
            let epochs = read_metrics(&folder.metrics_jsonl())?;
            Ok(epochs.into_iter().filter(|metrics| metrics.epoch <= progress.epoch).collect())
        };
        restored(checkpoint, train, epochs).map(Some).map_err(|error| Error::file(&last, error.to_string()))
    }

    /// Writes the table of all epochs anew.
    pub(super) fn write_summary(&self, epochs: &[EpochMetrics]) -> Result<()> {
        write_atomic(&self.folder.summary_csv(), |out| out.write_all(summary::table(epochs).as_bytes()))
    }

    /// The best weights so far; nothing where no epoch has ended, or their file has been damaged.
    pub(super) fn best(&self) -> Option<Classifier> {
        let exists = self.folder.best_safetensors().exists();
        exists.then(|| Classifier::of_run(&self.folder)).and_then(Result::ok)
    }

    /// Adds an epoch to the metrics and draws the curves anew.
    pub(super) fn write_epoch(&self, epochs: &[EpochMetrics]) -> Result<()> {
        if let Some(metrics) = epochs.last() {
            append_metrics(&self.folder.metrics_jsonl(), metrics)?;
        }
        self.write_summary(epochs)?;
        if self.config.output.tensorboard {
            write_events(self.folder.path(), epochs)?;
        }
        #[cfg(feature = "plots")]
        plots::curves(&self.folder.curves_png(), epochs)?;
        Ok(())
    }

    /// Writes the best weights so far.
    pub(super) fn save_best(&self, of: &Description, weights: StateDict, metrics: &EpochMetrics) -> Result<StateDict> {
        let mut metadata = self.metadata(of)?;
        metadata.insert("epoch".into(), metrics.epoch.to_string());
        if let Some(accuracy) = metrics.val_accuracy {
            metadata.insert("val_accuracy".into(), accuracy.to_string());
        }
        let best = Checkpoint { weights, optimizer: StateDict::new(), metadata };
        best.save(&self.folder.best_safetensors())?;
        Ok(best.weights)
    }

    /// Writes a checkpoint; the one before it stays beside it. `trained` holds the weights that are trained, where `weights` is
    /// their average.
    pub(super) fn save_last(
        &self,
        of: &Description,
        weights: StateDict,
        (mut optimizer, trained): (StateDict, Option<StateDict>),
        progress: &Progress,
        train: &Dataset,
    ) -> Result<StateDict> {
        let mut metadata = self.metadata(of)?;
        let text = serde_json::to_string(progress).map_err(|e| Error::invalid(e.to_string()))?;
        metadata.insert(PROGRESS_KEY.into(), text);
        metadata.insert(IMAGES_KEY.into(), train.len().to_string());
        metadata.insert(HELD_OUT_KEY.into(), train.held_out().to_string());
        let trained = trained.into_iter().flatten();
        optimizer.extend(trained.map(|(name, tensor)| (format!("{TRAINED}{name}"), tensor)));
        let last = Checkpoint { weights, optimizer, metadata };
        last.save_keeping_previous(&self.folder.last_safetensors())?;
        Ok(last.weights)
    }

    fn metadata(&self, description: &Description) -> Result<BTreeMap<String, String>> {
        let mut metadata = description.metadata();
        metadata.insert("config".into(), self.config.to_toml()?);
        Ok(metadata)
    }
}

/// Where a run stood, with its epochs up to there.
fn restored(
    checkpoint: Checkpoint,
    train: &Dataset,
    epochs: impl FnOnce(&Progress) -> Result<Vec<EpochMetrics>>,
) -> Result<Restored> {
    let progress = read_progress(&checkpoint.metadata, train)?;
    let description = Description::from_metadata(None, &checkpoint.metadata)?;
    if description.classes() != train.classes() {
        return Err(other_classes(description.classes(), train));
    }
    let weights = weights::fitting(description.net(), checkpoint.weights)?;
    let (mut trained, mut optimizer) = (StateDict::new(), StateDict::new());
    for (name, tensor) in checkpoint.optimizer {
        match name.strip_prefix(TRAINED) {
            Some(name) => trained.insert(name.into(), tensor),
            None => optimizer.insert(name, tensor),
        };
    }
    let (weights, average) = match trained.is_empty() {
        true => (weights, None),
        false => (weights::fitting(description.net(), trained)?, Some(weights)),
    };
    let epochs = epochs(&progress)?;
    let classifier = Classifier { description, weights };
    Ok(Restored { classifier, average, optimizer, progress, epochs })
}

/// The classes of the data are not those that a run has learned, in their order.
fn other_classes(learned: &[String], train: &Dataset) -> Error {
    let names = |of: &[String], without: &[String]| {
        let names: Vec<&str> = of.iter().filter(|name| !without.contains(name)).map(String::as_str).take(5).collect();
        if names.is_empty() { "in another order".to_owned() } else { names.join(", ") }
    };
    let (name, now) = (train.name(), train.classes());
    let [missing, found] = [names(learned, now), names(now, learned)];
    Error::invalid(format!(
        "the run has learned other classes than those of '{name}': expected {missing}, found {found}"
    ))
}

/// Where a run stood, if it was trained on these pictures.
fn read_progress(metadata: &BTreeMap<String, String>, train: &Dataset) -> Result<Progress> {
    let text = |key| {
        let missing = || Error::invalid(format!("no checkpoint of a run: it has no '{key}' in its metadata"));
        metadata.get(key).ok_or_else(missing)
    };
    let images = text(IMAGES_KEY)?;
    if *images != train.len().to_string() {
        let problem = format!("the run was trained on {images} pictures, but '{}' has {}", train.name(), train.len());
        return Err(Error::invalid(problem));
    }
    serde_json::from_str(text(PROGRESS_KEY)?).map_err(|e| Error::invalid(format!("metadata '{PROGRESS_KEY}': {e}")))
}
