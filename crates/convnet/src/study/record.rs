//! What a study has measured: `study.toml`, tables for people, and which expectations were seen.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Budget, Expectation, Quantity, Study};
use crate::columns::{Columns, Style, duration, thousands};
use crate::files::write_atomic;
use crate::{Error, Result};

/// Largest file that is read.
const MAX_BYTES: u64 = 16 << 20;

/// A study's results, complete or not. All of it is in `study.toml`, from which tables and plots can be made again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Name of the study.
    pub study: String,
    /// Where the pictures come from.
    pub data: String,
    /// How much was to be computed.
    pub budget: Budget,
    /// Seeds of each variant: 0, 1 and so on.
    pub seeds: u64,
    /// Epochs of each run.
    pub epochs: usize,
    /// Channels, height and width of the pictures.
    pub input: [usize; 3],
    /// Number of classes.
    pub classes: usize,
    /// Pictures that each run trains on, and pictures that are held out.
    pub pictures: [usize; 2],
    /// What is held out: `test` or `validation`.
    pub part: String,
    /// Processor and threads.
    pub machine: String,
    /// Version of convnet.
    pub version: String,
    /// Day of the last run, as `2026-11-29`.
    pub date: String,
    /// In the order of the study's.
    pub variants: Vec<VariantRecord>,
}

/// What was measured of a variant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VariantRecord {
    /// Its name.
    pub name: String,
    /// Trained elements.
    pub parameters: u64,
    /// Multiply-adds for one picture.
    pub macs: u64,
    /// Least time of a training step, where the study asks for it, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_ms: Option<f64>,
    /// Its runs that have ended, by seed.
    #[serde(default)]
    pub runs: Vec<RunRecord>,
}

/// What came of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunRecord {
    /// Its seed.
    pub seed: u64,
    /// Steps of an epoch.
    pub epoch_steps: u64,
    /// After each epoch: share of a sample of the training pictures, measured as they are, that is not recognised, in %.
    pub train_error: Vec<f64>,
    /// The same of the pictures that are held out.
    pub test_error: Vec<f64>,
    /// The step in which its numbers were no longer finite; it has no result then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diverged: Option<u64>,
    /// Time that its epochs took.
    pub seconds: f64,
    /// Sizes of gradients, where the study asks for them, from the first layer to the last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gradients: Vec<LayerGradient>,
}

/// Root mean square of the gradient of a layer's weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerGradient {
    /// Name of the layer.
    pub layer: String,
    /// With the weights that training begins with.
    pub before: f64,
    /// With those that it ends with.
    pub after: f64,
}

/// Whether an expectation was seen.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    /// What was expected.
    pub says: &'static str,
    /// Who says so.
    pub source: &'static str,
    /// Comparisons in which it was seen: one by seed, or one where seeds make no difference.
    pub seen: usize,
    /// Comparisons that could be made.
    pub of: usize,
    /// The smaller number, according to the source, and the larger one, as they were measured (means over the seeds).
    pub measured: String,
}

impl Record {
    /// Reads `study.toml`.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be read; [`Error::File`] when it is not a study's, or one of another version.
    pub fn read(path: &Path) -> Result<Record> {
        let mut text = String::new();
        let file = File::open(path).map_err(Error::io("opening", path))?;
        file.take(MAX_BYTES).read_to_string(&mut text).map_err(Error::io("reading", path))?;
        Record::parse(&text).map_err(|problem| Error::file(path, problem.to_string()))
    }

    /// Reads the text of a `study.toml`.
    ///
    /// # Errors
    /// What was expected and what came.
    pub(super) fn parse(text: &str) -> Result<Record> {
        let problem =
            |error: toml::de::Error| Error::invalid(format!("expected the results of a study: {}", error.message()));
        let record: Record = toml::from_str(text).map_err(problem)?;
        let study = Study::find(&record.study)?;
        for variant in &record.variants {
            study.variant(&variant.name)?;
            let numbers = variant.runs.iter().flat_map(|run| run.train_error.iter().chain(&run.test_error));
            if let Some(number) = numbers.into_iter().find(|number| !(0.0..=100.0).contains(*number)) {
                return Err(Error::invalid(format!(
                    "'{}': expected an error in %, from 0 to 100, got {number}",
                    variant.name
                )));
            }
        }
        Ok(record)
    }

    /// Writes `study.toml`.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = toml::to_string(self).map_err(|error| Error::file(path, error.to_string()))?;
        write_atomic(path, |out| out.write_all(text.as_bytes()))
    }

    /// The study that it is of.
    ///
    /// # Errors
    /// [`Error::Unknown`] for one that this version does not have.
    pub fn of(&self) -> Result<&'static Study> {
        Study::find(&self.study)
    }

    /// What was measured of a variant, where it has begun.
    pub fn variant(&self, name: &str) -> Option<&VariantRecord> {
        self.variants.iter().find(|variant| variant.name == name)
    }

    /// Whether every run has ended.
    pub fn is_complete(&self) -> bool {
        self.variants.iter().all(|variant| variant.runs.len() as u64 == self.seeds)
    }

    /// Which expectations were seen, as far as runs have ended.
    ///
    /// # Errors
    /// As [`Record::of`].
    pub fn verdicts(&self) -> Result<Vec<Verdict>> {
        Ok(self.of()?.expectations.iter().map(|expected| self.verdict(expected)).collect())
    }

    fn verdict(&self, expected: &Expectation) -> Verdict {
        let of = |name| self.variant(name).map(|variant| (variant, self.numbers(variant, expected.of)));
        let (Some((_, less)), Some((_, more))) = (of(expected.less), of(expected.more)) else {
            return Verdict { says: expected.says, source: expected.source, seen: 0, of: 0, measured: "–".into() };
        };
        let pairs: Vec<(f64, f64)> = less
            .iter()
            .filter_map(|&(seed, number)| Some((number, more.iter().find(|other| other.0 == seed)?.1)))
            .collect();
        let shown = |numbers: &[(u64, f64)], name| format!("{name} {}", summary(numbers, expected.of));
        Verdict {
            says: expected.says,
            source: expected.source,
            seen: pairs.iter().filter(|(less, more)| less < more).count(),
            of: pairs.len(),
            measured: format!("{}, {}", shown(&less, expected.less), shown(&more, expected.more)),
        }
    }

    /// A variant's number for each seed, or with seed 0 the one that does not depend on it.
    fn numbers(&self, variant: &VariantRecord, quantity: Quantity) -> Vec<(u64, f64)> {
        let once = |number: Option<f64>| number.map(|number| (0, number)).into_iter().collect();
        let each = |of: fn(&RunRecord) -> Option<f64>| {
            variant.runs.iter().filter_map(|run| Some((run.seed, of(run)?))).collect()
        };
        match quantity {
            Quantity::Parameters => once(Some(variant.parameters as f64)),
            Quantity::Macs => once(Some(variant.macs as f64)),
            Quantity::StepTime => once(variant.step_ms),
            Quantity::TrainError => each(|run| run.last(&run.train_error)),
            Quantity::TestError => each(|run| run.last(&run.test_error)),
            Quantity::Gap => each(RunRecord::gap),
            Quantity::GradientRatio => each(RunRecord::gradient_ratio),
        }
    }

    /// What each variant came to, a row each. Where there are several seeds, a mean with the least and the largest number.
    ///
    /// # Errors
    /// As [`Record::of`].
    pub fn table(&self, style: Style) -> Result<String> {
        Ok(self.table_of(self.of()?.columns, style))
    }

    /// The same with these columns.
    pub(crate) fn table_of(&self, quantities: &[Quantity], style: Style) -> String {
        let headings: Vec<String> = quantities.iter().map(|quantity| quantity.heading(&self.part)).collect();
        let headings: Vec<&str> = ["variant"].into_iter().chain(headings.iter().map(String::as_str)).collect();
        let mut columns = Columns::new(1, &headings);
        for variant in &self.variants {
            let cells = quantities.iter().map(|&quantity| self.cell(variant, quantity));
            columns.row(std::iter::once(variant.name.clone()).chain(cells));
        }
        columns.render(style)
    }

    fn cell(&self, variant: &VariantRecord, quantity: Quantity) -> String {
        let diverged = variant.runs.iter().filter(|run| run.diverged.is_some()).count();
        let depends = matches!(quantity, Quantity::TrainError | Quantity::TestError | Quantity::Gap);
        match (diverged, depends) {
            (1.., true) => format!("{diverged} of {} diverged", variant.runs.len()),
            _ => summary(&self.numbers(variant, quantity), quantity),
        }
    }

    /// The expectations, a row each.
    ///
    /// # Errors
    /// As [`Record::of`].
    pub fn expectations(&self, style: Style) -> Result<String> {
        let mut columns = Columns::new(4, &["expected", "by", "seen", "measured"]);
        for verdict in self.verdicts()? {
            let seen = verdict.seen();
            columns.row([verdict.says.to_owned(), verdict.source.to_owned(), seen, verdict.measured]);
        }
        Ok(columns.render(style))
    }

    /// How it was measured, in a sentence or two.
    pub fn provenance(&self) -> String {
        let [train, held_out] = self.pictures.map(|count| thousands(count as u64));
        let runs = self.variants.iter().flat_map(|variant| &variant.runs);
        // An empty sum of floats is -0.
        let seconds = runs.fold(0.0, |sum, run| sum + run.seconds);
        format!(
            "{} training and {held_out} {} pictures of {} ({}×{}×{}), {} epochs, {} {} of each variant; budget `{}`. {}, \
             {}; the runs took {}. convnet {}.",
            train,
            self.part,
            self.data,
            self.input[0],
            self.input[1],
            self.input[2],
            self.epochs,
            self.seeds,
            if self.seeds == 1 { "seed" } else { "seeds" },
            self.budget,
            self.machine,
            self.date,
            duration(seconds),
            self.version,
        )
    }

    /// The command that makes it, with this name for the data.
    pub fn command(&self) -> String {
        let data = if self.data == "digits" { String::new() } else { format!(" --data {}", self.data) };
        let seeds = if self.seeds == 1 { String::new() } else { format!(" --seeds {}", self.seeds) };
        format!("convnet study {}{data} --budget {}{seeds}", self.study, self.budget)
    }

    /// `study.md`: question, table, expectations and how it was measured.
    ///
    /// # Errors
    /// As [`Record::of`].
    pub fn to_markdown(&self) -> Result<String> {
        let study = self.of()?;
        let mut text = format!("# {}\n\n{}\n\n", study.title, study.question);
        text += &self.table(Style::Markdown)?;
        text += "\n";
        text += &self.variants_explained(study);
        text += "\n";
        text += &self.expectations(Style::Markdown)?;
        text += &format!("\n{}\n\n{}\n", study.data, self.provenance());
        Ok(text)
    }

    /// What the variants are, and what errors are of.
    pub(super) fn variants_explained(&self, study: &Study) -> String {
        let about: Vec<String> = study.variants.iter().map(|v| format!("`{}`: {}", v.name, v.about)).collect();
        let spread = if self.seeds > 1 { " Means over the seeds, with the least and the largest." } else { "" };
        format!("{}. Errors are those after the last epoch.{spread}\n", about.join("; "))
    }
}

impl Verdict {
    /// `yes`, `no`, or in how many comparisons.
    pub fn seen(&self) -> String {
        match (self.seen, self.of) {
            (_, 0) => "not measured".into(),
            (0, 1) => "no".into(),
            (1, 1) => "yes".into(),
            (seen, of) => format!("in {seen} of {of} seeds"),
        }
    }
}

impl RunRecord {
    /// The last of its numbers; no recognition at all where it has diverged.
    fn last(&self, errors: &[f64]) -> Option<f64> {
        match self.diverged {
            Some(_) => Some(f64::INFINITY),
            None => errors.last().copied(),
        }
    }

    fn gap(&self) -> Option<f64> {
        let gap = self.last(&self.test_error)? - self.last(&self.train_error)?;
        Some(if gap.is_nan() { f64::INFINITY } else { gap })
    }

    fn gradient_ratio(&self) -> Option<f64> {
        let (first, last) = (self.gradients.first()?, self.gradients.last()?);
        Some(first.before / last.before).filter(|ratio| ratio.is_finite())
    }
}

impl Quantity {
    /// What stands above its column.
    fn heading(self, part: &str) -> String {
        match self {
            Quantity::Parameters => "parameters".into(),
            Quantity::Macs => "multiply-adds".into(),
            Quantity::StepTime => "least ms a step".into(),
            Quantity::TrainError => "training error %".into(),
            Quantity::TestError => format!("{part} error %"),
            Quantity::Gap => "gap, points".into(),
            Quantity::GradientRatio => "gradient, first / last".into(),
        }
    }

    fn shown(self, number: f64) -> String {
        match self {
            _ if number.is_infinite() => "diverged".into(),
            Quantity::Parameters | Quantity::Macs => thousands(number as u64),
            Quantity::StepTime => format!("{number:.1}"),
            Quantity::TrainError | Quantity::TestError | Quantity::Gap => format!("{number:.2}"),
            Quantity::GradientRatio if number < 0.01 => format!("{number:.1e}"),
            Quantity::GradientRatio => format!("{number:.2}"),
        }
    }
}

/// The mean, and least and largest where there are several.
fn summary(numbers: &[(u64, f64)], quantity: Quantity) -> String {
    let all: Vec<f64> = numbers.iter().map(|&(_, number)| number).collect();
    let shown = |number| quantity.shown(number);
    match all[..] {
        [] => "–".into(),
        [one] => shown(one),
        _ => {
            let mean = all.iter().sum::<f64>() / all.len() as f64;
            let least = all.iter().copied().fold(f64::INFINITY, f64::min);
            let most = all.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            format!("{} ({} to {})", shown(mean), shown(least), shown(most))
        }
    }
}
