//! Antialiased resizing of 8-bit pictures, to the same bytes as Pillow's `resize`, which torchvision uses: weights in units
//! of 2⁻²², rounded to 8 bits after the horizontal and after the vertical pass (Pillow's `Resample.c`; version 13 does the
//! vertical pass first for some pictures over twice as high as wide, which changes bytes by 1). The weights stand here, the
//! loops over pixels in `resample.rs`.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

/// Bits of a weight below 1.
pub(super) const PRECISION: u32 = 22;

/// How a resized pixel follows from its neighbours. The names are Pillow's and timm's; filters widen when a picture shrinks
/// (antialiasing), but for `nearest`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Interpolation {
    /// The pixel at the centre alone.
    Nearest,
    /// The mean of the pixels that are covered.
    Box,
    /// A triangle: torchvision's default.
    #[default]
    Bilinear,
    /// A raised cosine times a box of the triangle's width.
    Hamming,
    /// Keys's cubic with a = -0.5.
    Bicubic,
    /// Lanczos's windowed sinc with three lobes.
    Lanczos,
}

impl Interpolation {
    /// Every interpolation, by name.
    pub const ALL: [(&'static str, Interpolation); 6] = [
        ("nearest", Interpolation::Nearest),
        ("box", Interpolation::Box),
        ("bilinear", Interpolation::Bilinear),
        ("hamming", Interpolation::Hamming),
        ("bicubic", Interpolation::Bicubic),
        ("lanczos", Interpolation::Lanczos),
    ];

    /// What it is called.
    pub fn name(self) -> &'static str {
        Interpolation::ALL.iter().find(|(_, value)| *value == self).map_or("", |(name, _)| name)
    }

    /// Whether it is the default, which files need not say.
    pub(super) fn is_default(&self) -> bool {
        *self == Interpolation::default()
    }

    /// Half the width of the filter, in pixels of the coarser picture.
    fn support(self) -> f64 {
        match self {
            Interpolation::Nearest | Interpolation::Box => 0.5,
            Interpolation::Bilinear | Interpolation::Hamming => 1.0,
            Interpolation::Bicubic => 2.0,
            Interpolation::Lanczos => 3.0,
        }
    }

    /// The filter's value at a distance from the centre.
    fn weight(self, x: f64) -> f64 {
        let sinc = |x: f64| if x == 0.0 { 1.0 } else { libm::sin(PI * x) / (PI * x) };
        let distance = x.abs();
        match self {
            Interpolation::Nearest | Interpolation::Box => f64::from(x > -0.5 && x <= 0.5),
            Interpolation::Bilinear => (1.0 - distance).max(0.0),
            Interpolation::Hamming if distance >= 1.0 => 0.0,
            Interpolation::Hamming => sinc(distance) * (0.54 + 0.46 * libm::cos(PI * distance)),
            Interpolation::Bicubic if distance < 1.0 => (1.5 * distance - 2.5) * distance * distance + 1.0,
            Interpolation::Bicubic if distance < 2.0 => ((-0.5 * distance + 2.5) * distance - 4.0) * distance + 2.0,
            Interpolation::Lanczos if (-3.0..3.0).contains(&x) => sinc(x) * sinc(x / 3.0),
            Interpolation::Bicubic | Interpolation::Lanczos => 0.0,
        }
    }
}

impl std::fmt::Display for Interpolation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Interpolation {
    type Err = String;

    fn from_str(text: &str) -> Result<Interpolation, String> {
        let found = Interpolation::ALL.iter().find(|(name, _)| name.eq_ignore_ascii_case(text.trim()));
        let names = || Interpolation::ALL.map(|(name, _)| name).join(", ");
        found.map(|(_, value)| *value).ok_or_else(|| format!("expected one of {}", names()))
    }
}

/// Along one axis: `original` pixels become `resized` ones, of which `kept` stay from `start` on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Axis {
    pub(super) original: usize,
    pub(super) resized: usize,
    pub(super) start: usize,
    pub(super) kept: usize,
}

impl Axis {
    /// Appends the weights of the neighbours that a resized pixel is made from, and says which is the first. The filter is
    /// as wide in original pixels as the picture shrinks.
    pub(super) fn weigh(&self, pixel: usize, interpolation: Interpolation, weights: &mut Vec<i32>) -> usize {
        let scale = self.original as f64 / self.resized as f64;
        let center = (pixel as f64 + 0.5) * scale;
        if interpolation == Interpolation::Nearest {
            weights.push(1 << PRECISION);
            return (center as usize).min(self.original - 1);
        }
        let stretch = scale.max(1.0);
        let support = interpolation.support() * stretch;
        let first = (center - support + 0.5).max(0.0) as usize;
        let end = ((center + support + 0.5) as usize).min(self.original);
        let height = |x: usize| interpolation.weight((x as f64 - center + 0.5) * (1.0 / stretch));
        let sum: f64 = (first..end).map(height).sum();
        let sum = if sum == 0.0 { 1.0 } else { sum };
        weights.extend((first..end).map(|x| {
            let scaled = height(x) / sum * f64::from(1 << PRECISION);
            (scaled + if scaled < 0.0 { -0.5 } else { 0.5 }) as i32
        }));
        first
    }
}

/// A sum of weighted pixels as a byte.
pub(super) fn rounded(sum: i32) -> u8 {
    ((sum + (1 << (PRECISION - 1))) >> PRECISION).clamp(0, 255) as u8
}
