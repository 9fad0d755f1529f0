//! The training loop as a whole, on pictures of 6×6 that show their class as a bright row.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use convnet::classifier::Classifier;
use convnet::data::{Dataset, Splits};
use convnet::evaluate::evaluate;
use convnet::exec::Engine;
use convnet::train::{
    Ending, Observer, Optimizer, Outcome, Progress, RunFolder, Schedule, TrainConfig, Trainer, read_metrics,
};
use convnet::weights::{Checkpoint, previous_path};

const SIDE: usize = 6;

fn dataset(len: usize) -> Dataset {
    let picture = |index: usize| {
        let (row, noise) = (index % 3, move |pixel: usize| ((index * 31 + pixel * 17) % 60) as u8);
        (0..SIDE * SIDE).map(move |pixel| noise(pixel) + if pixel / SIDE == 2 * row { 180 } else { 0 })
    };
    let images = (0..len).flat_map(picture).collect();
    let labels = (0..len).map(|index| (index % 3) as u32).collect();
    Dataset::new("rows", [1, SIDE, SIDE], images, labels, ["top", "middle", "bottom"].map(str::to_owned).to_vec())
        .unwrap()
}

fn splits() -> Splits {
    Splits { train: dataset(50), test: dataset(20) }
}

/// Seven steps an epoch, dropout and batch norm at work.
fn config() -> TrainConfig {
    let (cdims, hdims) = (Some(vec![4]), Some(vec![8]));
    TrainConfig { cdims, hdims, batch_size: 8, epochs: 3, lr: 0.01, seed: 5, ..TrainConfig::default() }
}

fn engine() -> Engine {
    Engine::new(1).unwrap()
}

fn begin(folder: &Path, config: TrainConfig) -> Trainer {
    Trainer::begin(config, splits(), &engine(), Some(folder)).unwrap()
}

fn resume(folder: &Path, max_steps: Option<u64>) -> (Trainer, Option<convnet::Error>) {
    let run = RunFolder::open(folder).unwrap();
    let config = TrainConfig { max_steps, ..run.config().unwrap() };
    Trainer::resume(run, config, splits(), &engine()).unwrap()
}

/// What must not depend on where a run was interrupted: everything but the time.
fn essence(outcome: &Outcome) -> (String, Vec<[f64; 4]>) {
    let numbers = outcome.epochs.iter().map(|m| [m.train_loss, m.train_accuracy, m.val_loss, m.val_accuracy]);
    (outcome.weights_sha256.clone(), numbers.collect())
}

/// Stops after a step or after a batch of held-out pictures.
#[derive(Default)]
struct StopAt {
    step: u64,
    evaluated: usize,
    reached: bool,
}

impl Observer for StopAt {
    fn step(&mut self, progress: &Progress, _loss: f64) {
        self.reached |= progress.step == self.step;
    }

    fn evaluated(&mut self, images: usize) {
        self.reached |= images == self.evaluated;
    }

    fn stop(&mut self) -> bool {
        self.reached
    }
}

#[test]
fn a_run_learns_and_leaves_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let outcome = begin(&folder.path().join("run"), config()).fit(&mut ()).unwrap();
    assert_eq!((outcome.ending, outcome.progress.step), (Ending::Finished, 21));
    assert!(outcome.progress.best_accuracy > 0.9, "{:?}", outcome.epochs);
    let run = RunFolder::open(&folder.path().join("run")).unwrap();
    assert_eq!(read_metrics(&run.metrics_jsonl()).unwrap(), outcome.epochs);
    for file in [run.curves_png(), run.predictions_png(), run.sample_png(), run.last_safetensors()] {
        assert!(file.is_file(), "{}", file.display());
    }
    let Classifier { description, weights } = Classifier::of_run(&run).unwrap();
    assert_eq!(description.classes(), ["top", "middle", "bottom"]);
    let mut watch = |_| ControlFlow::Continue(());
    let found = evaluate(&description, &weights, &Arc::new(dataset(20)), &engine(), 7, &mut watch).unwrap().unwrap();
    let best = &outcome.epochs[outcome.progress.best_epoch - 1];
    assert_eq!((found.images, found.top1, found.top5), (20, best.val_accuracy, None));
    assert!((found.loss - best.val_loss).abs() < 1e-6, "{} {}", found.loss, best.val_loss);
}

#[test]
fn wherever_a_run_is_stopped_it_goes_on_to_the_same_end() {
    let folder = tempfile::tempdir().unwrap();
    for optimizer in [Optimizer::Adam, Optimizer::Sgd] {
        let config = TrainConfig { optimizer, schedule: Schedule::OneCycle, ..config() };
        let unbroken = begin(&folder.path().join(format!("{optimizer:?}")), config.clone()).fit(&mut ()).unwrap();
        for stop in [
            StopAt { step: 1, ..StopAt::default() },
            StopAt { step: 7, ..StopAt::default() },
            StopAt { step: 10, ..StopAt::default() },
            StopAt { evaluated: 16, ..StopAt::default() },
        ] {
            let path = folder.path().join(format!("{optimizer:?}-{}-{}", stop.step, stop.evaluated));
            let stopped = begin(&path, config.clone()).fit(&mut { stop }).unwrap();
            assert_eq!(stopped.ending, Ending::Stopped);
            let (resumed, problem) = resume(&path, Some(12));
            let resumed = resumed.fit(&mut ()).unwrap();
            assert_eq!((resumed.ending, resumed.progress.step), (Ending::MaxSteps, 12));
            assert!(problem.is_none());
            let finished = resume(&path, None).0.fit(&mut ()).unwrap();
            assert_eq!((finished.ending, essence(&finished)), (Ending::Finished, essence(&unbroken)));
        }
    }
}

#[test]
fn a_run_without_a_checkpoint_begins_again() {
    let folder = tempfile::tempdir().unwrap();
    let unbroken = begin(&folder.path().join("unbroken"), config()).fit(&mut ()).unwrap();
    // Killed before the first checkpoint, with metrics of an epoch whose checkpoint was not written.
    let path = folder.path().join("killed");
    drop(begin(&path, config()));
    fs::copy(folder.path().join("unbroken/metrics.jsonl"), path.join("metrics.jsonl")).unwrap();
    let (trainer, problem) = resume(&path, None);
    assert!(problem.is_none());
    assert_eq!(essence(&trainer.fit(&mut ()).unwrap()), essence(&unbroken));
}

#[test]
fn a_damaged_checkpoint_gives_way_to_the_one_before() {
    let folder = tempfile::tempdir().unwrap();
    let unbroken = begin(folder.path(), config()).fit(&mut ()).unwrap();
    let last = RunFolder::open(folder.path()).unwrap().last_safetensors();
    let mut bytes = fs::read(&last).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&last, bytes).unwrap();
    let (trainer, problem) = resume(folder.path(), None);
    assert!(problem.unwrap().to_string().contains("last.safetensors: damaged"));
    assert_eq!(trainer.progress().epoch, 2);
    assert_eq!(essence(&trainer.fit(&mut ()).unwrap()), essence(&unbroken));
}

#[test]
fn max_steps_at_the_end_of_an_epoch_let_it_end() {
    let folder = tempfile::tempdir().unwrap();
    let outcome = begin(folder.path(), TrainConfig { max_steps: Some(7), ..config() }).fit(&mut ()).unwrap();
    assert_eq!((outcome.ending, outcome.progress.epoch, outcome.epochs.len()), (Ending::MaxSteps, 1, 1));
    // Nothing is left to do for the same number of steps.
    let again = resume(folder.path(), Some(7)).0.fit(&mut ()).unwrap();
    assert_eq!(essence(&again), essence(&outcome));
}

#[test]
fn a_loss_that_is_no_number_ends_training_and_leaves_the_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let config = TrainConfig { lr: 1e38, optimizer: Optimizer::Sgd, batch_norm: Some(false), ..config() };
    let path = folder.path().join("new");
    let message = begin(&path, config.clone()).fit(&mut ()).unwrap_err().to_string();
    assert!(message.contains("in epoch 1: training has diverged"), "{message}");
    let run = RunFolder::open(&path).unwrap();
    assert!(!run.last_safetensors().exists() && !run.best_safetensors().exists());

    let path = folder.path().join("resumed");
    let calm = TrainConfig { lr: 1e-3, max_steps: Some(9), ..config };
    begin(&path, calm.clone()).fit(&mut ()).unwrap();
    let run = RunFolder::open(&path).unwrap();
    let before = fs::read(run.last_safetensors()).unwrap();
    let wild = TrainConfig { lr: 1e38, max_steps: None, ..calm };
    let last = run.last_safetensors();
    let trainer = Trainer::resume(run, wild, splits(), &engine()).unwrap().0;
    let message = trainer.fit(&mut ()).unwrap_err().to_string();
    assert!(message.contains("in epoch 2") && message.ends_with("is from before."), "{message}");
    assert_eq!(fs::read(last).unwrap(), before);
}

#[test]
fn other_data_and_foreign_checkpoints_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    begin(folder.path(), TrainConfig { max_steps: Some(2), ..config() }).fit(&mut ()).unwrap();
    let problem = |splits| {
        let run = RunFolder::open(folder.path()).unwrap();
        let message = Trainer::resume(run, config(), splits, &engine()).err().unwrap().to_string();
        assert!(message.contains("last.safetensors: "), "{message}");
        message
    };
    let others = Splits { train: dataset(49), test: dataset(20) };
    assert!(problem(others).ends_with("the run learned from 50 pictures, but 'rows' has 49"));
    let last = RunFolder::open(folder.path()).unwrap().last_safetensors();
    let checkpoint = Checkpoint::load(&last).unwrap();
    Checkpoint { optimizer: Default::default(), ..checkpoint.clone() }.save(&last).unwrap();
    problem(splits());
    Checkpoint { metadata: Default::default(), ..checkpoint }.save(&last).unwrap();
    assert!(problem(splits()).contains("no checkpoint of a run"));
    let _ = fs::remove_file(previous_path(&last));
    fs::write(&last, "nonsense").unwrap();
    problem(splits());
}

#[test]
fn nothing_is_made_when_net_and_data_do_not_fit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let none = Splits { train: dataset(50), test: dataset(0) };
    let problem = |config, splits| Trainer::begin(config, splits, &engine(), Some(&path)).err().unwrap().to_string();
    assert!(problem(config(), none).contains("expected at least one picture"));
    let pooled_away = problem(TrainConfig { cdims: Some(vec![4; 3]), ..config() }, splits());
    assert!(pooled_away.contains("cnn: expected a picture of at least 1x8x8"), "{pooled_away}");
    let text =
        "name = 'mine'\ninput = [1, 6, 7]\n[[layer]]\nop = 'flatten'\n[[layer]]\nop = 'linear'\nout_features = 3\n";
    let file = folder.path().join("mine.toml");
    fs::write(&file, text).unwrap();
    let net = TrainConfig { net: Some(file), ..config() };
    assert!(problem(net, splits()).ends_with("mine.toml: its input is 1x6x7, but the pictures are 1x6x6"));
    assert!(!path.exists());
}
