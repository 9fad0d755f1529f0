//! Labelled pictures, shared by every loader: decoded in memory, 8 bits a channel, or compressed until they are wanted.

use std::borrow::Cow;

use super::picture::{self, Whole};
use super::resample::{Layout, Resampling, Source};
use super::source::each;
use super::stored::Stored;
use super::{LeftOut, TargetSize, picture::named};
use crate::columns::counted;
use crate::{Error, Result};

/// Labelled pictures that are brought to one size.
///
/// Those of small sets are decoded and in memory, as bytes, a quarter of what they take as `f32`. Those of others stay in
/// their files or their archive, and a [`Loader`](super::Loader) decodes them when it makes a batch of them. Which it is makes
/// no difference to a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Dataset {
    name: String,
    target: TargetSize,
    pixels: Pixels,
    labels: Vec<u32>,
    classes: Vec<String>,
    warnings: Vec<String>,
    left_out: Vec<LeftOut>,
    origin: Origin,
    held_out: usize,
}

/// The files that decoded pictures come from, where their names are known. What the pictures are does not depend on it.
#[derive(Clone, Debug, Default)]
struct Origin(Option<Stored>);

impl PartialEq for Origin {
    fn eq(&self, _: &Origin) -> bool {
        true
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Pixels {
    /// Decoded planes of pictures of one shape, one after the other.
    Same { shape: [usize; 3], planes: Vec<u8> },
    /// Decoded planes of pictures in the target's channels, and for each where it begins, its height and its width.
    Each { places: Vec<(usize, [u32; 2])>, planes: Vec<u8> },
    /// Not decoded yet.
    Stored(Stored),
}

/// Memory in which a picture is made, used again for the next.
#[derive(Debug, Default)]
pub(super) struct Making {
    content: Vec<u8>,
    pixels: Vec<u8>,
    fitted: Vec<u8>,
    resampling: Resampling,
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
            let of = format!("data set '{name}': bytes of {} of {c}x{h}x{w}", counted(labels.len(), "picture"));
            return Err(Error::Length { of, expected: pixels.unwrap_or(usize::MAX), found: images.len() });
        }
        let pixels = Pixels::Same { shape, planes: images };
        Dataset::of(name, TargetSize::exactly(shape), pixels, labels, classes).checked()
    }

    /// Pictures that are decoded when they are wanted, and brought to the target then.
    ///
    /// # Errors
    /// A label that is not below the number of classes.
    pub(super) fn stored(
        name: String,
        target: TargetSize,
        stored: Stored,
        labels: Vec<u32>,
        classes: Vec<String>,
    ) -> Result<Dataset> {
        Dataset::of(name, target, Pixels::Stored(stored), labels, classes).checked()
    }

    /// Decoded pictures of any size, in the target's channels.
    ///
    /// # Errors
    /// As [`Dataset::stored`].
    pub(super) fn decoded(
        name: String,
        target: TargetSize,
        (places, planes): (Vec<(usize, [u32; 2])>, Vec<u8>),
        labels: Vec<u32>,
        classes: Vec<String>,
    ) -> Result<Dataset> {
        let pixels = Pixels::Each { places, planes };
        Dataset::of(name, target, pixels, labels, classes).checked()
    }

    /// Pictures of which nothing else is known, not checked.
    fn of(name: String, target: TargetSize, pixels: Pixels, labels: Vec<u32>, classes: Vec<String>) -> Dataset {
        let (warnings, left_out, origin) = (Vec::new(), Vec::new(), Origin::default());
        Dataset { name, target, pixels, labels, classes, warnings, left_out, origin, held_out: 0 }
    }

    fn checked(self) -> Result<Dataset> {
        let Dataset { name, labels, classes, .. } = &self;
        match labels.iter().position(|&label| label as usize >= classes.len()) {
            Some(item) => Err(Error::invalid(format!(
                "data set '{name}': label {} of picture {item} is out of range for {}, counted from 0",
                labels[item],
                counted(classes.len(), "class")
            ))),
            None => Ok(self),
        }
    }

    /// The same pictures, which were decoded from these files.
    pub(super) fn of_files(self, stored: Stored) -> Dataset {
        Dataset { origin: Origin(Some(stored)), ..self }
    }

    /// The same pictures, which have been brought to this target as they were read.
    pub(super) fn brought_to(self, target: TargetSize) -> Dataset {
        // One that resizes always would resize them once more.
        if target.resize_always { self } else { Dataset { target, ..self } }
    }

    /// What pictures are brought to.
    pub(crate) fn target(&self) -> TargetSize {
        self.target
    }

    /// What to call it in messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Channels, height and width that every picture is brought to.
    pub fn shape(&self) -> [usize; 3] {
        self.target.shape
    }

    /// Number of pictures.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are no pictures.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// How many pictures were last held out of it ([`Splits::hold_out`]).
    pub fn held_out(&self) -> usize {
        self.held_out
    }

    /// Whether the pictures are decoded and in memory; others are decoded each time that they are wanted.
    pub fn is_decoded(&self) -> bool {
        !matches!(self.pixels, Pixels::Stored(_))
    }

    /// Threads that keep a net busy: 1 for pictures in memory, as many as there are cores for others.
    pub fn customary_workers(&self) -> usize {
        match self.is_decoded() {
            true => 1,
            false => std::thread::available_parallelism().map_or(1, usize::from),
        }
    }

    /// The planes of picture `index`, brought to the set's shape: channels × height × width bytes.
    ///
    /// # Errors
    /// A picture that cannot be read or decoded, by name.
    ///
    /// # Panics
    /// When there are not that many pictures, as a slice does.
    pub fn image(&self, index: usize) -> Result<Cow<'_, [u8]>> {
        if let Pixels::Same { shape, planes } = &self.pixels
            && self.is_as_it_is(*shape)
        {
            let size: usize = shape.iter().product();
            return Ok(Cow::Borrowed(&planes[index * size..][..size]));
        }
        let mut out = vec![0; self.shape().iter().product()];
        self.make(index, &mut Making::default(), &mut out)?;
        Ok(Cow::Owned(out))
    }

    /// What picture `index` is called in messages: its file, or the set's name and its number.
    pub fn image_name(&self, index: usize) -> String {
        match (&self.pixels, &self.origin) {
            (Pixels::Stored(stored), _) | (_, Origin(Some(stored))) => stored.name(index),
            (Pixels::Same { .. } | Pixels::Each { .. }, Origin(None)) => format!("{}[{index}]", self.name),
        }
    }

    fn is_as_it_is(&self, [channels, height, width]: [usize; 3]) -> bool {
        channels == self.target.shape[0] && matches!(self.target.resize_for(height, width), Ok(None))
    }

    /// Writes the planes of a picture, brought to the set's shape, into `out`.
    pub(super) fn make(&self, index: usize, making: &mut Making, out: &mut [u8]) -> Result<()> {
        let Making { content, pixels, resampling, .. } = making;
        let source = self.whole(index, content, pixels)?;
        picture::fit_into(source, self.target, resampling, out)
            .map_err(|problem| named(self.image_name(index))(problem))
    }

    /// Lets `work` see a picture at its own size.
    pub(super) fn with_whole<T>(
        &self,
        index: usize,
        making: &mut Making,
        work: impl FnOnce(Source<'_>) -> Result<T>,
    ) -> Result<T> {
        let Making { content, pixels, .. } = making;
        work(self.whole(index, content, pixels)?)
    }

    /// Lets `work` see a picture that is brought to the set's shape.
    pub(super) fn with_fitted<T>(
        &self,
        index: usize,
        making: &mut Making,
        work: impl FnOnce(Source<'_>) -> Result<T>,
    ) -> Result<T> {
        let shape = self.shape();
        if let Pixels::Same { shape: own, .. } = &self.pixels
            && self.is_as_it_is(*own)
        {
            return self.with_whole(index, making, work);
        }
        let mut fitted = std::mem::take(&mut making.fitted);
        fitted.resize(shape.iter().product(), 0);
        let made = self.make(index, making, &mut fitted);
        let done = made.and_then(|()| work(Source { bytes: &fitted, layout: Layout::Planes, shape }));
        making.fitted = fitted;
        done
    }

    fn whole<'a>(&'a self, index: usize, content: &mut Vec<u8>, pixels: &'a mut Vec<u8>) -> Result<Source<'a>> {
        let layout = Layout::Planes;
        match &self.pixels {
            Pixels::Same { shape, planes } => {
                let size: usize = shape.iter().product();
                Ok(Source { bytes: &planes[index * size..][..size], layout, shape: *shape })
            }
            Pixels::Each { places, planes } => {
                let (start, size) = places[index];
                let [height, width] = size.map(|side| side as usize);
                let shape = [self.target.shape[0], height, width];
                Ok(Source { bytes: &planes[start..][..shape.iter().product()], layout, shape })
            }
            Pixels::Stored(stored) => {
                let Whole { pixels: decoded, shape, .. } = stored.decode(index, self.target, content)?;
                *pixels = decoded;
                Ok(Source { bytes: pixels, layout: Layout::Pixels, shape })
            }
        }
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

    /// Pictures that were left out when it was read, since they cannot be used ([`Unusable::LeftOut`](super::Unusable)).
    pub fn left_out(&self) -> &[LeftOut] {
        &self.left_out
    }

    /// Takes note of pictures that were left out.
    pub(super) fn leave_out(&mut self, pictures: Vec<LeftOut>) {
        self.warnings.extend(LeftOut::note(&pictures));
        self.left_out = pictures;
    }

    /// Decodes every picture that is kept in files, on all cores, and says which cannot be; of pictures in memory there are
    /// none. That takes as long as reading the set once.
    ///
    /// # Errors
    /// When a thread breaks off.
    pub fn unusable(&self) -> Result<Vec<Error>> {
        let Pixels::Stored(stored) = &self.pixels else { return Ok(Vec::new()) };
        let problems = each(self.len(), |index, content| stored.decode(index, self.target, content).map(drop))?;
        Ok(problems.into_values().collect())
    }

    /// Takes the descriptions of damaged pictures that were met since the last time, where pictures are decoded as they are
    /// wanted.
    pub fn take_damaged(&self) -> Vec<String> {
        match &self.pixels {
            Pixels::Stored(stored) => stored.take_warnings(),
            Pixels::Same { .. } | Pixels::Each { .. } => Vec::new(),
        }
    }

    /// Takes note of something that its user should know.
    pub(super) fn warn(&mut self, warning: String) {
        self.warnings.push(warning);
    }

    /// The same with its pictures brought to a target, each when it is wanted: resized and cut out, grey repeated in each
    /// channel, colour as luma.
    ///
    /// # Errors
    /// A target that its pictures cannot be brought to.
    pub fn fitted(self, target: TargetSize) -> Result<Dataset> {
        let Pixels::Same { shape, .. } = &self.pixels else { return Ok(Dataset { target, ..self }) };
        let shape @ [_, height, width] = *shape;
        if shape == target.shape {
            return Ok(self);
        }
        let name = || format!("{}[0]", self.name);
        target.resize_for(height, width).map_err(|problem| named(name())(problem))?;
        if shape[0] == target.shape[0] {
            return Ok(Dataset { target, ..self });
        }
        let same_size = TargetSize::exactly([target.shape[0], height, width]);
        let mut planes = Vec::new();
        for index in 0..self.len() {
            let (size, Pixels::Same { planes: before, .. }) = (shape.iter().product::<usize>(), &self.pixels) else {
                break;
            };
            let picture = before[index * size..][..size].to_vec();
            planes.extend(
                picture::from_planes(picture, shape, same_size).map_err(named(format!("{}[{index}]", self.name)))?,
            );
        }
        Ok(Dataset { target, pixels: Pixels::Same { shape: same_size.shape, planes }, ..self })
    }

    /// The pictures outside a mask and those in it, each in their order.
    pub(super) fn parted(self, mask: &[bool]) -> (Dataset, Dataset) {
        let part = |wanted: bool| -> Vec<u32> {
            self.labels.iter().zip(mask).filter(|&(_, &is)| is == wanted).map(|(&label, _)| label).collect()
        };
        let (outside, inside) = (part(false), part(true));
        let (name, classes, target) = (format!("{} (val)", self.name), self.classes.clone(), self.target);
        let (pixels, held_out) = self.pixels.parted(mask, target.shape[0]);
        let [origin, its_origin] =
            [false, true].map(|wanted| Origin(self.origin.0.as_ref().map(|stored| stored.part(mask, wanted))));
        let held_out = Dataset { origin: its_origin, ..Dataset::of(name, target, held_out, inside, classes) };
        let left = Dataset { labels: outside, pixels, origin, held_out: held_out.len(), ..self };
        (left, held_out)
    }

    /// Its first `len` pictures, or all of them where there are fewer.
    pub fn truncate(&mut self, len: usize) {
        self.labels.truncate(len);
        let len = self.labels.len();
        match &mut self.pixels {
            Pixels::Same { shape, planes } => planes.truncate(len * shape.iter().product::<usize>()),
            Pixels::Each { places, planes } => {
                planes.truncate(places.get(len).map_or(planes.len(), |&(start, _)| start));
                places.truncate(len);
            }
            Pixels::Stored(stored) => stored.truncate(len),
        }
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

impl Pixels {
    /// The pictures outside a mask and those in it.
    fn parted(self, mask: &[bool], channels: usize) -> (Pixels, Pixels) {
        let take = |planes: &mut Vec<u8>, picture: &dyn Fn(usize) -> std::ops::Range<usize>| {
            let mut inside = Vec::new();
            let mut kept = 0;
            for (index, &is_in) in mask.iter().enumerate() {
                let picture = picture(index);
                let size = picture.len();
                match is_in {
                    true => inside.extend_from_slice(&planes[picture]),
                    false => {
                        planes.copy_within(picture, kept);
                        kept += size;
                    }
                }
            }
            planes.truncate(kept);
            planes.shrink_to_fit();
            inside
        };
        match self {
            Pixels::Same { shape, mut planes } => {
                let size: usize = shape.iter().product();
                let inside = take(&mut planes, &|index| index * size..(index + 1) * size);
                (Pixels::Same { shape, planes }, Pixels::Same { shape, planes: inside })
            }
            Pixels::Each { places, mut planes } => {
                let bytes = |size: [u32; 2]| channels * size[0] as usize * size[1] as usize;
                let inside = take(&mut planes, &|index| places[index].0..places[index].0 + bytes(places[index].1));
                let part = |wanted: bool| {
                    let mut start = 0;
                    let sizes = places.iter().zip(mask).filter(|&(_, &is)| is == wanted).map(|(&(_, size), _)| size);
                    let place = |size| {
                        let place = (start, size);
                        start += bytes(size);
                        place
                    };
                    sizes.map(place).collect()
                };
                let held_out = Pixels::Each { places: part(true), planes: inside };
                (Pixels::Each { places: part(false), planes }, held_out)
            }
            Pixels::Stored(stored) => {
                (Pixels::Stored(stored.part(mask, false)), Pixels::Stored(stored.part(mask, true)))
            }
        }
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
        assert_eq!(data.image(1).unwrap(), [6, 7, 8, 9, 10, 11].as_slice());
        assert_eq!(data.class_counts(), [1, 0, 2]);
        data.truncate(2);
        assert_eq!((data.len(), &data.pixels), (2, &Pixels::Same { shape: [1, 2, 3], planes: (0..12).collect() }));
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
        assert_eq!(error, "data set 't': label 3 of picture 1 is out of range for 3 classes, counted from 0");
    }
}
