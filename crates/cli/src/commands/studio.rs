//! `convnet studio`: the page of a run, while it trains and after.

use std::io::{IsTerminal, stdout};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use convnet::classifier::Classifier;
use convnet::train::RunFolder;
use convnet_serve::Source;

use super::serve::ServerArgs;
use crate::args::EngineArgs;
use crate::console::Console;

/// Open the page of a run: its curves while it trains, its report, and its network to try and to look into
///
/// The page is served to this machine alone until Ctrl-C, as `convnet serve` does it. Once the run has weights its network can be tried:
/// pictures, explanations, the maps of every layer and the arithmetic of every number in them. Several runs are compared.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    convnet studio runs/cnn-1\n  \
    convnet studio runs/* --port 9000")]
pub(crate) struct Args {
    /// Folders of runs
    #[arg(value_name = "RUN", required = true)]
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
        let mut server = self.server.server(&self.engine, console)?;
        for path in &self.runs {
            let run = RunFolder::open(path)?;
            server.add_run(path)?;
            match run.best_safetensors().exists() || run.last_safetensors().exists() {
                true => server.add_model(Source::new(run.name(), move || Classifier::of_run(&run)))?,
                false => console.note(&format!(
                    "{}: no weights yet: its network can be tried once an epoch has ended and this is started again",
                    path.display()
                )),
            }
        }
        let opens = !self.no_browser && stdout().is_terminal();
        self.server.run(server, "The page is", console, |url| {
            if opens && !open(&format!("{url}/#run")) {
                console.note("no browser could be opened: open the address in one");
            }
            Ok(())
        })
    }
}

/// Asks the system to open an address; whether it could be asked.
fn open(url: &str) -> bool {
    let program = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let mut command = Command::new(program);
    command.arg(url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().is_ok()
}
