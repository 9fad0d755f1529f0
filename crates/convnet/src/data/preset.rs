//! What is customary for nets whose weights say nothing of how they are used: preprocessing and names of classes.

use super::{Normalization, Preprocessing, labels};

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
        Preprocessing::new(
            input,
            match self {
                Preset::Lecture => Normalization::unit(input[0]),
                Preset::ImageNet | Preset::Cifar10 | Preset::Cifar100 => Normalization::imagenet(),
            },
        )
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
        assert_eq!(preprocessing, Preprocessing { resize: Some(256), normalization: Normalization::imagenet() });
        assert_eq!(Preset::Lecture.preprocessing([1, 28, 28]).resize, None);
    }
}
