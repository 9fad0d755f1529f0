//! Labelled pictures in memory, 8 bits a channel: read once, shared by every loader.

use super::{TargetSize, picture};
use crate::{Error, Result};

/// Labelled pictures of one size. Pixels are kept as bytes, a quarter of what they take as `f32`.
#[derive(Clone, Debug, PartialEq)]
pub struct Dataset {
    name: String,
    shape: [usize; 3],
    images: Vec<u8>,
    labels: Vec<u32>,
    classes: Vec<String>,
    warnings: Vec<String>,
}

/// The parts of a data set.
#[derive(Clone, Debug, PartialEq)]
pub struct Splits {
    /// The pictures that a net is trained on.
    pub train: Dataset,
    /// Those that choose its best weights.
    pub val: Option<Dataset>,
    /// Those that it is measured on in the end. It is not trained on them, and they choose nothing.
    pub test: Option<Dataset>,
}

impl Dataset {
    /// Pictures of `shape` (channels, height, width), one after the other as planes (NCHW), with the class of each.
    ///
    /// # Errors
    /// An empty shape, a number of pixels or labels that does not fit, or a label that is not below the number of
    /// classes.
    pub fn new(
        name: impl Into<String>,
        shape: [usize; 3],
        images: Vec<u8>,
        labels: Vec<u32>,
        classes: Vec<String>,
    ) -> Result<Dataset> {
        let name = name.into();
        let [c, h, w] = shape;
        let pixels = c.checked_mul(h).and_then(|n| n.checked_mul(w)).and_then(|n| n.checked_mul(labels.len()));
        if shape.contains(&0) || pixels != Some(images.len()) {
            let of = format!("data set '{name}': bytes of {} pictures of {c}x{h}x{w}", labels.len());
            return Err(Error::Length { of, expected: pixels.unwrap_or(usize::MAX), found: images.len() });
        }
        if let Some(item) = labels.iter().position(|&label| label as usize >= classes.len()) {
            return Err(Error::invalid(format!(
                "data set '{name}': label {} of picture {item} is out of range: there are {} classes, counted from 0",
                labels[item],
                classes.len()
            )));
        }
        Ok(Dataset { name, shape, images, labels, classes, warnings: Vec::new() })
    }

    /// What to call it in messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Channels, height and width of every picture.
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// Number of pictures.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are no pictures.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The planes of picture `index`: channels × height × width bytes.
    ///
    /// # Panics
    /// When there are not that many pictures, as a slice does.
    pub fn image(&self, index: usize) -> &[u8] {
        let size: usize = self.shape.iter().product();
        &self.images[index * size..][..size]
    }

    /// The class of every picture.
    pub fn labels(&self) -> &[u32] {
        &self.labels
    }

    /// What each class is called.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// What was noticed while it was read: damaged pictures, files that are no pictures.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Takes note of something that its user should know.
    pub(super) fn warn(&mut self, warning: String) {
        self.warnings.push(warning);
    }

    /// The same with its pictures brought to a target: resized and cut out, grey repeated in each channel, colour as luma.
    ///
    /// # Errors
    /// A target that its pictures cannot be brought to.
    pub fn fitted(self, target: TargetSize) -> Result<Dataset> {
        if self.shape == target.shape {
            return Ok(self);
        }
        let fit = |index: usize| picture::from_planes(self.image(index).to_vec(), self.shape, target);
        let mut images = Vec::new();
        for index in 0..self.len() {
            images.extend(fit(index).map_err(picture::named(format!("{}[{index}]", self.name)))?);
        }
        Ok(Dataset { shape: target.shape, images, ..self })
    }

    /// The pictures outside a mask and those in it, each in their order.
    pub(super) fn parted(mut self, mask: &[bool]) -> (Dataset, Dataset) {
        let size: usize = self.shape.iter().product();
        let part = |labels: &[u32], wanted: bool| -> Vec<u32> {
            labels.iter().zip(mask).filter(|&(_, &is)| is == wanted).map(|(&label, _)| label).collect()
        };
        let (outside, inside) = (part(&self.labels, false), part(&self.labels, true));
        let mut images = Vec::with_capacity(inside.len() * size);
        let mut kept = 0;
        for (index, &is_in) in mask.iter().enumerate() {
            let image = index * size..(index + 1) * size;
            match is_in {
                true => images.extend_from_slice(&self.images[image]),
                false => {
                    self.images.copy_within(image, kept * size);
                    kept += 1;
                }
            }
        }
        self.images.truncate(kept * size);
        self.images.shrink_to_fit();
        let (name, classes) = (format!("{} (val)", self.name), self.classes.clone());
        let held_out = Dataset { name, shape: self.shape, images, labels: inside, classes, warnings: Vec::new() };
        (Dataset { labels: outside, ..self }, held_out)
    }

    /// Its first `len` pictures, or all of them where there are fewer.
    pub fn truncate(&mut self, len: usize) {
        let size: usize = self.shape.iter().product();
        self.labels.truncate(len);
        self.images.truncate(self.labels.len() * size);
    }

    /// How many pictures each class has.
    pub fn class_counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.classes.len()];
        for &label in &self.labels {
            counts[label as usize] += 1;
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classes(n: usize) -> Vec<String> {
        (0..n).map(|i| i.to_string()).collect()
    }

    #[test]
    fn pictures_are_found_by_index() {
        let mut data = Dataset::new("t", [1, 2, 3], (0..18).collect(), vec![2, 0, 2], classes(3)).unwrap();
        assert_eq!(data.image(1), [6, 7, 8, 9, 10, 11]);
        assert_eq!(data.class_counts(), [1, 0, 2]);
        data.truncate(2);
        assert_eq!((data.len(), data.images.len()), (2, 12));
        data.truncate(9);
        assert_eq!(data.len(), 2);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let new = |shape, pixels, labels| Dataset::new("t", shape, vec![0; pixels], labels, classes(3));
        assert!(new([1, 2, 3], 12, vec![0]).unwrap_err().to_string().contains("expected 6, got 12"));
        assert!(new([1, 0, 3], 0, vec![]).is_err());
        assert!(new([usize::MAX, 2, 3], 12, vec![0]).is_err());
        let error = new([1, 2, 3], 12, vec![0, 3]).unwrap_err().to_string();
        assert_eq!(error, "data set 't': label 3 of picture 1 is out of range: there are 3 classes, counted from 0");
    }
}
