//! Some of the channels of maps, or of the features of a vector: `[C, H, W]` → `[end - start, H, W]`. Two slices are ShuffleNet
//! v2's channel split (Ma et al. 2018, section 3.2), in PyTorch `chunk(2, dim=1)`. Backward keeps nothing.

use super::{Problem, Shape};

/// Settings of a slice.
#[derive(Clone, Debug, PartialEq)]
pub struct Slice {
    /// The first channel that is kept.
    pub start: usize,
    /// The first channel after those that are kept.
    pub end: usize,
}

impl Slice {
    pub(super) fn output(&self, input: Shape) -> Result<Shape, Problem> {
        let (start, end, channels) = (self.start, self.end, input.channels());
        if start >= end || end > channels {
            return Err(format!(
                "expected a start below the end and an end of at most {channels}, got {start} and {end}"
            ));
        }
        Ok(match input {
            Shape::Map([_, h, w]) => Shape::Map([end - start, h, w]),
            Shape::Vector(_) => Shape::Vector(end - start),
        })
    }
}
