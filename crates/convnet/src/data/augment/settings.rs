//! What every transform can do: check its settings, say what becomes of a picture's size, and draw its steps.

use super::draw::Draw;
use super::step::{Scratch, Step};

/// What a transform knows of the picture that it draws for.
#[derive(Clone, Copy)]
pub(super) struct Frame<'a> {
    /// Channels, height and width of the picture as the transforms before leave it.
    pub(super) shape: [usize; 3],
    /// Height and width that the whole list leads to.
    pub(super) target: [usize; 2],
    /// Mean and standard deviation of each channel, in units of pixels in 0..1.
    pub(super) mean: &'a [f32],
    pub(super) std: &'a [f32],
}

/// The steps of a picture, as they are drawn.
pub(super) struct Steps<'a> {
    steps: &'a mut Vec<Step>,
    /// Numbers that a transform puts aside as it draws.
    pub(super) weights: &'a mut Vec<f64>,
}

impl<'a> Steps<'a> {
    pub(super) fn of(scratch: &'a mut Scratch) -> Steps<'a> {
        Steps { steps: &mut scratch.steps, weights: &mut scratch.weights }
    }

    pub(super) fn push(&mut self, step: impl Into<Step>) {
        self.steps.push(step.into());
    }
}

/// A transform's settings.
pub(super) trait Settings {
    /// Checks the values; the error names the setting, what it is, and what was expected.
    fn check(&self) -> Result<(), String>;

    /// Height and width of what it makes of a picture of this size (`None`: of any size), on the way to the target's.
    fn size(&self, size: Option<[usize; 2]>, _target: [usize; 2]) -> Option<[usize; 2]> {
        size
    }

    /// Draws what is done to a picture.
    ///
    /// # Errors
    /// A picture whose size it cannot use, in words.
    fn draw(&self, frame: Frame<'_>, draw: &mut Draw, steps: &mut Steps<'_>) -> Result<(), String>;
}
