//! Softmax cross-entropy, the mean over the batch: with `z` the logits of a picture and `t` its label,
//! `loss = mean n: (ln Σ c: exp(z[c])) - z[t]` and `dloss/dz[c] = (softmax(z)[c] - [c = t]) / batch`; also with probabilities in
//! place of a label.
//!
//! The largest logit is subtracted first, so that no exponential overflows.

use super::{Float, expect_len};

/// A loss with its gradient.
#[derive(Clone, Debug, PartialEq)]
pub struct CrossEntropy<T> {
    /// The mean loss of a picture, in nats.
    pub loss: T,
    /// The gradient by the logits, `[batch, classes]`.
    pub grad_logits: Vec<T>,
}

/// The loss of `logits`, `[batch, classes]`, and its gradient. The number of labels is the batch.
///
/// # Panics
/// When there are no labels, a label is not below `classes`, or lengths do not fit.
pub fn forward_backward<T: Float>(logits: &[T], labels: &[usize], classes: usize) -> CrossEntropy<T> {
    let mut targets = vec![T::ZERO; labels.len() * classes];
    for (row, &label) in targets.chunks_exact_mut(classes).zip(labels) {
        assert!(label < classes, "expected labels below {classes}, got {label}");
        row[label] = T::ONE;
    }
    of_probabilities(logits, &targets, classes)
}

/// The same for probabilities of the classes, `[batch, classes]`: `loss = mean n: Σ c: t[c] · ((ln Σ k: exp(z[k])) - z[c])`.
///
/// # Panics
/// When there is no picture, or lengths do not fit.
pub fn of_probabilities<T: Float>(logits: &[T], targets: &[T], classes: usize) -> CrossEntropy<T> {
    assert!(!targets.is_empty(), "expected at least one picture");
    expect_len("logits", logits, targets.len());
    let batch = T::from_usize(targets.len() / classes);
    let mut loss = T::ZERO;
    let mut grad_logits = Vec::with_capacity(logits.len());
    for (z, targets) in logits.chunks_exact(classes).zip(targets.chunks_exact(classes)) {
        let largest = z.iter().copied().fold(z[0], T::max);
        let sum: T = z.iter().map(|&z| (z - largest).exp()).sum();
        let total: T = targets.iter().copied().sum();
        for (&z, &target) in z.iter().zip(targets) {
            loss += target * (sum.ln() - (z - largest));
            grad_logits.push((total * ((z - largest).exp() / sum) - target) / batch);
        }
    }
    CrossEntropy { loss: loss / batch, grad_logits }
}

/// What is multiplied to the cost of a class, and what the sum is divided by.
#[derive(Clone, Copy, Debug)]
pub struct Weighting<'a, T> {
    /// The weight of each class.
    pub weights: &'a [T],
    /// γ of the focal loss (Lin et al. 2017): a class with the probability `p` costs `(1 - p)^γ` times as much.
    pub gamma: f64,
    /// What the sum over the pictures is divided by: `Σ n: weights[label[n]]` for labels, the batch for probabilities
    /// (`torch.nn.functional.cross_entropy`).
    pub divisor: T,
}

/// The same with weights: `loss = Σ n, c: weights[c] · t[c] · (1 - p[c])^γ · -ln p[c] / divisor`, where `p = softmax(z)`.
///
/// # Panics
/// When there is no picture, or lengths do not fit.
pub fn of_weighted<T: Float>(
    logits: &[T],
    targets: &[T],
    classes: usize,
    weighting: Weighting<'_, T>,
) -> CrossEntropy<T> {
    assert!(!targets.is_empty(), "expected at least one picture");
    expect_len("logits", logits, targets.len());
    expect_len("weights", weighting.weights, classes);
    let (gamma, divisor) = (T::from_f64(weighting.gamma), weighting.divisor);
    let power = |base: T, exponent: T| if exponent == T::ZERO { T::ONE } else { (exponent * base.ln()).exp() };
    let mut loss = T::ZERO;
    let mut grad_logits = Vec::with_capacity(logits.len());
    for (z, targets) in logits.chunks_exact(classes).zip(targets.chunks_exact(classes)) {
        let largest = z.iter().copied().fold(z[0], T::max);
        let sum: T = z.iter().map(|&z| (z - largest).exp()).sum();
        let log = |c: usize| z[c] - largest - sum.ln();
        // The derivative of each class's cost by its own probability, times that.
        let mut slopes = Vec::with_capacity(classes);
        for (c, &target) in targets.iter().enumerate() {
            let (p, a) = (log(c).exp(), weighting.weights[c] * target);
            loss += a * power(T::ONE - p, gamma) * -log(c);
            let of_factor = gamma * p * power(T::ONE - p, gamma - T::ONE) * log(c);
            slopes.push(a * (of_factor - power(T::ONE - p, gamma)));
        }
        let total: T = slopes.iter().copied().sum();
        grad_logits.extend(slopes.iter().enumerate().map(|(c, &slope)| (slope - log(c).exp() * total) / divisor));
    }
    CrossEntropy { loss: loss / divisor, grad_logits }
}

#[cfg(test)]
mod tests {
    use super::super::gradcheck::{assert_gradient, pattern};
    use super::*;

    #[test]
    fn equal_logits_cost_the_logarithm_of_the_classes() {
        let found = forward_backward(&[5.0f64; 8], &[3, 0], 4);
        assert!((found.loss - 4f64.ln()).abs() < 1e-15);
        assert_eq!(found.grad_logits, [0.125, 0.125, 0.125, -0.375, -0.375, 0.125, 0.125, 0.125]);
    }

    #[test]
    fn huge_logits_stay_finite() {
        let found = forward_backward(&[1e4f32, -1e4, 0.0, -1e4, 1e4, 0.0], &[0, 0], 3);
        assert_eq!(found.loss, 1e4);
        assert_eq!(found.grad_logits, [0.0, 0.0, 0.0, -0.5, 0.5, 0.0]);
    }

    #[test]
    fn gradients() {
        for (labels, classes) in [(vec![1], 2), (vec![4, 0, 2, 2], 5), (vec![0, 0], 1)] {
            let z: Vec<f64> = pattern(1, labels.len() * classes).iter().map(|z| 3.0 * z).collect();
            let found = forward_backward(&z, &labels, classes);
            assert_gradient("z", &z, &found.grad_logits, |z| forward_backward(z, &labels, classes).loss);
        }
    }

    #[test]
    fn gradients_with_weights() {
        for (gamma, classes) in [(0.0, 4), (2.0, 4), (0.5, 3), (1.0, 2)] {
            let z: Vec<f64> = pattern(1, 5 * classes).iter().map(|z| 3.0 * z).collect();
            let targets: Vec<f64> = pattern(2, 5 * classes).iter().map(|t| (t + 1.0) / 2.0).collect();
            let weights: Vec<f64> = (0..classes).map(|c| 0.5 + c as f64).collect();
            let weighting = Weighting { weights: &weights, gamma, divisor: 3.5 };
            let found = of_weighted(&z, &targets, classes, weighting);
            assert_gradient("z", &z, &found.grad_logits, |z| of_weighted(z, &targets, classes, weighting).loss);
        }
        let (z, targets) = (pattern(1, 12), pattern(2, 12));
        let plain = of_probabilities(&z, &targets, 4);
        let found = of_weighted(&z, &targets, 4, Weighting { weights: &[1.0; 4], gamma: 0.0, divisor: 3.0 });
        assert!((found.loss - plain.loss).abs() < 1e-15);
        assert!(found.grad_logits.iter().zip(&plain.grad_logits).all(|(a, b)| (a - b).abs() < 1e-15));
    }

    #[test]
    #[should_panic(expected = "labels below 3, got 3")]
    fn labels_out_of_range_are_refused() {
        forward_backward(&[0.0f32; 3], &[3], 3);
    }
}
