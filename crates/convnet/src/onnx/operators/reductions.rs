//! Means and other reductions over rows and columns, or over channels.

use super::pooling::largest;
use crate::onnx::call::{Call, axis_of};
use crate::onnx::graph::{Affine, Part};
use crate::onnx::layout::Axis;
use crate::onnx::reader::{Inputs, Reader, Value, View, given, needed, view};
use crate::ops::AdaptiveAvgPool2d;

/// Which axes of a value a node reduces, and the layout of what is left.
struct Reduction {
    view: View,
    axes: Vec<Axis>,
    dims: Vec<usize>,
    keeps: bool,
}

impl Reduction {
    fn read(reader: &Reader<'_>, call: &Call<'_>, inputs: &Inputs) -> Result<Reduction, String> {
        let view = view(needed(inputs, 0, "data")?)?.clone();
        let rank = view.layout.rank();
        let axes = call.axes(given(inputs, 1)?)?.unwrap_or_default();
        let mut dims = axes.iter().map(|&axis| axis_of(axis, rank)).collect::<Result<Vec<_>, _>>()?;
        if axes.is_empty() && call.int("noop_with_empty_axes", 0) == 0 {
            dims = (0..rank).collect();
        }
        let axes = view.layout.axes_of(&dims, reader.graph.shape(view.node));
        let axes = axes.ok_or_else(|| {
            format!(
                "expected channels, or height and width, to be reduced, got dimensions {dims:?} of {}",
                reader.described(&view)
            )
        })?;
        Ok(Reduction { view, axes, dims, keeps: call.int("keepdims", 1) != 0 })
    }

    /// The value of what is left, over a node in which the axes have length 1.
    fn left(self, node: usize) -> Value {
        let reduced = self.view.layout.reduced(&self.dims);
        let layout = if self.keeps { reduced } else { reduced.squeeze(|dim| self.dims.contains(&dim)) };
        Value::View(View { node, layout })
    }

    fn has(&self, axis: Axis) -> bool {
        self.axes.contains(&axis)
    }
}

pub(super) fn mean<'g>(reader: &mut Reader<'g>, call: &Call<'g>, inputs: &Inputs) -> Result<Value, String> {
    let reduction = Reduction::read(reader, call, inputs)?;
    let node = mean_of(reader, &reduction)?;
    Ok(reduction.left(node))
}

fn mean_of(reader: &mut Reader<'_>, reduction: &Reduction) -> Result<usize, String> {
    let node = reduction.view.node;
    let [_, rows, columns] = reader.graph.shape(node);
    let output =
        [if reduction.has(Axis::Row) { 1 } else { rows }, if reduction.has(Axis::Column) { 1 } else { columns }];
    let node = match output == [rows, columns] {
        true => node,
        false => reader.graph.net(AdaptiveAvgPool2d::new(output), &[node], Vec::new())?,
    };
    match reduction.has(Axis::Channel) {
        true => Ok(reader.graph.part(Part::ChannelMean, node)),
        false => Ok(node),
    }
}

pub(super) fn sum<'g>(reader: &mut Reader<'g>, call: &Call<'g>, inputs: &Inputs) -> Result<Value, String> {
    let reduction = Reduction::read(reader, call, inputs)?;
    let [channels, rows, columns] = reader.graph.shape(reduction.view.node);
    let lengths = [(Axis::Channel, channels), (Axis::Row, rows), (Axis::Column, columns)];
    let count: usize = lengths.into_iter().filter(|&(axis, _)| reduction.has(axis)).map(|(_, length)| length).product();
    let mean = mean_of(reader, &reduction)?;
    let channels = reader.graph.shape(mean)[0];
    let node = reader.graph.affine(mean, Affine::uniform(channels, count as f32, 0.0));
    Ok(reduction.left(node))
}

pub(super) fn max<'g>(reader: &mut Reader<'g>, call: &Call<'g>, inputs: &Inputs) -> Result<Value, String> {
    let reduction = Reduction::read(reader, call, inputs)?;
    let [_, rows, columns] = reader.graph.shape(reduction.view.node);
    let whole = (rows == 1 || reduction.has(Axis::Row)) && (columns == 1 || reduction.has(Axis::Column));
    if reduction.has(Axis::Channel) || !whole {
        return Err("expected height and width to be reduced".into());
    }
    let node = largest(reader, reduction.view.node)?;
    Ok(reduction.left(node))
}

pub(super) fn global_average<'g>(reader: &mut Reader<'g>, _: &Call<'g>, inputs: &Inputs) -> Result<Value, String> {
    let (map, axes) = reader.maps_or_lists(needed(inputs, 0, "X")?)?;
    let node = reader.graph.net(AdaptiveAvgPool2d::new([1, 1]), &[map], Vec::new())?;
    Ok(reader.of_axes(axes, node))
}
