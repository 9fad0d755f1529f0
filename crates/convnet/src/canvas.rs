//! A sheet for pictures that are drawn: lines, shapes, bitmaps and text. It needs no fonts of the system. Drawn at twice
//! its size and averaged down, so that every edge is smooth. Lengths are pixels of the result.

use std::path::Path;

use plotters::backend::RGBPixel;
use plotters::coord::Shift;
use plotters::element::{Drawable, PointCollection};
use plotters::prelude::*;
use plotters::style::{RGBColor, register_font, text_anchor::HPos, text_anchor::Pos, text_anchor::VPos};

use crate::files::write_atomic;
use crate::{Error, Result};

/// Side of the square of drawn pixels that becomes one.
const SCALE: usize = 2;
/// Name under which the font is registered.
const FONT: &str = "convnet";

pub(crate) const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);
pub(crate) const GREY: RGBColor = RGBColor(0x5a, 0x5a, 0x5a);
pub(crate) const GRID: RGBColor = RGBColor(0xe2, 0xe2, 0xe2);
// Blue and vermillion of Okabe and Ito's colours, which colour-blind people tell apart.
pub(crate) const BLUE: RGBColor = RGBColor(0x00, 0x72, 0xb2);
pub(crate) const VERMILLION: RGBColor = RGBColor(0xd5, 0x5e, 0x00);
/// Theirs without the yellow, which is too light for a line.
pub(crate) const COLOURS: [RGBColor; 6] = [
    BLUE,
    VERMILLION,
    RGBColor(0x00, 0x9e, 0x73),
    RGBColor(0xcc, 0x79, 0xa7),
    RGBColor(0x56, 0xb4, 0xe9),
    RGBColor(0xe6, 0x9f, 0x00),
];

/// Why something could not be drawn.
pub(crate) type Drawn<T = ()> = std::result::Result<T, String>;

/// A white sheet to draw on.
pub(crate) struct Canvas<'a> {
    area: DrawingArea<BitMapBackend<'a>, Shift>,
}

impl<'a> Canvas<'a> {
    fn draw<E>(&self, element: &E) -> Drawn
    where
        for<'e> &'e E: PointCollection<'e, (i32, i32)>,
        E: Drawable<BitMapBackend<'a>>,
    {
        self.area.draw(element).map_err(|e| e.to_string())
    }

    pub(crate) fn line(&self, points: &[(f64, f64)], colour: RGBColor, width: f64) -> Drawn {
        let points: Vec<_> = points.iter().map(|&point| scaled(point)).collect();
        self.draw(&PathElement::new(points, colour.stroke_width(scaled((width, 0.0)).0 as u32)))
    }

    pub(crate) fn disc(&self, centre: (f64, f64), radius: f64, colour: RGBColor) -> Drawn {
        self.draw(&Circle::new(scaled(centre), scaled((radius, 0.0)).0, colour.filled()))
    }

    pub(crate) fn rectangle(&self, [x, y]: [f64; 2], [width, height]: [f64; 2], colour: RGBColor) -> Drawn {
        // The drawn rectangle includes its last pixel.
        let (right, bottom) = scaled((x + width, y + height));
        self.draw(&Rectangle::new([scaled((x, y)), (right - 1, bottom - 1)], colour.filled()))
    }

    pub(crate) fn polygon(&self, corners: &[(f64, f64)], colour: RGBColor) -> Drawn {
        let corners: Vec<_> = corners.iter().map(|&corner| scaled(corner)).collect();
        self.draw(&Polygon::new(corners, colour.filled()))
    }

    /// RGB pixels, asked for in the number of columns and rows that are drawn.
    pub(crate) fn bitmap(&self, [x, y]: [f64; 2], size: [f64; 2], pixels: impl FnOnce([usize; 2]) -> Vec<u8>) -> Drawn {
        let (columns, rows) = scaled((size[0], size[1]));
        let pixels = pixels([columns as usize, rows as usize]);
        let size = (columns as u32, rows as u32);
        let bitmap = BitMapElement::<_, RGBPixel>::with_owned_buffer(scaled((x, y)), size, pixels);
        self.draw(&bitmap.ok_or("picture of the wrong size")?)
    }

    /// Text whose horizontal `anchor` is at x and whose middle is at y.
    pub(crate) fn text(&self, text: &str, size: f64, at: (f64, f64), anchor: HPos, colour: RGBColor) -> Drawn {
        // The font's box reaches further down than its letters do.
        let at = (at.0, at.1 + 0.19 * size);
        let style = font(size).color(&colour).pos(Pos::new(anchor, VPos::Center));
        self.area.draw_text(text, &style, scaled(at)).map_err(|e| e.to_string())
    }

    /// Width of a text.
    pub(crate) fn width(&self, text: &str, size: f64) -> Drawn<f64> {
        let (width, _) = font(size).box_size(text).map_err(|e| e.to_string())?;
        Ok(f64::from(width) / SCALE as f64)
    }

    /// The text, or as much of it as fits with an ellipsis.
    pub(crate) fn shortened(&self, text: &str, size: f64, width: f64) -> Drawn<String> {
        if self.width(text, size)? <= width {
            return Ok(text.into());
        }
        let mut kept: Vec<char> = text.chars().take(200).collect();
        loop {
            kept.pop();
            let short = format!("{}…", kept.iter().collect::<String>().trim_end());
            if kept.is_empty() || self.width(&short, size)? <= width {
                return Ok(short);
            }
        }
    }
}

fn font(size: f64) -> FontDesc<'static> {
    (FONT, size * SCALE as f64).into_font()
}

fn scaled((x, y): (f64, f64)) -> (i32, i32) {
    ((x * SCALE as f64).round() as i32, (y * SCALE as f64).round() as i32)
}

/// Draws a picture of that width and height, as rows of RGB pixels.
pub(crate) fn draw([width, height]: [usize; 2], draw: impl FnOnce(&Canvas) -> Drawn) -> Drawn<Vec<u8>> {
    let (columns, rows) = (width * SCALE, height * SCALE);
    let mut drawn = vec![255; columns * rows * 3];
    register_font(FONT, FontStyle::Normal, epaint_default_fonts::UBUNTU_LIGHT).map_err(|_| "bad font")?;
    let backend = BitMapBackend::with_buffer(&mut drawn, (columns as u32, rows as u32));
    draw(&Canvas { area: backend.into_drawing_area() })?;
    Ok(averaged(&drawn, columns))
}

/// Draws a picture of that width and height and writes it as PNG, atomically.
pub(crate) fn write_png(path: &Path, size: [usize; 2], draw: impl FnOnce(&Canvas) -> Drawn) -> Result<()> {
    let pixels =
        self::draw(size, draw).map_err(|problem| Error::file(path, format!("drawing it failed: {problem}")))?;
    write_atomic(path, |out| {
        let mut encoder = png::Encoder::new(out, size[0] as u32, size[1] as u32);
        encoder.set_color(png::ColorType::Rgb);
        let mut writer = encoder.write_header()?;
        writer.write_image_data(&pixels)?;
        Ok(writer.finish()?)
    })
}

/// RGB rows averaged over squares of `SCALE` pixels.
fn averaged(drawn: &[u8], columns: usize) -> Vec<u8> {
    let at = |row: usize, column: usize, channel| u32::from(drawn[3 * (row * columns + column) + channel]);
    let mut pixels = Vec::with_capacity(drawn.len() / (SCALE * SCALE));
    for row in (0..drawn.len() / (3 * columns)).step_by(SCALE) {
        for column in (0..columns).step_by(SCALE) {
            for channel in 0..3 {
                let square = (0..SCALE * SCALE).map(|i| at(row + i / SCALE, column + i % SCALE, channel));
                pixels.push((square.sum::<u32>() / (SCALE * SCALE) as u32) as u8);
            }
        }
    }
    pixels
}

/// RGB pixels of a picture of `[height, width]` in another size of `[columns, rows]`: each is the mean of what it covers.
/// `pixel` is asked for a channel (red, green, blue), row and column.
pub(crate) fn resampled(
    [height, width]: [usize; 2],
    [columns, rows]: [usize; 2],
    pixel: impl Fn(usize, usize, usize) -> u8,
) -> Vec<u8> {
    let covered = |i: usize, length: usize, count: usize| {
        let begin = i * length / count;
        begin..((i + 1) * length).div_ceil(count).max(begin + 1)
    };
    let mut resized = Vec::with_capacity(3 * columns * rows);
    for row in 0..rows {
        for column in 0..columns {
            let (ys, xs) = (covered(row, height, rows), covered(column, width, columns));
            for channel in 0..3 {
                let part = ys.clone().flat_map(|y| xs.clone().map(move |x| (y, x)));
                let sum: usize = part.map(|(y, x)| usize::from(pixel(channel, y, x))).sum();
                resized.push((sum / (ys.len() * xs.len())) as u8);
            }
        }
    }
    resized
}

#[cfg(test)]
mod tests {
    use super::resampled;

    #[test]
    fn pictures_grow_by_repetition_and_shrink_by_means() {
        let grey = resampled([1, 2], [4, 1], |_, _, x| [10, 20][x]);
        assert_eq!(grey, [10, 10, 10, 10, 10, 10, 20, 20, 20, 20, 20, 20]);
        assert_eq!(resampled([1, 2], [1, 1], |c, _, x| [[10, 20], [1, 3], [0, 2]][c][x]), [15, 2, 1]);
    }
}
