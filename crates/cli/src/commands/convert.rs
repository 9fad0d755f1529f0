//! `convnet convert`: weights from one file format to another.

use std::path::PathBuf;

use convnet::columns::thousands;
use convnet::weights::{Checkpoint, Format, NetChoice, check_finite, pytorch};
use convnet::{Result, StateDict};
use serde::Serialize;

use crate::args::{FittingArgs, tell_notes};
use crate::console::{Console, print, print_json};
use crate::usage::Usage;

/// Convert weights between safetensors and PyTorch's files
///
/// IN is recognised by its content: safetensors, or what torch.save wrote, in either of its forms: a state_dict, a
/// checkpoint with one inside, or a whole model. Its pickle is read as data and never executed. Elements become float32. The end of OUT's name says
/// what is written: .safetensors, or .pt or .pth, which torch.load reads with weights_only=True. With a network, the weights
/// must fit it, and OUT knows it from then on.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    convnet convert checkpoint.pth weights.safetensors\n  \
    convnet convert runs/cnn-1/best.safetensors best.pt\n  \
    convnet convert --key model_ema checkpoint.pth averaged.safetensors\n  \
    convnet convert --model resnet18 --input 1x224x224 colour.pth grey.safetensors\n  \
    convnet convert --model cnn --classes 3 --ignore-mismatched head ten.pth three.safetensors")]
pub(crate) struct Args {
    /// File of weights to read
    #[arg(value_name = "IN")]
    from: PathBuf,

    /// File to write; an older one is replaced
    #[arg(value_name = "OUT")]
    to: PathBuf,

    /// Print one JSON document and nothing else on stdout [default: a line of text]
    #[arg(long, help_heading = "Output")]
    json: bool,

    #[command(flatten)]
    fitting: FittingArgs,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    path: String,
    tensors: usize,
    elements: u64,
}

impl Args {
    pub(crate) fn run(&self, console: &Console) -> anyhow::Result<()> {
        let format = Format::by_extension(&self.to).map_err(Usage::from)?;
        let checkpoint = match self.fitting.choice()? {
            NetChoice::Own if !self.fitting.has_input() => self.unfitted(console)?,
            choice => {
                let classifier = self.fitting.load(choice, &self.from, console)?;
                let metadata = classifier.description.metadata();
                Checkpoint { weights: classifier.weights, optimizer: StateDict::new(), metadata }
            }
        };
        let Checkpoint { weights, optimizer, metadata } = checkpoint;
        if !optimizer.is_empty() {
            console.note("the optimizer's state is left out");
        }
        let report = Report {
            path: self.to.display().to_string(),
            tensors: weights.len(),
            elements: weights.values().map(|tensor| tensor.data().len() as u64).sum(),
        };
        match format {
            Format::Safetensors => {
                Checkpoint { weights, optimizer: StateDict::new(), metadata }.save(&self.to)?;
            }
            Format::PyTorch => pytorch::write(&self.to, &weights, &metadata)?,
        }
        if self.json {
            return print_json(&report);
        }
        let Report { path, tensors, elements } = report;
        print(&format!("{path}: {} tensors, {} elements\n", thousands(tensors as u64), thousands(elements)))
    }

    /// The weights as they are, for no network.
    fn unfitted(&self, console: &Console) -> Result<Checkpoint> {
        let (checkpoint, notes) = Checkpoint::load_key(&self.from, self.fitting.key())?;
        check_finite(&checkpoint.weights).map_err(|error| error.in_file(&self.from))?;
        tell_notes(&self.from, &notes, console);
        Ok(checkpoint)
    }
}
