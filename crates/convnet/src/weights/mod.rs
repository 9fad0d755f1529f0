//! Weights: their first values, their files, and whether they fit a net. Files are taken to come from strangers: sizes
//! are checked before memory is asked for, and whatever is wrong is an error that names the file.

mod check;
mod checkpoint;
mod digest;
mod element;
mod init;
mod likeness;
mod names;
pub mod pytorch;
pub mod safetensors;

pub use check::{Fitted, check, fitted, fitting, load};
pub use checkpoint::{Checkpoint, Recovered, previous_path};
pub use digest::weights_sha256;
pub use init::init;
pub use likeness::looks_like;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use crate::data::open;
use crate::{Error, Result, StateDict};

/// What a file of weights holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Contents {
    /// The tensors by name, converted to `f32`.
    pub tensors: StateDict,
    /// The strings that the file carries beside them.
    pub metadata: BTreeMap<String, String>,
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

    /// The format that a file's first bytes show.
    fn by_content(path: &Path) -> Result<Format> {
        let mut start = Vec::new();
        open(path)?.0.take(16).read_to_end(&mut start).map_err(Error::io("reading", path))?;
        Ok(if pytorch::is_start(&start) { Format::PyTorch } else { Format::Safetensors })
    }
}

/// Reads a file of weights, whatever its name: safetensors, or either form of PyTorch's.
///
/// # Errors
/// As [`safetensors::read`] and [`pytorch::read`].
pub fn read(path: &Path) -> Result<Contents> {
    match Format::by_content(path)? {
        Format::Safetensors => safetensors::read(path),
        Format::PyTorch => pytorch::read(path),
    }
}

/// Text from a file as a message can show it: not too long, and without control characters.
fn printable(text: &str) -> String {
    const MOST: usize = 120;
    let start = text.chars().take(MOST).map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c });
    let more = if text.chars().nth(MOST).is_some() { "…" } else { "" };
    start.chain(more.chars()).collect()
}
