//! Networks from ONNX files: a graph of operators becomes a [`Net`] like any other, and its weights a state dict.
//!
//! What is read is what classifiers are made of, of opsets 6 to 28. Everything else is refused in one message that names the nodes,
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
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use convnet_kernels::memory;
use prost::Message;
use prost::bytes::Bytes;

use self::constant::{External, FLOATS};
use self::graph::Graph;
use self::layout::{Axis, Layout};
use self::lower::Lowered;
use self::problem::Unsupported;
use self::reader::{Reader, Value, View};
use crate::data::{open, stored};
use crate::net::Net;
use crate::ops::{Op, PictureSize, Shape};
use crate::weights::{is_onnx, printable};
use crate::{Error, Result, StateDict, parallel};

pub use self::write::{Export, OPSET, write};

/// Opsets that are read.
const OPSETS: std::ops::RangeInclusive<i64> = 6..=28;
/// Most bytes of a message.
const MAX_BYTES: u64 = (1 << 31) - 1;
/// Most channels of pictures, or features, that a network takes.
const MAX_CHANNELS: usize = 1 << 20;
/// Height and width of pictures where neither the file nor the caller says them.
const USUAL: usize = 224;

/// What a file leaves open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The size of pictures, in place of the file's.
    pub input: Option<PictureSize>,
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
    /// Channels, height and width of pictures as the file says them, or usual ones where it leaves them open.
    pub usual: [usize; 3],
    /// Whether it takes pictures as whole numbers from 0 to 255, which it normalises itself.
    pub takes_bytes: bool,
    /// What the file does not say, and is taken as usual: "pictures of 3x224x224".
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
    let (file, length) = open(path)?;
    if length > MAX_BYTES {
        return Err(Error::file(
            path,
            format!("expected at most {MAX_BYTES} bytes, the most of the format, got {length}"),
        ));
    }
    let bytes = read_whole(&file, length).map_err(Error::io("reading", path))?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    parse(bytes.into(), &External::beside(folder.to_owned()), &name, options)
        .map_err(|problem| Error::file(path, problem))
}

/// All bytes of a file that has so many, at most [`MAX_BYTES`], read by all cores.
fn read_whole(file: &File, length: u64) -> io::Result<Vec<u8>> {
    /// Bytes that a thread reads at a time.
    const PART: usize = 8 << 20;
    let mut bytes = memory::zero_bytes(length as usize);
    let failed = Mutex::new(None);
    let parts: Vec<_> = bytes.chunks_mut(PART).enumerate().collect();
    parallel::for_each(
        parts,
        || (),
        |(index, part): (usize, &mut [u8]), ()| {
            if let Err(error) = stored::read_at(file, (index * PART) as u64, part) {
                failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            }
        },
    );
    failed.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(bytes), Err)
}

/// Reads a network from the bytes of a file. Elements in other files are not read.
///
/// # Errors
/// [`Error::Invalid`] with what [`read`] tells of a file.
pub fn read_bytes(bytes: Vec<u8>, name: &str, options: &Options) -> Result<Imported> {
    parse(bytes.into(), &External::default(), name, options).map_err(Error::Invalid)
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
    let opset = opset.map(|set| set.version).filter(|opset| OPSETS.contains(opset)).ok_or_else(|| {
        let found = opset.map_or_else(|| "none".to_owned(), |set| set.version.to_string());
        format!("expected an opset from {} to {}, got {found}", OPSETS.start(), OPSETS.end())
    })?;
    let producer = [&model.producer_name[..], &model.producer_version].join(" ");
    let made_by = match producer.trim() {
        "" => format!("opset {opset}"),
        producer => format!("opset {opset}, written by {}", printable(producer)),
    };
    let mut assumed = Vec::new();
    let input = Input::find(graph, options, &mut assumed)?;
    if input.axes == NHWC && !input.bytes {
        let [channels, ..] = input.usual;
        assumed.push(format!(
            "pictures of height, width and channels, as the last axis of its input has length {channels}"
        ));
    }
    if input.shape[0] > MAX_CHANNELS || input.batch > MAX_CHANNELS {
        return Err(format!("expected at most {MAX_CHANNELS} channels and pictures, got {:?}", input.shape));
    }
    Op::Input(Shape::Map(input.shape)).output(&[])?;
    let view = View { node: 0, layout: Layout::of(input.batch, input.shape, input.axes) };
    let mut reader = Reader::new(Graph::new(input.shape), input.batch, opset, external);
    reader.define(input.name, Value::View(view));
    for (tensor, constant) in graph.initializer.iter().zip(external.read_all(&graph.initializer)) {
        let in_tensor = |problem| format!("tensor '{}': {problem}", printable(&tensor.name));
        if reader.is_defined(&tensor.name) {
            return Err(in_tensor("another one has its name".into()));
        }
        reader.define(&tensor.name, Value::Constant(constant.map_err(in_tensor)?.into()));
    }
    let given = graph.node.iter().flat_map(|node| &node.output).find(|name| reader.is_defined(name));
    if let Some(name) = given {
        return Err(format!("a node gives the tensor '{}', which is there already", printable(name)));
    }
    for node in order::running(&graph.node)? {
        reader.read(node);
    }
    let (view, flat) = output(&reader, graph, &made_by)?;
    if let [first, others @ ..] = &graph.output[..]
        && !others.is_empty()
    {
        assumed.push(format!("the first of its {} outputs, '{}'", others.len() + 1, printable(&first.name)));
    }
    let features = input.axes.len() <= 1;
    let lowered = lower::lower(&mut reader.graph, view.node, &net_name(name), features, flat);
    let Lowered { net, weights } = lowered.map_err(|refused| {
        reader.refuse(&refused);
        match reader.unsupported.is_empty() {
            true => refused.into_iter().map(|refused| refused.problem).collect::<Vec<_>>().join("; "),
            false => problem::message(&reader.unsupported, &made_by),
        }
    })?;
    let metadata = model.metadata_props.iter().map(|entry| (entry.key.clone(), entry.value.clone())).collect();
    Ok(Imported { net, weights, metadata, usual: input.usual, takes_bytes: input.bytes, assumed })
}

/// The tensor that is the first output, and whether it is all of a value in a row.
///
/// # Errors
/// Nodes that were not read, or an output that is none of a net.
fn output(reader: &Reader<'_>, graph: &proto::Graph, made_by: &str) -> Result<(View, bool), String> {
    let output = graph.output.first().ok_or("it has no output")?;
    if !reader.unsupported.is_empty() {
        return Err(problem::message(&reader.unsupported, made_by));
    }
    let in_output = |problem| format!("its output '{}': {problem}", printable(&output.name));
    let Some(Value::View(view)) = reader.value(&output.name).map_err(in_output)?.cloned() else {
        return Err(format!("its output '{}' does not depend on its input", printable(&output.name)));
    };
    match (check_output(reader, &view), reader.sharing) {
        (Ok(flat), _) => Ok((view, flat)),
        (Err(_), Some(node)) if view.layout.shares_batch() => {
            let problem = "puts pictures and something else into one dimension".to_owned();
            Err(problem::message(&[Unsupported::new(node, problem)], made_by))
        }
        (Err(problem), _) => Err(problem),
    }
}

/// A name for a net, from that of its file.
fn net_name(file: &str) -> String {
    match file {
        "" => "net".into(),
        file => file.chars().map(|c| if c.is_control() { '_' } else { c }).collect(),
    }
}

/// Whether an output's elements are those of a net's output: maps, or if flat all of them in a row.
fn check_output(reader: &Reader<'_>, view: &View) -> Result<bool, String> {
    let shape = reader.graph.shape(view.node);
    let maps = Layout::map(reader.batch, shape);
    let flat = |layout: &Layout| layout.reshape(&[reader.batch, shape.iter().product()]);
    let in_order = !view.layout.shares_batch() && flat(&view.layout).is_some_and(|own| Some(own) == flat(&maps));
    match in_order {
        true => Ok(view.layout != maps),
        false => Err(format!("expected an output of batch and classes, got {}", reader.described(view))),
    }
}

/// The one input of a network.
struct Input<'g> {
    name: &'g str,
    batch: usize,
    shape: [usize; 3],
    /// The shape that the file says, or a usual one.
    usual: [usize; 3],
    axes: &'static [Axis],
    /// Whether its elements are bytes.
    bytes: bool,
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
        let bytes = tensor.element == write::BYTE;
        if !bytes && !FLOATS.contains(&tensor.element.into()) {
            return Err(format!("expected floating-point numbers or bytes as input '{}'", printable(name)));
        }
        let dims = tensor.shape.as_ref().map(|shape| shape.dim.iter().map(dimension).collect::<Vec<_>>());
        let found = match dims.as_deref() {
            Some(&[batch, a, b, c]) => Ok(Input::pictures(name, batch, [a, b, c], options, assumed)),
            Some(&[batch]) => Ok(Input::of(name, batch, [1; 3], &[])),
            Some(&[batch, Some(features)]) => Ok(Input::of(name, batch, [features, 1, 1], &[Axis::Channel])),
            Some(&[batch, Some(channels), Some(length)]) => {
                Ok(Input::of(name, batch, [channels, 1, length], &[Axis::Channel, Axis::Column]))
            }
            _ => Err(format!("expected batch, channels, height and width of input '{}'", printable(name))),
        };
        Ok(Input { bytes, ..found? })
    }

    fn of(name: &'g str, batch: Option<usize>, shape: [usize; 3], axes: &'static [Axis]) -> Input<'g> {
        Input { name, batch: batch.unwrap_or(1), shape, usual: shape, axes, bytes: false }
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
        let [channels, height, width] = said;
        let usual = [channels.unwrap_or(3), height.unwrap_or(USUAL), width.unwrap_or(USUAL)];
        let shape = options.input.map_or(usual, |size| size.with_channels(usual[0]));
        if options.input.is_none() && said.contains(&None) {
            let [c, h, w] = usual;
            assumed.push(format!("pictures of {c}x{h}x{w}"));
        }
        Input { usual, ..Input::of(name, batch, shape, axes) }
    }
}

/// A dimension that a file fixes.
fn dimension(dim: &proto::Dimension) -> Option<usize> {
    dim.value.and_then(|value| usize::try_from(value).ok()).filter(|&value| value > 0)
}
