//! What is customary for nets whose weights say nothing of how they are used: preprocessing and names of classes.
//!
//! A net that was tuned to other classes is used as its family is: torchvision's nets with ImageNet's mean and deviation,
//! resized as the weights of their first version were measured (`IMAGENET1K_V1`, torchvision's `models/*.py`).

use super::preprocessing::proportional;
use super::{Interpolation, Normalization, Preprocessing, labels};

/// How the names of torchvision's nets begin.
const TORCHVISION: [&str; 16] = [
    "alexnet",
    "vgg",
    "googlenet",
    "inception_v3",
    "resnet",
    "resnext",
    "wide_resnet",
    "densenet",
    "squeezenet",
    "mobilenet_v",
    "mnasnet",
    "shufflenet_v2",
    "regnet_",
    "efficientnet_",
    "convnext_",
    "plain",
];
/// How those of its nets begin whose pretrained form rescales its input to -1..1 (`transform_input`), and those that were
/// trained so.
const INCEPTION: [&str; 2] = ["googlenet", "inception_v3"];

/// Nets whose pictures are not resized to 256 pixels for 224: side of the cut, side that is resized to, interpolation.
#[rustfmt::skip]
const RESIZED: &[(&str, usize, usize, Interpolation)] = {
    use Interpolation::{Bicubic, Bilinear};
    &[
        ("convnext_tiny", 224, 236, Bilinear), ("convnext_small", 224, 230, Bilinear),
        ("convnext_base", 224, 232, Bilinear), ("convnext_large", 224, 232, Bilinear),
        ("efficientnet_b0", 224, 256, Bicubic), ("efficientnet_b1", 240, 256, Bicubic),
        ("efficientnet_b2", 288, 288, Bicubic), ("efficientnet_b3", 300, 320, Bicubic),
        ("efficientnet_b4", 380, 384, Bicubic), ("efficientnet_b5", 456, 456, Bicubic),
        ("efficientnet_b6", 528, 528, Bicubic), ("efficientnet_b7", 600, 600, Bicubic),
        ("efficientnet_v2_s", 384, 384, Bilinear), ("efficientnet_v2_m", 480, 480, Bilinear),
        ("efficientnet_v2_l", 480, 480, Bicubic), ("inception_v3", 299, 342, Bilinear),
        ("mnasnet0_75", 224, 232, Bilinear), ("mnasnet1_3", 224, 232, Bilinear),
        ("resnext101_64x4d", 224, 232, Bilinear), ("shufflenet_v2_x1_5", 224, 232, Bilinear),
        ("shufflenet_v2_x2_0", 224, 232, Bilinear),
    ]
};

/// What is done to a picture for a net of this name, which takes pictures of this shape and tells so many classes apart.
pub fn preprocessing(name: &str, input: [usize; 3], classes: usize) -> Preprocessing {
    let begins = |names: &[&str]| names.iter().any(|start| name.starts_with(start));
    let family = begins(&TORCHVISION) && name != "googlenet_v1" && name != "alexnet_2012";
    if input[0] != 3 || !family {
        return Preset::of(input, classes).preprocessing(input);
    }
    let inception = begins(&INCEPTION) || name == "efficientnet_v2_l";
    let normalization = if inception { Normalization::inception() } else { Normalization::imagenet() };
    // The nets for CIFAR take its pictures as they are, and so do nets that were made for pictures as small.
    let resize_always = input[1].min(input[2]) > SMALL;
    let usual = Preprocessing { resize_always, ..Preprocessing::new(input, normalization) };
    match RESIZED.iter().find(|(known, ..)| *known == name) {
        Some(&(_, crop, resize, interpolation)) => {
            Preprocessing { resize: Some(proportional(input, resize, crop)), interpolation, ..usual }
        }
        None => usual,
    }
}

/// Pictures of up to so many pixels a side are taken as they are where they have the net's size.
const SMALL: usize = 64;

/// A family of trained nets that are used alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// As the lecture has it: pixels in 0..1, classes called by their number.
    Lecture,
    /// Torchvision's models: ImageNet's mean and standard deviation, its 1,000 classes.
    ImageNet,
    /// The usual nets for CIFAR-10: ImageNet's mean and standard deviation, 10 classes.
    Cifar10,
    /// The same with CIFAR-100's classes.
    Cifar100,
}

impl Preset {
    /// What nets that take pictures of this shape and tell so many classes apart are most probably for.
    pub fn of(input: [usize; 3], classes: usize) -> Preset {
        match (input, classes) {
            ([3, _, _], 1000) => Preset::ImageNet,
            ([3, 32, 32], 10) => Preset::Cifar10,
            ([3, 32, 32], 100) => Preset::Cifar100,
            _ => Preset::Lecture,
        }
    }

    /// What is done to a picture for a net that takes this shape.
    pub fn preprocessing(self, input: [usize; 3]) -> Preprocessing {
        let normalization = match self {
            Preset::Lecture => Normalization::unit(input[0]),
            Preset::ImageNet | Preset::Cifar10 | Preset::Cifar100 => Normalization::imagenet(),
        };
        Preprocessing { resize_always: self == Preset::ImageNet, ..Preprocessing::new(input, normalization) }
    }

    /// What so many classes are called.
    pub fn classes(self, count: usize) -> Vec<String> {
        match self {
            Preset::Lecture => (0..count).map(|class| class.to_string()).collect(),
            Preset::ImageNet => labels::imagenet(),
            Preset::Cifar10 => labels::cifar10(),
            Preset::Cifar100 => labels::cifar100(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_and_classes_tell_what_a_net_is_for() {
        for (input, classes, expected, last) in [
            ([3, 224, 224], 1000, Preset::ImageNet, "toilet tissue"),
            ([3, 32, 32], 10, Preset::Cifar10, "truck"),
            ([3, 32, 32], 100, Preset::Cifar100, "worm"),
            ([1, 28, 28], 10, Preset::Lecture, "9"),
            ([1, 224, 224], 1000, Preset::Lecture, "999"),
            ([3, 64, 64], 10, Preset::Lecture, "9"),
        ] {
            let preset = Preset::of(input, classes);
            assert_eq!((preset, preset.classes(classes).last().unwrap().as_str()), (expected, last));
            assert_eq!(preset.classes(classes).len(), classes);
            assert!(preset.preprocessing(input).check(input).is_ok());
        }
        let preprocessing = Preset::ImageNet.preprocessing([3, 224, 224]);
        assert_eq!((preprocessing.resize, preprocessing.resize_always), (Some(256), true));
        assert_eq!(Preset::Lecture.preprocessing([1, 28, 28]).resize, Some(32));
    }

    #[test]
    fn families_are_used_alike_whatever_their_classes() {
        let of = |name: &str, side: usize, classes: usize| preprocessing(name, [3, side, side], classes);
        for classes in [2, 1000] {
            let usual = of("resnet18", 224, classes);
            assert_eq!(
                (usual.normalization, usual.resize, usual.resize_always),
                (Normalization::imagenet(), Some(256), true)
            );
            for name in ["googlenet", "inception_v3"] {
                assert_eq!(of(name, 299, classes).normalization, Normalization::inception(), "{name}");
                assert_eq!(of(name, 299, classes).resize, Some(342), "{name}");
            }
            let tiny = of("convnext_tiny", 224, classes);
            assert_eq!((tiny.resize, tiny.interpolation), (Some(236), Interpolation::Bilinear));
            let b3 = of("efficientnet_b3", 300, classes);
            assert_eq!((b3.resize, b3.interpolation), (Some(320), Interpolation::Bicubic));
            assert_eq!(of("efficientnet_b3", 150, classes).resize, Some(160));
        }
        assert!(!of("resnet20", 32, 10).resize_always);
        assert_eq!(of("resnet20", 32, 7).normalization, Normalization::imagenet());
        assert_eq!(of("cnn", 32, 3).normalization, Normalization::unit(3));
        assert_eq!(preprocessing("resnet18", [1, 28, 28], 10).normalization, Normalization::unit(1));
    }
}
