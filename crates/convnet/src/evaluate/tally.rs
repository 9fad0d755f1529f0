//! Sums over the pictures that a net has been shown, in memory that does not grow with their number.

use std::time::Instant;

use super::calibration::Bins;
use super::measures::{Confusion, MeanMeasures};
use super::{Evaluation, NEAR, logits, wilson_interval};

pub(super) struct Tally {
    classes: usize,
    pub(super) images: usize,
    top1: usize,
    top5: usize,
    loss: f64,
    confusion: Confusion,
    bins: Bins,
    start: Instant,
}

/// What a tally takes of a picture.
#[derive(Clone, Copy)]
pub(super) struct Answer {
    label: usize,
    /// Classes that are guessed before the label.
    rank: usize,
    /// The first guess.
    first: usize,
    loss: f64,
    confidence: f64,
}

impl Answer {
    pub(super) fn of(logits: &[f32], label: usize) -> Answer {
        let (loss, confidence) = logits::loss_and_confidence(logits, label);
        Answer { label, rank: logits::rank(logits, label), first: logits::first(logits), loss, confidence }
    }

    /// Its numbers, to be sent: floats by their bits, since not all of them may be finite.
    pub(super) fn to_numbers(self) -> [u64; 5] {
        let Answer { label, rank, first, loss, confidence } = self;
        [label as u64, rank as u64, first as u64, loss.to_bits(), confidence.to_bits()]
    }

    /// The reverse.
    pub(super) fn of_numbers([label, rank, first, loss, confidence]: [u64; 5]) -> Answer {
        let [label, rank, first] = [label, rank, first].map(|number| number as usize);
        Answer { label, rank, first, loss: f64::from_bits(loss), confidence: f64::from_bits(confidence) }
    }
}

impl Tally {
    pub(super) fn new(classes: usize) -> Tally {
        Tally {
            classes,
            images: 0,
            top1: 0,
            top5: 0,
            loss: 0.0,
            confusion: Confusion::default(),
            bins: Bins::default(),
            start: Instant::now(),
        }
    }

    pub(super) fn add(&mut self, logits: &[f32], label: usize) {
        self.take(Answer::of(logits, label));
    }

    pub(super) fn take(&mut self, Answer { label, rank, first, loss, confidence }: Answer) {
        self.images += 1;
        self.top1 += usize::from(rank < 1);
        self.top5 += usize::from(rank < NEAR);
        self.loss += loss;
        self.confusion.add(label, first);
        self.bins.add(confidence, rank < 1);
    }

    pub(super) fn evaluation(&self, names: &[String]) -> Evaluation {
        let mean = |sum: f64| sum / self.images as f64;
        let interval = |part: usize| wilson_interval(part as u64, self.images as u64);
        let has_near = self.classes > NEAR;
        let classes = self.confusion.classes(names);
        Evaluation {
            images: self.images,
            top1: mean(self.top1 as f64),
            top1_interval: interval(self.top1),
            top5: has_near.then(|| mean(self.top5 as f64)),
            top5_interval: has_near.then(|| interval(self.top5)),
            loss: mean(self.loss),
            seconds: self.start.elapsed().as_secs_f64(),
            macro_mean: MeanMeasures::of_classes(&classes),
            weighted_mean: MeanMeasures::of_pictures(&classes),
            classes,
            confused: self.confusion.pairs(names),
            calibration: self.bins.calibration(),
            confusion: self.confusion.table(self.classes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tally of pictures of these classes that were taken for those.
    fn tally(classes: usize, pictures: &[(usize, usize)]) -> Tally {
        let mut tally = Tally::new(classes);
        for &(label, seen) in pictures {
            let mut logits = vec![0.0; classes];
            logits[seen] = 1.0;
            tally.add(&logits, label);
        }
        tally
    }

    fn close(found: &[f64], expected: &[f64]) -> bool {
        found.len() == expected.len() && found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12)
    }

    /// scikit-learn 1.7: classification_report([0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 1, 0]).
    #[test]
    fn classes_are_measured() {
        let names = ["a", "b", "c"].map(str::to_owned);
        let found = tally(3, &[(0, 0), (0, 0), (0, 1), (1, 1), (1, 1), (2, 0)]).evaluation(&names);
        assert_eq!((found.images, found.top5, found.top5_interval), (6, None, None));
        assert!(close(&[found.top1], &[4.0 / 6.0]));
        assert_eq!(found.top1_interval, wilson_interval(4, 6));
        let expected = [
            ([2.0 / 3.0, 2.0 / 3.0, 2.0 / 3.0], [3, 3, 2]),
            ([2.0 / 3.0, 1.0, 0.8], [2, 3, 2]),
            ([0.0, 0.0, 0.0], [1, 0, 0]),
        ];
        for (class, (shares, counts)) in found.classes.iter().zip(expected) {
            assert!(close(&[class.precision, class.recall, class.f1], &shares), "{class:?}");
            assert_eq!([class.images, class.predicted, class.correct], counts);
        }
        let of = |mean: MeanMeasures| [mean.precision, mean.recall, mean.f1];
        assert!(close(&of(found.macro_mean), &[4.0 / 9.0, 5.0 / 9.0, (2.0 / 3.0 + 0.8) / 3.0]), "{found:?}");
        assert!(close(&of(found.weighted_mean), &[5.0 / 9.0, 4.0 / 6.0, 0.6]), "{found:?}");
        assert_eq!(found.confusion, Some(vec![vec![2, 1, 0], vec![0, 2, 0], vec![1, 0, 0]]));
        let pairs: Vec<_> =
            found.confused.iter().map(|p| (p.label.as_str(), p.predicted.as_str(), p.images, p.share)).collect();
        assert_eq!(pairs, [("a", "b", 1, 1.0 / 3.0), ("c", "a", 1, 1.0)]);
    }

    #[test]
    fn of_many_classes_those_that_occur_are_measured() {
        let names: Vec<String> = (0..101).map(|class| class.to_string()).collect();
        let mut pictures = vec![(100, 7); 3];
        pictures.extend((0..30).map(|class| (class, class + 1)));
        let found = tally(101, &pictures).evaluation(&names);
        assert_eq!((found.confusion, found.confused.len(), found.classes.len()), (None, 20, 32));
        assert_eq!(
            (&found.confused[0].label, &found.confused[0].predicted, found.confused[0].images),
            (&names[100], &names[7], 3)
        );
        assert_eq!((found.confused[1].label.as_str(), found.top1, found.top5), ("0", 0.0, Some(4.0 / 33.0)));
    }

    /// The numbers of tests/golden/evaluation.py.
    #[test]
    fn figures_are_those_of_scikit_learn() {
        let names: Vec<String> = (0..6).map(|class| class.to_string()).collect();
        let mut tally = Tally::new(6);
        for i in 0..500 {
            let label = (i * 5 + i / 7) % 6;
            let logit = |c: usize| ((i * 37 + c * 101 + i * c * 13) % 64) as f32 / 16.0;
            let logits: Vec<f32> = (0..6).map(|c| logit(c) + if c == label { 1.25 } else { 0.0 }).collect();
            tally.add(&logits, label);
        }
        let found = tally.evaluation(&names);
        let near = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-8, "{found} {expected}");
        near(found.top1, 0.514);
        near(found.loss, 1.3163261498545842);
        let per_class = [
            [0.53731343, 0.5034965, 0.5198556],
            [0.62903226, 0.54929577, 0.58646617],
            [0.49382716, 0.56338028, 0.52631579],
            [0.51388889, 0.52112676, 0.51748252],
            [0.49295775, 0.48611111, 0.48951049],
            [0.425, 0.47222222, 0.44736842],
        ];
        for (class, expected) in found.classes.iter().zip(per_class) {
            let shares = [class.precision, class.recall, class.f1];
            shares.into_iter().zip(expected).for_each(|(found, expected)| near(found, expected));
        }
        for (mean, expected) in [
            (found.macro_mean, [0.5153365811269878, 0.5159387756218743, 0.5144998297667878]),
            (found.weighted_mean, [0.5182758169415096, 0.514, 0.5150868185586026]),
        ] {
            let shares = [mean.precision, mean.recall, mean.f1];
            shares.into_iter().zip(expected).for_each(|(found, expected)| near(found, expected));
        }
        near(found.calibration.expected_error, 0.13420915748694448);
        near(found.calibration.confidence, 0.4734821606539296);
    }
}
