//! `convnet studio`: the page of a run, while it trains and after; of data, a run that it begins.

mod training;

use std::collections::{BTreeMap, hash_map::DefaultHasher};
use std::fs;
use std::hash::{Hash, Hasher};
use std::io::{IsTerminal, stdout};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use convnet::classifier::Classifier;
use convnet::train::RunFolder;
use convnet_serve::Source;

use self::training::Training;
use super::serve::ServerArgs;
use crate::args::EngineArgs;
use crate::console::Console;
use crate::usage::Usage;

/// Open the page of a run: its curves while it trains, its report, and its network to try and to look into
///
/// Of data, which are named as for `convnet train`, a training with everything by default is begun beside the page; it ends when the page
/// does, with a checkpoint.
///
/// The page is served to this machine alone until Ctrl-C, as `convnet serve` does it. Once the run has weights its network can be tried:
/// pictures, explanations, the maps of every layer and the arithmetic of every number in them; while it trains, the network is loaded
/// again as it gets better. Several runs are compared.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    convnet studio runs/cnn-1\n  \
    convnet studio photos/\n  \
    convnet studio runs/* --port 9000")]
pub(crate) struct Args {
    /// Folders of runs; or data to begin a run with
    #[arg(value_name = "RUN|DATA", required = true)]
    runs: Vec<PathBuf>,

    /// Do not open a browser
    #[arg(long)]
    no_browser: bool,

    #[command(flatten)]
    engine: EngineArgs,

    #[command(flatten)]
    server: ServerArgs,
}

impl Args {
    pub(crate) fn run(&self, console: &Console) -> anyhow::Result<()> {
        let listener = self.server.listen()?;
        let mut server = self.server.server(&self.engine, console)?;
        let training = self.training()?;
        let begun = training.as_ref().map(|training| vec![training.run.clone()]);
        if let Some(Training { run, data, .. }) = &training {
            let text = format!("Training on {data} into {}: convnet train has more settings", run.display());
            self.server.note(&text, console);
        }
        let runs = begun.as_ref().unwrap_or(&self.runs);
        for (path, name) in runs.iter().zip(names(runs)) {
            let run = RunFolder::open(path)?;
            server.add_run(&name, path)?;
            if Classifier::weights_of_run(&run).is_none() {
                let text =
                    format!("{}: no weights yet: its network can be tried once an epoch has ended", path.display());
                self.server.note(&text, console);
            }
            let watched = run.clone();
            let source = Source::new(name, move || Classifier::of_run(&run));
            server.add_model(source.following(move || stamp(&watched)))?;
        }
        let opens = !self.no_browser && stdout().is_terminal();
        self.server.run(server, listener, "The page is", console, |url| {
            if opens && !open(&format!("{url}/#run")) {
                self.server.note("no browser could be opened: open the address in one", console);
            }
            Ok(())
        })
    }
}

impl Args {
    /// Begins a training where data are named.
    fn training(&self) -> anyhow::Result<Option<Training>> {
        let is_run = |path: &&PathBuf| RunFolder::open(path).is_ok();
        match (&self.runs[..], self.runs.iter().find(|path| !is_run(path))) {
            (_, None) => Ok(None),
            ([data], _) => Training::begin(data).map(Some),
            (_, Some(path)) => {
                let problem =
                    format!("{}: no folder of a run: expected runs, or data alone to begin one", path.display());
                Err(Usage::new(problem).into())
            }
        }
    }
}

/// What the runs are called: their folders, with the folder above where two have the same name.
fn names(runs: &[PathBuf]) -> Vec<String> {
    let last = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    let named = |path: &PathBuf| {
        let whole = path.canonicalize().unwrap_or_else(|_| path.clone());
        let own = last(&whole).unwrap_or_else(|| whole.display().to_string());
        let above = whole.parent().and_then(last);
        (own, above)
    };
    let named: Vec<(String, Option<String>)> = runs.iter().map(named).collect();
    let mut counts = BTreeMap::new();
    named.iter().for_each(|(own, _)| *counts.entry(own.as_str()).or_insert(0) += 1);
    let name = |(own, above): &(String, Option<String>)| match above {
        // A name has no `/`, which parts the segments of addresses.
        Some(above) if counts[own.as_str()] > 1 => format!("{above}-{own}"),
        Some(_) | None => own.clone(),
    };
    named.iter().map(name).collect()
}

/// A number that changes with the weights of a run.
fn stamp(run: &RunFolder) -> Option<u64> {
    let path = Classifier::weights_of_run(run)?;
    let file = fs::metadata(&path).ok()?;
    let mut hasher = DefaultHasher::new();
    (path, file.len(), file.modified().ok()?).hash(&mut hasher);
    Some(hasher.finish())
}

/// Asks the system to open an address; whether it could be asked.
fn open(url: &str) -> bool {
    let program = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let mut command = Command::new(program);
    command.arg(url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_one_name_are_told_apart_by_the_folder_above() {
        let folder = tempfile::tempdir().unwrap();
        let paths = ["a/cnn-1", "b/cnn-1", "b/cnn-2"].map(|path| folder.path().join(path));
        paths.iter().for_each(|path| fs::create_dir_all(path).unwrap());
        assert_eq!(names(&paths), ["a-cnn-1", "b-cnn-1", "cnn-2"]);
    }
}
