//! Weights for PyTorch's networks: under the names of a library, with the lines of Python that load them.

use std::path::Path;

use convnet::StateDict;
use convnet::classifier::{Classifier, NET_KEY};
use convnet::columns::thousands;
use convnet::weights::{Checkpoint, Library, Named, named};
use serde::Serialize;

use super::Names;
use crate::console::{print, print_json};

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    path: String,
    net: String,
    tensors: usize,
    /// Lines of Python that load the file.
    python: String,
}

/// Writes the weights, and prints how they are loaded.
pub(super) fn write(path: &Path, classifier: Classifier, names: Names, json: bool) -> anyhow::Result<()> {
    let (library, module) = match names {
        Names::Torchvision => (Library::Torchvision, "torchvision"),
        Names::Timm => (Library::Timm, "timm"),
    };
    let Classifier { description, weights } = classifier;
    let net = description.net();
    let Named { weights, call, version } = named(library, net, weights)?;
    let mut metadata = description.metadata();
    if library == Library::Timm {
        // The names are not the net's.
        metadata.remove(NET_KEY);
    }
    let tensors = weights.len();
    Checkpoint { weights, optimizer: StateDict::new(), metadata }.save(path)?;
    let path = path.display().to_string();
    let python = python(module, &call, version, &path);
    let report = Report { path, net: net.name().to_owned(), tensors, python };
    if json {
        return print_json(&report);
    }
    let Report { path, net, tensors, python } = report;
    print(&format!("{path}: {net}, {} tensors with the names of {module}\n\n{python}", thousands(tensors as u64)))
}

/// Lines that load the file.
fn python(module: &str, call: &str, version: Option<u32>, path: &str) -> String {
    let mut lines = vec![format!("import {module}"), "from safetensors.torch import load_file".into(), String::new()];
    lines.push(format!("model = {call}"));
    match version {
        None => lines.push(format!("model.load_state_dict(load_file({path:?}))")),
        Some(version) => {
            lines.insert(0, "from collections import OrderedDict".into());
            lines.push(format!("state = OrderedDict(load_file({path:?}))"));
            lines.push(format!("state._metadata = {{\"\": {{\"version\": {version}}}}}"));
            lines.push("model.load_state_dict(state)".into());
        }
    }
    lines.push("model.eval()\n".into());
    lines.join("\n")
}
