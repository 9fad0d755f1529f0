//! `convnet eval`: how well a trained network does on held-out pictures.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{self, Path, PathBuf};

use convnet::classifier::{Classifier, Description};
use convnet::columns::{Columns, Style, counted, thousands};
use convnet::data::{HeldOut, LeftOut, Part};
use convnet::distributed::Processes;
use convnet::evaluate::{Evaluation, PredictionsCsv, Seen, Told, evaluate_pictures_among};
use convnet::exec::Engine;
use convnet::files::AtomicFile;
use convnet::pairing::{self, By, Pairing};
use convnet::predictor::Predictor;
use convnet::report::{Gallery, Report};
use convnet::train::{RunFolder, TrainConfig, read_metrics};
use convnet::{Error, StateDict};
use serde::Serialize;

use crate::args::{ClassifierArgs, DataArgs, EngineArgs};
use crate::console::{Console, print, print_json};
use crate::pictures::{PictureArgs, Shown, Unusable, tell_damage};
use crate::processes;
use crate::usage::Usage;

/// Pairs of classes that are named in a line of text.
const CONFUSED: usize = 5;

/// Measure how many held-out pictures a trained network recognises
///
/// top-1 counts a picture as recognised when its class is the first guess, top-5 when it is among the first five; of five
/// classes or fewer, top-5 says nothing. The interval beside a share is where the share among all such pictures lies with
/// 95 % confidence. The calibration error is how far the probability of the first guess is from the share of right guesses.
/// Classes of the data and of the network are paired by name; the data may have some of them alone. Under mpirun the pictures are divided
/// among the processes (docs/scaling.md).
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    convnet eval --run runs/cnn-1\n  \
    convnet eval --run runs/cnn-1 --data DIR --json\n  \
    convnet eval --run runs/cnn-1 --data DIR/test --per-class\n  \
    convnet eval --run runs/cnn-1 --predictions seen.csv --html report.html\n  \
    convnet eval --model cnn --weights weights.safetensors --data mnist")]
pub(crate) struct Args {
    #[command(flatten)]
    data: DataArgs,

    /// Which part of the data: train, val or test [default: val where there is one, else test]
    #[arg(long, value_name = "PART")]
    split: Option<Part>,

    /// Pair the classes of the data with the network's in their order [default: by name]
    #[arg(long)]
    by_position: bool,

    /// Pictures at a time
    #[arg(short, long, value_name = "N", default_value_t = 32, value_parser = crate::args::at_least_1)]
    batch_size: usize,

    #[command(flatten)]
    pictures: PictureArgs,

    #[command(flatten)]
    engine: EngineArgs,

    /// Print precision, recall and F1 of each class, too; JSON has them in any case [default: the whole alone]
    #[arg(long, help_heading = "Output")]
    per_class: bool,

    /// Write a CSV file with a line for each picture: its name, its class, and five guesses with their probabilities
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    predictions: Option<PathBuf>,

    /// Write a report as one HTML file: all figures, curves of the run, confusions, calibration, mistakes with their pictures
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    html: Option<PathBuf>,

    /// Print one JSON document and nothing else on stdout [default: some lines of text]
    #[arg(long, help_heading = "Output")]
    json: bool,

    #[command(flatten)]
    classifier: ClassifierArgs,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Document<'a> {
    data: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    split: Option<&'static str>,
    /// Pictures that could not be used.
    unusable: usize,
    preprocessing: Shown<'a>,
    #[serde(flatten)]
    evaluation: &'a Evaluation,
}

/// What is measured, and with what.
struct Prepared<'a> {
    run: Option<RunFolder>,
    config: Option<TrainConfig>,
    data: String,
    description: Description,
    engine: Engine,
    held_out: HeldOut,
    pairing: Pairing,
    page: Option<Page<'a>>,
    predictor: Predictor,
}

/// Whether the pictures that a run's split holds out are those that it held out when the run was trained.
fn check_split(run: &RunFolder, config: &TrainConfig, data: &str, held_out: &HeldOut) -> anyhow::Result<()> {
    let (Some(now), Some(then), None) = (held_out.split(), run.split()?, config.data.limit) else {
        return Ok(());
    };
    match now == then {
        true => Ok(()),
        false => anyhow::bail!(
            "{data}: the run was trained on {} pictures of it and held out {}; now there would be {} and {}, so nobody can tell \
             which it held out. Name pictures that it has not seen with --data",
            then[0],
            then[1],
            now[0],
            now[1]
        ),
    }
}

impl Args {
    pub(crate) fn run(&self, console: &Console) -> anyhow::Result<()> {
        let processes = processes::join()?;
        let prepared = processes.agree(self.prepare(console, &processes))?;
        let count = prepared.held_out.len();
        let unusable = processes.agree(self.measure(prepared, &processes, console))?;
        Ok(processes.agree(unusable.end(count))?)
    }

    /// All that is known before the first picture is seen.
    fn prepare(&self, console: &Console, processes: &Processes) -> anyhow::Result<Prepared<'_>> {
        let (classifier, run) = self.classifier.load(console)?;
        let config = run.as_ref().map(RunFolder::config).transpose()?;
        let data = match (self.data.name(), &config) {
            (Some(data), _) => data.to_owned(),
            (None, Some(config)) => config.data.source.clone(),
            (None, None) => {
                return Err(Usage::new("--weights alone says nothing of the data: name them with --data").into());
            }
        };
        let description = self.pictures.apply(classifier.description, console)?;
        let classifier = Classifier { description, ..classifier };
        let engine = self.engine.engine_among(processes, console)?;
        let left_out = run.as_ref().map(RunFolder::left_out).transpose()?.flatten().unwrap_or_default();
        let held_out = self.held_out(&data, config.as_ref(), &left_out, console)?;
        if let (Some(run), Some(config)) = (&run, &config) {
            check_split(run, config, &data, &held_out)?;
        }
        let pairing = self.pair(held_out.classes(), &classifier.description, console)?;
        // The first process writes.
        let html = self.html.as_deref().filter(|_| processes.is_first());
        let page = html.map(|path| Page::begin(path, &classifier)).transpose()?;
        let description = classifier.description.clone();
        let predictor = Predictor::with_engine(classifier, &engine)?.planes(self.html.is_some());
        let predictor = predictor.batch_size(self.batch_size.min(held_out.len())).strict(self.pictures.strict);
        Ok(Prepared { run, config, data, description, engine, held_out, pairing, page, predictor })
    }

    /// Shows the pictures to the network, and prints and writes what is found.
    fn measure(&self, prepared: Prepared<'_>, processes: &Processes, console: &Console) -> anyhow::Result<Unusable> {
        let Prepared { run, config, data, description, engine, held_out, pairing, mut page, predictor } = prepared;
        let part = held_out.part();
        let predictions = self.predictions.as_deref().filter(|_| processes.is_first());
        let mut table = predictions.map(|path| Table::begin(path, &description)).transpose()?;
        let mut unusable = Unusable::default();
        let mut told = |told: Told| {
            match told {
                Told::Seen(seen) => {
                    page.iter_mut().for_each(|page| page.gallery.add(&seen));
                    return table.iter_mut().try_for_each(|table| table.add(&seen));
                }
                Told::Damaged { name, warnings } => tell_damage(console, name, warnings),
                Told::Unusable(error) => unusable.tell(console, error),
            }
            Ok(())
        };
        let pictures = held_out.into_inputs().map(|(input, label)| (input, pairing.classes[label as usize]));
        let evaluation = evaluate_pictures_among(processes, predictor, pictures, &mut told)?;
        table.map(Table::finish).transpose()?;
        if let Some(Page { path, file, gallery, weights }) = page {
            let epochs = run.as_ref().map(|run| read_metrics(&run.metrics_jsonl())).transpose()?.unwrap_or_default();
            let of_path = Path::new(&data).file_name().map_or(data.as_str().into(), |name| name.to_string_lossy());
            let name = || format!("{} on {of_path}", description.net().name());
            let report = Report {
                title: &run.as_ref().map_or_else(name, RunFolder::title),
                description: &description,
                weights: &weights,
                engine: &engine,
                data: &data,
                part,
                evaluation: Some(&evaluation),
                gallery: Some(&gallery),
                test: None,
                epochs: &epochs,
                config: config.as_ref(),
            };
            write_page(file, path, &report)?;
        }
        if self.json {
            print_json(&Document {
                data: &data,
                split: part.map(Part::name),
                unusable: unusable.count(),
                preprocessing: Shown::new(&description),
                evaluation: &evaluation,
            })?;
        } else {
            print(&self.text(&data, part, &evaluation))?;
        }
        Ok(unusable)
    }

    /// The pictures to measure with: for a run's own data those that it has held out.
    fn held_out(
        &self,
        data: &str,
        config: Option<&TrainConfig>,
        left_out: &[LeftOut],
        console: &Console,
    ) -> anyhow::Result<HeldOut> {
        let source = self.data.source(data, console)?;
        let is_of = |config: &&TrainConfig| {
            // A pattern of shards is no path that is there.
            let place = |path: &Path| fs::canonicalize(path).or_else(|_| path::absolute(path)).ok();
            source.path().is_none_or(|path| place(path) == place(Path::new(&config.data.source)))
        };
        let own = config.filter(is_of);
        let left_out = if own.is_some() { left_out } else { &[] };
        let held_out = source.held_out_without(self.split, own.map(TrainConfig::val_split), left_out)?;
        held_out.notes().iter().for_each(|note| console.warn(&format!("{data}: {note}")));
        Ok(held_out)
    }

    /// Which class of the network each class of the data is.
    fn pair(&self, data: &[String], description: &Description, console: &Console) -> anyhow::Result<Pairing> {
        let net = description.classes();
        if self.by_position {
            return Ok(pairing::by_position(data, net)?);
        }
        let hint = |error: convnet::Error| match data.len() == net.len() {
            true => {
                anyhow::anyhow!("{error}. --labels FILE names the network's classes; --by-position pairs them in order")
            }
            false => anyhow::anyhow!("{error}. --labels FILE names the network's classes"),
        };
        let pairing = pairing::pair(data, net).map_err(hint)?;
        let how = match pairing.by {
            By::Name => None,
            By::SimilarName => Some("by similar names"),
            By::Number => Some("as numbers"),
            By::Index => Some("as numbers of the network's classes, from 0"),
            By::Synset => Some("by ImageNet's synsets"),
            By::Position => Some("in their order, for the weights do not name theirs"),
        };
        if let Some(how) = how {
            console.note(&format!("Classes of the data and of the network are paired {how}"));
        }
        if data.len() < net.len() {
            console.note(&format!("Classes with pictures: {} of the network's {}", data.len(), net.len()));
        }
        Ok(pairing)
    }

    fn text(&self, data: &str, part: Option<Part>, evaluation: &Evaluation) -> String {
        let Evaluation { images, top1, top1_interval, top5, loss, seconds, classes, .. } = evaluation;
        let part = part.map_or(String::new(), |part| format!(" ({})", part.name()));
        let [low, high] = top1_interval.map(|share| 100.0 * share);
        let mut text = format!(
            "{} of {data}{part}: top-1 {:.2} % (95 % interval {low:.2} to {high:.2} %)",
            counted(*images, "picture"),
            100.0 * top1
        );
        if let Some(top5) = top5 {
            let _ = write!(text, ", top-5 {:.2} %", 100.0 * top5);
        }
        let _ = writeln!(text, ", loss {loss:.4}, {seconds:.2} s");
        let [mean, error] = [evaluation.macro_mean.f1, evaluation.calibration.expected_error].map(|x| 100.0 * x);
        let _ = writeln!(text, "mean F1 of the classes {mean:.2} %, calibration error {error:.2} %");
        let pairs = evaluation.confused.iter().take(CONFUSED);
        let pairs: Vec<String> = pairs
            .map(|p| format!("{} as {} ({}, {:.1} %)", p.label, p.predicted, thousands(p.images), 100.0 * p.share))
            .collect();
        if !pairs.is_empty() {
            let _ = writeln!(text, "most confused: {}", pairs.join("; "));
        }
        if self.per_class {
            let mut columns = Columns::new(1, &["class", "pictures", "taken for it", "precision", "recall", "F1"]);
            for class in classes {
                let [precision, recall, f1] =
                    [class.precision, class.recall, class.f1].map(|share| format!("{:.2} %", 100.0 * share));
                let [images, predicted] = [class.images, class.predicted].map(thousands);
                columns.row([class.label.clone(), images, predicted, precision, recall, f1]);
            }
            text += &columns.render(Style::Plain);
        }
        text
    }
}

/// The file of `--predictions`.
struct Table<'a> {
    path: &'a Path,
    csv: PredictionsCsv<'a, AtomicFile>,
}

impl<'a> Table<'a> {
    fn begin(path: &'a Path, description: &'a Description) -> convnet::Result<Table<'a>> {
        let csv = PredictionsCsv::begin(AtomicFile::create(path)?, description.classes());
        Ok(Table { path, csv: csv.map_err(Error::io("writing", path))? })
    }

    fn add(&mut self, seen: &Seen) -> convnet::Result<()> {
        self.csv.add(seen).map_err(Error::io("writing", self.path))
    }

    fn finish(self) -> convnet::Result<()> {
        self.csv.into_inner().finish()
    }
}

/// The file of `--html`, begun before anything is measured, so that a folder that cannot be written to shows at once.
struct Page<'a> {
    path: &'a Path,
    file: AtomicFile,
    gallery: Gallery,
    /// The classifier itself goes to the predictor.
    weights: StateDict,
}

impl<'a> Page<'a> {
    fn begin(path: &'a Path, classifier: &Classifier) -> convnet::Result<Page<'a>> {
        let Classifier { description, weights } = classifier;
        let gallery = Gallery::new(description.input(), description.classes().len());
        Ok(Page { path, file: AtomicFile::create(path)?, gallery, weights: weights.clone() })
    }
}

fn write_page(mut file: AtomicFile, path: &Path, report: &Report) -> convnet::Result<()> {
    file.write_all(report.to_html().as_bytes()).map_err(Error::io("writing", path))?;
    file.finish()
}
