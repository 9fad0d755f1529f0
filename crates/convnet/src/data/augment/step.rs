//! What is done to a picture once everything random is drawn: each [`Step`] is one of torchvision's functions with its
//! parameters, and depends on nothing else.

use super::area::Area;
use super::color;
use super::draw::Draw;
use super::filter::{Blurring, sharpness};
use super::value::PaddingMode;
use super::warp::{self, AffineMap, Lookup};
use crate::data::resample::{Layout, Resampling, Source, planes_of};
use crate::data::resize::Interpolation;

/// A function of a picture.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(test, derive(serde::Deserialize), serde(untagged))]
pub(super) enum Step {
    Move(Move),
    Change(Change),
}

/// A function whose output lies elsewhere than its input.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(test, derive(serde::Deserialize), serde(rename_all = "snake_case"))]
pub(super) enum Move {
    /// An area, resized.
    ResizedCrop {
        area: Area,
        size: [usize; 2],
        interpolation: Interpolation,
    },
    /// What lies at this place of the picture, which goes on beyond its edges.
    PaddedCrop {
        top: isize,
        left: isize,
        size: [usize; 2],
        mode: PaddingMode,
        fill: [u8; 3],
    },
    /// Counterclockwise, in degrees.
    Rotate {
        angle: f64,
        interpolation: Interpolation,
        fill: [u8; 3],
    },
    Affine {
        map: AffineMap,
        interpolation: Interpolation,
        fill: [u8; 3],
    },
    /// [`warp::perspective`].
    Perspective {
        map: [f64; 8],
        interpolation: Interpolation,
        fill: [u8; 3],
    },
    Sharpness(f64),
    /// Width and height of the kernel.
    GaussianBlur {
        kernel: [usize; 2],
        sigma: f64,
    },
}

/// A function that works in place.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(test, derive(serde::Deserialize), serde(rename_all = "snake_case"))]
pub(super) enum Change {
    HorizontalFlip,
    VerticalFlip,
    Brightness(f64),
    Contrast(f64),
    Saturation(f64),
    Hue(f64),
    Grayscale,
    Posterize(u32),
    Solarize(f64),
    Equalize,
    Autocontrast,
    Invert,
    /// Added to each channel.
    Shift([i16; 3]),
    Erase {
        area: Area,
        ink: Ink,
    },
    /// Keeps the picture, and takes it into a mixture with this weight.
    MixStart(f32),
    /// Takes the picture as it is now into the mixture, and goes on with the picture that was kept, or at the end with the
    /// mixture.
    MixAdd {
        weight: f32,
        last: bool,
    },
}

impl From<Move> for Step {
    fn from(step: Move) -> Step {
        Step::Move(step)
    }
}

impl From<Change> for Step {
    fn from(step: Change) -> Step {
        Step::Change(step)
    }
}

/// What an erased area is filled with.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(test, derive(serde::Deserialize), serde(rename_all = "snake_case"))]
pub(super) enum Ink {
    Pixel([u8; 3]),
    /// Normal noise of its own in each pixel, from this key.
    Noise {
        key: u64,
        mean: [f32; 3],
        std: [f32; 3],
    },
}

/// Memory that steps use again, so that a picture allocates nothing once the first ones of its size are done.
#[derive(Debug, Default)]
pub struct Scratch {
    /// What was drawn for the picture.
    pub(super) steps: Vec<Step>,
    pub(super) weights: Vec<f64>,
    front: Vec<u8>,
    back: Vec<u8>,
    resampling: Resampling,
    blurring: Blurring,
    kept: Vec<u8>,
    mixture: Vec<f32>,
}

/// Where the picture is between two steps.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Given,
    Front,
    Out,
}

/// Does the steps that lie in `scratch` to a picture. The last must leave a picture of `out`'s size.
pub(super) fn run(given: Source<'_>, scratch: &mut Scratch, out: &mut [u8]) {
    let Scratch { steps, front, back, resampling, blurring, kept, mixture, .. } = scratch;
    let Source { bytes: planes, layout, mut shape } = given;
    let mut moves = steps.iter().filter(|step| matches!(step, Step::Move(_))).count();
    let mut place = Place::Given;
    // A crop that is resized reads pixels as they lie; all else wants planes.
    if layout == Layout::Pixels && !matches!(steps.first(), Some(Step::Move(Move::ResizedCrop { .. }))) {
        place = if moves == 0 { Place::Out } else { Place::Front };
        front.resize(if moves == 0 { 0 } else { planes.len() }, 0);
        planes_of(planes, shape[0], if moves == 0 { out } else { front });
    }
    for step in &*steps {
        match step {
            Step::Move(step) => {
                moves -= 1;
                let source = match place {
                    Place::Given => Source { bytes: planes, layout, shape },
                    Place::Front | Place::Out => Source { bytes: &*front, layout: Layout::Planes, shape },
                };
                let [high, wide] = step.size(shape);
                // The last one to move the picture writes where it is wanted.
                if moves == 0 {
                    step.apply(source, resampling, blurring, out);
                    place = Place::Out;
                } else {
                    back.resize(shape[0] * high * wide, 0);
                    step.apply(source, resampling, blurring, back);
                    std::mem::swap(front, back);
                    place = Place::Front;
                }
                shape = [shape[0], high, wide];
            }
            Step::Change(step) => {
                if place == Place::Given && moves == 0 {
                    out.copy_from_slice(planes);
                    place = Place::Out;
                } else if place == Place::Given {
                    planes.clone_into(front);
                    place = Place::Front;
                }
                step.apply(if place == Place::Out { out } else { front }, shape, kept, mixture);
            }
        }
    }
    if place == Place::Given {
        out.copy_from_slice(planes);
    }
}

impl Move {
    /// Height and width of what it makes of a picture of this shape.
    fn size(&self, [_, height, width]: [usize; 3]) -> [usize; 2] {
        match *self {
            Move::ResizedCrop { size, .. } | Move::PaddedCrop { size, .. } => size,
            Move::Rotate { .. }
            | Move::Affine { .. }
            | Move::Perspective { .. }
            | Move::Sharpness(_)
            | Move::GaussianBlur { .. } => [height, width],
        }
    }

    fn apply(&self, source: Source<'_>, resampling: &mut Resampling, blurring: &mut Blurring, out: &mut [u8]) {
        let Source { bytes: planes, shape, .. } = source;
        match *self {
            Move::ResizedCrop { area, size, interpolation } => {
                resampling.resized_crop(source, area, size, interpolation, out);
            }
            Move::PaddedCrop { top, left, size, mode, fill } => {
                padded_crop(planes, shape, [top, left], size, mode, fill, out);
            }
            Move::Rotate { angle, interpolation, fill } => {
                warp::rotate(planes, shape, angle, Lookup::new(interpolation, fill), out);
            }
            Move::Affine { map, interpolation, fill } => {
                let matrix = map.inverse([shape[1], shape[2]]);
                warp::affine(planes, shape, matrix, Lookup::new(interpolation, fill), out);
            }
            Move::Perspective { map, interpolation, fill } => {
                warp::perspective(planes, shape, map, Lookup::new(interpolation, fill), out);
            }
            Move::Sharpness(factor) => sharpness(planes, shape, factor, out),
            Move::GaussianBlur { kernel, sigma } => blurring.blur(planes, shape, kernel, sigma, out),
        }
    }
}

impl Change {
    fn apply(&self, planes: &mut [u8], shape: [usize; 3], kept: &mut Vec<u8>, mixture: &mut Vec<f32>) {
        let [channels, height, width] = shape;
        match *self {
            Change::HorizontalFlip => planes.chunks_exact_mut(width).for_each(<[u8]>::reverse),
            Change::VerticalFlip => vertical_flip(planes, height, width),
            Change::Brightness(factor) => color::brightness(planes, factor),
            Change::Contrast(factor) => color::contrast(planes, channels, factor),
            Change::Saturation(factor) => color::saturation(planes, channels, factor),
            Change::Hue(factor) => color::hue(planes, channels, factor),
            Change::Grayscale => color::grayscale(planes, channels),
            Change::Posterize(bits) => color::posterize(planes, bits),
            Change::Solarize(threshold) => color::solarize(planes, threshold),
            Change::Equalize => color::equalize(planes, channels),
            Change::Autocontrast => color::autocontrast(planes, channels),
            Change::Invert => color::invert(planes),
            Change::Shift(shift) => color::add(planes, channels, shift),
            Change::Erase { area, ref ink } => erase(planes, shape, area, ink),
            Change::MixStart(weight) => {
                (*planes).clone_into(kept);
                mixture.clear();
                mixture.extend(planes.iter().map(|&x| weight * f32::from(x)));
            }
            Change::MixAdd { weight, last } => {
                mixture.iter_mut().zip(&*planes).for_each(|(sum, &x)| *sum += weight * f32::from(x));
                match last {
                    true => planes.iter_mut().zip(&*mixture).for_each(|(x, &sum)| *x = sum as u8),
                    false => planes.copy_from_slice(kept),
                }
            }
        }
    }
}

fn vertical_flip(planes: &mut [u8], height: usize, width: usize) {
    for plane in planes.chunks_exact_mut(height * width) {
        let (top, bottom) = plane.split_at_mut(height / 2 * width);
        let rows = bottom.chunks_exact_mut(width).rev();
        top.chunks_exact_mut(width).zip(rows).for_each(|(above, below)| above.swap_with_slice(below));
    }
}

fn padded_crop(
    planes: &[u8],
    [_, height, width]: [usize; 3],
    [top, left]: [isize; 2],
    [high, wide]: [usize; 2],
    mode: PaddingMode,
    fill: [u8; 3],
    out: &mut [u8],
) {
    let planes = planes.chunks_exact(height * width).zip(out.chunks_exact_mut(high * wide)).zip(fill);
    // Columns of the output that the picture itself covers.
    let start = left.min(0).unsigned_abs().min(wide);
    let end = (width as isize - left).clamp(start as isize, wide as isize) as usize;
    for ((plane, out), fill) in planes {
        for (y, out) in out.chunks_exact_mut(wide).enumerate() {
            let Some(y) = mode.source(top + y as isize, height) else {
                out.fill(fill);
                continue;
            };
            let line = &plane[y * width..][..width];
            let beyond = |x: usize| mode.source(left + x as isize, width).map_or(fill, |x| line[x]);
            (0..start).chain(end..wide).for_each(|x| out[x] = beyond(x));
            if start < end {
                out[start..end].copy_from_slice(&line[(left + start as isize) as usize..][..end - start]);
            }
        }
    }
}

fn erase(planes: &mut [u8], [_, height, width]: [usize; 3], area: Area, ink: &Ink) {
    let rows = planes.chunks_exact_mut(height * width).enumerate().flat_map(|(c, plane)| {
        let rows = plane.chunks_exact_mut(width).skip(area.top).take(area.height);
        rows.map(move |row| (c, &mut row[area.left..][..area.width]))
    });
    match *ink {
        Ink::Pixel(pixel) => rows.for_each(|(c, row)| row.fill(pixel[c])),
        Ink::Noise { key, mean, std } => {
            let mut draw = Draw::of_key(key);
            for (c, row) in rows {
                let mut value = || f64::from(mean[c]) + f64::from(std[c]) * draw.normal();
                row.fill_with(|| (value() * 255.0).round() as u8);
            }
        }
    }
}
