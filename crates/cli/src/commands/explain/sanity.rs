//! Whether maps depend on what a network has learned.

use std::path::PathBuf;

use convnet::columns::{Columns, Style};
use convnet::explain::{LIMIT, Method, Sanity};
use serde::Serialize;

use super::pictures;
use crate::args::{ClassifierArgs, EngineArgs};
use crate::console::{Console, print, print_json};
use crate::pictures::{PictureArgs, Unusable};
use crate::usage::{OrUsage, Usage};

/// Check whether a method's maps depend on what the network has learned (Adebayo et al. 2018)
///
/// Layers lose their weights from the top, and each method's map is held against that of the trained network: by the rank
/// correlation of the numbers' sizes, and by structural similarity (SSIM). A map that stays as it was (above 0.5, the mean of both)
/// while the upper half of the layers loses its weights shows the picture, not what the network says of it: the method fails.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  convnet explain sanity --run runs/cnn-1 photos/")]
pub(super) struct SanityArgs {
    /// Pictures, or folders of them; figures are means over all
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,

    /// Methods, as for `convnet explain`
    #[arg(
        long = "method",
        value_name = "NAME,…",
        value_delimiter = ',',
        default_value = "grad-cam,saliency,integrated-gradients,guided-backprop"
    )]
    methods: Vec<String>,

    /// Decides the weights that layers get
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,

    #[command(flatten)]
    pictures: PictureArgs,

    #[command(flatten)]
    engine: EngineArgs,

    /// Print one JSON document and nothing else on stdout [default: a table]
    #[arg(long, help_heading = "Output")]
    json: bool,

    #[command(flatten)]
    classifier: ClassifierArgs,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Document<'a> {
    pictures: usize,
    limit: f64,
    methods: Vec<Verdict<'a>>,
}

#[derive(Serialize)]
struct Verdict<'a> {
    method: &'static str,
    passes: bool,
    /// Rank correlation and SSIM, on average while the upper half of the layers loses its weights; below `limit` to pass.
    stays: f64,
    steps: Vec<Step<'a>>,
}

#[derive(Serialize)]
struct Step<'a> {
    /// The lowest layer that has lost its weights.
    randomised_to: &'a str,
    rank_correlation: f64,
    ssim: f64,
}

impl SanityArgs {
    pub(super) fn run(&self, console: &Console) -> anyhow::Result<()> {
        let methods =
            self.methods.iter().map(|name| name.parse()).collect::<convnet::Result<Vec<Method>>>().or_usage()?;
        let (mut explainer, description) =
            pictures::explainer(&self.classifier, &self.pictures, &self.engine, console)?;
        let files = pictures::found(&self.files)?;
        let (mut unusable, mut images) = (Unusable::default(), Vec::new());
        for path in &files {
            let others = (files.len() > 1).then_some(&mut unusable);
            images.extend(pictures::read(path, (&description, self.pictures.strict), others, console)?);
        }
        if images.is_empty() {
            return Err(Usage::new("expected at least one picture that can be read").into());
        }
        let images: Vec<&[f32]> = images.iter().map(Vec::as_slice).collect();
        let sanity = explainer.sanity(&images, &methods, self.seed)?;
        match self.json {
            true => print_json(&document(&sanity, images.len()))?,
            false => print(&text(&sanity, images.len()))?,
        }
        Ok(unusable.end(files.len())?)
    }
}

fn document(sanity: &Sanity, pictures: usize) -> Document<'_> {
    let verdict = |(index, method): (usize, &Method)| {
        let steps = sanity.steps.iter().map(|(layer, likeness)| Step {
            randomised_to: layer,
            rank_correlation: likeness[index].rank,
            ssim: likeness[index].ssim,
        });
        Verdict {
            method: method.name(),
            passes: sanity.passes(index),
            stays: sanity.stays(index),
            steps: steps.collect(),
        }
    };
    Document { pictures, limit: LIMIT, methods: sanity.methods.iter().enumerate().map(verdict).collect() }
}

/// A table with a row for each step, and a verdict for each method.
fn text(sanity: &Sanity, pictures: usize) -> String {
    let names = sanity.methods.iter().map(Method::name);
    let title: Vec<&str> = ["random from the top to"].into_iter().chain(names).collect();
    let mut columns = Columns::new(1, &title);
    for (layer, likeness) in &sanity.steps {
        let cells = likeness.iter().map(|likeness| format!("{:.2} / {:.2}", likeness.rank, likeness.ssim));
        columns.row([layer.clone()].into_iter().chain(cells).collect::<Vec<_>>());
    }
    let pictures = if pictures == 1 { "1 picture".to_owned() } else { format!("{pictures} pictures") };
    let mut text = columns.render(Style::Plain);
    text += &format!("\nrank correlation / SSIM with the trained network's map, mean of {pictures}\n");
    for (index, method) in sanity.methods.iter().enumerate() {
        let stays = sanity.stays(index);
        text += &match sanity.passes(index) {
            true => format!("{method} passes: without the upper layers' weights its map is another ({stays:.2})\n"),
            false => format!("{method} FAILS: its map stays without the upper layers' weights ({stays:.2})\n"),
        };
    }
    text
}
