//! `convnet explain`: why a trained network says what it says.

mod data;
mod features;
mod field;
mod maps;
mod patterns;
mod pictures;
mod sanity;

use clap::Subcommand;

use crate::console::Console;

/// Show what in a picture speaks for a class, and what layers and units see
///
/// Without a subcommand: maps of what speaks for the predicted class, or for that of --class, drawn over each picture with the
/// scale of their colours. Class activation maps (grad-cam, grad-cam++, hires-cam, layer-cam) look at the last maps of the network, or
/// at those of --layer; the other methods look at the picture's pixels. What is explained is the output before softmax.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(after_help = "Examples:\n  \
    convnet explain --run runs/cnn-1 runs/cnn-1/sample.png\n  \
    convnet explain --weights resnet18.pth --model resnet18 --method grad-cam,integrated-gradients,occlusion cat.jpg\n  \
    convnet explain --weights resnet18.pth --model resnet18 --class 'tiger cat' --layer layer3 cat.jpg\n  \
    convnet explain --run runs/cnn-1 --method saliency --npy --json photos/\n  \
    convnet explain field --weights vgg16.pth --model vgg16 --layer features.4,features.16,features.30 cat.jpg")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,

    #[command(flatten)]
    maps: maps::MapsArgs,
}

#[derive(Subcommand)]
enum Command {
    Field(field::FieldArgs),
    Features(features::FeaturesArgs),
    Filters(features::FiltersArgs),
    Sanity(sanity::SanityArgs),
    Strongest(data::StrongestArgs),
    Nearest(data::NearestArgs),
    Map(data::MapArgs),
    Maximize(patterns::MaximizeArgs),
}

impl Args {
    pub(crate) fn run(&self, console: &Console) -> anyhow::Result<()> {
        match &self.command {
            Some(Command::Field(args)) => args.run(console),
            Some(Command::Features(args)) => args.run(console),
            Some(Command::Filters(args)) => args.run(console),
            Some(Command::Sanity(args)) => args.run(console),
            Some(Command::Strongest(args)) => args.run(console),
            Some(Command::Nearest(args)) => args.run(console),
            Some(Command::Map(args)) => args.run(console),
            Some(Command::Maximize(args)) => args.run(console),
            None => self.maps.run(console),
        }
    }
}
