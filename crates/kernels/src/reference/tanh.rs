//! `y = tanh(x)`, element by element.

use super::{Float, expect_len};

/// The output, as long as the input.
pub fn forward<T: Float>(input: &[T]) -> Vec<T> {
    input.iter().map(|&x| x.tanh()).collect()
}

/// The gradient by the input, from the output: `dy · (1 - y²)`.
///
/// # Panics
/// When the lengths differ.
pub fn backward<T: Float>(output: &[T], grad_output: &[T]) -> Vec<T> {
    expect_len("gradient of the output", grad_output, output.len());
    output.iter().zip(grad_output).map(|(&y, &dy)| dy * (T::ONE - y * y)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::gradcheck::{assert_gradient, dot, pattern};
    use super::*;

    #[test]
    fn gradients() {
        let (x, dy) = (pattern(1, 50), pattern(2, 50));
        assert_gradient("x", &x, &backward(&forward(&x), &dy), |x| dot(&forward(x), &dy));
    }
}
