//! Channels of zeros around the input's: `[C, H, W]` → `[before + C + after, H, W]`. With a pooling of one pixel at stride 2
//! before it this is shortcut A of He et al. 2016, section 3.3: identity, with zeros where dimensions grow. Backward keeps
//! nothing.

use super::{Problem, Shape, expect_map};

/// Settings of a padding of channels.
#[derive(Clone, Debug, PartialEq)]
pub struct PadChannels {
    /// Channels of zeros before the first.
    pub before: usize,
    /// Channels of zeros after the last.
    pub after: usize,
}

impl PadChannels {
    pub(super) fn output(&self, input: Shape) -> Result<Shape, Problem> {
        let [channels, h, w] = expect_map(input)?;
        Ok(Shape::Map([channels.saturating_add(self.before).saturating_add(self.after), h, w]))
    }
}
