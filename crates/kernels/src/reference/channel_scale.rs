//! Channels times a number each: `y[n, c] = factor[n, c] · x[n, c]` at every pixel. Squeeze and excitation (Hu et al. 2018) has
//! a factor for each channel of each picture, layer scale (Touvron et al. 2021) for each channel.

use super::{Float, expect_len};

/// The output, and also the gradient by the input for that of the output. `factors` are `[batch, channels]`, or `[channels]`
/// for every picture.
///
/// # Panics
/// When lengths do not fit.
pub fn forward<T: Float>(pixels: usize, input: &[T], factors: &[T]) -> Vec<T> {
    expect_planes(pixels, input, factors);
    let planes = input.chunks_exact(pixels).zip(factors.iter().cycle());
    planes.flat_map(|(plane, &factor)| plane.iter().map(move |&x| factor * x)).collect()
}

/// The gradient by the factors, `count` as in [`forward`]: the sum of `dy · x` over what each is multiplied with.
///
/// # Panics
/// When lengths do not fit.
pub fn backward_factors<T: Float>(pixels: usize, input: &[T], grad_output: &[T], count: usize) -> Vec<T> {
    let mut gradient = vec![T::ZERO; count];
    expect_planes(pixels, input, &gradient);
    expect_len("gradient of the output", grad_output, input.len());
    let planes = input.chunks_exact(pixels).zip(grad_output.chunks_exact(pixels));
    for (index, (x, dy)) in planes.enumerate() {
        gradient[index % count] += x.iter().zip(dy).map(|(&x, &dy)| x * dy).sum();
    }
    gradient
}

fn expect_planes<T>(pixels: usize, input: &[T], factors: &[T]) {
    let pictures = pixels * factors.len();
    expect_len("maps", input, input.len() / pictures * pictures);
}

#[cfg(test)]
mod tests {
    use super::super::gradcheck::{assert_gradient, dot, pattern};
    use super::*;

    #[test]
    fn known_values() {
        let x = [1.0f32, 2.0, 3.0, 4.0];
        assert_eq!(forward(1, &x, &[10.0, 100.0]), [10.0, 200.0, 30.0, 400.0]);
        assert_eq!(forward(2, &x, &[10.0, 100.0]), [10.0, 20.0, 300.0, 400.0]);
        assert_eq!(backward_factors(1, &x, &[1.0, 1.0, 1.0, 0.5], 2), [4.0, 4.0]);
    }

    #[test]
    fn gradients() {
        let (batch, channels, pixels) = (3, 4, 5);
        let (x, dy) = (pattern(1, batch * channels * pixels), pattern(2, batch * channels * pixels));
        for count in [channels, batch * channels] {
            let factors = pattern(3, count);
            assert_gradient("x", &x, &forward(pixels, &dy, &factors), |x| dot(&forward(pixels, x, &factors), &dy));
            let by_factors = backward_factors(pixels, &x, &dy, count);
            assert_gradient("factors", &factors, &by_factors, |factors| dot(&forward(pixels, &x, factors), &dy));
        }
    }
}
