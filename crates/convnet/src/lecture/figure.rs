//! Numbers of the lecture: how they are computed, what comes out, and what the notes say.

use std::fmt;

use serde::Serialize;

use super::Text;
use crate::columns::thousands;

/// What a figure is.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Value {
    /// A number of things.
    Count(u64),
    /// A number that is not whole.
    Real(f64),
    /// Lengths of axes, channels last.
    Size(Vec<usize>),
    /// Something that is not a number, such as an order.
    Words(String),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Count(number) => f.write_str(&thousands(*number)),
            Value::Real(number) => write!(f, "{number}"),
            Value::Size(axes) => f.write_str(&product(axes, "×")),
            Value::Words(words) => f.write_str(words),
        }
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Value {
        Value::Count(number)
    }
}

impl From<usize> for Value {
    fn from(number: usize) -> Value {
        Value::Count(number as u64)
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Value {
        Value::Real(number)
    }
}

impl<const N: usize> From<[usize; N]> for Value {
    fn from(axes: [usize; N]) -> Value {
        Value::Size(axes.to_vec())
    }
}

impl From<&str> for Value {
    fn from(words: &str) -> Value {
        Value::Words(words.to_owned())
    }
}

impl From<String> for Value {
    fn from(words: String) -> Value {
        Value::Words(words)
    }
}

/// A number of the lecture.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// What it is.
    pub name: Text,
    /// How it comes about, such as `3 · 3 · 128 · 64`; empty when it is read off.
    pub working: String,
    /// What the library computes.
    pub computed: Value,
    /// In what it is counted.
    pub unit: Text,
    /// What the notes say, when they say something.
    pub notes: Option<Value>,
    /// Why the notes say something else, or what is to be seen here.
    pub remark: Option<Text>,
}

impl Figure {
    /// A figure that the notes do not state.
    pub(super) fn new(name: Text, computed: impl Into<Value>, unit: Text) -> Figure {
        Figure { name, working: String::new(), computed: computed.into(), unit, notes: None, remark: None }
    }

    /// A number of weights.
    pub(super) fn weights(name: Text, computed: u64) -> Figure {
        Figure::new(name, computed, WEIGHTS)
    }

    /// Height, width and channels.
    pub(super) fn size(name: Text, computed: [usize; 3]) -> Figure {
        Figure::new(name, computed, Text::new("(height × width × channels)", "(높이 × 너비 × 채널)"))
    }

    pub(super) fn working(self, working: impl Into<String>) -> Figure {
        Figure { working: working.into(), ..self }
    }

    pub(super) fn notes(self, notes: impl Into<Value>) -> Figure {
        Figure { notes: Some(notes.into()), ..self }
    }

    pub(super) fn remark(self, remark: Text) -> Figure {
        Figure { remark: Some(remark), ..self }
    }

    /// Whether the notes say what is computed; `None` when they say nothing.
    pub fn agrees(&self) -> Option<bool> {
        self.notes.as_ref().map(|notes| *notes == self.computed)
    }
}

/// The unit of most figures.
pub(super) const WEIGHTS: Text = Text::new("weights", "개");
/// Weights and biases.
pub(super) const PARAMETERS: Text = Text::new("parameters", "개");
/// Pixels along a side.
pub(super) const PIXELS: Text = Text::new("pixels", "픽셀");
/// Channels of maps.
pub(super) const CHANNELS: Text = Text::new("channels", "channel");
/// The unit of what has none.
pub(super) const NO_UNIT: Text = Text::new("", "");

/// `[3, 3, 128]` as `3 · 3 · 128`, for a sign of ` · `.
pub(super) fn product(factors: &[usize], sign: &str) -> String {
    factors.iter().map(|&factor| thousands(factor as u64)).collect::<Vec<String>>().join(sign)
}
