//! Sheets of what data sets show of a net: the strongest pictures of channels, the nearest ones of a picture, a map of features, and
//! patterns that drive units.

use std::path::Path;

use plotters::style::RGBColor;
use plotters::style::text_anchor::HPos;

use super::overlay::{Pixels, number};
use super::sets::{Principal, Strong};
use super::sheets::{Tile, draw_tile, head};
use crate::Result;
use crate::canvas::{COLOURS, Canvas, Drawn, GREY, GRID, INK, VERMILLION, write_png};
use crate::classifier::Description;
use crate::data::Dataset;

const MARGIN: f64 = 32.0;
const TOP: f64 = 96.0;
/// Side of a picture, the space around it, and room for its name.
const SIDE: f64 = 120.0;
const GAP: f64 = 12.0;
const NAME: f64 = 24.0;
/// Room for a row's name.
const ROW: f64 = 104.0;
const SMALL: f64 = 16.0;
/// Pictures in a row.
const COLUMNS: usize = 9;
/// Side of the map, and the width of its legend.
const MAP: f64 = 640.0;
const LEGEND: f64 = 240.0;
/// Classes of the legend.
const MOST_CLASSES: usize = 24;
/// Further colours, where there are more than six classes; more than eight take all of them again.
const FURTHER: [RGBColor; 2] = [INK, RGBColor(0x99, 0x99, 0x99)];

/// The colour of a class.
fn colour(class: usize) -> RGBColor {
    let index = class % (COLOURS.len() + FURTHER.len());
    COLOURS.get(index).copied().unwrap_or_else(|| FURTHER[index - COLOURS.len()])
}

/// A picture of a data set with a line below it.
fn tile(data: &Dataset, index: usize, caption: String) -> Result<Tile> {
    let [channels, height, width] = data.shape();
    let planes = data.image(index)?;
    let channel = |wanted: usize| if channels < 3 { 0 } else { wanted };
    let at = |place: usize| std::array::from_fn(|colour| planes[channel(colour) * height * width + place]);
    Ok(Tile { caption, size: [height, width], pixels: (0..height * width).map(at).collect() })
}

/// Draws, for each of some channels, the pictures that [`super::Explainer::strongest`] has found, each with what the unit can see.
///
/// # Errors
/// [`crate::Error::Io`] when the file cannot be written; pictures that cannot be read.
pub fn strongest_sheet(
    path: &Path,
    description: &Description,
    data: &Dataset,
    layer: &str,
    found: &[(usize, Vec<Strong>)],
) -> Result<()> {
    let rows = found.iter().map(|(channel, strong)| {
        let tiles = strong
            .iter()
            .map(|one| tile(data, one.index, format!("{} · {}", data.classes()[one.label], number(one.value))));
        Ok((format!("channel {channel}"), tiles.collect::<Result<Vec<Tile>>>()?, strong))
    });
    let rows = rows.collect::<Result<Vec<_>>>()?;
    let columns = rows.iter().map(|(_, tiles, _)| tiles.len()).max().unwrap_or(0).clamp(3, COLUMNS);
    let size = [
        2.0 * MARGIN + ROW + columns as f64 * (SIDE + GAP),
        TOP + rows.len() as f64 * (SIDE + NAME + GAP) + MARGIN / 2.0,
    ];
    write_png(path, size.map(|side| side as usize), |canvas| {
        let title = format!("{}: what {layer} answers to", description.net().name());
        let below = format!(
            "of {} pictures of {}; box: what the unit can see; below: class and the unit's number",
            data.len(),
            data.name()
        );
        head(canvas, &title, &below, size[0] - 2.0 * MARGIN)?;
        for (row, (name, tiles, strong)) in rows.iter().enumerate() {
            let top = TOP + row as f64 * (SIDE + NAME + GAP);
            canvas.text(name, SMALL, (MARGIN, top + SIDE / 2.0), HPos::Left, INK)?;
            for (column, (tile, one)) in tiles.iter().zip(strong.iter()).take(columns).enumerate() {
                let corner = [MARGIN + ROW + column as f64 * (SIDE + GAP), top];
                draw_tile(canvas, tile, corner, SIDE)?;
                draw_box(canvas, tile, [&one.field.columns, &one.field.rows], corner)?;
            }
        }
        Ok(())
    })
}

/// Frames columns and rows of a tile.
fn draw_box(
    canvas: &Canvas,
    tile: &Tile,
    [columns, rows]: [&std::ops::Range<usize>; 2],
    [left, top]: [f64; 2],
) -> Drawn {
    let [wide, high] = tile.drawn(SIDE);
    let x = |column: usize| left + column as f64 * wide / tile.size[1] as f64;
    let y = |row: usize| top + row as f64 * high / tile.size[0] as f64;
    let (left, right, top, bottom) = (x(columns.start), x(columns.end), y(rows.start), y(rows.end));
    canvas.line(&[(left, top), (right, top), (right, bottom), (left, bottom), (left, top)], VERMILLION, 2.0)
}

/// Draws a picture and those of a data set that lie near it, with the cosine of each. `image` is what [`Description::prepare`] gives,
/// `name` what the picture is called.
///
/// # Errors
/// [`crate::Error::Io`] when the file cannot be written; [`crate::Error::Length`] when `image` is not of the net's size.
pub fn nearest_sheet(
    path: &Path,
    description: &Description,
    (name, image): (&str, &[f32]),
    data: &Dataset,
    layer: &str,
    near: &[(usize, f64)],
) -> Result<()> {
    let picture = Pixels::new(description, image)?;
    let mut tiles = vec![Tile { caption: "the picture".into(), size: picture.dims(), pixels: picture.into_pixels() }];
    for &(index, cosine) in near {
        let class = &data.classes()[data.labels()[index] as usize];
        tiles.push(tile(data, index, format!("{class} · {cosine:.3}"))?);
    }
    let title = format!("{}: the nearest of {} pictures", description.net().name(), data.len());
    let below = format!("{name}: by the features of {layer}; below: class and cosine of the angle");
    draw_rows(path, &title, &below, &tiles)
}

/// Draws patterns that drive units, each with what stands below it. Patterns are what [`super::Explainer::maximize`] gives.
///
/// # Errors
/// As [`nearest_sheet`].
pub fn pattern_sheet(path: &Path, description: &Description, what: &str, patterns: &[(String, &[f32])]) -> Result<()> {
    let tile = |(caption, image): &(String, &[f32])| {
        let picture = Pixels::new(description, image)?;
        Ok(Tile { caption: caption.clone(), size: picture.dims(), pixels: picture.into_pixels() })
    };
    let tiles = patterns.iter().map(tile).collect::<Result<Vec<Tile>>>()?;
    let title = format!("{}: what drives {what}", description.net().name());
    draw_rows(
        path,
        &title,
        "pictures found by climbing the gradient from noise; below: the unit and its number",
        &tiles,
    )
}

fn draw_rows(path: &Path, title: &str, below: &str, tiles: &[Tile]) -> Result<()> {
    let columns = tiles.len().clamp(4, COLUMNS);
    let rows = tiles.len().div_ceil(columns).max(1);
    let size =
        [2.0 * MARGIN + columns as f64 * (SIDE + GAP) - GAP, TOP + rows as f64 * (SIDE + NAME + GAP) + MARGIN / 2.0];
    write_png(path, size.map(|side| side as usize), |canvas| {
        head(canvas, title, below, size[0] - 2.0 * MARGIN)?;
        for (index, tile) in tiles.iter().enumerate() {
            let (row, column) = (index / columns, index % columns);
            let corner = [MARGIN + column as f64 * (SIDE + GAP), TOP + row as f64 * (SIDE + NAME + GAP)];
            draw_tile(canvas, tile, corner, SIDE)?;
        }
        Ok(())
    })
}

/// Draws a map of a data set's features: a dot for each picture, in the colour of its class.
///
/// # Errors
/// [`crate::Error::Io`] when the file cannot be written.
pub fn embedding_map(
    path: &Path,
    description: &Description,
    (data, classes): (&str, &[String]),
    layer: &str,
    principal: &Principal,
    labels: &[u32],
) -> Result<()> {
    let extent = |axis: usize| {
        let values = principal.places.iter().map(|place| place[axis]);
        values.fold([f32::INFINITY, f32::NEG_INFINITY], |[low, high], x| [low.min(x), high.max(x)])
    };
    let ends = [extent(0), extent(1)];
    let size = [2.0 * MARGIN + MAP + GAP + LEGEND, TOP + MAP + 2.0 * MARGIN];
    write_png(path, size.map(|side| side as usize), |canvas| {
        let title = format!("{}: {} pictures of {data}", description.net().name(), labels.len());
        let below = format!("features of {layer} in the two directions of most variance (principal components)");
        head(canvas, &title, &below, size[0] - 2.0 * MARGIN)?;
        let [left, top] = [MARGIN, TOP];
        let frame = [(left, top), (left + MAP, top), (left + MAP, top + MAP), (left, top + MAP), (left, top)];
        canvas.line(&frame, GRID, 1.0)?;
        let along = |axis: usize, value: f32| {
            let [low, high] = ends[axis];
            f64::from((value - low) / (high - low).max(f32::MIN_POSITIVE)) * (MAP - 24.0) + 12.0
        };
        let radius = if labels.len() > 2000 { 2.0 } else { 3.0 };
        for (place, &label) in principal.places.iter().zip(labels) {
            let at = (left + along(0, place[0]), top + MAP - along(1, place[1]));
            canvas.disc(at, radius, colour(label as usize))?;
        }
        for axis in [0, 1] {
            let share = format!("{:.1} % of the variance", 100.0 * principal.shares[axis]);
            let (text, at) = match axis {
                0 => (format!("→ {share}"), (left + MAP, top + MAP + 18.0)),
                _ => (format!("↑ {share}"), (left, top + MAP + 18.0)),
            };
            canvas.text(&text, SMALL, at, if axis == 0 { HPos::Right } else { HPos::Left }, GREY)?;
        }
        draw_legend(canvas, classes, [left + MAP + GAP + 8.0, top + 12.0])
    })
}

fn draw_legend(canvas: &Canvas, classes: &[String], [left, top]: [f64; 2]) -> Drawn {
    for (index, class) in classes.iter().take(MOST_CLASSES).enumerate() {
        let y = top + index as f64 * 24.0;
        canvas.disc((left + 6.0, y), 5.0, colour(index))?;
        let name = canvas.shortened(class, SMALL, LEGEND - 32.0)?;
        canvas.text(&name, SMALL, (left + 20.0, y), HPos::Left, INK)?;
    }
    if classes.len() > MOST_CLASSES {
        let more = format!("and {} more", classes.len() - MOST_CLASSES);
        let y = top + MOST_CLASSES as f64 * 24.0;
        canvas.text(&more, SMALL, (left + 20.0, y), HPos::Left, GREY)?;
    }
    Ok(())
}
