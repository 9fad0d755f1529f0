//! The transforms as data: their names, and how they are read and written.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, IntoDeserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::chance::{Autocontrast, Equalize, Grayscale, HorizontalFlip, Invert, VerticalFlip};
use super::crop::{CenterCrop, RandomCrop, RandomResizedCrop, Resize};
use super::erasing::RandomErasing;
use super::geometry::{Affine, Perspective, Rotation};
use super::pca::PcaNoise;
use super::policy::{AugMix, RandAugment, TrivialAugmentWide};
use super::settings::Settings;
use super::tone::{ColorJitter, GaussianBlur, Posterize, Sharpness, Solarize};
use crate::suggest::suggest;

/// Everything that is known of the transforms by name: a line for each.
macro_rules! transforms {
    ($($(#[$doc:meta])* $settings:ident = $name:literal,)*) => {
        /// What is done to a picture, with its settings.
        #[derive(Clone, Debug, PartialEq, Serialize)]
        pub enum Transform {
            $($(#[$doc])* #[serde(rename = $name)] $settings($settings),)*
        }

        impl Transform {
            /// The names of all transforms.
            pub const NAMES: &[&str] = &[$($name),*];

            /// What it is called in files.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Transform::$settings(_) => $name,)*
                }
            }

            pub(super) fn settings(&self) -> &dyn Settings {
                match self {
                    $(Transform::$settings(settings) => settings,)*
                }
            }

            /// The same transform with default settings.
            fn plain(&self) -> Transform {
                match self {
                    $(Transform::$settings(_) => Transform::$settings(Default::default()),)*
                }
            }

            fn read<'de, D: Deserializer<'de>>(name: &str, settings: D) -> Result<Transform, D::Error> {
                match name {
                    $($name => Deserialize::deserialize(settings).map(Transform::$settings),)*
                    _ => {
                        let known = suggest(name, Transform::NAMES.iter().copied());
                        return Err(D::Error::custom(format!("no transform is called '{name}': {known}")));
                    }
                }
                .map_err(|problem| D::Error::custom(format!("{name}: {problem}")))
            }
        }

        $(impl From<$settings> for Transform {
            fn from(settings: $settings) -> Transform {
                Transform::$settings(settings)
            }
        })*
    };
}

transforms! {
    /// [`Resize`]: changes the size.
    Resize = "resize",
    /// [`CenterCrop`]: changes the size.
    CenterCrop = "center_crop",
    /// [`RandomResizedCrop`]: changes the size.
    RandomResizedCrop = "random_resized_crop",
    /// [`RandomCrop`]: changes the size.
    RandomCrop = "random_crop",
    /// [`HorizontalFlip`].
    HorizontalFlip = "horizontal_flip",
    /// [`VerticalFlip`].
    VerticalFlip = "vertical_flip",
    /// [`Rotation`].
    Rotation = "rotation",
    /// [`Affine`].
    Affine = "affine",
    /// [`Perspective`].
    Perspective = "perspective",
    /// [`ColorJitter`].
    ColorJitter = "color_jitter",
    /// [`Grayscale`].
    Grayscale = "grayscale",
    /// [`GaussianBlur`].
    GaussianBlur = "gaussian_blur",
    /// [`Posterize`].
    Posterize = "posterize",
    /// [`Solarize`].
    Solarize = "solarize",
    /// [`Equalize`].
    Equalize = "equalize",
    /// [`Autocontrast`].
    Autocontrast = "autocontrast",
    /// [`Invert`].
    Invert = "invert",
    /// [`Sharpness`].
    Sharpness = "sharpness",
    /// [`PcaNoise`].
    PcaNoise = "pca_noise",
    /// [`RandAugment`].
    RandAugment = "rand_augment",
    /// [`TrivialAugmentWide`].
    TrivialAugmentWide = "trivial_augment_wide",
    /// [`AugMix`].
    AugMix = "aug_mix",
    /// [`RandomErasing`].
    RandomErasing = "random_erasing",
}

impl fmt::Display for Transform {
    /// As TOML: its name, or a table with the settings that are not the defaults.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings = |transform: &Transform| match toml::Value::try_from(transform) {
            Ok(toml::Value::Table(mut table)) => match table.remove(transform.name()) {
                Some(toml::Value::Table(settings)) => Ok(settings),
                _ => Err(fmt::Error),
            },
            _ => Err(fmt::Error),
        };
        let (mut set, defaults) = (settings(self)?, settings(&self.plain())?);
        set.retain(|key, value| defaults.get(key) != Some(value));
        if set.is_empty() {
            return write!(f, "\"{}\"", self.name());
        }
        write!(f, "{{ {} = {} }}", self.name(), toml::Value::Table(set))
    }
}

impl<'de> Deserialize<'de> for Transform {
    /// From a name, or from a table of one key, the name, whose value holds settings.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Transform, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Transform;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a transform: its name, or a table such as { random_crop = { padding = 4 } }")
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Transform, E> {
        Transform::read(name, BTreeMap::<&str, bool>::new().into_deserializer())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Transform, A::Error> {
        let Some(name) = map.next_key::<String>()? else {
            return Err(A::Error::custom("an empty table: expected a transform's name and its settings"));
        };
        let transform = map.next_value_seed(Named(&name))?;
        match map.next_key::<String>()? {
            None => Ok(transform),
            Some(other) => {
                map.next_value::<IgnoredAny>()?;
                Err(A::Error::custom(format!("'{name}' and '{other}' in one table: expected a table for each")))
            }
        }
    }
}

/// Settings of the transform of this name.
struct Named<'a>(&'a str);

impl<'de> DeserializeSeed<'de> for Named<'_> {
    type Value = Transform;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Transform, D::Error> {
        Transform::read(self.0, deserializer)
    }
}
