//! The training loop. For each epoch: shuffled batches, each a step; then the held-out pictures; then the run folder gets
//! the metrics, the curves, the weights if they are the best, and a checkpoint.
//!
//! A checkpoint (`last.safetensors`) holds weights, optimizer state and [`Progress`], and as strings the description of
//! the classifier and the configuration. Order and dropout of a step depend on seed, epoch and step alone, so a run that
//! goes on from a checkpoint ends with the same bits as one that never stopped (with the same number of epochs, where the
//! learning rate's schedule looks at it).

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use super::plots::{self, Prediction};
use super::{EpochMetrics, Progress, RunFolder, TrainConfig, append_metrics, resume_metrics};
use crate::classifier::{Classifier, Description};
use crate::data::{Dataset, Loader, LoaderOptions, Order, Preset, Splits, picture};
use crate::evaluate::{Evaluation, evaluate, ranking};
use crate::exec::{Engine, Inference, Training};
use crate::weights::{self, Checkpoint, Recovered, previous_path, weights_sha256};
use crate::{Error, Result, StateDict};

/// Threads that prepare batches: one is far faster than any training.
const LOADERS: usize = 1;
/// Pictures in `predictions.png`.
const SHOWN: usize = 40;
/// Metadata key of the [`Progress`], as JSON.
const PROGRESS_KEY: &str = "progress";
/// Metadata key of the number of training pictures, by which another data set shows.
const IMAGES_KEY: &str = "train_images";

/// Is told how training goes, and can end it. `()` is one that does nothing.
pub trait Observer {
    /// A step has been made, with this loss over its batch.
    fn step(&mut self, _progress: &Progress, _loss: f64) {}

    /// So many of the held-out pictures have been looked at after an epoch.
    fn evaluated(&mut self, _images: usize) {}

    /// An epoch has ended, and its checkpoint is written. It learned from so many pictures in a second.
    fn epoch(&mut self, _metrics: &EpochMetrics, _images_per_second: f64) {}

    /// Whether to stop now, with a checkpoint. Asked after every step and every batch of held-out pictures.
    fn stop(&mut self) -> bool {
        false
    }
}

impl Observer for () {}

/// Why training ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// All epochs are done.
    Finished,
    /// The configuration's `max_steps` have been made.
    MaxSteps,
    /// The observer wanted it.
    Stopped,
}

/// What training came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Why it ended.
    pub ending: Ending,
    /// Every epoch of the run.
    pub epochs: Vec<EpochMetrics>,
    /// Where the run stands.
    pub progress: Progress,
    /// Of the last weights.
    pub weights_sha256: String,
}

/// A run that can be trained.
pub struct Trainer {
    config: TrainConfig,
    description: Description,
    train: Arc<Dataset>,
    test: Arc<Dataset>,
    engine: Engine,
    training: Training,
    progress: Progress,
    epochs: Vec<EpochMetrics>,
    run: RunFolder,
}

impl Trainer {
    /// Begins a run, in `out` or else in the next folder of `runs/`. The folder is made once everything else is in order.
    ///
    /// # Errors
    /// When net and data do not fit together, or the folder cannot be made.
    pub fn begin(config: TrainConfig, splits: Splits, engine: &Engine, out: Option<&Path>) -> Result<Trainer> {
        let trainer = Trainer::untrained(config, splits, engine, |config| match out {
            Some(path) => RunFolder::create(path, config),
            None => RunFolder::create_next(config),
        })?;
        if matches!(trainer.test.shape()[0], 1 | 3) {
            picture::write_png(&trainer.run.sample_png(), trainer.test.shape(), trainer.test.image(0))?;
        }
        Ok(trainer)
    }

    /// Goes on with a run from its last checkpoint, or from its beginning when it was killed before the first. `config` is
    /// the run's own, in which `epochs`, `max_steps`, `threads`, `conv` and `data` may be others. When the last checkpoint is
    /// missing or damaged and the previous one took its place, the error beside the trainer says why.
    ///
    /// # Errors
    /// When neither checkpoint can be loaded, or the data do not fit.
    pub fn resume(
        run: RunFolder,
        config: TrainConfig,
        splits: Splits,
        engine: &Engine,
    ) -> Result<(Trainer, Option<Error>)> {
        let last = run.last_safetensors();
        let (mut trainer, problem) = if last.exists() || previous_path(&last).exists() {
            let Recovered { checkpoint, path, problem } = Checkpoint::load_or_previous(&last)?;
            let trainer = Trainer::restored(config, splits, engine, run, checkpoint);
            let trainer = trainer.map_err(|error| Error::file(&path, error.to_string()))?;
            if problem.is_some() {
                // Else the next save would keep the damaged file and drop this one.
                fs::rename(&path, &last).map_err(Error::io("renaming", path))?;
            }
            (trainer, problem)
        } else {
            (Trainer::untrained(config, splits, engine, |_| Ok(run))?, None)
        };
        trainer.run.write_config(&trainer.config)?;
        trainer.epochs = resume_metrics(&trainer.run.metrics_jsonl(), trainer.progress.epoch)?;
        Ok((trainer, problem))
    }

    fn untrained(
        config: TrainConfig,
        splits: Splits,
        engine: &Engine,
        folder: impl FnOnce(&TrainConfig) -> Result<RunFolder>,
    ) -> Result<Trainer> {
        let (shape, classes) = (splits.train.shape(), splits.train.classes());
        if let [only] = classes {
            let name = splits.train.name();
            let problem = format!("data set '{name}': expected at least two classes to tell apart, got one ('{only}')");
            return Err(Error::invalid(problem));
        }
        let net = config.build(shape, classes.len())?;
        let weights = weights::init(&net, config.seed);
        let description = Description::from_preset(net, Preset::Lecture)?.with_classes(classes.to_vec())?;
        Trainer::new(config, splits, engine, Classifier { description, weights }, folder)
    }

    fn restored(
        config: TrainConfig,
        splits: Splits,
        engine: &Engine,
        run: RunFolder,
        checkpoint: Checkpoint,
    ) -> Result<Trainer> {
        let progress = read_progress(&checkpoint.metadata, &splits.train)?;
        let description = Description::from_metadata(None, &checkpoint.metadata)?;
        let weights = weights::fitting(description.net(), checkpoint.weights)?;
        let mut trainer = Trainer::new(config, splits, engine, Classifier { description, weights }, |_| Ok(run))?;
        trainer.training.restore(&checkpoint.optimizer, progress.step)?;
        trainer.progress = progress;
        Ok(trainer)
    }

    fn new(
        config: TrainConfig,
        Splits { train, test }: Splits,
        engine: &Engine,
        Classifier { description, weights }: Classifier,
        folder: impl FnOnce(&TrainConfig) -> Result<RunFolder>,
    ) -> Result<Trainer> {
        description.check_data(&train)?;
        description.check_data(&test)?;
        let batch = config.batch_size.min(train.len());
        let training = Training::new(description.net(), engine, batch, &weights, config.update(), config.seed)?;
        Ok(Trainer {
            run: folder(&config)?,
            config,
            description,
            train: Arc::new(train),
            test: Arc::new(test),
            engine: engine.clone(),
            training,
            progress: Progress::default(),
            epochs: Vec::new(),
        })
    }

    /// Trains until all epochs are done, or something ends it before.
    ///
    /// # Errors
    /// When a file cannot be written, or the loss is no longer a number: then the last checkpoint stays as it is.
    pub fn fit(mut self, observer: &mut dyn Observer) -> Result<Outcome> {
        let total = (self.config.epochs * self.train.len().div_ceil(self.config.batch_size)) as u64;
        while self.progress.epoch < self.config.epochs && !self.has_max_steps() {
            let mut clock = Instant::now();
            for batch in self.batches()? {
                let lr = self.config.lr * self.config.schedule.factor(self.progress.step, total);
                let step = self.training.step(batch.images(), batch.labels(), lr as f32)?;
                self.progress.add(step, batch.len(), clock.elapsed().as_secs_f64());
                clock = Instant::now();
                self.expect_finite(step.loss, "loss")?;
                observer.step(&self.progress, step.loss);
                if observer.stop() {
                    return self.end(Ending::Stopped);
                }
                if self.has_max_steps() && self.progress.images < self.train.len() {
                    return self.end(Ending::MaxSteps);
                }
            }
            let weights = self.weights()?;
            let Some(evaluation) = self.evaluate(&weights, observer)? else { return self.end(Ending::Stopped) };
            self.end_epoch(weights, &evaluation, observer)?;
        }
        let ending = if self.progress.epoch < self.config.epochs { Ending::MaxSteps } else { Ending::Finished };
        self.end(ending)
    }

    /// What the running epoch has yet to learn from, in its order.
    fn batches(&self) -> Result<Loader> {
        let order = Order::Shuffled { seed: self.config.seed, epoch: self.progress.epoch as u64 };
        let (batch_size, start_batch) = (self.config.batch_size, self.progress.batch);
        let options = LoaderOptions { batch_size, order, start_batch, workers: LOADERS };
        Loader::new(Arc::clone(&self.train), self.description.normalization(), options)
    }

    fn has_max_steps(&self) -> bool {
        self.config.max_steps.is_some_and(|most| self.progress.step >= most)
    }

    /// Shows the held-out pictures to the net, unless the observer breaks it off.
    fn evaluate(&self, weights: &StateDict, observer: &mut dyn Observer) -> Result<Option<Evaluation>> {
        let mut watch = |images| {
            observer.evaluated(images);
            if observer.stop() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        evaluate(&self.description, weights, &self.test, &self.engine, self.config.batch_size, &mut watch)
    }

    /// The checkpoint comes last: a kill before it leaves the epoch to be done again.
    fn end_epoch(&mut self, weights: StateDict, evaluation: &Evaluation, observer: &mut dyn Observer) -> Result<()> {
        let images_per_second = self.progress.images_per_second();
        let (metrics, best) = self.progress.end_epoch(evaluation);
        append_metrics(&self.run.metrics_jsonl(), &metrics)?;
        self.epochs.push(metrics);
        plots::curves(&self.run.curves_png(), &self.epochs)?;
        let weights = if best { self.save_best(weights)? } else { weights };
        self.save_last(weights)?;
        observer.epoch(&metrics, images_per_second);
        Ok(())
    }

    /// Ends training: with a checkpoint when an epoch is under way, and with pictures unless somebody wants it to stop.
    fn end(self, ending: Ending) -> Result<Outcome> {
        let weights = self.weights()?;
        let weights_sha256 = weights_sha256(&weights);
        let weights = if self.progress.batch > 0 { self.save_last(weights)? } else { weights };
        if ending != Ending::Stopped {
            self.draw_predictions(&weights)?;
        }
        Ok(Outcome { ending, epochs: self.epochs, progress: self.progress, weights_sha256 })
    }

    /// The weights as they are now, if they are numbers.
    fn weights(&self) -> Result<StateDict> {
        let weights = self.training.weights();
        for (name, tensor) in &weights {
            if let Some(&value) = tensor.data().iter().find(|value| !value.is_finite()) {
                self.expect_finite(value.into(), &format!("tensor '{name}'"))?;
            }
        }
        Ok(weights)
    }

    fn expect_finite(&self, value: f64, what: &str) -> Result<()> {
        if value.is_finite() {
            return Ok(());
        }
        let (last, Progress { step, epoch, .. }) = (self.run.last_safetensors(), self.progress);
        let kept = if last.exists() { format!(" {} is from before.", last.display()) } else { String::new() };
        Err(Error::invalid(format!(
            "the {what} is {value} after step {step}, in epoch {}: training has diverged. Try a smaller learning rate \
             than {} (--lr).{kept}",
            epoch + 1,
            self.config.lr
        )))
    }

    fn save_best(&self, weights: StateDict) -> Result<StateDict> {
        let Progress { best_epoch, best_accuracy, .. } = self.progress;
        let mut metadata = self.metadata()?;
        metadata.insert("epoch".into(), best_epoch.to_string());
        metadata.insert("val_accuracy".into(), best_accuracy.to_string());
        let best = Checkpoint { weights, optimizer: StateDict::new(), metadata };
        best.save(&self.run.best_safetensors())?;
        Ok(best.weights)
    }

    fn save_last(&self, weights: StateDict) -> Result<StateDict> {
        let mut metadata = self.metadata()?;
        let progress = serde_json::to_string(&self.progress).map_err(|e| Error::invalid(e.to_string()))?;
        metadata.insert(PROGRESS_KEY.into(), progress);
        metadata.insert(IMAGES_KEY.into(), self.train.len().to_string());
        let last = Checkpoint { weights, optimizer: self.training.optimizer_state(), metadata };
        last.save_keeping_previous(&self.run.last_safetensors())?;
        Ok(last.weights)
    }

    fn metadata(&self) -> Result<BTreeMap<String, String>> {
        let mut metadata = self.description.metadata();
        metadata.insert("config".into(), self.config.to_toml()?);
        Ok(metadata)
    }

    /// Draws what the net sees in the first held-out pictures.
    fn draw_predictions(&self, weights: &StateDict) -> Result<()> {
        let (shape, classes) = (self.test.shape(), self.description.classes());
        if !matches!(shape[0], 1 | 3) {
            return Ok(());
        }
        let description = &self.description;
        let options = LoaderOptions { batch_size: SHOWN, order: Order::Sequential, start_batch: 0, workers: LOADERS };
        let mut loader = Loader::new(Arc::clone(&self.test), description.normalization(), options)?;
        let Some(batch) = loader.next() else { return Ok(()) };
        let mut inference = Inference::new(description.net(), &self.engine, batch.len(), weights)?;
        let logits = inference.run(batch.images(), batch.len())?.chunks_exact(classes.len());
        let seen = logits.zip(batch.labels()).enumerate().map(|(index, (logits, &label))| Prediction {
            pixels: self.test.image(index),
            predicted: &classes[ranking(logits)[0]],
            truth: &classes[label as usize],
        });
        plots::predictions(&self.run.predictions_png(), shape, &seen.collect::<Vec<_>>())
    }

    /// The resolved configuration.
    pub fn config(&self) -> &TrainConfig {
        &self.config
    }

    /// The net and how it is used.
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// What it learns from.
    pub fn train_data(&self) -> &Dataset {
        &self.train
    }

    /// What it is judged on.
    pub fn test_data(&self) -> &Dataset {
        &self.test
    }

    /// The folder of the run.
    pub fn run(&self) -> &RunFolder {
        &self.run
    }

    /// Where the run stands.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }
}

/// Where a run stood, if it learned from these pictures.
fn read_progress(metadata: &BTreeMap<String, String>, train: &Dataset) -> Result<Progress> {
    let text = |key| {
        let missing = || Error::invalid(format!("no checkpoint of a run: it has no '{key}' in its metadata"));
        metadata.get(key).ok_or_else(missing)
    };
    let images = text(IMAGES_KEY)?;
    if *images != train.len().to_string() {
        let problem = format!("the run learned from {images} pictures, but '{}' has {}", train.name(), train.len());
        return Err(Error::invalid(problem));
    }
    serde_json::from_str(text(PROGRESS_KEY)?).map_err(|e| Error::invalid(format!("metadata '{PROGRESS_KEY}': {e}")))
}
