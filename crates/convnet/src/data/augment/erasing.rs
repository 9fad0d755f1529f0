//! Random erasing (Zhong et al. 2020): torchvision's `RandomErasing`, on bytes.
//!
//! torchvision erases after normalisation, where its default value, 0, is the mean colour. Here normalisation comes last,
//! so the default is the mean colour as a byte, and random pixels are the bytes nearest to normal noise around the mean,
//! cut off at 0 and 255.

use serde::{Deserialize, Serialize};

use super::crop::{TRIES, check_area, placed, sides};
use super::draw::Draw;
use super::settings::{Frame, Settings, Steps};
use super::step::{Change, Ink};
use super::value::{self, Fill};

/// What an erased area is filled with.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected \"mean\", \"random\", a value of 0 to 255, or three of them")]
pub enum Erased {
    /// Something that the data set decides.
    Named(Filling),
    /// A colour.
    Color(Fill),
}

/// What an erased area is filled with, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Filling {
    /// The normalisation's mean, which becomes 0.
    Mean,
    /// Normal noise in each pixel, with the normalisation's mean and standard deviation.
    Random,
}

/// A rectangle erased: torchvision's `RandomErasing`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RandomErasing {
    /// Probability.
    pub p: f64,
    /// Share of the picture's area, uniform in this range.
    pub scale: [f64; 2],
    /// Height over width, its logarithm uniform in this range.
    pub ratio: [f64; 2],
    /// What comes in its place: `mean`, `random`, or a colour.
    pub value: Erased,
}

impl Default for RandomErasing {
    fn default() -> RandomErasing {
        RandomErasing { p: 0.5, scale: [0.02, 0.33], ratio: [0.3, 3.3], value: Erased::Named(Filling::Mean) }
    }
}

impl Settings for RandomErasing {
    fn check(&self) -> Result<(), String> {
        value::probability(self.p)?;
        check_area(self.scale, self.ratio)
    }

    /// torchvision's `RandomErasing.get_params`: nothing is erased when no area fits.
    fn draw(&self, frame: Frame<'_>, draw: &mut Draw, steps: &mut Steps<'_>) -> Result<(), String> {
        if !draw.chance(self.p) {
            return Ok(());
        }
        let [_, height, width] = frame.shape;
        let drawn = (0..TRIES).map(|_| sides(height * width, self.scale, self.ratio, draw));
        let Some(size) = { drawn }.find(|&[high, wide]| high < height && wide < width) else { return Ok(()) };
        let area = placed([height, width], size, draw);
        let of = |values: &[f32]| std::array::from_fn(|c| values.get(c).copied().unwrap_or(0.0));
        let ink = match self.value {
            Erased::Color(fill) => Ink::Pixel(fill.channels()),
            Erased::Named(Filling::Mean) => Ink::Pixel(of(frame.mean).map(|mean| (mean * 255.0).round() as u8)),
            Erased::Named(Filling::Random) => Ink::Noise { key: draw.key(), mean: of(frame.mean), std: of(frame.std) },
        };
        steps.push(Change::Erase { area, ink });
        Ok(())
    }
}
