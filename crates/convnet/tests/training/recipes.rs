//! What a recipe adds to a step and to an epoch: weights of classes, statistics taken anew, averages, stages that are unfrozen.

use convnet::train::{ClassWeights, EpochMetrics};

use super::*;

/// Five pictures of the third class among fifty: with weights it is learned as well, and each class that has none is not.
#[test]
fn weights_of_classes_make_up_for_their_pictures() {
    let few = |config: &TrainConfig| {
        let kept: Vec<usize> = (0..75).filter(|index| index % 3 < 2 || index % 15 == 2).collect();
        let all = dataset(75);
        let images = kept.iter().flat_map(|&index| all.image(index).unwrap().to_vec()).collect();
        let labels = kept.iter().map(|&index| all.labels()[index]).collect();
        let train = Dataset::new("few", [1, SIDE, SIDE], images, labels, all.classes().to_vec()).unwrap();
        Trainer::with_engine(classifier(config), Splits { train, ..splits() }, config.recipe.clone(), &engine())
    };
    let accuracy = |weights: ClassWeights, focal_gamma: f64, change: fn(&mut Recipe)| {
        let config = with(|recipe| {
            (recipe.class_weights, recipe.focal_gamma, recipe.epochs) = (weights, focal_gamma, 6);
            change(recipe);
        });
        few(&config).unwrap().fit(&mut ()).unwrap()
    };
    let mixed = |recipe: &mut Recipe| (recipe.mixing.mixup_alpha, recipe.label_smoothing) = (0.2, 0.1);
    for change in [|_: &mut Recipe| (), mixed] {
        let balanced = accuracy(ClassWeights::Balanced, 2.0, change);
        assert!(balanced.progress.best_accuracy > 0.9, "{:?}", balanced.epochs);
        // The third class has 5 of 55 pictures: 55 / (3 · 25), twice, and 55 / (3 · 5).
        let given = ClassWeights::Given(vec![55.0 / 75.0, 55.0 / 75.0, 55.0 / 15.0]);
        assert_eq!(accuracy(given, 2.0, change).weights_sha256, balanced.weights_sha256);
        let alone = accuracy(ClassWeights::Given(vec![1.0, 1.0, 0.0]), 0.0, change);
        assert!(alone.progress.best_accuracy < 0.75, "{:?}", alone.epochs);
    }
    let config = with(|recipe| recipe.class_weights = ClassWeights::Given(vec![1.0, 2.0]));
    let problem = few(&config).err().unwrap().to_string();
    assert_eq!(problem, "class_weights: expected 3 numbers, one for each class in their order, got 2");
}

/// Remembers the epochs in which statistics lagged.
#[derive(Default)]
struct Lags(Vec<usize>, usize);

impl Observer for Lags {
    fn lagging(&mut self, gap: f64, _batches: usize) {
        assert!(gap > 0.0);
        self.0.push(self.1 + 1);
    }

    fn epoch(&mut self, _metrics: &EpochMetrics, _images_per_second: f64) {
        self.1 += 1;
    }
}

/// In epochs of seven steps the running statistics hold half of what they began with after the first one: they are taken anew there, and
/// no more where weights have come to rest.
#[test]
fn statistics_are_taken_anew_where_they_lag() {
    let fit = |precise_bn, epochs, lr| {
        let config = with(|recipe| (recipe.precise_bn, recipe.epochs, recipe.optimizer.lr) = (precise_bn, epochs, lr));
        let trainer = Trainer::with_engine(classifier(&config), splits(), config.recipe.clone(), &engine()).unwrap();
        let mut lags = Lags::default();
        (trainer.fit(&mut lags).unwrap().weights_sha256, lags.0)
    };
    let (automatic, lags) = fit(None, 1, 0.01);
    assert_eq!(lags, [1]);
    assert_eq!((&automatic, Vec::new()), (&fit(Some(50), 1, 0.01).0, fit(Some(50), 1, 0.01).1));
    assert_ne!(automatic, fit(Some(0), 1, 0.01).0);
    // Weights that hardly move: the beginnings are forgotten, and the running statistics stay as they are.
    let (_, lags) = fit(None, 12, 1e-9);
    assert!(lags.contains(&1) && !lags.contains(&11) && !lags.contains(&12), "{lags:?}");
}

/// The mean of the weights after each of the last epochs, with statistics of its own.
#[test]
fn the_weights_of_the_last_epochs_are_averaged() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let averaged = with(|recipe| (recipe.schedule.swa_epochs, recipe.precise_bn) = (2, Some(3)));
    let outcome = begin(&path("two"), averaged.clone()).fit(&mut ()).unwrap();
    assert_eq!((outcome.progress.averaged, outcome.progress.averaged_epoch), (2, 3));
    let last = path("two").join("last.safetensors");
    let (second, third) = (Checkpoint::load(&previous_path(&last)).unwrap(), Checkpoint::load(&last).unwrap());
    for (name, mean) in third.weights.iter().filter(|(name, _)| !name.contains("running_")) {
        let latest = &third.optimizer[&format!("trained.{name}")];
        for ((mean, a), b) in mean.data().iter().zip(second.weights[name].data()).zip(latest.data()) {
            assert!((mean - (a + b) / 2.0).abs() < 1e-6, "{name}: {mean} of {a} and {b}");
        }
        // Behind the convolution a norm takes its bias away, which therefore does not move.
        assert!(mean != latest || name == "conv1.bias", "{name}");
    }
    let running = |state: &Checkpoint| state.weights["bn1.running_mean"].clone();
    assert_ne!(running(&third), third.optimizer["trained.bn1.running_mean"]);
    let three = with(|recipe| recipe.schedule.swa_epochs = 3);
    let unbroken = begin(&path("three"), three.clone()).fit(&mut ()).unwrap();
    for (name, stop) in [
        ("step", StopAt { step: 10, ..StopAt::default() }),
        ("end", StopAt { step: 14, ..StopAt::default() }),
        // After the weights of the first epoch have joined the average.
        ("evaluation", StopAt { evaluated: 16, ..StopAt::default() }),
    ] {
        begin(&path(name), three.clone()).fit(&mut { stop }).unwrap();
        let resumed = resume(&path(name), None).0.fit(&mut ()).unwrap();
        assert_eq!((essence(&resumed), resumed.progress.averaged), (essence(&unbroken), 3), "{name}");
    }
}

/// Stages: the head, the hidden layer, the convolution with its norm.
#[test]
fn stages_are_unfrozen_one_after_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let gradual = with(|recipe| recipe.unfreeze_every = Some(1));
    let unbroken = begin(&path("unbroken"), gradual.clone()).fit(&mut ()).unwrap();
    let start = classifier(&gradual).weights;
    let after = |step: u64| {
        let name = format!("after {step}");
        begin(&path(&name), gradual.clone()).fit(&mut StopAt { step, ..StopAt::default() }).unwrap();
        let weights = Checkpoint::load(&path(&name).join("last.safetensors")).unwrap().weights;
        let resumed = resume(&path(&name), None).0.fit(&mut ()).unwrap();
        assert_eq!(essence(&resumed), essence(&unbroken), "step {step}");
        weights
    };
    let (first, next, last) = (after(7), after(8), after(15));
    for (weights, still) in [
        (&first, &["linear1.weight", "conv1.weight", "bn1.weight", "bn1.running_mean"][..]),
        (&next, &["conv1.weight", "bn1.bias", "bn1.running_var"]),
        (&last, &[]),
    ] {
        for (name, tensor) in weights {
            assert_eq!(
                tensor == &start[name] && still.contains(&name.as_str()),
                still.contains(&name.as_str()),
                "{name}"
            );
        }
    }
    assert!(first["head.weight"] != start["head.weight"] && last["bn1.running_mean"] != start["bn1.running_mean"]);
    assert!(next["linear1.weight"] != start["linear1.weight"] && last["conv1.weight"] != start["conv1.weight"]);
    // Adam's first step is as long as the learning rate, whenever it is.
    let moved = next["linear1.weight"].data().iter().zip(start["linear1.weight"].data()).map(|(a, b)| (a - b).abs());
    let longest = moved.fold(0.0, f32::max);
    assert!((0.0099..0.0101).contains(&longest), "{longest}");
    assert_eq!(unbroken.progress.step, 21);
}
