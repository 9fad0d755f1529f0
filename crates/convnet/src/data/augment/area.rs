//! Rectangles of a picture, and the crops that evaluation takes.

use crate::error::times;
use crate::{Error, Result};

/// A rectangle of a picture, in pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(test, derive(serde::Deserialize))]
pub struct Area {
    /// Rows above it.
    pub top: usize,
    /// Columns on its left.
    pub left: usize,
    /// Its height.
    pub height: usize,
    /// Its width.
    pub width: usize,
}

/// A crop of a picture, mirrored or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crop {
    /// What is cut out.
    pub area: Area,
    /// Whether its columns are reversed.
    pub mirrored: bool,
}

impl Area {
    /// The middle of a picture, halves of a pixel rounded to the even one (torchvision's `center_crop`); nothing when the
    /// picture is smaller.
    pub fn center([height, width]: [usize; 2], [high, wide]: [usize; 2]) -> Option<Area> {
        let start = |side: usize, kept: usize| Some((side.checked_sub(kept)? as f64 / 2.0).round_ties_even() as usize);
        Some(Area { top: start(height, high)?, left: start(width, wide)?, height: high, width: wide })
    }
}

impl Crop {
    /// Copies the crop out of `planes`, a picture of `shape` (channels, height, width), into `out`.
    ///
    /// # Panics
    /// When the crop does not lie in the picture, or a length is not that of its shape.
    pub fn cut(self, planes: &[u8], [channels, height, width]: [usize; 3], out: &mut [u8]) {
        let Crop { area, mirrored } = self;
        assert_eq!(planes.len(), channels * height * width, "the picture has its shape's size");
        assert_eq!(out.len(), channels * area.height * area.width, "the output has the crop's size");
        for (plane, out) in planes.chunks(height * width).zip(out.chunks_mut(area.height * area.width)) {
            for (row, out) in out.chunks_mut(area.width).enumerate() {
                out.copy_from_slice(&plane[(area.top + row) * width + area.left..][..area.width]);
                if mirrored {
                    out.reverse();
                }
            }
        }
    }
}

/// The four corners (top left, top right, bottom left, bottom right) and the middle of a picture of `size` (height,
/// width): torchvision's `five_crop`.
///
/// # Errors
/// A crop that is empty or larger than the picture.
pub fn five_crop(size: [usize; 2], crop: [usize; 2]) -> Result<[Area; 5]> {
    let ([height, width], [high, wide]) = (size, crop);
    let center = Area::center(size, crop).filter(|_| !crop.contains(&0));
    let Some(center) = center else {
        let expected = format!("1x1 to the picture's size, {height}x{width}");
        return Err(Error::setting("crop", expected, times(&crop)));
    };
    let at = |top, left| Area { top, left, height: high, width: wide };
    let (bottom, right) = (height - high, width - wide);
    Ok([at(0, 0), at(0, right), at(bottom, 0), at(bottom, right), center])
}

/// [`five_crop`] of a picture and of its mirror image, whose average Krizhevsky et al. 2012 (section 4.1) predict by:
/// torchvision's `ten_crop`.
///
/// # Errors
/// As [`five_crop`].
///
/// ```
/// use convnet::data::augment::ten_crop;
/// let crops = ten_crop([256, 256], [224, 224]).unwrap();
/// assert_eq!((crops[3].area.top, crops[4].area.left, crops[9].mirrored), (32, 16, true));
/// ```
pub fn ten_crop(size: [usize; 2], crop: [usize; 2]) -> Result<[Crop; 10]> {
    let five = five_crop(size, crop)?;
    // What lies on the left of the mirror image lies on the right of the picture.
    let seen = |area: Area| Area { left: size[1] - area.left - area.width, ..area };
    Ok(std::array::from_fn(|i| match i {
        0..5 => Crop { area: five[i], mirrored: false },
        _ => Crop { area: seen(five[i - 5]), mirrored: true },
    }))
}
