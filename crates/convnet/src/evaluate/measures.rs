//! Figures that follow from how many pictures of each class were taken for which: precision, recall and F1 of each class,
//! their means, and the pairs that are confused most.

use std::collections::BTreeMap;

use serde::Serialize;

/// Classes up to which there is a confusion matrix.
const MOST_CLASSES: usize = 100;
/// Pairs of classes that are listed.
const PAIRS: usize = 20;

/// How well one class is told from the others.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ClassMeasures {
    /// What it is called.
    pub label: String,
    /// Number of its pictures.
    pub images: u64,
    /// Number of pictures that were taken for it.
    pub predicted: u64,
    /// Number of its pictures that were taken for it.
    pub correct: u64,
    /// Share of the pictures taken for it that are of it; 0 where none was.
    pub precision: f64,
    /// Share of its pictures that were taken for it; 0 where it has none.
    pub recall: f64,
    /// The harmonic mean of the two.
    pub f1: f64,
}

/// Means over classes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct MeanMeasures {
    /// Mean precision.
    pub precision: f64,
    /// Mean recall.
    pub recall: f64,
    /// Mean F1.
    pub f1: f64,
}

/// Pictures of one class that were taken for another.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ConfusedPair {
    /// What they are.
    pub label: String,
    /// What they were taken for.
    pub predicted: String,
    /// How many.
    pub images: u64,
    /// Share of the class's pictures.
    pub share: f64,
}

/// How many pictures of the first class were taken for the second. Memory is that of the pairs that occur, at most one
/// a picture.
#[derive(Default)]
pub(super) struct Confusion(BTreeMap<(usize, usize), u64>);

impl Confusion {
    pub(super) fn add(&mut self, label: usize, predicted: usize) {
        *self.0.entry((label, predicted)).or_default() += 1;
    }

    /// Each class that has pictures, or that pictures were taken for.
    pub(super) fn classes(&self, names: &[String]) -> Vec<ClassMeasures> {
        let mut measures: Vec<ClassMeasures> =
            names.iter().map(|label| ClassMeasures { label: label.clone(), ..ClassMeasures::default() }).collect();
        for (&(label, predicted), &count) in &self.0 {
            measures[label].images += count;
            measures[predicted].predicted += count;
            measures[label].correct += if label == predicted { count } else { 0 };
        }
        measures.retain(|class| class.images + class.predicted > 0);
        for class in &mut measures {
            class.precision = share(class.correct, class.predicted);
            class.recall = share(class.correct, class.images);
            class.f1 = share(2 * class.correct, class.images + class.predicted);
        }
        measures
    }

    /// The pairs of different classes with the most pictures, the largest number first; of equal ones that with the smaller
    /// class.
    pub(super) fn pairs(&self, names: &[String]) -> Vec<ConfusedPair> {
        let mut wrong: Vec<_> = self.0.iter().filter(|((label, predicted), _)| label != predicted).collect();
        wrong.sort_by_key(|&(pair, &count)| (std::cmp::Reverse(count), pair));
        wrong.truncate(PAIRS);
        let of_class = |class: usize| self.0.range((class, 0)..=(class, usize::MAX)).map(|(_, count)| count).sum();
        let pair = |(&(label, predicted), &images): (&(usize, usize), &u64)| ConfusedPair {
            label: names[label].clone(),
            predicted: names[predicted].clone(),
            images,
            share: share(images, of_class(label)),
        };
        wrong.into_iter().map(pair).collect()
    }

    /// For each class, a row: how many of its pictures were taken for which class. Of up to 100 classes.
    pub(super) fn table(&self, classes: usize) -> Option<Vec<Vec<u64>>> {
        let count = |is: usize, seen: usize| self.0.get(&(is, seen)).copied().unwrap_or(0);
        let table = || (0..classes).map(|is| (0..classes).map(|seen| count(is, seen)).collect()).collect();
        (classes <= MOST_CLASSES).then(table)
    }
}

impl MeanMeasures {
    /// Every class counts the same.
    pub(super) fn of_classes(classes: &[ClassMeasures]) -> MeanMeasures {
        MeanMeasures::weighted(classes, |_| 1)
    }

    /// Every class counts by the number of its pictures.
    pub(super) fn of_pictures(classes: &[ClassMeasures]) -> MeanMeasures {
        MeanMeasures::weighted(classes, |class| class.images)
    }

    fn weighted(classes: &[ClassMeasures], weight: impl Fn(&ClassMeasures) -> u64) -> MeanMeasures {
        let whole = classes.iter().map(&weight).sum::<u64>().max(1) as f64;
        let mean = |value: fn(&ClassMeasures) -> f64| {
            classes.iter().map(|class| weight(class) as f64 * value(class)).sum::<f64>() / whole
        };
        MeanMeasures { precision: mean(|c| c.precision), recall: mean(|c| c.recall), f1: mean(|c| c.f1) }
    }
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}
