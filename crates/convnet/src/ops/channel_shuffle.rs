//! Channel shuffle (Zhang et al. 2018, "ShuffleNet", section 3.1): `[C, H, W]` → the same. With G groups of C / G channels,
//! channel `g · C / G + i` becomes channel `i · G + g`: the transpose of a G × C/G matrix. Backward keeps nothing.

use super::{Problem, Shape, expect_map};

/// Settings of a channel shuffle.
#[derive(Clone, Debug, PartialEq)]
pub struct ChannelShuffle {
    /// Groups whose channels are interleaved; they divide the channels.
    pub groups: usize,
}

impl ChannelShuffle {
    pub(super) fn output(&self, input: Shape) -> Result<Shape, Problem> {
        let [channels, h, w] = expect_map(input)?;
        match self.groups > 0 && channels.is_multiple_of(self.groups) {
            true => Ok(Shape::Map([channels, h, w])),
            false => Err(format!("expected groups that divide the {channels} channels, got {}", self.groups)),
        }
    }
}
