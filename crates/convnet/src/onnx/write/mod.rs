//! Networks as ONNX files: opset 17, IR version 8, which every runtime of the last years reads.
//!
//! Each operation becomes one operator where ONNX has it, and else the few that other programs write for it, which [`super::read()`]
//! tells for what they are: a file that is read again gives the same bits. Metadata hold the classes and what is done to a picture.

mod node;

use std::borrow::Cow;
use std::io::Write;
use std::path::{Path, PathBuf};

use prost::Message;

use self::node::Writer;
use super::proto::{
    Dimension, EXTERNAL, Entry, Graph, Model, OperatorSet, Shape as Dimensions, Tensor as Initializer, TensorType,
    Type, ValueInfo,
};
use crate::classifier::{Classifier, NET_KEY};
use crate::data::{Normalization, Preprocessing};
use crate::files::write_atomic;
use crate::net::Net;
use crate::net::rewrite::{self, Parameters};
use crate::ops::Shape;
use crate::{Error, Result, Tensor};

/// The opset that is written.
pub const OPSET: i64 = 17;
/// The format's version that goes with it.
const IR_VERSION: i64 = 8;
/// The format's numbers of `f32` and `f16`.
const FLOAT: i32 = 1;
const HALF: i32 = 10;
/// And of bytes.
pub(super) const BYTE: i32 = 2;
/// Bytes of weights from which they lie in a file of their own: a message has at most 2 GiB.
const LARGE: usize = 1 << 30;
/// The names of a file's input and output.
const INPUT: &str = "input";
const OUTPUT: &str = "logits";
const PROBABILITIES: &str = "probabilities";

/// Tensors by name, in the order of a file.
type Named<'w> = Vec<(String, Cow<'w, Tensor>)>;

/// How a network is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Export {
    /// Pictures of a batch; any number where it is not set.
    pub batch: Option<usize>,
    /// Whether batch norm and layer scale are folded into the layers before them, as inference does it.
    pub folded: bool,
    /// Whether the output is probabilities in place of logits.
    pub softmax: bool,
    /// Whether weights are stored in 16 bits; what is computed stays in 32.
    pub half: bool,
    /// Whether the file takes pictures as bytes (batch, height, width, channels) and normalises them itself.
    pub with_preprocessing: bool,
}

/// Writes a network with its weights, its classes and its preprocessing. Weights of more than 1 GiB lie beside it in a file
/// `NAME.data`.
///
/// # Errors
/// [`Error::Layer`] for an operation that ONNX cannot say, [`Error::Io`] as [`write_atomic`], and what is wrong with the weights.
pub fn write(path: &Path, classifier: &Classifier, export: &Export) -> Result<()> {
    write_within(path, classifier, export, LARGE)
}

/// The same with weights in a file of their own from that many bytes on.
fn write_within(path: &Path, classifier: &Classifier, export: &Export, large: usize) -> Result<()> {
    let plain = rewrite::without_auxiliaries(classifier.description.net())?;
    let (net, weights) = match export.folded {
        true => rewrite::inference(&plain, &classifier.weights)?,
        false => {
            let borrowed = classifier.weights.iter().map(|(name, tensor)| (name.clone(), Cow::Borrowed(tensor)));
            (plain, borrowed.collect())
        }
    };
    let normalization = classifier.description.normalization();
    let (mut graph, tensors) = graph(&net, &weights, export, normalization)?;
    let size = if export.half { 2 } else { 4 };
    let bytes: usize = tensors.iter().map(|(_, tensor)| tensor.data().len() * size).sum();
    let (data, location) = beside(path);
    let is_large = bytes > large;
    if is_large {
        let all = |out: &mut dyn Write| {
            tensors.iter().try_for_each(|(_, tensor)| out.write_all(&encoded(tensor, export.half)))
        };
        write_atomic(&data, all)?;
    }
    let mut offset = 0;
    for (name, tensor) in &tensors {
        let header = header(name, tensor, export);
        graph.initializer.push(match is_large {
            true => {
                let length = tensor.data().len() * size;
                let external_data = place(&location, offset, length);
                offset += length;
                Initializer { external_data, data_location: EXTERNAL, ..header }
            }
            false => Initializer { raw_data: Some(encoded(tensor, export.half).into()), ..header },
        });
    }
    let model = Model {
        ir_version: IR_VERSION,
        producer_name: "convnet".into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        graph: Some(graph),
        opset_import: vec![OperatorSet { domain: String::new(), version: OPSET }],
        metadata_props: metadata(classifier, export)?,
    };
    write_atomic(path, |out| out.write_all(&model.encode_to_vec()))
}

/// Where the elements of a tensor lie in another file.
fn place(location: &str, offset: usize, length: usize) -> Vec<Entry> {
    let entries = [("location", location.to_owned()), ("offset", offset.to_string()), ("length", length.to_string())];
    entries.into_iter().map(|(key, value)| Entry { key: key.into(), value }).collect()
}

/// The file that has the weights of a large network, and its name.
fn beside(path: &Path) -> (PathBuf, String) {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".data");
    (path.with_file_name(&name), name.to_string_lossy().into_owned())
}

/// Classes and preprocessing, as files of weights have them; the net is the graph itself. What the file does to a picture is not
/// to be done before it.
fn metadata(classifier: &Classifier, export: &Export) -> Result<Vec<Entry>> {
    let description = classifier.description.clone();
    let description = match export.with_preprocessing {
        true => {
            let normalization = Normalization::bytes(description.input()[0]);
            let preprocessing = Preprocessing { normalization, ..description.preprocessing().clone() };
            description.with_preprocessing(preprocessing)?
        }
        false => description,
    };
    let told = description.metadata().into_iter().filter(|(key, _)| key != NET_KEY);
    Ok(told.map(|(key, value)| Entry { key, value }).collect())
}

/// The graph without its weights, and these.
fn graph<'w>(
    net: &'w Net,
    weights: &'w Parameters<'w>,
    export: &Export,
    normalization: &Normalization,
) -> Result<(Graph, Named<'w>)> {
    let mut writer = Writer::new(net, weights, export.half);
    if export.with_preprocessing {
        writer.normalize(normalization);
    }
    for index in 1..net.nodes().len() {
        writer.node(index).map_err(|problem| {
            let node = &net.nodes()[index];
            Error::Layer { layer: node.name.clone(), op: node.op.name(), problem }
        })?;
    }
    let output = if export.softmax { PROBABILITIES } else { OUTPUT };
    writer.finish(export.softmax, output);
    let Writer { nodes, tensors, .. } = writer;
    let graph = Graph {
        node: nodes,
        name: net.name().into(),
        initializer: Vec::new(),
        input: vec![match (export.with_preprocessing, net.input_shape()) {
            (true, Shape::Map([channels, height, width])) => {
                value(INPUT, BYTE, &[height, width, channels], export.batch)
            }
            (_, shape) => value(INPUT, FLOAT, &shape.dims(), export.batch),
        }],
        output: vec![value(output, FLOAT, &net.output_shape().dims(), export.batch)],
    };
    Ok((graph, tensors))
}

/// A tensor of pictures or features.
fn value(name: &str, element: i32, dims: &[usize], batch: Option<usize>) -> ValueInfo {
    let known = |length: usize| Dimension { value: Some(length as i64), param: None };
    let first = batch.map_or_else(|| Dimension { value: None, param: Some("batch".into()) }, known);
    let dim = [first].into_iter().chain(dims.iter().copied().map(known)).collect();
    let tensor = TensorType { element, shape: Some(Dimensions { dim }) };
    ValueInfo { name: name.into(), kind: Some(Type { tensor: Some(tensor) }) }
}

/// A tensor's name, shape and type.
fn header(name: &str, tensor: &Tensor, export: &Export) -> Initializer {
    let dims = tensor.shape().iter().map(|&length| length as i64).collect();
    let data_type = if export.half { HALF } else { FLOAT };
    Initializer { name: name.into(), dims, data_type, ..Initializer::default() }
}

/// Elements as the file holds them.
fn encoded(tensor: &Tensor, half: bool) -> Vec<u8> {
    match half {
        true => tensor.data().iter().flat_map(|&number| half_bits(number).to_le_bytes()).collect(),
        false => tensor.data().iter().flat_map(|number| number.to_le_bytes()).collect(),
    }
}

/// The nearest number of 16 bits (ties to even); what is too large is infinite.
fn half_bits(number: f32) -> u16 {
    let bits = number.to_bits();
    let (sign, exponent, mantissa) = ((bits >> 16 & 0x8000) as u16, (bits >> 23 & 0xff) as i32 - 127, bits & 0x7f_ffff);
    if exponent == 128 {
        return sign | 0x7c00 | if mantissa > 0 { 0x200 } else { 0 };
    }
    // How many bits fall away, and the number with its leading one.
    let (shift, whole) = (if exponent < -14 { 13 + (-14 - exponent) as u32 } else { 13 }, mantissa | 0x80_0000);
    if exponent > 15 || shift > 24 {
        return if exponent > 15 { sign | 0x7c00 } else { sign };
    }
    let kept = whole >> shift;
    let rest = whole & ((1 << shift) - 1);
    let middle = 1 << (shift - 1);
    let rounded = kept + u32::from(rest > middle || rest == middle && kept & 1 == 1);
    // The leading one is the exponent's lowest bit; a carry goes into it.
    let base = if exponent < -14 { 0 } else { ((exponent + 14) as u32) << 10 };
    sign | (base + rounded) as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zoo;

    /// With weights in a file of their own, in 32 and in 16 bits, a file is read as the one that has them inside.
    #[test]
    fn large_weights_lie_beside_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let (inside, apart) = (folder.path().join("in.onnx"), folder.path().join("out.onnx"));
        let net = zoo::by_name("cnn", &zoo::ZooOptions::default()).unwrap();
        let classifier = Classifier::untrained(net, 0).unwrap();
        for half in [false, true] {
            let export = Export { half, ..Export::default() };
            write(&inside, &classifier, &export).unwrap();
            write_within(&apart, &classifier, &export, 1000).unwrap();
            let length = |path: &Path| std::fs::metadata(path).unwrap().len();
            assert!(length(&apart) < 20_000 && length(&beside(&apart).0) > 20_000);
            let weights = |path: &Path| super::super::read(path, &Default::default()).unwrap().weights;
            assert_eq!(weights(&apart), weights(&inside), "half: {half}");
        }
    }

    #[test]
    fn numbers_of_16_bits_are_the_nearest() {
        for (number, bits) in [
            (0.0, 0),
            (-0.0, 0x8000),
            (1.0, 0x3c00),
            (-2.0, 0xc000),
            (65504.0, 0x7bff),
            (65520.0, 0x7c00),
            (1e30, 0x7c00),
            (f32::NEG_INFINITY, 0xfc00),
            (6.103_515_6e-5, 0x0400),
            (5.960_464_5e-8, 0x0001),
            (2.980_232_2e-8, 0x0000),
            (2.99e-8, 0x0001),
            (1e-10, 0x0000),
            // Half-way between two: to the even one.
            (1.0 + 1.0 / 2048.0, 0x3c00),
            (1.0 + 3.0 / 2048.0, 0x3c02),
            (2047.0 / 2048.0 + 1.0 / 4096.0, 0x3c00),
        ] {
            assert_eq!(half_bits(number), bits, "{number}");
        }
        assert!(half_bits(f32::NAN) & 0x7fff > 0x7c00);
    }
}
