//! The lecture on convolutional networks, row by row, as it is walked through on a terminal: what a row says, its figures
//! computed from this library, and where the lecture notes round or slip. Every sentence stands in English and in Korean
//! beside each other, in the terms of the notes, which are Korean.
//!
//! | file | rows |
//! | --- | --- |
//! | `filters.rs` | L1 convolution, L2 filters, L3 channels, L4 many filters |
//! | `layers.rs` | L5 parts of a CNN, L6 stride, L7 padding, L8 arithmetic, L9 1×1 convolution |
//! | `alexnet.rs`, `vgg.rs`, `googlenet.rs`, `resnet.rs`, `densenet.rs` | L10 to L14 |
//! | `exercise.rs` | L15 |
//! | `descendants.rs` | L16, which the notes do not have |
//! | `studies.rs` | the studies of L9 to L14 ([`crate::study`]) and their results |
//!
//! Each file tests the figures of its rows against the notes', to the last digit. Sizes are written as the notes write them:
//! height × width × channels.
//!
//! ```
//! # fn main() -> convnet::Result<()> {
//! for row in convnet::lecture::select(&["L10-L11"])? {
//!     println!("{}: {} blocks", row.id(), row.explain()?.len());
//! }
//! # Ok(())
//! # }
//! ```

mod alexnet;
mod densenet;
mod descendants;
mod exercise;
mod figure;
mod filters;
mod googlenet;
mod layers;
mod live;
mod resnet;
mod studies;
mod text;
mod vgg;

pub use figure::{Figure, Value};
pub use text::{Lang, Text};

use crate::{Error, Result};

/// A row of the lecture.
#[derive(Debug)]
pub struct Row {
    /// Its number, from 1.
    pub number: usize,
    /// A short name in the field's own word, that [`select`] knows too: `padding`, `resnet`.
    pub topic: &'static str,
    /// Its heading.
    pub title: Text,
    explain: fn() -> Result<Vec<Block>>,
}

/// A part of a row's explanation, in the order in which it is read.
#[derive(Clone, Debug, PartialEq)]
pub enum Block {
    /// A paragraph.
    Words(Text),
    /// Lines whose columns matter, at most [`EXHIBIT_WIDTH`] wide: a picture, a table, a calculation.
    Exhibit(Text),
    /// A number.
    Figure(Figure),
    /// Where the notes round, slip or simplify.
    Slip(Text),
    /// A command to try, and what it does.
    Try(&'static str, Text),
}

/// Most columns of a terminal that an exhibit takes.
pub const EXHIBIT_WIDTH: usize = 76;

const fn row(
    number: usize,
    topic: &'static str,
    [en, ko]: [&'static str; 2],
    explain: fn() -> Result<Vec<Block>>,
) -> Row {
    Row { number, topic, title: Text::new(en, ko), explain }
}

#[rustfmt::skip]
static ROWS: [Row; 16] = [
    row(1, "convolution", ["Convolution", "Convolution이란?"], filters::convolution),
    row(2, "filters", ["A filter stamps its shape on the picture", "filter 모양을 이미지에 찍는다"], filters::stamps),
    row(3, "channels", ["Convolution of an RGB picture", "RGB 이미지의 convolution"], filters::channels),
    row(4, "stack", ["As many output channels as filters", "filter 개수만큼 나오는 output channel"], filters::stack),
    row(5, "cnn", ["Convolutional neural networks", "Convolutional Neural Network의 구성"], layers::parts),
    row(6, "stride", ["Stride", "Stride"], layers::stride),
    row(7, "padding", ["Padding", "Padding"], layers::padding),
    row(8, "arithmetic", ["Convolution arithmetic", "Convolution Arithmetic, 파라미터 세기"], layers::arithmetic),
    row(9, "1x1", ["1×1 convolution", "1×1 convolution"], layers::pointwise),
    row(10, "alexnet", ["AlexNet", "AlexNet"], alexnet::explain),
    row(11, "vgg", ["VGGNet", "VGGNet"], vgg::explain),
    row(12, "googlenet", ["GoogLeNet", "GoogLeNet"], googlenet::explain),
    row(13, "resnet", ["ResNet", "ResNet"], resnet::explain),
    row(14, "densenet", ["DenseNet", "DenseNet"], densenet::explain),
    row(15, "exercise", ["The exercise: a CNN of your own on MNIST", "과제: MNIST를 배우는 나만의 CNN"], exercise::explain),
    row(16, "descendants", ["What became of the five", "다섯 모델의 후손"], descendants::explain),
];

impl Row {
    /// `L1` to `L16`.
    pub fn id(&self) -> String {
        format!("L{}", self.number)
    }

    /// Explains the row: builds its nets, computes its figures.
    ///
    /// # Errors
    /// When the machine does not let threads start; all else is tested to work.
    pub fn explain(&self) -> Result<Vec<Block>> {
        studies::added(&self.id(), (self.explain)()?)
    }
}

/// All rows in their order.
pub fn rows() -> &'static [Row] {
    &ROWS
}

/// The rows that these words name, in the lecture's order, each once; all when there is no word. A word is a row (`L10`),
/// a range (`L1-L9`) or a topic (`alexnet`), in capitals or not.
///
/// # Errors
/// [`Error::Unknown`] with what was perhaps meant, for a word that names no row.
///
/// ```
/// let rows = convnet::lecture::select(&["L8-L9", "resnet"]).unwrap();
/// assert_eq!(rows.iter().map(|row| row.number).collect::<Vec<_>>(), [8, 9, 13]);
/// assert!(convnet::lecture::select(&["resnte"]).unwrap_err().to_string().ends_with("did you mean 'resnet'?"));
/// ```
pub fn select(words: &[impl AsRef<str>]) -> Result<Vec<&'static Row>> {
    let mut chosen = [words.is_empty(); ROWS.len()];
    for word in words {
        let [first, last] = range(word.as_ref())?;
        chosen[first..=last].fill(true);
    }
    Ok(ROWS.iter().zip(chosen).filter(|(_, chosen)| *chosen).map(|(row, _)| row).collect())
}

/// Places in [`ROWS`] of the first and the last row that a word names.
fn range(word: &str) -> Result<[usize; 2]> {
    if let Some(place) = position(word) {
        return Ok([place; 2]);
    }
    let ends = word.split_once('-').and_then(|(first, last)| Some([position(first)?, position(last)?]));
    match ends {
        Some([first, last]) if first <= last => Ok([first, last]),
        Some(_) => Err(Error::setting("range", "the earlier row first, as in L1-L9", format_args!("'{word}'"))),
        None => {
            let ids: Vec<String> = ROWS.iter().map(Row::id).collect();
            let topics = ROWS.iter().map(|row| row.topic);
            Err(Error::unknown_in(Some("lecture".into()), "row", word, topics.chain(ids.iter().map(String::as_str))))
        }
    }
}

/// The place in [`ROWS`] of `L10`, `10` or `alexnet`.
fn position(word: &str) -> Option<usize> {
    let number = word.strip_prefix(['L', 'l']).unwrap_or(word);
    ROWS.iter().position(|row| number.parse() == Ok(row.number) || word.eq_ignore_ascii_case(row.topic))
}

#[cfg(test)]
mod tests;
