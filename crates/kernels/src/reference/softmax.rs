//! Softmax over the channels of each pixel of maps `[batch, channels, pixels]`: `y = e^x / Σ e^x`, with the largest x taken
//! from all first. From the output, `dx = y · (dy - Σ y · dy)`. A vector is maps of one pixel.

use super::{Float, expect_len};

/// The output, as long as the input.
///
/// # Panics
/// When the input is not made of whole pictures.
pub fn forward<T: Float>([channels, pixels]: [usize; 2], input: &[T]) -> Vec<T> {
    let mut output = vec![T::ZERO; input.len()];
    for first in first_channels([channels, pixels], input) {
        let places = || (0..channels).map(|c| first + c * pixels);
        let largest = places().map(|i| input[i]).fold(input[first], T::max);
        places().for_each(|i| output[i] = (input[i] - largest).exp());
        let sum: T = places().map(|i| output[i]).sum();
        places().for_each(|i| output[i] = output[i] / sum);
    }
    output
}

/// The gradient by the input, from the output.
///
/// # Panics
/// When lengths do not fit.
pub fn backward<T: Float>([channels, pixels]: [usize; 2], output: &[T], grad_output: &[T]) -> Vec<T> {
    expect_len("gradient of the output", grad_output, output.len());
    let mut grad_input = vec![T::ZERO; output.len()];
    for first in first_channels([channels, pixels], output) {
        let places = || (0..channels).map(|c| first + c * pixels);
        let along: T = places().map(|i| output[i] * grad_output[i]).sum();
        places().for_each(|i| grad_input[i] = output[i] * (grad_output[i] - along));
    }
    grad_input
}

/// Where the first channel of each picture's pixels lies.
fn first_channels<T>([channels, pixels]: [usize; 2], maps: &[T]) -> impl Iterator<Item = usize> + use<T> {
    let picture = channels * pixels;
    expect_len("maps", maps, maps.len() / picture * picture);
    (0..maps.len()).step_by(picture).flat_map(move |start| start..start + pixels)
}

#[cfg(test)]
mod tests {
    use super::super::gradcheck::{assert_gradient, dot, pattern};
    use super::*;

    #[test]
    fn known_values() {
        let y = forward([2, 2], &[0.0f64, 1000.0, 3f64.ln(), 1000.0]);
        assert!(y.iter().zip([0.25, 0.5, 0.75, 0.5]).all(|(y, want)| (y - want).abs() < 1e-15), "{y:?}");
        assert!(forward([2, 1], &[f64::NAN, 0.0]).iter().all(|y| y.is_nan()));
    }

    #[test]
    fn gradients() {
        for (batch, channels, pixels) in [(3, 4, 5), (2, 7, 1)] {
            let (x, dy) = (pattern(1, batch * channels * pixels), pattern(2, batch * channels * pixels));
            let shape = [channels, pixels];
            assert_gradient("x", &x, &backward(shape, &forward(shape, &x), &dy), |x| dot(&forward(shape, x), &dy));
        }
    }
}
