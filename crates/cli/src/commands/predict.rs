//! `convnet predict`: what a trained network sees in pictures.

use std::path::PathBuf;

use convnet::Result;
use convnet::classifier::{Classifier, Description};
use convnet::data::npy;
use convnet::distributed::Processes;
use convnet::predictor::{Answer, Guess, Input, Prediction, Predictor};
use serde::Serialize;

use crate::args::{ClassifierArgs, EngineArgs};
use crate::console::{Console, print, print_as_it_is};
use crate::pictures::{PictureArgs, Shown, Unusable, tell_damage};
use crate::processes;

/// Pictures that go through the network at once, at most.
const BATCH: usize = 32;
/// Guesses of a picture in JSON, and in a line of text.
const GUESSES: [usize; 2] = [5, 3];

/// Say what a trained network sees in pictures
///
/// Pictures (PNG, JPEG, WebP, GIF, TIFF, BMP) may have any size: the shorter side is resized and the middle cut out, as the
/// weights or the flags say. Photographs are turned upright as their EXIF data says. A picture that cannot be read is
/// named on stderr, and the others are answered; the exit code is 1 then. Under mpirun the pictures are divided among the processes
/// (docs/scaling.md).
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    convnet predict --run runs/cnn-1 runs/cnn-1/sample.png\n  \
    convnet predict --weights runs/cnn-1/best.safetensors --json a.png b.png photos/\n  \
    convnet predict --model resnet50 --weights resnet50.pth --mean 0.5,0.5,0.5 --std 0.5,0.5,0.5 a.jpg\n  \
    convnet predict --run runs/cnn-1 --npy batch.npy --logits --json")]
pub(crate) struct Args {
    /// Pictures to look at, or folders of them
    #[arg(value_name = "FILE", required_unless_present = "npy")]
    files: Vec<PathBuf>,

    /// Array of pictures that are normalised already: float32, count x channels x height x width
    #[arg(long, value_name = "FILE")]
    npy: Option<PathBuf>,

    /// Guesses for each picture [default: 5 in JSON, 3 in text]
    #[arg(long, value_name = "N", value_parser = crate::args::at_least_1, help_heading = "Output")]
    top: Option<usize>,

    #[command(flatten)]
    pictures: PictureArgs,

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

/// A picture in what `--json` prints.
#[derive(Serialize)]
struct Entry<'a> {
    path: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "<[Guess]>::is_empty")]
    top: &'a [Guess],
    #[serde(skip_serializing_if = "Option::is_none")]
    logits: Option<&'a [f32]>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    warnings: &'a [String],
}

impl Args {
    pub(crate) fn run(&self, console: &Console) -> anyhow::Result<()> {
        let processes = processes::join()?;
        let (mut predictor, inputs) = processes.agree(self.prepare(console, &processes))?;
        let mut out =
            Output { json: self.json, begun: false, preprocessing: to_json(&Shown::new(predictor.description()))? };
        let mut unusable = Unusable::default();
        let count = inputs.len();
        for Answer { name, result } in predictor.predict_all_among(&processes, inputs)? {
            match &result {
                Ok(prediction) if prediction.warnings.is_empty() => {}
                Ok(prediction) => tell_damage(console, &name, &prediction.warnings),
                Err(error) if error.is_of_a_picture() && count > 1 => unusable.tell(console, error),
                // There is no other picture, or something is wrong with the network, and so for each picture.
                Err(_) => return Ok(processes.agree(result.map(drop))?),
            }
            out.add(&name, &result)?;
        }
        out.end()?;
        Ok(processes.agree(unusable.end(count))?)
    }

    /// What answers, and the pictures.
    fn prepare(&self, console: &Console, processes: &Processes) -> anyhow::Result<(Predictor, Vec<Input>)> {
        let (Classifier { description, weights }, _) = self.classifier.load(console)?;
        let description = self.pictures.apply(description, console)?;
        let inputs = self.inputs(&description)?;
        let engine = self.engine.engine_among(processes, console)?;
        let top = self.top.unwrap_or(GUESSES[usize::from(!self.json)]);
        let predictor = Predictor::with_engine(Classifier { description, weights }, &engine)?;
        let predictor = predictor.batch_size(inputs.len().min(BATCH)).top(top);
        Ok((predictor.logits(self.logits).strict(self.pictures.strict), inputs))
    }

    /// The pictures, of which none is read yet but those of an array.
    fn inputs(&self, description: &Description) -> Result<Vec<Input>> {
        let mut inputs = Vec::new();
        for file in &self.files {
            match file.is_dir() {
                true => inputs.extend(Input::folder(file)?),
                false => inputs.push(Input::path(file)),
            }
        }
        if let Some(file) = &self.npy {
            let batch = npy::read_batch(file, description.input())?;
            let size: usize = description.input().iter().product();
            let name = |index: usize| format!("{}[{index}]", file.display());
            let rows = batch.data().chunks_exact(size).enumerate();
            inputs.extend(rows.map(|(index, row)| Input::array(row).named(name(index))));
        }
        Ok(inputs)
    }
}

/// The answers on stdout, as they come.
struct Output {
    json: bool,
    begun: bool,
    preprocessing: String,
}

impl Output {
    fn add(&mut self, name: &str, result: &Result<Prediction>) -> anyhow::Result<()> {
        if self.json {
            let before = if self.begun { ",".to_owned() } else { self.start() };
            self.begun = true;
            return print_as_it_is(&format!("{before}{}", to_json(&entry(name, result))?));
        }
        result.as_ref().map_or(Ok(()), |prediction| print(&line(name, prediction)))
    }

    fn end(&self) -> anyhow::Result<()> {
        match (self.json, self.begun) {
            (false, _) => Ok(()),
            (true, true) => print_as_it_is("]}\n"),
            (true, false) => print_as_it_is(&format!("{}]}}\n", self.start())),
        }
    }

    fn start(&self) -> String {
        format!("{{\"preprocessing\":{},\"predictions\":[", self.preprocessing)
    }
}

fn to_json(value: &impl Serialize) -> anyhow::Result<String> {
    Ok(serde_json::to_string(value)?)
}

fn entry<'a>(name: &'a str, result: &'a Result<Prediction>) -> Entry<'a> {
    match result {
        Ok(Prediction { top, logits, warnings, .. }) => {
            Entry { path: name, error: None, top, logits: logits.as_deref(), warnings }
        }
        Err(error) => Entry { path: name, error: Some(error.to_string()), top: &[], logits: None, warnings: &[] },
    }
}

/// `a.png: 7 (99.8 %), 9 (0.1 %), 3 (0.0 %)`
fn line(name: &str, prediction: &Prediction) -> String {
    let guess = |guess: &Guess| format!("{} ({:.1} %)", guess.label, 100.0 * guess.probability);
    let guesses: Vec<String> = prediction.top.iter().map(guess).collect();
    let mut text = format!("{name}: {}\n", guesses.join(", "));
    if let Some(logits) = &prediction.logits {
        let logits: Vec<String> = logits.iter().map(f32::to_string).collect();
        text += &format!("  logits: {}\n", logits.join(", "));
    }
    text
}
