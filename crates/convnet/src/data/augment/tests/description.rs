//! Augmentations as text.

use super::*;

fn read(text: &str) -> Result<Augmentation> {
    text.parse()
}

fn refusal(text: &str) -> String {
    let result = read(text).and_then(|augmentation| {
        Augmenter::new(&augmentation, Given::AnySize, [3, 8, 8], &Normalization::imagenet()).map(|_| ())
    });
    result.unwrap_err().to_string()
}

#[test]
fn lists_and_presets_are_read() {
    let text = r#"[{ random_resized_crop = { scale = [0.08, 1] } }, "horizontal_flip", { rand_augment = { num_ops = 3, magnitude = 9 } }, { rotation = { degrees = 30, fill = [1, 2, 3] } }, { random_erasing = { p = 0.1, value = "random" } }]"#;
    let augmentation = read(text).unwrap();
    let rand = RandAugment { num_ops: 3, ..RandAugment::default() };
    let rotation = Rotation { degrees: Spread::Around(30.0), fill: Fill::Color([1, 2, 3]), ..Rotation::default() };
    let erasing = RandomErasing { p: 0.1, value: Erased::Named(Filling::Random), ..RandomErasing::default() };
    let crop = RandomResizedCrop::default();
    let expected = vec![crop.into(), HorizontalFlip::default().into(), rand.into(), rotation.into(), erasing.into()];
    assert_eq!(augmentation, Augmentation(expected));
    // Only what is not the default is written.
    let written = augmentation.to_string();
    assert!(written.starts_with(r#"["random_resized_crop", "horizontal_flip", { rand_augment = { num_ops = 3 } }"#));
    assert_eq!(read(&written).unwrap(), augmentation);
    for (name, preset) in Augmentation::PRESETS {
        assert_eq!(read(name).unwrap(), preset());
        assert_eq!(read(&preset().to_string()).unwrap(), preset());
    }
}

#[test]
fn every_transform_is_read_by_name_alone_and_written() {
    for name in Transform::NAMES {
        let augmentation = read(&format!("[\"{name}\"]")).unwrap();
        assert_eq!(augmentation.to_string(), format!("[\"{name}\"]"));
        assert_eq!(augmentation.0[0].name(), *name);
        // What a run's folder keeps.
        let text = serde_json::to_string(&augmentation).unwrap();
        assert_eq!(serde_json::from_str::<Augmentation>(&text).unwrap(), augmentation);
    }
    let mut purposes: Vec<u64> =
        Transform::NAMES.iter().chain(&["mixing"]).flat_map(|name| (0..8).map(|i| purpose(name, i))).collect();
    purposes.sort_unstable();
    purposes.dedup();
    assert_eq!(purposes.len(), 8 * (Transform::NAMES.len() + 1));
}

#[test]
fn what_is_wrong_is_named() {
    for (text, expected) in [
        ("cifra", "did you mean 'cifar'?"),
        (
            "[\"horizontal_flop\"]",
            "transform 1: no transform is called 'horizontal_flop': did you mean 'horizontal_flip'?",
        ),
        ("[{ random_crop = { paddin = 4 } }]", "random_crop: unknown field `paddin`"),
        ("[{ random_crop = { padding = -4 } }]", "random_crop"),
        ("[{ random_crop = {}, invert = {} }]", "in one table: expected a table for each"),
        ("[{}]", "an empty table"),
        ("[{ rotation = { degrees = \"much\" } }]", "expected a number or a pair of numbers"),
        ("[3]", "a transform: its name, or a table"),
        ("[\"random_resized_crop\", \"rotation\"]", "transform 2 (rotation): degrees = 0: expected a number above 0"),
        (
            "[{ horizontal_flip = { p = 1.5 } }]",
            "transform 1 (horizontal_flip): p = 1.5: expected a number from 0 to 1",
        ),
        ("[{ random_resized_crop = { scale = [0.5, 0.1] } }]", "scale = [0.5, 0.1]"),
        ("[{ random_resized_crop = { size = [0, 4] } }]", "size = [0, 4]: expected at least one pixel each"),
        ("[{ rotation = { degrees = 5, interpolation = \"lanczos\" } }]", "expected nearest or bilinear"),
        ("[{ gaussian_blur = { kernel_size = [3, 4] } }]", "kernel_size = [3, 4]: expected two odd numbers"),
        ("[{ color_jitter = { hue = 0.6 } }]", "hue = [-0.6, 0.6]"),
        ("[\"color_jitter\"]", "set brightness"),
        ("[{ color_jitter = { brightness = -1 } }]", "brightness = -1"),
        ("[\"posterize\"]", "bits = 8"),
        ("[\"sharpness\"]", "factor = 1"),
        ("[{ rand_augment = { magnitude = 31 } }]", "magnitude = 31: expected less than num_magnitude_bins, 31"),
        ("[{ rand_augment = { num_magnitude_bins = 1 } }]", "num_magnitude_bins = 1"),
        ("[{ aug_mix = { severity = 11 } }]", "severity = 11"),
        ("[{ affine = { scale = [0, 1] } }]", "scale = [0, 1]"),
        ("[{ perspective = { distortion_scale = 2 } }]", "distortion_scale = 2"),
        ("[\"horizontal_flip\"]", "leaves pictures of any size: expected 8x8; add random_resized_crop"),
        ("[{ random_resized_crop = { size = [9, 7] } }]", "leaves pictures of 7x9"),
    ] {
        let found = refusal(text);
        assert!(found.starts_with("augment: ") && found.contains(expected), "{text}: {found}");
    }
}
