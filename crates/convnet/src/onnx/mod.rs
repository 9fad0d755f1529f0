//! Networks from ONNX files: a graph of operators becomes a [`Net`] like any other, and its weights a state dict.
//!
//! What is read is what classifiers are made of, of opsets 7 to 28. Everything else is refused in one message that names the nodes,
//! their operators, the opset and the program that wrote the file. Nothing is believed: sizes are held against the file before
//! memory is asked for, elements in other files are read from the model's own folder alone, and what a file computes instead of
//! holding it is at most 16,777,216 elements.
//!
//! ```no_run
//! use convnet::onnx;
//!
//! # fn main() -> convnet::Result<()> {
//! let imported = onnx::read("resnet18.onnx".as_ref(), &onnx::Options::default())?;
//! println!("{} layers for {}", imported.net.nodes().len(), imported.net.input_shape());
//! # Ok(())
//! # }
//! ```

mod call;
mod constant;
mod fold;
mod graph;
mod layout;
mod lower;
mod names;
mod operators;
mod order;
mod problem;
mod proto;
mod reader;
#[cfg(test)]
mod tests;
mod wire;
mod write;

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io::Read;
use std::path::Path;

use prost::Message;
use prost::bytes::Bytes;

use self::constant::{External, FLOATS};
use self::graph::Graph;
use self::layout::{Axis, Layout};
use self::lower::Lowered;
use self::reader::{Reader, Value, View};
use crate::data::open;
use crate::net::Net;
use crate::ops::{Op, Shape};
use crate::weights::{is_onnx, printable};
use crate::{Error, Result, StateDict};

pub use self::write::{Export, OPSET, write};

/// Opsets that are read.
const OPSETS: std::ops::RangeInclusive<i64> = 7..=28;
/// Most bytes of a message.
const MAX_BYTES: u64 = 1 << 31;
/// Most channels of pictures, or features, that a network takes.
const MAX_CHANNELS: usize = 1 << 20;
/// Height and width of pictures where neither the file nor the caller says them.
const USUAL: usize = 224;

/// What a file leaves open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Channels, height and width of a picture, in place of the file's.
    pub input: Option<[usize; 3]>,
}

/// A network of an ONNX file.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The network.
    pub net: Net,
    /// Its parameters.
    pub weights: StateDict,
    /// What the file says beside them.
    pub metadata: BTreeMap<String, String>,
    /// What the file does not say, and is taken as usual: "pictures of 224x224".
    pub assumed: Vec<String>,
}

/// Whether a file begins as an ONNX model; what is no regular file is none.
///
/// # Errors
/// [`Error::Io`] when it cannot be read.
pub fn is_model(path: &Path) -> Result<bool> {
    if !fs::metadata(path).map_err(Error::io("opening", path))?.is_file() {
        return Ok(false);
    }
    let mut start = Vec::new();
    open(path)?.0.take(16).read_to_end(&mut start).map_err(Error::io("reading", path))?;
    Ok(is_onnx(&start))
}

/// Reads a network.
///
/// # Errors
/// [`Error::Io`] when the file cannot be read; [`Error::File`] when it is damaged, or a network that is not read here, with every
/// node that is the reason.
pub fn read(path: &Path, options: &Options) -> Result<Imported> {
    let (mut file, length) = open(path)?;
    if length > MAX_BYTES {
        return Err(Error::file(
            path,
            format!("expected at most {MAX_BYTES} bytes, the most of the format, got {length}"),
        ));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
    file.read_to_end(&mut bytes).map_err(Error::io("reading", path))?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    parse(bytes.into(), &External::beside(folder.to_owned()), &name, options)
        .map_err(|problem| Error::file(path, problem))
}

/// Reads a network from the bytes of a file.
fn parse(bytes: Bytes, external: &External, name: &str, options: &Options) -> Result<Imported, String> {
    wire::check(&bytes)?;
    let model = proto::Model::decode(bytes).map_err(|error| format!("it is damaged, or no ONNX model: {error}"))?;
    let graph = model.graph.as_ref().ok_or("it has no graph: it is damaged, or no ONNX model")?;
    if graph.node.len() > wire::MAX_NODES {
        return Err(format!("expected at most {} nodes, got {}", wire::MAX_NODES, graph.node.len()));
    }
    let opset = model.opset_import.iter().find(|set| matches!(&set.domain[..], "" | "ai.onnx"));
    let opset = opset.map_or(1, |set| set.version);
    let producer = [&model.producer_name[..], &model.producer_version].join(" ");
    let made_by = format!(
        "opset {opset}, written by {}",
        printable(if producer.trim().is_empty() { "nobody" } else { &producer })
    );
    if !OPSETS.contains(&opset) {
        return Err(format!("expected an opset from {} to {}, got {opset}", OPSETS.start(), OPSETS.end()));
    }
    let mut assumed = Vec::new();
    let input = Input::find(graph, options, &mut assumed)?;
    if input.shape[0] > MAX_CHANNELS || input.batch > MAX_CHANNELS {
        return Err(format!("expected at most {MAX_CHANNELS} channels and pictures, got {:?}", input.shape));
    }
    Op::Input(Shape::Map(input.shape)).output(&[])?;
    let view = View { node: 0, layout: Layout::of(input.batch, input.shape, input.axes) };
    let mut reader = Reader::new(Graph::new(input.shape), input.batch, opset, external);
    reader.define(input.name, Value::View(view));
    for tensor in &graph.initializer {
        let in_tensor = |problem| format!("tensor '{}': {problem}", printable(&tensor.name));
        reader.define(&tensor.name, Value::Constant(external.read(tensor).map_err(in_tensor)?.into()));
    }
    for node in order::running(&graph.node)? {
        reader.read(node);
    }
    let output = graph.output.first().ok_or("it has no output")?;
    let value = reader.value(&output.name).cloned();
    if !reader.unsupported.is_empty() {
        return Err(problem::message(&reader.unsupported, &made_by));
    }
    let Some(Value::View(view)) = value else {
        return Err(format!("its output '{}' does not depend on its input", printable(&output.name)));
    };
    let flat = check_output(&reader, &view)?;
    if let [_, others @ ..] = &graph.output[..]
        && !others.is_empty()
    {
        assumed.push(format!("the first of its {} outputs, '{}'", others.len() + 1, printable(&output.name)));
    }
    let features = input.axes.len() <= 1;
    let Lowered { net, weights } = lower::lower(&mut reader.graph, view.node, name, features, flat)?;
    let metadata = model.metadata_props.iter().map(|entry| (entry.key.clone(), entry.value.clone())).collect();
    Ok(Imported { net, weights, metadata, assumed })
}

/// Whether an output's elements are those of a net's output: maps, or if flat all of them in a row.
fn check_output(reader: &Reader<'_>, view: &View) -> Result<bool, String> {
    let shape = reader.graph.shape(view.node);
    let maps = Layout::map(reader.batch, shape);
    let flat = |layout: &Layout| layout.reshape(&[reader.batch, shape.iter().product()]);
    match flat(&view.layout).is_some_and(|own| Some(own) == flat(&maps)) {
        true => Ok(view.layout != maps),
        false => Err(format!("expected an output of batch and classes, got {}", reader.described(view))),
    }
}

/// The one input of a network.
struct Input<'g> {
    name: &'g str,
    batch: usize,
    shape: [usize; 3],
    axes: &'static [Axis],
}

const NCHW: &[Axis] = &[Axis::Channel, Axis::Row, Axis::Column];
const NHWC: &[Axis] = &[Axis::Row, Axis::Column, Axis::Channel];

impl<'g> Input<'g> {
    fn find(graph: &'g proto::Graph, options: &Options, assumed: &mut Vec<String>) -> Result<Input<'g>, String> {
        let known: HashSet<&str> = graph.initializer.iter().map(|tensor| &tensor.name[..]).collect();
        let inputs: Vec<&proto::ValueInfo> =
            graph.input.iter().filter(|input| !known.contains(&input.name[..])).collect();
        let [input] = inputs[..] else {
            let names: Vec<String> = inputs.iter().map(|input| format!("'{}'", printable(&input.name))).collect();
            return Err(format!("expected one input, the picture, got {}: {}", inputs.len(), names.join(", ")));
        };
        let name = &input.name[..];
        let tensor = input.kind.as_ref().and_then(|kind| kind.tensor.as_ref());
        let tensor = tensor.ok_or_else(|| format!("expected a tensor as input '{}'", printable(name)))?;
        if !FLOATS.contains(&tensor.element.into()) {
            return Err(format!("expected floating-point numbers as input '{}'", printable(name)));
        }
        let dims = tensor.shape.as_ref().map(|shape| shape.dim.iter().map(dimension).collect::<Vec<_>>());
        match dims.as_deref() {
            Some(&[batch, a, b, c]) => Ok(Input::pictures(name, batch, [a, b, c], options, assumed)),
            Some(&[batch]) => Ok(Input { name, batch: batch.unwrap_or(1), shape: [1; 3], axes: &[] }),
            Some(&[batch, Some(features)]) => {
                Ok(Input { name, batch: batch.unwrap_or(1), shape: [features, 1, 1], axes: &[Axis::Channel] })
            }
            Some(&[batch, Some(channels), Some(length)]) => {
                let axes = &[Axis::Channel, Axis::Column];
                Ok(Input { name, batch: batch.unwrap_or(1), shape: [channels, 1, length], axes })
            }
            _ => Err(format!("expected batch, channels, height and width of input '{}'", printable(name))),
        }
    }

    fn pictures(
        name: &'g str,
        batch: Option<usize>,
        [a, b, c]: [Option<usize>; 3],
        options: &Options,
        assumed: &mut Vec<String>,
    ) -> Input<'g> {
        let is_colours = |length: Option<usize>| matches!(length, Some(1 | 3));
        let last = is_colours(c) && !is_colours(a);
        let (said, axes) = if last { ([c, a, b], NHWC) } else { ([a, b, c], NCHW) };
        let shape = options.input.unwrap_or_else(|| {
            let [channels, height, width] = said;
            let usual = [channels.unwrap_or(3), height.unwrap_or(USUAL), width.unwrap_or(USUAL)];
            if said.contains(&None) {
                let [c, h, w] = usual;
                assumed.push(format!("pictures of {c}x{h}x{w}"));
            }
            usual
        });
        Input { name, batch: batch.unwrap_or(1), shape, axes }
    }
}

/// A dimension that a file fixes.
fn dimension(dim: &proto::Dimension) -> Option<usize> {
    dim.value.and_then(|value| usize::try_from(value).ok()).filter(|&value| value > 0)
}
