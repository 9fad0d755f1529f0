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
    #[should_panic(expected = "labels below 3, got 3")]
    fn labels_out_of_range_are_refused() {
        forward_backward(&[0.0f32; 3], &[3], 3);
    }
}
