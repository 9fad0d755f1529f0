//! Rotation, affine and perspective maps, to the bytes that Pillow's `transform` gives (`Geometry.c`): the colour of each
//! output pixel's centre is looked up in the source; nearest-neighbour affine maps count in units of 2⁻¹⁶, as Pillow does.
//! Matrices are torchvision's (`_get_inverse_affine_matrix`, `_get_perspective_coeffs`) and Pillow's (`Image.rotate`).

use std::io::Write;

use crate::data::resize::Interpolation;

/// From the coordinates of an output pixel to those of the source: `(a x + b y + c, d x + e y + f)`.
pub(super) type Matrix = [f64; 6];

/// The settings of torchvision's `affine`.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(test, derive(serde::Deserialize))]
pub(super) struct AffineMap {
    /// Degrees, clockwise.
    pub(super) angle: f64,
    /// Pixels to the right and down.
    pub(super) translate: [f64; 2],
    pub(super) scale: f64,
    /// Degrees along x and y.
    pub(super) shear: [f64; 2],
    /// x and y of what stays in its place; the picture's middle when it is `None`.
    pub(super) center: Option<[f64; 2]>,
}

impl AffineMap {
    pub(super) const IDENTITY: AffineMap =
        AffineMap { angle: 0.0, translate: [0.0; 2], scale: 1.0, shear: [0.0; 2], center: None };

    /// From output to source: the inverse of T C R(angle) S(scale) SHy SHx C⁻¹.
    pub(super) fn inverse(&self, [height, width]: [usize; 2]) -> Matrix {
        let rotation = self.angle.to_radians();
        let [sx, sy] = self.shear.map(f64::to_radians);
        let [cx, cy] = self.center.unwrap_or([width as f64 * 0.5, height as f64 * 0.5]);
        let [tx, ty] = self.translate;
        let (sin, cos) = (libm::sin(rotation - sy), libm::cos(rotation - sy));
        let (skew, flat) = (libm::tan(sx), libm::cos(sy));
        let a = cos / flat;
        let b = -cos * skew / flat - libm::sin(rotation);
        let c = sin / flat;
        let d = -sin * skew / flat + libm::cos(rotation);
        let mut matrix = [d, -b, 0.0, -c, a, 0.0].map(|x| x / self.scale);
        matrix[2] += matrix[0] * (-cx - tx) + matrix[1] * (-cy - ty);
        matrix[5] += matrix[3] * (-cx - tx) + matrix[4] * (-cy - ty);
        matrix[2] += cx;
        matrix[5] += cy;
        matrix
    }
}

/// What an output pixel is made from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Lookup {
    /// Bilinear, or else the nearest pixel.
    pub(super) bilinear: bool,
    /// The colour of what lies outside the source.
    pub(super) fill: [u8; 3],
}

impl Lookup {
    /// Pillow's `transform` takes two of the interpolations that resizing knows (and bicubic, which is left out).
    pub(super) fn new(interpolation: Interpolation, fill: [u8; 3]) -> Lookup {
        Lookup { bilinear: interpolation == Interpolation::Bilinear, fill }
    }
}

/// Rotates counterclockwise by degrees around the middle, within the picture's size.
pub(super) fn rotate(planes: &[u8], shape: [usize; 3], angle: f64, lookup: Lookup, out: &mut [u8]) {
    let [_, height, width] = shape;
    let angle = angle.rem_euclid(360.0);
    let area = height * width;
    let each = |out: &mut [u8], source: &dyn Fn(usize, usize) -> usize| {
        for (plane, out) in planes.chunks_exact(area).zip(out.chunks_exact_mut(area)) {
            for (y, row) in out.chunks_exact_mut(width).enumerate() {
                row.iter_mut().enumerate().for_each(|(x, out)| *out = plane[source(x, y)]);
            }
        }
    };
    if angle == 0.0 {
        out.copy_from_slice(planes);
    } else if angle == 180.0 {
        each(out, &|x, y| area - 1 - (y * width + x));
    } else if angle == 90.0 && height == width {
        each(out, &|x, y| x * width + width - 1 - y);
    } else if angle == 270.0 && height == width {
        each(out, &|x, y| (width - 1 - x) * width + y);
    } else {
        affine(planes, shape, rotation(angle, [height, width]), lookup, out);
    }
}

/// The matrix of Pillow's `rotate`, whose sines and cosines are rounded to 15 decimal places.
fn rotation(angle: f64, [height, width]: [usize; 2]) -> Matrix {
    let radians = -angle.to_radians();
    let (sin, cos) = (libm::sin(radians), libm::cos(radians));
    let mut matrix = [rounded(cos), rounded(sin), 0.0, rounded(-sin), rounded(cos), 0.0];
    let [cx, cy] = [width as f64 / 2.0, height as f64 / 2.0];
    let [a, b, c, d, e, f] = matrix;
    matrix[2] = a * -cx + b * -cy + c + cx;
    matrix[5] = d * -cx + e * -cy + f + cy;
    matrix
}

/// Python's `round(x, 15)` of a number in -1..1: the double nearest to the decimal number of 15 places.
fn rounded(x: f64) -> f64 {
    let mut text = [0; 24];
    let room = text.len();
    let mut rest = &mut text[..];
    let left = write!(rest, "{x:.15}").map(|()| rest.len()).unwrap_or(room);
    std::str::from_utf8(&text[..room - left]).ok().and_then(|text| text.parse().ok()).unwrap_or(x)
}

/// Applies a map from output to source coordinates within the picture's size.
pub(super) fn affine(planes: &[u8], shape: [usize; 3], matrix: Matrix, lookup: Lookup, out: &mut [u8]) {
    let [_, height, width] = shape;
    let [a, b, c, d, e, f] = matrix;
    if lookup.bilinear {
        let at = |x: f64, y: f64| [a * x + b * y + c, d * x + e * y + f];
        return bilinear(planes, shape, at, lookup.fill, out);
    }
    let fits = |x: usize, y: usize| {
        let (x, y) = (x as f64, y as f64);
        (x * a + y * b + c).abs() < 32_768.0 && (x * d + y * e + f).abs() < 32_768.0
    };
    let corners = [(0, 0), (width, height), (0, height), (width, 0)];
    if (b == 0.0 && d == 0.0) || !corners.into_iter().all(|(x, y)| fits(x, y)) {
        let start = [c + b * 0.5 + a * 0.5, f + e * 0.5 + d * 0.5];
        let walk = Walk { row: start, here: start, across: [a, d], down: [b, e], x: 0, width };
        let pixels = walk.map(|[x, y]| source(x, y, height, width));
        return nearest(planes, shape, pixels, lookup.fill, out);
    }
    let fixed = |x: f64| (x * 65_536.0 + 0.5).floor() as i64;
    let start = [fixed(c + a * 0.5 + b * 0.5), fixed(f + d * 0.5 + e * 0.5)];
    let walk = Walk { row: start, here: start, across: [fixed(a), fixed(d)], down: [fixed(b), fixed(e)], x: 0, width };
    let inside = |x: i64, length: usize| usize::try_from(x >> 16).ok().filter(|&x| x < length);
    let pixels = walk.map(|[x, y]| Some(inside(y, height)? * width + inside(x, width)?));
    nearest(planes, shape, pixels, lookup.fill, out);
}

/// Applies a perspective map from output to source: [`Matrix`]'s two numbers over `g x + h y + 1`.
pub(super) fn perspective(planes: &[u8], shape: [usize; 3], map: [f64; 8], lookup: Lookup, out: &mut [u8]) {
    let [_, height, width] = shape;
    let [a, b, c, d, e, f, g, h] = map;
    let at = |x: f64, y: f64| {
        let depth = g * x + h * y + 1.0;
        [(a * x + b * y + c) / depth, (d * x + e * y + f) / depth]
    };
    if lookup.bilinear {
        return bilinear(planes, shape, at, lookup.fill, out);
    }
    let pixels = (0..height * width).map(|i| {
        let [x, y] = at((i % width) as f64 + 0.5, (i / width) as f64 + 0.5);
        source(x, y, height, width)
    });
    nearest(planes, shape, pixels, lookup.fill, out);
}

/// The map that takes four corners of the output (x, y) to `start`, those of the source, as 32-bit numbers as torchvision
/// has them. `None` when no such map exists.
pub(super) fn perspective_map(start: [[f64; 2]; 4], end: [[f64; 2]; 4]) -> Option<[f64; 8]> {
    let mut rows = [[0.0; 9]; 8];
    for (i, ([x, y], [u, v])) in end.into_iter().zip(start).enumerate() {
        rows[2 * i] = [x, y, 1.0, 0.0, 0.0, 0.0, -u * x, -u * y, u];
        rows[2 * i + 1] = [0.0, 0.0, 0.0, x, y, 1.0, -v * x, -v * y, v];
    }
    // Gauss and Jordan's elimination with the largest pivot.
    for column in 0..8 {
        let pivot = (column..8).max_by(|&i, &j| rows[i][column].abs().total_cmp(&rows[j][column].abs()))?;
        rows.swap(column, pivot);
        let lead = rows[column];
        if lead[column].abs() < 1e-9 {
            return None;
        }
        for (_, row) in rows.iter_mut().enumerate().filter(|(i, _)| *i != column) {
            let factor = row[column] / lead[column];
            row.iter_mut().zip(lead).for_each(|(x, lead)| *x -= factor * lead);
        }
    }
    Some(std::array::from_fn(|i| f64::from((rows[i][8] / rows[i][i]) as f32)))
}

/// Coordinates of the output's pixels, row by row, by adding up steps.
struct Walk<T> {
    row: [T; 2],
    here: [T; 2],
    across: [T; 2],
    down: [T; 2],
    x: usize,
    width: usize,
}

impl<T: Copy + std::ops::Add<Output = T>> Iterator for Walk<T> {
    type Item = [T; 2];

    /// The next pixel's; there is no end.
    fn next(&mut self) -> Option<[T; 2]> {
        let add = |[x, y]: [T; 2], [dx, dy]: [T; 2]| [x + dx, y + dy];
        if self.x == self.width {
            self.x = 0;
            self.row = add(self.row, self.down);
            self.here = self.row;
        }
        let here = self.here;
        self.here = add(here, self.across);
        self.x += 1;
        Some(here)
    }
}

/// The pixel that a point lies in.
fn source(x: f64, y: f64, height: usize, width: usize) -> Option<usize> {
    let inside = x >= 0.0 && y >= 0.0 && x < width as f64 && y < height as f64;
    inside.then_some(y as usize * width + x as usize)
}

/// Copies for each output pixel the source's, or the colour of the outside.
fn nearest(
    planes: &[u8],
    [channels, height, width]: [usize; 3],
    pixels: impl Iterator<Item = Option<usize>>,
    fill: [u8; 3],
    out: &mut [u8],
) {
    let area = height * width;
    for (i, pixel) in (0..area).zip(pixels) {
        for c in 0..channels {
            out[c * area + i] = pixel.map_or(fill[c], |pixel| planes[c * area + pixel]);
        }
    }
}

/// Pillow's `bilinear_filter`: the colours of four pixels, those at the edge standing for what lies beyond it.
fn bilinear(
    planes: &[u8],
    [channels, height, width]: [usize; 3],
    at: impl Fn(f64, f64) -> [f64; 2],
    fill: [u8; 3],
    out: &mut [u8],
) {
    let area = height * width;
    for i in 0..area {
        let [x, y] = at((i % width) as f64 + 0.5, (i / width) as f64 + 0.5);
        if !(x >= 0.0 && y >= 0.0 && x < width as f64 && y < height as f64) {
            (0..channels).for_each(|c| out[c * area + i] = fill[c]);
            continue;
        }
        let (x, y) = (x - 0.5, y - 0.5);
        let (left, top) = (x.floor(), y.floor());
        let (dx, dy) = (x - left, y - top);
        let clip = |x: f64, length: usize| (x.max(0.0) as usize).min(length - 1);
        let (x0, x1) = (clip(left, width), clip(left + 1.0, width));
        let (y0, y1) = (clip(top, height) * width, clip(top + 1.0, height) * width);
        for c in 0..channels {
            let plane = &planes[c * area..][..area];
            let pixel = |i: usize| f64::from(plane[i]);
            let across = |row: usize| pixel(row + x0) + (pixel(row + x1) - pixel(row + x0)) * dx;
            let (above, below) = (across(y0), across(y1));
            out[c * area + i] = (above + (below - above) * dy) as u8;
        }
    }
}
