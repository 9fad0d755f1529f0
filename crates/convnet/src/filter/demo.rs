//! A picture to try filters on: flat areas, gradients, texture, text, and edges in every direction. All of it is computed.

use plotters::style::{RGBColor, text_anchor::HPos};

use crate::canvas::{Canvas, Drawn, draw};
use crate::data::bitmap::Bitmap;

const HEIGHT: usize = 200;
const WIDTH: usize = 300;
/// Where the sea begins.
const HORIZON: f64 = 122.0;
/// Middle of the sun.
const SUN: (f64, f64) = (252.0, 38.0);

const WHITE: RGBColor = RGBColor(0xf7, 0xf4, 0xea);
const RED: RGBColor = RGBColor(0xc4, 0x2b, 0x2b);
const DARK: RGBColor = RGBColor(0x2b, 0x2f, 0x3a);
const LAMP: RGBColor = RGBColor(0xff, 0xd9, 0x66);
const ORANGE: RGBColor = RGBColor(0xe0, 0x7b, 0x39);
const BLUE: RGBColor = RGBColor(0x1f, 0x3a, 0x5f);

/// A lighthouse by the sea, 300 x 200 pixels in colour.
pub fn scene() -> Bitmap {
    let drawn = draw([WIDTH, HEIGHT], |canvas| {
        canvas.bitmap([0.0, 0.0], [WIDTH as f64, HEIGHT as f64], |[columns, rows]| {
            let scale = WIDTH as f64 / columns as f64;
            let pixel = |i: usize| landscape((i % columns) as f64 * scale, (i / columns) as f64 * scale);
            (0..columns * rows).flat_map(pixel).collect()
        })?;
        canvas.disc(SUN, 17.0, RGBColor(0xff, 0xe9, 0xa8))?;
        boat(canvas)?;
        lighthouse(canvas)?;
        fence(canvas)?;
        canvas.text("convolution", 27.0, (148.0, 78.0), HPos::Left, BLUE)
    });
    let pixels = drawn.expect("a picture without input is always drawn");
    Bitmap::new([3, HEIGHT, WIDTH], pixels).expect("drawn in that size")
}

/// Sky, sea and meadow.
fn landscape(x: f64, y: f64) -> [u8; 3] {
    let shore = 153.0 + 11.0 * (x / 55.0 + 0.6).sin() + 0.10 * (x - 148.0).abs();
    let colour = if y > shore {
        // Blades of grass: noise that is drawn out upwards.
        let blade = noise(x.floor(), (y / 5.0 + 3.0 * noise(x.floor(), 1.0)).floor());
        let depth = (y - shore) / 47.0;
        [70.0, 128.0, 58.0].map(|c: f64| c * (1.05 - 0.35 * depth) + 30.0 * (blade - 0.5))
    } else if y > HORIZON {
        let depth = (y - HORIZON) / 40.0;
        // Waves grow longer towards the shore.
        let wave = (14.0 * (1.0 + (y - HORIZON) / 11.0).ln() + 1.6 * (x / (7.0 + 11.0 * depth)).sin()).sin();
        [32.0, 98.0, 142.0].map(|c: f64| c * (0.8 + 0.35 * depth) + 18.0 * wave)
    } else {
        let (height, glow) = (y / HORIZON, (-((x - SUN.0).powi(2) + (y - SUN.1).powi(2)) / 3_600.0).exp());
        let sky = mix([92.0, 152.0, 214.0], [232.0, 226.0, 206.0], height.powf(1.4));
        mix(mix(sky, [255.0, 244.0, 200.0], 0.8 * glow), [252.0; 3], cloud(x, y))
    };
    colour.map(|c| c.clamp(0.0, 255.0) as u8)
}

/// How much of a cloud is at a place: soft discs, of which the densest counts.
fn cloud(x: f64, y: f64) -> f64 {
    const PUFFS: [(f64, f64, f64); 8] = [
        (18.0, 38.0, 13.0),
        (33.0, 31.0, 16.0),
        (50.0, 36.0, 14.0),
        (64.0, 41.0, 10.0),
        (150.0, 26.0, 9.0),
        (162.0, 21.0, 12.0),
        (176.0, 25.0, 10.0),
        (187.0, 29.0, 7.0),
    ];
    let puff = |&(cx, cy, radius): &(f64, f64, f64)| {
        let distance = ((x - cx).powi(2) + (1.5 * (y - cy)).powi(2)).sqrt() / radius;
        0.9 * (2.4 - 2.0 * distance).clamp(0.0, 1.0)
    };
    PUFFS.iter().map(puff).fold(0.0, f64::max)
}

fn mix(a: [f64; 3], b: [f64; 3], share: f64) -> [f64; 3] {
    std::array::from_fn(|i| a[i] + (b[i] - a[i]) * share)
}

/// A number of 0 to 1 that looks random, the same everywhere: the bits of two whole numbers, mixed.
fn noise(x: f64, y: f64) -> f64 {
    let mut bits =
        (x as i64 as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (y as i64 as u64).wrapping_mul(0xc2b2_ae3d_27d4_eb4f);
    bits = (bits ^ (bits >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (bits >> 40) as f64 / (1u64 << 24) as f64
}

/// A striped tower that grows narrower, with its lamp. Its right side lies in the shade.
fn lighthouse(canvas: &Canvas) -> Drawn {
    const STRIPES: u32 = 6;
    let (middle, top, foot) = (104.0, 54.0, 168.0);
    let reach = |y: f64| 10.0 + 9.0 * (y - top) / (foot - top);
    for stripe in 0..STRIPES {
        let end = |stripe: u32| top + (foot - top) * f64::from(stripe) / f64::from(STRIPES);
        let (above, below) = (end(stripe), end(stripe + 1));
        let colour = if stripe.is_multiple_of(2) { RED } else { WHITE };
        let shade = |part: u8| (f64::from(part) * 0.76) as u8;
        let shade = RGBColor(shade(colour.0), shade(colour.1), shade(colour.2));
        for (from, to, colour) in [(-1.0, 0.35, colour), (0.35, 1.0, shade)] {
            let corner = |share: f64, y: f64| (middle + share * reach(y), y);
            canvas
                .polygon(&[corner(from, above), corner(to, above), corner(to, below), corner(from, below)], colour)?;
        }
    }
    canvas.rectangle([middle - 15.0, top - 4.0], [30.0, 4.0], DARK)?;
    canvas.rectangle([middle - 7.5, top - 20.0], [15.0, 16.0], LAMP)?;
    for bar in [-8.0, -3.0, 2.0, 7.0] {
        canvas.rectangle([middle + bar, top - 20.0], [1.0, 16.0], DARK)?;
    }
    canvas.polygon(&[(middle - 10.0, top - 20.0), (middle + 10.0, top - 20.0), (middle, top - 31.0)], DARK)?;
    for window in [79.0, 117.0] {
        canvas.rectangle([middle - 3.0, window], [6.0, 9.0], DARK)?;
    }
    canvas.rectangle([middle - 5.0, foot - 15.0], [10.0, 15.0], DARK)
}

/// A boat with two sails.
fn boat(canvas: &Canvas) -> Drawn {
    canvas.polygon(&[(232.0, 102.0), (232.0, 126.0), (251.0, 126.0)], WHITE)?;
    canvas.polygon(&[(229.0, 106.0), (229.0, 126.0), (218.0, 126.0)], ORANGE)?;
    canvas.rectangle([230.0, 98.0], [1.0, 31.0], DARK)?;
    canvas.polygon(&[(216.0, 129.0), (252.0, 129.0), (245.0, 137.0), (222.0, 137.0)], DARK)
}

/// Thin upright, level and slanting lines.
fn fence(canvas: &Canvas) -> Drawn {
    for post in 0..8 {
        let x = 164.0 + 16.0 * f64::from(post);
        canvas.rectangle([x, 165.0], [4.0, 26.0], WHITE)?;
        canvas.polygon(&[(x, 165.0), (x + 4.0, 165.0), (x + 2.0, 161.0)], WHITE)?;
        if post < 7 {
            canvas.line(&[(x + 4.0, 184.0), (x + 16.0, 173.0)], WHITE, 1.0)?;
        }
    }
    canvas.rectangle([158.0, 170.0], [130.0, 3.0], WHITE)?;
    canvas.rectangle([158.0, 183.0], [130.0, 3.0], WHITE)
}

#[cfg(test)]
mod tests {
    use super::scene;

    #[test]
    fn the_scene_has_dark_bright_and_coloured_pixels() {
        let scene = scene();
        let pixels = scene.pixels().as_chunks::<3>().0;
        let share =
            |is: fn(&[u8; 3]) -> bool| pixels.iter().filter(|pixel| is(pixel)).count() as f64 / pixels.len() as f64;
        assert!(share(|&[r, g, b]| r.max(g).max(b) < 64) > 0.005);
        assert!(share(|&[r, g, b]| r.min(g).min(b) > 230) > 0.01);
        assert!(
            share(|&[r, _, b]| b > r.saturating_add(60)) > 0.1 && share(|&[r, g, _]| r > g.saturating_add(80)) > 0.01
        );
    }
}
