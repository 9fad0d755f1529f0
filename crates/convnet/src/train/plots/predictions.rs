//! `predictions.png`: held-out pictures in a grid, each with its predicted and its true class, mistakes in red.

use std::path::Path;

use plotters::style::{RGBColor, text_anchor::HPos};

use crate::canvas::{Canvas, Drawn, GREY, INK, resampled, write_png};
use crate::{Error, Result};

/// Side of the square in which a picture stands.
const TILE: f64 = 128.0;
/// Room for a picture and its two lines of text.
const CELL: [f64; 2] = [180.0, 214.0];
/// Space between the texts of neighbours.
const GAP: f64 = 12.0;
const COLUMNS: usize = 8;
const MARGIN: f64 = 40.0;
/// Room for the title.
const TOP: f64 = 88.0;
const TITLE: f64 = 30.0;
const TEXT: f64 = 21.0;
/// Most pictures that are drawn.
const MOST: usize = 64;
const RED: RGBColor = RGBColor(0xc8, 0x10, 0x2e);

/// A picture and what was seen in it.
#[derive(Clone, Copy, Debug)]
pub struct Prediction<'a> {
    /// Planes of red, green and blue, or one of grey: `[channels, height, width]`, 0 black.
    pub pixels: &'a [u8],
    /// Name of the class that was recognised.
    pub predicted: &'a str,
    /// Name of the class that it is.
    pub truth: &'a str,
}

/// Draws up to 64 pictures of `shape` (channels, height, width), eight in a row.
///
/// # Errors
/// [`Error::Invalid`] when a picture is not of that shape or has neither 1 nor 3 channels; [`Error::Io`] when the file
/// cannot be written.
pub fn predictions(path: &Path, shape: [usize; 3], pictures: &[Prediction]) -> Result<()> {
    let [channels, height, width] = shape;
    let elements = shape.iter().try_fold(1usize, |product, &length| product.checked_mul(length));
    let fits = |picture: &Prediction| Some(picture.pixels.len()) == elements && !picture.pixels.is_empty();
    if ![1, 3].contains(&channels) || !pictures.iter().all(fits) {
        let expected = "expected pictures of 1 or 3 channels and of that shape";
        return Err(Error::invalid(format!("predictions of {channels}x{height}x{width}: {expected}")));
    }
    let pictures = &pictures[..pictures.len().min(MOST)];
    let columns = pictures.len().clamp(4, COLUMNS);
    let rows = pictures.len().div_ceil(columns);
    let size = [2.0 * MARGIN + columns as f64 * CELL[0] - GAP, TOP + rows as f64 * CELL[1] + MARGIN / 2.0];
    write_png(path, size.map(|length| length as usize), |canvas| {
        let right = pictures.iter().filter(|p| p.predicted == p.truth).count();
        let title = format!("Held-out pictures: {right} of {} recognised", pictures.len());
        canvas.text(&title, TITLE, (MARGIN, TOP / 2.0), HPos::Left, INK)?;
        for (i, picture) in pictures.iter().enumerate() {
            let corner = [MARGIN + (i % columns) as f64 * CELL[0], TOP + (i / columns) as f64 * CELL[1]];
            draw(canvas, corner, shape, picture)?;
        }
        Ok(())
    })
}

fn draw(canvas: &Canvas, [left, top]: [f64; 2], shape: [usize; 3], picture: &Prediction) -> Drawn {
    let wrong = picture.predicted != picture.truth;
    let [channels, height, width] = shape;
    // Small pictures grow by a whole factor, so that their pixels stay square and equal.
    let fit = TILE / height.max(width) as f64;
    let factor = if fit >= 1.0 { fit.floor() } else { fit };
    let size = [width, height].map(|length| (length as f64 * factor).max(1.0));
    let corner = [left, (top + TILE - size[1]).floor()];
    if wrong {
        canvas.rectangle(corner.map(|x| x - 5.0), size.map(|x| x + 10.0), RED)?;
    }
    // The one grey plane serves as all three.
    let pixel = |channel: usize, y, x| picture.pixels[(channel.min(channels - 1) * height + y) * width + x];
    canvas.bitmap(corner, size, |size| resampled([height, width], size, pixel))?;
    let lines = [("pred ", picture.predicted, if wrong { RED } else { INK }), ("true ", picture.truth, INK)];
    for (line, (what, name, colour)) in lines.into_iter().enumerate() {
        let y = top + TILE + 19.0 + 25.0 * line as f64;
        canvas.text(what, TEXT, (left, y), HPos::Left, GREY)?;
        let x = left + canvas.width("pred ", TEXT)? + 2.0;
        let name = canvas.shortened(name, TEXT, left + CELL[0] - GAP - x)?;
        canvas.text(&name, TEXT, (x, y), HPos::Left, colour)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_and_size_of_pictures_is_drawn() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("predictions.png");
        let long = "x".repeat(10_000);
        for (shape, count) in [([1, 28, 28], 0), ([3, 300, 1], 1), ([1, 1, 300], 9), ([3, 200, 150], 70)] {
            let pixels = vec![9; shape.iter().product()];
            let picture = Prediction { pixels: &pixels, predicted: &long, truth: "猫\n\0" };
            predictions(&path, shape, &vec![picture; count]).unwrap();
        }
    }

    #[test]
    fn pictures_of_another_shape_are_refused() {
        let picture = Prediction { pixels: &[0; 5], predicted: "", truth: "" };
        for shape in [[1, 2, 2], [2, 1, 5], [1, 0, 5], [3, usize::MAX, 2]] {
            let error = predictions(Path::new("never.png"), shape, &[picture]).unwrap_err().to_string();
            assert!(error.contains("expected pictures of 1 or 3 channels"), "{error}");
        }
    }
}
