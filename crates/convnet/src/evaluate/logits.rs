//! What a net's outputs for a picture say. Softmax and its logarithm are computed in f64, with the largest logit taken off
//! first.

/// The first guess: of equal ones that with the smaller number.
pub(super) fn first(logits: &[f32]) -> usize {
    let larger = |best: usize, class: usize| if logits[class] > logits[best] { class } else { best };
    (0..logits.len()).reduce(larger).unwrap_or(0)
}

/// How many classes are guessed before this one: those with a larger logit, or an equal one and a smaller number. With
/// NaN among the logits nothing counts as recognised.
pub(super) fn rank(logits: &[f32], label: usize) -> usize {
    let own = logits[label];
    let after = |(class, &logit): (usize, &f32)| logit < own || (logit == own && class >= label);
    logits.iter().enumerate().filter(|&guess| !after(guess)).count()
}

/// Cross-entropy with the class that it is, and the probability of the first guess.
pub(super) fn loss_and_confidence(logits: &[f32], label: usize) -> (f64, f64) {
    let largest = largest(logits);
    let sum: f64 = logits.iter().map(|&logit| (f64::from(logit) - largest).exp()).sum();
    (sum.ln() - (f64::from(logits[label]) - largest), 1.0 / sum)
}

/// The probability of each class.
pub fn softmax(logits: &[f32]) -> Vec<f64> {
    let largest = largest(logits);
    let powers: Vec<f64> = logits.iter().map(|&logit| (f64::from(logit) - largest).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|power| power / sum).collect()
}

/// The classes, the most probable first; of equal ones that with the smaller number.
pub fn ranking(logits: &[f32]) -> Vec<usize> {
    let mut classes: Vec<usize> = (0..logits.len()).collect();
    classes.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
    classes
}

fn largest(logits: &[f32]) -> f64 {
    logits.iter().copied().fold(f32::NEG_INFINITY, f32::max).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_count_the_guesses_before() {
        let logits = [1.0, 3.0, 3.0, -2.0];
        assert_eq!([0, 1, 2, 3].map(|label| rank(&logits, label)), [2, 0, 1, 3]);
        assert_eq!(ranking(&logits), [1, 2, 0, 3]);
        assert_eq!([0, 1].map(|label| rank(&[f32::NAN, 1.0], label)), [2, 1]);
    }

    #[test]
    fn large_logits_do_not_overflow() {
        let logits = [1000.0, 1000.0];
        assert_eq!((softmax(&logits), loss_and_confidence(&logits, 1)), (vec![0.5, 0.5], (2.0_f64.ln(), 0.5)));
        let (loss, confidence) = loss_and_confidence(&[f32::NAN, 0.0], 1);
        assert!(loss.is_nan() && confidence.is_nan());
    }
}
