//! Transforms that choose what part of a picture is seen, and with which size.

use serde::{Deserialize, Serialize};

use super::area::Area;
use super::draw::Draw;
use super::settings::{Frame, Settings, Steps};
use super::step::Move;
use super::value::{self, Fill, PaddingMode};
use crate::data::preprocessing::proportional;
use crate::data::resize::Interpolation;

/// How often an area is drawn anew because it does not fit.
pub(super) const TRIES: usize = 10;

/// The longest side that resizing may lead to.
const MAX_SIDE: usize = 65_536;

/// An area of random size and shape, resized: torchvision's `RandomResizedCrop` (Szegedy et al. 2015, section 6). It leaves
/// pictures of `size`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RandomResizedCrop {
    /// Height and width that it is resized to; without it the target's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<[usize; 2]>,
    /// Share of the picture's area, uniform in this range.
    pub scale: [f64; 2],
    /// Width over height, its logarithm uniform in this range.
    pub ratio: [f64; 2],
    /// How it is resized.
    pub interpolation: Interpolation,
}

impl Default for RandomResizedCrop {
    fn default() -> RandomResizedCrop {
        RandomResizedCrop {
            size: None,
            scale: [0.08, 1.0],
            ratio: [3.0 / 4.0, 4.0 / 3.0],
            interpolation: Interpolation::Bilinear,
        }
    }
}

impl Settings for RandomResizedCrop {
    fn check(&self) -> Result<(), String> {
        value::size(self.size)?;
        check_area(self.scale, self.ratio)
    }

    fn size(&self, _size: Option<[usize; 2]>, target: [usize; 2]) -> Option<[usize; 2]> {
        Some(self.size.unwrap_or(target))
    }

    /// torchvision's `RandomResizedCrop.get_params`.
    fn draw(&self, frame: Frame<'_>, draw: &mut Draw, steps: &mut Steps<'_>) -> Result<(), String> {
        let [_, height, width] = frame.shape;
        let fits = |[high, wide]: [usize; 2]| (1..=height).contains(&high) && (1..=width).contains(&wide);
        let drawn = (0..TRIES).map(|_| {
            let [wide, high] = sides(height * width, self.scale, self.ratio, draw);
            [high, wide]
        });
        let area = match { drawn }.find(|&size| fits(size)) {
            Some(size) => placed([height, width], size, draw),
            None => fallback([height, width], self.ratio),
        };
        let size = self.size.unwrap_or(frame.target);
        steps.push(Move::ResizedCrop { area, size, interpolation: self.interpolation });
        Ok(())
    }
}

/// Checks a range of shares and one of aspect ratios.
pub(super) fn check_area(scale: [f64; 2], ratio: [f64; 2]) -> Result<(), String> {
    value::range("scale", scale, [0.0, 1.0])?;
    value::range("ratio", ratio, [1e-3, 1e3])
}

/// The sides of a rectangle with a random share of `area` and a random ratio of the first to the second, in whole pixels.
pub(super) fn sides(area: usize, scale: [f64; 2], ratio: [f64; 2], draw: &mut Draw) -> [usize; 2] {
    let area = area as f64 * draw.uniform(scale);
    let ratio = libm::exp(draw.uniform(ratio.map(libm::log)));
    [area * ratio, area / ratio].map(|square| square.sqrt().round_ties_even() as usize)
}

/// An area of this size at a random place.
pub(super) fn placed([height, width]: [usize; 2], [high, wide]: [usize; 2], draw: &mut Draw) -> Area {
    let (top, left) = (draw.below(height - high + 1), draw.below(width - wide + 1));
    Area { top, left, height: high, width: wide }
}

/// The largest area in the middle whose ratio is in the range.
fn fallback([height, width]: [usize; 2], [low, high]: [f64; 2]) -> Area {
    let ratio = width as f64 / height as f64;
    let pixels = |side: f64, most: usize| (side.round_ties_even() as usize).clamp(1, most);
    let [tall, wide] = if ratio < low {
        [pixels(width as f64 / low, height), width]
    } else if ratio > high {
        [height, pixels(height as f64 * high, width)]
    } else {
        [height, width]
    };
    Area { top: (height - tall) / 2, left: (width - wide) / 2, height: tall, width: wide }
}

/// A window at a random place of the padded picture: torchvision's `RandomCrop`. It leaves pictures of `size`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RandomCrop {
    /// Height and width of the window; without it the target's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<[usize; 2]>,
    /// Pixels that are added on each side.
    pub padding: usize,
    /// Whether a picture that is still too small is padded by what it lacks, on both sides; else it is refused. Not together
    /// with `padding` that mirrors.
    pub pad_if_needed: bool,
    /// Colour of what is added.
    pub fill: Fill,
    /// What is added.
    pub padding_mode: PaddingMode,
}

impl RandomCrop {
    /// Pixels that are added on both sides of a side of this length, for a window of `kept`.
    fn added(&self, length: usize, kept: usize) -> Result<usize, String> {
        let padded = length + 2 * self.padding;
        let added = match kept.checked_sub(padded) {
            Some(lacking) if self.pad_if_needed => self.padding + lacking,
            None | Some(0) => self.padding,
            Some(_) => {
                return Err(format!(
                    "a window of {kept} pixels does not fit a side of {length} with a padding of {}: set padding or \
                     pad_if_needed, or resize first",
                    self.padding
                ));
            }
        };
        let mirrors = match self.padding_mode {
            PaddingMode::Constant | PaddingMode::Edge => usize::MAX,
            PaddingMode::Reflect => length - 1,
            PaddingMode::Symmetric => length,
        };
        if added > mirrors {
            return Err(format!(
                "a side of {length} pixels cannot be padded by {added} pixels of its mirror image: at most {mirrors}"
            ));
        }
        Ok(added)
    }
}

impl Settings for RandomCrop {
    fn check(&self) -> Result<(), String> {
        value::size(self.size)?;
        let mirrors = matches!(self.padding_mode, PaddingMode::Reflect | PaddingMode::Symmetric);
        if self.pad_if_needed && self.padding > 0 && mirrors {
            return Err("pad_if_needed with padding: expected padding_mode constant or edge".into());
        }
        if self.padding > MAX_SIDE {
            return Err(format!("padding = {}: expected at most {MAX_SIDE}", self.padding));
        }
        Ok(())
    }

    fn size(&self, _size: Option<[usize; 2]>, target: [usize; 2]) -> Option<[usize; 2]> {
        Some(self.size.unwrap_or(target))
    }

    fn draw(&self, frame: Frame<'_>, draw: &mut Draw, steps: &mut Steps<'_>) -> Result<(), String> {
        let [_, height, width] = frame.shape;
        let [high, wide] = self.size.unwrap_or(frame.target);
        let mut start = |length: usize, kept: usize| {
            let added = self.added(length, kept)?;
            Ok::<isize, String>(draw.below(length + 2 * added - kept + 1) as isize - added as isize)
        };
        let (top, left) = (start(height, high)?, start(width, wide)?);
        let (mode, fill) = (self.padding_mode, self.fill.channels());
        steps.push(Move::PaddedCrop { top, left, size: [high, wide], mode, fill });
        Ok(())
    }
}

/// The middle, without chance: torchvision's `CenterCrop`. It leaves pictures of `size`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CenterCrop {
    /// Height and width of the middle; without it the target's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<[usize; 2]>,
}

impl Settings for CenterCrop {
    fn check(&self) -> Result<(), String> {
        value::size(self.size)
    }

    fn size(&self, _size: Option<[usize; 2]>, target: [usize; 2]) -> Option<[usize; 2]> {
        Some(self.size.unwrap_or(target))
    }

    fn draw(&self, frame: Frame<'_>, _draw: &mut Draw, steps: &mut Steps<'_>) -> Result<(), String> {
        let [_, height, width] = frame.shape;
        let size = self.size.unwrap_or(frame.target);
        let [high, wide] = size;
        let Some(Area { top, left, .. }) = Area::center([height, width], size) else {
            return Err(format!("a middle of {wide}x{high} does not fit {width}x{height} pixels: resize first"));
        };
        let (top, left) = (top as isize, left as isize);
        steps.push(Move::PaddedCrop { top, left, size, mode: PaddingMode::Constant, fill: [0; 3] });
        Ok(())
    }
}

/// The whole picture resized, without chance: torchvision's `Resize` of the shorter side.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Resize {
    /// What the shorter side becomes; without it that of the target times 256 / 224, as for evaluation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<usize>,
    /// How it is resized.
    pub interpolation: Interpolation,
}

impl Resize {
    fn of(&self, [height, width]: [usize; 2], [high, wide]: [usize; 2]) -> [usize; 2] {
        let short = self.size.unwrap_or_else(|| proportional([0, high, wide], 256, 224));
        let long = |long: usize, least: usize| (short as u128 * long as u128 / least as u128).max(1) as usize;
        if width <= height { [long(height, width), short] } else { [short, long(width, height)] }
    }
}

impl Settings for Resize {
    fn check(&self) -> Result<(), String> {
        match self.size {
            Some(size) if !(1..=MAX_SIDE).contains(&size) => Err(format!("size = {size}: expected 1 to {MAX_SIDE}")),
            _ => Ok(()),
        }
    }

    fn size(&self, size: Option<[usize; 2]>, target: [usize; 2]) -> Option<[usize; 2]> {
        size.map(|size| self.of(size, target))
    }

    fn draw(&self, frame: Frame<'_>, _draw: &mut Draw, steps: &mut Steps<'_>) -> Result<(), String> {
        let [_, height, width] = frame.shape;
        let size = self.of([height, width], frame.target);
        if size[0] * size[1] > MAX_SIDE * MAX_SIDE / 16 {
            return Err(format!("{width}x{height} pixels would become {}x{}: too many", size[1], size[0]));
        }
        let area = Area { top: 0, left: 0, height, width };
        steps.push(Move::ResizedCrop { area, size, interpolation: self.interpolation });
        Ok(())
    }
}
