//! `convnet train`: learns to classify pictures, and leaves a run folder.

use std::env;
use std::fmt::Write as _;
use std::path::{self, Path, PathBuf};

use anyhow::Context;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::value_parser;
use convnet::columns::thousands;
use convnet::data::Source;
use convnet::exec::Engine;
use convnet::ops::Op;
use convnet::train::{
    Ending, EpochMetrics, Optimizer, Outcome, RunFolder, Schedule, TrainConfig, TrainOverrides, Trainer,
};
use serde::Serialize;

use crate::args::{DataArgs, Dims, EngineArgs, InputSize, NetworkArgs, at_least_1, warn_of_emulation};
use crate::console::{Console, print, print_json};
use crate::interrupt::{self, Interrupted};
use crate::progress::Narrator;
use crate::usage::OrUsage;

/// Train a network to classify pictures
///
/// Without any flags: the lecture's CNN on built-in handwritten-looking digits. Everything goes into the folder of the
/// run: the resolved configuration, metrics, curves, predictions, the best weights, and a checkpoint after each epoch,
/// from which --resume goes on. Ctrl-C writes a checkpoint and stops.
#[derive(clap::Args)]
#[command(
    after_help = "Settings: flags win over environment variables (CONVNET_BATCH_SIZE=64), these over the file of\n\
    --config. Its keys are those of a run's config.toml.\n\nExamples:\n  \
    convnet train\n  \
    convnet train --data mnist --download\n  \
    convnet train --data DIR --cdims 16,32 --hdims 128 --epochs 5 --out runs/small\n  \
    convnet train --resume runs/small --epochs 10"
)]
pub(crate) struct Args {
    #[command(flatten)]
    data: DataArgs,

    /// Size that pictures from files are brought to, such as 3x224x224 or 224x224 [default: their own; with --net what it
    /// takes]
    #[arg(long, value_name = "CxHxW")]
    input: Option<InputSize>,

    /// Passes over the training pictures [default: 10]
    #[arg(long, value_name = "N", value_parser = at_least_1)]
    epochs: Option<usize>,

    /// Stop after so many steps, counted from the run's beginning [default: no limit]
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..=i64::MAX as u64))]
    max_steps: Option<u64>,

    /// Pictures per step [default: 256]
    #[arg(short, long, value_name = "N", value_parser = at_least_1)]
    batch_size: Option<usize>,

    /// Decides first weights, order of the pictures and dropout [default: 0]
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(..=i64::MAX as u64))]
    seed: Option<u64>,

    #[command(flatten)]
    engine: EngineArgs,

    /// TOML file with settings, such as a run's config.toml
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Folder for the run; a new or an empty one [default: runs/NAME-NUMBER]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// Go on with the run in this folder, with its own settings but for --epochs, --max-steps, --threads, --conv, --precision and --data
    #[arg(long, value_name = "RUN", conflicts_with_all = [
        "config", "out", "input", "batch_size", "seed", "optimizer", "lr", "schedule", "momentum", "nesterov", "weight_decay",
        "model", "net", "cdims", "hdims", "ksize", "no_batch_norm", "dropout", "shortcut",
    ])]
    resume: Option<PathBuf>,

    /// Print one JSON document and nothing else on stdout [default: what to do next]
    #[arg(long, help_heading = "Output")]
    json: bool,

    #[command(flatten)]
    optimizer: OptimizerArgs,

    #[command(flatten)]
    network: NetworkArgs,
}

/// Pictures whose size is given without channels are in colour.
const COLOUR: [usize; 3] = [3, 1, 1];

#[derive(clap::Args)]
#[command(next_help_heading = "Optimizer")]
struct OptimizerArgs {
    /// How weights are moved [default: adam]
    #[arg(
        long = "opt", visible_alias = "optimizer", value_name = "NAME",
        value_parser = PossibleValuesParser::new(OPTIMIZERS.map(|(name, _)| name)).map(|name| named(&OPTIMIZERS, &name)),
    )]
    optimizer: Option<Optimizer>,

    /// Learning rate [default: 0.001]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    lr: Option<f64>,

    /// How the learning rate moves over the epochs [default: constant]
    #[arg(
        long, value_name = "NAME",
        value_parser = PossibleValuesParser::new(Schedule::NAMED.map(|(name, _)| name))
            .map(|name| named(&Schedule::NAMED, &name)),
    )]
    schedule: Option<Schedule>,

    /// sgd: share of the last step that is added to the next [default: 0.9]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    momentum: Option<f64>,

    /// sgd: use Nesterov's form of momentum [default: the plain one]
    #[arg(long)]
    nesterov: bool,

    /// Share of each weight taken off, times the learning rate [default: 0; adamw: 0.01]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    weight_decay: Option<f64>,
}

const OPTIMIZERS: [(&str, Optimizer); 3] =
    [("adam", Optimizer::Adam), ("adamw", Optimizer::AdamW), ("sgd", Optimizer::Sgd)];

/// The value of that name, which must be one of them.
fn named<T: Copy + Default>(values: &[(&str, T)], name: &str) -> T {
    values.iter().find(|(known, _)| *known == name).map_or(T::default(), |&(_, value)| value)
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    run: &'a Path,
    epochs: &'a [EpochMetrics],
    weights_sha256: &'a str,
}

impl Args {
    pub(crate) fn run(&self, console: &Console) -> anyhow::Result<()> {
        let (trainer, engine) = match &self.resume {
            Some(run) => self.resume(run, console)?,
            None => self.begin(console)?,
        };
        warn_of_emulation(&engine, console);
        warn_of_little(&trainer, console);
        console.note(&introduction(&trainer, &engine));
        let (run, test) = (trainer.run().clone(), trainer.test_data());
        let sample = test.classes()[test.labels()[0] as usize].clone();
        interrupt::tell();
        let mut narrator = Narrator::new(console, &trainer);
        let outcome = trainer.fit(&mut narrator)?;
        drop(narrator);
        if self.json {
            let Outcome { epochs, weights_sha256, .. } = &outcome;
            print_json(&Report { run: run.path(), epochs, weights_sha256 })?;
        } else {
            print(&conclusion(&outcome, &run))?;
            if !console.is_quiet() {
                print(&next_steps(&outcome, &run, &sample))?;
            }
        }
        match outcome.ending {
            Ending::Stopped => Err(Interrupted.into()),
            Ending::Finished | Ending::MaxSteps => Ok(()),
        }
    }

    fn begin(&self, console: &Console) -> anyhow::Result<(Trainer, Engine)> {
        let file = self.config.as_deref().map(TrainOverrides::read).transpose()?.unwrap_or_default();
        let environment = TrainOverrides::from_env(|name| env::var(name).ok())?;
        let flags = self.overrides().or_usage()?;
        // What makes no sense by itself is not the other layers' fault.
        TrainConfig::resolve([flags.clone()]).or_usage()?;
        let mut config = TrainConfig::resolve([file, environment, flags])?;
        // So that the run can be used from any folder.
        if let Some(path) = Source::parse(&config.data)?.path() {
            config.data = absolute(path)?.to_str().context("expected data whose path is UTF-8")?.to_owned();
        }
        config.net = config.net.as_deref().map(absolute).transpose()?;
        let engine = Engine::new(config.threads)?.with_conv(config.conv).with_precision(config.precision);
        let splits = self.data.load(&config.data, config.target()?, console)?;
        Ok((Trainer::begin(config, splits, &engine, self.out.as_deref())?, engine))
    }

    fn resume(&self, run: &Path, console: &Console) -> anyhow::Result<(Trainer, Engine)> {
        let run = RunFolder::open(run)?;
        let mut config = run.config()?;
        config.max_steps = self.max_steps;
        let before = config.epochs;
        config.epochs = self.epochs.unwrap_or(config.epochs);
        if config.epochs != before && config.schedule != Schedule::Constant {
            console.warn(&format!(
                "the learning-rate schedule now spans {} epochs instead of {before}: the learning rate goes on at another \
                 place of its curve, which may be above where it ended",
                config.epochs
            ));
        }
        config.threads = self.engine.threads.threads.unwrap_or(config.threads);
        config.conv = self.engine.conv.unwrap_or(config.conv);
        config.precision = self.engine.precision.unwrap_or(config.precision);
        let engine = Engine::new(config.threads)?.with_conv(config.conv).with_precision(config.precision);
        if self.epochs.is_some_and(|epochs| epochs != run.config().map_or(epochs, |config| config.epochs)) {
            note_new_schedule(&config, console);
        }
        let splits = self.data.load(&config.data, config.target()?, console)?;
        let (trainer, problem) = Trainer::resume(run, config, splits, &engine)?;
        if let Some(problem) = problem {
            console.warn(&format!("{problem}. Going on from the checkpoint before it."));
        }
        Ok((trainer, engine))
    }

    fn overrides(&self) -> convnet::Result<TrainOverrides> {
        let list = |dims: &Option<Dims>| dims.clone().map(|Dims(dims)| dims);
        let NetworkArgs { model, net, cdims, hdims, ksize, no_batch_norm, dropout, shortcut } = &self.network;
        let OptimizerArgs { optimizer, lr, schedule, momentum, nesterov, weight_decay } = &self.optimizer;
        Ok(TrainOverrides {
            data: self.data.name().map(str::to_owned),
            input: self.input.as_ref().map(|size| size.picture(COLOUR)).transpose()?,
            model: model.clone(),
            net: net.clone(),
            cdims: list(cdims),
            hdims: list(hdims),
            ksize: *ksize,
            batch_norm: no_batch_norm.then_some(false),
            dropout: *dropout,
            shortcut: *shortcut,
            epochs: self.epochs,
            max_steps: self.max_steps,
            batch_size: self.batch_size,
            optimizer: *optimizer,
            lr: *lr,
            schedule: *schedule,
            momentum: *momentum,
            nesterov: nesterov.then_some(true),
            weight_decay: *weight_decay,
            betas: None,
            eps: None,
            seed: self.seed,
            threads: self.engine.threads.threads,
            conv: self.engine.conv,
            precision: self.engine.precision,
        })
    }
}

/// Says that a learning rate which depends on the number of epochs is another with another number.
fn note_new_schedule(config: &TrainConfig, console: &Console) {
    if config.schedule != Schedule::Constant {
        let epochs = config.epochs;
        console.note(&format!(
            "The learning rate follows its schedule over all {epochs} epochs now: it does not go on where it was"
        ));
    }
}

/// Warns of data or batches from which little can be learned.
fn warn_of_little(trainer: &Trainer, console: &Console) {
    if let [only] = trainer.train_data().classes() {
        console.warn(&format!("the data have only one class ('{only}'): there is nothing to tell apart"));
    }
    let normalises = trainer.description().net().nodes().iter().any(|node| matches!(node.op, Op::BatchNorm2d(_)));
    if normalises && trainer.config().batch_size.min(trainer.train_data().len()) == 1 {
        console.warn(
            "batches of one picture: batch norm finds no variance where a map has one pixel; a batch size of 2 or more is meant for it",
        );
    }
}

fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    path::absolute(path).with_context(|| format!("finding {}", path.display()))
}

/// What is about to happen.
fn introduction(trainer: &Trainer, engine: &Engine) -> String {
    let (net, progress) = (trainer.description().net(), trainer.progress());
    let count = |images: usize| thousands(images as u64);
    let mut text = format!(
        "Training {} ({} parameters) on {}: {} pictures, {} held out. {} threads, {}. Run folder {}",
        net.name(),
        thousands(net.parameter_count()),
        trainer.config().data,
        count(trainer.train_data().len()),
        count(trainer.test_data().len()),
        engine.threads(),
        engine.isa(),
        trainer.run().path().display(),
    );
    let epochs = trainer.config().epochs;
    if progress.epoch >= epochs {
        let _ = write!(text, "\nAll {epochs} epochs are done; more with --epochs N");
    } else if progress.step > 0 {
        let _ = write!(text, "\nGoing on after step {}, in epoch {}", thousands(progress.step), progress.epoch + 1);
    }
    text
}

/// What training came to, in a line or two.
fn conclusion(outcome: &Outcome, run: &RunFolder) -> String {
    let mut text = format!("{}: ", run.path().display());
    match outcome.epochs.iter().find(|epoch| epoch.epoch == outcome.progress.best_epoch) {
        Some(EpochMetrics { epoch, val_accuracy, .. }) => {
            let percent = 100.0 * val_accuracy;
            let _ = writeln!(text, "{percent:.2} % of the held-out pictures recognised, best after epoch {epoch}");
        }
        None => {
            let _ = writeln!(text, "stopped after step {}, before the first epoch ended", outcome.progress.step);
        }
    }
    text
}

/// Commands that work, and what there is to look at.
fn next_steps(outcome: &Outcome, run: &RunFolder, sample: &str) -> String {
    let (program, folder) = (program(), shell(&run.path().display().to_string()));
    let mut text = String::new();
    let mut line = |what: &str, how: &str| {
        let _ = writeln!(text, "  {what:<25} {how}");
    };
    let pictures = [("loss and accuracy:", run.curves_png()), ("what it recognises:", run.predictions_png())];
    for (what, path) in pictures.iter().filter(|(_, path)| path.is_file()) {
        line(what, &path.display().to_string());
    }
    line("all held-out pictures:", &format!("{program} eval --run {folder}"));
    if run.sample_png().is_file() {
        let picture = shell(&run.sample_png().display().to_string());
        line(&format!("one of them (a \"{sample}\"):"), &format!("{program} predict --run {folder} {picture}"));
    }
    match outcome.ending {
        Ending::Finished => {}
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
        let (config, cnn) = (TrainConfig::default(), Cnn::default());
        let list = |dims: &[usize]| dims.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
        for (id, default) in [
            ("data", format!("the run's own; without a run: {}", config.data)),
            ("model", config.model.clone()),
            ("cdims", list(&cnn.cdims)),
            ("hdims", list(&cnn.hdims)),
            ("ksize", cnn.ksize.to_string()),
            ("dropout", format!("the network's own; cnn: {}", cnn.dropout)),
            ("epochs", config.epochs.to_string()),
            ("batch_size", config.batch_size.to_string()),
            ("lr", config.lr.to_string()),
            ("momentum", config.momentum.to_string()),
            ("weight_decay", format!("{}; adamw: 0.01", config.weight_decay)),
            ("seed", config.seed.to_string()),
            ("threads", config.threads.to_string()),
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
