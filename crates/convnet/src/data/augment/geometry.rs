//! Transforms that move pixels within the picture's size.

use serde::{Deserialize, Serialize};

use super::draw::Draw;
use super::settings::{Frame, Settings, Steps};
use super::step::Move;
use super::value::{self, Fill, Spread};
use super::warp::{AffineMap, perspective_map};
use crate::data::resize::Interpolation;

const DEGREES: [f64; 2] = [-360.0, 360.0];

/// A turn around the middle: torchvision's `RandomRotation`, without its `expand` and `center`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rotation {
    /// Degrees, counterclockwise; they must be set.
    pub degrees: Spread,
    /// `nearest` or `bilinear`.
    pub interpolation: Interpolation,
    /// Colour of what comes into view.
    pub fill: Fill,
}

impl Default for Rotation {
    fn default() -> Rotation {
        Rotation { degrees: Spread::Around(0.0), interpolation: Interpolation::Nearest, fill: Fill::default() }
    }
}

impl Settings for Rotation {
    fn check(&self) -> Result<(), String> {
        let degrees = self.degrees.range(0.0);
        if degrees == [0.0, 0.0] {
            return Err("degrees = 0: expected a number above 0, or a pair [low, high]".into());
        }
        value::range("degrees", degrees, DEGREES)?;
        value::lookup(self.interpolation)
    }

    fn draw(&self, _frame: Frame<'_>, draw: &mut Draw, steps: &mut Steps<'_>) -> Result<(), String> {
        let angle = draw.uniform(self.degrees.range(0.0));
        steps.push(Move::Rotate { angle, interpolation: self.interpolation, fill: self.fill.channels() });
        Ok(())
    }
}

/// Degrees by which lines slant.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "expected a number of degrees, [low, high] along x, or [low, high, low, high] along x and y"
)]
pub enum Shear {
    /// Along x, so far to both sides of 0.
    Around(f64),
    /// Along x.
    Along([f64; 2]),
    /// Along x and along y.
    Both([f64; 4]),
}

impl Shear {
    fn ranges(self) -> [[f64; 2]; 2] {
        match self {
            Shear::Around(reach) => [[-reach, reach], [0.0; 2]],
            Shear::Along(range) => [range, [0.0; 2]],
            Shear::Both([a, b, c, d]) => [[a, b], [c, d]],
        }
    }
}

/// Rotation, shift, scaling and shear around the middle: torchvision's `RandomAffine`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Affine {
    /// Degrees of rotation, clockwise.
    pub degrees: Spread,
    /// Largest shift to the right (or left) and down (or up), as shares of width and height; in whole pixels.
    pub translate: [f64; 2],
    /// Range of the factor by which the picture grows.
    pub scale: [f64; 2],
    /// Degrees of shear.
    pub shear: Shear,
    /// `nearest` or `bilinear`.
    pub interpolation: Interpolation,
    /// Colour of what comes into view.
    pub fill: Fill,
}

impl Default for Affine {
    fn default() -> Affine {
        Affine {
            degrees: Spread::Around(0.0),
            translate: [0.0; 2],
            scale: [1.0; 2],
            shear: Shear::Around(0.0),
            interpolation: Interpolation::Nearest,
            fill: Fill::default(),
        }
    }
}

impl Settings for Affine {
    fn check(&self) -> Result<(), String> {
        value::range("degrees", self.degrees.range(0.0), DEGREES)?;
        for (name, share) in ["translate (width)", "translate (height)"].into_iter().zip(self.translate) {
            value::within(name, share, [0.0, 1.0])?;
        }
        value::range("scale", self.scale, [1e-3, 1e3])?;
        let [along, upright] = self.shear.ranges();
        value::range("shear (x)", along, [-89.0, 89.0])?;
        value::range("shear (y)", upright, [-89.0, 89.0])?;
        value::lookup(self.interpolation)
    }

    /// torchvision's `RandomAffine.get_params`.
    fn draw(&self, frame: Frame<'_>, draw: &mut Draw, steps: &mut Steps<'_>) -> Result<(), String> {
        let [_, height, width] = frame.shape;
        let angle = draw.uniform(self.degrees.range(0.0));
        let most = [self.translate[0] * width as f64, self.translate[1] * height as f64];
        let translate = most.map(|most| draw.uniform([-most, most]).round_ties_even());
        let scale = draw.uniform(self.scale);
        let shear = self.shear.ranges().map(|range| draw.uniform(range));
        let map = AffineMap { angle, translate, scale, shear, center: None };
        steps.push(Move::Affine { map, interpolation: self.interpolation, fill: self.fill.channels() });
        Ok(())
    }
}

/// The corners moved inwards: torchvision's `RandomPerspective`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Perspective {
    /// How far corners move at most: 1 is half the picture.
    pub distortion_scale: f64,
    /// Probability.
    pub p: f64,
    /// `nearest` or `bilinear`.
    pub interpolation: Interpolation,
    /// Colour of what comes into view.
    pub fill: Fill,
}

impl Default for Perspective {
    fn default() -> Perspective {
        Perspective { distortion_scale: 0.5, p: 0.5, interpolation: Interpolation::Bilinear, fill: Fill::default() }
    }
}

impl Settings for Perspective {
    fn check(&self) -> Result<(), String> {
        value::within("distortion_scale", self.distortion_scale, [0.0, 1.0])?;
        value::probability(self.p)?;
        value::lookup(self.interpolation)
    }

    /// torchvision's `RandomPerspective.get_params`.
    fn draw(&self, frame: Frame<'_>, draw: &mut Draw, steps: &mut Steps<'_>) -> Result<(), String> {
        if !draw.chance(self.p) {
            return Ok(());
        }
        let [_, height, width] = frame.shape;
        let reach = |side: usize| (self.distortion_scale * (side / 2) as f64) as usize;
        let mut low = |side: usize| draw.below(reach(side) + 1);
        let (left, top) = ([low(width), low(width)], [low(height), low(height)]);
        let mut high = |side: usize| side - 1 - draw.below((reach(side) + 1).min(side));
        let (right, bottom) = ([high(width), high(width)], [high(height), high(height)]);
        let end = [[left[0], top[0]], [right[0], top[1]], [right[1], bottom[0]], [left[1], bottom[1]]];
        let start = [[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]];
        let numbers = |corners: [[usize; 2]; 4]| corners.map(|corner| corner.map(|x| x as f64));
        // Corners of a picture a pixel wide can coincide: it stays as it is.
        if let Some(map) = perspective_map(numbers(start), numbers(end)) {
            steps.push(Move::Perspective { map, interpolation: self.interpolation, fill: self.fill.channels() });
        }
        Ok(())
    }
}
