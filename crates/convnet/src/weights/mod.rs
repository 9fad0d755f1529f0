//! Weights: their first values, their files, and whether they fit a net. Files are taken to come from strangers: sizes
//! are checked before memory is asked for, and whatever is wrong is an error that names the file.

mod check;
mod checkpoint;
mod digest;
mod init;
pub mod safetensors;

pub use check::{check, fitting, load};
pub use checkpoint::{Checkpoint, Recovered, previous_path};
pub use digest::weights_sha256;
pub use init::init;

/// Text from a file as a message can show it: not too long, and without control characters.
fn printable(text: &str) -> String {
    const MOST: usize = 120;
    let start = text.chars().take(MOST).map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c });
    let more = if text.chars().nth(MOST).is_some() { "…" } else { "" };
    start.chain(more.chars()).collect()
}
