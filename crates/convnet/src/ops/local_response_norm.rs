//! Local response normalisation across channels (Krizhevsky et al. 2012, section 3.3): `[C, H, W]` → the same.
//! `y[c] = x[c] / (k + alpha / size · Σ x[j]²)^beta`, where j runs over the `size` channels around c that there are. As in
//! PyTorch and ONNX, alpha is divided by the size; the paper's is not (its 1e-4 for five channels is 5e-4 here).
//! Backward keeps the input.

use super::{Problem, Shape, expect_map};
use convnet_kernels::local_response_norm::MAX_SIZE;

/// Settings of a local response normalisation.
#[derive(Clone, Debug, PartialEq)]
pub struct LocalResponseNorm {
    /// Channels that are summed: (size / 2) before and (size - 1) / 2 after the one that is normalised; at most
    /// [`MAX_SIZE`].
    pub size: usize,
    /// Factor of the squares' mean.
    pub alpha: f32,
    /// Exponent.
    pub beta: f32,
    /// What is added to the mean.
    pub k: f32,
}

impl LocalResponseNorm {
    /// PyTorch's defaults for everything but the size.
    pub const fn new(size: usize) -> LocalResponseNorm {
        LocalResponseNorm { size, alpha: 1e-4, beta: 0.75, k: 1.0 }
    }

    pub(super) fn output(&self, input: Shape) -> Result<Shape, Problem> {
        let LocalResponseNorm { size, alpha, beta, k } = *self;
        if !(1..=MAX_SIZE).contains(&size) {
            return Err(format!("expected a size from 1 to {MAX_SIZE}, got {size}"));
        }
        // k above 0 keeps what is raised to the power above 0.
        if !(alpha.is_finite() && alpha >= 0.0 && beta.is_finite() && beta >= 0.0 && k.is_finite() && k > 0.0) {
            return Err(format!("expected alpha and beta of at least 0 and k above 0, got {alpha}, {beta} and {k}"));
        }
        expect_map(input).map(Shape::Map)
    }
}
