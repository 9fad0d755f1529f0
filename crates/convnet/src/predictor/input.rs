//! Pictures as a [`super::Predictor`] takes them, and what they become before a net sees them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::Result;
use crate::classifier::Description;
use crate::data::picture::{self, Picture, PictureError};
use crate::data::{Files, Item, TargetSize, pictures_in};

/// A picture to be classified: from a file, from memory, or as an array.
#[derive(Clone, Debug)]
pub struct Input {
    name: Option<String>,
    content: Content,
}

#[derive(Clone, Debug)]
enum Content {
    Path(PathBuf),
    Bytes(Vec<u8>),
    /// Interleaved, of height, width and channels.
    Pixels([usize; 3], Vec<u8>),
    /// One after the other, of channels, height and width.
    Planes([usize; 3], Vec<u8>),
    /// A file within an archive.
    Stored(Arc<Files>, Item),
    Array(Vec<f32>),
    #[cfg(feature = "image")]
    Image(Box<image::DynamicImage>),
}

/// A picture that a net can see.
pub(super) struct Prepared {
    pub(super) values: Values,
    pub(super) warnings: Vec<String>,
}

/// Its numbers.
pub(super) enum Values {
    /// To be normalised yet.
    Planes(Vec<u8>),
    Array(Vec<f32>),
}

impl Input {
    /// A file.
    pub fn path(path: impl Into<PathBuf>) -> Input {
        Content::Path(path.into()).into()
    }

    /// Every picture of a folder and of those below it, in the order of their names.
    ///
    /// # Errors
    /// A folder that cannot be read, or without a picture.
    pub fn folder(folder: &Path) -> Result<impl Iterator<Item = Input> + use<>> {
        Ok(pictures_in(folder)?.into_iter().map(Input::path))
    }

    /// The content of a file: PNG, JPEG, WebP, GIF, TIFF or BMP.
    pub fn bytes(bytes: impl Into<Vec<u8>>) -> Input {
        Content::Bytes(bytes.into()).into()
    }

    /// Decoded pixels, `[height, width, channels]`: 1 channel is grey, 2 are grey and alpha, 3 are red, green and blue, 4
    /// with alpha. They are resized and normalised as those of a file.
    pub fn pixels(pixels: impl Into<Vec<u8>>, height: usize, width: usize, channels: usize) -> Input {
        Content::Pixels([height, width, channels], pixels.into()).into()
    }

    /// Numbers as the net takes them, normalised already: channels × height × width.
    pub fn array(values: impl Into<Vec<f32>>) -> Input {
        Content::Array(values.into()).into()
    }

    /// Planes of bytes, of channels, height and width.
    pub(crate) fn planes(shape: [usize; 3], planes: Vec<u8>) -> Input {
        Content::Planes(shape, planes).into()
    }

    /// A picture of a set that is not decoded yet.
    pub(crate) fn stored(files: Arc<Files>, item: Item) -> Input {
        Content::Stored(files, item).into()
    }

    /// The same with a name for messages and answers.
    #[must_use]
    pub fn named(self, name: impl Into<String>) -> Input {
        Input { name: Some(name.into()), ..self }
    }

    /// What it is called: its name, its path, or its number.
    pub(super) fn name(&self, index: usize) -> String {
        match (&self.name, &self.content) {
            (Some(name), _) => name.clone(),
            (None, Content::Path(path)) => path.display().to_string(),
            (None, Content::Stored(files, item)) => files.name(*item),
            (None, _) => format!("picture {index}"),
        }
    }

    /// Reads and decodes it, and brings it to the target. A decoder that panics has met a picture that it cannot decode.
    pub(super) fn prepare(self, name: &str, target: TargetSize) -> Result<Prepared> {
        let broken = |_| {
            let reason = "the decoder broke off".to_owned();
            Err(picture::named(name)(PictureError::Undecodable { format: "a decoder", reason }))
        };
        catch_unwind(AssertUnwindSafe(|| self.prepared(name, target))).unwrap_or_else(broken)
    }

    fn prepared(self, name: &str, target: TargetSize) -> Result<Prepared> {
        let named = || picture::named(name);
        let of = |Picture { planes, warnings }| Prepared { values: Values::Planes(planes), warnings };
        let sound = |planes| Prepared { values: Values::Planes(planes), warnings: Vec::new() };
        match self.content {
            Content::Path(path) => Ok(of(picture::read(&path, target)?)),
            Content::Stored(files, item) => {
                let mut bytes = Vec::new();
                files.read(item, &mut bytes)?;
                picture::decode(&bytes, target).map(of).map_err(named())
            }
            Content::Bytes(bytes) => picture::decode(&bytes, target).map(of).map_err(named()),
            Content::Pixels(shape, pixels) => picture::from_pixels(&pixels, shape, target).map(sound).map_err(named()),
            Content::Planes(shape, planes) => picture::from_planes(planes, shape, target).map(sound).map_err(named()),
            #[cfg(feature = "image")]
            Content::Image(picture) => picture::from_image(*picture, target).map(sound).map_err(named()),
            Content::Array(values) => {
                check_array(&values, target.shape).map_err(named())?;
                Ok(Prepared { values: Values::Array(values), warnings: Vec::new() })
            }
        }
    }
}

impl Description {
    /// The numbers that the net takes for a picture: read, decoded, resized and normalised; channels × height × width.
    ///
    /// # Errors
    /// A picture that cannot be read or decoded ([`Error::Picture`](crate::Error::Picture), [`Error::Io`](crate::Error::Io)).
    pub fn prepare(&self, input: impl Into<Input>) -> Result<Vec<f32>> {
        Ok(self.prepare_with(input, false)?.0)
    }

    /// The same, and what is damaged in the picture's file; `strict` refuses such a picture.
    ///
    /// # Errors
    /// As [`Description::prepare`].
    pub fn prepare_with(&self, input: impl Into<Input>, strict: bool) -> Result<(Vec<f32>, Vec<String>)> {
        let input = input.into();
        let name = input.name(0);
        let Prepared { values, warnings } = input.prepare(&name, TargetSize { strict, ..self.target() })?;
        match values {
            Values::Array(values) => Ok((values, warnings)),
            Values::Planes(planes) => {
                let mut values = vec![0.0; planes.len()];
                self.normalization().normalizer(self.input()[0])?.apply(&planes, &mut values);
                Ok((values, warnings))
            }
        }
    }
}

fn check_array(values: &[f32], [channels, height, width]: [usize; 3]) -> Result<(), PictureError> {
    if values.len() != channels * height * width {
        let expected = "as many as the net takes";
        return Err(PictureError::Shape { found: values.len(), channels, height, width, expected });
    }
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(index) => Err(PictureError::NotFinite { index, value: values[index] }),
    }
}

impl From<Content> for Input {
    fn from(content: Content) -> Input {
        Input { name: None, content }
    }
}

/// A decoded picture of 8 or 16 bits a channel, as it is to be looked at. The `image` crate is of version 0.25.
#[cfg(feature = "image")]
impl From<image::DynamicImage> for Input {
    fn from(picture: image::DynamicImage) -> Input {
        Content::Image(Box::new(picture)).into()
    }
}

impl From<PathBuf> for Input {
    fn from(path: PathBuf) -> Input {
        Input::path(path)
    }
}

impl From<&Path> for Input {
    fn from(path: &Path) -> Input {
        Input::path(path)
    }
}

/// The content of a file.
impl From<Vec<u8>> for Input {
    fn from(bytes: Vec<u8>) -> Input {
        Input::bytes(bytes)
    }
}

/// The content of a file.
impl From<&[u8]> for Input {
    fn from(bytes: &[u8]) -> Input {
        Input::bytes(bytes)
    }
}
