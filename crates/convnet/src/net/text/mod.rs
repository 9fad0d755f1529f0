//! A net as a TOML file, in which any net of the known operations can be written: see [`Net::from_toml`].
//!
//! Operations and settings have PyTorch's names and defaults. Files are taken as hostile: everything that is not known is
//! an error with its line, and sizes are limited ([`MAX_BYTES`], [`super::MAX_NODES`], [`crate::ops::MAX_ELEMENTS`]).

mod fields;
mod settings;

use std::collections::HashMap;
use std::fmt::Write;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use self::fields::{Fault, Fields, excerpt};
use super::{Net, NodeId};
use crate::ops::{PictureSize, Shape};
use crate::suggest::suggest;
use crate::{Error, Result};

/// Largest file that is read, in bytes.
const MAX_BYTES: u64 = 16 << 20;

impl Net {
    /// Reads a net from a TOML text. Operations have the names of [`crate::ops::Op::name`]; settings have PyTorch's names
    /// and defaults.
    ///
    /// # Errors
    /// [`Error::Invalid`] with the line and the layer, for what is not TOML, not known, or does not fit.
    ///
    /// ```
    /// let net = convnet::net::Net::from_toml(r#"
    ///     name = "small"
    ///     input = [1, 28, 28]    # channels, height, width; one number for a vector
    ///
    ///     [[layer]]
    ///     op = "conv2d"
    ///     name = "conv1"         # "conv2d_1" unless given
    ///     out_channels = 16
    ///     kernel_size = 3        # or [height, width]; so too stride and dilation
    ///     padding = "same"       # or 1, or [height, width], or [top, left, bottom, right]
    ///
    ///     [[layer]]
    ///     op = "relu"
    ///     input = "conv1"        # the layer before unless given; inputs = ["a", "b"] for several (add, concat)
    ///
    ///     [[layer]]
    ///     op = "flatten"
    ///
    ///     [[layer]]
    ///     op = "linear"
    ///     out_features = 10
    /// "#).unwrap();
    /// assert_eq!(net.parameter_count(), 16 * 9 + 16 + 10 * 16 * 28 * 28 + 10);
    /// ```
    pub fn from_toml(text: &str) -> Result<Net> {
        parse(text).map_err(Error::invalid)
    }

    /// Reads a net from a TOML file, or from an ONNX file without its weights.
    ///
    /// # Errors
    /// [`Error::Io`] when the file cannot be read; [`Error::File`] for a content that [`Net::from_toml`] or the reader of ONNX
    /// refuses.
    pub fn load(path: impl AsRef<Path>) -> Result<Net> {
        Net::load_for(path, None)
    }

    /// Reads a net as [`Net::load`] does, an ONNX file for pictures of this size: it may leave its own open. A net of a TOML file
    /// has a size, for which [`Net::with_input`] gives another.
    ///
    /// # Errors
    /// As [`Net::load`], and for a size that the net of an ONNX file does not take.
    pub fn load_for(path: impl AsRef<Path>, input: Option<PictureSize>) -> Result<Net> {
        let path = path.as_ref();
        #[cfg(feature = "onnx")]
        if crate::onnx::is_model(path)? {
            return Ok(crate::onnx::read(path, &crate::onnx::Options { input })?.net);
        }
        let _ = input;
        Net::load_text(path)
    }

    fn load_text(path: &Path) -> Result<Net> {
        let mut text = Vec::new();
        let file = File::open(path).map_err(Error::io("opening", path))?;
        file.take(MAX_BYTES + 1).read_to_end(&mut text).map_err(Error::io("reading", path))?;
        if text.len() as u64 > MAX_BYTES {
            return Err(Error::file(path, format!("expected a TOML net of at most {} MiB", MAX_BYTES >> 20)));
        }
        let text =
            String::from_utf8(text).map_err(|_| Error::file(path, "expected TOML, got bytes that are not UTF-8"));
        parse(&text?).map_err(|problem| Error::file(path, problem))
    }

    /// The net as a TOML text that [`Net::from_toml`] reads to the same net.
    pub fn to_toml(&self) -> String {
        let input = match self.input_shape() {
            Shape::Map([c, h, w]) => format!("[{c}, {h}, {w}]"),
            Shape::Vector(features) => features.to_string(),
        };
        let mut text = format!("name = {}\ninput = {input}\n", quote(self.name()));
        let mut put = |line: std::fmt::Arguments<'_>| text.write_fmt(line).expect("writing to a String cannot fail");
        for (index, node) in self.nodes().iter().enumerate().skip(1) {
            put(format_args!("\n[[layer]]\nop = {}\nname = {}\n", quote(node.op.name()), quote(&node.name)));
            let names: Vec<String> = node.inputs.iter().map(|&id| quote(&self.node(id).name)).collect();
            match &names[..] {
                [_] if node.inputs == [NodeId(index - 1)] => {}
                [one] => put(format_args!("input = {one}\n")),
                several => put(format_args!("inputs = [{}]\n", several.join(", "))),
            }
            for (key, value) in settings::write(&node.op) {
                put(format_args!("{key} = {value}\n"));
            }
            if let Some(auxiliary) = self.auxiliaries().iter().find(|auxiliary| auxiliary.node == NodeId(index)) {
                put(format_args!("loss_weight = {:?}\n", auxiliary.loss_weight));
            }
        }
        text
    }
}

/// A TOML string. Names hold no control characters, so quotes and backslashes are all that needs an escape.
fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""))
}

/// The net, or what is wrong with the line it stands in.
fn parse(source: &str) -> std::result::Result<Net, String> {
    net(source).map_err(|Fault { at, problem }| {
        let before = source.as_bytes().get(..at).unwrap_or_default();
        format!("line {}: {problem}", 1 + before.iter().filter(|&&byte| byte == b'\n').count())
    })
}

fn net(source: &str) -> std::result::Result<Net, Fault> {
    let document = DeTable::parse(source)
        .map_err(|error| Fault::new(error.span().unwrap_or_default(), format!("not TOML: {}", error.message())))?;
    let mut fields = Fields::new(source, document.get_ref(), 0..0);
    let name = fields.get("name")?.unwrap_or_else(|| "net".to_owned());
    let input: Shape = fields.required("input")?;
    let mut net = Net::new(name, input).map_err(|error| {
        let key = if matches!(error, Error::Layer { .. }) { "input" } else { "name" };
        fields.fault_at(key, error.to_string())
    })?;
    let layers = fields.value("layer").map(|value| value.get_ref());
    fields.finish()?;
    let layers = layers.and_then(DeValue::as_array).filter(|layers| !layers.is_empty());
    let layers = layers.ok_or_else(|| Fault::new(0..0, "expected at least one [[layer]]"))?;
    let mut counts = HashMap::new();
    for layer in layers {
        let table = layer.get_ref().as_table().ok_or_else(|| Fault::new(layer.span(), "layer: expected a table"))?;
        add_layer(&mut net, &mut counts, Fields::new(source, table, layer.span()))?;
    }
    Ok(net)
}

/// Adds one `[[layer]]`, an auxiliary output of training if it has a `loss_weight`; `counts` numbers the layers of each operation, for those without a name.
fn add_layer(
    net: &mut Net,
    counts: &mut HashMap<&'static str, usize>,
    mut fields: Fields<'_>,
) -> std::result::Result<(), Fault> {
    let op_name: String = fields.required("op")?;
    let Some(op_name) = settings::names().find(|name| *name == op_name) else {
        let known = suggest(&op_name, settings::names());
        return Err(fields.fault_at("op", format!("unknown op '{}': {known}", excerpt(&op_name))));
    };
    let count = counts.entry(op_name).or_insert(0);
    *count += 1;
    let name = fields.get("name")?.unwrap_or_else(|| format!("{op_name}_{count}"));
    let in_layer = |fault: Fault| {
        let layer = excerpt(&name);
        Fault { problem: Error::Layer { layer, op: op_name, problem: fault.problem }.to_string(), ..fault }
    };
    let inputs = inputs(net, &mut fields).map_err(in_layer)?;
    let op = settings::read(op_name, &mut fields).expect("the name is known").map_err(in_layer)?;
    let loss_weight = fields.get("loss_weight").map_err(in_layer)?;
    let misfit = |error: Error| fields.fault(error.to_string());
    let id = net.add(&name, op, &inputs).map_err(misfit)?;
    if let Some(weight) = loss_weight {
        net.add_auxiliary(id, weight).map_err(misfit)?;
    }
    fields.finish().map_err(in_layer)
}

/// The layers whose outputs a layer takes: those it names, else the one before.
fn inputs(net: &Net, fields: &mut Fields<'_>) -> std::result::Result<Vec<NodeId>, Fault> {
    let (key, names) = match (fields.get("input")?, fields.get("inputs")?) {
        (None, None) => return Ok(vec![net.output()]),
        (Some(name), None) => ("input", vec![name]),
        (None, Some(names)) => ("inputs", names),
        (Some::<String>(_), Some::<Vec<String>>(_)) => {
            return Err(fields.fault_at("inputs", "expected input or inputs, got both"));
        }
    };
    let find = |name: &String| {
        net.find(name).ok_or_else(|| {
            let known = suggest(name, net.nodes().iter().map(|node| node.name.as_str()));
            fields.fault_at(
                key,
                format!("{key}: expected the name of an earlier layer, got '{}': {known}", excerpt(name)),
            )
        })
    };
    names.iter().map(find).collect()
}

#[cfg(test)]
mod tests;
