//! Kinds of values that settings take.

use serde::{Deserialize, Serialize};

use crate::data::resize::Interpolation;

/// What a factor or an angle is drawn from: a number, which means a range around the neutral value, or a pair.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a number or a pair of numbers [low, high]")]
pub enum Spread {
    /// So far to both sides of the neutral value.
    Around(f64),
    /// From the first to the second.
    Between([f64; 2]),
}

impl Spread {
    /// The range, where `neutral` changes nothing.
    pub(super) fn range(self, neutral: f64) -> [f64; 2] {
        match self {
            Spread::Around(reach) => [neutral - reach, neutral + reach],
            Spread::Between(range) => range,
        }
    }

    /// The range of a factor, which is not below 0 for a single number.
    pub(super) fn factors(self) -> [f64; 2] {
        match self {
            Spread::Around(_) => self.range(1.0).map(|factor| factor.max(0.0)),
            Spread::Between(range) => range,
        }
    }
}

/// A colour: one value for every channel, or one for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a value of 0 to 255, or three of them for red, green and blue")]
pub enum Fill {
    /// In every channel.
    Grey(u8),
    /// In red, green and blue.
    Color([u8; 3]),
}

impl Default for Fill {
    fn default() -> Fill {
        Fill::Grey(0)
    }
}

impl Fill {
    pub(super) fn channels(self) -> [u8; 3] {
        match self {
            Fill::Grey(value) => [value; 3],
            Fill::Color(values) => values,
        }
    }
}

/// What lies beyond the edges of a picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PaddingMode {
    /// A colour.
    #[default]
    Constant,
    /// The pixel at the edge.
    Edge,
    /// The picture's mirror image, without the edge's own pixels.
    Reflect,
    /// The picture's mirror image.
    Symmetric,
}

impl PaddingMode {
    /// The pixel of a line that stands at `i`, which may lie outside; `None` for the colour.
    pub(super) fn source(self, i: isize, length: usize) -> Option<usize> {
        let last = length as isize - 1;
        let mirrored = |period: isize, back: isize| {
            let i = i.rem_euclid(period.max(1));
            if i <= last { i } else { back - i }
        };
        let i = match self {
            _ if (0..=last).contains(&i) => i,
            PaddingMode::Constant => return None,
            PaddingMode::Edge => i.clamp(0, last),
            PaddingMode::Reflect => mirrored(2 * last, 2 * last),
            PaddingMode::Symmetric => mirrored(2 * last + 2, 2 * last + 1),
        };
        usize::try_from(i).ok()
    }
}

/// Checks that a setting lies in a range.
pub(super) fn within(name: &str, value: f64, [low, high]: [f64; 2]) -> Result<(), String> {
    match value >= low && value <= high {
        true => Ok(()),
        false if high == f64::INFINITY => Err(format!("{name} = {value}: expected a number of at least {low}")),
        false => Err(format!("{name} = {value}: expected a number from {low} to {high}")),
    }
}

/// Checks that a probability is one.
pub(super) fn probability(p: f64) -> Result<(), String> {
    within("p", p, [0.0, 1.0])
}

/// Checks that a range is not empty and lies between bounds.
pub(super) fn range(name: &str, [low, high]: [f64; 2], bounds: [f64; 2]) -> Result<(), String> {
    let fits = low >= bounds[0] && low <= high && high <= bounds[1] && high.is_finite();
    if !fits {
        let bounds = match bounds[1] == f64::INFINITY {
            true => format!("of at least {}", bounds[0]),
            false => format!("from {} to {}", bounds[0], bounds[1]),
        };
        return Err(format!("{name} = [{low}, {high}]: expected numbers {bounds}, the lower one first"));
    }
    Ok(())
}

/// Checks that a map of the picture can use this interpolation.
pub(super) fn lookup(interpolation: Interpolation) -> Result<(), String> {
    match interpolation {
        Interpolation::Nearest | Interpolation::Bilinear => Ok(()),
        other => Err(format!("interpolation = \"{other}\": expected nearest or bilinear")),
    }
}

/// Checks that a size is not empty.
pub(super) fn size(size: Option<[usize; 2]>) -> Result<(), String> {
    match size {
        Some([height, width]) if height == 0 || width == 0 => {
            Err(format!("size = [{height}, {width}]: expected at least one pixel each"))
        }
        _ => Ok(()),
    }
}
