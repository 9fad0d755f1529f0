//! A contact sheet: the original and what filters make of it, side by side, each with its kernel.

use std::path::Path;

use plotters::style::{RGBColor, text_anchor::HPos};

use super::{Activation, Border, Filter, Kernel, Pass, Placement, Rendering};
use crate::canvas::{Canvas, Drawn, GREY, GRID, INK, resampled, write_png};
use crate::data::bitmap::Bitmap;
use crate::exec::Engine;
use crate::geometry::Padding;
use crate::{Error, Result};

const MARGIN: f64 = 32.0;
/// Space between neighbours.
const GAP: [f64; 2] = [28.0, 30.0];
/// Room for the title.
const TOP: f64 = 92.0;
const TITLE: f64 = 27.0;
const TEXT: f64 = 21.0;
const SMALL: f64 = 16.0;
/// Height of a row of a kernel.
const LINE: f64 = 18.0;
/// From a picture to the middle of its name, and from there to the first row of its kernel.
const NAME: [f64; 2] = [22.0, 30.0];
/// Space before, between and after the numbers of a row.
const SPACE: f64 = 7.0;
/// Width that a sheet should not exceed, and the most pixels it may have.
const SCREEN: f64 = 2040.0;
const MOST_PIXELS: f64 = 64e6;
/// Largest kernel that is written out.
const WRITTEN: usize = 7;
/// Least width of a cell, for its texts.
const NARROWEST: f64 = 190.0;

/// What a sheet looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SheetOptions {
    /// Longest side of a picture, in pixels. A larger picture is shrunk before it is filtered, so that what a kernel of
    /// 3 pixels does can be seen; a much smaller one is shown with larger pixels.
    pub side: usize,
    /// Pictures in a row; the default is as many as make the sheet about as wide as a screen.
    pub columns: Option<usize>,
}

impl Default for SheetOptions {
    fn default() -> SheetOptions {
        SheetOptions { side: 300, columns: None }
    }
}

/// Draws `picture` and what each of the filters makes of it to a PNG file.
///
/// # Errors
/// As [`Pass::new`]; [`Error::Invalid`] when the sheet would be too large; [`Error::Io`] when the file cannot be written.
pub fn sheet(
    path: &Path,
    engine: &Engine,
    picture: &Bitmap,
    filters: &[Filter],
    placement: &Placement,
    options: &SheetOptions,
) -> Result<()> {
    let small = shrunk(picture, options.side);
    let passes = passes(engine, &small, filters, placement)?;
    let cells: Vec<Option<&Filter>> = std::iter::once(None).chain(filters.iter().map(Some)).collect();
    let shapes = passes.iter().map(|(_, pass)| pass.shape()).chain([small.shape()]);
    let layout = Layout::new(&cells, shapes, options)?;
    let mut results: Vec<Option<Bitmap>> = vec![None; filters.len()];
    for (members, pass) in passes {
        members.into_iter().zip(pass.bitmaps().0).for_each(|(i, bitmap)| results[i] = Some(bitmap));
    }
    let bitmaps = std::iter::once(&small).chain(results.iter().flatten());
    write_png(path, layout.size.map(|length| length as usize), |canvas| {
        let title = if filters.len() == 1 { "1 filter".to_owned() } else { format!("{} filters", filters.len()) };
        canvas.text(&title, TITLE, (MARGIN, 34.0), HPos::Left, INK)?;
        let subtitle = canvas.shortened(&subtitle(picture, &small, placement), SMALL, layout.size[0] - 2.0 * MARGIN)?;
        canvas.text(&subtitle, SMALL, (MARGIN, 64.0), HPos::Left, GREY)?;
        for ((filter, bitmap), &corner) in cells.iter().zip(bitmaps).zip(&layout.corners) {
            draw(canvas, *filter, bitmap, corner, &layout)?;
        }
        Ok(())
    })
}

/// One pass for all filters whose kernels have one shape, with their places among `filters`.
fn passes<'a>(
    engine: &'a Engine,
    picture: &'a Bitmap,
    filters: &[Filter],
    placement: &Placement,
) -> Result<Vec<(Vec<usize>, Pass<'a>)>> {
    let shape = |filter: &Filter| (filter.kernel.channels(), filter.kernel.size());
    let mut shapes: Vec<(usize, [usize; 2])> = filters.iter().map(shape).collect();
    shapes.sort_unstable();
    shapes.dedup();
    let pass = |wanted| {
        let members: Vec<usize> = (0..filters.len()).filter(|&i| shape(&filters[i]) == wanted).collect();
        let alike: Vec<Filter> = members.iter().map(|&i| filters[i].clone()).collect();
        Ok((members, Pass::new(engine, picture, &alike, placement)?))
    };
    shapes.into_iter().map(pass).collect()
}

/// The picture so small that no side is above `side`.
fn shrunk(picture: &Bitmap, side: usize) -> Bitmap {
    let [channels, height, width] = picture.shape();
    let longest = height.max(width);
    if longest <= side {
        return picture.clone();
    }
    let [rows, columns] = [height, width].map(|length| ((length * side + longest / 2) / longest).max(1));
    let pixel = |channel: usize, y: usize, x: usize| picture.row(y)[x * channels + channel.min(channels - 1)];
    let rgb = resampled([height, width], [columns, rows], pixel);
    let pixels = if channels == 1 { rgb.into_iter().step_by(3).collect() } else { rgb };
    Bitmap::new([channels, rows, columns], pixels).expect("as many pixels as were asked for")
}

/// How the results came about.
fn subtitle(picture: &Bitmap, small: &Bitmap, placement: &Placement) -> String {
    let Placement { stride, padding, border, convolution } = *placement;
    let size = |[height, width]: [usize; 2]| format!("{width}x{height}");
    let pixels = match picture.size() == small.size() {
        true => format!("{} pixels", size(picture.size())),
        false => format!("{} pixels, shrunk to {} and then filtered", size(picture.size()), size(small.size())),
    };
    let mode = if convolution { "convolution (kernels turned by 180°)" } else { "cross-correlation" };
    let padding = match padding {
        Padding::Same => "padding same".to_owned(),
        Padding::Explicit { begin, end } if begin == end && begin[0] == begin[1] => format!("padding {}", begin[0]),
        Padding::Explicit { begin, end } => format!("padding {begin:?} and {end:?}"),
    };
    let border = match border {
        Border::Zeros => "zeros",
        Border::Replicate => "repeated edge",
    };
    format!("{pixels}; {mode}, stride {}x{}, {padding} ({border})", stride[0], stride[1])
}

/// Where everything stands.
struct Layout {
    /// Width and height of the sheet.
    size: [f64; 2],
    /// Width and height in which a picture stands.
    room: [f64; 2],
    /// By what pictures are enlarged.
    factor: f64,
    /// Left and top of every cell.
    corners: Vec<[f64; 2]>,
}

impl Layout {
    /// `cells` are the original and the filters; `shapes` holds every shape that one of them has.
    fn new(
        cells: &[Option<&Filter>],
        shapes: impl Iterator<Item = [usize; 3]>,
        options: &SheetOptions,
    ) -> Result<Layout> {
        let [height, width] = shapes.fold([1, 1], |[height, width], shape| [height.max(shape[1]), width.max(shape[2])]);
        let factor = (options.side / height.max(width)).max(1);
        let room = [width, height].map(|length| (length * factor) as f64);
        let pitch = room[0].max(NARROWEST) + GAP[0];
        let fitting = ((SCREEN - 2.0 * MARGIN + GAP[0]) / pitch) as usize;
        let columns = options.columns.unwrap_or_else(|| {
            // As even as it can be: 5 and 5 rather than 6 and 4.
            cells.len().div_ceil(cells.len().div_ceil(fitting.max(1)))
        });
        let columns = columns.clamp(1, cells.len());
        let (mut corners, mut top) = (Vec::new(), TOP);
        for row in cells.chunks(columns) {
            corners.extend((0..row.len()).map(|column| [MARGIN + column as f64 * pitch, top]));
            let lines = row.iter().flatten().map(|filter| written_lines(&filter.kernel)).max();
            top += room[1] + NAME[0] + NAME[1] + (lines.unwrap_or(1) as f64 - 0.5) * LINE + GAP[1];
        }
        let size = [2.0 * MARGIN + columns as f64 * pitch - GAP[0], top - GAP[1] + MARGIN];
        if size[0] * size[1] > MOST_PIXELS {
            let problem = "this sheet would be too large: use smaller pictures, less padding or fewer filters";
            return Err(Error::invalid(problem));
        }
        Ok(Layout { size, room, factor: factor as f64, corners })
    }
}

/// A picture, and below it its name and kernel. The original has no filter.
fn draw(canvas: &Canvas, filter: Option<&Filter>, bitmap: &Bitmap, [left, top]: [f64; 2], layout: &Layout) -> Drawn {
    let [channels, height, width] = bitmap.shape();
    let size = [width, height].map(|length| length as f64 * layout.factor);
    let pixel = |channel: usize, y: usize, x: usize| bitmap.row(y)[x * channels + channel.min(channels - 1)];
    canvas.rectangle([left - 1.0, top - 1.0], size.map(|length| length + 2.0), GRID)?;
    canvas.bitmap([left, top], size, |size| resampled([height, width], size, pixel))?;
    let room = layout.room[0].max(NARROWEST);
    let line = top + layout.room[1] + NAME[0];
    let (name, note) = match filter {
        None => ("original", String::new()),
        Some(filter) => (&filter.name[..], note(filter.rendering)),
    };
    canvas.text(&note, SMALL, (left + room, line + 1.0), HPos::Right, GREY)?;
    let name = canvas.shortened(name, TEXT, room - canvas.width(&note, SMALL)? - 8.0)?;
    canvas.text(&name, TEXT, (left, line), HPos::Left, INK)?;
    match filter {
        None => canvas.text(&format!("{width}x{height}"), SMALL, (left, line + NAME[1]), HPos::Left, GREY),
        Some(filter) => write_kernel(canvas, &filter.kernel, [left, line + NAME[1]], room),
    }
}

/// How sums become pixels, where that is not plain.
fn note(Rendering { activation, offset, fit }: Rendering) -> String {
    let activation = match activation {
        Activation::None => "",
        Activation::Relu => "ReLU",
        Activation::Abs => "absolute",
    };
    let offset = if offset == 0.0 { String::new() } else { format!("{offset:+}") };
    [activation, if fit { "scaled" } else { "" }, &offset]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

/// Lines that a kernel takes: its rows, or one that says its size.
fn written_lines(kernel: &Kernel) -> usize {
    if kernel.size().into_iter().max() <= Some(WRITTEN) { kernel.size()[0] } else { 1 }
}

/// Colour in which the numbers of a channel stand.
fn ink(kernel: &Kernel, channel: usize) -> RGBColor {
    const CHANNELS: [RGBColor; 3] =
        [RGBColor(0xb0, 0x3a, 0x3a), RGBColor(0x2e, 0x7d, 0x46), RGBColor(0x34, 0x5f, 0xb0)];
    if kernel.channels() == 1 { GREY } else { CHANNELS[channel] }
}

/// The kernel as a matrix in brackets for each channel, with `1/16` before them where it has a divisor; `at` is the left end
/// of its first row and that row's middle. Where that takes too much room, its size alone.
fn write_kernel(canvas: &Canvas, kernel: &Kernel, [left, top]: [f64; 2], room: f64) -> Drawn {
    let [rows, columns] = kernel.size();
    let say_size = || {
        let deep = if kernel.channels() == 1 { String::new() } else { format!("x{}", kernel.channels()) };
        canvas.text(&format!("{rows}x{columns}{deep} kernel"), SMALL, (left, top), HPos::Left, GREY)
    };
    if rows.max(columns) > WRITTEN {
        return say_size();
    }
    let texts: Vec<Vec<String>> = kernel.rows().map(|row| row.iter().copied().map(short).collect()).collect();
    let factor = if kernel.divisor() == 1.0 { String::new() } else { format!("1/{}", short(kernel.divisor())) };
    let mut widths = vec![vec![0.0_f64; columns]; kernel.channels()];
    for (i, row) in texts.iter().enumerate() {
        for (width, number) in widths[i / rows].iter_mut().zip(row) {
            *width = width.max(canvas.width(number, SMALL)?);
        }
    }
    let start = if factor.is_empty() { left } else { left + canvas.width(&factor, SMALL)? + 6.0 };
    let matrix_width = |widths: &Vec<f64>| widths.iter().map(|width| width + SPACE).sum::<f64>() + SPACE;
    let end = start + widths.iter().map(|widths| matrix_width(widths) + SPACE).sum::<f64>() - SPACE;
    if end > left + room {
        return say_size();
    }
    let bottom = top + (rows - 1) as f64 * LINE;
    canvas.text(&factor, SMALL, (left, (top + bottom) / 2.0), HPos::Left, GREY)?;
    let mut start = start;
    for (channel, (matrix, widths)) in texts.chunks(rows).zip(&widths).enumerate() {
        let colour = ink(kernel, channel);
        write_matrix(canvas, matrix, widths, [start, top], colour)?;
        start += matrix_width(widths) + SPACE;
    }
    Ok(())
}

/// Rows of numbers in brackets.
fn write_matrix(
    canvas: &Canvas,
    rows: &[Vec<String>],
    widths: &[f64],
    [start, top]: [f64; 2],
    colour: RGBColor,
) -> Drawn {
    let mut right = start;
    for (row, y) in rows.iter().zip(0..) {
        right = start;
        for (number, width) in row.iter().zip(widths) {
            right += SPACE + width;
            canvas.text(number, SMALL, (right, top + f64::from(y) * LINE), HPos::Right, colour)?;
        }
    }
    let [above, below] = [top - 0.5 * LINE, top + (rows.len() as f64 - 0.5) * LINE];
    for (x, serif) in [(start + 1.0, 4.0), (right + SPACE - 1.0, -4.0)] {
        canvas.line(&[(x + serif, above), (x, above), (x, below), (x + serif, below)], colour, 1.0)?;
    }
    Ok(())
}

/// A number with at most three digits after the point.
fn short(number: f32) -> String {
    let text = format!("{number:.3}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text.len() > 8 { format!("{number:.2e}") } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::super::{find, named, scene};
    use super::*;

    #[test]
    fn a_sheet_has_room_for_every_picture_and_kernel() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sheet.png");
        let engine = Engine::new(1).unwrap();
        let small = Bitmap::new([1, 5, 7], (0..35).collect()).unwrap();
        let mut filters = named();
        filters.push(Filter::new("a".repeat(500), Kernel::new(&vec![vec![-0.123_456; 100]; 3], 1e-9).unwrap()));
        filters.push(Filter::new("猫\n", Kernel::new(&vec![vec![1e-12; 7]; 7], 1e7).unwrap()));
        for (picture, side) in [(&scene(), 100), (&small, 256), (&small, 3)] {
            let options = SheetOptions { side, columns: None };
            sheet(&path, &engine, picture, &filters, &Placement::default(), &options).unwrap();
            assert!(Bitmap::read(&path).unwrap().size()[1] > 100);
        }
        let placement = Placement { padding: Padding::symmetric(9_000), ..Placement::default() };
        let error = sheet(&path, &engine, &small, &filters, &placement, &SheetOptions::default()).unwrap_err();
        assert!(error.to_string().contains("too large"), "{error}");
    }

    #[test]
    fn filters_of_a_size_share_a_pass() {
        let engine = Engine::new(1).unwrap();
        let mut filters =
            ["box-blur-5x5", "identity", "gaussian-blur-5x5", "sharpen"].map(|name| find(name).unwrap()).to_vec();
        filters.push(Filter::new("grey", Kernel::parse("0.3 | 0.6 | 0.1").unwrap()));
        let picture = scene();
        let passes = passes(&engine, &picture, &filters, &Placement::default()).unwrap();
        let members: Vec<&[usize]> = passes.iter().map(|(members, _)| &members[..]).collect();
        assert_eq!(members, [&[1, 3][..], &[0, 2], &[4]]);
        for (members, pass) in &passes {
            for (&i, result) in members.iter().zip(pass.bitmaps().0) {
                let alone = Pass::new(&engine, &picture, &filters[i..=i], &Placement::default()).unwrap();
                assert!(result == alone.bitmaps().0[0], "{}", filters[i].name);
                assert!(i != 1 || result == picture);
            }
        }
    }

    #[test]
    fn large_pictures_shrink_to_means() {
        let picture = Bitmap::new([1, 2, 4], vec![0, 10, 4, 4, 20, 30, 4, 4]).unwrap();
        assert_eq!(shrunk(&picture, 2), Bitmap::new([1, 1, 2], vec![15, 4]).unwrap());
        assert_eq!(shrunk(&picture, 4), picture);
    }

    #[test]
    fn numbers_are_short() {
        let cases = [(1.0, "1"), (-0.5, "-0.5"), (1.0 / 3.0, "0.333"), (476.0, "476"), (0.0, "0"), (1e12, "1.00e12")];
        for (number, expected) in cases {
            assert_eq!(short(number), expected);
        }
    }
}
