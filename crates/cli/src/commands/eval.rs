//! `convnet eval`: how well a trained network does on held-out pictures.

use std::ops::ControlFlow;
use std::sync::Arc;

use anyhow::Context;
use convnet::columns::thousands;
use convnet::evaluate::{Evaluation, evaluate};

use crate::args::{ClassifierArgs, DataArgs, EngineArgs};
use crate::console::{Console, print, print_json};
use crate::usage::Usage;

/// Measure how many held-out pictures a trained network recognises
///
/// top-1 counts a picture as recognised when its class is the first guess, top-5 when it is among the first five.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    convnet eval --run runs/cnn-1\n  \
    convnet eval --run runs/cnn-1 --data DIR --json\n  \
    convnet eval --model cnn --weights weights.safetensors --data mnist")]
pub(crate) struct Args {
    #[command(flatten)]
    data: DataArgs,

    /// Pictures at a time
    #[arg(short, long, value_name = "N", default_value_t = 256, value_parser = crate::args::at_least_1)]
    batch_size: usize,

    #[command(flatten)]
    engine: EngineArgs,

    /// Print one JSON document and nothing else on stdout [default: a line of text]
    #[arg(long, help_heading = "Output")]
    json: bool,

    #[command(flatten)]
    classifier: ClassifierArgs,
}

impl Args {
    pub(crate) fn run(&self, console: &Console) -> anyhow::Result<()> {
        let (classifier, run) = self.classifier.load(console)?;
        let data = match (self.data.name(), run) {
            (Some(data), _) => data.to_owned(),
            (None, Some(run)) => run.config()?.data,
            (None, None) => {
                return Err(Usage::new("--weights alone says nothing of the data: name them with --data").into());
            }
        };
        let engine = self.engine.engine(console)?;
        let (description, weights) = (&classifier.description, &classifier.weights);
        let test = Arc::new(self.data.load_test(&data, description.target(), console)?);
        let mut watch = |_| ControlFlow::Continue(());
        let evaluation = evaluate(description, weights, &test, &engine, self.batch_size, &mut watch)?;
        let evaluation = evaluation.context("the evaluation was broken off")?;
        if self.json {
            return print_json(&evaluation);
        }
        let Evaluation { images, top1, top5, loss, seconds } = evaluation;
        print(&format!(
            "{} pictures of {data}: top-1 {:.2} %, top-5 {:.2} %, loss {loss:.4}, {seconds:.2} s\n",
            thousands(images as u64),
            100.0 * top1,
            100.0 * top5,
        ))
    }
}
