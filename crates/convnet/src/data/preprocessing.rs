//! From a picture of any size to what a net takes, as torchvision's presets for classification do it: the shorter side is
//! resized (antialiased), the middle is cut out, and the pixels are normalised.

use serde::{Deserialize, Serialize};

use super::Normalization;
use super::augment::Area;
use super::picture::PictureError;
use super::resample::{Resampling, Source};
use super::resize::{Axis, Interpolation};
use crate::{Error, Result};

/// Pictures are not enlarged beyond so many pixels on their shorter side.
const MAX_RESIZE: usize = 65_536;

/// To how many pixels the shorter side is resized for this shape, when it is `resize` for a side of `crop`.
pub(super) fn proportional([_, height, width]: [usize; 3], resize: usize, crop: usize) -> usize {
    let (resize, crop) = (resize as u128, crop.max(1) as u128);
    usize::try_from((height.min(width) as u128 * resize + crop / 2) / crop).unwrap_or(usize::MAX)
}

/// What is done to a picture before a net sees it. It travels with the weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Preprocessing {
    /// To how many pixels the shorter side is resized before the middle is cut out; `None` refuses pictures of another
    /// size than the net's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resize: Option<usize>,
    /// How it is resized.
    #[serde(default, skip_serializing_if = "Interpolation::is_default")]
    pub interpolation: Interpolation,
    /// Whether even a picture of the net's size is resized and cut, as torchvision does it for its own nets, or taken as it
    /// is.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub resize_always: bool,
    /// From pixels to numbers.
    #[serde(flatten)]
    pub normalization: Normalization,
}

/// What a picture is brought to as it is read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TargetSize {
    /// Channels, height and width; 1 channel is grey, 3 are red, green and blue.
    pub shape: [usize; 3],
    /// As [`Preprocessing::resize`].
    pub resize: Option<usize>,
    /// As [`Preprocessing::interpolation`].
    pub interpolation: Interpolation,
    /// As [`Preprocessing::resize_always`].
    pub resize_always: bool,
    /// Whether a damaged picture is refused; else it is read as libjpeg reads it, with a warning.
    pub strict: bool,
}

impl Preprocessing {
    /// For nets that take pictures of this shape, which are resized as [`TargetSize::customary`] has it.
    pub fn new(input: [usize; 3], normalization: Normalization) -> Preprocessing {
        let TargetSize { resize, interpolation, resize_always, .. } = TargetSize::customary(input);
        Preprocessing { resize, interpolation, resize_always, normalization }
    }

    /// The same for a net that takes another shape: the shorter side is resized in the same proportion.
    pub fn for_input(self, before: [usize; 3], input: [usize; 3]) -> Preprocessing {
        let side = before[1].min(before[2]);
        Preprocessing { resize: self.resize.map(|resize| proportional(input, resize, side)), ..self }
    }

    /// What it brings pictures to, for a net that takes this shape.
    pub fn target(&self, shape: [usize; 3]) -> TargetSize {
        let &Preprocessing { resize, interpolation, resize_always, .. } = self;
        TargetSize { shape, resize, interpolation, resize_always, strict: false }
    }

    /// It in words, for a net that takes pictures of this shape.
    ///
    /// ```
    /// use convnet::data::{Normalization, Preprocessing};
    /// let preprocessing = Preprocessing::new([3, 224, 224], Normalization::imagenet());
    /// let text = "shorter side to 256 (bilinear), middle 224x224, mean 0.485,0.456,0.406, std 0.229,0.224,0.225";
    /// assert_eq!(preprocessing.describe([3, 224, 224]), text);
    /// ```
    pub fn describe(&self, [_, height, width]: [usize; 3]) -> String {
        let list = |values: &[f32]| values.iter().map(f32::to_string).collect::<Vec<_>>().join(",");
        let size = match self.resize {
            Some(resize) => format!("shorter side to {resize} ({}), middle {width}x{height}", self.interpolation),
            None => format!("{width}x{height} as they are"),
        };
        format!("{size}, mean {}, std {}", list(&self.normalization.mean), list(&self.normalization.std))
    }

    /// Checks that it can be done for a net that takes pictures of this shape.
    ///
    /// # Errors
    /// As [`Normalization::normalizer`], and a shorter side that is smaller than what is cut out, or beyond 65,536.
    pub fn check(&self, input: [usize; 3]) -> Result<()> {
        self.normalization.normalizer(input[0])?;
        self.resize.map_or(Ok(()), |resize| check_resize(resize, input)).map_err(Error::invalid)
    }
}

fn check_resize(resize: usize, [_, height, width]: [usize; 3]) -> Result<(), String> {
    let least = height.min(width);
    if resize < least || resize > MAX_RESIZE {
        return Err(format!(
            "resizing the shorter side to {resize} pixels: expected {least} (that of what the net takes) to {MAX_RESIZE}"
        ));
    }
    Ok(())
}

impl TargetSize {
    /// For nets that take pictures of this shape. The shorter side becomes 256 pixels for 224, as torchvision's presets have
    /// it, and in that proportion for other sizes; a picture of the net's size is taken as it is.
    pub fn customary(shape: [usize; 3]) -> TargetSize {
        let resize = proportional(shape, 256, 224);
        TargetSize { resize: Some(resize), ..TargetSize::exactly(shape) }
    }

    /// For pictures that have this shape already; others are refused.
    pub fn exactly(shape: [usize; 3]) -> TargetSize {
        TargetSize { shape, resize: None, interpolation: Interpolation::default(), resize_always: false, strict: false }
    }

    /// To how many pixels the shorter side of a picture of this size is resized; `None` leaves it as it is.
    ///
    /// # Errors
    /// [`PictureError::Size`] when it has another size than the net's, and nothing is said of resizing.
    pub(super) fn resize_for(&self, height: usize, width: usize) -> Result<Option<usize>, PictureError> {
        let is = self.shape[1..] == [height, width];
        match self.resize {
            Some(resize) if !is || self.resize_always => Ok(Some(resize)),
            Some(_) => Ok(None),
            None if is => Ok(None),
            None => Err(PictureError::Size { found: [height, width], expected: [self.shape[1], self.shape[2]] }),
        }
    }

    /// The size that a picture would be resized to, were all of it kept: the smallest whose middle covers the net's
    /// input, both grown in proportion to [`TargetSize::resize`]. For a square input that is torchvision's rule.
    fn resized(&self, [height, width]: [usize; 2], resize: usize) -> [usize; 2] {
        let [_, high, wide] = self.shape;
        let grown = |side: usize| side as u128 * resize as u128 / high.min(wide) as u128;
        let (box_height, box_width) = (grown(high), grown(wide));
        let (height, width) = (height as u128, width as u128);
        let [height, width] = match width * box_height <= height * box_width {
            true => [height * box_width / width, box_width],
            false => [box_height, width * box_height / height],
        };
        [height, width].map(|side| usize::try_from(side).unwrap_or(usize::MAX))
    }

    /// What becomes of the height and the width of a picture of this size. The middle is rounded to whole pixels of the
    /// resized picture, halves to the even one, as torchvision's `center_crop` has it.
    fn axes(&self, size: [usize; 2], shorter: usize) -> [Axis; 2] {
        let resized = self.resized(size, shorter);
        [0, 1].map(|axis| {
            let (original, resized, kept) = (size[axis], resized[axis], self.shape[1 + axis]);
            let start = ((resized - kept) as f64 / 2.0).round_ties_even() as usize;
            Axis { original, resized, start, kept }
        })
    }

    /// Resizes a picture of the target's channels, cuts out the middle, and writes its planes into `out`, which has their size.
    pub(super) fn fit(
        &self,
        source: Source<'_>,
        shorter: usize,
        resampling: &mut Resampling,
        out: &mut [u8],
    ) -> Result<(), String> {
        check_resize(shorter, self.shape)?;
        let [_, height, width] = source.shape;
        let axes = self.axes([height, width], shorter);
        resampling.resample(source, Area { top: 0, left: 0, height, width }, axes, self.interpolation, out);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::resample::{Layout, planes_of};

    /// A picture of three channels, fitted.
    fn fit(target: &TargetSize, bytes: &[u8], layout: Layout, size: [usize; 2], to: usize) -> Result<Vec<u8>, String> {
        let source = Source { bytes, layout, shape: [3, size[0], size[1]] };
        let mut out = vec![0; target.shape.iter().product()];
        target.fit(source, to, &mut Resampling::default(), &mut out).map(|()| out)
    }

    fn target(shape: [usize; 3]) -> TargetSize {
        TargetSize::customary(shape)
    }

    #[test]
    fn sizes_are_torchvisions() {
        let of = |shape: [usize; 3], size| target(shape).resized(size, target(shape).resize.unwrap());
        assert_eq!([224, 299, 32, 28].map(|side| target([3, side, side]).resize), [256, 342, 37, 32].map(Some));
        assert_eq!(of([3, 224, 224], [375, 500]), [256, 341]);
        assert_eq!(of([3, 224, 224], [500, 375]), [341, 256]);
        assert_eq!(of([3, 224, 224], [7, 7]), [256, 256]);
        // A square picture must still cover a wide input.
        assert_eq!(target([3, 160, 224]).resize, Some(183));
        assert_eq!(of([3, 160, 224], [100, 100]), [256, 256]);
        assert_eq!(of([3, 160, 224], [100, 200]), [183, 366]);
    }

    #[test]
    fn the_middle_is_cut_out() {
        // 341 - 224 = 117: 58.5 is rounded to the even 58.
        let [height, width] = target([3, 224, 224]).axes([512, 682], 256);
        assert_eq!(height, Axis { original: 512, resized: 256, start: 16, kept: 224 });
        assert_eq!(width, Axis { original: 682, resized: 341, start: 58, kept: 224 });
    }

    /// The picture that `tests/golden/resize.py` makes, too.
    fn picture([height, width]: [usize; 2]) -> Vec<u8> {
        let channel = |x: usize, y: usize| [(x * 37 + y * 11) % 256, (x * y) % 256, (x * x + 3 * y) % 251];
        let pixel = |i: usize| channel(i % width, i / width).map(|x| x as u8);
        (0..height * width).flat_map(pixel).collect()
    }

    #[derive(Deserialize)]
    struct Golden {
        picture: [usize; 2],
        side: usize,
        resize: usize,
        interpolation: Interpolation,
        expected: Vec<u8>,
    }

    #[test]
    fn pixels_are_pillows() {
        let golden: Vec<Golden> = serde_json::from_str(include_str!("../../tests/golden/pillow/resize.json")).unwrap();
        assert_eq!(golden.len(), 4 * Interpolation::ALL.len());
        for Golden { picture: size, side, resize, interpolation, expected } in golden {
            let target = TargetSize { interpolation, ..target([3, side, side]) };
            assert_eq!(target.resize, Some(resize));
            let mut expected_planes = vec![0; expected.len()];
            planes_of(&expected, 3, &mut expected_planes);
            let pixels = picture(size);
            let mut planes = vec![0; pixels.len()];
            planes_of(&pixels, 3, &mut planes);
            for (bytes, layout) in [(&pixels, Layout::Pixels), (&planes, Layout::Planes)] {
                let fitted = fit(&target, bytes, layout, size, resize).unwrap();
                assert_eq!(fitted, expected_planes, "{size:?} {interpolation} {layout:?}");
            }
        }
    }

    #[test]
    fn extreme_pictures_and_settings_are_met() {
        let target = target([3, 4, 6]);
        for size in [[1, 1], [1, 100_000], [100_000, 1], [3, 50_000]] {
            let fitted = fit(&target, &vec![9; 3 * size[0] * size[1]], Layout::Pixels, size, 5).unwrap();
            assert_eq!(fitted, [9; 72], "{size:?}");
        }
        for resize in [0, 3, MAX_RESIZE + 1, usize::MAX] {
            let refused = fit(&target, &[0; 3], Layout::Pixels, [1, 1], resize).unwrap_err();
            assert!(refused.contains("expected 4 (that of what the net takes)"));
            let usual = Preprocessing::new([3, 4, 6], Normalization::imagenet());
            let preprocessing = Preprocessing { resize: Some(resize), ..usual };
            assert!(preprocessing.check([3, 4, 6]).is_err());
        }
        assert!(fit(&target, &[9; 3], Layout::Pixels, [1, 1], MAX_RESIZE).is_ok());
        assert!(Preprocessing::new([3, 4, 6], Normalization::imagenet()).check([3, 4, 6]).is_ok());
    }

    #[test]
    fn older_files_say_nothing_of_resizing() {
        let read = |text| serde_json::from_str::<Preprocessing>(text).unwrap();
        assert_eq!(read(r#"{"mean":[0.5],"std":[0.25]}"#).resize, None);
        let new = Preprocessing::new([3, 224, 224], Normalization::imagenet());
        assert_eq!(read(&serde_json::to_string(&new).unwrap()), new);
    }
}
