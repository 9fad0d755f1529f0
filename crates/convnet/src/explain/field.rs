//! What a unit sees: the receptive field of one element of a layer's maps, in theory and in effect.

use std::ops::Range;

use super::map::Map;
use super::{Explainer, cam, up_to};
use crate::exec::{self, Inference};
use crate::geometry::{Window, adaptive_span};
use crate::net::{Net, NodeId};
use crate::ops::{Op, Shape};
use crate::{Error, Result};

/// Channels whose gradients an effective field is the mean of, at most.
const CHANNELS: usize = 32;
/// What belongs to an effective field: more than this share of its largest number (Luo et al. 2016, section 3: within two standard
/// deviations of a bell curve).
const WITHIN: f32 = 1.0 - 0.9545;

/// The pixels of the picture that a unit can depend on: a box, cut off at the picture's borders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Rows.
    pub rows: Range<usize>,
    /// Columns.
    pub columns: Range<usize>,
}

impl Field {
    /// Height and width.
    pub fn size(&self) -> [usize; 2] {
        [self.rows.len(), self.columns.len()]
    }

    /// The smallest box that holds both.
    fn join(self, other: Option<Field>) -> Field {
        let Some(other) = other else { return self };
        let hull = |a: Range<usize>, b: Range<usize>| a.start.min(b.start)..a.end.max(b.end);
        Field { rows: hull(self.rows, other.rows), columns: hull(self.columns, other.columns) }
    }
}

/// A unit of a layer, and what it sees.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// The layer.
    pub layer: String,
    /// Channels, height and width of its maps.
    pub shape: [usize; 3],
    /// Row and column of the unit.
    pub unit: [usize; 2],
    /// What it can depend on.
    pub field: Field,
    /// How much it depends on each pixel: the root mean square of the gradients, over the channels of unit and picture.
    pub effective: Map,
    /// Pixels that count: those above 4.55 % of the largest number.
    pub pixels: usize,
}

impl Seen {
    /// The side of a square of as many pixels as count.
    pub fn side(&self) -> f64 {
        (self.pixels as f64).sqrt()
    }
}

/// The pixels that the unit of a node can depend on. Followed backwards through every window, padding left out; where a net
/// branches, the hull of what the branches see. Gaps in it (a stride above the kernel, a dilation) count as seen.
///
/// # Errors
/// [`Error::Layer`] for a node without maps, [`Error::Setting`] for a unit that it does not have.
pub fn receptive_field(net: &Net, node: NodeId, unit: [usize; 2]) -> Result<Field> {
    let [_, height, width] = cam::maps_or_pixels_of(net, node)?;
    if unit[0] >= height || unit[1] >= width {
        let expected = format!("a row below {height} and a column below {width}");
        return Err(Error::setting("unit", expected, format!("{},{}", unit[0], unit[1])));
    }
    let mut seen: Vec<Option<Field>> = vec![None; node.index() + 1];
    seen[node.index()] = Some(Field { rows: unit[0]..unit[0] + 1, columns: unit[1]..unit[1] + 1 });
    for index in (1..=node.index()).rev() {
        let Some(field) = seen[index].take() else { continue };
        let reader = &net.nodes()[index];
        for (position, &input) in reader.inputs.iter().enumerate() {
            let through = through(net, NodeId(index), position, &field);
            let found = seen[input.index()].take();
            seen[input.index()] = Some(through.join(found));
        }
    }
    // Without a path there is nothing to see; every node of a net has one.
    Ok(seen[0].take().unwrap_or(Field { rows: 0..0, columns: 0..0 }))
}

/// The part of an input that a part of a node's output depends on.
fn through(net: &Net, node: NodeId, position: usize, field: &Field) -> Field {
    let reader = net.node(node);
    let input = net.node(reader.inputs[position]).shape;
    let size = match input {
        Shape::Map([_, height, width]) => [height, width],
        Shape::Vector(_) => [1; 2],
    };
    let whole = Field { rows: 0..size[0], columns: 0..size[1] };
    let window = |window: &Window| Field {
        rows: covered(window, 0, &field.rows, size),
        columns: covered(window, 1, &field.columns, size),
    };
    match &reader.op {
        Op::Conv2d(op) => window(&op.window),
        Op::MaxPool2d(op) => window(&op.window),
        Op::AvgPool2d(op) => window(&op.window),
        Op::AdaptiveAvgPool2d(op) => {
            let span = |axis: usize, range: &Range<usize>| {
                let at = |index: usize| adaptive_span(index, size[axis], op.output[axis]);
                at(range.start).start..at(range.end - 1).end
            };
            Field { rows: span(0, &field.rows), columns: span(1, &field.columns) }
        }
        Op::Linear(op) if !op.per_pixel => whole,
        Op::Flatten => whole,
        // A factor for each channel.
        Op::Mul if position > 0 => whole,
        Op::Input(_) | Op::Linear(_) | Op::Mul | Op::Add | Op::Concat => field.clone(),
        Op::BatchNorm2d(_) | Op::LayerNorm2d(_) | Op::LocalResponseNorm(_) | Op::LayerScale(_) => field.clone(),
        Op::Activation(_) | Op::Softmax | Op::PadChannels(_) | Op::Slice(_) | Op::ChannelShuffle(_) => field.clone(),
        Op::Dropout(_) | Op::Dropout2d(_) | Op::StochasticDepth(_) => field.clone(),
    }
}

/// The pixels of an axis that some placements of a window read, with those between them.
fn covered(window: &Window, axis: usize, placements: &Range<usize>, size: [usize; 2]) -> Range<usize> {
    let (stride, dilation, padding) = (window.stride[axis], window.dilation[axis], window.pads(size).0[axis]);
    let read = placements.clone().flat_map(|placement| {
        (0..window.kernel[axis]).filter_map(move |tap| (placement * stride + tap * dilation).checked_sub(padding))
    });
    let read = read.filter(|&pixel| pixel < size[axis]);
    let (first, end) = read.fold((usize::MAX, 0), |(first, end), pixel| (first.min(pixel), end.max(pixel + 1)));
    first.min(end)..end
}

impl Explainer {
    /// What a unit of a layer sees of a picture, in theory and in effect (Luo et al. 2016): `unit` is its row and column, the
    /// middle where there is none; `channel` the map that it is a unit of, up to 32 of them otherwise.
    ///
    /// # Errors
    /// [`Error::Unknown`] or [`Error::Layer`] for a layer that there is not or that has no maps; [`Error::Setting`] for a unit or a
    /// channel that it does not have; [`Error::Length`] for a picture of another size.
    pub fn sees(
        &mut self,
        image: &[f32],
        layer: &str,
        unit: Option<[usize; 2]>,
        channel: Option<usize>,
    ) -> Result<Seen> {
        let node = exec::find_layer(&self.net, layer)?;
        let shape @ [channels, height, width] = cam::maps_or_pixels_of(&self.net, node)?;
        let unit = unit.unwrap_or([height / 2, width / 2]);
        let field = receptive_field(&self.net, node, unit)?;
        let chosen: Vec<usize> = match channel {
            Some(channel) if channel >= channels => {
                return Err(Error::setting("channel", format!("below {channels}"), channel));
            }
            Some(channel) => vec![channel],
            None => (0..channels.min(CHANNELS)).map(|i| i * channels / channels.min(CHANNELS)).collect(),
        };
        let [_, rows, columns] = self.description.input();
        let mut sums = vec![0.0_f64; rows * columns];
        let net = up_to(&self.net, node)?;
        let builder =
            Inference::builder(&net, &self.weights).batch(chosen.len().min(super::input::BATCH)).taps(["input"]);
        let mut session = builder.build_gradients(&self.engine)?;
        for chosen in chosen.chunks(super::input::BATCH) {
            session.forward(&image.repeat(chosen.len()), chosen.len())?;
            let mut by = vec![0.0; chosen.len() * channels * height * width];
            for (of_unit, &channel) in by.chunks_exact_mut(channels * height * width).zip(chosen) {
                of_unit[(channel * height + unit[0]) * width + unit[1]] = 1.0;
            }
            session.backward(&by)?;
            for plane in session.gradient("input")?.1.chunks_exact(rows * columns) {
                sums.iter_mut().zip(plane).for_each(|(sum, &by)| *sum += f64::from(by) * f64::from(by));
            }
        }
        let planes = (chosen.len() * self.description.input()[0]) as f64;
        let effective = Map::new([rows, columns], sums.into_iter().map(|sum| (sum / planes).sqrt() as f32).collect());
        let least = WITHIN * effective.range()[1];
        let pixels = effective.values().iter().filter(|&&by| by > least).count();
        Ok(Seen { layer: self.net.node(node).name.clone(), shape, unit, field, effective, pixels })
    }
}
