//! Softmax cross-entropy: `loss = mean over n of ln Σ_c exp(z[n, c] - max) - (z[n, label] - max)`, and its gradient
//! `(softmax(z) - onehot(label)) / batch` by the logits. With probabilities `t` in place of labels it is
//! `mean over n of Σ_c t[n, c] · (ln Σ_k exp(z[n, k] - max) - (z[n, c] - max))` and `(Σ_c t[n, c] · softmax(z) - t) / batch`.
//!
//! [`Loss`] adds label smoothing, weights of classes and the factor of the focal loss, with PyTorch's divisors
//! (`torch.nn.functional.cross_entropy(weight=…, label_smoothing=…)`). With `p = softmax(z)`, `a[c] = weight[c] · t[c]`
//! and γ the exponent, a picture costs `Σ_c a[c] · (1 - p[c])^γ · -ln p[c]`. With
//! `h[c] = a[c] · (γ · p[c] · (1 - p[c])^(γ - 1) · ln p[c] - (1 - p[c])^γ)` its gradient is `h[c] - p[c] · Σ_k h[k]`. These
//! two are computed in `f64`; without weights and γ nothing of this is.
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

/// What a wrong answer costs. The default is plain cross-entropy.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Loss {
    /// Share of each target that is spread evenly over all classes: `t ← (1 - smoothing) · t + smoothing / classes`
    /// (Szegedy et al. 2016, section 7).
    pub label_smoothing: f32,
    /// The factor of each class, from 0 on; empty for 1. Labels are averaged with the weights of their classes: the sum is
    /// divided by `Σ_n weight[label[n]]`, and both are 0 where that is. With probabilities it is divided by the number of pictures.
    pub class_weights: Vec<f32>,
    /// γ of the focal loss, from 0 on: the cost of a class with the probability `p` is multiplied by `(1 - p)^γ` (Lin et al.
    /// 2017, with softmax).
    pub focal_gamma: f32,
}

impl Loss {
    /// What the sum over a batch is divided by.
    fn divisor(&self, targets: Targets<'_>, batch: usize) -> f64 {
        match targets {
            Targets::Labels(labels) if !self.class_weights.is_empty() => {
                labels.iter().map(|&label| f64::from(self.class_weights[label as usize])).sum()
            }
            _ => batch as f64,
        }
    }

    /// A target after smoothing.
    fn smooth(&self, share: f32, classes: usize) -> f32 {
        let smoothing = self.label_smoothing;
        if smoothing > 0.0 { share * (1.0 - smoothing) + smoothing / classes as f32 } else { share }
    }

    /// One picture's loss; its gradient times `scale`.
    fn of_picture(&self, logits: &[f32], target: Target<'_>, scale: f64, gradient: &mut [f32]) -> f32 {
        let classes = logits.len();
        let share = |c: usize| self.smooth(target.share(c), classes);
        match target {
            _ if self.focal_gamma > 0.0 || !self.class_weights.is_empty() => {
                self.of_weighted(logits, share, scale, gradient)
            }
            Target::Label(label) if self.label_smoothing == 0.0 => of_label(logits, label, scale as f32, gradient),
            _ => of_probabilities(logits, share, scale as f32, gradient),
        }
    }

    /// The same with weights or γ.
    fn of_weighted(&self, logits: &[f32], share: impl Fn(usize) -> f32, scale: f64, gradient: &mut [f32]) -> f32 {
        let (gamma, max) = (f64::from(self.focal_gamma), f64::from(logits[first_largest(logits)]));
        let sum: f64 = logits.iter().map(|&z| (f64::from(z) - max).exp()).sum();
        let log = sum.ln();
        // 0, or NaN where a logit is.
        let (mut loss, mut total) = (0.0 * log, 0.0);
        let probability = |c: usize| (f64::from(logits[c]) - max).exp() / sum;
        for (c, g) in gradient[..logits.len()].iter_mut().enumerate() {
            let weight = self.class_weights.get(c).map_or(1.0, |&weight| f64::from(weight));
            let a = weight * f64::from(share(c));
            *g = 0.0;
            if a != 0.0 {
                let (p, ln) = (probability(c), f64::from(logits[c]) - max - log);
                let rest = (1.0 - p).max(0.0);
                let factor = if gamma == 0.0 { 1.0 } else { rest.powf(gamma) };
                // `(1 - p)^(γ - 1) · ln p` tends to 0 with `1 - p`, whatever γ.
                let slope = if gamma == 0.0 || rest == 0.0 { 0.0 } else { gamma * p * (factor / rest) * ln };
                let h = a * (slope - factor);
                loss -= a * factor * ln;
                total += h;
                *g = (scale * h) as f32;
            }
        }
        for (c, g) in gradient[..logits.len()].iter_mut().enumerate() {
            *g -= (scale * probability(c) * total) as f32;
        }
        gradient[logits.len()..].fill(0.0);
        loss as f32
    }
}

/// What one picture's logits are compared with.
#[derive(Clone, Copy)]
enum Target<'a> {
    Label(usize),
    Probabilities(&'a [f32]),
}

impl Target<'_> {
    fn share(self, class: usize) -> f32 {
        match self {
            Target::Label(label) => f32::from(u8::from(label == class)),
            Target::Probabilities(row) => row[class],
        }
    }
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
/// `losses` gets each picture's own loss, before it is divided. A NaN among the logits makes the loss NaN.
///
/// # Panics
/// When a slice is shorter than `[batch, classes]` says, a label is not below `classes`, or there is another number of weights.
pub fn cross_entropy(
    threads: &Threads,
    [batch, classes]: [usize; 2],
    logits: &[f32],
    targets: Targets<'_>,
    rule: &Loss,
    losses: &mut [f32],
    gradient: &mut [f32],
) -> (f64, usize) {
    let len = blocks(classes) * LANES;
    assert!(match targets {
        Targets::Labels(labels) => labels.len() == batch && labels.iter().all(|&label| (label as usize) < classes),
        Targets::Probabilities(all) => all.len() == batch * classes,
    });
    assert!(rule.class_weights.is_empty() || rule.class_weights.len() == classes);
    let divisor = rule.divisor(targets, batch);
    let scale = if divisor > 0.0 { 1.0 / divisor } else { 0.0 };
    let target = |n: usize| match targets {
        Targets::Labels(labels) => Target::Label(labels[n] as usize),
        Targets::Probabilities(all) => Target::Probabilities(&all[n * classes..][..classes]),
    };
    let (parts, gradients) = (Parts::new(&mut losses[..batch]), Parts::new(&mut gradient[..batch * len]));
    threads.run(batch.div_ceil(ROWS), &|task, _| {
        for n in task * ROWS..((task + 1) * ROWS).min(batch) {
            let row = &logits[n * len..][..classes];
            // SAFETY: each picture has a loss and a row of its own.
            let (loss, gradient) = unsafe { (parts.part(n..n + 1), gradients.part(n * len..(n + 1) * len)) };
            loss[0] = rule.of_picture(row, target(n), scale, gradient);
        }
    });
    let total: f64 = losses[..batch].iter().map(|&loss| f64::from(loss)).sum();
    let class = |n: usize| match target(n) {
        Target::Label(label) => label,
        Target::Probabilities(row) => first_largest(row),
    };
    let right = |&n: &usize| first_largest(&logits[n * len..][..classes]) == class(n);
    let mean = if divisor > 0.0 { total / divisor } else { 0.0 * total };
    (mean, (0..batch).filter(right).count())
}

/// One picture's loss; its gradient times `scale`.
fn of_label(logits: &[f32], label: usize, scale: f32, gradient: &mut [f32]) -> f32 {
    let [max, sum] = softmax(logits, scale, gradient);
    gradient[label] -= scale;
    sum.ln() - (logits[label] - max)
}

/// The same for a class that is known by probabilities.
fn of_probabilities(logits: &[f32], share: impl Fn(usize) -> f32, scale: f32, gradient: &mut [f32]) -> f32 {
    let total: f32 = (0..logits.len()).map(&share).sum();
    let [max, sum] = softmax(logits, scale * total, gradient);
    let (log, mut loss) = (sum.ln(), 0.0);
    for (c, (g, z)) in gradient.iter_mut().zip(logits).enumerate() {
        let t = share(c);
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
            let agrees = |targets: Targets<'_>, rule: &Loss, want: &reference::CrossEntropy<f64>| {
                let (mut losses, mut gradient) = (vec![0.0; batch], vec![f32::NAN; batch * len]);
                let shape = [batch, classes];
                let (loss, correct) =
                    cross_entropy(&threads, shape, &logits, targets, rule, &mut losses, &mut gradient);
                assert!((loss - want.loss).abs() < 1e-6 * want.loss.max(1.0));
                for (row, want) in gradient.chunks(len).zip(want.grad_logits.chunks(classes)) {
                    assert!(row.iter().zip(want).all(|(g, w)| (f64::from(*g) - w).abs() < 1e-7));
                    assert!(row[classes..].iter().all(|&x| x == 0.0));
                }
                correct
            };
            let correct = agrees(Targets::Labels(&short), &Loss::default(), &want);
            // Two classes of each picture, and a sum that is not 1.
            let mut soft = vec![0.0; batch * classes];
            for (row, &label) in soft.chunks_mut(classes).zip(&labels) {
                row[label] = 0.625;
                row[(label + 1) % classes] = 0.25;
            }
            let wide: Vec<f64> = soft.iter().map(|&t| f64::from(t)).collect();
            let want = reference::of_probabilities(&plain, &wide, classes);
            assert_eq!(agrees(Targets::Probabilities(&soft), &Loss::default(), &want), correct);
            for (label_smoothing, focal_gamma) in [(0.0, 0.0), (0.125, 0.0), (0.0, 2.0), (0.125, 0.5)] {
                let class_weights: Vec<f32> = (0..classes).map(|c| (c % 5) as f32 / 2.0).collect();
                let weights: Vec<f64> = class_weights.iter().map(|&w| w.into()).collect();
                let rule = Loss { label_smoothing, class_weights, focal_gamma };
                let smooth = |share: f64| {
                    share * (1.0 - f64::from(label_smoothing)) + f64::from(label_smoothing) / classes as f64
                };
                let hot = (0..batch * classes).map(|i| smooth(f64::from(u8::from(labels[i / classes] == i % classes))));
                let (hot, wide): (Vec<f64>, Vec<f64>) = (hot.collect(), wide.iter().map(|&t| smooth(t)).collect());
                let of = |divisor| reference::Weighting { weights: &weights, gamma: focal_gamma.into(), divisor };
                let divisor: f64 = labels.iter().map(|&label| weights[label]).sum();
                if divisor > 0.0 {
                    agrees(Targets::Labels(&short), &rule, &reference::of_weighted(&plain, &hot, classes, of(divisor)));
                }
                let want = reference::of_weighted(&plain, &wide, classes, of(batch as f64));
                agrees(Targets::Probabilities(&soft), &rule, &want);
            }
            let right = labels.iter().zip(plain.chunks(classes)).filter(|(label, row)| {
                (0..classes).all(|c| row[c] < row[**label] || (c >= **label && row[c] == row[**label]))
            });
            assert_eq!(correct, right.count());
        }
    }

    /// The loss of one batch with rows of 16, and its gradient.
    fn found(logits: &[f32], classes: usize, targets: Targets<'_>, rule: &Loss) -> (f64, Vec<f32>) {
        let (threads, batch) = (Threads::new(1).unwrap(), logits.len() / LANES);
        let mut gradient = vec![f32::NAN; logits.len()];
        let mut losses = vec![f32::NAN; batch];
        let (loss, _) = cross_entropy(&threads, [batch, classes], logits, targets, rule, &mut losses, &mut gradient);
        (loss, gradient)
    }

    #[test]
    fn a_nan_is_not_hidden() {
        let mut logits = [0.0; 16];
        logits[3] = f32::NAN;
        let weighted = Loss { class_weights: vec![0.0, 1.0, 1.0, 1.0, 1.0], ..Loss::default() };
        for rule in [Loss::default(), weighted, Loss { focal_gamma: 2.0, ..Loss::default() }] {
            assert!(found(&logits, 5, Targets::Labels(&[0]), &rule).0.is_nan(), "{rule:?}");
        }
    }

    /// The same bits as from targets that are smoothed before.
    #[test]
    fn labels_are_smoothed_as_probabilities_are() {
        let logits: Vec<f32> = pattern(1, 4 * LANES).iter().map(|&x| 9.0 * x as f32).collect();
        let (labels, smoothing) = ([1, 0, 6, 1], 0.1f32);
        let share = |hot: bool| f32::from(u8::from(hot)) * (1.0 - smoothing) + smoothing / 7.0;
        let shares: Vec<f32> = (0..28).map(|i| share(labels[i / 7] as usize == i % 7)).collect();
        let rule = Loss { label_smoothing: smoothing, ..Loss::default() };
        let hot: Vec<f32> = (0..28).map(|i| f32::from(u8::from(labels[i / 7] as usize == i % 7))).collect();
        let want = found(&logits, 7, Targets::Probabilities(&shares), &Loss::default());
        assert_eq!(found(&logits, 7, Targets::Labels(&labels), &rule), want);
        assert_eq!(found(&logits, 7, Targets::Probabilities(&hot), &rule), want);
    }

    #[test]
    fn classes_without_weight_cost_nothing_even_alone() {
        let rule = Loss { class_weights: vec![1.0, 0.0], ..Loss::default() };
        let (loss, gradient) = found(&[1.0; 16], 2, Targets::Labels(&[1]), &rule);
        assert_eq!((loss, gradient), (0.0, vec![0.0; 16]));
        // Beside others they do not even count.
        let (one, of_one) = found(&[1.0; 16], 2, Targets::Labels(&[0]), &rule);
        let (both, of_both) = found(&[1.0; 32], 2, Targets::Labels(&[0, 1]), &rule);
        assert_eq!((one, &of_one[..]), (both, &of_both[..16]));
        // A certain answer costs nothing, whatever γ.
        let sure = Loss { focal_gamma: 0.5, ..Loss::default() };
        let mut logits = [0.0; 16];
        logits[0] = 1e4;
        assert_eq!(found(&logits, 2, Targets::Labels(&[0]), &sure), (0.0, vec![0.0; 16]));
    }
}
