//! Changes of colour, to Pillow's bytes: `ImageEnhance` (a blend with what has none of the quality), `ImageOps` (tables of
//! 256 values), and torchvision's `adjust_hue` over Pillow's conversions to HSV and back (`Convert.c`, after `colorsys.py`).

use crate::data::picture::luma;

/// Pillow's `Image.blend`: `from` for a factor of 0, `to` for 1; cut off towards 0, and at 0 and 255.
pub(super) fn blend(from: u8, to: u8, factor: f32) -> u8 {
    (f32::from(from) + factor * (f32::from(to) - f32::from(from))) as u8
}

/// Replaces every value by the table's.
fn replace(plane: &mut [u8], table: impl Fn(u8) -> u8) {
    let table: [u8; 256] = std::array::from_fn(|x| table(x as u8));
    plane.iter_mut().for_each(|x| *x = table[usize::from(*x)]);
}

/// The luma of each pixel of a picture in three planes.
fn lumas(planes: &[u8]) -> impl Iterator<Item = u8> {
    let (red, rest) = planes.split_at(planes.len() / 3);
    let (green, blue) = rest.split_at(red.len());
    red.iter().zip(green).zip(blue).map(|((&r, &g), &b)| luma([r, g, b]))
}

/// Applies `change` to the colour of every pixel of a picture in three planes.
fn each_pixel(planes: &mut [u8], change: impl Fn([u8; 3]) -> [u8; 3]) {
    let area = planes.len() / 3;
    let (red, rest) = planes.split_at_mut(area);
    let (green, blue) = rest.split_at_mut(area);
    for ((r, g), b) in red.iter_mut().zip(green).zip(blue) {
        [*r, *g, *b] = change([*r, *g, *b]);
    }
}

pub(super) fn brightness(planes: &mut [u8], factor: f64) {
    replace(planes, |x| blend(0, x, factor as f32));
}

/// The grey that has no contrast is the mean luma.
pub(super) fn contrast(planes: &mut [u8], channels: usize, factor: f64) {
    let sum: u64 = match channels {
        1 => planes.iter().map(|&x| u64::from(x)).sum(),
        _ => lumas(planes).map(u64::from).sum(),
    };
    let mean = (sum as f64 / (planes.len() / channels).max(1) as f64 + 0.5) as u8;
    replace(planes, |x| blend(mean, x, factor as f32));
}

pub(super) fn saturation(planes: &mut [u8], channels: usize, factor: f64) {
    if channels == 3 {
        each_pixel(planes, |pixel| {
            let grey = luma(pixel);
            pixel.map(|x| blend(grey, x, factor as f32))
        });
    }
}

pub(super) fn grayscale(planes: &mut [u8], channels: usize) {
    if channels == 3 {
        each_pixel(planes, |pixel| [luma(pixel); 3]);
    }
}

/// Turns hues by a share of the circle, in 255 steps as Pillow has it.
pub(super) fn hue(planes: &mut [u8], channels: usize, factor: f64) {
    if channels == 3 {
        let turn = (factor * 255.0) as i32 as u8;
        each_pixel(planes, |pixel| {
            let [h, s, v] = hsv(pixel);
            rgb([h.wrapping_add(turn), s, v])
        });
    }
}

/// Pillow's conversion from red, green and blue. Which steps are in 32 and which in 64 bits decides some bytes.
fn hsv(pixel: [u8; 3]) -> [u8; 3] {
    let [r, g, b] = pixel;
    let (most, least) = (r.max(g).max(b), r.min(g).min(b));
    if most == least {
        return [0, 0, most];
    }
    let range = f32::from(most - least);
    let saturation = range / f32::from(most);
    let [rc, gc, bc] = pixel.map(|x| f32::from(most - x) / range);
    let sector = if r == most {
        bc - gc
    } else if g == most {
        (2.0 + f64::from(rc) - f64::from(bc)) as f32
    } else {
        (4.0 + f64::from(gc) - f64::from(rc)) as f32
    };
    let hue = ((f64::from(sector) / 6.0 + 1.0) % 1.0) as f32;
    let byte = |x: f32| (f64::from(x) * 255.0) as u8;
    [byte(hue), byte(saturation), most]
}

/// Pillow's conversion to red, green and blue.
fn rgb([h, s, v]: [u8; 3]) -> [u8; 3] {
    if s == 0 {
        return [v; 3];
    }
    let turns = f64::from(h) * 6.0 / 255.0;
    let sector = turns.floor();
    let fraction = (turns - sector) as f32;
    let saturation = (f64::from(s) / 255.0) as f32;
    let value = |lost: f64| (f64::from(v) * (1.0 - lost)).round() as u8;
    let p = value(f64::from(saturation));
    let q = value(f64::from(saturation * fraction));
    let t = value(f64::from(saturation) * (1.0 - f64::from(fraction)));
    match sector as u8 % 6 {
        0 => [v, t, p],
        1 => [q, v, p],
        2 => [p, v, t],
        3 => [p, q, v],
        4 => [t, p, v],
        _ => [v, p, q],
    }
}

/// Keeps the upper `bits` of 8.
pub(super) fn posterize(planes: &mut [u8], bits: u32) {
    let mask = 0xFF_u8.checked_shl(8_u32.saturating_sub(bits)).unwrap_or(0);
    planes.iter_mut().for_each(|x| *x &= mask);
}

/// Inverts values from the threshold on.
pub(super) fn solarize(planes: &mut [u8], threshold: f64) {
    replace(planes, |x| if f64::from(x) < threshold { x } else { 255 - x });
}

pub(super) fn invert(planes: &mut [u8]) {
    planes.iter_mut().for_each(|x| *x = 255 - *x);
}

/// Stretches each channel to 0..255.
pub(super) fn autocontrast(planes: &mut [u8], channels: usize) {
    for plane in planes.chunks_exact_mut(planes.len() / channels) {
        let (low, high) = plane.iter().fold((255, 0), |(low, high), &x| (x.min(low), x.max(high)));
        if high > low {
            let scale = 255.0 / f64::from(high - low);
            let offset = -f64::from(low) * scale;
            replace(plane, |x| (f64::from(x) * scale + offset) as u8);
        }
    }
}

/// Makes the values of each channel equally frequent.
pub(super) fn equalize(planes: &mut [u8], channels: usize) {
    for plane in planes.chunks_exact_mut(planes.len() / channels) {
        let mut histogram = [0_usize; 256];
        plane.iter().for_each(|&x| histogram[usize::from(x)] += 1);
        let last = histogram.iter().rev().find(|&&count| count > 0).copied().unwrap_or(0);
        let step = (plane.len() - last) / 255;
        if step == 0 {
            continue;
        }
        let mut sum = step / 2;
        let table = histogram.map(|count| {
            let value = (sum / step) as u8;
            sum += count;
            value
        });
        replace(plane, |x| table[usize::from(x)]);
    }
}

/// Adds to each channel, cut off at 0 and 255.
pub(super) fn add(planes: &mut [u8], channels: usize, shift: [i16; 3]) {
    for (plane, shift) in planes.chunks_exact_mut(planes.len() / channels).zip(shift) {
        plane.iter_mut().for_each(|x| *x = (i16::from(*x) + shift).clamp(0, 255) as u8);
    }
}
