//! Why a picture cannot be used. Whoever reads it adds the picture's name ([`crate::Error::Picture`]).

use super::FORMATS;

/// Why a picture cannot be used.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PictureError {
    /// A file without a byte.
    #[error("the file is empty")]
    Empty,
    /// A file larger than any picture may be.
    #[error("a picture of {size} bytes: expected at most {most}")]
    Bytes {
        /// Its size.
        size: u64,
        /// The largest that is read.
        most: u64,
    },
    /// Something else than a picture in a format that is read.
    #[error("not a {FORMATS} file{}{found}{}{advice}", if found.is_empty() { "" } else { ": it is " }, if advice.is_empty() { "" } else { ": " })]
    Format {
        /// What its first bytes show, or nothing.
        found: &'static str,
        /// What can be done about it.
        advice: &'static str,
    },
    /// A format whose decoder this build of the library leaves out.
    #[error(
        "a {format} picture, which this build does not read: build the crate convnet with its feature '{feature}', or convert the picture to PNG"
    )]
    Feature {
        /// The format that its first bytes show.
        format: &'static str,
        /// The feature with its decoder.
        feature: &'static str,
    },
    /// A file that its decoder refuses.
    #[error("cannot be decoded as a picture: {format}: {reason}")]
    Undecodable {
        /// The format that its first bytes show.
        format: &'static str,
        /// What the decoder says.
        reason: String,
    },
    /// A damaged file, where none is to be read.
    #[error("damaged: {}", .0.join("; "))]
    Damaged(
        /// What is wrong with it.
        Vec<String>,
    ),
    /// No pixels, or too many.
    #[error("a picture of {width}x{height} pixels: expected 1 to {most} of them")]
    Pixels {
        /// What its header says.
        width: u64,
        /// What its header says.
        height: u64,
        /// The most that are decoded.
        most: u64,
    },
    /// A file that would take much more time than its size and its pixels justify.
    #[error("its {scans} scans go over the picture {passes} times: expected at most {most}")]
    Work {
        /// Scans of the file.
        scans: usize,
        /// How often they go over all blocks of the picture.
        passes: u64,
        /// How often they may.
        most: u64,
    },
    /// Another size than the net's, where nothing is said of resizing.
    #[error("a picture of {}x{} pixels, but the net takes {}x{} (width x height)", found[1], found[0], expected[1], expected[0])]
    Size {
        /// Height and width.
        found: [usize; 2],
        /// The net's.
        expected: [usize; 2],
    },
    /// A net that takes no pictures.
    #[error("the net takes {0} channels, but a picture has 1 (grey) or 3 (RGB)")]
    Channels(
        /// Channels of its input.
        usize,
    ),
    /// Pixels, or numbers, that are not as many as their shape says, or of a shape that no picture has.
    #[error("{found} values cannot be a picture of {channels} channels, {height}x{width} (height x width): {expected}")]
    Shape {
        /// How many there are.
        found: usize,
        /// Channels.
        channels: usize,
        /// Height.
        height: usize,
        /// Width.
        width: usize,
        /// What was expected.
        expected: &'static str,
    },
    /// A picture whose preprocessing cannot be done.
    #[error("{0}")]
    Preprocessing(
        /// What is wrong.
        String,
    ),
    /// NaN or infinity among numbers.
    #[error("value {index} of the picture is {value}: expected finite numbers")]
    NotFinite {
        /// The first of them.
        index: usize,
        /// What it is.
        value: f32,
    },
    /// NaN or infinity among a net's outputs.
    #[error("the net's output for class '{class}' is {value}{}", tensor.as_ref().map_or("".to_owned(), |tensor| format!(": its weights '{tensor}' hold numbers that are not finite")))]
    Output {
        /// The first such class.
        class: String,
        /// Its output.
        value: f32,
        /// The weights that cause it, where it is these.
        tensor: Option<String>,
    },
}
