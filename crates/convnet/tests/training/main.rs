//! The training loop as a whole, on pictures of 6×6 that show their class as a bright row.

mod recipes;

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use convnet::classifier::Classifier;
use convnet::data::{Dataset, Splits};
use convnet::evaluate::evaluate;
use convnet::exec::Engine;
use convnet::train::{
    Ending, ModelConfig, Observer, Optimizer, OptimizerConfig, Outcome, Progress, RECIPES, Recipe, RunFolder, Schedule,
    ScheduleConfig, TrainConfig, Trainer, read_metrics,
};
use convnet::weights::{Checkpoint, previous_path, weights_sha256};
use convnet::zoo;

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
    Splits { train: dataset(50), val: Some(dataset(20)), test: None }
}

/// Seven steps an epoch, dropout and batch norm at work.
fn config() -> TrainConfig {
    let (cdims, hdims) = (Some(vec![4]), Some(vec![8]));
    let model = ModelConfig { cdims, hdims, ..ModelConfig::default() };
    let recipe = Recipe { batch_size: 8, epochs: 3, seed: 5, ..Recipe::default() };
    let optimizer = OptimizerConfig { lr: 0.01, ..OptimizerConfig::default() };
    TrainConfig { model, recipe: Recipe { optimizer, ..recipe }, ..TrainConfig::default() }
}

/// The configuration with some of its recipe changed.
fn with(change: impl FnOnce(&mut Recipe)) -> TrainConfig {
    let mut config = config();
    change(&mut config.recipe);
    config
}

fn engine() -> Engine {
    Engine::new(1).unwrap()
}

fn classifier(config: &TrainConfig) -> Classifier {
    let net = zoo::by_name("cnn", &config.model.options(Some([1, SIDE, SIDE]), Some(3))).unwrap();
    Classifier::untrained(net, config.recipe.seed).unwrap()
}

fn begin(folder: &Path, config: TrainConfig) -> Trainer {
    let trainer = Trainer::with_engine(classifier(&config), splits(), config.recipe.clone(), &engine()).unwrap();
    trainer.in_folder(RunFolder::create(folder, &config).unwrap(), config).unwrap()
}

fn resume(folder: &Path, max_steps: Option<u64>) -> (Trainer, Option<convnet::Error>) {
    let run = RunFolder::open(folder).unwrap();
    let mut config = run.config().unwrap();
    config.recipe.max_steps = max_steps;
    Trainer::resume(run, config, splits(), &engine()).unwrap()
}

/// What must not depend on where a run was interrupted: everything but the time.
fn essence(outcome: &Outcome) -> (String, Vec<[Option<f64>; 6]>) {
    let numbers = outcome.epochs.iter().map(|m| {
        let trained = [Some(m.train_loss), Some(m.train_accuracy), m.train_eval_loss, m.train_eval_accuracy];
        [trained[0], trained[1], trained[2], trained[3], m.val_loss, m.val_accuracy]
    });
    (outcome.weights_sha256.clone(), numbers.collect())
}

/// Stops after a step or after a batch of validation pictures.
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
    let report = fs::read_to_string(run.report_html()).unwrap();
    for part in ["<h1>Run run</h1>", "n = 20<", "id=\"curves\"", "id=\"samples\"", "batch_size = 8\n"] {
        assert!(report.contains(part), "no {part} in the report");
    }
    let Classifier { description, weights } = Classifier::of_run(&run).unwrap();
    assert_eq!(description.classes(), ["top", "middle", "bottom"]);
    let mut watch = |_| ControlFlow::Continue(());
    let found = evaluate(&description, &weights, &Arc::new(dataset(20)), &engine(), 7, &mut watch).unwrap().unwrap();
    let best = &outcome.epochs[outcome.progress.best_epoch - 1];
    assert_eq!((found.images, Some(found.top1), found.top5), (20, best.val_accuracy, None));
    assert!((found.loss - best.val_loss.unwrap()).abs() < 1e-6, "{} {:?}", found.loss, best.val_loss);
    assert_eq!(outcome.classifier().unwrap().weights, weights);
}

#[test]
fn a_run_without_a_folder_is_the_same_run() {
    let folder = tempfile::tempdir().unwrap();
    let config = config();
    let trainer = Trainer::with_engine(classifier(&config), splits(), config.recipe.clone(), &engine()).unwrap();
    assert!(trainer.saved().is_none());
    let alone = trainer.fit(&mut ()).unwrap();
    let kept = begin(&folder.path().join("run"), config).fit(&mut ()).unwrap();
    assert_eq!(essence(&alone), essence(&kept));
    assert_eq!(alone.classifier().unwrap().weights, kept.classifier().unwrap().weights);
}

#[test]
fn test_pictures_choose_nothing_and_none_are_needed() {
    let config = config();
    let fit = |splits: Splits| {
        Trainer::with_engine(classifier(&config), splits, config.recipe.clone(), &engine())
            .unwrap()
            .fit(&mut ())
            .unwrap()
    };
    let tested = fit(Splits { val: None, test: Some(dataset(20)), ..splits() });
    let alone = fit(Splits { val: None, ..splits() });
    assert_eq!((tested.progress.best_epoch, alone.progress.best_epoch), (3, 3));
    assert!(tested.epochs[2].val_accuracy.is_some() && alone.epochs[2].val_accuracy.is_none());
    assert_eq!(tested.classifier().unwrap().weights, alone.classifier().unwrap().weights);
}

/// Everything that is drawn at random, and everything that a recipe can add to a step.
#[test]
fn a_rich_recipe_goes_on_to_the_same_end_and_leaves_frozen_layers_alone() {
    let folder = tempfile::tempdir().unwrap();
    let rich = with(|recipe| {
        recipe.label_smoothing = 0.1;
        recipe.augment = "[\"horizontal_flip\", { random_crop = { padding = 1 } }, { random_erasing = { p = 0.5 } }]"
            .parse()
            .unwrap();
        (recipe.mixing.mixup_alpha, recipe.mixing.cutmix_alpha, recipe.mixing.p) = (0.2, 1.0, 0.7);
        recipe.freeze = vec!["conv1".into(), "bn1".into()];
        (recipe.optimizer.clip_grad_norm, recipe.optimizer.backbone_lr) = (Some(0.5), 0.3);
    });
    let unbroken = begin(&folder.path().join("unbroken"), rich.clone()).fit(&mut ()).unwrap();
    let stop = StopAt { step: 10, ..StopAt::default() };
    let path = folder.path().join("stopped");
    assert_eq!(begin(&path, rich.clone()).fit(&mut { stop }).unwrap().ending, Ending::Stopped);
    let resumed = resume(&path, None).0.fit(&mut ()).unwrap();
    assert_eq!(essence(&resumed), essence(&unbroken));
    let (before, after) = (classifier(&rich).weights, unbroken.classifier().unwrap().weights);
    for name in ["conv1.weight", "conv1.bias", "bn1.weight", "bn1.running_mean"] {
        assert_eq!(before[name], after[name], "{name}");
    }
    assert_ne!(before["linear1.weight"], after["linear1.weight"]);
}

/// Each on pictures of 6×6 in batches of 8.
#[test]
fn recipes_that_have_a_name_train() {
    for named in RECIPES {
        let mut config = TrainConfig::resolve([named.settings().unwrap()]).unwrap();
        config.model = self::config().model;
        (config.recipe.batch_size, config.recipe.max_steps) = (8, Some(9));
        // Layers of a network that the recipe brings along.
        config.recipe.freeze.clear();
        let trainer = Trainer::with_engine(classifier(&config), splits(), config.recipe.clone(), &engine()).unwrap();
        let outcome = trainer.fit(&mut ()).unwrap();
        assert_eq!((outcome.ending, outcome.epochs.len()), (Ending::MaxSteps, 1), "{}", named.name);
    }
}

/// Seven batches an epoch, so that the search goes through them again and again.
#[test]
fn a_rate_is_found_at_which_training_learns() {
    let search = |stop: &mut dyn Observer| {
        let trainer = Trainer::with_engine(classifier(&config()), splits(), config().recipe, &engine()).unwrap();
        trainer.find_lr(stop).unwrap()
    };
    let found = search(&mut ());
    let suggestion = found.suggestion.unwrap();
    assert!((1e-4..1.0).contains(&suggestion), "{suggestion}");
    assert_eq!(search(&mut ()), found);
    assert_eq!(search(&mut StopAt { step: 5, ..StopAt::default() }).tried, found.tried[..5]);
    let learns = with(|recipe| recipe.optimizer.lr = suggestion);
    let trainer = Trainer::with_engine(classifier(&learns), splits(), learns.recipe, &engine()).unwrap();
    assert!(trainer.fit(&mut ()).unwrap().progress.best_accuracy > 0.9);
}

#[test]
fn a_trained_net_is_fine_tuned_to_other_classes() {
    let first = Trainer::with_engine(classifier(&config()), splits(), config().recipe, &engine()).unwrap();
    let learned = first.fit(&mut ()).unwrap().classifier().unwrap();
    let names = ["upper", "lower"].map(str::to_owned).to_vec();
    let (tuned, replaced) = learned.clone().with_classes(names.clone(), 0).unwrap();
    assert_eq!(replaced, ["head.bias", "head.weight"]);
    assert_eq!(tuned.weights["conv1.weight"], learned.weights["conv1.weight"]);
    let reversed: Vec<String> = names.iter().rev().cloned().collect();
    let (same, replaced) = tuned.clone().with_classes(reversed.clone(), 1).unwrap();
    assert!(replaced.is_empty() && same.description.classes() == reversed);
    for name in ["head.weight", "head.bias"] {
        let (before, after) = (tuned.weights[name].data(), same.weights[name].data());
        let (first, second) = before.split_at(before.len() / 2);
        assert_eq!(after, [second, first].concat(), "{name}");
    }
    // Equally many that are called otherwise are others.
    let (others, replaced) = tuned.clone().with_classes(vec!["upper".into(), "left".into()], 1).unwrap();
    assert_eq!(replaced, ["head.bias", "head.weight"]);
    assert_ne!(others.weights["head.weight"], tuned.weights["head.weight"]);
    assert_eq!(others.weights["conv1.weight"], tuned.weights["conv1.weight"]);
    let images = (0..20).flat_map(|index| dataset(20).image(index).unwrap().to_vec()).collect();
    let labels = (0..20).map(|index| u32::from(index % 3 == 2)).collect();
    let train = Dataset::new("two", [1, SIDE, SIDE], images, labels, names.clone()).unwrap();
    let splits = Splits { train, val: None, test: None };
    let outcome = Trainer::with_engine(tuned, splits, config().recipe, &engine()).unwrap().fit(&mut ()).unwrap();
    assert_eq!(outcome.classifier().unwrap().description.classes(), names);
}

#[test]
fn wherever_a_run_is_stopped_it_goes_on_to_the_same_end() {
    let folder = tempfile::tempdir().unwrap();
    for optimizer in [Optimizer::Adam, Optimizer::Sgd, Optimizer::Muon] {
        let config = with(|recipe| {
            recipe.optimizer.name = optimizer;
            recipe.schedule = ScheduleConfig { name: Schedule::OneCycle, ..ScheduleConfig::default() };
        });
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

/// The loss of the validation pictures, in one of the checkpoints or in the other, decides about the rate.
#[test]
fn a_run_that_waits_on_a_plateau_goes_on_to_the_same_end() {
    let folder = tempfile::tempdir().unwrap();
    let plateau = with(|recipe| {
        recipe.epochs = 6;
        recipe.optimizer.lr = 0.3;
        let (name, warmup_epochs) = (Schedule::Plateau, 0.5);
        recipe.schedule = ScheduleConfig { name, warmup_epochs, plateau_patience: 0, ..ScheduleConfig::default() };
    });
    let unbroken = begin(&folder.path().join("unbroken"), plateau.clone()).fit(&mut ()).unwrap();
    assert!(unbroken.progress.plateau.reductions > 0, "{:?}", unbroken.progress);
    let stop = StopAt { step: 33, ..StopAt::default() };
    begin(&folder.path().join("stopped"), plateau.clone()).fit(&mut { stop }).unwrap();
    let resumed = resume(&folder.path().join("stopped"), None).0.fit(&mut ()).unwrap();
    assert_eq!((essence(&resumed), resumed.progress), (essence(&unbroken), unbroken.progress));
    let tested = Splits { val: None, test: Some(dataset(20)), ..splits() };
    let message = Trainer::new(classifier(&plateau), tested, plateau.recipe).err().unwrap().to_string();
    assert!(message.starts_with("schedule plateau: expected validation pictures"), "{message}");
}

/// The average is what is evaluated and kept, and both it and the weights that are trained go on where they stopped.
#[test]
fn a_moving_average_is_kept_beside_the_weights() {
    let folder = tempfile::tempdir().unwrap();
    let averaged = with(|recipe| (recipe.ema, recipe.precise_bn) = (Some(0.9), Some(0)));
    let path = |name: &str| folder.path().join(name);
    let unbroken = begin(&path("unbroken"), averaged.clone()).fit(&mut ()).unwrap();
    for step in [1, 10] {
        let stop = StopAt { step, ..StopAt::default() };
        begin(&path(&step.to_string()), averaged.clone()).fit(&mut { stop }).unwrap();
        let resumed = resume(&path(&step.to_string()), None).0.fit(&mut ()).unwrap();
        assert_eq!(essence(&resumed), essence(&unbroken));
        let last = |name: &str| Checkpoint::load(&path(name).join("last.safetensors")).unwrap();
        let (resumed, unbroken) = (last(&step.to_string()), last("unbroken"));
        assert_eq!((resumed.weights, resumed.optimizer), (unbroken.weights, unbroken.optimizer));
    }
    let last = Checkpoint::load(&path("unbroken").join("last.safetensors")).unwrap();
    let plain = begin(&path("plain"), with(|recipe| recipe.precise_bn = Some(0))).fit(&mut ()).unwrap();
    let plain_last = Checkpoint::load(&path("plain").join("last.safetensors")).unwrap();
    for (name, tensor) in &plain_last.weights {
        assert_eq!(&last.optimizer[&format!("trained.{name}")], tensor, "{name}");
    }
    assert_ne!(last.weights, plain_last.weights);
    assert_eq!(weights_sha256(&last.weights), unbroken.weights_sha256);
    let losses = |outcome: &Outcome| outcome.epochs.iter().map(|epoch| epoch.train_loss).collect::<Vec<_>>();
    assert_eq!(losses(&plain), losses(&unbroken));
    assert_ne!(plain.epochs[0].val_loss, unbroken.epochs[0].val_loss);
}

#[test]
fn training_ends_when_patience_does() {
    let folder = tempfile::tempdir().unwrap();
    let impatient = with(|recipe| {
        // Nothing is learned any more.
        (recipe.epochs, recipe.patience) = (9, Some(2));
        recipe.schedule =
            ScheduleConfig { name: Schedule::Step, step_size: 2, gamma: 0.0, ..ScheduleConfig::default() };
    });
    let outcome = begin(folder.path(), impatient.clone()).fit(&mut ()).unwrap();
    let Progress { epoch, improved_epoch, .. } = outcome.progress;
    assert_eq!((outcome.ending, epoch), (Ending::OutOfPatience, improved_epoch + 2));
    assert!(epoch < 9);
    let again = resume(folder.path(), None).0.fit(&mut ()).unwrap();
    assert_eq!((again.ending, essence(&again)), (Ending::OutOfPatience, essence(&outcome)));
    let alone = Splits { val: None, ..splits() };
    let message = Trainer::new(classifier(&impatient), alone, impatient.recipe).err().unwrap().to_string();
    assert!(message.starts_with("patience: expected validation pictures, which decide"), "{message}");
}

/// Parameters and optimizer stay as they are, and after an epoch of seven steps both losses are lower than with running statistics.
#[test]
fn statistics_are_taken_anew_and_change_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let precise = with(|recipe| (recipe.precise_bn, recipe.epochs) = (Some(3), 2));
    let path = |name: &str| folder.path().join(name);
    let unbroken = begin(&path("unbroken"), precise.clone()).fit(&mut ()).unwrap();
    for (name, stop) in [
        ("training", StopAt { step: 10, ..StopAt::default() }),
        ("evaluation", StopAt { evaluated: 16, ..StopAt::default() }),
    ] {
        begin(&path(name), precise.clone()).fit(&mut { stop }).unwrap();
        assert_eq!(essence(&resume(&path(name), None).0.fit(&mut ()).unwrap()), essence(&unbroken));
    }
    let plain =
        begin(&path("plain"), with(|recipe| (recipe.precise_bn, recipe.epochs) = (Some(0), 2))).fit(&mut ()).unwrap();
    let last = |name: &str| Checkpoint::load(&path(name).join("last.safetensors")).unwrap();
    let (with, without) = (last("unbroken"), last("plain"));
    for (name, tensor) in &with.weights {
        assert_eq!(tensor == &without.weights[name], !name.contains("running_"), "{name}");
    }
    assert_eq!(with.optimizer, without.optimizer);
    let first = |outcome: &Outcome| (outcome.epochs[0].train_eval_loss.unwrap(), outcome.epochs[0].val_loss.unwrap());
    let (precise, lagging) = (first(&unbroken), first(&plain));
    assert!(precise.0 < lagging.0 && precise.1 < lagging.1, "{precise:?} {lagging:?}");
}

#[test]
fn a_sample_of_the_training_pictures_is_measured_as_the_others_are() {
    let fit = |train_eval: Option<usize>| {
        let config = with(|recipe| (recipe.epochs, recipe.train_eval) = (1, train_eval));
        let trainer = Trainer::with_engine(classifier(&config), splits(), config.recipe, &engine()).unwrap();
        trainer.fit(&mut ()).unwrap()
    };
    let all = fit(Some(1_000));
    let Classifier { description, weights } = all.classifier().unwrap();
    let mut watch = |_| ControlFlow::Continue(());
    let data = Arc::new(dataset(50));
    let found = evaluate(&description, &weights, &data, &engine(), 8, &mut watch).unwrap().unwrap();
    let epoch = &all.epochs[0];
    assert_eq!((epoch.train_eval_loss, epoch.train_eval_accuracy), (Some(found.loss), Some(found.top1)));
    assert_ne!(epoch.train_loss, found.loss);
    let none = fit(Some(0));
    assert_eq!((none.epochs[0].train_eval_loss, none.epochs[0].train_eval_accuracy), (None, None));
    assert_eq!(none.weights_sha256, all.weights_sha256);
    // A fifth of 50.
    let tenths = 10.0 * fit(None).epochs[0].train_eval_accuracy.unwrap();
    assert_eq!(tenths, tenths.round());
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

/// Breaks off without a chance to save, as a kill does.
struct KillAt(u64);

impl Observer for KillAt {
    fn step(&mut self, progress: &Progress, _loss: f64) {
        assert!(progress.step < self.0, "killed");
    }
}

#[test]
fn a_killed_run_goes_on_from_its_last_checkpoint_within_an_epoch() {
    let folder = tempfile::tempdir().unwrap();
    let unbroken = begin(&folder.path().join("unbroken"), config()).fit(&mut ()).unwrap();
    let mut config = config();
    config.output.checkpoint_every = Some(2);
    let path = folder.path().join("run");
    let trainer = begin(&path, config);
    let killed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| trainer.fit(&mut KillAt(12))));
    assert!(killed.is_err());
    // Seven steps an epoch: there were checkpoints after steps 2, 4, 6, 7, 9 and 11.
    let (trainer, problem) = resume(&path, None);
    assert!(problem.is_none());
    assert_eq!((trainer.progress().step, trainer.progress().epoch, trainer.progress().batch), (11, 1, 4));
    assert_eq!(essence(&trainer.fit(&mut ()).unwrap()), essence(&unbroken));
}

#[test]
fn a_folder_takes_one_training_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let trainer = begin(folder.path(), config());
    let run = RunFolder::open(folder.path()).unwrap();
    let second = Trainer::resume(run, config(), splits(), &engine()).err().unwrap();
    assert!(matches!(&second, convnet::Error::Locked { holder, .. } if holder.starts_with("process ")), "{second}");
    drop(trainer);
    resume(folder.path(), None).0.fit(&mut ()).unwrap();
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
    let outcome = begin(folder.path(), with(|recipe| recipe.max_steps = Some(7))).fit(&mut ()).unwrap();
    assert_eq!((outcome.ending, outcome.progress.epoch, outcome.epochs.len()), (Ending::MaxSteps, 1, 1));
    // Nothing is left to do for the same number of steps.
    let again = resume(folder.path(), Some(7)).0.fit(&mut ()).unwrap();
    assert_eq!(essence(&again), essence(&outcome));
}

#[test]
fn a_loss_that_is_no_number_ends_training_and_leaves_the_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = with(|recipe| {
        recipe.optimizer = OptimizerConfig { lr: 1e38, name: Optimizer::Sgd, ..OptimizerConfig::default() };
    });
    config.model.batch_norm = Some(false);
    let path = folder.path().join("new");
    let message = begin(&path, config.clone()).fit(&mut ()).unwrap_err().to_string();
    assert!(message.contains("of epoch 1: training has diverged"), "{message}");
    let run = RunFolder::open(&path).unwrap();
    assert!(!run.last_safetensors().exists() && !run.best_safetensors().exists());

    let path = folder.path().join("resumed");
    let mut calm = config;
    (calm.recipe.optimizer.lr, calm.recipe.max_steps) = (1e-3, Some(9));
    begin(&path, calm.clone()).fit(&mut ()).unwrap();
    let run = RunFolder::open(&path).unwrap();
    let before = fs::read(run.last_safetensors()).unwrap();
    let mut wild = calm;
    (wild.recipe.optimizer.lr, wild.recipe.max_steps) = (1e38, None);
    let last = run.last_safetensors();
    let trainer = Trainer::resume(run, wild, splits(), &engine()).unwrap().0;
    let message = trainer.fit(&mut ()).unwrap_err().to_string();
    assert!(message.contains("of epoch 2") && message.ends_with("is from before"), "{message}");
    assert_eq!(fs::read(last).unwrap(), before);
}

/// A last checkpoint, changed and resumed from: what the error says, and whether the checkpoint is as it was.
fn diverge(config: &TrainConfig, change: impl FnOnce(&mut Checkpoint)) -> (convnet::Error, bool) {
    let folder = tempfile::tempdir().unwrap();
    begin(
        folder.path(),
        TrainConfig { recipe: Recipe { max_steps: Some(9), ..config.recipe.clone() }, ..config.clone() },
    )
    .fit(&mut ())
    .unwrap();
    let last = RunFolder::open(folder.path()).unwrap().last_safetensors();
    let mut checkpoint = Checkpoint::load(&last).unwrap();
    change(&mut checkpoint);
    checkpoint.save(&last).unwrap();
    let before = fs::read(&last).unwrap();
    let error = resume(folder.path(), None).0.fit(&mut ()).unwrap_err();
    (error, fs::read(last).unwrap() == before)
}

/// Seven steps an epoch; the checkpoint is that of the ninth.
#[test]
fn what_is_no_number_is_named_by_layer_step_and_batch() {
    let mut config = config();
    config.output.checkpoint_every = Some(1);
    let huge = |name: &'static str| {
        move |checkpoint: &mut Checkpoint| {
            checkpoint.weights.get_mut(name).unwrap().data_mut().iter_mut().for_each(|w| *w = w.signum() * 3e38);
        }
    };
    let facts = |(error, kept): (convnet::Error, bool)| match error {
        convnet::Error::Diverged { what, step, epoch, batch, kept: Some(_), .. } => (what, step, epoch, batch, kept),
        other => panic!("{other}"),
    };
    // A convolution whose sums overflow, in the tenth step, the third of the second epoch.
    for (name, layer) in [("linear1.weight", "linear1"), ("head.weight", "head")] {
        let found = facts(diverge(&config, huge(name)));
        assert_eq!(found, (format!("output of layer '{layer}'"), 10, 2, 3, true));
    }
    // An update whose weights overflow is named itself, before the next pictures; nothing is saved.
    let infinite = |checkpoint: &mut Checkpoint| {
        checkpoint.optimizer.get_mut("exp_avg.head.bias").unwrap().data_mut()[0] = f32::INFINITY;
    };
    assert_eq!(facts(diverge(&config, infinite)), ("tensor 'head.bias'".into(), 10, 2, 3, true));
    // The same where no checkpoint is due: the next step finds it.
    config.output.checkpoint_every = None;
    assert_eq!(facts(diverge(&config, infinite)), ("tensor 'head.bias'".into(), 10, 2, 3, true));
    // A second moment without end stops its weight for ever, though every weight is a number.
    config.output.checkpoint_every = Some(1);
    let stuck = |checkpoint: &mut Checkpoint| {
        checkpoint.optimizer.get_mut("exp_avg_sq.head.bias").unwrap().data_mut()[0] = f32::INFINITY;
    };
    let (what, step, .., kept) = facts(diverge(&config, stuck));
    assert_eq!((what.as_str(), step, kept), ("optimizer's 'exp_avg_sq.head.bias'", 10, true));
}

#[test]
fn other_data_and_foreign_checkpoints_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    begin(folder.path(), with(|recipe| recipe.max_steps = Some(2))).fit(&mut ()).unwrap();
    let problem = |splits| {
        let run = RunFolder::open(folder.path()).unwrap();
        let message = Trainer::resume(run, config(), splits, &engine()).err().unwrap().to_string();
        assert!(message.contains("last.safetensors: "), "{message}");
        message
    };
    let others = Splits { train: dataset(49), ..splits() };
    assert!(problem(others).ends_with("the run was trained on 50 pictures, but 'rows' has 49"));
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
fn what_does_not_fit_is_refused() {
    let none = Splits { val: Some(dataset(0)), ..splits() };
    let problem = |splits| Trainer::new(classifier(&config()), splits, config().recipe).err().unwrap().to_string();
    assert!(problem(none).contains("expected at least one picture"));
    let other = zoo::cnn(&zoo::Cnn { ydim: 3, ..zoo::Cnn::default() }).unwrap();
    let other = Classifier::untrained(other, 0).unwrap();
    let message = Trainer::new(other, splits(), config().recipe).err().unwrap().to_string();
    assert!(message.contains("for net 'cnn': expected shape [1, 28, 28], got [1, 6, 6]"), "{message}");
    let message = Trainer::new(classifier(&config()), splits(), with(|recipe| recipe.epochs = 0).recipe).err().unwrap();
    assert!(message.to_string().starts_with("epochs: expected at least 1"));
}
