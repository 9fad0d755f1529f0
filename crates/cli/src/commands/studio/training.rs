//! A training in a process of its own, which lasts no longer than the page that shows it.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use convnet::data::Source;
use convnet::train::RunFolder;

use crate::interrupt::{self, Interrupted};

/// Time between two looks at whether the run has begun.
const LOOK: Duration = Duration::from_millis(50);

/// The process, and the folder of its run.
pub(super) struct Training {
    process: Child,
    pub(super) run: PathBuf,
    pub(super) data: String,
}

impl Training {
    /// Begins to train, and waits until the run's folder is there. From then on a signal does no more than to be told, so that the
    /// training is not left alone.
    ///
    /// # Errors
    /// When there are no such data, or no training can be begun with them; then the process has said why. [`Interrupted`] after a
    /// signal.
    pub(super) fn begin(data: &Path) -> anyhow::Result<Training> {
        let data = data.to_str().context("expected data whose path is UTF-8")?.to_owned();
        let source = Source::parse(&data)?;
        let path = source.path().unwrap_or(data.as_ref());
        let run = RunFolder::next_path(&path.file_stem().map_or("run".into(), |name| name.to_string_lossy()))?;
        let mut train = Command::new(env::current_exe().context("finding this program")?);
        train.args(["train", "--quiet", "--data", &data, "--out"]).arg(&run);
        // It shares the terminal's Ctrl-C, and has nothing to say but what goes wrong.
        train.stdin(Stdio::null()).stdout(Stdio::null());
        interrupt::tell();
        let process = train.spawn().context("starting the training")?;
        let mut training = Training { process, run, data };
        loop {
            if RunFolder::open(&training.run).is_ok() {
                return Ok(training);
            }
            if training.process.try_wait().context("waiting for the training")?.is_some() {
                anyhow::bail!("{}: no training could be begun: see above", training.data);
            }
            if interrupt::requested() {
                return Err(Interrupted.into());
            }
            thread::sleep(LOOK);
        }
    }
}

impl Drop for Training {
    /// Tells the process to leave, which writes a checkpoint, and waits until it has.
    fn drop(&mut self) {
        if let Ok(None) = self.process.try_wait() {
            let told = Command::new("kill").arg(self.process.id().to_string()).status();
            if !told.is_ok_and(|status| status.success()) {
                // No such program: the last checkpoint is left.
                let _ = self.process.kill();
            }
            let _ = self.process.wait();
        }
    }
}
