//! Maps of what speaks for a class.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Instant;

use convnet::classifier::Description;
use convnet::data::npy;
use convnet::explain::{self, Baseline, Explanation, Method, Question};
use serde::Serialize;

use super::pictures::{self, Names};
use crate::args::{ClassifierArgs, EngineArgs, at_least_1};
use crate::console::{Console, print, print_json};
use crate::pictures::{PictureArgs, Shown, Unusable};
use crate::usage::OrUsage;

#[derive(clap::Args)]
pub(super) struct MapsArgs {
    /// Pictures to explain, or folders of them
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,

    /// Methods: grad-cam, grad-cam++, hires-cam, layer-cam, saliency, input-x-gradient, smooth-grad, integrated-gradients,
    /// guided-backprop (fails the sanity check), occlusion
    #[arg(
        long = "method",
        value_name = "NAME,…",
        value_delimiter = ',',
        default_value = "grad-cam",
        help_heading = "Explanation"
    )]
    methods: Vec<String>,

    /// The class to explain, by name or number [default: the predicted one]
    #[arg(long, value_name = "CLASS", help_heading = "Explanation")]
    class: Option<String>,

    /// For class activation maps: the layer whose maps are looked at, by name (see `convnet summary`) or the beginning of a block's
    /// [default: the last maps]
    #[arg(long, value_name = "NAME", help_heading = "Explanation")]
    layer: Option<String>,

    /// For smooth-grad: noisy copies of the picture [default: 50]
    #[arg(long, value_name = "N", value_parser = at_least_1, help_heading = "Explanation")]
    samples: Option<usize>,

    /// For smooth-grad: standard deviation of the noise, as a share of the picture's range [default: 0.15]
    #[arg(long, value_name = "SHARE", help_heading = "Explanation")]
    noise: Option<f32>,

    /// For integrated-gradients: points between the baseline and the picture [default: 50]
    #[arg(long, value_name = "N", value_parser = at_least_1, help_heading = "Explanation")]
    steps: Option<usize>,

    /// For integrated-gradients and occlusion: what is no picture: mean, black or white [default: mean]
    #[arg(long, value_name = "PICTURE", value_parser = baseline, help_heading = "Explanation")]
    baseline: Option<Baseline>,

    /// For occlusion: side of the window, or HxW [default: an eighth of the picture's]
    #[arg(long, value_name = "N", help_heading = "Explanation")]
    window: Option<Sides>,

    /// For occlusion: pixels between two windows, or HxW [default: half of the window]
    #[arg(long, value_name = "N", help_heading = "Explanation")]
    stride: Option<Sides>,

    #[command(flatten)]
    pictures: PictureArgs,

    #[command(flatten)]
    engine: EngineArgs,

    /// Folder for the pictures that are drawn
    #[arg(short, long, value_name = "DIR", default_value = "explained", help_heading = "Output")]
    out: PathBuf,

    /// Write the numbers, too: NAME-METHOD.npy, of channels x height x width of the picture, or of 1 x height x width of the layer
    #[arg(long, help_heading = "Output")]
    npy: bool,

    /// Print one JSON document and nothing else on stdout [default: a line for each picture and method]
    #[arg(long, help_heading = "Output")]
    json: bool,

    #[command(flatten)]
    classifier: ClassifierArgs,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Document<'a> {
    preprocessing: Shown<'a>,
    pictures: Vec<Entry>,
}

#[derive(Serialize)]
struct Entry {
    path: PathBuf,
    out: PathBuf,
    explanations: Vec<Outcome>,
}

#[derive(Serialize)]
struct Outcome {
    method: &'static str,
    class: usize,
    label: String,
    probability: f64,
    /// The output before softmax.
    score: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    layer: Option<String>,
    /// Smallest and largest number of the map.
    range: [f32; 2],
    /// Row and column of the picture where the map is largest.
    peak: [usize; 2],
    /// For integrated gradients: how far their sum is from the change of the output, as a share of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    completeness_error: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    caution: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    npy: Option<PathBuf>,
    /// From the picture's numbers to the map; the first picture's hold the planning of the network, too.
    seconds: f64,
}

impl MapsArgs {
    pub(super) fn run(&self, console: &Console) -> anyhow::Result<()> {
        let methods = self.methods().or_usage()?;
        let (mut explainer, description) =
            pictures::explainer(&self.classifier, &self.pictures, &self.engine, console)?;
        let class = self.class.as_ref().map(|class| explain::class(&description, class)).transpose().or_usage()?;
        let files = pictures::found(&self.files)?;
        pictures::make(&self.out)?;
        let (mut unusable, mut names, mut entries) = (Unusable::default(), Names::default(), Vec::new());
        for path in &files {
            let others = (files.len() > 1).then_some(&mut unusable);
            let Some(image) = pictures::read(path, (&description, self.pictures.strict), others, console)? else {
                continue;
            };
            let explained = methods.iter().map(|&method| {
                let (start, question) = (Instant::now(), Question { method, class, layer: self.layer.clone() });
                Ok((explainer.explain(&image, &question)?, start.elapsed().as_secs_f64()))
            });
            let explained = explained.collect::<convnet::Result<Vec<(Explanation, f64)>>>().or_usage()?;
            let (explanations, seconds): (Vec<Explanation>, Vec<f64>) = explained.into_iter().unzip();
            let name = names.of(path);
            let out = self.out.join(format!("{name}.png"));
            explain::overlay(&out, &description, &path.display().to_string(), &image, &explanations)?;
            let outcomes = explanations.iter().zip(seconds);
            let outcomes = outcomes.map(|(found, seconds)| self.outcome(found, seconds, &name, &description));
            let entry = Entry { path: path.clone(), out, explanations: outcomes.collect::<convnet::Result<_>>()? };
            match self.json {
                true => entries.push(entry),
                false => print(&lines(&entry))?,
            }
        }
        if self.json {
            print_json(&Document { preprocessing: Shown::new(&description), pictures: entries })?;
        }
        Ok(unusable.end(files.len())?)
    }

    /// The methods that are named, as the flags set them.
    fn methods(&self) -> convnet::Result<Vec<Method>> {
        let side = |sides: Option<Sides>| sides.map_or([0; 2], |Sides(sides)| sides);
        let set = |method: Method| match method {
            Method::SmoothGrad { samples, noise, seed } => Method::SmoothGrad {
                samples: self.samples.unwrap_or(samples),
                noise: self.noise.unwrap_or(noise),
                seed,
            },
            Method::IntegratedGradients { steps, baseline } => Method::IntegratedGradients {
                steps: self.steps.unwrap_or(steps),
                baseline: self.baseline.unwrap_or(baseline),
            },
            Method::Occlusion { baseline, .. } => Method::Occlusion {
                window: side(self.window),
                stride: side(self.stride),
                baseline: self.baseline.unwrap_or(baseline),
            },
            other => other,
        };
        self.methods.iter().map(|name| name.parse().map(set)).collect()
    }

    /// What is told of an explanation, whose numbers are written if they are wanted.
    fn outcome(
        &self,
        explanation: &Explanation,
        seconds: f64,
        name: &str,
        description: &Description,
    ) -> convnet::Result<Outcome> {
        let method = explanation.method.name();
        let npy = self.npy.then(|| self.out.join(format!("{name}-{method}.npy")));
        if let Some(path) = &npy {
            npy::write(path, &explanation.attributions)?;
        }
        let [_, height, width] = description.input();
        Ok(Outcome {
            method,
            class: explanation.class,
            label: description.classes()[explanation.class].clone(),
            probability: explanation.probability,
            score: explanation.score,
            layer: explanation.layer.clone(),
            range: explanation.map.range(),
            peak: explanation.map.resized([height, width]).peak(),
            completeness_error: explanation.completeness.map(|completeness| completeness.error()),
            caution: explanation.method.caution(),
            npy,
            seconds,
        })
    }
}

/// `a.png: 7 (99.8 %): grad-cam by the maps of layer4.1.relu: explained/a.png`
fn lines(entry: &Entry) -> String {
    let [path, out] = [&entry.path, &entry.out].map(|path: &PathBuf| Path::display(path));
    let line = |outcome: &Outcome| {
        let Outcome { label, probability, method, .. } = outcome;
        let by = outcome.layer.as_ref().map_or(String::new(), |layer| format!(" by the maps of {layer}"));
        let error = outcome.completeness_error;
        let error = error.map_or(String::new(), |error| format!(", completeness error {:.3} %", 100.0 * error));
        let caution = outcome.caution.map_or(String::new(), |caution| format!(" ({caution})"));
        format!("{path}: {label} ({:.1} %): {method}{by}{error}{caution}: {out}\n", 100.0 * probability)
    };
    entry.explanations.iter().map(line).collect()
}

fn baseline(text: &str) -> Result<Baseline, String> {
    match text {
        "mean" => Ok(Baseline::Mean),
        "black" => Ok(Baseline::Black),
        "white" => Ok(Baseline::White),
        _ => Err("expected mean, black or white".into()),
    }
}

/// `16`, or `16x8`: height and width.
#[derive(Clone, Copy, Debug)]
struct Sides([usize; 2]);

impl FromStr for Sides {
    type Err = String;

    fn from_str(text: &str) -> Result<Sides, String> {
        let sides: Result<Vec<usize>, String> = text.split('x').map(at_least_1).collect();
        match sides?[..] {
            [side] => Ok(Sides([side; 2])),
            [height, width] => Ok(Sides([height, width])),
            _ => Err("expected a number of pixels, or height x width such as 16x8".into()),
        }
    }
}
