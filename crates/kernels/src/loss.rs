//! Softmax cross-entropy: `loss = mean over n of ln Σ_c exp(z[n, c] - max) - (z[n, label] - max)`, and its gradient
//! `(softmax(z) - onehot(label)) / batch` by the logits.
//!
//! Logits and gradient are rows padded to whole blocks of 16; the gradient's padding is 0. Exponentials are the standard
//! library's, one at a time: a classifier has few of them. Checked against `reference/cross_entropy.rs`.

use crate::layout::blocks;
use crate::simd::LANES;
use crate::threads::{Parts, Threads};

/// Rows that one task computes.
const ROWS: usize = 16;

/// Mean loss in nats and the number of pictures whose first largest logit is their label's. `losses` gets each picture's
/// own loss. A NaN among the logits makes the loss NaN.
///
/// # Panics
/// When a slice is shorter than `[batch, classes]` says, or a label is not below `classes`.
pub fn cross_entropy(
    threads: &Threads,
    [batch, classes]: [usize; 2],
    logits: &[f32],
    labels: &[u32],
    losses: &mut [f32],
    gradient: &mut [f32],
) -> (f64, usize) {
    let len = blocks(classes) * LANES;
    assert!(labels.len() == batch && labels.iter().all(|&label| (label as usize) < classes));
    let (parts, gradients) = (Parts::new(&mut losses[..batch]), Parts::new(&mut gradient[..batch * len]));
    threads.run(batch.div_ceil(ROWS), &|task, _| {
        for n in task * ROWS..((task + 1) * ROWS).min(batch) {
            let row = &logits[n * len..][..classes];
            // SAFETY: each picture has a loss and a row of its own.
            let (loss, gradient) = unsafe { (parts.part(n..n + 1), gradients.part(n * len..(n + 1) * len)) };
            loss[0] = one(row, labels[n] as usize, 1.0 / batch as f32, gradient);
        }
    });
    let total: f64 = losses[..batch].iter().map(|&loss| f64::from(loss)).sum();
    let right = |n: &usize| first_largest(&logits[n * len..][..classes]) == labels[*n] as usize;
    (total / batch as f64, (0..batch).filter(right).count())
}

/// One picture's loss; its gradient times `scale`.
fn one(logits: &[f32], label: usize, scale: f32, gradient: &mut [f32]) -> f32 {
    let max = logits[first_largest(logits)];
    let mut sum = 0.0;
    for (e, z) in gradient.iter_mut().zip(logits) {
        *e = (z - max).exp();
        sum += *e;
    }
    for e in &mut gradient[..logits.len()] {
        *e *= scale / sum;
    }
    gradient[label] -= scale;
    gradient[logits.len()..].fill(0.0);
    sum.ln() - (logits[label] - max)
}

/// Index of the first of the largest.
pub fn first_largest(row: &[f32]) -> usize {
    let mut best = 0;
    for (i, x) in row.iter().enumerate() {
        if *x > row[best] {
            best = i;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::cross_entropy as reference;
    use crate::reference::gradcheck::pattern;

    #[test]
    fn agrees_with_the_reference() {
        let threads = Threads::new(2).unwrap();
        for [batch, classes] in [[1, 2], [37, 10], [5, 1000]] {
            let len = blocks(classes) * LANES;
            let plain: Vec<f64> = pattern(1, batch * classes).iter().map(|x| x * 8.0).collect();
            let mut logits = vec![f32::NAN; batch * len];
            for (row, plain) in logits.chunks_mut(len).zip(plain.chunks(classes)) {
                row.iter_mut().zip(plain).for_each(|(to, from)| *to = *from as f32);
            }
            let labels: Vec<usize> = (0..batch).map(|n| n * 7 % classes).collect();
            let want = reference::forward_backward(&plain, &labels, classes);
            let short: Vec<u32> = labels.iter().map(|&l| l as u32).collect();
            let (mut losses, mut gradient) = (vec![0.0; batch], vec![f32::NAN; batch * len]);
            let (loss, correct) =
                cross_entropy(&threads, [batch, classes], &logits, &short, &mut losses, &mut gradient);
            assert!((loss - want.loss).abs() < 1e-6 * want.loss.max(1.0));
            for (row, want) in gradient.chunks(len).zip(want.grad_logits.chunks(classes)) {
                assert!(row.iter().zip(want).all(|(g, w)| (f64::from(*g) - w).abs() < 1e-7));
                assert!(row[classes..].iter().all(|&x| x == 0.0));
            }
            let right = labels.iter().zip(plain.chunks(classes)).filter(|(label, row)| {
                (0..classes).all(|c| row[c] < row[**label] || (c >= **label && row[c] == row[**label]))
            });
            assert_eq!(correct, right.count());
        }
    }

    #[test]
    fn a_nan_is_not_hidden() {
        let threads = Threads::new(1).unwrap();
        let mut logits = vec![0.0; 16];
        logits[3] = f32::NAN;
        let (loss, _) = cross_entropy(&threads, [1, 5], &logits, &[0], &mut [0.0], &mut [0.0; 16]);
        assert!(loss.is_nan());
    }
}
