//! Whether a net is as sure as it is right: pictures sorted into bins by the probability of their first guess, and how far
//! that probability is from the share of right guesses in each bin (Guo, Pleiss, Sun and Weinberger, "On Calibration of
//! Modern Neural Networks", 2017, section 2).

use serde::Serialize;

/// Bins, as in the paper.
const BINS: usize = 15;

/// How well probabilities agree with the share of right guesses.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Calibration {
    /// Expected calibration error (ECE): the mean over pictures of the distance between accuracy and confidence of their bin.
    pub expected_error: f64,
    /// Mean probability of the first guess. Above the accuracy, the net is too sure.
    pub confidence: f64,
    /// 15 bins of equal width, from 0 to 1.
    pub bins: Vec<CalibrationBin>,
}

/// The pictures whose first guess has a probability above `from`, and up to `to`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct CalibrationBin {
    /// Where it begins.
    pub from: f64,
    /// Where it ends.
    pub to: f64,
    /// Number of its pictures.
    pub images: u64,
    /// Mean probability of their first guesses; 0 where it has no pictures.
    pub confidence: f64,
    /// Share of them whose first guess is right; 0 where it has no pictures.
    pub accuracy: f64,
}

/// Sums over the pictures seen so far, for each bin.
#[derive(Default)]
pub(super) struct Bins([Bin; BINS]);

#[derive(Clone, Copy, Default)]
struct Bin {
    images: u64,
    right: u64,
    confidence: f64,
}

/// Where a bin ends.
fn end(bin: usize) -> f64 {
    (bin + 1) as f64 / BINS as f64
}

impl Bins {
    /// Adds a picture whose first guess has this probability. NaN belongs nowhere.
    pub(super) fn add(&mut self, confidence: f64, is_right: bool) {
        if let Some(bin) = (0..BINS).find(|&bin| confidence <= end(bin)).map(|bin| &mut self.0[bin]) {
            bin.images += 1;
            bin.right += u64::from(is_right);
            bin.confidence += confidence;
        }
    }

    pub(super) fn calibration(&self) -> Calibration {
        let images = self.0.iter().map(|bin| bin.images).sum::<u64>().max(1) as f64;
        let apart = |bin: &Bin| (bin.right as f64 - bin.confidence).abs();
        let described = |(index, bin): (usize, &Bin)| {
            let count = bin.images.max(1) as f64;
            CalibrationBin {
                from: index as f64 / BINS as f64,
                to: end(index),
                images: bin.images,
                confidence: bin.confidence / count,
                accuracy: bin.right as f64 / count,
            }
        };
        Calibration {
            expected_error: self.0.iter().map(apart).sum::<f64>() / images,
            confidence: self.0.iter().map(|bin| bin.confidence).sum::<f64>() / images,
            bins: self.0.iter().enumerate().map(described).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By hand: bins (6/15, 7/15], (8/15, 9/15], (14/15, 1] with accuracies 0, 1 and 2/3.
    #[test]
    fn the_error_is_the_mean_distance_of_the_bins() {
        let mut bins = Bins::default();
        for (confidence, is_right) in [(0.45, false), (0.55, true), (0.95, true), (0.97, false), (1.0, true)] {
            bins.add(confidence, is_right);
        }
        let found = bins.calibration();
        let expected = (0.45 + 0.45 + (2.92 - 2.0)) / 5.0;
        assert!((found.expected_error - expected).abs() < 1e-12, "{}", found.expected_error);
        assert!((found.confidence - 3.92 / 5.0).abs() < 1e-12);
        let counts: Vec<(usize, u64)> =
            found.bins.iter().enumerate().filter(|(_, b)| b.images > 0).map(|(i, b)| (i, b.images)).collect();
        assert_eq!(counts, [(6, 1), (8, 1), (14, 3)]);
        let last = found.bins[14];
        assert!((last.accuracy - 2.0 / 3.0).abs() < 1e-12 && (last.confidence - 2.92 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn a_bin_holds_its_end() {
        let mut bins = Bins::default();
        for confidence in [1.0 / 15.0, 2.0 / 15.0, 7.0 / 15.0, 0.0, f64::NAN] {
            bins.add(confidence, true);
        }
        let counts = bins.calibration().bins.iter().map(|bin| bin.images).collect::<Vec<_>>();
        assert_eq!((counts[0], counts[1], counts[6], counts.iter().sum::<u64>()), (2, 1, 1, 4));
        assert_eq!(Bins::default().calibration().expected_error, 0.0);
    }
}
