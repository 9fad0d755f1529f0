//! Pictures that drive classes or channels.

use std::path::PathBuf;

use convnet::explain::{self, Ascent, Explainer, Goal, Pattern};

use crate::args::{ClassifierArgs, ThreadArgs, at_least_1};
use crate::console::{Console, print};
use crate::usage::OrUsage;

/// Channels or classes that are driven where none is named.
const SHOWN: usize = 8;

/// Draw pictures that drive classes or channels, found by climbing the gradient from noise
///
/// Such a picture says what drives a unit, not what it is for. Between steps it is moved at random by some pixels, blurred now and then,
/// and kept to what pixels can be.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    convnet explain maximize --run runs/cnn-1\n  \
    convnet explain maximize --weights resnet18.pth --model resnet18 --class 'tiger cat',goldfish --steps 512\n  \
    convnet explain maximize --weights vgg16.pth --model vgg16 --layer features.16 --channel 0,1,2,3")]
pub(super) struct MaximizeArgs {
    /// Classes to drive, by name or number [default: the first eight]
    #[arg(long, value_name = "CLASS,…", value_delimiter = ',', conflicts_with = "layer")]
    class: Vec<String>,

    /// Layer whose channels are driven, by name (see `convnet summary`) or the beginning of a block's [default: the classes' outputs]
    #[arg(long, value_name = "NAME")]
    layer: Option<String>,

    /// Channels of the layer [default: the first eight]
    #[arg(long, value_name = "N,…", value_delimiter = ',', requires = "layer")]
    channel: Vec<usize>,

    /// Steps
    #[arg(long, value_name = "N", default_value_t = Ascent::default().steps, value_parser = at_least_1)]
    steps: usize,

    /// Length of a step
    #[arg(long, value_name = "RATE", default_value_t = Ascent::default().rate)]
    rate: f32,

    /// Pixels that the picture is moved by at random before a step, at most
    #[arg(long, value_name = "N", default_value_t = Ascent::default().jitter)]
    jitter: usize,

    /// Steps from one blur to the next, 0 for none
    #[arg(long, value_name = "N", default_value_t = Ascent::default().blur_every)]
    blur_every: usize,

    /// Decides the noise and the moves
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,

    #[command(flatten)]
    threads: ThreadArgs,

    /// PNG file that is drawn
    #[arg(short, long, value_name = "FILE", default_value = "patterns.png", help_heading = "Output")]
    out: PathBuf,

    #[command(flatten)]
    classifier: ClassifierArgs,
}

impl MaximizeArgs {
    pub(super) fn run(&self, console: &Console) -> anyhow::Result<()> {
        let (classifier, _) = self.classifier.load(console)?;
        let explainer = Explainer::with_engine(classifier, &self.threads.engine()?)?;
        let goals = self.goals(&explainer)?;
        let &MaximizeArgs { steps, rate, jitter, blur_every, seed, .. } = self;
        let ascent = Ascent { steps, rate, jitter, blur_every, seed, ..Ascent::default() };
        let mut found: Vec<(String, Pattern)> = Vec::new();
        for (name, goal) in goals {
            let pattern = explainer.maximize(&goal, &ascent).or_usage()?;
            let [first, last] = pattern.values;
            print(&format!("{name}: {first:.3} for noise, {last:.3} for the picture\n"))?;
            found.push((format!("{name} · {last:.1}"), pattern));
        }
        let what = self.layer.as_ref().map_or("classes".to_owned(), |layer| format!("channels of {layer}"));
        let patterns: Vec<(String, &[f32])> =
            found.iter().map(|(name, pattern)| (name.clone(), &pattern.image[..])).collect();
        explain::pattern_sheet(&self.out, explainer.description(), &what, &patterns)?;
        print(&format!("{}\n", self.out.display()))
    }

    /// What is driven, each under a name.
    fn goals(&self, explainer: &Explainer) -> anyhow::Result<Vec<(String, Goal)>> {
        let description = explainer.description();
        let Some(layer) = &self.layer else {
            let classes = match self.class.is_empty() {
                true => (0..description.classes().len().min(SHOWN)).collect(),
                false => {
                    let class = |name: &String| explain::class(description, name);
                    self.class.iter().map(class).collect::<convnet::Result<Vec<usize>>>().or_usage()?
                }
            };
            return Ok(classes
                .into_iter()
                .map(|class| (description.classes()[class].clone(), Goal::Class(class)))
                .collect());
        };
        let goal = |channel: usize| (format!("channel {channel}"), Goal::Channel { layer: layer.clone(), channel });
        if !self.channel.is_empty() {
            return Ok(self.channel.iter().copied().map(goal).collect());
        }
        let channels = explainer.shape(layer).or_usage()?.channels();
        Ok((0..channels.min(SHOWN)).map(goal).collect())
    }
}
