//! A study in a folder: `study.toml` with everything that was measured, `study.md`, `study.png` and `study.html`, and for each variant
//! and seed the folder of an ordinary run. A session that is stopped goes on where it was when the folder is opened again.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::record::{Record, RunRecord, VariantRecord};
use super::{Budget, Quantity, Study, Variant, augmentation, measure, nets};
use crate::classifier::Classifier;
use crate::data::{Dataset, Part, Sizing, Source, Splits, TargetSize, ValSplit};
use crate::exec::Engine;
use crate::files::{disk, remove_temporaries, write_atomic};
use crate::net::{Net, Roofline};
use crate::train::{
    Ending, EngineConfig, EpochMetrics, Outcome, Prepared, RunFolder, Settings, TrainConfig, Trainer, read_metrics,
};
use crate::weights::{self, Checkpoint};
use crate::{Error, Result, roofline};

/// The file with everything that was measured.
const RECORD: &str = "study.toml";
/// What a kill leaves of it where it was being written for the first time.
const REMAINDER: &str = ".study.toml.tmp";
/// Folder of the networks that have no name.
const NETS: &str = "nets";
/// What photos are brought to: the studies' networks are for small pictures.
const SMALL: [usize; 3] = [3, 32, 32];
/// Pictures whose shorter side has at most so many pixels stay as they are, where they are all of one size.
const LARGEST: usize = 64;

/// What is to be computed.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Which study.
    pub study: &'static Study,
    /// Where the pictures come from: `digits`, or what [`Source::parse`] takes.
    pub data: String,
    /// How much.
    pub budget: Budget,
    /// Runs of each variant, with seeds from 0 on.
    pub seeds: u64,
    /// Threads; 0 takes all cores. No result depends on it but times.
    pub threads: usize,
}

/// A run that has not ended yet.
#[derive(Clone, Debug)]
pub struct Task {
    /// Which variant.
    pub variant: &'static Variant,
    /// Its seed.
    pub seed: u64,
    /// Its number among all runs, from 1.
    pub number: usize,
    /// All runs.
    pub of: usize,
}

/// A study under way in a folder.
#[derive(Debug)]
pub struct Session {
    plan: Plan,
    folder: PathBuf,
    source: Source,
    engine: Engine,
    record: Record,
    /// The first training pictures of seed 0, on which gradients are measured.
    train: Arc<Dataset>,
}

impl Plan {
    /// On the built-in digits, one seed, some minutes.
    pub fn new(study: &'static Study) -> Plan {
        Plan { study, data: "digits".into(), budget: Budget::default(), seeds: 1, threads: 0 }
    }

    /// The plan of a study that was begun in a folder, if there is one.
    ///
    /// # Errors
    /// As [`Record::read`].
    pub fn of_folder(folder: &Path) -> Result<Option<Plan>> {
        let path = folder.join(RECORD);
        if !path.is_file() {
            return Ok(None);
        }
        let record = Record::read(&path)?;
        let Record { data, budget, seeds, .. } = &record;
        Ok(Some(Plan { study: record.of()?, data: data.clone(), budget: *budget, seeds: *seeds, threads: 0 }))
    }
}

impl Task {
    /// What its run's folder is called.
    fn folder(&self) -> String {
        format!("{}-seed{}", self.variant.name, self.seed)
    }
}

impl Session {
    /// Begins a study in a new or empty folder, or goes on with the one in it; then there may be more seeds than there were.
    ///
    /// # Errors
    /// A folder that holds something else, or a study that was begun otherwise; data that cannot be read.
    pub fn open(plan: Plan, folder: &Path) -> Result<Session> {
        let earlier = earlier(folder)?;
        let engine = EngineConfig { threads: plan.threads, ..EngineConfig::default() }.engine()?;
        let source = Source::parse(&plan.data)?;
        let (splits, part) = splits(&plan, &source)?;
        let mut record = begun(&plan, &splits, part, &engine)?;
        if let Some(earlier) = earlier {
            check_same(folder, &earlier, &record)?;
            record = Record { seeds: record.seeds.max(earlier.seeds), machine: record.machine, ..earlier };
        }
        let folder = std::path::absolute(folder).map_err(Error::io("finding", folder))?;
        disk::create_dir_all(&folder.join(NETS)).map_err(Error::io("creating", &folder))?;
        remove_temporaries(&folder)?;
        record.write(&folder.join(RECORD))?;
        Ok(Session { plan, folder, source, engine, record, train: Arc::new(splits.train) })
    }

    /// The next run that has not ended: all variants with the first seed, then with the next.
    pub fn next_task(&self) -> Option<Task> {
        let variants = self.plan.study.variants;
        let all = (0..self.record.seeds).flat_map(|seed| variants.iter().map(move |variant| (seed, variant)));
        let of = variants.len() * self.record.seeds as usize;
        let (index, (seed, variant)) = all.enumerate().find(|(_, (seed, variant))| !self.has_ended(variant, *seed))?;
        Some(Task { variant, seed, number: index + 1, of })
    }

    fn has_ended(&self, variant: &Variant, seed: u64) -> bool {
        self.record.variant(variant.name).is_some_and(|record| record.runs.iter().any(|run| run.seed == seed))
    }

    /// A trainer for a run, from its last checkpoint where it has begun. When that is damaged and the previous one took its place, the
    /// error beside the trainer says why.
    ///
    /// # Errors
    /// A folder of that run that holds something else; what [`Trainer::resume`] meets.
    pub fn resume(&self, task: &Task) -> Result<(Trainer, Option<Error>)> {
        let input = self.record.input;
        let mut config = config(&self.plan, task.variant, task.seed, input)?;
        config.data.input = self.source.has_files().then_some(input);
        if let Some(build) = task.variant.net {
            let path = self.folder.join(NETS).join(format!("{}.toml", task.variant.name));
            let text = build(input, self.record.classes)?.to_toml();
            write_atomic(&path, |out| out.write_all(text.as_bytes()))?;
            config.model.net = Some(path);
        }
        let path = self.folder.join(task.folder());
        match RunFolder::open(&path) {
            Ok(run) => {
                if run.config()?.recipe != config.recipe {
                    let problem = "expected a run with the settings of this study; choose another folder for it";
                    return Err(Error::file(path, problem));
                }
                let splits = Prepared::splits_of_run(&run, &config, &self.source)?;
                Trainer::resume(run, config, splits, &self.engine)
            }
            Err(_) => {
                let Prepared { config, splits, classifier, .. } = Prepared::new(config, &self.source)?;
                let run = RunFolder::create(&path, &config)?;
                let trainer = Trainer::with_engine(classifier, splits, config.recipe.clone(), &self.engine)?;
                Ok((trainer.in_folder(run, config)?, None))
            }
        }
    }

    /// As [`Session::resume`], for a caller who need not know of damaged checkpoints.
    ///
    /// # Errors
    /// As [`Session::resume`].
    pub fn trainer(&self, task: &Task) -> Result<Trainer> {
        self.resume(task).map(|(trainer, _)| trainer)
    }

    /// Writes down what a run came to, divergence included. Says whether it has ended; a run that was stopped has not.
    ///
    /// # Errors
    /// The run's own error, unless it has diverged; files that cannot be read or written.
    pub fn record(&mut self, task: &Task, ended: Result<Outcome>) -> Result<bool> {
        let run = RunFolder::open(&self.folder.join(task.folder()))?;
        let (epochs, diverged) = match ended {
            Ok(Outcome { ending: Ending::Stopped, .. }) => return Ok(false),
            Ok(outcome) => (outcome.epochs, None),
            Err(Error::Diverged { step, .. }) => (read_metrics(&run.metrics_jsonl())?, Some(step)),
            Err(error) => return Err(error),
        };
        let error_of = |share: Option<f64>| share.map(|share| hundredths(100.0 * (1.0 - share)));
        let gradients = match diverged {
            None if self.plan.study.measures(Quantity::GradientRatio) => self.gradients(&run, task)?,
            _ => Vec::new(),
        };
        let result = RunRecord {
            seed: task.seed,
            epoch_steps: self.record.pictures[0].div_ceil(self.batch_size()) as u64,
            train_error: epochs.iter().filter_map(|epoch| error_of(Some(epoch.accuracy_in_training()))).collect(),
            test_error: epochs.iter().filter_map(|epoch| error_of(epoch.val_accuracy)).collect(),
            diverged,
            seconds: hundredths(epochs.iter().map(|epoch: &EpochMetrics| epoch.seconds).sum()),
            gradients,
        };
        let variant = self.record.variants.iter_mut().find(|variant| variant.name == task.variant.name);
        if let Some(variant) = variant {
            variant.runs.push(result);
        }
        self.record.date = today();
        self.record.write(&self.folder.join(RECORD))?;
        Ok(true)
    }

    fn gradients(&self, run: &RunFolder, task: &Task) -> Result<Vec<super::LayerGradient>> {
        let description = Classifier::of_run(run)?.description;
        let after = Checkpoint::load_or_previous(&run.last_safetensors())?.checkpoint.weights;
        let after = weights::fitting(description.net(), after)?;
        let before = weights::init(description.net(), task.seed);
        measure::gradients(&description, [&before, &after], &self.train, &self.engine)
    }

    /// Measures what takes no run, and writes `study.md`, `study.png` and `study.html`. Where runs have not ended they show those that
    /// have.
    ///
    /// # Errors
    /// Files that cannot be written.
    pub fn finish(&mut self) -> Result<&Record> {
        let untimed = self.record.variants.iter().any(|variant| variant.step_ms.is_none());
        if self.plan.study.measures(Quantity::StepTime) && untimed && self.record.is_complete() {
            let nets =
                self.plan.study.variants.iter().map(|variant| self.net(variant)).collect::<Result<Vec<Net>>>()?;
            let batch = self.batch_size();
            let times = measure::step_times(&nets, &self.engine, batch, self.plan.budget)?;
            for (variant, time) in self.record.variants.iter_mut().zip(times) {
                variant.step_ms = Some(hundredths(time));
            }
            self.record.write(&self.folder.join(RECORD))?;
        }
        let text = self.record.to_markdown()?;
        write_atomic(&self.folder.join("study.md"), |out| out.write_all(text.as_bytes()))?;
        #[cfg(feature = "plots")]
        self.draw()?;
        Ok(&self.record)
    }

    /// The plot, and a page on the runs beside one another.
    #[cfg(feature = "plots")]
    fn draw(&self) -> Result<()> {
        super::plot(&self.folder.join("study.png"), &self.record)?;
        let runs: Vec<PathBuf> = (0..self.record.seeds)
            .flat_map(|seed| self.plan.study.variants.iter().map(move |variant| (seed, variant)))
            .map(|(seed, variant)| self.folder.join(Task { variant, seed, number: 0, of: 0 }.folder()))
            .filter(|folder| folder.join("config.toml").is_file())
            .collect();
        let page = crate::compare::Comparison::read(&runs)?.to_html();
        write_atomic(&self.folder.join("study.html"), |out| out.write_all(page.as_bytes()))
    }

    /// What has been measured so far.
    pub fn results(&self) -> &Record {
        &self.record
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What is computed with.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The least time in seconds that the runs which have not ended take on a machine by [`Net::estimate`], measuring left out.
    ///
    /// # Errors
    /// A variant that does not fit the pictures.
    pub fn least_seconds(&self, roofline: &Roofline) -> Result<f64> {
        let batch = self.batch_size();
        let steps = self.record.pictures[0].div_ceil(batch) * self.record.epochs;
        let mut seconds = 0.0;
        for variant in self.plan.study.variants {
            let left = (0..self.record.seeds).filter(|&seed| !self.has_ended(variant, seed)).count();
            let step = self.net(variant)?.estimate(roofline, batch as u64).training_ms / 1e3;
            seconds += step * (steps * left) as f64;
        }
        Ok(seconds)
    }

    fn batch_size(&self) -> usize {
        self.plan.study.scale(self.plan.budget).batch
    }

    fn net(&self, variant: &Variant) -> Result<Net> {
        net(&self.plan, variant, self.record.input, self.record.classes)
    }
}

/// Everything that decides a run; `input` is channels, height and width of the pictures.
pub(super) fn config(plan: &Plan, variant: &Variant, seed: u64, input: [usize; 3]) -> Result<TrainConfig> {
    let scale = plan.study.scale(plan.budget);
    let own = |toml: &str| Settings::from_toml(toml).map_err(Error::invalid);
    let mut layer = Settings::default();
    let mut milestones = [scale.epochs.div_ceil(2), (3 * scale.epochs).div_ceil(4)].to_vec();
    milestones.dedup();
    let milestones: Vec<String> = milestones.iter().map(usize::to_string).collect();
    layer.set("schedule.milestones", &milestones.join(","))?;
    layer.set("epochs", &scale.epochs.to_string())?;
    layer.set("batch_size", &scale.batch.to_string())?;
    layer.set("seed", &seed.to_string())?;
    layer.set("data.source", &plan.data)?;
    layer.set("engine.threads", &plan.threads.to_string())?;
    if scale.limit > 0 {
        layer.set("data.limit", &scale.limit.to_string())?;
    }
    let mut config = TrainConfig::resolve([own(plan.study.settings)?, own(variant.settings)?, layer])?;
    if variant.augmented {
        config.recipe.augment = augmentation(input);
    }
    Ok(config)
}

/// A variant's network.
pub(super) fn net(plan: &Plan, variant: &Variant, input: [usize; 3], classes: usize) -> Result<Net> {
    if let Some(build) = variant.net {
        return build(input, classes);
    }
    let model = config(plan, variant, 0, input)?.model;
    let name = model.name.as_deref().unwrap_or_default();
    crate::zoo::by_name(name, &model.options(Some(input), Some(classes)))
}

/// What the folder's study has measured, or nothing where it can be begun there.
fn earlier(folder: &Path) -> Result<Option<Record>> {
    let path = folder.join(RECORD);
    if path.is_file() {
        return Record::read(&path).map(Some);
    }
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) if error.kind() == ErrorKind::NotADirectory => {
            return Err(Error::file(folder, "expected a new folder for a study, found a file of that name"));
        }
        entries => entries.map_err(Error::io("reading", folder))?,
    };
    // A kill before the first `study.toml` leaves these.
    let is_remainder = |name: &std::ffi::OsStr| name == REMAINDER || name == NETS;
    match entries.filter_map(|entry| entry.ok()).any(|entry| !is_remainder(&entry.file_name())) {
        true => Err(Error::file(
            folder,
            "expected a new or empty folder, or one in which a study was begun; this one holds other files",
        )),
        false => Ok(None),
    }
}

/// Whether the study in a folder was begun like this.
fn check_same(folder: &Path, earlier: &Record, now: &Record) -> Result<()> {
    let differs = |what: &str, before: String, now: String| {
        let problem =
            format!("the study in this folder was begun with {what} {before}, not {now}: choose another folder");
        Err(Error::file(folder, problem))
    };
    let size = |record: &Record| {
        let ([train, held_out], [c, h, w]) = (record.pictures, record.input);
        format!("{train} and {held_out} pictures of {c}×{h}×{w} in {} classes", record.classes)
    };
    let names = |record: &Record| record.variants.iter().map(|v| v.name.clone()).collect::<Vec<_>>().join(", ");
    if earlier.study != now.study {
        return differs("the name", format!("'{}'", earlier.study), format!("'{}'", now.study));
    }
    if earlier.data != now.data {
        return differs("the data", format!("'{}'", earlier.data), format!("'{}'", now.data));
    }
    if earlier.budget != now.budget || earlier.epochs != now.epochs {
        let budget = |record: &Record| format!("'{}' of {} epochs", record.budget, record.epochs);
        return differs("the budget", budget(earlier), budget(now));
    }
    if size(earlier) != size(now) {
        return differs("", size(earlier), size(now));
    }
    match names(earlier) == names(now) {
        true => Ok(()),
        false => differs("the variants", names(earlier), names(now)),
    }
}

/// The pictures of seed 0, and what those that are held out are called.
fn splits(plan: &Plan, source: &Source) -> Result<(Splits, &'static str)> {
    let sizing = Sizing { otherwise: Some(TargetSize::customary(SMALL)), largest: LARGEST, ..Sizing::default() };
    let all = source.load(sizing)?.hold_out(ValSplit::default());
    let splits = match plan.study.scale(plan.budget).limit {
        0 => all,
        most => all.limited(most, 0),
    };
    let part = if splits.val.is_some() { Part::Val } else { Part::Test };
    Ok((splits, if part == Part::Val { "validation" } else { "test" }))
}

/// The record of a study before its first run.
fn begun(plan: &Plan, splits: &Splits, part: &str, engine: &Engine) -> Result<Record> {
    let (input, classes) = (splits.train.shape(), splits.train.classes().len());
    if plan.seeds == 0 {
        return Err(Error::setting("seeds", "at least 1", 0));
    }
    nets::check_size(input)?;
    let held_out = splits.watched().map_or(0, Dataset::len);
    let variant = |variant: &Variant| -> Result<VariantRecord> {
        let total = net(plan, variant, input, classes)?.table(1).total;
        let (parameters, macs) = (total.params, total.macs);
        Ok(VariantRecord { name: variant.name.into(), parameters, macs, step_ms: None, runs: Vec::new() })
    };
    Ok(Record {
        study: plan.study.name.into(),
        data: plan.data.clone(),
        budget: plan.budget,
        seeds: plan.seeds,
        epochs: plan.study.scale(plan.budget).epochs,
        input,
        classes,
        pictures: [splits.train.len(), held_out],
        part: part.into(),
        machine: machine(engine),
        version: env!("CARGO_PKG_VERSION").into(),
        date: today(),
        variants: plan.study.variants.iter().map(variant).collect::<Result<_>>()?,
    })
}

/// Processor, threads and instruction set.
fn machine(engine: &Engine) -> String {
    let threads = engine.threads();
    let word = if threads == 1 { "thread" } else { "threads" };
    format!("{}, {threads} {word}, {}", roofline::processor(), engine.isa())
}

/// Two digits after the point, as they are written down.
fn hundredths(number: f64) -> f64 {
    (100.0 * number).round() / 100.0
}

/// The day by UTC, as `2026-11-29`.
fn today() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    date(seconds / 86_400)
}

/// The date so many days after 1970-01-01 (Hinnant, "chrono-compatible low-level date algorithms", `civil_from_days`).
fn date(days: u64) -> String {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + 400 * era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::date;

    #[test]
    fn days_have_dates() {
        let dates = [0, 58, 59, 11_016, 11_017, 20_786].map(date);
        assert_eq!(dates, ["1970-01-01", "1970-02-28", "1970-03-01", "2000-02-29", "2000-03-01", "2026-11-29"]);
    }
}
