//! Runs the binary as a user would.
#![allow(dead_code, reason = "no test uses all of it")]

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// What a run left: exit code, stdout, stderr.
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// The cache folder of runs that have no other: the user's is not ours.
pub(crate) const CACHE: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/cache");

/// Runs `convnet` with these arguments and nothing on stdin.
pub(crate) fn convnet(arguments: &[&str]) -> Run {
    let mut command = Command::new(env!("CARGO_BIN_EXE_convnet"));
    command
        .args(arguments)
        .stdin(Stdio::null())
        .env("CONVNET_HOME", CACHE)
        .output()
        .expect("the binary was built for this test")
        .into()
}

impl From<Output> for Run {
    fn from(output: Output) -> Run {
        let text = |bytes| String::from_utf8(bytes).expect("convnet prints UTF-8");
        Run { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

impl Run {
    /// Checks that the run failed with this code, said something like `expected`, and printed no result.
    #[track_caller]
    pub(crate) fn fails_with(&self, code: i32, expected: &str) {
        assert_eq!(self.code, Some(code), "{}", self.stderr);
        assert!(self.stderr.starts_with("error: ") && self.stderr.contains(expected), "{}", self.stderr);
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        assert_eq!(self.stdout, "");
    }

    /// The stdout of a run that succeeded and said nothing else.
    #[track_caller]
    pub(crate) fn succeeds(self) -> String {
        assert_eq!((self.code, self.stderr.as_str()), (Some(0), ""));
        self.stdout
    }

    /// The one JSON document on the stdout of a run that succeeded.
    #[track_caller]
    pub(crate) fn json(self) -> Value {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        serde_json::from_str(&self.stdout).expect("--json prints one JSON document")
    }
}

/// A folder in which `convnet` runs, with nothing of the user's environment.
pub(crate) struct Place {
    folder: TempDir,
}

/// Flags for a net that is small enough for any test: 8×8 pictures, 50 to learn from, 7 steps an epoch.
pub(crate) const SMALL: [&str; 8] = ["--data", "data", "--cdims", "2", "--hdims", "8", "--batch-size", "8"];

impl Place {
    pub(crate) fn new() -> Place {
        Place { folder: tempfile::tempdir().unwrap() }
    }

    /// A place with a folder `data` of IDX files.
    pub(crate) fn with_data() -> Place {
        let place = Place::new();
        fs::create_dir(place.path("data")).unwrap();
        for (part, count) in [("train", 50), ("t10k", 20)] {
            place.write(&format!("data/{part}-images-idx3-ubyte"), &images(count, 8));
            place.write(&format!("data/{part}-labels-idx1-ubyte"), &labels((0..count).map(|i| (i % 10) as u8)));
        }
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: &[u8]) {
        fs::write(self.path(name), content).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    /// Names of what lies in a folder, sorted; none when there is no such folder.
    pub(crate) fn list(&self, name: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(name)).into_iter().flatten();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// The command `convnet` with these arguments, in this folder.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_convnet"));
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CONVNET_")) {
            // Which instruction set is tested stays the caller's choice.
            if name != "CONVNET_ISA" {
                command.env_remove(name);
            }
        }
        command.env("CONVNET_HOME", self.path("cache")).current_dir(self.folder.path());
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Run {
        self.command(arguments).output().expect("the binary was built for this test").into()
    }

    /// Trains the small net with more flags.
    pub(crate) fn train(&self, arguments: &[&str]) -> Run {
        self.run(&[&["train"], &SMALL[..], arguments].concat())
    }
}

/// How long a busy machine may take for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Waits until a process has ended.
#[track_caller]
pub(crate) fn ends(process: &mut Child) -> ExitStatus {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = process.try_wait().unwrap() {
            return status;
        }
        if Instant::now() > end {
            process.kill().unwrap();
            panic!("the process goes on");
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Whether a process works in a place; always no where there is no `/proc`.
pub(crate) fn works_in(place: &Place) -> bool {
    let own = place.path("").canonicalize().unwrap();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    // Those of others cannot be asked.
    processes.filter_map(|process| fs::read_link(process.path().join("cwd")).ok()).any(|folder| folder == own)
}

/// Sends a process a signal, such as `-TERM`.
pub(crate) fn send(signal: &str, process: &Child) {
    let sent = Command::new("kill").args([signal, &process.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

/// An IDX file of square pictures, each with a bright pixel that tells its class.
pub(crate) fn images(count: usize, side: usize) -> Vec<u8> {
    let pixel = |i: usize| if i % (side * side) == 5 * (i / (side * side) % 10) { 255 } else { (i * 37 % 80) as u8 };
    let header = [0x0803, count, side, side].map(|number| (number as u32).to_be_bytes());
    header.concat().into_iter().chain((0..count * side * side).map(pixel)).collect()
}

/// An IDX file of labels.
pub(crate) fn labels(labels: impl ExactSizeIterator<Item = u8>) -> Vec<u8> {
    let header = [0x0801, labels.len()].map(|number| (number as u32).to_be_bytes());
    header.concat().into_iter().chain(labels).collect()
}
