//! `y = max(x, 0)`, element by element. NaN stays NaN, as in PyTorch, so that a broken step is seen. The gradient at 0
//! is 0.

use super::{Float, expect_len};

/// The output, as long as the input.
pub fn forward<T: Float>(input: &[T]) -> Vec<T> {
    input.iter().map(|&x| if x <= T::ZERO { T::ZERO } else { x }).collect()
}

/// The gradient by the input: that of the output where the input is above 0. The output of [`forward`] may be given in
/// place of the input.
///
/// # Panics
/// When the lengths differ.
pub fn backward<T: Float>(input: &[T], grad_output: &[T]) -> Vec<T> {
    expect_len("gradient of the output", grad_output, input.len());
    input.iter().zip(grad_output).map(|(&x, &dy)| if x <= T::ZERO { T::ZERO } else { dy }).collect()
}

#[cfg(test)]
mod tests {
    use super::super::gradcheck::{assert_gradient, dot, pattern};
    use super::*;

    #[test]
    fn signs_zero_and_nan() {
        assert_eq!(forward(&[-2.0f32, -0.0, 0.0, 3.0]), [0.0, 0.0, 0.0, 3.0]);
        assert!(forward(&[f32::NAN])[0].is_nan());
        assert_eq!(backward(&[-2.0f32, 0.0, 3.0], &[1.0; 3]), [0.0, 0.0, 1.0]);
    }

    #[test]
    fn gradients() {
        let (mut x, dy) = (pattern(1, 50), pattern(2, 50));
        x[7] = 0.0;
        assert_gradient("x", &x, &backward(&x, &dy), |x| dot(&forward(x), &dy));
        assert_eq!(backward(&forward(&x), &dy), backward(&x, &dy));
    }
}
