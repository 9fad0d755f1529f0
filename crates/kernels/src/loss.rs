//! Softmax cross-entropy: `loss = mean over n of ln Σ_c exp(z[n, c] - max) - (z[n, label] - max)`, and its gradient
//! `(softmax(z) - onehot(label)) / batch` by the logits. With probabilities `t` in place of labels it is
//! `mean over n of Σ_c t[n, c] · (ln Σ_k exp(z[n, k] - max) - (z[n, c] - max))` and `(Σ_c t[n, c] · softmax(z) - t) / batch`.
//!
//! Logits and gradient are rows padded to whole blocks of 16; the gradient's padding is 0. Exponentials are the standard
//! library's, one at a time: a classifier has few of them. Checked against `reference/cross_entropy.rs`.

use crate::layout::blocks;
use crate::simd::LANES;
use crate::threads::{Parts, Threads};

/// Rows that one task computes.
const ROWS: usize = 16;

/// What a batch's logits are compared with. Slices, vectors and arrays of either kind convert.
#[derive(Clone, Copy, Debug)]
pub enum Targets<'a> {
    /// The class of each picture.
    Labels(&'a [u32]),
    /// The probability of each class for each picture, `[batch, classes]`, row-major: for label smoothing, mixup and
    /// distillation.
    Probabilities(&'a [f32]),
}

macro_rules! targets_from {
    ($($number:ty => $kind:ident),*) => {$(
        impl<'a> From<&'a [$number]> for Targets<'a> {
            fn from(values: &'a [$number]) -> Targets<'a> {
                Targets::$kind(values)
            }
        }

        impl<'a> From<&'a Vec<$number>> for Targets<'a> {
            fn from(values: &'a Vec<$number>) -> Targets<'a> {
                Targets::$kind(values)
            }
        }

        impl<'a, const N: usize> From<&'a [$number; N]> for Targets<'a> {
            fn from(values: &'a [$number; N]) -> Targets<'a> {
                Targets::$kind(values)
            }
        }
    )*};
}

targets_from!(u32 => Labels, f32 => Probabilities);

/// Mean loss in nats and the number of pictures whose first largest logit is their label's, or that of their likeliest class.
/// `losses` gets each picture's own loss. A NaN among the logits makes the loss NaN.
///
/// # Panics
/// When a slice is shorter than `[batch, classes]` says, or a label is not below `classes`.
pub fn cross_entropy(
    threads: &Threads,
    [batch, classes]: [usize; 2],
    logits: &[f32],
    targets: Targets<'_>,
    losses: &mut [f32],
    gradient: &mut [f32],
) -> (f64, usize) {
    let len = blocks(classes) * LANES;
    assert!(match targets {
        Targets::Labels(labels) => labels.len() == batch && labels.iter().all(|&label| (label as usize) < classes),
        Targets::Probabilities(all) => all.len() == batch * classes,
    });
    let (parts, gradients) = (Parts::new(&mut losses[..batch]), Parts::new(&mut gradient[..batch * len]));
    threads.run(batch.div_ceil(ROWS), &|task, _| {
        for n in task * ROWS..((task + 1) * ROWS).min(batch) {
            let row = &logits[n * len..][..classes];
            // SAFETY: each picture has a loss and a row of its own.
            let (loss, gradient) = unsafe { (parts.part(n..n + 1), gradients.part(n * len..(n + 1) * len)) };
            let scale = 1.0 / batch as f32;
            loss[0] = match targets {
                Targets::Labels(labels) => of_label(row, labels[n] as usize, scale, gradient),
                Targets::Probabilities(all) => of_probabilities(row, &all[n * classes..][..classes], scale, gradient),
            };
        }
    });
    let total: f64 = losses[..batch].iter().map(|&loss| f64::from(loss)).sum();
    let class = |n: usize| match targets {
        Targets::Labels(labels) => labels[n] as usize,
        Targets::Probabilities(all) => first_largest(&all[n * classes..][..classes]),
    };
    let right = |&n: &usize| first_largest(&logits[n * len..][..classes]) == class(n);
    (total / batch as f64, (0..batch).filter(right).count())
}

/// One picture's loss; its gradient times `scale`.
fn of_label(logits: &[f32], label: usize, scale: f32, gradient: &mut [f32]) -> f32 {
    let [max, sum] = softmax(logits, scale, gradient);
    gradient[label] -= scale;
    sum.ln() - (logits[label] - max)
}

/// The same for a class that is known by probabilities.
fn of_probabilities(logits: &[f32], targets: &[f32], scale: f32, gradient: &mut [f32]) -> f32 {
    let total: f32 = targets.iter().sum();
    let [max, sum] = softmax(logits, scale * total, gradient);
    let (log, mut loss) = (sum.ln(), 0.0);
    for ((g, z), t) in gradient.iter_mut().zip(logits).zip(targets) {
        *g -= scale * t;
        loss += f64::from(t * (log - (z - max)));
    }
    loss as f32
}

/// Softmax times `scale`, in rows whose padding becomes 0; the largest logit and the sum of the exponentials.
fn softmax(logits: &[f32], scale: f32, row: &mut [f32]) -> [f32; 2] {
    let max = logits[first_largest(logits)];
    let mut sum = 0.0;
    for (e, z) in row.iter_mut().zip(logits) {
        *e = (z - max).exp();
        sum += *e;
    }
    for e in &mut row[..logits.len()] {
        *e *= scale / sum;
    }
    row[logits.len()..].fill(0.0);
    [max, sum]
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
            let agrees = |targets: Targets<'_>, want: &reference::CrossEntropy<f64>| {
                let (mut losses, mut gradient) = (vec![0.0; batch], vec![f32::NAN; batch * len]);
                let shape = [batch, classes];
                let (loss, correct) = cross_entropy(&threads, shape, &logits, targets, &mut losses, &mut gradient);
                assert!((loss - want.loss).abs() < 1e-6 * want.loss.max(1.0));
                for (row, want) in gradient.chunks(len).zip(want.grad_logits.chunks(classes)) {
                    assert!(row.iter().zip(want).all(|(g, w)| (f64::from(*g) - w).abs() < 1e-7));
                    assert!(row[classes..].iter().all(|&x| x == 0.0));
                }
                correct
            };
            let correct = agrees(Targets::Labels(&short), &want);
            // Two classes of each picture, and a sum that is not 1.
            let mut soft = vec![0.0; batch * classes];
            for (row, &label) in soft.chunks_mut(classes).zip(&labels) {
                row[label] = 0.625;
                row[(label + 1) % classes] = 0.25;
            }
            let wide: Vec<f64> = soft.iter().map(|&t| f64::from(t)).collect();
            let of_soft = agrees(Targets::Probabilities(&soft), &reference::of_probabilities(&plain, &wide, classes));
            assert_eq!(of_soft, correct);
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
        let (loss, _) = cross_entropy(&threads, [1, 5], &logits, Targets::Labels(&[0]), &mut [0.0], &mut [0.0; 16]);
        assert!(loss.is_nan());
    }
}
