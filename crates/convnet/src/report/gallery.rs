//! Pictures to look at, in bounded memory: the worst mistakes and samples of all classes, chosen while an evaluation runs, and
//! training pictures as an augmentation leaves them.

use crate::canvas::resampled;
use crate::evaluate::{Seen, ranking, softmax};
use crate::random::Random;

/// Mistakes that are kept.
const MISTAKES: usize = 24;
/// Samples that are kept, where no class has more than [`OF_CLASS`].
const SAMPLES: usize = 30;
/// Samples of one class, at most.
const OF_CLASS: usize = 6;
/// Longest side of a picture that is kept, in pixels; a larger one is shrunk.
const SIDE: usize = 96;
/// The purpose of the random numbers that choose samples.
const PURPOSE: [u8; 8] = *b"gallery ";

/// The pictures of an evaluation that are shown in a report.
///
/// Mistakes are those with the largest cross-entropy. Samples are drawn at random, from a fixed seed and each picture's
/// number, for every class, or for evenly spaced ones where there are many: the same pictures give the same gallery.
#[derive(Clone, Debug)]
pub struct Gallery {
    shape: [usize; 3],
    classes: usize,
    seen: u64,
    /// With the largest loss first.
    mistakes: Vec<Shot>,
    /// For each class that is sampled, with the smallest draw first.
    samples: Vec<Vec<(usize, Shot)>>,
    /// What was predicted is not known of them.
    augmented: Vec<Shot>,
}

/// A picture and what was seen in it.
#[derive(Clone, Debug)]
pub(super) struct Shot {
    pub(super) name: String,
    pub(super) label: usize,
    pub(super) predicted: usize,
    /// Probability of the first guess, and of the true class.
    pub(super) probabilities: [f64; 2],
    /// Columns and rows.
    pub(super) size: [usize; 2],
    pub(super) rgb: Vec<u8>,
}

impl Shot {
    /// How far the net was from the truth.
    fn loss(&self) -> f64 {
        -self.probabilities[1].ln()
    }

    /// A picture that is no larger than the page needs, without what was seen in it.
    fn of_planes([channels, height, width]: [usize; 3], planes: &[u8]) -> Shot {
        let longest = height.max(width);
        let length = |side: usize| if longest > SIDE { (side * SIDE / longest).max(1) } else { side };
        let size = [length(width), length(height)];
        // The one grey plane serves as all three.
        let pixel = |channel: usize, y, x| planes[(channel.min(channels - 1) * height + y) * width + x];
        let rgb = resampled([height, width], size, pixel);
        Shot { name: String::new(), label: 0, predicted: 0, probabilities: [0.0; 2], size, rgb }
    }
}

impl Gallery {
    /// An empty one for pictures of this shape (channels, height, width), of so many classes.
    pub fn new(shape: [usize; 3], classes: usize) -> Gallery {
        let samples = vec![Vec::new(); classes.min(SAMPLES)];
        Gallery { shape, classes, seen: 0, mistakes: Vec::new(), samples, augmented: Vec::new() }
    }

    /// Looks at a picture, and keeps it where it is one to show. Pictures that are neither grey nor coloured, or whose bytes
    /// are not there, are passed over.
    pub fn add(&mut self, seen: &Seen) {
        let index = self.seen;
        self.seen += 1;
        if !self.can_show(seen.planes) {
            return;
        }
        let probabilities = softmax(seen.logits);
        let predicted = ranking(seen.logits).first().copied().unwrap_or(0);
        let [first, own] = [probabilities[predicted], probabilities[seen.label]];
        let shape = self.shape;
        let shot = || Shot {
            name: seen.name.to_owned(),
            label: seen.label,
            predicted,
            probabilities: [first, own],
            ..Shot::of_planes(shape, seen.planes)
        };
        if predicted != seen.label {
            let place = self.mistakes.partition_point(|other| other.loss() >= -own.ln());
            if place < MISTAKES {
                let shot = shot();
                self.mistakes.insert(place, shot);
                self.mistakes.truncate(MISTAKES);
            }
        }
        let Some(slot) = self.slot(seen.label) else { return };
        let draw = Random::stream(0, PURPOSE, index).below(usize::MAX);
        let most = self.of_class();
        let place = self.samples[slot].partition_point(|(other, _)| *other <= draw);
        if place < most {
            let shot = shot();
            self.samples[slot].insert(place, (draw, shot));
            self.samples[slot].truncate(most);
        }
    }

    /// Training pictures that are shown as they are augmented.
    pub const AUGMENTED: usize = 12;

    /// Keeps a training picture as an augmentation has left it; pictures are passed over as in [`Gallery::add`], and those beyond
    /// [`Gallery::AUGMENTED`].
    pub fn add_augmented(&mut self, name: &str, label: usize, planes: &[u8]) {
        if self.can_show(planes) && self.augmented.len() < Gallery::AUGMENTED {
            let shot = Shot { name: name.to_owned(), label, predicted: label, ..Shot::of_planes(self.shape, planes) };
            self.augmented.push(shot);
        }
    }

    /// Whether these are the planes of a picture that can be drawn.
    fn can_show(&self, planes: &[u8]) -> bool {
        let elements: usize = self.shape.iter().product();
        matches!(self.shape[0], 1 | 3) && planes.len() == elements && elements > 0
    }

    /// The number of a class among those that are sampled.
    fn slot(&self, class: usize) -> Option<usize> {
        let slots = self.samples.len();
        let slot = class * slots / self.classes.max(1);
        // The first class of those that would share it.
        (class == (slot * self.classes).div_ceil(slots.max(1))).then_some(slot)
    }

    fn of_class(&self) -> usize {
        (SAMPLES / self.samples.len().max(1)).clamp(1, OF_CLASS)
    }

    pub(super) fn mistakes(&self) -> &[Shot] {
        &self.mistakes
    }

    pub(super) fn augmented(&self) -> &[Shot] {
        &self.augmented
    }

    /// Class by class.
    pub(super) fn samples(&self) -> impl Iterator<Item = &Shot> {
        self.samples.iter().flatten().map(|(_, shot)| shot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A gallery of pictures of 1×2 pixels; the net says `predicted`, more surely for later pictures.
    fn gallery(classes: usize, pictures: impl Iterator<Item = (usize, usize)>) -> Gallery {
        let mut gallery = Gallery::new([1, 1, 2], classes);
        for (index, (label, predicted)) in pictures.enumerate() {
            let mut logits = vec![0.0; classes];
            logits[predicted] = 1.0 + (index % 1000) as f32 / 100.0;
            gallery.add(&Seen { name: &index.to_string(), label, logits: &logits, planes: &[7, index as u8] });
        }
        gallery
    }

    #[test]
    fn the_worst_mistakes_are_kept() {
        let pictures = (0..900).map(|index| (index % 10, if index % 3 == 0 { (index + 1) % 10 } else { index % 10 }));
        let gallery = gallery(10, pictures);
        let names: Vec<&str> = gallery.mistakes().iter().map(|shot| shot.name.as_str()).collect();
        let expected: Vec<String> =
            (0..900).filter(|i| i % 3 == 0).rev().take(MISTAKES).map(|i| i.to_string()).collect();
        assert_eq!(names, expected);
        let worst = &gallery.mistakes()[0];
        assert_eq!((worst.label, worst.predicted, worst.size, worst.rgb[..3].to_vec()), (7, 8, [2, 1], vec![7; 3]));
    }

    #[test]
    fn samples_are_of_all_classes_and_the_same_again() {
        let of = |classes: usize, count: usize| {
            let gallery = gallery(classes, (0..count).map(|index| (index % classes, 0)));
            gallery.samples().map(|shot| (shot.label, shot.name.clone())).collect::<Vec<_>>()
        };
        let ten = of(10, 5000);
        assert_eq!(ten.iter().map(|(label, _)| *label).collect::<Vec<_>>(), (0..30).map(|i| i / 3).collect::<Vec<_>>());
        assert_eq!(ten, of(10, 5000));
        assert!(ten.iter().any(|(_, name)| name.parse::<usize>().unwrap() > 2500), "not the first alone");
        assert_eq!((of(2, 100).len(), of(1, 3).len()), (12, 3));
        let thousand = of(1000, 4000);
        assert_eq!(thousand.len(), SAMPLES);
        assert!(thousand.windows(2).all(|two| two[1].0 - two[0].0 >= 33), "{thousand:?}");
    }

    #[test]
    fn large_pictures_are_shrunk_and_others_passed_over() {
        let mut gallery = Gallery::new([3, 200, 400], 2);
        let planes = vec![9; 3 * 200 * 400];
        gallery.add(&Seen { name: "a", label: 0, logits: &[0.0, 1.0], planes: &planes });
        gallery.add(&Seen { name: "b", label: 0, logits: &[0.0, 1.0], planes: &[] });
        assert_eq!((gallery.mistakes().len(), gallery.mistakes()[0].size), (1, [96, 48]));
        assert_eq!(gallery.mistakes()[0].rgb, vec![9; 96 * 48 * 3]);
        let mut strange = Gallery::new([2, 1, 1], 2);
        strange.add(&Seen { name: "a", label: 0, logits: &[0.0, 1.0], planes: &[1, 2] });
        assert!(strange.mistakes().is_empty());
    }
}
