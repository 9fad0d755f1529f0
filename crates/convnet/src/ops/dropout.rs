//! Dropout (Srivastava et al. 2014) of single elements, and of whole channels (Tompson et al. 2015): the same shape.
//! Training sets each with probability `p` to zero and scales the rest by `1 / (1 - p)`; inference does nothing.
//! Backward keeps nothing: the mask is computed again from the step's seed.

use super::{Problem, Shape, check_probability};

/// Settings of a dropout.
#[derive(Clone, Debug, PartialEq)]
pub struct Dropout {
    /// Probability of being set to zero, from 0 to below 1.
    pub p: f32,
}

impl Dropout {
    /// With probability `p`.
    pub const fn new(p: f32) -> Dropout {
        Dropout { p }
    }

    pub(super) fn output(&self, input: Shape) -> Result<Shape, Problem> {
        check_probability(self.p).map(|()| input)
    }
}
