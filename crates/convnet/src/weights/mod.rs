//! Weights: their first values, their files, and whether they fit a net. Files are taken to come from strangers: sizes
//! are checked before memory is asked for, and whatever is wrong is an error that names the file.
//!
//! ```
//! use convnet::{weights, zoo};
//!
//! # fn main() -> convnet::Result<()> {
//! let net = zoo::by_name("resnet18", &zoo::ZooOptions::default())?;
//! let mut state = weights::init(&net, 0);
//! assert_eq!(state["conv1.weight"].shape(), [64, 3, 7, 7]);
//! weights::check(&net, &state)?;
//! state.remove("fc.bias");
//! assert!(weights::check(&net, &state).unwrap_err().to_string().contains("fc.bias"));
//! # Ok(())
//! # }
//! ```

mod check;
mod checkpoint;
mod choose;
mod digest;
mod element;
mod fit;
mod init;
mod kind;
mod libraries;
mod likeness;
mod merged;
mod names;
mod note;
mod problem;
pub mod pytorch;
mod renaming;
pub mod safetensors;
#[cfg(test)]
mod tests;
mod whiten;

pub(crate) use check::not_finite;
pub use check::{Fitted, check, check_finite, fitted, fitting, load};
pub use checkpoint::{Checkpoint, Recovered, previous_path};
pub(crate) use digest::sha256;
pub use digest::weights_sha256;
#[cfg(feature = "onnx")]
pub(crate) use element::Element;
pub use fit::{Fitting, NetChoice};
pub(crate) use fit::{Ready, ready};
pub use init::init;
#[cfg(feature = "onnx")]
pub(crate) use kind::is_onnx;
pub use libraries::{Library, Named, named};
pub use likeness::looks_like;
pub use note::Note;
pub use problem::{Misfit, Misshaped, Problem};
pub(crate) use renaming::is_below;
#[cfg(feature = "onnx")]
pub(crate) use safetensors::read_tensor;
pub use whiten::whiten;

use std::collections::BTreeMap;
use std::path::Path;

use choose::{Choose, default_choice};
use problem::Failure;

use crate::{Error, Result, StateDict};

/// What a file of weights holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Contents {
    /// The tensors by name, converted to `f32`.
    pub tensors: StateDict,
    /// The strings that the file carries beside them.
    pub metadata: BTreeMap<String, String>,
    /// What a reader should know of what was taken and what was passed over.
    pub notes: Vec<Note>,
}

/// A form in which weights are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// See [`safetensors`].
    Safetensors,
    /// See [`pytorch`].
    PyTorch,
}

impl Format {
    /// The format that a file's name asks for: `.safetensors`, or `.pt` or `.pth`.
    ///
    /// # Errors
    /// [`Error::File`] for another name.
    ///
    /// ```
    /// use convnet::weights::Format;
    /// assert_eq!(Format::by_extension("net.pth".as_ref()).unwrap(), Format::PyTorch);
    /// assert!(Format::by_extension("net.onnx".as_ref()).is_err());
    /// ```
    pub fn by_extension(path: &Path) -> Result<Format> {
        match path.extension().map(|extension| extension.to_ascii_lowercase()).as_deref().and_then(|e| e.to_str()) {
            Some("safetensors") => Ok(Format::Safetensors),
            Some("pt" | "pth") => Ok(Format::PyTorch),
            _ => Err(Error::file(path, "expected a name that ends in .safetensors, .pt or .pth")),
        }
    }
}

/// Reads a file of weights, whatever its name: safetensors, or either form of PyTorch's.
///
/// # Errors
/// As [`safetensors::read`] and [`pytorch::read`]; [`Problem::NotWeights`] for a file of another kind.
pub fn read(path: &Path) -> Result<Contents> {
    read_chosen(path, &mut |offers| default_choice(offers, None))
}

/// The same of those weights that are chosen.
fn read_chosen(path: &Path, choose: Choose) -> Result<Contents> {
    match kind::format(path)? {
        Format::Safetensors => safetensors::read_chosen(path, choose),
        Format::PyTorch => pytorch::read_chosen(path, choose),
    }
}

/// Text from a file as a message can show it: not too long, and without control characters.
pub(crate) fn printable(text: &str) -> String {
    const MOST: usize = 120;
    let start = text.chars().take(MOST).map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c });
    let more = if text.chars().nth(MOST).is_some() { "…" } else { "" };
    start.chain(more.chars()).collect()
}
