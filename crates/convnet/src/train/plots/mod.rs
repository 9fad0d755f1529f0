//! The pictures of a run: [`curves`] over the epochs and a grid of [`predictions`], as PNG. They need no fonts of the
//! system. Drawn at twice their size and averaged down, so that every edge is smooth. Lengths are pixels of the result.

mod curves;
mod predictions;

use std::path::Path;

use plotters::backend::RGBPixel;
use plotters::coord::Shift;
use plotters::element::{Drawable, PointCollection};
use plotters::prelude::*;
use plotters::style::{RGBColor, register_font, text_anchor::HPos, text_anchor::Pos, text_anchor::VPos};

pub use curves::curves;
pub use predictions::{Prediction, predictions};

use crate::files::write_atomic;
use crate::{Error, Result};

/// Side of the square of drawn pixels that becomes one.
const SCALE: usize = 2;
/// Name under which the font is registered.
const FONT: &str = "convnet";

const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);
const GREY: RGBColor = RGBColor(0x5a, 0x5a, 0x5a);
const GRID: RGBColor = RGBColor(0xe2, 0xe2, 0xe2);
// Blue and vermillion of Okabe and Ito's colours, which colour-blind people tell apart.
const BLUE: RGBColor = RGBColor(0x00, 0x72, 0xb2);
const VERMILLION: RGBColor = RGBColor(0xd5, 0x5e, 0x00);

/// Why something could not be drawn.
type Drawn<T = ()> = std::result::Result<T, String>;

/// A white sheet to draw on.
struct Canvas<'a> {
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

    fn line(&self, points: &[(f64, f64)], colour: RGBColor, width: f64) -> Drawn {
        let points: Vec<_> = points.iter().map(|&point| scaled(point)).collect();
        self.draw(&PathElement::new(points, colour.stroke_width(scaled((width, 0.0)).0 as u32)))
    }

    fn disc(&self, centre: (f64, f64), radius: f64, colour: RGBColor) -> Drawn {
        self.draw(&Circle::new(scaled(centre), scaled((radius, 0.0)).0, colour.filled()))
    }

    fn rectangle(&self, [x, y]: [f64; 2], [width, height]: [f64; 2], colour: RGBColor) -> Drawn {
        // The drawn rectangle includes its last pixel.
        let (right, bottom) = scaled((x + width, y + height));
        self.draw(&Rectangle::new([scaled((x, y)), (right - 1, bottom - 1)], colour.filled()))
    }

    /// RGB pixels, asked for in the number of columns and rows that are drawn.
    fn bitmap(&self, [x, y]: [f64; 2], size: [f64; 2], pixels: impl FnOnce([usize; 2]) -> Vec<u8>) -> Drawn {
        let (columns, rows) = scaled((size[0], size[1]));
        let pixels = pixels([columns as usize, rows as usize]);
        let size = (columns as u32, rows as u32);
        let bitmap = BitMapElement::<_, RGBPixel>::with_owned_buffer(scaled((x, y)), size, pixels);
        self.draw(&bitmap.ok_or("picture of the wrong size")?)
    }

    /// Text whose horizontal `anchor` is at x and whose middle is at y.
    fn text(&self, text: &str, size: f64, at: (f64, f64), anchor: HPos, colour: RGBColor) -> Drawn {
        // The font's box reaches further down than its letters do.
        let at = (at.0, at.1 + 0.19 * size);
        let style = font(size).color(&colour).pos(Pos::new(anchor, VPos::Center));
        self.area.draw_text(text, &style, scaled(at)).map_err(|e| e.to_string())
    }

    /// Width of a text.
    fn width(&self, text: &str, size: f64) -> Drawn<f64> {
        let (width, _) = font(size).box_size(text).map_err(|e| e.to_string())?;
        Ok(f64::from(width) / SCALE as f64)
    }

    /// The text, or as much of it as fits with an ellipsis.
    fn shortened(&self, text: &str, size: f64, width: f64) -> Drawn<String> {
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

/// Draws a picture of that size and writes it as PNG, atomically.
fn write_png(path: &Path, [width, height]: [usize; 2], draw: impl FnOnce(&Canvas) -> Drawn) -> Result<()> {
    let (columns, rows) = (width * SCALE, height * SCALE);
    let mut drawn = vec![255; columns * rows * 3];
    let sheet = || {
        register_font(FONT, FontStyle::Normal, epaint_default_fonts::UBUNTU_LIGHT).map_err(|_| "bad font")?;
        let backend = BitMapBackend::with_buffer(&mut drawn, (columns as u32, rows as u32));
        draw(&Canvas { area: backend.into_drawing_area() })
    };
    sheet().map_err(|problem| Error::file(path, format!("drawing it failed: {problem}")))?;
    let pixels = averaged(&drawn, columns);
    write_atomic(path, |out| {
        let mut encoder = png::Encoder::new(out, width as u32, height as u32);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::EpochMetrics;

    /// Samples to look at: `cargo test -p convnet draw_samples -- --ignored`, then open `$TMPDIR/convnet-samples`.
    #[test]
    #[ignore = "writes pictures for a person to look at"]
    fn draw_samples() {
        let folder = std::env::temp_dir().join("convnet-samples");
        std::fs::create_dir_all(&folder).unwrap();
        for (epochs, floor) in [(1, 0.03), (10, 0.03), (60, 0.9)] {
            let epoch = |epoch: usize| {
                let (t, wave) = (epoch as f64, (epoch as f64 * 7.3).sin());
                let (train_loss, val_loss) = (floor / 4.0 + 0.35 / t.powf(1.3), floor + 0.12 / t + 0.004 * wave);
                let [train_accuracy, val_accuracy] = [train_loss, val_loss].map(|loss| 1.0 - 0.27 * loss);
                EpochMetrics { epoch, train_loss, train_accuracy, val_loss, val_accuracy, seconds: 4.2 }
            };
            let metrics: Vec<_> = (1..=epochs).map(epoch).collect();
            curves(&folder.join(format!("curves-{epochs}.png")), &metrics).unwrap();
        }
        let names = ["plane", "car", "bird", "flat-coated retriever", "ångström", "dog", "frog", "Ж", "ship", "truck"];
        for (shape, count) in [([1, 28, 28], 40), ([3, 32, 32], 13), ([3, 300, 200], 6)] {
            let [channels, height, width] = shape;
            let ring = |i: usize| {
                let (c, y, x) = (i / (height * width), i / width % height, i % width);
                let [y, x] = [(y, height), (x, width)].map(|(at, length)| 2.0 * at as f64 / length as f64 - 1.0);
                let radius = (x * x * 1.4 + y * y - 0.35).abs() * (3.0 + c as f64);
                (255.0 * (1.0 - radius).max(0.0)) as u8
            };
            let pixels: Vec<u8> = (0..channels * height * width).map(ring).collect();
            let picture = |i: usize| Prediction {
                pixels: &pixels,
                predicted: if i % 9 == 4 { names[(i + 3) % 10] } else { names[i % 10] },
                truth: names[i % 10],
            };
            let pictures: Vec<_> = (0..count).map(picture).collect();
            predictions(&folder.join(format!("predictions-{count}.png")), shape, &pictures).unwrap();
        }
    }
}
