//! The training loop. For each epoch: shuffled batches, each a step; then the validation pictures and a sample of those that are
//! trained on; then, where the run has a folder, the metrics, the curves, the weights if they are the best, and a checkpoint.
//!
//! Order and dropout of a step depend on seed, epoch and step alone, so a run that goes on from a checkpoint ends with the
//! same bits as one that never stopped (with the same number of epochs, where the learning-rate schedule looks at it).

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::learning::Learned;
use super::planning::{groups, plan, takes_statistics};
use super::progress::Found;
use super::saved::Saved;
use super::targets::TargetMaker;
use super::{EpochMetrics, Prepared, Progress, Recipe, RunFolder, Schedule, TestResult, TrainConfig};
use crate::classifier::{Classifier, Description};
use crate::data::{Dataset, Order, Part, Splits};
use crate::distributed::{Processes, Shards};
use crate::evaluate::{Evaluation, Measurement};
use crate::exec::{Engine, Training};
use crate::weights::weights_sha256;
use crate::{Error, Result, StateDict};

/// Is told how training goes, and can end it. `()` is one that does nothing.
pub trait Observer {
    /// A step has been made, with this loss over its batch.
    fn step(&mut self, _progress: &Progress, _loss: f64) {}

    /// So many of the validation pictures have been evaluated after an epoch.
    fn evaluated(&mut self, _images: usize) {}

    /// An epoch has ended, and its checkpoint is written. It trained on so many pictures in a second.
    fn epoch(&mut self, _metrics: &EpochMetrics, _images_per_second: f64) {}

    /// The running statistics of batch norm lag behind the weights, by so many nats, and are taken anew from so many batches.
    fn lagging(&mut self, _gap: f64, _batches: usize) {}

    /// From this epoch on, counted from 1, these layers are trained, too.
    fn unfrozen(&mut self, _epoch: usize, _layers: &[String]) {}

    /// These pictures of the training set are damaged, as was found when they were decoded in the epoch that has ended.
    fn damaged(&mut self, _pictures: &[String]) {}

    /// Whether to stop now, with a checkpoint. Asked after every step and every batch of validation pictures.
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
    /// The recipe's `max_steps` have been made.
    MaxSteps,
    /// The accuracy on the validation pictures has not become better for the recipe's `patience`.
    OutOfPatience,
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
    /// The hash of the last weights, which are the moving average where one is kept.
    pub weights_sha256: String,
    /// What the weights that are kept came to on the test pictures, which were measured once and chose nothing; nothing where
    /// there are none, no epoch has ended, or the observer has stopped the run.
    pub test: Option<TestResult>,
    best: Best,
}

/// Where the best weights are.
#[derive(Clone, Debug)]
enum Best {
    Here(Box<Classifier>),
    In(RunFolder),
}

impl Outcome {
    /// The net with its best weights: those of the epoch with the best accuracy on the validation pictures, and of equals the lowest
    /// loss; else the last.
    ///
    /// # Errors
    /// As [`Classifier::of_run`], where the run has a folder.
    pub fn classifier(&self) -> Result<Classifier> {
        match &self.best {
            Best::Here(classifier) => Ok((**classifier).clone()),
            Best::In(folder) => Classifier::of_run(folder),
        }
    }
}

/// Trains a classifier.
///
/// ```
/// use convnet::data::{Dataset, Splits};
/// use convnet::prelude::*;
/// use convnet::train::{Recipe, Trainer};
/// # fn main() -> convnet::Result<()> {
/// // 60 pictures of 8×8 pixels, bright (class 1) or dark (class 0).
/// let pixels = (0..60 * 64).map(|i| if i / 64 % 2 == 1 { 200 } else { 20 }).collect();
/// let labels = (0..60).map(|i| i % 2).collect();
/// let train = Dataset::new("light", [1, 8, 8], pixels, labels, vec!["dark".into(), "bright".into()])?;
/// let mut net = Net::new("mine", Shape::Map([1, 8, 8]))?;
/// net.then("conv", Conv2d::new(4, 3))?;
/// net.then("relu", Activation::Relu)?;
/// net.then("flatten", Op::Flatten)?;
/// net.then("head", Linear::new(2))?;
/// let recipe = Recipe { epochs: 40, batch_size: 10, ..Recipe::default() };
/// let splits = Splits { train, val: None, test: None }.hold_out(Default::default());
/// let outcome = Trainer::new(Classifier::untrained(net, 0)?, splits, recipe)?.fit(&mut ())?;
/// assert_eq!(outcome.epochs.last().and_then(|epoch| epoch.val_accuracy), Some(1.0));
/// let mut predictor = Predictor::new(outcome.classifier()?)?;
/// # Ok(())
/// # }
/// ```
pub struct Trainer {
    pub(super) recipe: Recipe,
    pub(super) description: Description,
    pub(super) train: Arc<Dataset>,
    pub(super) watched: Option<(Part, Arc<Dataset>)>,
    /// Test pictures beside validation pictures, which are measured once, at the end.
    pub(super) test: Option<Arc<Dataset>>,
    pub(super) engine: Engine,
    pub(super) training: Training,
    /// Whether there are norms whose statistics move.
    pub(super) takes_statistics: bool,
    /// Stages that are trained, where they are unfrozen one after the other.
    pub(super) stages: usize,
    /// Threads that make batches, where somebody has said how many.
    pub(super) workers: Option<usize>,
    /// The processes that train it together, and the shards that this one has.
    pub(super) processes: Processes,
    pub(super) shards: Shards,
    /// What has failed in this process, until the others are told.
    pub(super) failed: Option<Error>,
    pub(super) progress: Progress,
    pub(super) epochs: Vec<EpochMetrics>,
    /// The best weights, where they are chosen and not saved.
    pub(super) best: Option<StateDict>,
    pub(super) saved: Option<Saved>,
}

impl fmt::Debug for Trainer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Trainer");
        shown
            .field("net", &self.description.net().name())
            .field("recipe", &self.recipe)
            .field("progress", &self.progress);
        shown.finish_non_exhaustive()
    }
}

impl Trainer {
    /// Trains a classifier from the weights that it has, on all cores. Classes are called as in the data.
    ///
    /// # Errors
    /// As [`Trainer::with_engine`].
    pub fn new(classifier: Classifier, splits: Splits, recipe: Recipe) -> Result<Trainer> {
        Trainer::with_engine(classifier, splits, recipe, &Engine::new(0)?)
    }

    /// The same on a given engine.
    ///
    /// # Errors
    /// When net and data do not fit together, or a value of the recipe makes no sense.
    pub fn with_engine(classifier: Classifier, splits: Splits, recipe: Recipe, engine: &Engine) -> Result<Trainer> {
        Trainer::at_epoch(classifier, splits, recipe, engine, 0)
    }

    /// The same for a run that stands in this epoch, counted from 0.
    pub(super) fn at_epoch(
        classifier: Classifier,
        splits: Splits,
        recipe: Recipe,
        engine: &Engine,
        epoch: usize,
    ) -> Result<Trainer> {
        recipe.check()?;
        expect_validation(&recipe, &splits)?;
        let Classifier { description, weights } = classifier;
        description.check_data(&splits.train)?;
        for data in splits.val.iter().chain(&splits.test) {
            description.check_data(data)?;
        }
        let description = description.with_classes(splits.train.classes().to_vec())?;
        let groups = groups(&description, &splits.train, &recipe, epoch)?;
        let training = plan(&description, &weights, &splits.train, &recipe, engine, &groups)?;
        let Splits { train, val, test } = splits;
        let (watched, test) = match val {
            Some(val) => (Some((Part::Val, val)), test),
            None => (test.map(|test| (Part::Test, test)), None),
        };
        Ok(Trainer {
            train: Arc::new(train),
            watched: watched.map(|(part, data)| (part, Arc::new(data))),
            test: test.map(Arc::new),
            engine: engine.clone(),
            takes_statistics: takes_statistics(&description, &groups),
            stages: groups.unfrozen().map_or(0, |(stages, _)| stages),
            description,
            training,
            workers: None,
            processes: Processes::alone(),
            shards: Shards::alone(recipe.shards()),
            failed: None,
            recipe,
            progress: Progress::default(),
            epochs: Vec::new(),
            best: None,
            saved: None,
        })
    }

    /// The same with so many threads that make batches, at least 1; else it is [`Dataset::customary_workers`]. They change no
    /// result.
    #[must_use]
    pub fn workers(self, workers: usize) -> Trainer {
        Trainer { workers: Some(workers.max(1)), ..self }
    }

    /// Keeps the run in a folder: metrics, curves, weights and checkpoints. Data, model and engine of the configuration are
    /// written down, no more; the recipe is the trainer's own.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn in_folder(self, folder: RunFolder, config: TrainConfig) -> Result<Trainer> {
        let saved = Saved::take(folder, TrainConfig { recipe: self.recipe.clone(), ..config })?;
        self.saved_to(saved)
    }

    /// Goes on with a run from its last checkpoint, or from its beginning when it was killed before the first. `config` is
    /// the run's own, in which `epochs`, `max_steps`, `patience`, `train_eval`, `precise_bn`, engine and data may be others. When the
    /// last checkpoint is missing or damaged and the previous one took its place, the error beside the trainer says why.
    ///
    /// # Errors
    /// When neither checkpoint can be loaded, or the data do not fit.
    pub fn resume(
        folder: RunFolder,
        config: TrainConfig,
        splits: Splits,
        engine: &Engine,
    ) -> Result<(Trainer, Option<Error>)> {
        let last = folder.last_safetensors();
        let saved = Saved::take(folder, config)?;
        let recipe = saved.config.recipe.clone();
        let (restored, problem) = saved.restore(&splits.train)?;
        let trainer = match restored {
            Some(restored) => Trainer::restored(restored, splits, recipe, engine)
                .map_err(|error| Error::file(last, error.to_string()))?,
            None => {
                let classifier = Prepared::classifier(&saved.config, &splits.train)?;
                Trainer::with_engine(classifier, splits, recipe, engine)?
            }
        };
        Ok((trainer.saved_to(saved)?, problem))
    }

    /// The same with its folder, in which all is written that stays as it is from the first step on.
    fn saved_to(mut self, saved: Saved) -> Result<Trainer> {
        self.workers = saved.config.data.workers.or(self.workers);
        saved.folder.write_config(&saved.config)?;
        TestResult::forget(&saved.folder.test_json())?;
        if !self.epochs.is_empty() {
            saved.write_summary(&self.epochs)?;
        }
        self.write_left_out(&saved)?;
        saved.write_sample(self.shown())?;
        self.saved = Some(saved);
        Ok(self)
    }

    /// Trains until all epochs are done, or something ends it before.
    ///
    /// # Errors
    /// When a file cannot be written, or the loss is no longer a number: then the last checkpoint stays as it is. When a picture
    /// cannot be decoded: then all are looked at, so that the error names every one that cannot be.
    pub fn fit(self, observer: &mut dyn Observer) -> Result<Outcome> {
        if self.processes.size() > 1 {
            return self.fit_all(observer);
        }
        let watched = self.watched.iter().map(|(_, data)| data);
        let all: Vec<Arc<Dataset>> = [&self.train].into_iter().chain(watched).chain(&self.test).cloned().collect();
        self.fit_all(observer).map_err(|error| match error {
            Error::Picture { .. } | Error::Pictures(_) => all_unusable(&all).unwrap_or(error),
            error => error,
        })
    }

    fn fit_all(mut self, observer: &mut dyn Observer) -> Result<Outcome> {
        let mut targets = TargetMaker::default();
        let mut saved = (self.progress.step, Instant::now());
        while self.progress.epoch < self.recipe.epochs && !self.has_max_steps() && !self.is_out_of_patience() {
            self.unfreeze(observer)?;
            let mut clock = Instant::now();
            let (mut batches, mut waited) = (self.batches(self.progress.batch)?, Duration::ZERO);
            while self.progress.images < self.train.len() {
                let lr = self.recipe.learning_rate(&self.progress, self.train.len());
                let stop = self.processes.size() > 1 && observer.stop();
                let Learned { step, images, stop, exchanged } = self.learn(&mut batches, &mut targets, stop)?;
                self.update(lr);
                let wait = batches.waited() - waited;
                waited += wait;
                let times = [clock.elapsed(), wait, exchanged].map(|time| time.as_secs_f64());
                self.progress.add(step, images, times);
                clock = Instant::now();
                observer.step(&self.progress, step.loss);
                if stop || self.processes.size() == 1 && observer.stop() {
                    return self.end(Ending::Stopped);
                }
                if self.progress.images >= self.train.len() {
                    continue;
                }
                if self.has_max_steps() {
                    return self.end(Ending::MaxSteps);
                }
                match self.saves_after(saved) {
                    Ok(false) => {}
                    Ok(true) => saved = (self.progress.step, Instant::now()),
                    Err(error) if self.processes.size() == 1 => return Err(error),
                    // The other processes hear of it with the next step.
                    Err(error) => self.failed = Some(error),
                }
            }
            let start = Instant::now();
            self.average_epoch();
            self.recompute_statistics(observer)?;
            let weights = self.weights()?;
            match self.evaluate(&weights, observer)? {
                ControlFlow::Continue(mut found) => {
                    found.seconds = start.elapsed().as_secs_f64();
                    found.lr = self.last_rate();
                    self.end_epoch(weights, &found, observer)?;
                    saved = (self.progress.step, Instant::now());
                }
                ControlFlow::Break(()) => return self.end(Ending::Stopped),
            }
        }
        let ending = match self.progress.epoch < self.recipe.epochs {
            true if self.is_out_of_patience() => Ending::OutOfPatience,
            true => Ending::MaxSteps,
            false => Ending::Finished,
        };
        self.end(ending)
    }

    /// Clipping, update and average.
    pub(super) fn update(&mut self, lr: f64) {
        if let Some(largest) = self.recipe.optimizer.clip_grad_norm {
            let norm = self.training.clip_grad_norm(largest as f32);
            self.progress.add_norm(norm);
        }
        self.training.update(lr as f32);
        if let Some(decay) = self.recipe.ema_decay(self.training.steps()) {
            self.training.average(decay);
        }
    }

    /// Writes down which pictures are left out, so that the run goes on without them.
    fn write_left_out(&self, saved: &Saved) -> Result<()> {
        if !saved.config.data.skip_bad {
            return Ok(());
        }
        let watched = self.watched.iter().map(|(_, data)| data).chain(&self.test).flat_map(|data| data.left_out());
        saved.folder.write_left_out(self.train.left_out().iter().chain(watched))
    }

    /// The learning rate of the step that was made last.
    fn last_rate(&self) -> f64 {
        let before = Progress { step: self.progress.step.saturating_sub(1), ..self.progress };
        self.recipe.learning_rate(&before, self.train.len())
    }

    fn has_max_steps(&self) -> bool {
        self.recipe.max_steps.is_some_and(|most| self.progress.step >= most)
    }

    fn is_out_of_patience(&self) -> bool {
        let waited = self.progress.waited_epochs();
        self.recipe.patience.is_some_and(|patience| waited >= patience)
    }

    /// Evaluates the pictures that are watched, if there are any, and a sample of those that are trained on, unless the observer
    /// breaks it off.
    fn evaluate(&self, weights: &StateDict, observer: &mut dyn Observer) -> Result<ControlFlow<(), Found>> {
        let mut found = Found::default();
        if let Some((_, data)) = &self.watched {
            let mut watch = |images| {
                observer.evaluated(images);
                if observer.stop() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            };
            found.watched = self.evaluate_in(Order::Sequential, weights, data, &mut watch)?;
            if found.watched.is_none() {
                return Ok(ControlFlow::Break(()));
            }
        }
        let count = self.recipe.train_sample(self.train.len());
        if count > 0 {
            let mut watch = |_| if observer.stop() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
            let sample = Order::Sample { seed: self.recipe.seed, count };
            found.train = self.evaluate_in(sample, weights, &self.train, &mut watch)?;
            if found.train.is_none() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(found))
    }

    pub(super) fn evaluate_in(
        &self,
        order: Order,
        weights: &StateDict,
        data: &Arc<Dataset>,
        watch: &mut dyn FnMut(usize) -> ControlFlow<()>,
    ) -> Result<Option<Evaluation>> {
        let (description, engine, batch_size) = (&self.description, &self.engine, self.recipe.batch_size);
        let processes = &self.processes;
        Measurement { order, description, weights, data, engine, batch_size, processes }.evaluate(watch)
    }

    /// The checkpoint comes last: a kill before it leaves the epoch to be done again.
    fn end_epoch(&mut self, weights: StateDict, found: &Found, observer: &mut dyn Observer) -> Result<()> {
        let images_per_second = self.progress.images_per_second();
        let selects = matches!(self.watched, Some((Part::Val, _)));
        let (metrics, best) = self.progress.end_epoch(found, selects);
        if let (Schedule::Plateau, Some(loss)) = (self.recipe.schedule.name, metrics.val_loss) {
            self.progress.plateau.add(loss, self.recipe.schedule.plateau_patience);
        }
        self.epochs.push(metrics);
        let kept = self.keep_epoch(weights, &metrics, best, selects);
        self.processes.agree(kept)?;
        observer.epoch(&metrics, images_per_second);
        let damaged = self.train.take_damaged();
        if !damaged.is_empty() {
            observer.damaged(&damaged);
        }
        Ok(())
    }

    /// Writes what a run leaves after an epoch, or keeps the best weights where it has no folder. The first process does.
    fn keep_epoch(&mut self, weights: StateDict, metrics: &EpochMetrics, best: bool, selects: bool) -> Result<()> {
        if let Some(saved) = &self.saved {
            saved.write_epoch(&self.epochs)?;
            let weights = if best { saved.save_best(&self.description, weights, metrics)? } else { weights };
            self.save_last(saved, weights)?;
        } else if best && selects && self.processes.is_first() {
            self.best = Some(weights);
        }
        Ok(())
    }

    fn end(self, ending: Ending) -> Result<Outcome> {
        let weights = self.weights()?;
        let weights_sha256 = weights_sha256(&weights);
        self.processes.expect_same(vec![("weights at the end".into(), weights_sha256.clone())])?;
        let (test, weights) = self.conclude(ending, weights)?;
        let best = match (self.saved, self.best) {
            (Some(saved), _) => Best::In(saved.folder),
            (None, best) => {
                let weights = best.unwrap_or(weights);
                Best::Here(Box::new(Classifier { description: self.description, weights }))
            }
        };
        Ok(Outcome { ending, epochs: self.epochs, progress: self.progress, weights_sha256, test, best })
    }

    /// Writes a checkpoint within an epoch where one is due after this step and time.
    fn saves_after(&self, (step, time): (u64, Instant)) -> Result<bool> {
        match &self.saved {
            Some(saved) if saved.is_due(self.progress.step - step, time.elapsed()) => {
                self.save_last(saved, self.weights()?).map(|_| true)
            }
            _ => Ok(false),
        }
    }

    pub(super) fn save_last(&self, saved: &Saved, weights: StateDict) -> Result<StateDict> {
        let trained = self.training.has_average().then(|| self.training.weights());
        let optimizer = self.training.optimizer_state();
        self.expect_finite_tensors("optimizer's", &optimizer)?;
        let optimizer = (optimizer, trained);
        saved.save_last(&self.description, weights, optimizer, &self.progress, &self.train)
    }

    /// The weights as they are now, or their average, if they are numbers.
    fn weights(&self) -> Result<StateDict> {
        let weights = self.training.averaged_weights().unwrap_or_else(|| self.training.weights());
        self.expect_finite_tensors("tensor", &weights)?;
        Ok(weights)
    }

    /// Pictures to show: those that are watched, else those that are trained on.
    fn shown(&self) -> &Dataset {
        self.watched.as_ref().map_or(&self.train, |(_, data)| data)
    }

    /// How it is trained.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// The net and how it is used.
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// What it is trained on.
    pub fn train_data(&self) -> &Dataset {
        &self.train
    }

    /// What it is measured on after each epoch: the validation part, which chooses the best weights, else the test part, which
    /// chooses nothing.
    pub fn watched(&self) -> Option<(Part, &Dataset)> {
        self.watched.as_ref().map(|(part, data)| (*part, &**data))
    }

    /// The folder of the run and its configuration, where it has one.
    pub fn saved(&self) -> Option<(&RunFolder, &TrainConfig)> {
        self.saved.as_ref().map(|saved| (&saved.folder, &saved.config))
    }

    /// Where the run stands.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }
}

/// The error of all pictures that cannot be decoded, if there are any.
fn all_unusable(all: &[Arc<Dataset>]) -> Option<Error> {
    let found = all.iter().map(|data| data.unusable()).collect::<Result<Vec<Vec<Error>>>>();
    Error::of_pictures(found.ok()?.into_iter().flatten().collect()).err()
}

/// Some of a recipe is decided by validation pictures; test pictures decide nothing.
fn expect_validation(recipe: &Recipe, splits: &Splits) -> Result<()> {
    let needs = match recipe.schedule.name {
        _ if splits.val.is_some() => None,
        Schedule::Plateau => Some("schedule plateau"),
        _ => recipe.patience.map(|_| "patience"),
    };
    needs.map_or(Ok(()), |setting| {
        Err(Error::invalid(format!(
            "{setting}: expected validation pictures, which decide, but the data have none; hold some out of the training \
             pictures with val_split"
        )))
    })
}
