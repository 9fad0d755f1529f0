//! Poolings over windows.

use super::products::{around, padding};
use crate::Tensor;
use crate::geometry::{Padding, Window};
use crate::onnx::call::Call;
use crate::onnx::graph::{Operation, Surround};
use crate::onnx::reader::{Inputs, Reader, Value, needed};
use crate::ops::{AvgPool2d, Conv2d, MaxPool2d};

/// The window of a pooling over maps of that height and width, or of one axis.
fn window(call: &Call<'_>, axes: usize, input: [usize; 2]) -> Result<Window, String> {
    let window = Window {
        kernel: call.sides(axes, "kernel_shape", 0)?,
        stride: call.sides(axes, "strides", 1)?,
        dilation: call.sides(axes, "dilations", 1)?,
        padding: Padding::NONE,
        ceil_mode: call.int("ceil_mode", 0) != 0,
    };
    Ok(Window { padding: padding(call, axes, window, input)?, ..window })
}

pub(super) fn max<'g>(reader: &mut Reader<'g>, call: &Call<'g>, inputs: &Inputs) -> Result<Value, String> {
    let (map, axes) = reader.maps_or_lists(needed(inputs, 0, "X")?)?;
    let [_, height, width] = reader.graph.shape(map);
    let window = window(call, axes, [height, width])?;
    let padded = &reader.graph.nodes[map];
    let folded = match &padded.operation {
        // A last window that begins in its own padding is dropped, one that begins in padding that was there before is not.
        _ if window.ceil_mode => None,
        // No number is below these, so they may be left out.
        Operation::Pad(Surround { value, .. }) if *value <= -1e30 => Some(around(reader, map, window, *value)),
        Operation::Pad(Surround { value: 0.0, .. }) if reader.graph.nodes[padded.inputs[0]].positive => {
            Some(around(reader, map, window, 0.0))
        }
        _ => None,
    };
    // Padding beyond half a kernel stays where it was.
    let folded = folded.map(|(map, window)| reader.graph.net(MaxPool2d { window }, &[map], Vec::new()));
    let node = match folded {
        Some(Ok(node)) => node,
        _ => reader.graph.net(MaxPool2d { window }, &[map], Vec::new())?,
    };
    Ok(reader.of_axes(axes, node))
}

pub(super) fn average<'g>(reader: &mut Reader<'g>, call: &Call<'g>, inputs: &Inputs) -> Result<Value, String> {
    let (mut map, axes) = reader.maps_or_lists(needed(inputs, 0, "X")?)?;
    let [_, height, width] = reader.graph.shape(map);
    let mut window = window(call, axes, [height, width])?;
    let count_include_pad = call.int("count_include_pad", 0) != 0;
    if window.dilation != [1, 1] {
        let counts_all = count_include_pad || window.pads([height, width]) == ([0; 2], [0; 2]);
        let node = dilated_mean(reader, map, window, counts_all)?;
        return Ok(reader.of_axes(axes, node));
    }
    if count_include_pad && !window.ceil_mode {
        (map, window) = around(reader, map, window, 0.0);
    }
    let op = AvgPool2d { window, count_include_pad };
    let node = match reader.graph.net(op, &[map], Vec::new()) {
        Ok(node) => node,
        // Padding beyond half a kernel: zeros that are counted can be put there before.
        Err(problem) => {
            let Padding::Explicit { begin, end } = window.padding else { return Err(problem) };
            if !count_include_pad || window.ceil_mode {
                return Err(problem);
            }
            let padded = reader.graph.pad(map, Surround { begin, end, value: 0.0 })?;
            let op = AvgPool2d { window: Window { padding: Padding::NONE, ..window }, count_include_pad };
            reader.graph.net(op, &[padded], Vec::new())?
        }
    };
    Ok(reader.of_axes(axes, node))
}

/// A mean over pixels that lie apart, as a convolution of each channel: of as many pixels in every window.
fn dilated_mean(reader: &mut Reader<'_>, map: usize, window: Window, counts_all: bool) -> Result<usize, String> {
    let [channels, height, width] = reader.graph.shape(map);
    let floor = Window { ceil_mode: false, ..window };
    let is_even = window.output([height, width]).ok() == floor.output([height, width]).ok();
    if !counts_all || !is_even {
        return Err("expected windows of as many pixels each for a mean with dilation".into());
    }
    let [rows, columns] = window.kernel;
    let count = rows * columns;
    let weight = Tensor::new([channels, 1, rows, columns], vec![1.0 / count as f32; channels * count]);
    let op = Conv2d { groups: channels, bias: false, ..Conv2d::new(channels, floor) };
    reader.graph.net(op, &[map], vec![("weight", weight)])
}

pub(super) fn global_max<'g>(reader: &mut Reader<'g>, _: &Call<'g>, inputs: &Inputs) -> Result<Value, String> {
    let (map, axes) = reader.maps_or_lists(needed(inputs, 0, "X")?)?;
    let node = largest(reader, map)?;
    Ok(reader.of_axes(axes, node))
}

/// The largest number of each channel.
pub(super) fn largest(reader: &mut Reader<'_>, map: usize) -> Result<usize, String> {
    let [_, rows, columns] = reader.graph.shape(map);
    let window = Window { kernel: [rows, columns], ..Window::square(1) };
    reader.graph.net(MaxPool2d { window }, &[map], Vec::new())
}
