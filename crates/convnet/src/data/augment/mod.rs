//! Augmentation: pictures changed at random for training, with torchvision's names, ranges and results.
//!
//! An [`Augmentation`] is data: a list of [`Transform`]s, each with the settings and defaults of torchvision's class of that
//! name. An [`Augmenter`] does it to pictures of bytes (planes, as a [`Dataset`](super::Dataset) holds them), on the way to
//! a target's size; normalisation comes after it. [`Mixing`] mixes normalised batches. [`five_crop`] and [`ten_crop`] say
//! where evaluation looks.
//!
//! ```toml
//! augment = [
//!     { random_resized_crop = { scale = [0.2, 1.0] } },
//!     "horizontal_flip",
//!     { rand_augment = { num_ops = 2, magnitude = 9 } },
//!     { random_erasing = { p = 0.1 } },
//! ]
//! ```
//!
//! or a preset's name: `augment = "imagenet"`.
//!
//! **Sizes.** `resize`, `center_crop`, `random_resized_crop` and `random_crop` change a picture's size, the last three to
//! the target's (unless their `size` is set); no other transform does. A list must lead from what is given ([`Given`]) to
//! the target's size, which [`Augmenter::new`] checks.
//!
//! **Chance and work are apart.** A transform draws its parameters as steps, each of which is one of torchvision's functions
//! and depends on its parameters alone. What the steps do is compared with torchvision on Pillow's pictures, byte by byte
//! (`tests/golden/augment.py`); drawing is tested by its ranges, frequencies and tables. Two things differ from Pillow:
//! AugMix, which torchvision does on tensors, and random erasing, which torchvision does after normalisation; each says how.
//!
//! **A picture's changes depend on seed, epoch and its index alone** ([`RandomKey`]), whatever the number of workers and
//! wherever an epoch is resumed, and each transform has a stream of its own, so that one more changes no other's draws.
//!
//! ```
//! use convnet::data::Normalization;
//! use convnet::data::augment::{Augmentation, Augmenter, Given, RandomKey, PictureRef, Scratch};
//! let augmentation: Augmentation = "cifar".parse().unwrap();
//! let target = [3, 32, 32];
//! let augmenter = Augmenter::new(&augmentation, Given::Size([32, 32]), target, &Normalization::imagenet()).unwrap();
//! let (planes, mut out) = (vec![7; 3 * 32 * 32], vec![0; 3 * 32 * 32]);
//! let mut scratch = Scratch::default();
//! let key = RandomKey { seed: 1, epoch: 0, index: 17 };
//! augmenter.apply(PictureRef { shape: target, planes: &planes }, key, &mut scratch, &mut out).unwrap();
//! ```

mod area;
mod chance;
mod color;
mod crop;
mod draw;
mod erasing;
mod filter;
mod geometry;
mod mixing;
mod pca;
mod policy;
mod presets;
mod settings;
mod step;
#[cfg(test)]
mod tests;
mod tone;
mod transform;
mod value;
mod warp;

pub use area::{Area, Crop, five_crop, ten_crop};
pub use chance::{Autocontrast, Equalize, Grayscale, HorizontalFlip, Invert, VerticalFlip};
pub use crop::{CenterCrop, RandomCrop, RandomResizedCrop, Resize};
pub use draw::RandomKey;
pub use erasing::{Erased, Filling, RandomErasing};
pub use geometry::{Affine, Perspective, Rotation, Shear};
pub use mixing::{Mix, Mixing};
pub use pca::PcaNoise;
pub use policy::{AugMix, RandAugment, TrivialAugmentWide};
pub use step::Scratch;
pub use tone::{ColorJitter, GaussianBlur, Posterize, Sharpness, Sigma, Solarize};
pub use transform::Transform;
pub use value::{Fill, PaddingMode, Spread};

use std::fmt;
use std::str::FromStr;

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::Normalization;
use super::resample::{Layout, Source};
use crate::error::times;
use crate::suggest::suggest;
use crate::{Error, Result};
use draw::{Draw, purpose};
use settings::{Frame, Steps};

/// What is done to pictures: transforms, one after the other. It is read from a list, or from a preset's name.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Augmentation(pub Vec<Transform>);

/// Which pictures an [`Augmenter`] is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Given {
    /// Pictures of this height and width.
    Size([usize; 2]),
    /// Pictures of any size.
    AnySize,
}

/// A picture: planes of bytes, one after the other.
#[derive(Clone, Copy, Debug)]
pub struct PictureRef<'a> {
    /// Channels, height and width.
    pub shape: [usize; 3],
    /// Channels × height × width bytes.
    pub planes: &'a [u8],
}

/// An [`Augmentation`] that is known to lead from what is given to a target's size.
#[derive(Clone, Debug)]
pub struct Augmenter {
    /// Each with the purpose of its random stream.
    transforms: Vec<(Transform, u64)>,
    given: Given,
    target: [usize; 3],
    normalization: Normalization,
}

impl Augmenter {
    /// For pictures that become those of `target` (1 or 3 channels, height, width). The normalisation that follows says what
    /// the mean colour is, which erasing needs.
    ///
    /// # Errors
    /// A setting that cannot be used, by name; a list that does not lead to the target's size; another number of channels
    /// than 1 or 3.
    pub fn new(
        augmentation: &Augmentation,
        given: Given,
        target: [usize; 3],
        normalization: &Normalization,
    ) -> Result<Augmenter> {
        let [channels, height, width] = target;
        if ![1, 3].contains(&channels) || height == 0 || width == 0 {
            let expected = "pictures of 1 or 3 channels and at least one pixel";
            return Err(Error::setting("augment", expected, times(&target)));
        }
        normalization.normalizer(channels)?;
        let mut size = match given {
            Given::Size(size) => Some(size),
            Given::AnySize => None,
        };
        for (i, transform) in augmentation.0.iter().enumerate() {
            transform.settings().check().map_err(|problem| refused(i, transform, &problem))?;
            size = transform.settings().size(size, [height, width]);
        }
        if size != Some([height, width]) {
            let found = size.map_or("pictures of any size".into(), |[high, wide]| format!("pictures of {wide}x{high}"));
            return Err(Error::invalid(format!(
                "augment: {augmentation} leaves {found}: expected {width}x{height}; add random_resized_crop, random_crop or \
                 center_crop without size"
            )));
        }
        let mut transforms: Vec<(Transform, u64)> = Vec::with_capacity(augmentation.0.len());
        for transform in &augmentation.0 {
            let before = transforms.iter().filter(|(other, _)| other.name() == transform.name()).count();
            transforms.push((transform.clone(), purpose(transform.name(), before as u32)));
        }
        Ok(Augmenter { transforms, given, target, normalization: normalization.clone() })
    }

    /// Channels, height and width of what it makes of pictures.
    pub fn target(&self) -> [usize; 3] {
        self.target
    }

    /// Draws for this key, and writes the changed picture into `out`. Once `scratch` has served the largest picture and the
    /// longest list of steps, nothing is allocated.
    ///
    /// # Errors
    /// A picture of another shape than was said at construction, or too small for a transform; an output of another length
    /// than the target's.
    pub fn apply(&self, picture: PictureRef<'_>, key: RandomKey, scratch: &mut Scratch, out: &mut [u8]) -> Result<()> {
        let PictureRef { shape, planes } = picture;
        self.apply_to(Source { bytes: planes, layout: Layout::Planes, shape }, key, scratch, out)
    }

    /// The same to planes or to interleaved pixels.
    pub(super) fn apply_to(
        &self,
        source: Source<'_>,
        key: RandomKey,
        scratch: &mut Scratch,
        out: &mut [u8],
    ) -> Result<()> {
        let shape = source.shape;
        self.check(source, out.len())?;
        scratch.steps.clear();
        let [channels, height, width] = self.target;
        let Normalization { mean, std } = &self.normalization;
        let mut size = [shape[1], shape[2]];
        for (i, (transform, purpose)) in self.transforms.iter().enumerate() {
            let settings = transform.settings();
            let frame = Frame { shape: [channels, size[0], size[1]], target: [height, width], mean, std };
            let mut draw = Draw::new(key, *purpose);
            let drawn = settings.draw(frame, &mut draw, &mut Steps::of(scratch));
            drawn.map_err(|problem| refused(i, transform, &problem))?;
            size = settings.size(Some(size), [height, width]).unwrap_or(size);
        }
        step::run(source, scratch, out);
        Ok(())
    }

    fn check(&self, Source { shape, bytes, .. }: Source<'_>, out: usize) -> Result<()> {
        let pixels: usize = shape.iter().product();
        let wanted: usize = self.target.iter().product();
        if bytes.len() != pixels || pixels == 0 || out != wanted {
            return Err(Error::invalid(format!(
                "augment: a picture of shape {shape:?} in {} bytes, to {out} bytes: expected {pixels} (not 0) and {wanted}",
                bytes.len()
            )));
        }
        let expected = match self.given {
            Given::Size([height, width]) => [self.target[0], height, width],
            Given::AnySize => [self.target[0], shape[1], shape[2]],
        };
        if shape != expected {
            let of = "picture to augment".into();
            return Err(Error::Shape { of, expected: expected.to_vec(), found: shape.to_vec() });
        }
        Ok(())
    }
}

impl Augmentation {
    /// Whether it is given pictures of any size, as torchvision does it: the first transform that changes sizes is `resize` or
    /// `random_resized_crop`. Other lists are given pictures of the network's size.
    ///
    /// ```
    /// use convnet::data::augment::Augmentation;
    /// assert!(Augmentation::imagenet().takes_any_size() && !Augmentation::cifar().takes_any_size());
    /// ```
    pub fn takes_any_size(&self) -> bool {
        let sizing = |transform: &&Transform| transform.settings().size(Some([1, 2]), [3, 5]) != Some([1, 2]);
        matches!(self.0.iter().find(sizing), Some(Transform::Resize(_) | Transform::RandomResizedCrop(_)))
    }
}

/// Names the transform that something is wrong with, counted from 1.
fn refused(index: usize, transform: &Transform, problem: &str) -> Error {
    Error::invalid(format!("augment: transform {} ({}): {problem}", index + 1, transform.name()))
}

impl fmt::Display for Augmentation {
    /// A list in TOML, which [`Augmentation::from_str`] reads.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (i, transform) in self.0.iter().enumerate() {
            write!(f, "{}{transform}", if i == 0 { "" } else { ", " })?;
        }
        f.write_str("]")
    }
}

impl FromStr for Augmentation {
    type Err = Error;

    /// From a preset's name, or a list in TOML.
    ///
    /// ```
    /// use convnet::data::augment::Augmentation;
    /// let text = r#"["horizontal_flip", { random_erasing = { p = 0.1 } }]"#;
    /// assert_eq!(text.parse::<Augmentation>().unwrap().to_string(), text);
    /// assert_eq!("cifar".parse::<Augmentation>().unwrap(), Augmentation::cifar());
    /// ```
    fn from_str(text: &str) -> Result<Augmentation> {
        #[derive(Deserialize)]
        struct Document {
            augment: Augmentation,
        }
        let text = text.trim();
        let document = match text.starts_with('[') {
            true => format!("augment = {text}"),
            false => format!("augment = {}", toml::Value::from(text)),
        };
        let parsed = toml::from_str::<Document>(&document);
        parsed.map(|document| document.augment).map_err(|e| Error::invalid(format!("augment: {}", e.message())))
    }
}

impl<'de> Deserialize<'de> for Augmentation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Augmentation, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Augmentation;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a preset's name, or a list of transforms")
            }

            fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Augmentation, E> {
                Augmentation::preset(name).ok_or_else(|| {
                    let known = suggest(name, Augmentation::PRESETS.iter().map(|(name, _)| *name));
                    E::custom(format!("no augmentation is called '{name}': {known}"))
                })
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Augmentation, A::Error> {
                let mut transforms = Vec::new();
                while let Some(transform) = list
                    .next_element()
                    .map_err(|problem| A::Error::custom(format!("transform {}: {problem}", transforms.len() + 1)))?
                {
                    transforms.push(transform);
                }
                Ok(Augmentation(transforms))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}
