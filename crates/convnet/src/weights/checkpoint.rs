//! A checkpoint: weights, what the optimizer remembers, and strings, in one safetensors file. Weights keep their plain
//! names, so every reader of safetensors finds them; optimizer state stands under `optimizer.`; the strings and a
//! SHA-256 over everything are metadata. The checksum is verified on loading.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::choose::{default_choice, prefixes_for};
use super::digest::{hash_number, hash_tensors, hash_text, hex};
use super::merged::merge;
use super::names::canonical;
use super::renaming::Shapes;
use super::{Contents, Note, read_chosen, safetensors};
use crate::files::{write_atomic, write_atomic_keeping};
use crate::{Error, Result, StateDict, Tensor};

/// Before the name of a tensor that belongs to the optimizer.
const OPTIMIZER: &str = "optimizer.";
/// Before the metadata keys that are the format's own.
const RESERVED: &str = "convnet.";
/// Metadata key of the format's version, which also marks the file as ours.
const FORMAT_KEY: &str = "convnet.format";
/// The version that is written, and the only one so far.
const FORMAT: &str = "1";
/// Metadata key of the checksum.
const SHA256_KEY: &str = "convnet.sha256";

/// Everything from which training can go on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Checkpoint {
    /// Parameters and buffers by name.
    pub weights: StateDict,
    /// Optimizer state by name, such as `exp_avg.conv1.weight`; empty in files that hold weights alone.
    pub optimizer: StateDict,
    /// Strings: epoch, step, seed, the resolved configuration. Keys that begin with `convnet.` are the
    /// format's own: they are neither saved nor loaded.
    pub metadata: BTreeMap<String, String>,
}

/// A checkpoint, and which file it came from.
#[derive(Debug)]
pub struct Recovered {
    /// What was loaded.
    pub checkpoint: Checkpoint,
    /// The file it was loaded from.
    pub path: PathBuf,
    /// Why the newest file could not be used, when the previous one had to be: worth telling the user.
    pub problem: Option<Error>,
}

/// Where [`Checkpoint::save_keeping_previous`] keeps the older file: `last.previous.safetensors` for
/// `last.safetensors`.
pub fn previous_path(path: &Path) -> PathBuf {
    let extension = path.extension().unwrap_or_default();
    let mut previous = std::ffi::OsString::from("previous.");
    previous.push(extension);
    path.with_extension(previous)
}

impl Checkpoint {
    /// Writes the file atomically, replacing an older one.
    ///
    /// # Errors
    /// [`Error::Io`]; the older file is then intact.
    pub fn save(&self, path: &Path) -> Result<()> {
        write_atomic(path, |out| self.write_to(out))
    }

    /// As [`Checkpoint::save`], but the older file is kept under [`previous_path`]. A kill at any moment leaves a
    /// checkpoint that [`Checkpoint::load_or_previous`] loads.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Checkpoint::load_or_previous`] then still loads the older file, or this one where nothing but the flush
    /// of the folder has failed.
    pub fn save_keeping_previous(&self, path: &Path) -> Result<()> {
        write_atomic_keeping(path, &previous_path(path), |out| self.write_to(out))
    }

    /// Reads a checkpoint and verifies its checksum. A safetensors or PyTorch file of another origin loads too: all its
    /// tensors are weights, under the names that torchvision gives them now.
    ///
    /// # Errors
    /// As [`read`](super::read); [`Error::File`] also for a checksum that does not match and for a newer format,
    /// [`Error::Weights`] for weights in parts that are put together in no known way.
    pub fn load(path: &Path) -> Result<Checkpoint> {
        Ok(Checkpoint::load_key(path, None)?.0)
    }

    /// The same of the weights that lie under `key` in a file of another origin, or that have it in their names; also what
    /// is worth telling of them.
    ///
    /// # Errors
    /// As [`Checkpoint::load`]; [`Problem::NoSuchKey`](super::Problem::NoSuchKey).
    pub fn load_key(path: &Path, key: Option<&str>) -> Result<(Checkpoint, Vec<Note>)> {
        let mut within = None;
        let contents = read_chosen(path, &mut |offers| {
            within = key.filter(|key| !offers.iter().any(|offer| offer.is_under(key)));
            default_choice(offers, key)
        })?;
        let (mut checkpoint, mut notes, is_own) = Checkpoint::from_contents(path, contents)?;
        if let Some(key) = within {
            let shapes: Shapes =
                checkpoint.weights.iter().map(|(name, tensor)| (name.clone(), tensor.shape().to_vec())).collect();
            let prefix = prefixes_for(&shapes, key).swap_remove(0);
            let below = |(name, tensor): (String, Tensor)| Some((name.strip_prefix(&prefix)?.to_owned(), tensor));
            checkpoint.weights = checkpoint.weights.into_iter().filter_map(below).collect();
            notes.push(Note::Prefix(prefix));
        }
        if !is_own {
            checkpoint.weights = canonical(checkpoint.weights, &mut notes);
        }
        Ok((checkpoint, notes))
    }

    /// A file's content as a checkpoint, what is worth telling of it, and whether it is a checkpoint of ours.
    pub(super) fn from_contents(path: &Path, contents: Contents) -> Result<(Checkpoint, Vec<Note>, bool)> {
        let Contents { mut tensors, mut metadata, mut notes } = contents;
        let (format, expected) = (metadata.remove(FORMAT_KEY), metadata.remove(SHA256_KEY));
        if format.is_none() && expected.is_none() {
            let merged = merge(&mut tensors).map_err(|problem| problem.in_file(path))?;
            notes.extend((!merged.is_empty()).then_some(Note::Merged(merged)));
            return Ok((Checkpoint { weights: tensors, optimizer: StateDict::new(), metadata }, notes, false));
        }
        if let Some(format) = format.filter(|format| format != FORMAT) {
            let problem = format!("checkpoint format {format}: expected {FORMAT}; a newer convnet may have written it");
            return Err(Error::file(path, problem));
        }
        metadata.retain(|key, _| !key.starts_with(RESERVED));
        let mut checkpoint = Checkpoint { metadata, ..Checkpoint::default() };
        for (name, tensor) in tensors {
            match name.strip_prefix(OPTIMIZER) {
                Some(name) => checkpoint.optimizer.insert(name.into(), tensor),
                None => checkpoint.weights.insert(name, tensor),
            };
        }
        if expected.as_deref() != Some(&checkpoint.sha256()) {
            return Err(Error::file(path, "damaged: its content does not match its SHA-256"));
        }
        Ok((checkpoint, notes, true))
    }

    /// Loads `path`, or the previous checkpoint when that one is missing or damaged.
    ///
    /// # Errors
    /// As [`Checkpoint::load`], about `path`, when neither can be loaded.
    pub fn load_or_previous(path: &Path) -> Result<Recovered> {
        let problem = match Checkpoint::load(path) {
            Ok(checkpoint) => return Ok(Recovered { checkpoint, path: path.into(), problem: None }),
            Err(problem) => problem,
        };
        let previous = previous_path(path);
        match Checkpoint::load(&previous) {
            Ok(checkpoint) => Ok(Recovered { checkpoint, path: previous, problem: Some(problem) }),
            Err(_) => Err(problem),
        }
    }

    fn write_to(&self, out: &mut dyn Write) -> io::Result<()> {
        if let Some(name) = self.weights.keys().find(|name| name.starts_with(OPTIMIZER)) {
            let problem = format!("weight '{name}': names that begin with '{OPTIMIZER}' are kept for optimizer state");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, problem));
        }
        let own = |(key, value): (&String, &String)| (key.clone(), value.clone());
        let mut metadata: BTreeMap<_, _> = self.strings().map(own).collect();
        metadata.insert(FORMAT_KEY.into(), FORMAT.into());
        metadata.insert(SHA256_KEY.into(), self.sha256());
        let weights = self.weights.iter().map(|(name, tensor)| (name.clone(), tensor));
        let optimizer = self.optimizer.iter().map(|(name, tensor)| (format!("{OPTIMIZER}{name}"), tensor));
        let tensors: Vec<(String, &Tensor)> = weights.chain(optimizer).collect();
        safetensors::write_to(out, &tensors, &metadata)
    }

    /// The metadata without the format's own.
    fn strings(&self) -> impl Iterator<Item = (&String, &String)> {
        self.metadata.iter().filter(|(key, _)| !key.starts_with(RESERVED))
    }

    /// Over the metadata's keys and values, then the weights, then the optimizer's tensors, each in name order and
    /// after their number.
    fn sha256(&self) -> String {
        let mut hasher = Sha256::new();
        hash_number(&mut hasher, self.strings().count());
        for (key, value) in self.strings() {
            hash_text(&mut hasher, key);
            hash_text(&mut hasher, value);
        }
        for tensors in [&self.weights, &self.optimizer] {
            hash_number(&mut hasher, tensors.len());
            hash_tensors(&mut hasher, tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)));
        }
        hex(hasher)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use super::*;
    use crate::files::tests::{each_fault, names};

    fn sample(step: usize) -> Checkpoint {
        let tensor = |name: &str, value: f32| (name.to_owned(), Tensor::new([2, 2], vec![value; 4]));
        Checkpoint {
            weights: [tensor("conv1.weight", step as f32), tensor("conv1.bias", 0.5)].into(),
            optimizer: [tensor("exp_avg.conv1.weight", -1.0)].into(),
            metadata: [("step".into(), step.to_string()), ("config".into(), "lr = 0.001\n".into())].into(),
        }
    }

    /// A checkpoint of so many more bytes that a process is often killed within it.
    fn large(step: usize) -> Checkpoint {
        let mut checkpoint = sample(step);
        checkpoint.weights.insert("linear.weight".into(), Tensor::zeros([512, 256]));
        checkpoint
    }

    #[test]
    fn round_trip_with_plain_names_and_equal_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (folder.path().join("a.safetensors"), folder.path().join("b.safetensors"));
        sample(3).save(&a).unwrap();
        Checkpoint::load(&a).unwrap().save(&b).unwrap();
        assert_eq!(Checkpoint::load(&b).unwrap(), sample(3));
        assert_eq!(fs::read(&a).unwrap(), fs::read(&b).unwrap());
        let plain = safetensors::read(&a).unwrap().tensors;
        assert!(plain.contains_key("conv1.weight") && plain.contains_key("optimizer.exp_avg.conv1.weight"));
    }

    #[test]
    fn a_foreign_file_is_all_weights() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("foreign.safetensors");
        let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
        safetensors::write(&path, &sample(0).weights, &metadata).unwrap();
        let expected = Checkpoint { weights: sample(0).weights, optimizer: StateDict::new(), metadata };
        assert_eq!(Checkpoint::load(&path).unwrap(), expected);
    }

    #[test]
    fn a_flipped_bit_anywhere_is_found_or_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("last.safetensors");
        sample(3).save(&path).unwrap();
        let bytes = fs::read(&path).unwrap();
        let mut found = 0;
        for place in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[place] ^= 1 << (place % 8);
            fs::write(&path, damaged).unwrap();
            match Checkpoint::load(&path) {
                Ok(loaded) => assert_eq!(loaded, sample(3), "byte {place}"),
                Err(error) => {
                    assert!(error.to_string().contains("last.safetensors"));
                    found += 1;
                }
            }
        }
        assert!(found + 16 > bytes.len(), "only the header's padding may change unnoticed: {found} of {}", bytes.len());
    }

    #[test]
    fn newer_formats_and_reserved_names_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("last.safetensors");
        let metadata = BTreeMap::from([(FORMAT_KEY.to_owned(), "2".to_owned())]);
        safetensors::write(&path, &sample(0).weights, &metadata).unwrap();
        assert!(Checkpoint::load(&path).unwrap_err().to_string().contains("format 2: expected 1"));
        let mut checkpoint = sample(0);
        checkpoint.weights.insert("optimizer.weight".into(), Tensor::zeros([1]));
        assert!(checkpoint.save(&path).unwrap_err().to_string().contains("kept for optimizer state"));
    }

    #[test]
    fn whatever_a_kill_leaves_a_checkpoint_loads() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("last.safetensors");
        let step = || Checkpoint::load_or_previous(&path).map(|r| (r.checkpoint.metadata["step"].clone(), r.problem));
        assert!(step().is_err());
        sample(1).save_keeping_previous(&path).unwrap();
        sample(2).save_keeping_previous(&path).unwrap();
        assert_eq!(names(folder.path()), ["last.previous.safetensors", "last.safetensors"]);
        // While the temporary file is written: the newest is untouched.
        fs::write(folder.path().join(".last.safetensors.tmp"), "half").unwrap();
        assert!(matches!(step(), Ok((step, None)) if step == "2"));
        // Between the two renames: the newest has become the previous one.
        fs::rename(&path, previous_path(&path)).unwrap();
        assert!(matches!(step(), Ok((step, Some(Error::Io { .. }))) if step == "2"));
        // And the next save goes on from there.
        sample(3).save_keeping_previous(&path).unwrap();
        assert_eq!(names(folder.path()), ["last.previous.safetensors", "last.safetensors"]);
        // A damaged newest file is reported.
        fs::write(&path, &fs::read(&path).unwrap()[..100]).unwrap();
        assert!(matches!(step(), Ok((step, Some(Error::File { .. }))) if step == "2"));
    }

    #[test]
    fn a_fault_at_any_call_leaves_the_last_two() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("last.safetensors");
        sample(1).save_keeping_previous(&path).unwrap();
        sample(2).save_keeping_previous(&path).unwrap();
        let mut large = sample(3);
        large.weights.insert("linear.weight".into(), Tensor::zeros([64, 128]));
        let attempt = || large.save_keeping_previous(&path);
        let faults = each_fault(io::ErrorKind::StorageFull, attempt, |_| {
            let all = names(folder.path());
            assert!(all.iter().all(|name| !name.starts_with('.')), "{all:?}");
            for path in [path.clone(), previous_path(&path)].iter().filter(|path| path.exists()) {
                Checkpoint::load(path).unwrap();
            }
            let Recovered { checkpoint, .. } = Checkpoint::load_or_previous(&path).unwrap();
            // The flush of the folder, which comes last, can fail as well.
            assert!(checkpoint == sample(2) || checkpoint == large);
            sample(1).save(&previous_path(&path)).unwrap();
            sample(2).save(&path).unwrap();
        });
        assert!(faults > 60, "{faults}");
        assert_eq!(Checkpoint::load(&path).unwrap(), large);
    }

    /// Where [`saves_until_killed`] saves; set by [`kills_lose_nothing`] alone.
    const KILLED: &str = "CONVNET_TEST_SAVES_UNTIL_KILLED";

    #[test]
    #[ignore = "the process that kills_lose_nothing starts and kills"]
    fn saves_until_killed() {
        let Some(path) = std::env::var_os(KILLED) else { return };
        for step in 0.. {
            large(step).save_keeping_previous(Path::new(&path)).unwrap();
        }
    }

    #[test]
    fn kills_lose_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("last.safetensors");
        large(0).save_keeping_previous(&path).unwrap();
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        child.args(["saves_until_killed", "--ignored", "--quiet"]).env(KILLED, &path);
        child.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        for milliseconds in 0..16 {
            let started = fs::metadata(&path).unwrap().modified().unwrap();
            let mut running = child.spawn().unwrap();
            // Between two renames there is no such file: no reason to wait longer.
            while fs::metadata(&path).is_ok_and(|status| status.modified().unwrap() == started) {
                assert_eq!(running.try_wait().unwrap(), None, "it was to save until killed");
                std::thread::sleep(Duration::from_millis(1));
            }
            std::thread::sleep(Duration::from_millis(milliseconds));
            running.kill().unwrap();
            running.wait().unwrap();
            let recovered = Checkpoint::load_or_previous(&path).unwrap();
            assert!(!matches!(recovered.problem, Some(Error::File { .. })), "half a file: {:?}", recovered.problem);
            let step = recovered.checkpoint.metadata["step"].parse().unwrap();
            assert_eq!(recovered.checkpoint, large(step));
            recovered.checkpoint.save_keeping_previous(&path).unwrap();
        }
    }
}
