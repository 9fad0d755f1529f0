//! Policies, which draw operations and their strengths from a table: RandAugment (Cubuk et al. 2020), TrivialAugment
//! (Müller and Hutter 2021) and AugMix (Hendrycks et al. 2020), with torchvision's operations, tables and signs
//! (`transforms/autoaugment.py`), on the functions for Pillow's pictures.

use serde::{Deserialize, Serialize};

use super::draw::Draw;
use super::settings::{Frame, Settings, Steps};
use super::step::{Change, Move, Step};
use super::value::{self, Fill};
use super::warp::AffineMap;
use crate::data::resize::Interpolation;

/// An operation of a policy, by torchvision's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Deserialize))]
pub(super) enum Operation {
    Identity,
    ShearX,
    ShearY,
    TranslateX,
    TranslateY,
    Rotate,
    Brightness,
    Color,
    Contrast,
    Sharpness,
    Posterize,
    Solarize,
    AutoContrast,
    Equalize,
}

impl Operation {
    /// In torchvision's order.
    pub(super) const ALL: [Operation; 14] = [
        Operation::Identity,
        Operation::ShearX,
        Operation::ShearY,
        Operation::TranslateX,
        Operation::TranslateY,
        Operation::Rotate,
        Operation::Brightness,
        Operation::Color,
        Operation::Contrast,
        Operation::Sharpness,
        Operation::Posterize,
        Operation::Solarize,
        Operation::AutoContrast,
        Operation::Equalize,
    ];

    /// Those of AugMix, which come first in `MIXED`, and the further ones of its `all_ops`.
    pub(super) const MIXED: [Operation; 13] = [
        Operation::ShearX,
        Operation::ShearY,
        Operation::TranslateX,
        Operation::TranslateY,
        Operation::Rotate,
        Operation::Posterize,
        Operation::Solarize,
        Operation::AutoContrast,
        Operation::Equalize,
        Operation::Brightness,
        Operation::Color,
        Operation::Contrast,
        Operation::Sharpness,
    ];

    /// Whether its magnitude has a random sign.
    pub(super) fn is_signed(self) -> bool {
        match self {
            Operation::ShearX
            | Operation::ShearY
            | Operation::TranslateX
            | Operation::TranslateY
            | Operation::Rotate
            | Operation::Brightness
            | Operation::Color
            | Operation::Contrast
            | Operation::Sharpness => true,
            Operation::Identity
            | Operation::Posterize
            | Operation::Solarize
            | Operation::AutoContrast
            | Operation::Equalize => false,
        }
    }

    /// torchvision's `_apply_op`.
    pub(super) fn step(self, magnitude: f64, Look { interpolation, fill }: Look) -> Option<Step> {
        let affine = |map: AffineMap| Some(Move::Affine { map, interpolation, fill: fill.channels() }.into());
        // The tables are of shifts per pixel, the function takes degrees.
        let shear = |shear: [f64; 2]| {
            let shear = shear.map(|shift| libm::atan(shift).to_degrees());
            affine(AffineMap { shear, center: Some([0.0; 2]), ..AffineMap::IDENTITY })
        };
        match self {
            Operation::Identity => None,
            Operation::ShearX => shear([magnitude, 0.0]),
            Operation::ShearY => shear([0.0, magnitude]),
            Operation::TranslateX => affine(AffineMap { translate: [magnitude.trunc(), 0.0], ..AffineMap::IDENTITY }),
            Operation::TranslateY => affine(AffineMap { translate: [0.0, magnitude.trunc()], ..AffineMap::IDENTITY }),
            Operation::Rotate => Some(Move::Rotate { angle: magnitude, interpolation, fill: fill.channels() }.into()),
            Operation::Brightness => Some(Change::Brightness(1.0 + magnitude).into()),
            Operation::Color => Some(Change::Saturation(1.0 + magnitude).into()),
            Operation::Contrast => Some(Change::Contrast(1.0 + magnitude).into()),
            Operation::Sharpness => Some(Move::Sharpness(1.0 + magnitude).into()),
            Operation::Posterize => Some(Change::Posterize(magnitude as u32).into()),
            Operation::Solarize => Some(Change::Solarize(magnitude).into()),
            Operation::AutoContrast => Some(Change::Autocontrast.into()),
            Operation::Equalize => Some(Change::Equalize.into()),
        }
    }
}

/// How maps of the picture are computed.
#[derive(Clone, Copy)]
pub(super) struct Look {
    pub(super) interpolation: Interpolation,
    pub(super) fill: Fill,
}

/// A table of magnitudes: `_augmentation_space` of one of torchvision's classes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Space {
    shear: f64,
    /// Shares of width and height.
    translate: [f64; 2],
    rotate: f64,
    /// The change of brightness, colour, contrast and sharpness.
    enhance: f64,
    /// Bits at the lowest magnitude, and how many fewer at the highest.
    posterize: [u32; 2],
    bins: usize,
}

impl Space {
    /// RandAugment's, for pictures of this height and width.
    pub(super) fn rand_augment([height, width]: [usize; 2], bins: usize) -> Space {
        let translate = [width, height].map(|side| 150.0 / 331.0 * side as f64);
        Space { shear: 0.3, translate, rotate: 30.0, enhance: 0.9, posterize: [8, 4], bins }
    }

    /// TrivialAugment's "wide" one.
    pub(super) fn trivial_augment_wide(bins: usize) -> Space {
        Space { shear: 0.99, translate: [32.0; 2], rotate: 135.0, enhance: 0.99, posterize: [8, 6], bins }
    }

    /// AugMix's, for pictures of this height and width.
    pub(super) fn aug_mix([height, width]: [usize; 2]) -> Space {
        let translate = [width, height].map(|side| side as f64 / 3.0);
        Space { shear: 0.3, translate, rotate: 30.0, enhance: 0.9, posterize: [4, 4], bins: AUG_MIX_BINS }
    }

    /// The magnitude at `bin` of the table's bins.
    pub(super) fn magnitude(&self, operation: Operation, bin: usize) -> f64 {
        let up_to = |most: f64| f64::from(linspace(0.0, most as f32, self.bins, bin));
        match operation {
            Operation::Identity | Operation::AutoContrast | Operation::Equalize => 0.0,
            Operation::ShearX | Operation::ShearY => up_to(self.shear),
            Operation::TranslateX => up_to(self.translate[0]),
            Operation::TranslateY => up_to(self.translate[1]),
            Operation::Rotate => up_to(self.rotate),
            Operation::Brightness | Operation::Color | Operation::Contrast | Operation::Sharpness => {
                up_to(self.enhance)
            }
            Operation::Posterize => {
                let [bits, fewer] = self.posterize;
                let bin_of_a_bit = (self.bins - 1) as f64 / f64::from(fewer);
                f64::from(bits) - f64::from((bin as f32 / bin_of_a_bit as f32).round_ties_even())
            }
            Operation::Solarize => f64::from(linspace(255.0, 0.0, self.bins, bin)),
        }
    }
}

/// `torch.linspace(start, end, count)[i]`, in 32 bits, from both ends and rounded once, as PyTorch has it.
fn linspace(start: f32, end: f32, count: usize, i: usize) -> f32 {
    let step = (end - start) / (count - 1) as f32;
    if i < count / 2 { step.mul_add(i as f32, start) } else { (-step).mul_add((count - 1 - i) as f32, end) }
}

/// Draws one of `operations`; `bin` draws the strength.
fn operation(
    operations: &[Operation],
    space: &Space,
    bin: impl FnOnce(&mut Draw) -> usize,
    look: Look,
    draw: &mut Draw,
) -> Option<Step> {
    let operation = operations[draw.below(operations.len())];
    let magnitude = space.magnitude(operation, bin(draw));
    let negative = operation.is_signed() && draw.chance(0.5);
    operation.step(if negative { -magnitude } else { magnitude }, look)
}

fn check_bins(bins: usize) -> Result<(), String> {
    match (2..=1000).contains(&bins) {
        true => Ok(()),
        false => Err(format!("num_magnitude_bins = {bins}: expected 2 to 1000")),
    }
}

/// Some operations of one strength: torchvision's `RandAugment`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RandAugment {
    /// Operations, one after the other.
    pub num_ops: usize,
    /// Their strength: a bin of the table.
    pub magnitude: usize,
    /// Bins of the table.
    pub num_magnitude_bins: usize,
    /// `nearest` or `bilinear`.
    pub interpolation: Interpolation,
    /// Colour of what comes into view.
    pub fill: Fill,
}

impl Default for RandAugment {
    fn default() -> RandAugment {
        RandAugment {
            num_ops: 2,
            magnitude: 9,
            num_magnitude_bins: 31,
            interpolation: Interpolation::Nearest,
            fill: Fill::default(),
        }
    }
}

impl Settings for RandAugment {
    fn check(&self) -> Result<(), String> {
        check_bins(self.num_magnitude_bins)?;
        if self.magnitude >= self.num_magnitude_bins {
            return Err(format!(
                "magnitude = {}: expected less than num_magnitude_bins, {}",
                self.magnitude, self.num_magnitude_bins
            ));
        }
        if !(1..=100).contains(&self.num_ops) {
            return Err(format!("num_ops = {}: expected 1 to 100", self.num_ops));
        }
        value::lookup(self.interpolation)
    }

    fn draw(&self, frame: Frame<'_>, draw: &mut Draw, steps: &mut Steps<'_>) -> Result<(), String> {
        let [_, height, width] = frame.shape;
        let space = Space::rand_augment([height, width], self.num_magnitude_bins);
        let look = Look { interpolation: self.interpolation, fill: self.fill };
        for _ in 0..self.num_ops {
            let step = operation(&Operation::ALL, &space, |_| self.magnitude, look, draw);
            step.into_iter().for_each(|step| steps.push(step));
        }
        Ok(())
    }
}

/// One operation of random strength: torchvision's `TrivialAugmentWide`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrivialAugmentWide {
    /// Bins of the table.
    pub num_magnitude_bins: usize,
    /// `nearest` or `bilinear`.
    pub interpolation: Interpolation,
    /// Colour of what comes into view.
    pub fill: Fill,
}

impl Default for TrivialAugmentWide {
    fn default() -> TrivialAugmentWide {
        TrivialAugmentWide { num_magnitude_bins: 31, interpolation: Interpolation::Nearest, fill: Fill::default() }
    }
}

impl Settings for TrivialAugmentWide {
    fn check(&self) -> Result<(), String> {
        check_bins(self.num_magnitude_bins)?;
        value::lookup(self.interpolation)
    }

    fn draw(&self, _frame: Frame<'_>, draw: &mut Draw, steps: &mut Steps<'_>) -> Result<(), String> {
        let bins = self.num_magnitude_bins;
        let space = Space::trivial_augment_wide(bins);
        let look = Look { interpolation: self.interpolation, fill: self.fill };
        let step = operation(&Operation::ALL, &space, |draw| draw.below(bins), look, draw);
        step.into_iter().for_each(|step| steps.push(step));
        Ok(())
    }
}

/// Bins of AugMix's table, and its highest severity.
const AUG_MIX_BINS: usize = 10;

/// A mixture of the picture with chains of operations on it: torchvision's `AugMix`. Its operations are those for Pillow's
/// pictures (torchvision's class turns pictures into tensors first, whose maps and rounding differ a little).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AugMix {
    /// Strengths are drawn from so many bins of 10.
    pub severity: usize,
    /// Chains.
    pub mixture_width: usize,
    /// Operations of a chain; 1 to 3, drawn for each, when it is not above 0.
    pub chain_depth: i32,
    /// Parameter of the distributions of the weights.
    pub alpha: f64,
    /// Whether brightness, colour, contrast and sharpness are among the operations.
    pub all_ops: bool,
    /// `nearest` or `bilinear`.
    pub interpolation: Interpolation,
    /// Colour of what comes into view.
    pub fill: Fill,
}

impl Default for AugMix {
    fn default() -> AugMix {
        AugMix {
            severity: 3,
            mixture_width: 3,
            chain_depth: -1,
            alpha: 1.0,
            all_ops: true,
            interpolation: Interpolation::Bilinear,
            fill: Fill::default(),
        }
    }
}

impl Settings for AugMix {
    fn check(&self) -> Result<(), String> {
        if !(1..=AUG_MIX_BINS).contains(&self.severity) {
            return Err(format!("severity = {}: expected 1 to {AUG_MIX_BINS}", self.severity));
        }
        if !(1..=100).contains(&self.mixture_width) {
            return Err(format!("mixture_width = {}: expected 1 to 100", self.mixture_width));
        }
        if self.chain_depth > 100 {
            return Err(format!("chain_depth = {}: expected at most 100", self.chain_depth));
        }
        value::within("alpha", self.alpha, [1e-3, 1e3])?;
        value::lookup(self.interpolation)
    }

    fn draw(&self, frame: Frame<'_>, draw: &mut Draw, steps: &mut Steps<'_>) -> Result<(), String> {
        let [_, height, width] = frame.shape;
        let space = Space::aug_mix([height, width]);
        let look = Look { interpolation: self.interpolation, fill: self.fill };
        let operations = if self.all_ops { &Operation::MIXED[..] } else { &Operation::MIXED[..9] };
        let original = draw.beta(self.alpha);
        steps.weights.clear();
        steps.weights.resize(self.mixture_width, 0.0);
        draw.dirichlet(self.alpha, steps.weights);
        steps.push(Change::MixStart(original as f32));
        for chain in 0..self.mixture_width {
            let depth = if self.chain_depth > 0 { self.chain_depth as usize } else { 1 + draw.below(3) };
            for _ in 0..depth {
                let step = operation(operations, &space, |draw| draw.below(self.severity), look, draw);
                step.into_iter().for_each(|step| steps.push(step));
            }
            let weight = ((1.0 - original) * steps.weights[chain]) as f32;
            steps.push(Change::MixAdd { weight, last: chain + 1 == self.mixture_width });
        }
        Ok(())
    }
}
