//! Local response normalisation across channels (Krizhevsky et al. 2012, section 3.3) of `[batch, channels, pixels]`:
//! `y[c] = x[c] · b[c]^-beta` with `b[c] = k + alpha / size · Σ x[j]²` over the channels j from `c - size / 2` to
//! `c + (size - 1) / 2` that there are (PyTorch's and ONNX's form).

use super::{Float, expect_len};
use std::ops::Range;

/// Sizes and settings of a local response normalisation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LrnProblem {
    /// Pictures.
    pub batch: usize,
    /// Channels of a picture.
    pub channels: usize,
    /// Height times width.
    pub pixels: usize,
    /// Channels that are summed.
    pub size: usize,
    /// Factor of the squares' mean.
    pub alpha: f64,
    /// Exponent.
    pub beta: f64,
    /// What is added to the mean.
    pub k: f64,
}

impl LrnProblem {
    fn len(&self) -> usize {
        self.batch * self.channels * self.pixels
    }

    /// The channels around one.
    fn around(&self, channel: usize) -> Range<usize> {
        channel.saturating_sub(self.size / 2)..(channel + (self.size - 1) / 2 + 1).min(self.channels)
    }

    /// `b` of every element.
    fn bases<T: Float>(&self, input: &[T]) -> Vec<T> {
        let factor = T::from_f64(self.alpha / self.size as f64);
        let base = |i: usize| {
            let (plane, pixel) = (i / self.pixels, i % self.pixels);
            let first = plane / self.channels * self.channels;
            let square = |c: usize| input[(first + c) * self.pixels + pixel] * input[(first + c) * self.pixels + pixel];
            T::from_f64(self.k) + factor * self.around(plane % self.channels).map(square).sum::<T>()
        };
        (0..self.len()).map(base).collect()
    }

    fn power<T: Float>(&self, base: T) -> T {
        (base.ln() * T::from_f64(-self.beta)).exp()
    }
}

/// The normalised input.
///
/// # Panics
/// When lengths do not fit.
pub fn forward<T: Float>(problem: &LrnProblem, input: &[T]) -> Vec<T> {
    expect_len("input", input, problem.len());
    input.iter().zip(problem.bases(input)).map(|(&x, base)| x * problem.power(base)).collect()
}

/// The gradient by the input: `dx[c] = dy[c] · b[c]^-beta - 2 · alpha · beta / size · x[c] · Σ dy[j] · y[j] / b[j]` over the
/// channels j whose sums hold c.
///
/// # Panics
/// When lengths do not fit.
pub fn backward<T: Float>(problem: &LrnProblem, input: &[T], grad_output: &[T]) -> Vec<T> {
    expect_len("input", input, problem.len());
    expect_len("gradient of the output", grad_output, problem.len());
    let LrnProblem { channels, pixels, .. } = *problem;
    let bases = problem.bases(input);
    let factor = T::from_f64(2.0 * problem.alpha * problem.beta / problem.size as f64);
    let mut grad_input: Vec<T> = grad_output.iter().zip(&bases).map(|(&dy, &base)| dy * problem.power(base)).collect();
    for j in 0..problem.len() {
        let (plane, pixel) = (j / pixels, j % pixels);
        let share = factor * grad_output[j] * input[j] * problem.power(bases[j]) / bases[j];
        for c in problem.around(plane % channels) {
            let i = (plane / channels * channels + c) * pixels + pixel;
            grad_input[i] += -(share * input[i]);
        }
    }
    grad_input
}

#[cfg(test)]
mod tests {
    use super::super::gradcheck::{assert_gradient, dot, pattern};
    use super::*;

    #[test]
    fn gradients() {
        for size in [1, 3, 4, 9] {
            let problem = LrnProblem { batch: 2, channels: 6, pixels: 3, size, alpha: 0.5, beta: 0.75, k: 2.0 };
            let (x, dy) = (pattern(1, problem.len()), pattern(2, problem.len()));
            assert_gradient("x", &x, &backward(&problem, &x, &dy), |x| dot(&forward(&problem, x), &dy));
        }
    }

    #[test]
    fn the_papers_formula() {
        // Three channels of one pixel, size 3: the middle one sums all.
        let problem = LrnProblem { batch: 1, channels: 3, pixels: 1, size: 3, alpha: 3.0, beta: 1.0, k: 1.0 };
        let y = forward(&problem, &[1.0, 2.0, 3.0]);
        assert!((y[0] - 1.0 / 6.0f64).abs() < 1e-12 && (y[1] - 2.0 / 15.0).abs() < 1e-12);
    }
}
