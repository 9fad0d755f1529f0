//! Dropout of single elements (Srivastava et al. 2014) and of whole channels (Tompson et al. 2015) in training:
//! `y = x / (1 - p)` where the mask keeps, else 0.
//!
//! The mask is a function, [`crate::random::keep`] of a node's seed: element `n · features + i` in NCHW order, or
//! channel `n · channels + c`. Backward is the same function of the output's gradient.

use super::{Float, expect_len};

/// The output, or the gradient by the input: each element is kept and scaled if `keep(index)`, else 0.
///
/// # Panics
/// When `p` is not from 0 to below 1.
pub fn elements<T: Float>(values: &[T], p: f32, keep: impl Fn(u64) -> bool) -> Vec<T> {
    channels(values, 1, p, keep)
}

/// The output, or the gradient by the input, of maps `[batch, channels, pixels]`: each channel of a picture is kept
/// and scaled if `keep(n · channels + c)`, else 0.
///
/// # Panics
/// When `p` is not from 0 to below 1, or `values` is not made of whole channels.
pub fn channels<T: Float>(values: &[T], pixels: usize, p: f32, keep: impl Fn(u64) -> bool) -> Vec<T> {
    assert!((0.0..1.0).contains(&p), "expected a probability from 0 to below 1, got {p}");
    expect_len("maps", values, values.len() / pixels * pixels);
    let scale = T::from_f64(1.0 / (1.0 - f64::from(p)));
    let mut output = Vec::with_capacity(values.len());
    for (index, channel) in (0..).zip(values.chunks_exact(pixels)) {
        let factor = if keep(index) { scale } else { T::ZERO };
        output.extend(channel.iter().map(|&x| if factor == T::ZERO { T::ZERO } else { x * factor }));
    }
    output
}

#[cfg(test)]
mod tests {
    use super::super::gradcheck::{assert_gradient, dot, pattern};
    use super::*;
    use crate::random;

    #[test]
    fn keeps_scales_and_drops() {
        assert_eq!(elements(&[1.0f32, 2.0, 3.0, 4.0], 0.5, |i| i % 2 == 0), [2.0, 0.0, 6.0, 0.0]);
        assert_eq!(channels(&[1.0f32, 2.0, 3.0, 4.0], 2, 0.75, |i| i == 1), [0.0, 0.0, 12.0, 16.0]);
        // What is dropped is gone, whatever it was.
        assert_eq!(elements(&[f32::INFINITY, -1.0], 0.5, |_| false), [0.0, 0.0]);
    }

    #[test]
    fn gradients() {
        let (x, dy) = (pattern(1, 60), pattern(2, 60));
        let keep = |i| random::keep(5, i, 0.3);
        assert_gradient("elements", &x, &elements(&dy, 0.3, keep), |x| dot(&elements(x, 0.3, keep), &dy));
        assert_gradient("channels", &x, &channels(&dy, 6, 0.3, keep), |x| dot(&channels(x, 6, 0.3, keep), &dy));
    }
}
