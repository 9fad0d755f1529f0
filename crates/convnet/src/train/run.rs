//! The folder of a run: `config.toml`, `metrics.jsonl`, `summary.csv`, `test.json`, `report.html`, `curves.png`,
//! `predictions.png`, `sample.png`, `best.safetensors` and `last.safetensors`.

use std::ffi::OsStr;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::saved::{HELD_OUT_KEY, IMAGES_KEY};
use super::{TrainConfig, lock};
use crate::data::LeftOut;
use crate::files::{disk, write_atomic};
use crate::weights::safetensors::read_metadata;
use crate::{Error, Result};

/// Where runs go that are given no folder.
const RUNS: &str = "runs";

/// Whether a run may have left this where it was killed before there was a `config.toml`.
fn is_remainder(name: &OsStr) -> bool {
    [lock::FILE, ".config.toml.tmp"].iter().any(|own| name == *own)
}

/// A run's folder and the names in it.
#[derive(Clone, Debug, PartialEq)]
pub struct RunFolder {
    path: PathBuf,
}

impl RunFolder {
    /// Makes the folder, parents included, and writes `config.toml`. An empty folder may be there already, or what is left of a run
    /// that was killed as it was made.
    ///
    /// # Errors
    /// [`Error::File`] when there is a file, or a folder that is not empty; [`Error::Io`] when it cannot be made.
    pub fn create(path: &Path, config: &TrainConfig) -> Result<RunFolder> {
        disk::create_dir_all(path).map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => Error::file(path, "expected a new folder, found a file of that name"),
            _ => Error::io("creating", path)(error),
        })?;
        let entries = fs::read_dir(path).map_err(Error::io("reading", path))?;
        if entries.filter_map(|entry| entry.ok()).any(|entry| !is_remainder(&entry.file_name())) {
            let problem =
                "expected a new or empty folder, this one holds files; choose another, or resume the run in it";
            return Err(Error::file(path, problem));
        }
        RunFolder::begin(path.into(), config)
    }

    /// Makes `runs/<name>-<n>`, below the working folder, with the next free number.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be made.
    pub fn create_next(config: &TrainConfig) -> Result<RunFolder> {
        RunFolder::create_numbered(Path::new(RUNS), &config.net_name(), config)
    }

    /// The path of the next run of a name, `runs/<name>-<number>`; nothing is created.
    ///
    /// # Errors
    /// [`Error::Io`] when the folder of runs cannot be read.
    pub fn next_path(name: &str) -> Result<PathBuf> {
        let runs = Path::new(RUNS);
        let number = if runs.exists() { next_number(runs, name)? } else { 1 };
        Ok(runs.join(format!("{name}-{number}")))
    }

    fn create_numbered(runs: &Path, name: &str, config: &TrainConfig) -> Result<RunFolder> {
        disk::create_dir_all(runs).map_err(Error::io("creating", runs))?;
        let mut number = next_number(runs, name)?;
        loop {
            let path = runs.join(format!("{name}-{number}"));
            match disk::create_dir(&path) {
                Ok(()) => return RunFolder::begin(path, config),
                // Another run was faster.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => number += 1,
                Err(error) => return Err(Error::io("creating", path)(error)),
            }
        }
    }

    fn begin(path: PathBuf, config: &TrainConfig) -> Result<RunFolder> {
        let run = RunFolder { path };
        run.write_config(config).inspect_err(|_| {
            // Leaves nothing behind; a folder that something else has filled stays.
            let _ = fs::remove_dir(run.path());
        })?;
        Ok(run)
    }

    /// Writes `config.toml`, in the place of an older one.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be written; [`Error::Invalid`] for a number that TOML cannot hold.
    pub fn write_config(&self, config: &TrainConfig) -> Result<()> {
        let text = config.to_toml()?;
        write_atomic(&self.config_toml(), |out| out.write_all(text.as_bytes()))
    }

    /// Opens the folder of an earlier run.
    ///
    /// # Errors
    /// [`Error::File`] when it is missing, is no folder, or has no `config.toml`.
    pub fn open(path: &Path) -> Result<RunFolder> {
        let run = RunFolder { path: path.into() };
        let problem = match (path.is_dir(), path.exists()) {
            (true, _) if run.config_toml().is_file() => return Ok(run),
            (true, _) => "not a run folder: it has no config.toml",
            (false, true) => "expected the folder of a run, found a file",
            (false, false) => "expected the folder of a run, found nothing of that name",
        };
        Err(Error::file(path, problem))
    }

    /// The resolved configuration that the run began with.
    ///
    /// # Errors
    /// As [`TrainConfig::read`].
    pub fn config(&self) -> Result<TrainConfig> {
        TrainConfig::read(&self.config_toml())
    }

    /// Whether a training is under way in it.
    pub fn is_training(&self) -> bool {
        lock::is_held(&self.path)
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder's own name.
    pub fn name(&self) -> String {
        let whole = self.path.canonicalize().unwrap_or_else(|_| self.path.clone());
        whole.file_name().unwrap_or(whole.as_os_str()).to_string_lossy().into_owned()
    }

    /// What to call the run: `Run` and the folder's name.
    pub fn title(&self) -> String {
        let name = self.path.file_name().unwrap_or(self.path.as_os_str());
        format!("Run {}", name.to_string_lossy())
    }

    /// The resolved configuration.
    pub fn config_toml(&self) -> PathBuf {
        self.path.join("config.toml")
    }

    /// One line per epoch: see [`EpochMetrics`](super::EpochMetrics).
    pub fn metrics_jsonl(&self) -> PathBuf {
        self.path.join("metrics.jsonl")
    }

    /// The same as a table for a spreadsheet.
    pub fn summary_csv(&self) -> PathBuf {
        self.path.join("summary.csv")
    }

    /// What the best weights came to on the test pictures, once the run has ended: see [`TestResult`](super::TestResult).
    pub fn test_json(&self) -> PathBuf {
        self.path.join("test.json")
    }

    /// How many pictures the run has been trained on and how many it has held out of the training part; nothing before its first
    /// checkpoint.
    ///
    /// # Errors
    /// As [`crate::weights::safetensors::read`], but for the elements of tensors.
    pub fn split(&self) -> Result<Option<[usize; 2]>> {
        let last = self.last_safetensors();
        if !last.exists() {
            return Ok(None);
        }
        let metadata = read_metadata(&last)?;
        let number = |key| metadata.get(key).and_then(|number| number.parse().ok());
        Ok(number(IMAGES_KEY).zip(number(HELD_OUT_KEY)).map(<[usize; 2]>::from))
    }

    /// Pictures that cannot be used and are left out, a line of JSON for each; there is no such file where they are an error.
    pub fn left_out_jsonl(&self) -> PathBuf {
        self.path.join("left-out.jsonl")
    }

    /// Which pictures are left out; `None` where those that cannot be used are an error.
    ///
    /// # Errors
    /// [`Error::Io`], and [`Error::File`] with its number for a line that is none of a picture's.
    pub fn left_out(&self) -> Result<Option<Vec<LeftOut>>> {
        let path = self.left_out_jsonl();
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            text => text.map_err(Error::io("reading", &path))?,
        };
        let parse = |(line, text): (usize, &str)| {
            let problem =
                |error: serde_json::Error| Error::file(&path, format!("line {line}: expected a picture: {error}"));
            serde_json::from_str(text).map_err(problem)
        };
        (1..).zip(text.lines()).map(parse).collect::<Result<_>>().map(Some)
    }

    /// Writes down which pictures are left out.
    ///
    /// # Errors
    /// [`Error::Io`] when the file cannot be written.
    pub(super) fn write_left_out<'a>(&self, pictures: impl Iterator<Item = &'a LeftOut>) -> Result<()> {
        write_atomic(&self.left_out_jsonl(), |out| {
            for picture in pictures {
                serde_json::to_writer(&mut *out, picture)?;
                out.write_all(b"\n")?;
            }
            Ok(())
        })
    }

    /// Loss and accuracy over the epochs.
    pub fn curves_png(&self) -> PathBuf {
        self.path.join("curves.png")
    }

    /// A page on what the run came to: see [`Report`](crate::report::Report).
    pub fn report_html(&self) -> PathBuf {
        self.path.join("report.html")
    }

    /// Held-out pictures with what was recognised.
    pub fn predictions_png(&self) -> PathBuf {
        self.path.join("predictions.png")
    }

    /// A held-out picture, for trying the run out.
    pub fn sample_png(&self) -> PathBuf {
        self.path.join("sample.png")
    }

    /// Whether there are weights: those of the best epoch so far, or a checkpoint, which may have been written within the first.
    pub fn has_weights(&self) -> bool {
        self.best_safetensors().exists() || self.last_safetensors().exists()
    }

    /// The weights of the best epoch so far.
    pub fn best_safetensors(&self) -> PathBuf {
        self.path.join("best.safetensors")
    }

    /// The newest [`Checkpoint`](crate::weights::Checkpoint); the one before it stands beside it.
    pub fn last_safetensors(&self) -> PathBuf {
        self.path.join("last.safetensors")
    }
}

/// One more than the largest `n` of the folders `<name>-<n>`.
fn next_number(runs: &Path, name: &str) -> Result<u64> {
    let mut next = 1;
    for entry in fs::read_dir(runs).map_err(Error::io("reading", runs))? {
        let entry = entry.map_err(Error::io("reading", runs))?.file_name();
        let number = entry.to_str().and_then(|e| e.strip_prefix(name)?.strip_prefix('-')?.parse().ok());
        next = next.max(number.map_or(1, |n: u64| n.saturating_add(1)));
    }
    Ok(next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::Recipe;

    #[test]
    fn created_folders_open_again_with_their_configuration() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/run");
        let config = TrainConfig { recipe: Recipe { epochs: 3, ..Recipe::default() }, ..TrainConfig::default() };
        let run = RunFolder::create(&path, &config).unwrap();
        assert_eq!(RunFolder::open(&path).unwrap(), run);
        assert_eq!(run.config().unwrap(), config);
        assert_eq!(run.last_safetensors(), path.join("last.safetensors"));
    }

    #[test]
    fn what_is_in_use_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let config = TrainConfig::default();
        fs::create_dir(folder.path().join("empty")).unwrap();
        RunFolder::create(&folder.path().join("empty"), &config).unwrap();
        let message = RunFolder::create(&folder.path().join("empty"), &config).unwrap_err().to_string();
        assert!(message.ends_with("this one holds files; choose another, or resume the run in it"), "{message}");
        fs::write(folder.path().join("file"), "").unwrap();
        let message = RunFolder::create(&folder.path().join("file"), &config).unwrap_err().to_string();
        assert!(message.ends_with("found a file of that name"), "{message}");
        RunFolder::create(&folder.path().join("file/below"), &config).unwrap_err();
    }

    #[test]
    fn what_a_killed_run_leaves_is_no_obstacle() {
        let folder = tempfile::tempdir().unwrap();
        for name in [lock::FILE, ".config.toml.tmp"] {
            fs::write(folder.path().join(name), "epo").unwrap();
        }
        let run = RunFolder::create(folder.path(), &TrainConfig::default()).unwrap();
        assert_eq!(run.config().unwrap(), TrainConfig::default());
    }

    #[test]
    fn numbers_go_up() {
        let folder = tempfile::tempdir().unwrap();
        let runs = folder.path().join("runs");
        let config = TrainConfig::default();
        let next = || RunFolder::create_numbered(&runs, "cnn", &config).unwrap().path;
        assert_eq!((next(), next()), (runs.join("cnn-1"), runs.join("cnn-2")));
        fs::create_dir(runs.join("cnn-9")).unwrap();
        fs::create_dir(runs.join("cnn-wide-12")).unwrap();
        fs::create_dir(runs.join("cnn-x")).unwrap();
        assert_eq!(next(), runs.join("cnn-10"));
    }

    #[test]
    fn other_places_are_not_runs() {
        let folder = tempfile::tempdir().unwrap();
        let message = |path: &Path| RunFolder::open(path).unwrap_err().to_string();
        assert!(message(folder.path()).contains("no config.toml"));
        assert!(message(&folder.path().join("none")).contains("found nothing"));
        fs::write(folder.path().join("file"), "").unwrap();
        assert!(message(&folder.path().join("file")).contains("found a file"));
    }
}
