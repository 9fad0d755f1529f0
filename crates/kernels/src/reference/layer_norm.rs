//! Layer normalisation (Ba, Kiros and Hinton 2016) of maps `[batch, channels, pixels]` over the C channels of each pixel:
//!
//! `y = weight · x̂ + bias`, `x̂ = (x - mean) / sqrt(var + eps)`
//!
//! with the pixel's mean and (biased, `1/C`) variance. With `g = weight · dy`, `dx = (g - Σg / C - x̂ · Σ(g · x̂) / C) /
//! sqrt(var + eps)`; `dweight = Σ dy · x̂` and `dbias = Σ dy` over batch and pixels. A vector is maps of one pixel.

pub use super::batch_norm::Gradients;
use super::{Float, expect_len};

/// A layer normalisation over channels: its sizes, parameters and eps.
#[derive(Clone, Copy, Debug)]
pub struct LayerNorm<'a, T> {
    /// Height times width of a channel.
    pub pixels: usize,
    /// Factor per channel; its length is the number of channels.
    pub weight: &'a [T],
    /// Addend per channel.
    pub bias: &'a [T],
    /// Added to the variance before its square root.
    pub eps: T,
}

impl<T: Float> LayerNorm<'_, T> {
    /// The output.
    ///
    /// # Panics
    /// When lengths do not fit.
    pub fn forward(&self, input: &[T]) -> Vec<T> {
        let mut output = vec![T::ZERO; input.len()];
        for first in self.first_channels(input) {
            let (normal, _) = self.normal(input, first);
            for (c, x) in normal.into_iter().enumerate() {
                output[first + c * self.pixels] = self.weight[c] * x + self.bias[c];
            }
        }
        output
    }

    /// Gradients by the input and the parameters.
    ///
    /// # Panics
    /// When lengths do not fit.
    pub fn backward(&self, input: &[T], grad_output: &[T]) -> Gradients<T> {
        expect_len("gradient of the output", grad_output, input.len());
        let (channels, zeros) = (T::from_usize(self.weight.len()), vec![T::ZERO; self.weight.len()]);
        let mut gradients = Gradients { input: vec![T::ZERO; input.len()], weight: zeros.clone(), bias: zeros };
        for first in self.first_channels(input) {
            let (normal, inverse) = self.normal(input, first);
            let dy: Vec<T> = (0..normal.len()).map(|c| grad_output[first + c * self.pixels]).collect();
            let scaled: Vec<T> = dy.iter().zip(self.weight).map(|(&dy, &weight)| weight * dy).collect();
            let mean = scaled.iter().copied().sum::<T>() / channels;
            let along = scaled.iter().zip(&normal).map(|(&g, &x)| g * x).sum::<T>() / channels;
            for (c, &x) in normal.iter().enumerate() {
                gradients.input[first + c * self.pixels] = inverse * (scaled[c] - mean - x * along);
                gradients.weight[c] += dy[c] * x;
                gradients.bias[c] += dy[c];
            }
        }
        gradients
    }

    /// Where the first channel of each picture's pixels lies.
    fn first_channels(&self, input: &[T]) -> impl Iterator<Item = usize> + use<T> {
        expect_len("bias", self.bias, self.weight.len());
        let (pixels, picture) = (self.pixels, self.pixels * self.weight.len());
        expect_len("maps", input, input.len() / picture * picture);
        (0..input.len()).step_by(picture).flat_map(move |start| start..start + pixels)
    }

    /// The normalised channels of a pixel, and `1 / sqrt(var + eps)`.
    fn normal(&self, input: &[T], first: usize) -> (Vec<T>, T) {
        let values: Vec<T> = (0..self.weight.len()).map(|c| input[first + c * self.pixels]).collect();
        let channels = T::from_usize(values.len());
        let mean = values.iter().copied().sum::<T>() / channels;
        let var = values.iter().map(|&x| (x - mean) * (x - mean)).sum::<T>() / channels;
        let inverse = T::ONE / (var + self.eps).sqrt();
        (values.into_iter().map(|x| (x - mean) * inverse).collect(), inverse)
    }
}

#[cfg(test)]
mod tests {
    use super::super::gradcheck::{assert_gradient, dot, pattern};
    use super::*;

    #[test]
    fn known_values() {
        let norm = LayerNorm { pixels: 2, weight: &[2.0, 1.0], bias: &[1.0, 0.0], eps: 0.0 };
        // Pixels (1, 3) and (6, 2).
        assert_eq!(norm.forward(&[1.0, 6.0, 3.0, 2.0]), [-1.0, 3.0, 1.0, -1.0]);
    }

    #[test]
    fn gradients() {
        for (batch, channels, pixels) in [(3, 2, 5), (1, 7, 6), (4, 5, 1)] {
            let count = batch * channels * pixels;
            let (x, dy) = (pattern(1, count), pattern(2, count));
            let (weight, bias) = (pattern(3, channels), pattern(4, channels));
            let loss = |x: &[f64], weight: &[f64], bias: &[f64]| {
                dot(&LayerNorm { pixels, weight, bias, eps: 1e-6 }.forward(x), &dy)
            };
            let found = LayerNorm { pixels, weight: &weight, bias: &bias, eps: 1e-6 }.backward(&x, &dy);
            assert_gradient("x", &x, &found.input, |x| loss(x, &weight, &bias));
            assert_gradient("weight", &weight, &found.weight, |weight| loss(&x, weight, &bias));
            assert_gradient("bias", &bias, &found.bias, |bias| loss(&x, &weight, bias));
        }
    }
}
