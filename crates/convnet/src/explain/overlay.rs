//! Maps drawn over their picture, each with the scale of its colours.

use std::path::Path;

use plotters::style::text_anchor::HPos;

use super::colours::{Rgb, Scale};
use super::{Explanation, Map};
use crate::Result;
use crate::canvas::{Canvas, Drawn, GREY, GRID, INK, VERMILLION, write_png};
use crate::classifier::Description;

/// Side of the square in which a picture stands.
const TILE: f64 = 336.0;
const GAP: f64 = 32.0;
const MARGIN: f64 = 32.0;
/// Room for the title and the line below it.
const TOP: f64 = 96.0;
/// Room for what stands below a picture: its name, two lines and the scale.
const BELOW: f64 = 128.0;
const TITLE: f64 = 27.0;
const TEXT: f64 = 21.0;
const SMALL: f64 = 16.0;
const LINE: f64 = 21.0;
/// Height of the scale.
const BAR: f64 = 12.0;
/// Pictures in a row.
const COLUMNS: usize = 4;

/// Draws a picture and maps over it to a PNG file. `image` is what [`Description::prepare`] gives, `name` what the picture is called.
///
/// # Errors
/// [`crate::Error::Io`] when the file cannot be written; [`crate::Error::Length`] when `image` is not of the net's size.
pub fn overlay(
    path: &Path,
    description: &Description,
    name: &str,
    image: &[f32],
    explanations: &[Explanation],
) -> Result<()> {
    let picture = Pixels::new(description, image)?;
    let cells = explanations.len() + 1;
    let lines = cells.div_ceil(COLUMNS);
    let columns = cells.div_ceil(lines);
    let pitch = [picture.room() + GAP, picture.size()[1] + BELOW];
    let size = [2.0 * MARGIN + columns as f64 * pitch[0] - GAP, TOP + lines as f64 * pitch[1] + MARGIN / 2.0];
    write_png(path, size.map(|side| side as usize), |canvas| {
        let width = size[0] - 2.0 * MARGIN;
        canvas.text(&canvas.shortened(name, TITLE, width)?, TITLE, (MARGIN, 36.0), HPos::Left, INK)?;
        let net = canvas.shortened(&described(description, explanations), SMALL, width)?;
        canvas.text(&net, SMALL, (MARGIN, 68.0), HPos::Left, GREY)?;
        for cell in 0..cells {
            let corner = [MARGIN + (cell % columns) as f64 * pitch[0], TOP + (cell / columns) as f64 * pitch[1]];
            match cell.checked_sub(1).map(|index| &explanations[index]) {
                None => draw_picture(canvas, &picture, corner)?,
                Some(explanation) => draw_map(canvas, &picture, description, explanation, corner)?,
            }
        }
        Ok(())
    })
}

/// A picture as the net sees it, before it is normalised: red, green and blue of each pixel, row by row. `image` is what
/// [`Description::prepare`] gives; grey serves as all three colours.
///
/// # Errors
/// [`crate::Error::Length`] when `image` is not of the net's size.
pub fn pixels(description: &Description, image: &[f32]) -> Result<Vec<u8>> {
    Ok(Pixels::new(description, image)?.into_pixels().into_flattened())
}

/// `resnet18: 'tabby' explained (93.1 %)`, where all explanations are of one class.
fn described(description: &Description, explanations: &[Explanation]) -> String {
    let net = description.net().name();
    match explanations {
        [first, others @ ..] if others.iter().all(|other| other.class == first.class) => {
            format!("{net}: what speaks for {}", class_of(description, first))
        }
        _ => net.to_owned(),
    }
}

fn class_of(description: &Description, explanation: &Explanation) -> String {
    let name = &description.classes()[explanation.class];
    format!("'{name}' ({:.1} %)", 100.0 * explanation.probability)
}

/// A picture as the net sees it, in bytes.
pub(super) struct Pixels {
    size: [usize; 2],
    pixels: Vec<Rgb>,
}

impl Pixels {
    /// Takes the normalisation back from a picture of the net's size.
    pub(super) fn new(description: &Description, image: &[f32]) -> Result<Pixels> {
        let [channels, height, width] = description.input();
        crate::exec::check_images(image.len(), channels * height * width, 1, 1)?;
        let normalization = description.normalization();
        let byte = |channel: usize, place: usize| {
            let share =
                image[channel * height * width + place] * normalization.std[channel] + normalization.mean[channel];
            (255.0 * share).round().clamp(0.0, 255.0) as u8
        };
        // Grey serves as all three; of more than three channels the first three are shown.
        let channel = |index: usize| if channels < 3 { 0 } else { index };
        let pixel = |place: usize| std::array::from_fn(|index| byte(channel(index), place));
        Ok(Pixels { size: [height, width], pixels: (0..height * width).map(pixel).collect() })
    }

    /// Height and width.
    pub(super) fn dims(&self) -> [usize; 2] {
        self.size
    }

    /// The pixels, row by row.
    pub(super) fn into_pixels(self) -> Vec<Rgb> {
        self.pixels
    }

    /// Width and height in which it is drawn: small pictures grow by a whole factor.
    pub(super) fn size(&self) -> [f64; 2] {
        let [height, width] = self.size;
        let fit = TILE / height.max(width) as f64;
        let factor = if fit >= 1.0 { fit.floor() } else { fit };
        [width, height].map(|side| (side as f64 * factor).max(1.0))
    }

    /// Width that it and its texts may take.
    pub(super) fn room(&self) -> f64 {
        self.size()[0].max(TILE)
    }

    /// The pixel at a place of a drawing of so many rows and columns.
    fn at(&self, [row, column]: [usize; 2], [rows, columns]: [usize; 2]) -> (usize, Rgb) {
        let place = (row * self.size[0] / rows) * self.size[1] + column * self.size[1] / columns;
        (place, self.pixels[place])
    }

    /// Draws it with the colours that `colour` gives: it is asked for a place of the drawing, one of the picture, and the pixel.
    pub(super) fn draw(
        &self,
        canvas: &Canvas,
        corner: [f64; 2],
        colour: impl Fn([usize; 2], usize, Rgb) -> Rgb,
    ) -> Drawn {
        let size = self.size();
        canvas.rectangle(corner.map(|x| x - 1.0), size.map(|side| side + 2.0), GRID)?;
        canvas.bitmap(corner, size, |[columns, rows]| {
            let places = (0..rows).flat_map(|row| (0..columns).map(move |column| [row, column]));
            let colours = places.flat_map(|at| {
                let (place, pixel) = self.at(at, [rows, columns]);
                colour(at, place, pixel)
            });
            colours.collect()
        })
    }
}

fn draw_picture(canvas: &Canvas, picture: &Pixels, [left, top]: [f64; 2]) -> Drawn {
    picture.draw(canvas, [left, top], |_, _, pixel| pixel)?;
    let [_, height] = picture.size();
    canvas.text("the picture", TEXT, (left, top + height + LINE), HPos::Left, INK)?;
    let [height_in, width_in] = picture.size;
    let seen = format!("as the net sees it, {width_in}x{height_in}");
    canvas.text(&seen, SMALL, (left, top + height + 2.2 * LINE), HPos::Left, GREY)
}

fn draw_map(
    canvas: &Canvas,
    picture: &Pixels,
    description: &Description,
    explanation: &Explanation,
    [left, top]: [f64; 2],
) -> Drawn {
    let scale = Scale::new(explanation.method, &explanation.map);
    let [width, height] = picture.size();
    let room = picture.room();
    match explanation.method.takes_layer() {
        true => {
            // As fine as what is drawn, so that the coarse map leaves no steps.
            let fine = explanation.map.resized([height, width].map(|side| 2 * side as usize));
            draw_fine(canvas, picture, &scale, &fine, [left, top])?;
        }
        false => {
            let values = explanation.map.values();
            picture.draw(canvas, [left, top], |_, place, pixel| scale.over(values[place], pixel))?;
        }
    }
    let line = |number: f64| top + height + number * LINE;
    canvas.text(explanation.method.name(), TEXT, (left, line(1.0)), HPos::Left, INK)?;
    let note = canvas.shortened(&note(description, explanation), SMALL, room)?;
    canvas.text(&note, SMALL, (left, line(2.2)), HPos::Left, GREY)?;
    if let Some(caution) = explanation.method.caution() {
        let caution = canvas.shortened(caution, SMALL, room)?;
        canvas.text(&caution, SMALL, (left, line(3.2)), HPos::Left, VERMILLION)?;
    }
    draw_scale(canvas, &scale, [left, line(4.0)], width.max(0.6 * TILE))
}

/// A map of as many places as are drawn.
fn draw_fine(canvas: &Canvas, picture: &Pixels, scale: &Scale, fine: &Map, corner: [f64; 2]) -> Drawn {
    let [height, width] = fine.size();
    picture.draw(canvas, corner, |[row, column], _, pixel| {
        let place = row.min(height - 1) * width + column.min(width - 1);
        scale.over(fine.values()[place], pixel)
    })
}

/// The class where pictures of several are shown, and what belongs to the method.
fn note(description: &Description, explanation: &Explanation) -> String {
    let class = class_of(description, explanation);
    match (&explanation.layer, &explanation.completeness) {
        (Some(layer), _) => format!("{class} · maps of {layer}"),
        (None, Some(completeness)) => format!("{class} · sum off by {:.2} %", 100.0 * completeness.error()),
        (None, None) => class,
    }
}

/// The colours from one end to the other, and the numbers there.
pub(super) fn draw_scale(canvas: &Canvas, scale: &Scale, [left, top]: [f64; 2], width: f64) -> Drawn {
    canvas.rectangle([left - 1.0, top - 1.0], [width + 2.0, BAR + 2.0], GRID)?;
    canvas.bitmap([left, top], [width, BAR], |[columns, rows]| {
        let colour = |column: usize| scale.legend(column as f32 / (columns - 1).max(1) as f32);
        let row: Vec<u8> = (0..columns).flat_map(colour).collect();
        row.repeat(rows)
    })?;
    let below = top + BAR + 0.6 * LINE;
    let [low, high] = scale.ends.map(number);
    let [at_most, at_least] = if scale.is_cut { ["≤ ", "≥ "] } else { [""; 2] };
    let low = if scale.ends[0] < 0.0 { format!("{at_most}{low} against") } else { low };
    let high = format!("{at_least}{high}{}", if scale.ends[0] < 0.0 { " for" } else { "" });
    canvas.text(&low, SMALL, (left, below), HPos::Left, GREY)?;
    canvas.text(&high, SMALL, (left + width, below), HPos::Right, GREY)
}

/// A number of three digits.
pub(super) fn number(value: f32) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if (0.01..1000.0).contains(&size) => {
            let digits = (2 - size.log10().floor() as i32).max(0) as usize;
            format!("{value:.digits$}")
        }
        _ => format!("{value:.1e}"),
    }
}
