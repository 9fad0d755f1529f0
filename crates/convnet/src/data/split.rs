//! Holding out a part of the training pictures: the same share of each class, chosen by the seed alone.

use super::{Dataset, Splits};
use crate::random::Random;

/// Share of each class that is held out where nothing is said, and the data have a training part alone.
const CUSTOMARY: f64 = 0.2;

/// Which of the training pictures are held out for validation, where the data have no validation part.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ValSplit {
    /// Share of each class, from 0 to below 1. `None` is 0.2, or 0 where the data have a test part.
    pub share: Option<f64>,
    /// Decides which pictures.
    pub seed: u64,
}

impl ValSplit {
    /// Which of the pictures with these labels are held out: of each class its share, rounded, but at least one picture and
    /// not all of them.
    ///
    /// ```
    /// use convnet::data::ValSplit;
    /// let held_out = ValSplit { share: Some(0.25), seed: 1 }.mask(&[0, 0, 0, 0, 1, 1, 2], false);
    /// let of_class = |range: std::ops::Range<usize>| held_out[range].iter().filter(|&&is| is).count();
    /// assert_eq!((of_class(0..4), of_class(4..6), of_class(6..7)), (1, 1, 0));
    /// ```
    pub fn mask(&self, labels: &[u32], has_test: bool) -> Vec<bool> {
        if !self.takes_some(has_test) {
            return vec![false; labels.len()];
        }
        let share = self.share_of(has_test);
        let count = |members: usize| part_of(share, members).min(members.saturating_sub(1));
        drawn(labels, count, self.seed, *b"valsplit")
    }
}

/// A share of so many pictures, rounded, but at least one.
fn part_of(share: f64, members: usize) -> usize {
    (share * members as f64).round().max(1.0) as usize
}

/// A mask of so many pictures of each class, which a stream of random numbers chooses.
fn drawn(labels: &[u32], count: impl Fn(usize) -> usize, seed: u64, purpose: [u8; 8]) -> Vec<bool> {
    let mut mask = vec![false; labels.len()];
    let classes = labels.iter().max().map_or(0, |&largest| largest as usize + 1);
    let mut members = vec![Vec::new(); classes];
    labels.iter().enumerate().for_each(|(index, &label)| members[label as usize].push(index));
    for (class, mut members) in members.into_iter().enumerate() {
        Random::stream(seed, purpose, class as u64).shuffle(&mut members);
        members.iter().take(count(members.len())).for_each(|&index| mask[index] = true);
    }
    mask
}

impl ValSplit {
    /// The share that is held out of data with a test part or without one.
    pub(crate) fn share_of(&self, has_test: bool) -> f64 {
        self.share.unwrap_or(if has_test { 0.0 } else { CUSTOMARY })
    }

    /// Whether anything is held out of data with a test part or without one.
    pub(super) fn takes_some(&self, has_test: bool) -> bool {
        self.share_of(has_test) > 0.0
    }
}

impl From<Dataset> for Splits {
    /// Training pictures alone.
    fn from(train: Dataset) -> Splits {
        Splits { train, val: None, test: None }
    }
}

impl Splits {
    /// Holds out a part of the training pictures for validation, where there is no such part yet.
    #[must_use]
    pub fn hold_out(self, split: ValSplit) -> Splits {
        if self.val.is_some() {
            return self;
        }
        let mask = split.mask(self.train.labels(), self.test.is_some());
        if !mask.contains(&true) {
            return self;
        }
        let (train, val) = self.train.parted(&mask);
        Splits { train, val: Some(val), test: self.test }
    }

    /// The same with about so many training pictures, or all where there are no more: of each class the same share, rounded, but at
    /// least one picture. The seed chooses them. Other parts stay as they are.
    #[must_use]
    pub fn limited(self, wanted: usize, seed: u64) -> Splits {
        let all = self.train.len();
        if wanted >= all {
            return self;
        }
        let share = wanted as f64 / all as f64;
        let mask = drawn(self.train.labels(), |members| part_of(share, members), seed, *b"limitset");
        let left_out: Vec<bool> = mask.into_iter().map(|kept| !kept).collect();
        let (train, _) = self.train.parted(&left_out);
        Splits { train, ..self }
    }

    /// What a net is measured on while it is trained: the validation part, which chooses the best weights, else the test
    /// part, which chooses nothing.
    pub fn watched(&self) -> Option<&Dataset> {
        self.val.as_ref().or(self.test.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data() -> Dataset {
        let classes = ["a", "b"].map(str::to_owned).to_vec();
        let labels = (0..30).map(|index| u32::from(index % 3 == 0)).collect();
        Dataset::new("t", [1, 1, 2], (0..60).collect(), labels, classes).unwrap()
    }

    #[test]
    fn each_class_gives_its_share_and_no_picture_is_in_both() {
        let splits = |seed| Splits::from(data()).hold_out(ValSplit { share: None, seed });
        let Splits { train, val, .. } = splits(1);
        let val = val.unwrap();
        assert_eq!((train.class_counts(), val.class_counts()), (vec![16, 8], vec![4, 2]));
        let first = |data: &Dataset| (0..data.len()).map(|i| data.image(i).unwrap()[0]).collect::<Vec<u8>>();
        let mut all = [first(&train), first(&val)].concat();
        assert!(first(&train).is_sorted() && first(&val).is_sorted());
        all.sort_unstable();
        assert_eq!(all, first(&data()));
        for (data, firsts) in [(&train, first(&train)), (&val, first(&val))] {
            assert!(firsts.iter().zip(data.labels()).all(|(&pixel, &label)| (pixel / 2 % 3 == 0) == (label == 1)));
        }
        assert_eq!(splits(1).val.unwrap(), val);
        assert_ne!(splits(2).val.unwrap(), val);
    }

    #[test]
    fn a_limit_takes_the_same_share_of_each_class_and_leaves_the_other_parts_alone() {
        let limited = |most, seed| {
            let all = Splits { train: data(), val: Some(data()), test: None };
            all.limited(most, seed)
        };
        let Splits { train, val, .. } = limited(12, 1);
        assert_eq!((train.class_counts(), val), (vec![8, 4], Some(data())));
        assert_eq!(limited(12, 1).train, train);
        assert_ne!(limited(12, 2).train, train);
        assert_eq!(limited(1, 0).train.class_counts(), [1, 1]);
        assert_eq!(limited(30, 0).train, data());
    }

    #[test]
    fn parts_that_are_there_stay() {
        let with = |val: Option<Dataset>, test, share| {
            Splits { train: data(), val, test }.hold_out(ValSplit { share, seed: 0 }).train.len()
        };
        assert_eq!(with(Some(data()), None, Some(0.5)), 30);
        assert_eq!(with(None, Some(data()), None), 30);
        assert_eq!(with(None, Some(data()), Some(0.5)), 15);
        assert_eq!(with(None, None, Some(0.0)), 30);
    }
}
