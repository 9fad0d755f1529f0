//! Trainings by several processes, which are threads here, against one process with as many shards.

use std::collections::BTreeMap;

use convnet_kernels::memory::Buffer;

use super::test_group::together;
use super::{Node, Processes, Shards};
use crate::classifier::Classifier;
use crate::data::{Dataset, Splits};
use crate::exec::Engine;
use crate::net::Net;
use crate::ops::{Activation, Conv2d, Linear, Op, Shape};
use crate::prelude::*;
use crate::random::Random;
use crate::train::{Optimizer, Outcome, Recipe, TestResult, Trainer};
use crate::{Error, Result};

/// Bright and dark pictures with noise, a third of them bright.
fn pictures(name: &str, count: usize) -> Dataset {
    let mut random = Random::stream(3, *b"testing.", count as u64);
    let labels: Vec<u32> = (0..count).map(|index| u32::from(index % 3 == 1)).collect();
    let pixels = labels.iter().flat_map(|&label| vec![label; 64]).collect::<Vec<_>>();
    let pixels = pixels.into_iter().map(|label| (random.below(200) + 50 * label as usize) as u8).collect();
    Dataset::new(name, [1, 8, 8], pixels, labels, vec!["dark".into(), "bright".into()]).unwrap()
}

/// A small net; with norms and dropout, or with neither.
fn net(full: bool) -> Net {
    let mut net = Net::new("small", Shape::Map([1, 8, 8])).unwrap();
    net.then("conv", Conv2d::new(5, 3)).unwrap();
    if full {
        net.then("norm", BatchNorm2d::default()).unwrap();
    }
    net.then("relu", Activation::Relu).unwrap();
    net.then("flatten", Op::Flatten).unwrap();
    if full {
        net.then("dropout", Dropout::new(0.3)).unwrap();
    }
    net.then("head", Linear::new(2)).unwrap();
    net
}

/// Norms behind convolutions, before a sum and over a concatenation, and nothing that is drawn.
fn normalised() -> Net {
    let mut net = Net::new("normalised", Shape::Map([1, 8, 8])).unwrap();
    net.then("conv1", Conv2d { bias: false, ..Conv2d::new(20, 3) }).unwrap();
    net.then("norm1", BatchNorm2d::default()).unwrap();
    let first = net.then("relu1", Activation::Relu).unwrap();
    net.then("conv2", Conv2d { bias: false, ..Conv2d::new(20, Window::square(3).padding(1)) }).unwrap();
    let second = net.then("norm2", BatchNorm2d::default()).unwrap();
    net.add("sum", Op::Add, &[second, first]).unwrap();
    let sum = net.then("relu2", Activation::Relu).unwrap();
    net.add("both", Op::Concat, &[sum, first]).unwrap();
    net.then("norm3", BatchNorm2d::default()).unwrap();
    net.then("silu", Activation::Silu).unwrap();
    net.then("pool", AdaptiveAvgPool2d::new([1, 1])).unwrap();
    net.then("flatten", Op::Flatten).unwrap();
    net.then("head", Linear::new(2)).unwrap();
    net
}

fn recipe(shards: usize) -> Recipe {
    Recipe { epochs: 2, batch_size: 10, shards: Some(shards), ema: Some(0.9), ..Recipe::default() }
}

fn trained(processes: &Processes, net: Net, recipe: Recipe) -> Result<Outcome> {
    let splits =
        Splits { train: pictures("train", 43), val: Some(pictures("val", 25)), test: Some(pictures("test", 31)) };
    let engine = Engine::new(1)?;
    let trainer = Trainer::with_engine(Classifier::untrained(net, 0)?, splits, recipe, &engine)?;
    trainer.across(processes)?.fit(&mut ())
}

/// What is the same in all: weights, the figures of each epoch, but for times, and those of the test.
fn result(outcome: &Outcome) -> (String, Vec<[Option<f64>; 6]>, Option<TestResult>) {
    let figures = outcome.epochs.iter().map(|epoch| {
        let trained = [Some(epoch.train_loss), Some(epoch.train_accuracy)];
        let measured = [epoch.train_eval_loss, epoch.val_loss, epoch.val_accuracy, epoch.grad_norm];
        [trained[0], trained[1], measured[0], measured[1], measured[2], measured[3]]
    });
    assert_eq!(outcome.test.map(|test| test.images), Some(31));
    (outcome.weights_sha256.clone(), figures.collect(), outcome.test)
}

#[test]
fn any_number_of_processes_ends_with_the_same_bits() {
    // 43 pictures are four batches of 10 and one of 3, which has fewer than there are shards.
    let of = |shards: usize, size: usize, sync_batch_norm: bool, bucket: usize| {
        let recipe = || {
            let mut recipe = Recipe { sync_batch_norm, ..recipe(shards) };
            recipe.optimizer.clip_grad_norm = Some(1.0);
            recipe
        };
        let all =
            together(size, |processes| result(&trained(&processes.with_bucket(bucket), net(true), recipe()).unwrap()));
        assert!(all.iter().all(|one| *one == all[0]));
        all.into_iter().next().unwrap()
    };
    let mut hashes = Vec::new();
    for (shards, sizes) in [(1, vec![1]), (2, vec![1, 2]), (4, vec![1, 2, 4]), (6, vec![1, 2, 3, 6])] {
        for together in [false, true] {
            // Each layer is a bucket, or two of them are, or all.
            let buckets = |&size: &usize| [1, 100, usize::MAX].map(|bucket| of(shards, size, together, bucket));
            let found: Vec<_> = sizes.iter().flat_map(buckets).collect();
            assert!(found.iter().all(|one| *one == found[0]), "{shards} shards, {together}: {found:?}");
            hashes.push(found[0].0.clone());
        }
    }
    // The number of shards matters, and so does whether each has statistics of its own, but for a single one.
    hashes.sort();
    hashes.dedup();
    assert_eq!(hashes.len(), 7);
}

#[test]
fn shards_without_norms_find_the_gradients_of_the_whole_batch() {
    let weights = |shards: usize| {
        let outcome = trained(&Processes::alone(), net(false), Recipe { epochs: 1, ..recipe(shards) }).unwrap();
        (outcome.classifier().unwrap().weights, outcome.epochs[0].train_loss)
    };
    let (whole, loss) = weights(1);
    for shards in [2, 3, 10] {
        let (cut, cut_loss) = weights(shards);
        assert!((loss - cut_loss).abs() < 1e-6, "{loss} {cut_loss}");
        for (name, tensor) in &whole {
            let pairs = tensor.data().iter().zip(cut[name].data());
            let largest = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(largest < 2e-5, "{shards} shards, {name}: {largest}");
        }
    }
}

/// Synchronised norms see the whole batch, so shards find what a batch finds that is not cut.
#[test]
fn shards_that_are_normalised_together_learn_what_the_whole_batch_does() {
    let weights = |shards: usize, sync_batch_norm: bool| {
        let mut recipe = Recipe { epochs: 1, sync_batch_norm, ema: None, precise_bn: Some(0), ..recipe(shards) };
        recipe.optimizer.name = Optimizer::Sgd;
        recipe.optimizer.lr = 0.05;
        let outcome = trained(&Processes::alone(), normalised(), recipe).unwrap();
        (outcome.classifier().unwrap().weights, outcome.epochs[0].train_loss)
    };
    let largest = |a: &StateDict, b: &StateDict| {
        let of = |(name, tensor): (&String, &Tensor)| {
            let pairs = tensor.data().iter().zip(b[name].data());
            pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
        };
        a.iter().map(of).fold(0.0, f32::max)
    };
    let (whole, loss) = weights(1, false);
    // Batches of 10 are cut evenly or not, and the last one of 3 leaves shards without pictures.
    for shards in [2, 3, 5, 10] {
        let (together, together_loss) = weights(shards, true);
        assert!((loss - together_loss).abs() < 1e-6, "{loss} {together_loss}");
        let [off, apart] = [&together, &weights(shards, false).0].map(|cut| largest(&whole, cut));
        assert!(off < 5e-6 && apart > 100.0 * off, "{shards} shards: {off} together, {apart} apart");
    }
}

#[test]
fn sums_are_those_of_the_tree_whatever_the_length() {
    for (shards, size) in [(4, 2), (4, 4), (6, 3), (5, 5), (12, 3)] {
        for len in [1, 15, 16, 33, 1000] {
            let of = |shard: usize| -> Vec<f32> {
                let mut random = Random::stream(1, *b"testing.", shard as u64);
                (0..len).map(|_| random.bell(1.0)).collect()
            };
            let add = |a: Vec<f32>, b: Vec<f32>| a.iter().zip(&b).map(|(a, b)| a + b).collect::<Vec<f32>>();
            let node = |node: Node| {
                let mut leaves =
                    (node.first..node.end).map(|shard| (Node { first: shard, end: shard + 1 }, of(shard))).peekable();
                node.sum(&mut leaves, &mut { add }).unwrap()
            };
            let expected = node(Node::all(shards));
            let sums = together(size, |processes| {
                let shards = Shards::new(shards, processes.rank(), size).unwrap();
                // Twice, since memory is used again.
                let own = || shards.own_nodes().into_iter().map(|own| Buffer::from(&node(own)[..]).into()).collect();
                let sums = [(); 2].map(|()| processes.begin_sum(shards, own()).unwrap());
                sums.map(|sum| sum.wait().unwrap()[0].to_vec())
            });
            assert!(sums.iter().flatten().all(|sum| *sum == expected), "{shards} shards, {size} processes, {len}");
        }
    }
}

#[test]
fn what_fails_in_one_process_fails_in_all_and_is_told_by_one() {
    let failed = together(3, |processes| {
        let own = if processes.rank() == 1 { Err(Error::invalid("no room")) } else { Ok(processes.rank()) };
        processes.agree(own).unwrap_err()
    });
    assert_eq!(
        failed.iter().map(Error::to_string).collect::<Vec<_>>(),
        ["process 1 of 3: no room", "no room", "process 1 of 3: no room"]
    );
    assert!(matches!(failed[0], Error::Elsewhere { rank: 1, size: 3, .. }));
    let found = together(2, |processes| processes.exchange::<_, Error>(Ok(processes.rank())).unwrap());
    assert_eq!(found, [[0, 1], [0, 1]]);

    // A rate at which nothing stays finite.
    for sync_batch_norm in [false, true] {
        let mut hot = Recipe { sync_batch_norm, ..recipe(4) };
        hot.optimizer.lr = 1e38;
        let told = together(2, |processes| trained(&processes.with_bucket(1), net(true), hot.clone()).unwrap_err());
        let own: BTreeMap<usize, bool> =
            told.iter().enumerate().map(|(rank, error)| (rank, matches!(error, Error::Diverged { .. }))).collect();
        assert_eq!(own.values().filter(|own| **own).count(), 1, "{told:?}");
    }
}

#[test]
fn processes_that_differ_are_told_apart_at_the_start() {
    let run = |recipes: [Recipe; 2], sizes: [usize; 2]| {
        let all = together(2, |processes| {
            let rank = processes.rank();
            let splits = Splits { train: pictures("train", sizes[rank]), val: None, test: None };
            let classifier = Classifier::untrained(net(true), 0)?;
            let trainer = Trainer::with_engine(classifier, splits, recipes[rank].clone(), &Engine::new(1)?)?;
            trainer.across(&processes)?.fit(&mut ())
        });
        all.into_iter().next().unwrap().unwrap_err().to_string()
    };
    let of = "process 1 of 2 has another";
    let message = run([recipe(2), Recipe { seed: 1, ..recipe(2) }], [20, 20]);
    assert!(message.starts_with(&format!("{of} recipe than process 0")), "{message}");
    let message = run([recipe(2), recipe(2)], [20, 21]);
    assert!(message.starts_with(&format!("{of} set of training pictures than process 0")), "{message}");
    let message = run([recipe(3), recipe(3)], [20, 20]);
    assert_eq!(message, "shards: expected a multiple of 2, the number of processes, got 3");
}
