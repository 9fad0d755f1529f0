//! Contact sheets of feature maps and filters, and receptive fields drawn on the picture.

use std::path::Path;

use plotters::style::text_anchor::HPos;

use super::colours::{Rgb, Scale, warm};
use super::overlay::{Pixels, draw_scale, number};
use super::{Features, Filters, Map, Method, Seen};
use crate::Result;
use crate::canvas::{BLUE, Canvas, Drawn, GREY, GRID, INK, write_png};
use crate::classifier::Description;

const MARGIN: f64 = 32.0;
const TOP: f64 = 96.0;
const TITLE: f64 = 27.0;
const TEXT: f64 = 21.0;
const SMALL: f64 = 16.0;
const LINE: f64 = 21.0;
/// Side of the square in which a map or filter stands, space between two, and room for the number below.
const TILE: f64 = 96.0;
const GAP: f64 = 12.0;
const NAME: f64 = 20.0;
/// Tiles in a row, and on a sheet.
const COLUMNS: usize = 12;
const MOST: usize = 144;
/// Space between two pictures with fields, and room below each.
const BESIDE: f64 = 32.0;
const BELOW: f64 = 128.0;
/// Pictures in a row of fields.
const FIELDS: usize = 4;

/// A small picture and what stands below it.
pub(super) struct Tile {
    pub(super) caption: String,
    /// Height and width.
    pub(super) size: [usize; 2],
    pub(super) pixels: Vec<Rgb>,
}

/// Draws the maps of a layer to a PNG file, each from its smallest number to its largest; of more than 144 those with the largest
/// numbers. `name` is what the picture is called.
///
/// # Errors
/// [`crate::Error::Io`] when the file cannot be written.
pub fn feature_sheet(path: &Path, description: &Description, name: &str, features: &Features) -> Result<()> {
    let &[channels, height, width] = features.maps.shape() else { return Ok(()) };
    let map = |channel: usize| {
        let len = height * width;
        Map::new([height, width], features.maps.data()[channel * len..][..len].to_vec())
    };
    let mut shown: Vec<usize> = (0..channels).collect();
    let largest: Vec<f32> = (0..channels).map(|channel| map(channel).range()[1]).collect();
    shown.sort_by(|&a, &b| largest[b].total_cmp(&largest[a]));
    shown.truncate(MOST);
    shown.sort_unstable();
    let tiles = shown.iter().map(|&number| {
        let map = map(number);
        let [least, most] = map.range();
        let colour = |&value: &f32| if most > least { warm((value - least) / (most - least)) } else { warm(0.0) };
        Tile { caption: number.to_string(), size: [height, width], pixels: map.values().iter().map(colour).collect() }
    });
    let few = if channels > MOST {
        format!("the {MOST} with the largest numbers of {channels}")
    } else {
        format!("all {channels}")
    };
    let title = format!("{}: maps of {}", description.net().name(), features.layer);
    let below = format!("{name}: {few}, {width}x{height}, each from its smallest number (dark) to its largest (light)");
    draw_tiles(path, &title, &below, &tiles.collect::<Vec<_>>())
}

/// Draws filters to a PNG file: in their colours where they see three, with 0 as grey and one scale for all.
///
/// # Errors
/// [`crate::Error::Io`] when the file cannot be written.
pub fn filter_sheet(path: &Path, description: &Description, filters: &Filters) -> Result<()> {
    let &[count, channels, height, width] = filters.kernels.shape() else { return Ok(()) };
    let weights = filters.kernels.data();
    let largest = weights.iter().fold(0.0_f32, |largest, weight| largest.max(weight.abs()));
    let byte = |weight: f32| match largest > 0.0 {
        true => (127.5 + 127.5 * weight / largest).round() as u8,
        false => 128,
    };
    let tile = |number: usize| {
        let len = height * width;
        let at =
            |channel: usize, place: usize| byte(weights[(number * channels + channel.min(channels - 1)) * len + place]);
        let pixels = (0..len).map(|place| std::array::from_fn(|channel| at(channel, place))).collect();
        Tile { caption: number.to_string(), size: [height, width], pixels }
    };
    let few = if count > MOST { format!("{MOST} of {count}") } else { format!("all {count}") };
    let title = format!("{}: filters of {}", description.net().name(), filters.layer);
    let below = format!("{few}, {width}x{height}; 0 is grey, the largest weight is {}", number(largest));
    draw_tiles(path, &title, &below, &(0..count.min(MOST)).map(tile).collect::<Vec<_>>())
}

fn draw_tiles(path: &Path, title: &str, below: &str, tiles: &[Tile]) -> Result<()> {
    let columns = tiles.len().clamp(1, COLUMNS);
    let lines = tiles.len().div_ceil(columns).max(1);
    let size = [
        (2.0 * MARGIN + columns as f64 * (TILE + GAP) - GAP).max(420.0),
        TOP + lines as f64 * (TILE + NAME + GAP) + MARGIN / 2.0,
    ];
    write_png(path, size.map(|side| side as usize), |canvas| {
        head(canvas, title, below, size[0] - 2.0 * MARGIN)?;
        for (index, tile) in tiles.iter().enumerate() {
            let corner = [
                MARGIN + (index % columns) as f64 * (TILE + GAP),
                TOP + (index / columns) as f64 * (TILE + NAME + GAP),
            ];
            draw_tile(canvas, tile, corner, TILE)?;
        }
        Ok(())
    })
}

/// The two lines at the top of a sheet.
pub(super) fn head(canvas: &Canvas, title: &str, below: &str, width: f64) -> Drawn {
    canvas.text(&canvas.shortened(title, TITLE, width)?, TITLE, (MARGIN, 36.0), HPos::Left, INK)?;
    canvas.text(&canvas.shortened(below, SMALL, width)?, SMALL, (MARGIN, 68.0), HPos::Left, GREY)
}

/// Draws a tile whose longer side is given; its caption stands below.
pub(super) fn draw_tile(canvas: &Canvas, tile: &Tile, [left, top]: [f64; 2], side: f64) -> Drawn {
    let [height, width] = tile.size;
    let [wide, high] = tile.drawn(side);
    canvas.rectangle([left - 1.0, top - 1.0], [wide + 2.0, high + 2.0], GRID)?;
    canvas.bitmap([left, top], [wide, high], |[columns, rows]| {
        let places = (0..rows).flat_map(|row| (0..columns).map(move |column| [row, column]));
        places.flat_map(|[row, column]| tile.pixels[row * height / rows * width + column * width / columns]).collect()
    })?;
    let caption = canvas.shortened(&tile.caption, SMALL, side)?;
    canvas.text(&caption, SMALL, (left, top + side + NAME / 2.0), HPos::Left, GREY)
}

impl Tile {
    /// Width and height in which it is drawn.
    pub(super) fn drawn(&self, side: f64) -> [f64; 2] {
        let [height, width] = self.size;
        let longest = height.max(width) as f64;
        [width, height].map(|length| (length as f64 * side / longest).round().max(1.0))
    }
}

/// Draws what units see to a PNG file: over the picture how much each depends on a pixel, and in a box what it can depend on.
///
/// # Errors
/// [`crate::Error::Io`] when the file cannot be written; [`crate::Error::Length`] when `image` is not of the net's size.
pub fn field_sheet(path: &Path, description: &Description, name: &str, image: &[f32], seen: &[Seen]) -> Result<()> {
    let picture = Pixels::new(description, image)?;
    let lines = seen.len().div_ceil(FIELDS).max(1);
    let columns = seen.len().div_ceil(lines).max(1);
    let pitch = [picture.room() + BESIDE, picture.size()[1] + BELOW];
    let size = [2.0 * MARGIN + columns as f64 * pitch[0] - BESIDE, TOP + lines as f64 * pitch[1] + MARGIN / 2.0];
    write_png(path, size.map(|side| side as usize), |canvas| {
        let title = format!("{}: what a unit sees", description.net().name());
        let below = format!("{name}: box: what it can depend on; colour: how much it does");
        head(canvas, &title, &below, size[0] - 2.0 * MARGIN)?;
        for (index, seen) in seen.iter().enumerate() {
            let corner = [MARGIN + (index % columns) as f64 * pitch[0], TOP + (index / columns) as f64 * pitch[1]];
            draw_field(canvas, &picture, description, seen, corner)?;
        }
        Ok(())
    })
}

fn draw_field(
    canvas: &Canvas,
    picture: &Pixels,
    description: &Description,
    seen: &Seen,
    [left, top]: [f64; 2],
) -> Drawn {
    // A map of pixels without a sign.
    let scale = Scale::new(Method::Saliency, &seen.effective);
    let values = seen.effective.values();
    picture.draw(canvas, [left, top], |_, place, pixel| scale.over(values[place], pixel))?;
    let ([width, height], [_, rows, columns]) = (picture.size(), description.input());
    let factor = [width / columns as f64, height / rows as f64];
    let [x, y] = [&seen.field.columns, &seen.field.rows];
    let across = [x.start, x.end].map(|x| left + x as f64 * factor[0]);
    let down = [y.start, y.end].map(|y| top + y as f64 * factor[1]);
    let corners = [(across[0], down[0]), (across[1], down[0]), (across[1], down[1]), (across[0], down[1])];
    canvas.line(&[&corners[..], &corners[..1]].concat(), BLUE, 2.0)?;
    let line = |number: f64| top + height + number * LINE;
    let [channels, h, w] = seen.shape;
    let room = picture.room();
    let layer = canvas.shortened(&seen.layer, TEXT, room)?;
    canvas.text(&layer, TEXT, (left, line(1.0)), HPos::Left, INK)?;
    let [high, wide] = seen.field.size();
    let unit = format!("unit {},{} of {channels}x{h}x{w}", seen.unit[0], seen.unit[1]);
    canvas.text(&unit, SMALL, (left, line(2.2)), HPos::Left, GREY)?;
    let sizes = format!("can see {wide}x{high} pixels, sees about {0:.0}x{0:.0}", seen.side());
    canvas.text(&sizes, SMALL, (left, line(3.2)), HPos::Left, GREY)?;
    draw_scale(canvas, &scale, [left, line(4.0)], width.max(0.6 * room))
}
