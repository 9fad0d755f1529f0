//! Contact sheets: the maps of layers, and the filters of the first one.

use std::path::PathBuf;

use convnet::data::npy;
use convnet::explain::{self, Explainer};

use super::pictures;
use crate::args::{ClassifierArgs, EngineArgs, ThreadArgs};
use crate::console::{Console, print};
use crate::pictures::PictureArgs;
use crate::usage::OrUsage;

/// Draw the maps that layers make of a picture, a sheet for each layer
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    convnet explain features --run runs/cnn-1 --layer relu1,relu2 runs/cnn-1/sample.png")]
pub(super) struct FeaturesArgs {
    /// Picture
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Layers, by name (see `convnet summary`) or the beginning of a block's
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', required = true)]
    layer: Vec<String>,

    #[command(flatten)]
    pictures: PictureArgs,

    #[command(flatten)]
    engine: EngineArgs,

    /// Folder for the sheets
    #[arg(short, long, value_name = "DIR", default_value = "explained", help_heading = "Output")]
    out: PathBuf,

    /// Write the numbers, too: NAME-LAYER.npy, channels x height x width
    #[arg(long, help_heading = "Output")]
    npy: bool,

    #[command(flatten)]
    classifier: ClassifierArgs,
}

impl FeaturesArgs {
    pub(super) fn run(&self, console: &Console) -> anyhow::Result<()> {
        let (mut explainer, description) =
            pictures::explainer(&self.classifier, &self.pictures, &self.engine, console)?;
        let image =
            pictures::read(&self.file, (&description, self.pictures.strict), None, console)?.unwrap_or_default();
        pictures::make(&self.out)?;
        let stem = self.file.file_stem().unwrap_or_default().to_string_lossy();
        for layer in &self.layer {
            let features = explainer.features(&image, layer).or_usage()?;
            // A layer's name may hold what no file's can.
            let name = format!("{stem}-{}", layer.replace(['/', '\\'], "_"));
            let path = self.out.join(format!("{name}.png"));
            explain::feature_sheet(&path, &description, &self.file.display().to_string(), &features)?;
            if self.npy {
                npy::write(&self.out.join(format!("{name}.npy")), &features.maps)?;
            }
            let shape = features.maps.shape().iter().map(usize::to_string).collect::<Vec<_>>().join("x");
            print(&format!("{}: {shape}: {}\n", features.layer, path.display()))?;
        }
        Ok(())
    }
}

/// Draw the filters of the layer that reads the picture
///
/// In their colours where they see three channels; `convnet filter --weights` slides them over a picture.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    convnet explain filters --run runs/cnn-1 --out filters.png\n  \
    convnet explain filters --weights alexnet.pth --model alexnet")]
pub(super) struct FiltersArgs {
    /// The layer, a convolution that sees 1 or 3 channels [default: the first convolution]
    #[arg(long, value_name = "NAME")]
    layer: Option<String>,

    #[command(flatten)]
    threads: ThreadArgs,

    /// PNG file that is drawn
    #[arg(short, long, value_name = "FILE", default_value = "filters.png", help_heading = "Output")]
    out: PathBuf,

    #[command(flatten)]
    classifier: ClassifierArgs,
}

impl FiltersArgs {
    pub(super) fn run(&self, console: &Console) -> anyhow::Result<()> {
        let (classifier, _) = self.classifier.load(console)?;
        let explainer = Explainer::with_engine(classifier, &self.threads.engine()?)?;
        let filters = explainer.filters(self.layer.as_deref()).or_usage()?;
        explain::filter_sheet(&self.out, explainer.description(), &filters)?;
        let shape = filters.kernels.shape().iter().map(usize::to_string).collect::<Vec<_>>().join("x");
        print(&format!("{}: {shape}: {}\n", filters.layer, self.out.display()))
    }
}
