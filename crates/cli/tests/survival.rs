//! What is left of a training that is killed, or whose disk fails: a checkpoint that loads, and a run that goes on to the
//! same end.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use common::{Place, Run, SMALL};
use convnet::train::{TestResult, read_metrics};
use convnet::weights::{Checkpoint, previous_path};

/// The hash of the last weights that `--json` prints.
fn sha256(run: Run) -> String {
    run.json()["weights_sha256"].as_str().unwrap().to_owned()
}

/// Lets the program's call number `at` that changes the disk fail, or with `..` behind the number all from this one on.
fn failing(mut command: Command, at: &str) -> Run {
    command.env("CONVNET_FAIL_AT", at).output().unwrap().into()
}

/// Checks that every file of a run's folder is whole, and that there are no others.
fn assert_whole(folder: &Path, what: &str) {
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let bytes = fs::read(&path).unwrap();
        let whole = match name.as_str() {
            ".lock" => true,
            "config.toml" => convnet::train::TrainConfig::read(&path).is_ok(),
            "metrics.jsonl" => read_metrics(&path).is_ok(),
            "summary.csv" => bytes.starts_with(b"epoch,train_loss,") && bytes.ends_with(b"\r\n"),
            "test.json" => matches!(TestResult::read(&path), Ok(Some(_))),
            "report.html" => bytes.ends_with(b"</html>\n"),
            _ if name.starts_with("events.out.tfevents.") => true,
            _ if name.ends_with(".safetensors") && !name.starts_with('.') => Checkpoint::load(&path).is_ok(),
            _ if name.ends_with(".png") && !name.starts_with('.') => bytes.ends_with(b"IEND\xaeB`\x82"),
            _ => false,
        };
        assert!(whole, "{what}: {name}");
    }
}

/// A run of two epochs and a checkpoint every third step, one of whose calls fails, and what becomes of it.
struct Failing<'a> {
    place: &'a Place,
    unbroken: &'a str,
}

/// Flags of such a run beside its folder.
const SHORT: [&str; 9] =
    ["--epochs", "2", "--checkpoint-every", "3", "--tensorboard", "--threads", "1", "--train-eval", "8"];

impl Failing<'_> {
    /// Whether a call failed.
    fn attempt(&self, at: &str) -> bool {
        let name = format!("run-{at}");
        let begin = || {
            let arguments = [&["train"], &SMALL[..], &SHORT[..], &["--out", &name, "--json", "-q"]].concat();
            self.place.command(&arguments)
        };
        let run = failing(begin(), at);
        if run.code == Some(0) {
            assert_eq!(sha256(run), self.unbroken);
            return false;
        }
        let folder = self.place.path(&name);
        run.fails_with(1, "made to fail by a test");
        assert!(run.stderr.contains(&name), "{at}: it is to name a file of {name}: {}", run.stderr);
        assert_whole(&folder, at);
        let last = folder.join("last.safetensors");
        if last.exists() || previous_path(&last).exists() {
            Checkpoint::load_or_previous(&last).unwrap();
        }
        let is_run = folder.join("config.toml").exists();
        if is_run {
            // And once more as it goes on: locking, cutting the metrics, the first files that it writes.
            let number: usize = at.trim_end_matches("..").parse().unwrap();
            let again = failing(self.resume(&name), &(number % 7).to_string());
            assert!(again.code == Some(1) && again.stderr.contains("made to fail by a test"), "{}", again.stderr);
            assert_whole(&folder, at);
        }
        let rest: Run = if is_run { self.resume(&name) } else { begin() }.output().unwrap().into();
        assert_eq!(sha256(rest), self.unbroken, "{at}");
        assert_whole(&folder, at);
        fs::remove_dir_all(&folder).unwrap();
        true
    }

    fn resume(&self, name: &str) -> Command {
        self.place.command(&["train", "--resume", name, "--json", "-q"])
    }
}

#[test]
fn a_call_that_fails_loses_nothing() {
    assert!(fail_every(7) > 14);
}

#[test]
#[ignore = "slow: some 500 trainings"]
fn whichever_call_fails_nothing_is_lost() {
    let count = fail_every(1);
    assert!(count > 100, "files, writes, flushes and renames were all to fail once: {count}");
}

/// Lets each `step`th call of a training fail, and each tenth of these go on failing; how many did.
fn fail_every(step: usize) -> usize {
    let place = Place::with_data();
    let unbroken = sha256(place.train(&[&SHORT[..], &["--out", "unbroken", "--json"]].concat()));
    let failing = Failing { place: &place, unbroken: &unbroken };
    // Two at a time: each failure is two or three processes.
    let share = |first: usize| (first..).step_by(2).take_while(|n| failing.attempt(&(step * n).to_string())).count();
    let count: usize = thread::scope(|scope| {
        let others = scope.spawn(|| share(1));
        share(0) + others.join().unwrap()
    });
    // A full disk stays full.
    for n in (0..count).step_by(10) {
        assert!(failing.attempt(&format!("{}..", step * n)), "{n}");
    }
    count
}

/// Numbers that look random, the same in every run of the test (Marsaglia's xorshift).
struct Moments(u64);

impl Moments {
    fn next(&mut self) -> u64 {
        for (shift, left) in [(13, true), (7, false), (17, true)] {
            self.0 ^= if left { self.0 << shift } else { self.0 >> shift };
        }
        self.0
    }
}

/// When a training is killed.
enum Moment {
    /// So long after it has begun.
    After(Duration),
    /// So long after a checkpoint has been begun.
    InSaving(Duration),
}

/// A run that is killed again and again.
struct Killed {
    folder: PathBuf,
    /// Whether it has had a checkpoint.
    has_checkpoint: bool,
}

impl Killed {
    fn temporary(&self) -> PathBuf {
        self.folder.join(".last.safetensors.tmp")
    }

    /// Whether a kill was in the middle of saving: half a checkpoint is there, or the newest has just been put aside.
    fn is_in_saving(&self) -> bool {
        let last = self.folder.join("last.safetensors");
        self.temporary().exists() || (!last.exists() && previous_path(&last).exists())
    }

    /// Starts the training and kills it, unless it ends before: then its result.
    fn run_until(&mut self, mut command: Command, moment: Moment) -> Option<Run> {
        // What the kill before has left is not of this process.
        let _ = fs::remove_file(self.temporary());
        let mut child = command.stderr(Stdio::null()).spawn().unwrap();
        let start = Instant::now();
        let wait = match moment {
            Moment::After(time) => time,
            Moment::InSaving(time) => {
                while !self.temporary().exists() && child.try_wait().unwrap().is_none() {
                    std::hint::spin_loop();
                }
                start.elapsed() + time
            }
        };
        while start.elapsed() < wait && child.try_wait().unwrap().is_none() {
            std::hint::spin_loop();
        }
        if child.try_wait().unwrap().is_some() {
            return Some(child.wait_with_output().unwrap().into());
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let last = self.folder.join("last.safetensors");
        self.has_checkpoint |= last.exists();
        if self.has_checkpoint {
            let found = Checkpoint::load_or_previous(&last).unwrap();
            assert!(!matches!(found.problem, Some(convnet::Error::File { .. })), "half a file: {:?}", found.problem);
        }
        None
    }
}

/// 200 kills, a third of them while a checkpoint is written.
#[test]
#[ignore = "slow: some 250 trainings"]
fn kills_lose_nothing() {
    let (kills_wanted, in_saving_wanted) = (200, 50);
    let place = Place::with_data();
    let flags = ["--epochs", "60", "--checkpoint-every", "2", "--threads", "1", "--ema", "0.9", "--json", "-q"];
    let unbroken = sha256(place.train(&[&flags[..], &["--out", "unbroken"]].concat()));
    let mut moments = Moments(0x9e37_79b9_7f4a_7c15);
    let (mut kills, mut in_saving, mut runs) = (0, 0, 0);
    while kills < kills_wanted || in_saving < in_saving_wanted {
        assert!(kills < 3 * kills_wanted, "{in_saving} of {kills} kills were within saving");
        let name = format!("run-{runs}");
        let mut run = Killed { folder: place.path(&name), has_checkpoint: false };
        let ended = loop {
            let command = match run.folder.join("config.toml").exists() {
                true => place.command(&["train", "--resume", &name, "--json", "-q"]),
                false => place.command(&[&["train"], &SMALL[..], &flags[..], &["--out", &name]].concat()),
            };
            let random = moments.next();
            let moment = match random % 3 {
                0 => Moment::After(Duration::from_micros(random / 3 % 60_000)),
                _ => Moment::InSaving(Duration::from_micros(random / 3 % 300)),
            };
            if let Some(ended) = run.run_until(command, moment) {
                break ended;
            }
            kills += 1;
            in_saving += usize::from(run.is_in_saving());
            if kills >= kills_wanted && in_saving >= in_saving_wanted {
                break place.run(&["train", "--resume", &name, "--json", "-q"]);
            }
        };
        assert_eq!(sha256(ended), unbroken, "run {runs}, after {kills} kills");
        assert_whole(&run.folder, &name);
        fs::remove_dir_all(&run.folder).unwrap();
        runs += 1;
    }
    println!("{kills} kills in {runs} runs, {in_saving} of them while a checkpoint was written");
}
