//! `convnet export`: a trained network as a file for other programs.

mod check;
mod state_dict;

use std::path::PathBuf;

use convnet::columns::thousands;
use convnet::onnx::{self, Export};
use serde::Serialize;

use self::check::Checked;
use crate::args::ClassifierArgs;
use crate::console::{Console, print, print_json};
use crate::usage::Usage;

/// Write a trained network as an ONNX file, or its weights for torchvision or timm
///
/// OUT ends in .onnx, or in .safetensors for weights under the names of another library's network.
///
/// ONNX: opset 17, IR version 8: for ONNX Runtime, OpenVINO, TensorRT and others. The names of the classes and what is done to a picture
/// stand in the file's metadata, as JSON under `classes` and `preprocessing`. Read again, the file gives the same bits. Weights of more than
/// 1 GiB lie beside it, in OUT.data.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    convnet export --run runs/cnn-1 digits.onnx\n  \
    convnet export --model resnet18 --weights resnet18.pth --softmax resnet18.onnx\n  \
    convnet export --run runs/photos-1 --fold --half small.onnx\n  \
    convnet export --run runs/photos-1 --with-preprocessing --check camera.onnx\n  \
    convnet export --run runs/photos-1 --names timm photos.safetensors")]
pub(crate) struct Args {
    /// File to write; an older one is replaced
    #[arg(value_name = "OUT")]
    to: PathBuf,

    /// Pictures of a batch [default: any number]
    #[arg(long, value_name = "N", value_parser = crate::args::at_least_1)]
    batch: Option<usize>,

    /// Fold batch norm and layer scale into the layers before them, as inference does it [default: keep them]
    #[arg(long)]
    fold: bool,

    /// Give probabilities [default: logits]
    #[arg(long)]
    softmax: bool,

    /// Store weights in 16 bits; what is computed stays in 32 [default: 32 bits]
    #[arg(long)]
    half: bool,

    /// Take pictures as bytes (uint8; batch, height, width, channels) and normalise them in the file [default: take what is
    /// normalised already (float32; batch, channels, height, width)]
    #[arg(long)]
    with_preprocessing: bool,

    /// Compare the file's outputs with ONNX Runtime's, where python3 has onnxruntime; they may differ by 1e-4 of the largest one
    #[arg(long)]
    check: bool,

    /// Whose names the weights get in a file of safetensors [default: torchvision]
    #[arg(long, value_name = "LIBRARY",
        conflicts_with_all = ["batch", "fold", "softmax", "half", "with_preprocessing", "check"])]
    names: Option<Names>,

    /// Print one JSON document and nothing else on stdout [default: a line of text]
    #[arg(long, help_heading = "Output")]
    json: bool,

    #[command(flatten)]
    classifier: ClassifierArgs,
}

/// Whose names weights get.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Names {
    Torchvision,
    Timm,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    path: String,
    net: String,
    parameters: u64,
    classes: usize,
    opset: i64,
    /// The largest difference from ONNX Runtime's outputs, as a share of the largest one; absent where nothing was compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    difference: Option<f32>,
}

impl Args {
    pub(crate) fn run(&self, console: &Console) -> anyhow::Result<()> {
        let is_state_dict = self.to.extension().is_some_and(|end| end.eq_ignore_ascii_case("safetensors"));
        self.check_flags(is_state_dict)?;
        let (classifier, _) = self.classifier.load(console)?;
        if is_state_dict {
            return state_dict::write(&self.to, classifier, self.names.unwrap_or(Names::Torchvision), self.json);
        }
        let export = Export {
            batch: self.batch,
            folded: self.fold,
            softmax: self.softmax,
            half: self.half,
            with_preprocessing: self.with_preprocessing,
        };
        onnx::write(&self.to, &classifier, &export)?;
        let difference = if self.check { self.compared(console)? } else { None };
        let net = classifier.description.net();
        let report = Report {
            path: self.to.display().to_string(),
            net: net.name().to_owned(),
            parameters: net.parameter_count(),
            classes: classifier.description.classes().len(),
            opset: onnx::OPSET,
            difference,
        };
        if self.json {
            return print_json(&report);
        }
        let Report { path, net, parameters, classes, opset, .. } = report;
        print(&format!("{path}: {net}, {} parameters, {classes} classes, opset {opset}\n", thousands(parameters)))
    }

    /// # Errors
    /// Flags of the other kind of file.
    fn check_flags(&self, is_state_dict: bool) -> Result<(), Usage> {
        let of_onnx = [
            ("--batch", self.batch.is_some()),
            ("--fold", self.fold),
            ("--softmax", self.softmax),
            ("--half", self.half),
            ("--with-preprocessing", self.with_preprocessing),
            ("--check", self.check),
        ];
        let to = self.to.display();
        match of_onnx.into_iter().find(|(_, is_given)| *is_given) {
            Some((flag, _)) if is_state_dict => Err(Usage::new(format!("{to}: {flag} is for an ONNX file"))),
            _ if self.names.is_some() && !is_state_dict => {
                Err(Usage::new(format!("{to}: --names is for a file that ends in .safetensors")))
            }
            _ => Ok(()),
        }
    }

    /// Compares the file with ONNX Runtime, and says it; the difference, if there was a comparison.
    fn compared(&self, console: &Console) -> anyhow::Result<Option<f32>> {
        match check::check(&self.to, self.batch)? {
            Checked::Same { difference, version } => {
                console.note(&format!(
                    "ONNX Runtime {version} agrees: outputs differ by {difference:.1e} of the largest one"
                ));
                Ok(Some(difference))
            }
            Checked::Not(why) => {
                console.warn(&format!("not compared with ONNX Runtime: {why}"));
                Ok(None)
            }
        }
    }
}
