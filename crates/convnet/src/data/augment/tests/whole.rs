//! Whole augmentations: sizes, reproducibility and mixtures.

use super::*;

fn augmenter(text: &str, given: Given, target: [usize; 3]) -> Augmenter {
    Augmenter::new(&text.parse().unwrap(), given, target, &Normalization::unit(target[0])).unwrap()
}

fn applied(augmenter: &Augmenter, planes: &[u8], shape: [usize; 3], key: RandomKey) -> Vec<u8> {
    let mut out = vec![0; augmenter.target().iter().product()];
    augmenter.apply(PictureRef { shape, planes }, key, &mut Scratch::default(), &mut out).unwrap();
    out
}

const KEY: RandomKey = RandomKey { seed: 1, epoch: 2, index: 3 };

/// Everything that has settings which change something.
const MANY: &str = r#"[{ resize = { size = 40 } }, { random_crop = { size = [36, 36], padding = 3, padding_mode = "reflect" } },
    { color_jitter = { brightness = 0.4, hue = 0.2 } }, { rotation = { degrees = 20, interpolation = "bilinear" } },
    { affine = { degrees = 5, translate = [0.1, 0.1] } }, { perspective = { p = 1 } }, { gaussian_blur = { kernel_size = [3, 5] } },
    "random_resized_crop", "rand_augment", "trivial_augment_wide", "aug_mix", "equalize", "autocontrast", "invert", "grayscale",
    { posterize = { bits = 3 } }, "solarize", { sharpness = { factor = 2 } }, "horizontal_flip", "vertical_flip",
    { random_erasing = { value = "random" } }]"#;

#[test]
fn pictures_depend_on_seed_epoch_and_index_alone() {
    let shape = [3, 41, 50];
    let planes = picture(shape, false);
    let augmenter = augmenter(MANY, Given::AnySize, [3, 24, 20]);
    let expected = applied(&augmenter, &planes, shape, KEY);
    // A scratch that has served other pictures changes nothing.
    let mut scratch = Scratch::default();
    let mut out = vec![0; 3 * 24 * 20];
    for index in 0..20 {
        let small = picture([3, 60, 33], true);
        let small = PictureRef { shape: [3, 60, 33], planes: &small };
        augmenter.apply(small, RandomKey { index, ..KEY }, &mut scratch, &mut out).unwrap();
    }
    augmenter.apply(PictureRef { shape, planes: &planes }, KEY, &mut scratch, &mut out).unwrap();
    assert_eq!(out, expected);
    for other in [RandomKey { seed: 2, ..KEY }, RandomKey { epoch: 3, ..KEY }, RandomKey { index: 4, ..KEY }] {
        assert_ne!(applied(&augmenter, &planes, shape, other), expected);
    }
}

#[test]
fn grey_pictures_go_through_everything_and_colour_ones_through_colour_noise() {
    let grey = augmenter(MANY, Given::Size([41, 50]), [1, 24, 20]);
    applied(&grey, &picture([1, 41, 50], false), [1, 41, 50], KEY);
    let noisy = augmenter("[\"pca_noise\"]", Given::Size([2, 2]), [3, 2, 2]);
    let out = applied(&noisy, &[100; 12], [3, 2, 2], KEY);
    assert!(out.chunks(4).all(|plane| plane.iter().all(|&x| x == plane[0])) && out != [100; 12]);
    let grey = augmenter("[\"pca_noise\"]", Given::Size([2, 2]), [1, 2, 2]);
    let picture = PictureRef { shape: [1, 2, 2], planes: &[100; 4] };
    let error = grey.apply(picture, KEY, &mut Scratch::default(), &mut [0; 4]).unwrap_err().to_string();
    assert!(error.contains("transform 1 (pca_noise): expected pictures of 3 channels"), "{error}");
}

#[test]
fn one_more_transform_changes_no_others_draws() {
    let shape = [1, 1, 400];
    let planes: Vec<u8> = (0..400).map(|i| (i % 251) as u8).collect();
    let flips = |text: &str| -> Vec<bool> {
        let augmenter = augmenter(text, Given::Size([1, 400]), shape);
        (0..64).map(|index| applied(&augmenter, &planes, shape, RandomKey { index, ..KEY })[0] != 0).collect()
    };
    let alone = flips("[\"horizontal_flip\"]");
    assert!(alone.contains(&true) && alone.contains(&false));
    assert_eq!(flips("[\"autocontrast\", { invert = { p = 0 } }, \"horizontal_flip\"]"), alone);
    // A second of the same name has draws of its own.
    let twice = flips("[\"horizontal_flip\", \"horizontal_flip\"]");
    assert!(twice != alone && twice.contains(&true));
}

#[test]
fn presets_lead_to_the_target_and_pictures_that_do_not_fit_are_refused() {
    for (name, preset) in Augmentation::PRESETS {
        let any = Augmenter::new(&preset(), Given::AnySize, [3, 12, 12], &Normalization::imagenet());
        assert_eq!(any.is_ok(), name != "none", "{name}");
        let same = Augmenter::new(&preset(), Given::Size([12, 12]), [3, 12, 12], &Normalization::imagenet()).unwrap();
        applied(&same, &picture([3, 12, 12], true), [3, 12, 12], KEY);
    }
    let augmenter = augmenter("cifar", Given::AnySize, [3, 20, 20]);
    let refused = |shape: [usize; 3], bytes: usize, out: usize| {
        let planes = vec![0; bytes];
        let picture = PictureRef { shape, planes: &planes };
        augmenter.apply(picture, KEY, &mut Scratch::default(), &mut vec![0; out]).unwrap_err().to_string()
    };
    assert!(refused([3, 11, 20], 660, 1200).contains("a window of 20 pixels does not fit a side of 11"));
    assert!(refused([3, 20, 20], 1199, 1200).contains("1199 bytes"));
    assert!(refused([3, 20, 20], 1200, 1199).contains("1199 bytes"));
    assert!(refused([1, 20, 20], 400, 1200).contains("expected shape [3, 20, 20]"));
    assert!(refused([3, 0, 20], 0, 1200).contains("not 0"));
    let channels = Augmenter::new(&Augmentation::none(), Given::AnySize, [2, 4, 4], &Normalization::unit(2));
    assert!(channels.unwrap_err().to_string().contains("pictures of 1 or 3 channels"));
}

#[test]
fn tiny_pictures_go_through_every_transform() {
    let text = MANY.replace("kernel_size = [3, 5]", "kernel_size = [1, 1]").replace("padding = 3, ", "");
    for target in [[3, 1, 1], [1, 1, 2], [3, 2, 1]] {
        let augmenter = augmenter(&text, Given::AnySize, target);
        for shape in [[target[0], 1, 1], [target[0], 1, 3], [target[0], 2, 2]] {
            for index in 0..50 {
                applied(&augmenter, &picture(shape, false), shape, RandomKey { index, ..KEY });
            }
        }
    }
}

#[test]
fn a_mixture_of_nothing_but_the_picture_is_the_picture() {
    use crate::data::augment::step::Change;
    let shape = [3, 5, 7];
    let planes = picture(shape, false);
    let mix = |weights: [f32; 3]| {
        let [start, one, two] = weights;
        let steps = vec![
            Change::MixStart(start).into(),
            Change::Invert.into(),
            Change::MixAdd { weight: one, last: false }.into(),
            Change::MixAdd { weight: two, last: true }.into(),
        ];
        done(steps, &planes, shape, [5, 7])
    };
    assert_eq!(mix([0.5, 0.0, 0.5]), planes);
    let inverted: Vec<u8> = planes.iter().map(|x| 255 - x).collect();
    assert_eq!(mix([0.0, 1.0, 0.0]), inverted);
    assert!(mix([0.25, 0.5, 0.25]).iter().all(|&x| x == 127));
}

#[test]
fn evaluation_crops_that_do_not_fit_are_refused() {
    assert!(five_crop([10, 10], [11, 4]).unwrap_err().to_string().contains("got 11x4"));
    assert!(ten_crop([10, 10], [0, 4]).is_err() && five_crop([10, 10], [10, 10]).is_ok());
}

#[test]
#[ignore = "measures speed"]
fn pictures_per_second() {
    for (text, shape, target) in [
        ("cifar", [3, 32, 32], [3, 32, 32]),
        ("imagenet", [3, 375, 500], [3, 224, 224]),
        ("imagenet_v2", [3, 375, 500], [3, 224, 224]),
    ] {
        let augmenter = augmenter(text, Given::AnySize, target);
        let planes = picture(shape, true);
        let (mut scratch, mut out) = (Scratch::default(), vec![0; target.iter().product()]);
        let (start, mut index) = (std::time::Instant::now(), 0);
        while start.elapsed().as_secs_f64() < 2.0 {
            let key = RandomKey { index, ..KEY };
            augmenter.apply(PictureRef { shape, planes: &planes }, key, &mut scratch, &mut out).unwrap();
            index += 1;
        }
        println!("{text} {shape:?}: {:.0} pictures/s", index as f64 / start.elapsed().as_secs_f64());
    }
}
