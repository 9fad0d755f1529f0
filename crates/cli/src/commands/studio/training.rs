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
    /// Begins to train, and waits until the run's folder is there. From now on the first signal only sets
    /// [`interrupt::requested`].
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
        train.args(["train", "--quiet", "--until-eof", "--data", &data, "--out"]).arg(&run);
        // It has nothing to say but what goes wrong.
        train.stdin(Stdio::piped()).stdout(Stdio::null());
        // Signals of the terminal are for this process, whose end the training sees.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut train, 0);
        interrupt::tell();
        let process = train.spawn().context("starting the training")?;
        let mut training = Training { process, run, data };
        loop {
            if RunFolder::open(&training.run).is_ok() {
                return Ok(training);
            }
            let ended = training.process.try_wait().context("waiting for the training")?.is_some();
            if interrupt::requested() {
                return Err(Interrupted.into());
            }
            if ended {
                anyhow::bail!("{}: no training could be begun: see above", training.data);
            }
            thread::sleep(LOOK);
        }
    }
}

impl Drop for Training {
    /// Tells the process to leave, by the end of its stdin, and waits until it has written its checkpoint.
    fn drop(&mut self) {
        // To wait closes stdin first.
        let _ = self.process.wait();
    }
}
