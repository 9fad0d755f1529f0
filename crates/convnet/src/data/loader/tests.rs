//! The order of batches, and what must not show in them.

use std::collections::HashSet;

use super::*;

/// 103 pictures of 2 channels; the first byte of a picture and its label are its index.
fn data() -> Arc<Dataset> {
    let images = (0..103).flat_map(|i| [i, 0, 0, 255]).collect();
    let classes = (0..103).map(|i| i.to_string()).collect();
    Arc::new(Dataset::new("t", [2, 1, 2], images, (0..103).collect(), classes).unwrap())
}

fn loader(batch_size: usize, order: Order, start_batch: usize, workers: usize) -> Loader {
    let options = LoaderOptions { batch_size, order, start_batch, workers };
    Loader::new(data(), &Normalization::unit(2), options).unwrap()
}

fn labels(batches: impl Iterator<Item = Result<Batch>>) -> Vec<Vec<u32>> {
    batches.map(|batch| batch.unwrap().labels().to_vec()).collect()
}

const SHUFFLED: Order = Order::Shuffled { seed: 5, epoch: 2 };

#[test]
fn an_epoch_has_every_picture_once_normalised() {
    let mut seen = Vec::new();
    for batch in loader(10, SHUFFLED, 0, 2).map(Result::unwrap) {
        assert_eq!(batch.shape(), [batch.len(), 2, 1, 2]);
        for (image, &label) in batch.images().chunks(4).zip(batch.labels()) {
            assert_eq!(image, [label as f32 / 255.0, 0.0, 0.0, 1.0]);
        }
        seen.extend_from_slice(batch.labels());
    }
    assert_ne!(seen, (0..103).collect::<Vec<_>>());
    seen.sort_unstable();
    assert_eq!(seen, (0..103).collect::<Vec<_>>());
}

#[test]
fn the_order_depends_on_seed_and_epoch_alone() {
    let expected = labels(loader(10, SHUFFLED, 0, 1));
    assert_eq!(expected.iter().map(Vec::len).collect::<Vec<_>>(), [10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 3]);
    for workers in [2, 3, 16] {
        assert_eq!(labels(loader(10, SHUFFLED, 0, workers)), expected);
        assert_eq!(labels(loader(10, SHUFFLED, 4, workers)), expected[4..]);
    }
    assert_ne!(labels(loader(10, Order::Shuffled { seed: 5, epoch: 3 }, 0, 1)), expected);
    assert_ne!(labels(loader(10, Order::Shuffled { seed: 6, epoch: 2 }, 0, 1)), expected);
    assert_eq!(labels(loader(100, Order::Sequential, 1, 1)), [[100, 101, 102]]);
}

#[test]
fn a_windowed_epoch_has_every_picture_once_near_its_place() {
    let order = |epoch, window| labels(loader(103, Order::Windowed { seed: 5, epoch, window }, 0, 2)).concat();
    for (epoch, window) in [(0, 1), (1, 10), (2, 10), (3, 1000)] {
        let mut order = order(epoch, window);
        // The first one is drawn from the window at the beginning, wherever that is.
        let begins: Vec<u32> = (0..103).filter(|&begin| fits(&order, begin, window)).collect();
        assert!(!begins.is_empty(), "window of {window}: {order:?}");
        order.sort_unstable();
        assert_eq!(order, (0..103).collect::<Vec<_>>());
    }
    assert_ne!(order(1, 10), order(2, 10));
    assert_ne!(order(1, 1)[0], order(2, 1)[0]);
}

/// Whether each picture comes at most a window before its place, counted from where the epoch begins.
fn fits(order: &[u32], begin: u32, window: usize) -> bool {
    let place = |label: u32| (label + 103 - begin) as usize % 103;
    order.iter().enumerate().all(|(at, &label)| place(label) < at + window)
}

#[test]
fn sizes_are_known_and_ends_are_clean() {
    let mut loader = loader(50, SHUFFLED, 1, 2);
    assert_eq!(loader.len(), 2);
    assert!(loader.next().is_some() && loader.next().is_some() && loader.next().is_none());
    assert!(loader.next().is_none());
    assert_eq!(self::loader(50, SHUFFLED, 99, 2).count(), 0);
    assert_eq!(self::loader(usize::MAX, SHUFFLED, 0, 2).count(), 1);
    let refused = |batch_size, workers| {
        let options = LoaderOptions { batch_size, order: SHUFFLED, start_batch: 0, workers };
        Loader::new(data(), &Normalization::unit(2), options).is_err()
    };
    assert!(refused(0, 1) && refused(1, 0) && !refused(1, 1));
}

#[test]
fn dropping_early_stops_the_threads() {
    for taken in 0..8 {
        let mut loader = loader(5, SHUFFLED, 0, 2);
        let held: Vec<Batch> = loader.by_ref().take(taken.min(6)).map(Result::unwrap).collect();
        drop(loader);
        drop(held);
    }
}

#[test]
fn buffers_come_round_again() {
    let places: HashSet<_> = loader(2, SHUFFLED, 0, 2).map(|batch| batch.unwrap().images().as_ptr()).collect();
    // Two threads that take four pictures at a time have four batches of two.
    assert!(places.len() <= BUFFERS + 4, "{} buffers for 52 batches", places.len());
}

#[test]
fn pictures_are_changed_alike_by_any_number_of_workers() {
    let images = (0..20 * 48).map(|i| (i * 7 % 251) as u8).collect();
    let data = Arc::new(Dataset::new("t", [3, 4, 4], images, vec![0; 20], vec!["a".into()]).unwrap());
    let epoch = |augmentation: &str, order: Order, start_batch: usize, workers: usize| {
        let options = LoaderOptions { batch_size: 3, order, start_batch, workers };
        let augmentation = augmentation.parse().unwrap();
        let loader = Loader::augmented(Arc::clone(&data), &Normalization::unit(3), options, &augmentation).unwrap();
        loader.map(|batch| batch.unwrap().images().to_vec()).collect::<Vec<_>>()
    };
    let one = epoch("imagenet_v2", SHUFFLED, 0, 1);
    assert_eq!(epoch("imagenet_v2", SHUFFLED, 0, 4), one);
    assert_eq!(epoch("imagenet_v2", SHUFFLED, 4, 2), one[4..]);
    assert_ne!(epoch("none", SHUFFLED, 0, 1), one);
    assert_ne!(epoch("imagenet_v2", Order::Shuffled { seed: 5, epoch: 3 }, 0, 1), one);
}

/// A folder with pictures of several sizes, in two classes, and its training part with so many bytes for decoded ones.
fn photos(folder: &std::path::Path, augmentation: &str, memory: u64) -> Arc<Dataset> {
    use crate::data::{Sizing, Source, TargetSize};
    for index in 0..14_u8 {
        let (height, width) = (9 + usize::from(index) % 5, 20 - usize::from(index));
        let planes: Vec<u8> = (0..3 * height * width).map(|i| (i * (7 + usize::from(index)) % 251) as u8).collect();
        let path = folder.join(format!("{}/{index}.png", if index % 3 == 0 { "a" } else { "b" }));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        crate::data::picture::write_png(&path, [3, height, width], &planes).unwrap();
    }
    let augmentation: Augmentation = augmentation.parse().unwrap();
    let target = TargetSize { resize: Some(9), ..TargetSize::customary([3, 8, 8]) };
    let sizing = Sizing { whole: augmentation.takes_any_size(), memory, ..Sizing::to(target) };
    Arc::new(Source::Folder(folder.into()).load(sizing).unwrap().train)
}

/// Whatever keeps pictures and however many threads make them, batches have the same bits.
#[test]
fn neither_workers_nor_memory_show_in_a_batch() {
    let folder = tempfile::tempdir().unwrap();
    let all = r#"["random_resized_crop", "horizontal_flip", "vertical_flip", { rotation = { degrees = 20 } },
        { affine = { degrees = 5, translate = [0.1, 0.1] } }, { perspective = { p = 1 } },
        { color_jitter = { brightness = 0.4, hue = 0.1 } }, "grayscale", { gaussian_blur = { kernel_size = [3, 5] } },
        { posterize = { bits = 3 } }, "solarize", "equalize", "autocontrast", "invert", { sharpness = { factor = 2 } },
        "pca_noise", "rand_augment", "trivial_augment_wide", "aug_mix", "random_erasing"]"#;
    let own = r#"[{ color_jitter = { contrast = 0.4 } }, "horizontal_flip", "resize", { random_crop = { pad_if_needed = true } }]"#;
    for augmentation in [all, own, "cifar", "none", r#"["horizontal_flip", "random_erasing"]"#] {
        let parsed: Augmentation = augmentation.parse().unwrap();
        let epoch = |memory, workers, start_batch| {
            let data = photos(folder.path(), augmentation, memory);
            assert_eq!(data.is_decoded(), memory > 0);
            let options = LoaderOptions { batch_size: 4, order: SHUFFLED, start_batch, workers };
            let loader = Loader::augmented(data, &Normalization::imagenet(), options, &parsed).unwrap();
            loader.map(|batch| batch.unwrap().images().to_vec()).collect::<Vec<_>>()
        };
        let expected = epoch(1 << 20, 1, 0);
        assert_eq!(expected.len(), 4);
        for (memory, workers) in [(1 << 20, 4), (0, 1), (0, 2), (0, 4)] {
            assert_eq!(epoch(memory, workers, 0), expected, "{augmentation}, {memory} bytes, {workers} workers");
            assert_eq!(epoch(memory, workers, 2), expected[2..]);
        }
    }
}

/// A crop is one of the picture itself: of its own pixels, where nothing is resized.
#[test]
fn crops_are_of_the_original() {
    let folder = tempfile::tempdir().unwrap();
    let augmentation = r#"[{ random_resized_crop = { scale = [0.2, 0.2], ratio = [1.0, 1.0] } }]"#;
    let data = photos(folder.path(), augmentation, 0);
    let options = LoaderOptions { batch_size: 1, order: SHUFFLED, start_batch: 0, workers: 1 };
    let parsed = augmentation.parse().unwrap();
    let batches = Loader::augmented(Arc::clone(&data), &Normalization::unit(3), options, &parsed).unwrap();
    let order = SHUFFLED.of(data.len()).unwrap();
    for (batch, item) in batches.zip(order) {
        let augmenter = Augmenter::new(&parsed, Given::AnySize, [3, 8, 8], &Normalization::unit(3)).unwrap();
        let mut expected = [0; 192];
        let key = RandomKey { seed: 5, epoch: 2, index: item.into() };
        let apply = |source: super::super::resample::Source<'_>| {
            augmenter.apply_to(source, key, &mut Scratch::default(), &mut expected)
        };
        data.with_whole(item as usize, &mut Making::default(), apply).unwrap();
        let found: Vec<u8> = batch.unwrap().images().iter().map(|x| (x * 255.0).round() as u8).collect();
        assert_eq!(found, expected);
    }
}

#[test]
fn a_picture_that_cannot_be_decoded_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let data = photos(folder.path(), "none", 0);
    std::fs::write(folder.path().join("b/7.png"), "no picture").unwrap();
    std::fs::remove_file(folder.path().join("b/8.png")).unwrap();
    for workers in [1, 4] {
        let options = LoaderOptions { batch_size: 14, order: Order::Sequential, start_batch: 0, workers };
        let mut loader = Loader::new(Arc::clone(&data), &Normalization::imagenet(), options).unwrap();
        let error = loader.next().unwrap().unwrap_err().to_string();
        assert!(error.contains("b/7.png: not a PNG") && loader.next().is_none(), "{error}");
    }
    let options = LoaderOptions { batch_size: 1, order: Order::Sequential, start_batch: 0, workers: 3 };
    let loader = Loader::new(data, &Normalization::imagenet(), options).unwrap();
    assert_eq!(loader.filter(Result::is_err).count(), 2);
}
