//! Stochastic depth (Huang et al. 2016, "Deep networks with stochastic depth"), which stands at the end of a residual branch:
//! the same shape. Training sets the whole branch of a picture to zero with probability `p` and scales it by `1 / (1 - p)`
//! otherwise (torchvision's mode "row"); inference does nothing. Backward keeps nothing: whether picture n is kept is computed
//! again from the step's seed.

use super::{Problem, Shape, check_probability};

/// Settings of a stochastic depth.
#[derive(Clone, Debug, PartialEq)]
pub struct StochasticDepth {
    /// Probability that a picture's branch is dropped, from 0 to below 1.
    pub p: f32,
}

impl StochasticDepth {
    pub(super) fn output(&self, input: Shape) -> Result<Shape, Problem> {
        check_probability(self.p).map(|()| input)
    }
}
