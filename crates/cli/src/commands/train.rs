//! `convnet train`: learns to classify pictures, and leaves a run folder.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::{self, Path, PathBuf};
use std::time::Instant;

use anyhow::Context;
use convnet::columns::{Columns, Style, counted, thousands};
use convnet::data::{Dataset, Part, Source, Splits};
use convnet::distributed::{Processes, Shards};
use convnet::exec::Engine;
use convnet::train::{
    Ending, EngineConfig, EpochMetrics, Observer, Outcome, Prepared, Prologue, RunFolder, Settings, TestResult,
    TrainConfig, Trainer, plots, torn_line,
};
use serde::Serialize;

use crate::args::{source, tell_notes, tell_read, warn_of_emulation};
use crate::console::{Console, print, print_json};
use crate::interrupt::{self, Interrupted};
use crate::processes;
use crate::progress::Narrator;
use crate::settings::SettingArgs;
use crate::usage::{OrUsage, Usage};

/// Train a network to classify pictures
///
/// Without any flags: the lecture's CNN on built-in handwritten-looking digits. With --data DIR: a network for the pictures in
/// its folders, a class in each, a share of which is held out for validation. Everything goes into the folder of the run: the
/// resolved configuration, metrics, curves, predictions, a report as HTML, the best weights, and a checkpoint after each epoch, from which
/// --resume goes on. Ctrl-C writes a checkpoint and stops.
#[derive(clap::Args)]
#[command(
    after_help = "Settings: flags win over environment variables (CONVNET_BATCH_SIZE=64), these over the file of\n\
    --config, this over --recipe. Their keys are those of a run's config.toml.\n\nExamples:\n  \
    convnet train\n  \
    convnet train --data mnist --download\n  \
    convnet train --data photos\n  \
    convnet train --data photos --weights resnet18.pth --model resnet18 --recipe fine-tune\n  \
    convnet train --data cifar-10-batches-bin --model resnet20 --recipe cifar\n  \
    convnet train --data DIR --cdims 16,32 --hdims 128 --epochs 5 --out runs/small\n  \
    convnet train --resume runs/small --epochs 10"
)]
pub(crate) struct Args {
    #[command(flatten)]
    settings: SettingArgs,

    /// Fetch the pictures into the cache folder where they are missing; for mnist [default: stay offline]
    #[arg(long)]
    download: bool,

    /// Recipe to begin with, by its name (see `convnet recipes`) or a TOML file of settings; all other settings go over it
    #[arg(long, value_name = "NAME|FILE", conflicts_with = "resume")]
    recipe: Option<String>,

    /// TOML file with settings, such as a run's config.toml
    #[arg(long, value_name = "FILE", conflicts_with = "resume")]
    config: Option<PathBuf>,

    /// Instead of training, try learning rates from 1e-7 to 10, one a step, and print the losses and the rate at which the loss falls
    /// fastest; find-lr.png in the folder of --out or in this one shows them
    #[arg(long, conflicts_with = "resume")]
    find_lr: bool,

    /// Folder for the run; a new or an empty one [default: runs/NAME-NUMBER]
    #[arg(long, value_name = "DIR", conflicts_with = "resume")]
    out: Option<PathBuf>,

    /// Go on with the run in this folder, with its own settings but for --epochs, --max-steps, --patience, --train-eval, --precise-bn, --threads, --workers, --cache, --conv, --precision and --data
    #[arg(long, value_name = "RUN")]
    resume: Option<PathBuf>,

    /// Print one JSON document and nothing else on stdout [default: what to do next]
    #[arg(long, help_heading = "Output")]
    json: bool,

    /// Stop at the end of stdin as on Ctrl-C: for programs that start a training which is not to outlive them
    #[arg(long, help_heading = "Output")]
    until_eof: bool,
}

/// Every fourth of the rates that are tried is listed.
const LISTED: usize = 4;

/// Stops on Ctrl-C and says nothing.
struct UntilInterrupted;

impl Observer for UntilInterrupted {
    fn stop(&mut self) -> bool {
        interrupt::requested()
    }
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    run: &'a Path,
    epochs: &'a [EpochMetrics],
    weights_sha256: &'a str,
    /// Null where there are no test pictures, or the run was stopped.
    test: Option<TestResult>,
}

impl Args {
    pub(crate) fn run(&self, console: &Console) -> anyhow::Result<()> {
        if self.until_eof {
            interrupt::end_with_stdin().context("starting a thread for stdin")?;
        }
        if self.find_lr {
            return match processes::launch() {
                Some(launch) => Err(Usage::new(format!(
                    "--find-lr tries rates in one process: start it without {}",
                    launch.launcher
                ))
                .into()),
                None => self.find_lr(console),
            };
        }
        let processes = processes::join()?;
        let (trainer, engine) = match &self.resume {
            Some(run) => self.resume(run, console, &processes)?,
            None => self.begin(console, &processes)?,
        };
        let Some((run, config)) = trainer.saved() else {
            interrupt::tell();
            return ended(trainer.fit(&mut UntilInterrupted)?.ending);
        };
        let run = run.clone();
        warn_of_emulation(&engine, console);
        warn_of_little(&trainer, config, console);
        console.note(&introduction(&trainer, &engine, &run, config, &processes));
        let watched = trainer.watched().map(|(part, data)| (part, first_class(data)));
        interrupt::tell();
        let mut narrator = Narrator::new(console, &trainer);
        let outcome = trainer.fit(&mut narrator)?;
        drop(narrator);
        if self.json {
            let Outcome { epochs, weights_sha256, test, .. } = &outcome;
            print_json(&Report { run: run.path(), epochs, weights_sha256, test: *test })?;
        } else {
            print(&conclusion(&outcome, &run, watched.as_ref().map(|(part, _)| *part)))?;
            if !console.is_quiet() {
                print(&next_steps(&outcome, &run, watched.as_ref().map(|(_, class)| class.as_str())))?;
            }
        }
        ended(outcome.ending)
    }

    /// A new run, in a folder of the first process.
    fn begin(&self, console: &Console, processes: &Processes) -> anyhow::Result<(Trainer, Engine)> {
        let (trainer, config, engine) = processes.agree(self.prepare(console, processes))?;
        let trainer = trainer.across(&with_buckets(processes, &config))?;
        let in_folder = |trainer: Trainer| -> anyhow::Result<Trainer> {
            let folder = match &self.out {
                Some(path) => RunFolder::create(path, &config)?,
                None => RunFolder::create_next(&config)?,
            };
            Ok(trainer.in_folder(folder, config)?)
        };
        let trainer = if processes.is_first() { in_folder(trainer) } else { Ok(trainer) };
        Ok((processes.agree(trainer)?, engine))
    }

    /// Tries learning rates.
    fn find_lr(&self, console: &Console) -> anyhow::Result<()> {
        let (trainer, config, engine) = self.prepare(console, &Processes::alone())?;
        warn_of_emulation(&engine, console);
        warn_of_little(&trainer, &config, console);
        interrupt::tell();
        let found = trainer.find_lr(&mut UntilInterrupted)?;
        if interrupt::requested() {
            return Err(Interrupted.into());
        }
        let folder = self.out.as_deref().unwrap_or(".".as_ref());
        fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
        let drawing = folder.join("find-lr.png");
        plots::rates(&drawing, &found)?;
        if self.json {
            return print_json(&found);
        }
        let mut columns = Columns::new(0, &["lr", "loss", "smoothed"]);
        for tried in found.tried.iter().step_by(LISTED) {
            columns.row([format!("{:.1e}", tried.lr), format!("{:.4}", tried.loss), format!("{:.4}", tried.smoothed)]);
        }
        print(&columns.render(Style::Plain))?;
        print(&match found.suggestion {
            Some(lr) => format!("\nThe loss falls fastest at --lr {lr:.1e}; {} shows it\n", drawing.display()),
            None => format!("\nThe loss does not fall at any rate; {} shows it\n", drawing.display()),
        })?;
        Ok(())
    }

    /// Everything but the folder of a run.
    fn prepare(&self, console: &Console, processes: &Processes) -> anyhow::Result<(Trainer, TrainConfig, Engine)> {
        let mut config = self.config(console)?;
        if processes.size() > 1 {
            config.recipe.shards.get_or_insert(processes.size());
            config.recipe.check().or_usage()?;
        }
        let from = self.source(&mut config, console)?;
        for file in [&mut config.model.net, &mut config.model.weights].into_iter().flatten() {
            *file = absolute(file)?;
        }
        let engine = engine(&config, processes)?;
        let start = Instant::now();
        let Prepared { config, splits, classifier, notes } = Prepared::new(config, &from)?;
        tell_splits(&splits, start, console);
        for note in &notes {
            match (note, &config.model.weights) {
                (Prologue::Weights(note), Some(path)) => tell_notes(path, std::slice::from_ref(note), console),
                _ => console.note(&capital(&note.to_string())),
            }
        }
        let trainer = Trainer::with_engine(classifier, splits, config.recipe.clone(), &engine)?;
        let trainer = match config.data.workers {
            Some(workers) => trainer.workers(workers),
            None => trainer,
        };
        Ok((trainer, config, engine))
    }

    /// What recipe, file, environment and flags say.
    fn config(&self, console: &Console) -> anyhow::Result<TrainConfig> {
        let recipe = self.recipe.as_deref().map(Settings::of_recipe).transpose().or_usage()?.unwrap_or_default();
        let file = self.config.as_deref().map(Settings::read).transpose()?.unwrap_or_default();
        let names = env::vars_os().filter_map(|(name, _)| name.into_string().ok());
        Settings::unknown_variables(names).iter().for_each(|told| console.warn(told));
        let environment = Settings::from_env(|name| env::var(name).ok())?;
        let flags = self.settings.layer().or_usage()?;
        let all = TrainConfig::resolve([recipe, file, environment, flags.clone()]);
        // What makes no sense by itself is not the other layers' fault.
        all.or_else(|error| match TrainConfig::resolve([flags]) {
            Err(own) if own.to_string() == error.to_string() => Err(own).or_usage(),
            Ok(_) | Err(_) => Err(error.into()),
        })
    }

    /// An earlier run: the first process takes its folder, then the others read it.
    fn resume(&self, run: &Path, console: &Console, processes: &Processes) -> anyhow::Result<(Trainer, Engine)> {
        let (run, config, splits, engine) = processes.agree(self.open(run, console, processes))?;
        let group = with_buckets(processes, &config);
        if !processes.is_first() {
            processes.agree(Ok::<_, anyhow::Error>(()))?;
            let trainer = processes.agree(Trainer::follow(&run, &config, splits, &engine))?;
            return Ok((trainer.across(&group)?, engine));
        }
        let taken = Trainer::resume(run, config, splits, &engine).map_err(anyhow::Error::from);
        let (trainer, problem) = processes.agree(taken)?;
        if let Some(problem) = problem {
            console.warn(&format!("{problem}. Going on from the checkpoint before it."));
        }
        Ok((processes.agree::<_, convnet::Error>(Ok(trainer))?.across(&group)?, engine))
    }

    /// The folder of an earlier run, its configuration and its pictures.
    fn open(
        &self,
        run: &Path,
        console: &Console,
        processes: &Processes,
    ) -> anyhow::Result<(RunFolder, TrainConfig, Splits, Engine)> {
        let run = RunFolder::open(run)?;
        let before = run.config()?;
        // A limit of steps is that of the call.
        let mut own = before.clone();
        own.recipe.max_steps = None;
        let own = Settings::from_toml(&own.to_toml()?).map_err(anyhow::Error::msg)?;
        let mut config = TrainConfig::resolve([own, self.settings.layer().or_usage()?]).or_usage()?;
        let (epochs, epochs_before) = (config.recipe.epochs, before.recipe.epochs);
        if epochs != epochs_before && config.recipe.schedule.spans_the_run() {
            console.warn(&format!(
                "the learning-rate schedule now spans {epochs} epochs instead of {epochs_before}: the learning rate goes on \
                 at another place of its curve, which may be above where it ended"
            ));
        }
        let from = self.source(&mut config, console)?;
        let engine = engine(&config, processes)?;
        let start = Instant::now();
        if let Some(line) = torn_line(&run.metrics_jsonl())? {
            let path = run.metrics_jsonl();
            console.warn(&format!(
                "{}: line {line} is torn, as a power failure leaves it, and is dropped",
                path.display()
            ));
        }
        let splits = Prepared::splits_of_run(&run, &config, &from)?;
        tell_splits(&splits, start, console);
        Ok((run, config, splits, engine))
    }

    /// The data set that is named. Its path becomes absolute, so that the run can be used from any folder.
    fn source(&self, config: &mut TrainConfig, console: &Console) -> anyhow::Result<Source> {
        let source = source(&config.data.source, self.download, console)?;
        if let Some(path) = source.path() {
            config.data.source = absolute(path)?.to_str().context("expected data whose path is UTF-8")?.to_owned();
        }
        Ok(source)
    }
}

/// The engine of the configuration, with this process's share of the cores where no number of threads is said.
fn engine(config: &TrainConfig, processes: &Processes) -> convnet::Result<Engine> {
    EngineConfig { threads: processes.share_of(config.engine.threads), ..config.engine }.engine()
}

/// The processes with the exchanges of the configuration.
fn with_buckets(processes: &Processes, config: &TrainConfig) -> Processes {
    processes.clone().with_bucket_cap(config.engine.bucket_cap_mb)
}

/// What a command that has trained ends with.
fn ended(ending: Ending) -> anyhow::Result<()> {
    match ending {
        Ending::Stopped => Err(Interrupted.into()),
        Ending::Finished | Ending::MaxSteps | Ending::OutOfPatience => Ok(()),
    }
}

/// Says how many pictures were read, and what was noticed.
fn tell_splits(splits: &Splits, start: Instant, console: &Console) {
    let watched = splits.watched();
    tell_read(console, splits.train.len() + watched.map_or(0, Dataset::len), start);
    for warning in splits.train.warnings().iter().chain(watched.into_iter().flat_map(Dataset::warnings)) {
        console.warn(warning);
    }
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// What the first picture shows.
fn first_class(data: &Dataset) -> String {
    data.classes()[data.labels()[0] as usize].clone()
}

/// Warns of data, batches or layers from which little can be learned.
fn warn_of_little(trainer: &Trainer, config: &TrainConfig, console: &Console) {
    let normalises = trainer.description().net().nodes().iter().any(|node| node.op.has_running_statistics());
    let batch = trainer.recipe().batch_size.min(trainer.train_data().len());
    if normalises && Shards::alone(trainer.recipe().shards()).largest(batch) == 1 {
        console.warn(
            "batches or shards of one picture: batch norm finds no variance where a map has one pixel; a batch size of 2 or more is meant for it",
        );
    }
    if config.model.weights.is_none() && trainer.recipe().freeze.iter().any(|layer| layer == "backbone") {
        console.warn(
            "--freeze backbone without --weights: all layers but the one that gives the classes stay as they are initialised, at random",
        );
    }
}

fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    path::absolute(path).with_context(|| format!("finding {}", path.display()))
}

/// What is about to happen.
fn introduction(
    trainer: &Trainer,
    engine: &Engine,
    run: &RunFolder,
    config: &TrainConfig,
    processes: &Processes,
) -> String {
    let (net, progress) = (trainer.description().net(), trainer.progress());
    let watched = match trainer.watched() {
        Some((Part::Val, data)) => format!("{} for validation", thousands(data.len() as u64)),
        Some((_, data)) => format!(
            "no validation pictures; after each epoch it is measured on {}, by which nothing is chosen",
            counted(data.len(), "test picture")
        ),
        None => "none held out".into(),
    };
    let (size, shards) = (processes.size(), trainer.recipe().shards());
    let together = match (size, shards) {
        (1, 1) => String::new(),
        (1, _) => format!("Batches in {shards} shards, "),
        _ => format!("{size} processes, batches in {shards} shards, each process with "),
    };
    let mut text = format!(
        "Training {} ({} parameters) on {}: {}, {watched}. {together}{}, {}. Run folder {}",
        net.name(),
        thousands(net.parameter_count()),
        config.data.source,
        counted(trainer.train_data().len(), "picture"),
        counted(engine.threads(), "thread"),
        engine.isa(),
        run.path().display(),
    );
    if progress.epoch >= trainer.recipe().epochs {
        let (done, next) = (counted(progress.epoch, "epoch"), progress.epoch + 1);
        let _ = write!(text, "\nAlready done: {done}; more with --epochs N, from {next} on");
    } else if progress.step > 0 {
        let _ = write!(text, "\nGoing on after step {}, in epoch {}", thousands(progress.step), progress.epoch + 1);
    }
    text
}

/// What training came to, in a line or two.
fn conclusion(outcome: &Outcome, run: &RunFolder, watched: Option<Part>) -> String {
    let mut text = format!("{}: ", run.path().display());
    let kept = outcome.epochs.iter().find(|epoch| epoch.epoch == outcome.progress.best_epoch);
    let (percent, epoch) = match kept {
        None => {
            let _ = writeln!(text, "stopped after step {}, before the first epoch ended", outcome.progress.step);
            return text;
        }
        Some(epoch) => (100.0 * epoch.val_accuracy.unwrap_or(epoch.accuracy_in_training()), epoch.epoch),
    };
    let _ = match watched {
        Some(Part::Val) => {
            let last = outcome.progress.epoch;
            let early = match outcome.ending {
                Ending::OutOfPatience => format!("; stopped after epoch {last}, as none since was better"),
                Ending::Finished | Ending::MaxSteps | Ending::Stopped => String::new(),
            };
            writeln!(text, "{percent:.2} % of the validation pictures recognised, best after epoch {epoch}{early}")
        }
        Some(_) => writeln!(text, "{percent:.2} % of the test pictures recognised after epoch {epoch}"),
        None => writeln!(text, "{percent:.2} % of the training pictures recognised in epoch {epoch}"),
    };
    text.truncate(text.trim_end().len());
    if let (Some(test), Some(Part::Val)) = (outcome.test, watched) {
        let (percent, images) = (100.0 * test.accuracy, counted(test.images, "test picture"));
        let _ = write!(text, "; with these weights, {percent:.2} % of {images}, measured once");
    }
    let _ = writeln!(
        text,
        "; {:.1} % of the time of its steps went by waiting for pictures",
        100.0 * data_wait(&outcome.epochs)
    );
    text
}

/// Share of the time of all epochs in which pictures were waited for.
fn data_wait(epochs: &[EpochMetrics]) -> f64 {
    let seconds: f64 = epochs.iter().map(|epoch| epoch.seconds).sum();
    let waited: f64 = epochs.iter().map(|epoch| epoch.data_wait * epoch.seconds).sum();
    if seconds > 0.0 { waited / seconds } else { 0.0 }
}

/// Commands that work, and what there is to look at.
fn next_steps(outcome: &Outcome, run: &RunFolder, sample: Option<&str>) -> String {
    let (program, folder) = (program(), shell(&run.path().display().to_string()));
    let mut text = String::new();
    let mut line = |what: &str, how: &str| {
        let _ = writeln!(text, "  {what:<25} {how}");
    };
    let pictures = [
        ("all of it on a page:", run.report_html()),
        ("loss and accuracy:", run.curves_png()),
        ("what it recognises:", run.predictions_png()),
    ];
    for (what, path) in pictures.iter().filter(|(_, path)| path.is_file()) {
        line(what, &path.display().to_string());
    }
    let sample = sample.filter(|_| run.best_safetensors().is_file());
    if sample.is_some() {
        line("per class, in detail:", &format!("{program} eval --run {folder} --per-class"));
    }
    if let (Some(sample), true) = (sample, run.sample_png().is_file()) {
        let picture = shell(&run.sample_png().display().to_string());
        line(&format!("one of them (a \"{sample}\"):"), &format!("{program} predict --run {folder} {picture}"));
    }
    match outcome.ending {
        Ending::Finished | Ending::OutOfPatience => {}
        Ending::MaxSteps | Ending::Stopped => line("go on training:", &format!("{program} train --resume {folder}")),
    }
    text
}

/// How this program was called, so that it can be called again.
fn program() -> String {
    let path = env::args().next().filter(|name| name.contains(std::path::MAIN_SEPARATOR));
    shell(&path.unwrap_or_else(|| "convnet".into()))
}

/// A word as a shell takes it.
fn shell(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./\\:=+,@%".contains(c);
    if word.chars().all(plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use convnet::zoo::Cnn;

    use super::*;

    #[test]
    fn the_defaults_in_the_help_are_those_of_the_library() {
        let mut command = crate::Cli::command();
        let train = command.find_subcommand_mut("train").unwrap();
        let cnn = Cnn::default();
        let list = |dims: &[usize]| dims.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
        for (id, default) in [
            ("data", "digits".into()),
            ("cdims", list(&cnn.cdims)),
            ("hdims", list(&cnn.hdims)),
            ("ksize", cnn.ksize.to_string()),
            ("dropout", format!("the network's own; cnn: {}", cnn.dropout)),
            ("epochs", "10".into()),
            ("batch_size", "256".into()),
            ("lr", "0.001".into()),
            ("threads", "0".into()),
        ] {
            let argument = train.get_arguments().find(|argument| argument.get_id() == id).unwrap();
            let help = argument.get_help().unwrap().to_string();
            assert!(help.ends_with(&format!("[default: {default}]")), "{id}: {help}");
        }
    }

    #[test]
    fn words_survive_a_shell() {
        assert_eq!(shell("runs/cnn-1"), "runs/cnn-1");
        assert_eq!(shell("my runs/it's"), "'my runs/it'\\''s'");
    }
}
