//! What is drawn: ranges, frequencies and tables.

use std::collections::HashMap;

use super::*;
use crate::data::augment::step::{Change, Ink, Move};

#[test]
fn resized_crops_have_the_shares_and_ratios_that_are_asked_for() {
    let transform = RandomResizedCrop { scale: [0.2, 0.6], ..RandomResizedCrop::default() };
    let mut middle = 0;
    for steps in drawn(transform, [3, 300, 400], [224, 200], 2000) {
        let [Step::Move(Move::ResizedCrop { area, size, interpolation })] = steps[..] else { panic!("{steps:?}") };
        assert_eq!((size, interpolation), ([224, 200], crate::data::Interpolation::Bilinear));
        assert!(area.top + area.height <= 300 && area.left + area.width <= 400);
        let share = (area.height * area.width) as f64 / 120_000.0;
        let ratio = area.width as f64 / area.height as f64;
        assert!((0.197..=0.603).contains(&share) && (0.74..=1.345).contains(&ratio), "{area:?}");
        middle += usize::from(share < 0.4);
    }
    assert!(likely(middle, 2000, 0.5), "{middle} of 2000 areas below the middle of the range");
}

#[test]
fn a_crop_that_never_fits_takes_the_middle() {
    let all = RandomResizedCrop { scale: [1.0, 1.0], ..RandomResizedCrop::default() };
    for (shape, expected) in [
        ([1, 30, 1000], Area { top: 0, left: 480, height: 30, width: 40 }),
        ([1, 1000, 30], Area { top: 480, left: 0, height: 40, width: 30 }),
    ] {
        for steps in drawn(all.clone(), shape, [8, 8], 20) {
            assert!(matches!(steps[..], [Step::Move(Move::ResizedCrop { area, .. })] if area == expected), "{steps:?}");
        }
    }
}

#[test]
fn windows_lie_anywhere_in_the_padded_picture() {
    let crop = RandomCrop { padding: 2, ..RandomCrop::default() };
    let mut places = HashMap::new();
    for steps in drawn(crop, [3, 8, 8], [8, 8], 5000) {
        let [Step::Move(Move::PaddedCrop { top, left, .. })] = steps[..] else { panic!("{steps:?}") };
        *places.entry((top, left)).or_insert(0) += 1;
    }
    assert_eq!(places.len(), 25);
    assert!(places.iter().all(|(&(y, x), &n)| y.abs() <= 2 && x.abs() <= 2 && likely(n, 5000, 0.04)), "{places:?}");
}

#[test]
fn probabilities_are_met() {
    let share =
        |transform: Transform| drawn(transform, [3, 9, 9], [9, 9], 4000).iter().filter(|s| !s.is_empty()).count();
    assert!(likely(share(HorizontalFlip::default().into()), 4000, 0.5));
    assert!(likely(share(VerticalFlip { p: 0.2 }.into()), 4000, 0.2));
    assert!(likely(share(Grayscale::default().into()), 4000, 0.1));
    assert!(likely(share(Solarize { threshold: 3.0, p: 0.7 }.into()), 4000, 0.7));
    assert_eq!(share(Invert { p: 0.0 }.into()), 0);
    assert_eq!(share(Equalize { p: 1.0 }.into()), 4000);
}

#[test]
fn angles_shifts_and_factors_stay_in_their_ranges() {
    let affine = Affine {
        degrees: Spread::Around(20.0),
        translate: [0.1, 0.3],
        scale: [0.8, 1.1],
        shear: Shear::Both([-5.0, 5.0, 1.0, 2.0]),
        ..Affine::default()
    };
    for steps in drawn(affine, [3, 20, 50], [20, 50], 500) {
        let [Step::Move(Move::Affine { map, .. })] = steps[..] else { panic!("{steps:?}") };
        assert!(map.angle.abs() <= 20.0 && map.translate[0].abs() <= 5.0 && map.translate[1].abs() <= 6.0);
        assert!(map.translate.iter().all(|x| x.fract() == 0.0) && (0.8..=1.1).contains(&map.scale));
        assert!(map.shear[0].abs() <= 5.0 && (1.0..=2.0).contains(&map.shear[1]));
    }
    let mut first = [0; 4];
    let (hue, some) = (Spread::Around(0.1), Spread::Around(0.4));
    let jitter = ColorJitter { brightness: some, contrast: Spread::Between([0.9, 1.5]), saturation: some, hue };
    for steps in drawn(jitter, [3, 9, 9], [9, 9], 4000) {
        assert_eq!(steps.len(), 4);
        for (place, step) in steps.iter().enumerate() {
            let Step::Change(change) = step else { panic!("{step:?}") };
            let (kind, factor, [low, high]) = match *change {
                Change::Brightness(factor) => (0, factor, [0.6, 1.4]),
                Change::Contrast(factor) => (1, factor, [0.9, 1.5]),
                Change::Saturation(factor) => (2, factor, [0.6, 1.4]),
                Change::Hue(factor) => (3, factor, [-0.1, 0.1]),
                ref other => panic!("{other:?}"),
            };
            assert!((low..=high).contains(&factor), "{change:?}");
            first[kind] += usize::from(place == 0);
        }
    }
    assert!(first.iter().all(|&n| likely(n, 4000, 0.25)), "{first:?}");
}

#[test]
fn policies_draw_every_operation_as_often() {
    let rand = RandAugment { num_ops: 1, ..RandAugment::default() };
    let all = drawn(rand, [3, 32, 32], [32, 32], 14_000);
    let nothing = all.iter().filter(|steps| steps.is_empty()).count();
    assert!(likely(nothing, 14_000, 1.0 / 14.0), "{nothing} times nothing");
    let affine = all.iter().filter(|steps| matches!(steps[..], [Step::Move(Move::Affine { .. })])).count();
    assert!(likely(affine, 14_000, 4.0 / 14.0), "{affine} affine maps");
    let dark = all.iter().filter(|steps| matches!(steps[..], [Step::Change(Change::Brightness(x))] if x < 1.0)).count();
    assert!(likely(dark, 14_000, 0.5 / 14.0), "{dark} times darker");
    // Magnitude 9 of 31: 30 degrees and 4 bits times 9/30.
    for steps in &all {
        match steps[..] {
            [Step::Move(Move::Rotate { angle, .. })] => assert!((angle.abs() - 9.0).abs() < 1e-5, "{angle}"),
            [Step::Change(Change::Posterize(bits))] => assert_eq!(bits, 7),
            _ => {}
        }
    }
    assert!(
        drawn(RandAugment { num_ops: 5, ..RandAugment::default() }, [1, 9, 9], [9, 9], 300)
            .iter()
            .any(|s| s.len() == 5)
    );
    let trivial = drawn(TrivialAugmentWide::default(), [3, 32, 32], [32, 32], 14_000);
    let angles = trivial.iter().filter_map(|steps| match steps[..] {
        [Step::Move(Move::Rotate { angle, .. })] => Some((angle / 4.5).round() as i64),
        _ => None,
    });
    let bins: HashMap<i64, usize> = angles.fold(HashMap::new(), |mut bins, bin| {
        *bins.entry(bin).or_default() += 1;
        bins
    });
    assert!(bins.keys().all(|bin| bin.abs() <= 30) && bins.len() == 61, "{bins:?}");
}

#[test]
fn a_mixture_of_chains_has_weights_that_add_up_to_one() {
    for steps in drawn(AugMix::default(), [3, 12, 12], [12, 12], 200) {
        let (mut sum, mut chains) = (0.0, 0);
        for step in &steps {
            match *step {
                Step::Change(Change::MixStart(weight)) => sum += weight,
                Step::Change(Change::MixAdd { weight, last }) => {
                    (sum, chains) = (sum + weight, chains + 1);
                    assert_eq!(last, chains == 3);
                }
                _ => {}
            }
        }
        assert!((sum - 1.0).abs() < 1e-5 && chains == 3);
    }
}

#[test]
fn erased_areas_have_the_shares_and_ratios_that_are_asked_for() {
    let all = drawn(RandomErasing { p: 0.25, ..RandomErasing::default() }, [3, 100, 80], [100, 80], 4000);
    let erased: Vec<_> = all.iter().flatten().collect();
    assert!(likely(erased.len(), 4000, 0.25), "{}", erased.len());
    for step in erased {
        let Step::Change(Change::Erase { area, ink }) = step else { panic!("{step:?}") };
        let (share, ratio) = ((area.height * area.width) as f64 / 8000.0, area.height as f64 / area.width as f64);
        assert!((0.018..=0.34).contains(&share) && (0.27..=3.6).contains(&ratio), "{area:?}");
        assert!(area.top + area.height <= 100 && area.left + area.width <= 80);
        assert_eq!(*ink, Ink::Pixel([128; 3]));
    }
}

#[test]
fn colour_noise_has_the_variance_of_the_components() {
    let shifts = drawn(PcaNoise::default(), [3, 4, 4], [4, 4], 4000);
    let squares = shifts.iter().map(|steps| match steps[..] {
        [Step::Change(Change::Shift(shift))] => f64::from(shift[0]) * f64::from(shift[0]),
        _ => panic!("{steps:?}"),
    });
    let PcaNoise { std, eigenvalues, eigenvectors } = PcaNoise::default();
    let parts = eigenvalues.iter().zip(eigenvectors).map(|(value, vector)| (value * vector[0] * std * 255.0).powi(2));
    // A twelfth is what rounding to whole steps adds.
    let (mean, expected) = (squares.sum::<f64>() / 4000.0, parts.sum::<f64>() + 1.0 / 12.0);
    assert!((mean / expected - 1.0).abs() < 0.12, "{mean} instead of {expected}");
}

#[test]
fn distributions_have_their_moments() {
    let mut draw = Draw::new(RandomKey { seed: 1, epoch: 0, index: 0 }, 0);
    let n = 20_000;
    let normal: Vec<f64> = (0..n).map(|_| draw.normal()).collect();
    let (mean, square) = normal.iter().fold((0.0, 0.0), |(a, b), x| (a + x / f64::from(n), b + x * x / f64::from(n)));
    assert!(mean.abs() < 0.04 && (square - 1.0).abs() < 0.06, "{mean} {square}");
    for alpha in [0.05, 0.2, 1.0, 8.0] {
        let shares: Vec<f64> = (0..n).map(|_| draw.beta(alpha)).collect();
        assert!(shares.iter().all(|x| (0.0..=1.0).contains(x)));
        let mean = shares.iter().sum::<f64>() / f64::from(n);
        let variance = shares.iter().map(|x| (x - 0.5) * (x - 0.5)).sum::<f64>() / f64::from(n);
        let expected = 0.25 / (2.0 * alpha + 1.0);
        assert!((mean - 0.5).abs() < 0.02 && (variance / expected - 1.0).abs() < 0.06, "{alpha}: {mean} {variance}");
    }
    // Where numbers of the gamma distribution are all 0 in 64 bits.
    assert!((0..200).all(|_| (0.0..=1.0).contains(&draw.beta(1e-3))));
}

#[test]
fn batches_are_mixed_by_seed_epoch_and_number() {
    let mixing = Mixing { p: 0.75, ..Mixing::imagenet_v2() };
    let mut counts = [0; 3];
    for index in 0..4000 {
        let key = RandomKey { seed: 5, epoch: 2, index };
        let mix = mixing.draw([20, 30], key);
        assert_eq!(mix, mixing.draw([20, 30], key));
        counts[match mix {
            Mix::None => 0,
            Mix::Mixup { lambda } => {
                assert!((0.0..=1.0).contains(&lambda));
                1
            }
            Mix::CutMix { area, lambda } => {
                assert!(area.top + area.height <= 20 && area.left + area.width <= 30);
                assert!((1.0 - (area.height * area.width) as f64 / 600.0 - lambda).abs() < 1e-12);
                2
            }
        }] += 1;
    }
    let expected = [0.25, 0.375, 0.375];
    assert!(counts.iter().zip(expected).all(|(&n, p)| likely(n, 4000, p)), "{counts:?}");
    assert_eq!(Mixing::default().draw([2, 2], RandomKey { seed: 0, epoch: 0, index: 0 }), Mix::None);
    assert!(!Mixing::default().is_some() && Mixing::imagenet_v2().is_some());
    assert!(Mixing { mixup_alpha: -1.0, ..mixing }.check().unwrap_err().to_string().contains("mixup_alpha = -1"));
    assert!(Mixing { p: 1.5, ..mixing }.check().is_err() && mixing.check().is_ok());
}

#[test]
fn a_batch_that_does_not_fit_is_refused() {
    let apply = |labels: &[u32], targets: usize| {
        Mix::None.apply(&mut [1.0; 8], [2, 1, 2, 2], labels, 3, &mut vec![0.0; targets], &mut Vec::new())
    };
    assert!(apply(&[0, 2], 6).is_ok());
    assert!(matches!(apply(&[0, 3], 6), Err(Error::Label { label: 3, classes: 3 })));
    assert!(apply(&[0, 2], 5).is_err() && apply(&[0], 6).is_err());
}
