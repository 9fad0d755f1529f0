//! Transforms of colour and sharpness.

use serde::{Deserialize, Serialize};

use super::draw::Draw;
use super::settings::{Frame, Settings, Steps};
use super::step::{Change, Move};
use super::value::{self, Spread};

/// Brightness, contrast, saturation and hue, in random order: torchvision's `ColorJitter`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ColorJitter {
    /// Factor of the brightness: so far around 1, or a range.
    pub brightness: Spread,
    /// Factor of the contrast.
    pub contrast: Spread,
    /// Factor of the saturation.
    pub saturation: Spread,
    /// Share of the circle by which hues turn: so far around 0, or a range; at most 0.5.
    pub hue: Spread,
}

impl Default for ColorJitter {
    fn default() -> ColorJitter {
        let none = Spread::Around(0.0);
        ColorJitter { brightness: none, contrast: none, saturation: none, hue: none }
    }
}

impl Settings for ColorJitter {
    fn check(&self) -> Result<(), String> {
        let factors = [("brightness", self.brightness), ("contrast", self.contrast), ("saturation", self.saturation)];
        for (name, spread) in factors {
            if let Spread::Around(reach) = spread {
                value::within(name, reach, [0.0, f64::MAX])?;
            }
            value::range(name, spread.factors(), [0.0, f64::INFINITY])?;
        }
        value::range("hue", self.hue.range(0.0), [-0.5, 0.5])?;
        if *self == ColorJitter::default() {
            return Err("nothing is changed: set brightness, contrast, saturation or hue".into());
        }
        Ok(())
    }

    /// torchvision's `ColorJitter.get_params`. What leaves colours as they are is left out.
    fn draw(&self, _frame: Frame<'_>, draw: &mut Draw, steps: &mut Steps<'_>) -> Result<(), String> {
        let factor = |spread: Spread, draw: &mut Draw| {
            let range = spread.factors();
            (range != [1.0, 1.0]).then(|| draw.uniform(range))
        };
        let turns = self.hue.range(0.0);
        let mut changes = [
            factor(self.brightness, draw).map(Change::Brightness),
            factor(self.contrast, draw).map(Change::Contrast),
            factor(self.saturation, draw).map(Change::Saturation),
            (turns != [0.0, 0.0]).then(|| Change::Hue(draw.uniform(turns))),
        ];
        draw.shuffle(&mut changes);
        changes.into_iter().flatten().for_each(|change| steps.push(change));
        Ok(())
    }
}

/// A blur: torchvision's `GaussianBlur`, always done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GaussianBlur {
    /// Width and height of the kernel in pixels, both odd; they must be set.
    pub kernel_size: [usize; 2],
    /// Standard deviation in pixels: a number, or a range that it is drawn from.
    pub sigma: Sigma,
}

/// A standard deviation, or a range of them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a number of pixels, or a pair of numbers [low, high]")]
pub enum Sigma {
    /// Always the same.
    Fixed(f64),
    /// From the first to the second.
    Between([f64; 2]),
}

impl Sigma {
    fn range(self) -> [f64; 2] {
        match self {
            Sigma::Fixed(sigma) => [sigma; 2],
            Sigma::Between(range) => range,
        }
    }
}

impl Default for GaussianBlur {
    fn default() -> GaussianBlur {
        GaussianBlur { kernel_size: [0, 0], sigma: Sigma::Between([0.1, 2.0]) }
    }
}

impl Settings for GaussianBlur {
    fn check(&self) -> Result<(), String> {
        if self.kernel_size.iter().any(|size| size % 2 == 0 || *size > 1023) {
            return Err(format!("kernel_size = {:?}: expected two odd numbers up to 1023", self.kernel_size));
        }
        value::range("sigma", self.sigma.range(), [1e-3, 1e3])
    }

    fn draw(&self, frame: Frame<'_>, draw: &mut Draw, steps: &mut Steps<'_>) -> Result<(), String> {
        let [_, height, width] = frame.shape;
        let [across, down] = self.kernel_size;
        if across / 2 >= width || down / 2 >= height {
            return Err(format!(
                "kernel_size = [{across}, {down}] reaches beyond a picture of {width}x{height} pixels"
            ));
        }
        steps.push(Move::GaussianBlur { kernel: self.kernel_size, sigma: draw.uniform(self.sigma.range()) });
        Ok(())
    }
}

/// Fewer bits: torchvision's `RandomPosterize`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Posterize {
    /// Bits that are kept of 8; they must be set.
    pub bits: u32,
    /// Probability.
    pub p: f64,
}

impl Default for Posterize {
    fn default() -> Posterize {
        Posterize { bits: 8, p: 0.5 }
    }
}

impl Settings for Posterize {
    fn check(&self) -> Result<(), String> {
        if !(1..=7).contains(&self.bits) {
            return Err(format!("bits = {}: expected 1 to 7", self.bits));
        }
        value::probability(self.p)
    }

    fn draw(&self, _frame: Frame<'_>, draw: &mut Draw, steps: &mut Steps<'_>) -> Result<(), String> {
        if draw.chance(self.p) {
            steps.push(Change::Posterize(self.bits));
        }
        Ok(())
    }
}

/// Bright values inverted: torchvision's `RandomSolarize`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Solarize {
    /// Values from this one on (of 0 to 255) are inverted; 128 unless set, as in Pillow.
    pub threshold: f64,
    /// Probability.
    pub p: f64,
}

impl Default for Solarize {
    fn default() -> Solarize {
        Solarize { threshold: 128.0, p: 0.5 }
    }
}

impl Settings for Solarize {
    fn check(&self) -> Result<(), String> {
        value::within("threshold", self.threshold, [0.0, 255.0])?;
        value::probability(self.p)
    }

    fn draw(&self, _frame: Frame<'_>, draw: &mut Draw, steps: &mut Steps<'_>) -> Result<(), String> {
        if draw.chance(self.p) {
            steps.push(Change::Solarize(self.threshold));
        }
        Ok(())
    }
}

/// Sharper or softer: torchvision's `RandomAdjustSharpness`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sharpness {
    /// 0 is blurred, 1 leaves the picture as it is, 2 is sharper; it must be set.
    pub factor: f64,
    /// Probability.
    pub p: f64,
}

impl Default for Sharpness {
    fn default() -> Sharpness {
        Sharpness { factor: 1.0, p: 0.5 }
    }
}

impl Settings for Sharpness {
    fn check(&self) -> Result<(), String> {
        if self.factor == 1.0 {
            return Err("factor = 1 changes nothing: expected another number of at least 0".into());
        }
        value::within("factor", self.factor, [0.0, f64::MAX])?;
        value::probability(self.p)
    }

    fn draw(&self, _frame: Frame<'_>, draw: &mut Draw, steps: &mut Steps<'_>) -> Result<(), String> {
        if draw.chance(self.p) {
            steps.push(Move::Sharpness(self.factor));
        }
        Ok(())
    }
}
