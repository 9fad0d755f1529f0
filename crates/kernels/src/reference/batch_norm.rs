//! Batch normalisation (Ioffe and Szegedy 2015, algorithm 1) of maps `[batch, channels, pixels]`, per channel over the
//! `N = batch · pixels` elements:
//!
//! `y = weight · x̂ + bias`, `x̂ = (x - mean) / sqrt(var + eps)`
//!
//! In training, mean and (biased, `1/N`) variance are the batch's and the gradient passes through them:
//! `dx = weight / sqrt(var + eps) · (dy - Σdy / N - x̂ · Σ(dy · x̂) / N)`. In inference they are the running values, and
//! constants. `dweight = Σ dy · x̂` and `dbias = Σ dy` in both.

use std::ops::Range;

use super::{Float, expect_len};

/// A batch normalisation: its sizes, parameters and eps.
#[derive(Clone, Copy, Debug)]
pub struct BatchNorm<'a, T> {
    /// Pictures.
    pub batch: usize,
    /// Height times width of a channel.
    pub pixels: usize,
    /// Factor per channel; its length is the number of channels.
    pub weight: &'a [T],
    /// Addend per channel.
    pub bias: &'a [T],
    /// Added to the variance before its square root.
    pub eps: T,
}

/// Mean and variance of each channel.
#[derive(Clone, Debug, PartialEq)]
pub struct Statistics<T> {
    /// Per channel.
    pub mean: Vec<T>,
    /// Per channel: biased if of a batch, unbiased if running.
    pub var: Vec<T>,
}

/// What the backward pass gives.
#[derive(Clone, Debug, PartialEq)]
pub struct Gradients<T> {
    /// By the input, `[batch, channels, pixels]`.
    pub input: Vec<T>,
    /// By the weight, `[channels]`.
    pub weight: Vec<T>,
    /// By the bias, `[channels]`.
    pub bias: Vec<T>,
}

impl<T: Float> BatchNorm<'_, T> {
    /// Mean and biased variance of each channel of the input, in two passes.
    ///
    /// # Panics
    /// When lengths do not fit.
    pub fn statistics(&self, input: &[T]) -> Statistics<T> {
        self.expect_maps("input", input);
        let count = T::from_usize(self.count());
        let mut found = Statistics { mean: Vec::new(), var: Vec::new() };
        for channel in 0..self.weight.len() {
            let values = || self.planes(channel).flat_map(|plane| &input[plane]);
            let mean = values().copied().sum::<T>() / count;
            found.mean.push(mean);
            found.var.push(values().map(|&x| (x - mean) * (x - mean)).sum::<T>() / count);
        }
        found
    }

    /// The output for statistics of the batch (training) or running ones (inference).
    ///
    /// # Panics
    /// When lengths do not fit.
    pub fn forward(&self, input: &[T], statistics: &Statistics<T>) -> Vec<T> {
        self.expect_maps("input", input);
        let mut output = vec![T::ZERO; input.len()];
        for channel in 0..self.weight.len() {
            let (mean, inverse) = self.mean_and_inverse(statistics, channel);
            for plane in self.planes(channel) {
                for (y, &x) in output[plane.clone()].iter_mut().zip(&input[plane]) {
                    *y = self.weight[channel] * ((x - mean) * inverse) + self.bias[channel];
                }
            }
        }
        output
    }

    /// Moves running values towards a batch's: `running = (1 - momentum) · running + momentum · batch`, where the
    /// variance is made unbiased first (`N / (N - 1)`).
    ///
    /// # Panics
    /// When a channel has a single element, whose unbiased variance is not defined.
    pub fn update(&self, running: &mut Statistics<T>, batch: &Statistics<T>, momentum: T) {
        let count = self.count();
        assert!(count > 1, "expected more than one element per channel in training");
        let unbiased = T::from_usize(count) / T::from_usize(count - 1);
        let blend = |old: T, new: T| (T::ONE - momentum) * old + momentum * new;
        running.mean.iter_mut().zip(&batch.mean).for_each(|(old, &new)| *old = blend(*old, new));
        running.var.iter_mut().zip(&batch.var).for_each(|(old, &new)| *old = blend(*old, new * unbiased));
    }

    /// Gradients in training, where `statistics` are the batch's and depend on the input.
    ///
    /// # Panics
    /// When lengths do not fit.
    pub fn backward_training(&self, input: &[T], statistics: &Statistics<T>, grad_output: &[T]) -> Gradients<T> {
        let mut gradients = self.backward_inference(input, statistics, grad_output);
        let count = T::from_usize(self.count());
        for channel in 0..self.weight.len() {
            let (mean, inverse) = self.mean_and_inverse(statistics, channel);
            let (mean_dy, mean_dy_x) = (gradients.bias[channel] / count, gradients.weight[channel] / count);
            for i in self.planes(channel).flatten() {
                let normal = (input[i] - mean) * inverse;
                gradients.input[i] = self.weight[channel] * inverse * (grad_output[i] - mean_dy - normal * mean_dy_x);
            }
        }
        gradients
    }

    /// Gradients in inference, where `statistics` are constants.
    ///
    /// # Panics
    /// When lengths do not fit.
    pub fn backward_inference(&self, input: &[T], statistics: &Statistics<T>, grad_output: &[T]) -> Gradients<T> {
        self.expect_maps("input", input);
        self.expect_maps("gradient of the output", grad_output);
        let zeros = vec![T::ZERO; self.weight.len()];
        let mut gradients = Gradients { input: vec![T::ZERO; input.len()], weight: zeros.clone(), bias: zeros };
        for channel in 0..self.weight.len() {
            let (mean, inverse) = self.mean_and_inverse(statistics, channel);
            for i in self.planes(channel).flatten() {
                gradients.bias[channel] += grad_output[i];
                gradients.weight[channel] += grad_output[i] * ((input[i] - mean) * inverse);
                gradients.input[i] = self.weight[channel] * inverse * grad_output[i];
            }
        }
        gradients
    }

    /// Elements that one channel's statistics are made of.
    fn count(&self) -> usize {
        self.batch * self.pixels
    }

    /// Where a channel lies in the maps: one range per picture.
    fn planes(&self, channel: usize) -> impl Iterator<Item = Range<usize>> {
        let (channels, pixels) = (self.weight.len(), self.pixels);
        (0..self.batch).map(move |n| (n * channels + channel) * pixels).map(move |start| start..start + pixels)
    }

    /// A channel's mean and `1 / sqrt(var + eps)`.
    fn mean_and_inverse(&self, statistics: &Statistics<T>, channel: usize) -> (T, T) {
        (statistics.mean[channel], T::ONE / (statistics.var[channel] + self.eps).sqrt())
    }

    fn expect_maps(&self, what: &str, maps: &[T]) {
        expect_len("bias", self.bias, self.weight.len());
        expect_len(what, maps, self.count() * self.weight.len());
    }
}

#[cfg(test)]
mod tests {
    use super::super::gradcheck::{assert_gradient, dot, pattern};
    use super::*;

    const EPS: f64 = 1e-5;

    #[test]
    fn known_values() {
        let norm = BatchNorm { batch: 2, pixels: 2, weight: &[2.0, 1.0], bias: &[1.0, 0.0], eps: 0.0 };
        let input = [1.0, 3.0, 0.0, 0.0, 1.0, 3.0, 4.0, 4.0];
        let batch = norm.statistics(&input);
        assert_eq!(batch, Statistics { mean: vec![2.0, 2.0], var: vec![1.0, 4.0] });
        assert_eq!(norm.forward(&input, &batch), [-1.0, 3.0, -1.0, -1.0, -1.0, 3.0, 1.0, 1.0]);
        let mut running = Statistics { mean: vec![0.0; 2], var: vec![1.0; 2] };
        norm.update(&mut running, &batch, 0.5);
        assert_eq!(running, Statistics { mean: vec![1.0; 2], var: vec![0.5 + 2.0 / 3.0, 0.5 + 8.0 / 3.0] });
    }

    #[test]
    fn gradients() {
        for (batch, channels, pixels) in [(3, 2, 5), (1, 3, 6), (4, 1, 1)] {
            let count = batch * channels * pixels;
            let (x, dy) = (pattern(1, count), pattern(2, count));
            let (weight, bias) = (pattern(3, channels), pattern(4, channels));
            fn norm<'a>(sizes: [usize; 2], weight: &'a [f64], bias: &'a [f64]) -> BatchNorm<'a, f64> {
                BatchNorm { batch: sizes[0], pixels: sizes[1], weight, bias, eps: EPS }
            }
            let sizes = [batch, pixels];
            let training = |x: &[f64], weight: &[f64], bias: &[f64]| {
                let norm = norm(sizes, weight, bias);
                dot(&norm.forward(x, &norm.statistics(x)), &dy)
            };
            let statistics = norm(sizes, &weight, &bias).statistics(&x);
            let found = norm(sizes, &weight, &bias).backward_training(&x, &statistics, &dy);
            assert_gradient("x", &x, &found.input, |x| training(x, &weight, &bias));
            assert_gradient("weight", &weight, &found.weight, |weight| training(&x, weight, &bias));
            assert_gradient("bias", &bias, &found.bias, |bias| training(&x, &weight, bias));

            let running = Statistics { mean: pattern(5, channels), var: vec![0.7; channels] };
            let found = norm(sizes, &weight, &bias).backward_inference(&x, &running, &dy);
            let inference = |x: &[f64], weight: &[f64]| dot(&norm(sizes, weight, &bias).forward(x, &running), &dy);
            assert_gradient("x", &x, &found.input, |x| inference(x, &weight));
            assert_gradient("weight", &weight, &found.weight, |weight| inference(&x, weight));
        }
    }
}
