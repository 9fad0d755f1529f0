//! `convnet predict`: what a trained network sees in pictures.

use std::path::{Path, PathBuf};

use convnet::Result;
use convnet::classifier::{Classifier, Description};
use convnet::data::{npy, picture};
use convnet::evaluate::{ranking, softmax};
use convnet::exec::Inference;
use serde::Serialize;

use crate::args::{ClassifierArgs, EngineArgs};
use crate::console::{Console, print, print_json};

/// Pictures that go through the network at once.
const BATCH: usize = 64;
/// Guesses of a picture in JSON, and in a line of text.
const GUESSES: [usize; 2] = [5, 3];

/// Say what a trained network sees in pictures
///
/// Pictures (PNG, JPEG, BMP, WebP) that a colour network takes may have any size: the shorter side is resized, the middle
/// cut out, as the weights say. For grey networks they must have the right size and be grey.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    convnet predict --run runs/cnn-1 runs/cnn-1/sample.png\n  \
    convnet predict --weights runs/cnn-1/best.safetensors --json a.png b.png\n  \
    convnet predict --run runs/cnn-1 --npy batch.npy --logits --json")]
pub(crate) struct Args {
    /// Pictures to look at
    #[arg(value_name = "FILE", required_unless_present = "npy")]
    files: Vec<PathBuf>,

    /// Array of pictures that are normalised already: float32, count x channels x height x width
    #[arg(long, value_name = "FILE")]
    npy: Option<PathBuf>,

    #[command(flatten)]
    engine: EngineArgs,

    /// Print the network's outputs before softmax, too [default: probabilities alone]
    #[arg(long, help_heading = "Output")]
    logits: bool,

    /// Print one JSON document and nothing else on stdout [default: a line for each picture]
    #[arg(long, help_heading = "Output")]
    json: bool,

    #[command(flatten)]
    classifier: ClassifierArgs,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    predictions: Vec<Prediction<'a>>,
}

#[derive(Serialize)]
struct Prediction<'a> {
    path: String,
    top: Vec<Guess<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logits: Option<Vec<f32>>,
}

#[derive(Serialize)]
struct Guess<'a> {
    class: usize,
    label: &'a str,
    probability: f64,
}

/// Normalised pictures, one after the other, and what to call each.
#[derive(Default)]
struct Pictures {
    names: Vec<String>,
    pixels: Vec<f32>,
}

impl Args {
    pub(crate) fn run(&self, console: &Console) -> anyhow::Result<()> {
        let (Classifier { description, weights }, _) = self.classifier.load(console)?;
        let pictures = self.pictures(&description)?;
        let batch = pictures.names.len().min(BATCH);
        let mut inference = Inference::new(description.net(), &self.engine.engine(console)?, batch, &weights)?;
        let size = description.input().iter().product::<usize>();
        let mut predictions = Vec::with_capacity(pictures.names.len());
        for (names, pixels) in pictures.names.chunks(batch).zip(pictures.pixels.chunks(batch * size)) {
            let logits = inference.run(pixels, names.len())?.chunks_exact(description.classes().len());
            predictions.extend(names.iter().zip(logits).map(|(name, row)| self.prediction(&description, name, row)));
        }
        match self.json {
            true => print_json(&Report { predictions }),
            false => print(&predictions.iter().map(line).collect::<String>()),
        }
    }

    fn pictures(&self, description: &Description) -> Result<Pictures> {
        let mut pictures = Pictures::default();
        for file in &self.files {
            pictures.add(file, description)?;
        }
        if let Some(file) = &self.npy {
            let batch = npy::read_batch(file, description.input())?;
            pictures.names.extend((0..batch.shape()[0]).map(|index| format!("{}[{index}]", file.display())));
            pictures.pixels.extend(batch.into_data());
        }
        Ok(pictures)
    }

    fn prediction<'a>(&self, description: &'a Description, name: &str, logits: &[f32]) -> Prediction<'a> {
        let probabilities = softmax(logits);
        let guess = |class: usize| {
            let label = &description.classes()[class];
            Guess { class, label, probability: probabilities[class] }
        };
        let guesses = if self.json { GUESSES[0] } else { GUESSES[1] };
        let top = ranking(logits).into_iter().take(guesses).map(guess).collect();
        Prediction { path: name.to_owned(), top, logits: self.logits.then(|| logits.to_vec()) }
    }
}

impl Pictures {
    fn add(&mut self, file: &Path, description: &Description) -> Result<()> {
        let planes = picture::read(file, description.target())?;
        let start = self.pixels.len();
        self.pixels.resize(start + planes.len(), 0.0);
        let normalizer = description.normalization().normalizer(description.input()[0])?;
        normalizer.apply(&planes, &mut self.pixels[start..]);
        self.names.push(file.display().to_string());
        Ok(())
    }
}

/// `a.png: 7 (99.8 %), 9 (0.1 %), 3 (0.0 %)`
fn line(prediction: &Prediction) -> String {
    let guess = |guess: &Guess| format!("{} ({:.1} %)", guess.label, 100.0 * guess.probability);
    let guesses: Vec<String> = prediction.top.iter().map(guess).collect();
    let mut text = format!("{}: {}\n", prediction.path, guesses.join(", "));
    if let Some(logits) = &prediction.logits {
        let logits: Vec<String> = logits.iter().map(f32::to_string).collect();
        text += &format!("  logits: {}\n", logits.join(", "));
    }
    text
}
