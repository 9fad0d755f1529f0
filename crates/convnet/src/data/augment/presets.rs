//! Augmentations by name.

use super::chance::HorizontalFlip;
use super::crop::{RandomCrop, RandomResizedCrop, Resize};
use super::pca::PcaNoise;
use super::policy::TrivialAugmentWide;
use super::tone::ColorJitter;
use super::value::Spread;
use super::{Augmentation, RandomErasing};

/// A name, and what makes the augmentation.
type Named = (&'static str, fn() -> Augmentation);

impl Augmentation {
    /// Every preset, by name.
    pub const PRESETS: [Named; 6] = [
        ("none", Augmentation::none),
        ("cifar", Augmentation::cifar),
        ("imagenet", Augmentation::imagenet),
        ("alexnet", Augmentation::alexnet),
        ("imagenet_v2", Augmentation::imagenet_v2),
        ("light", Augmentation::light),
    ];

    /// Pictures as they are, which must have the target's size.
    pub fn none() -> Augmentation {
        Augmentation(Vec::new())
    }

    /// A shift by up to 4 pixels and a flip, for pictures of the target's size (He et al. 2016, section 4.2).
    pub fn cifar() -> Augmentation {
        let crop = RandomCrop { padding: 4, ..RandomCrop::default() };
        Augmentation(vec![crop.into(), HorizontalFlip::default().into()])
    }

    /// An area of random size and a flip, for pictures of any size (torchvision's `references/classification`).
    pub fn imagenet() -> Augmentation {
        Augmentation(vec![RandomResizedCrop::default().into(), HorizontalFlip::default().into()])
    }

    /// A window of the picture whose shorter side is the target's times 256 / 224, a flip, and noise of colour (Krizhevsky et
    /// al. 2012, section 4.1, which takes windows of the middle square alone).
    pub fn alexnet() -> Augmentation {
        let (crop, flip) = (RandomCrop::default(), HorizontalFlip::default());
        Augmentation(vec![Resize::default().into(), crop.into(), flip.into(), PcaNoise::default().into()])
    }

    /// Torchvision's recipe of 2021 for its second weights: [`Augmentation::imagenet`], TrivialAugment and erasing with
    /// probability 0.1. It goes with [`Mixing::imagenet_v2`](super::Mixing::imagenet_v2).
    pub fn imagenet_v2() -> Augmentation {
        let Augmentation(mut transforms) = Augmentation::imagenet();
        transforms.push(TrivialAugmentWide::default().into());
        transforms.push(RandomErasing { p: 0.1, ..RandomErasing::default() }.into());
        Augmentation(transforms)
    }

    /// A large area, a flip and slightly different light, for pictures of any size: where training goes on from weights for
    /// another data set, or is short.
    pub fn light() -> Augmentation {
        let crop = RandomResizedCrop { scale: [0.6, 1.0], ..RandomResizedCrop::default() };
        let some = Spread::Around(0.1);
        let jitter = ColorJitter { brightness: some, contrast: some, saturation: some, ..ColorJitter::default() };
        Augmentation(vec![crop.into(), HorizontalFlip::default().into(), jitter.into()])
    }

    /// The preset of this name.
    pub fn preset(name: &str) -> Option<Augmentation> {
        Augmentation::PRESETS.iter().find(|(known, _)| *known == name).map(|(_, preset)| preset())
    }
}
