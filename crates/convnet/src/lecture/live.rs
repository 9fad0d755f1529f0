//! How rows ask the library: nets made for the occasion, layers of the named ones, and small pictures sent through them.

use super::figure::product;
use super::{Figure, Lang, Text};
use crate::columns::{Columns, Style};
use crate::exec::reference::{Mode, Reference, Tensors};
use crate::geometry::Window;
use crate::net::{LayerRow, Net, Table, rewrite};
use crate::ops::{Conv2d, Op, Shape};
use crate::zoo::{self, ZooOptions};
use crate::{Error, Result};

/// A convolution with biases that start as usual.
pub(super) fn conv(filters: usize, window: Window) -> Op {
    Op::Conv2d(Conv2d::new(filters, window))
}

/// A net of these layers, one after the other, for pictures of `[channels, height, width]`.
pub(super) fn chain(input: [usize; 3], layers: &[(&str, Op)]) -> Result<Net> {
    let mut net = Net::new("lecture", Shape::Map(input))?;
    for (name, op) in layers {
        net.then(name, op.clone())?;
    }
    Ok(net)
}

/// A named net as it infers: without auxiliary outputs.
pub(super) fn named(name: &str) -> Result<Net> {
    rewrite::without_auxiliaries(&zoo::by_name(name, &ZooOptions::default())?)
}

/// A layer's row of a table.
pub(super) fn layer<'a>(table: &'a Table, name: &str) -> Result<&'a LayerRow> {
    let missing = || Error::invalid(format!("'{}' has no layer '{name}'", table.model));
    table.layers.iter().find(|row| row.name == name).ok_or_else(missing)
}

/// A layer's maps as height, width, channels; a vector is one pixel.
pub(super) fn maps(axes: &[usize]) -> [usize; 3] {
    match *axes {
        [channels, height, width] => [height, width, channels],
        _ => [1, 1, axes.iter().product()],
    }
}

/// The axes of a layer's weights in the lecture's order: kernel height and width, input channels that one filter sees,
/// filters; of a dense layer inputs and outputs.
pub(super) fn weight_axes(net: &Net, name: &str) -> Result<Vec<usize>> {
    let full = format!("{name}.weight");
    let missing = || Error::invalid(format!("'{}' has no weights '{full}'", net.name()));
    let (.., parameter) = net.parameters().into_iter().find(|(known, ..)| *known == full).ok_or_else(missing)?;
    Ok(match parameter.shape[..] {
        [filters, channels, height, width] => vec![height, width, channels, filters],
        _ => parameter.shape.into_iter().rev().collect(),
    })
}

/// A layer's weights as a figure: the axes multiplied, and the number that the net's table has.
pub(super) fn weights(net: &Net, name: &str, called: Text) -> Result<Figure> {
    let count = layer(&net.table(1), name)?.weights;
    Ok(Figure::weights(called, count).working(product(&weight_axes(net, name)?, " · ")))
}

/// What a net without biases makes of a picture, `[channels, height, width]`, by the reference's loops.
pub(super) fn run(net: &Net, weights: &[(&str, &[f64])], picture: &[f64]) -> Result<Vec<f64>> {
    let tensors: Tensors<f64> =
        weights.iter().map(|(layer, weights)| (format!("{layer}.weight"), weights.to_vec())).collect();
    Reference::new(net, tensors)?.forward(picture, Mode::Inference)
}

/// Columns of lines side by side, each as wide as its first line.
pub(super) fn beside(columns: &[Vec<String>], gap: &str) -> String {
    let height = columns.iter().map(Vec::len).max().unwrap_or(0);
    let cell = |column: &Vec<String>, y: usize| {
        let line = column.get(y).map_or("", String::as_str);
        let room = column.first().map_or(0, |first| first.chars().count());
        format!("{line:<room$}")
    };
    let line = |y: usize| columns.iter().map(|column| cell(column, y)).collect::<Vec<String>>().join(gap);
    (0..height).map(|y| line(y).trim_end().to_owned() + "\n").collect()
}

/// Numbers in rows of `width`, aligned.
pub(super) fn matrix(numbers: &[f64], width: usize) -> Vec<String> {
    let room = numbers.iter().map(|number| number.to_string().len()).max().unwrap_or(0);
    let row = |row: &[f64]| row.iter().map(|number| format!("{number:>room$}")).collect::<Vec<String>>().join(" ");
    numbers.chunks(width).map(row).collect()
}

/// Columns under headings, the first `left` aligned left.
pub(super) fn table(left: usize, headings: &[Text], rows: &[Vec<String>]) -> Text {
    let render = |lang| {
        let headings: Vec<&str> = headings.iter().map(|heading| heading.get(lang)).collect();
        let mut columns = Columns::new(left, &headings);
        rows.iter().for_each(|row| columns.row(row.iter().cloned()));
        columns.render(Style::Plain)
    };
    Text::with(render(Lang::En), render(Lang::Ko))
}

/// The side of a square output.
pub(super) fn side(window: &Window, input: usize) -> Result<usize> {
    window.output([input; 2]).map(|[height, _]| height).map_err(|error| Error::invalid(error.to_string()))
}
