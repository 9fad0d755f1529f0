//! What this machine can do at best: measured once, in a fraction of a second, and kept in the cache folder.
//!
//! There is a file for each processor, instruction set and number of threads: `roofline-2-<…>.json` (2 is the way of measuring). Delete it to have the
//! machine measured again. A damaged file, or one of another machine, is replaced; a folder that cannot be written is no
//! error, it only means that the next call measures again.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::data::cache_folder;
use crate::exec::Engine;
use crate::files::write_atomic;
use crate::net::{Level, Roofline};

/// How a machine is measured; a file of another way is left alone.
const METHOD: u32 = 2;

/// Largest file that is read.
const MAX_FILE_BYTES: u64 = 1 << 16;

/// Part of a working set that one thread reads from its own cache.
const CACHED_BYTES: u64 = 256 << 10;

/// Largest working set that is measured.
const MAX_BYTES: u64 = 256 << 20;

/// A file's content.
#[derive(Serialize, Deserialize)]
struct Record {
    machine: String,
    roofline: Roofline,
}

/// The roofline of this machine with an engine's threads and instruction set: from the cache folder, else measured.
///
/// ```no_run
/// # fn main() -> convnet::Result<()> {
/// let (engine, net) = (convnet::exec::Engine::new(0)?, convnet::zoo::cnn(&Default::default())?);
/// let estimate = net.estimate(&convnet::roofline::cached(&engine), 256);
/// println!("a training step takes at least {:.1} ms here", estimate.training_ms);
/// # Ok(())
/// # }
/// ```
pub fn cached(engine: &Engine) -> Roofline {
    match cache_folder() {
        Ok(folder) => cached_in(&folder, engine),
        Err(_) => measure(engine),
    }
}

/// As [`cached`], in a folder.
fn cached_in(folder: &Path, engine: &Engine) -> Roofline {
    let machine = machine(engine);
    let path = folder.join(file_name(&machine));
    if let Some(record) = read(&path).filter(|record| record.machine == machine && is_sound(record, engine)) {
        return record.roofline;
    }
    let record = Record { machine, roofline: measure(engine) };
    // Whoever cannot keep it measures again next time.
    let _ = keep(folder, &path, &record);
    record.roofline
}

/// Measures the machine, in about a third of a second.
pub fn measure(engine: &Engine) -> Roofline {
    let (threads, isa) = (engine.pool(), engine.set());
    let cached = CACHED_BYTES.saturating_mul(threads.count() as u64);
    let mut sizes = [1, 16, 256].map(|factor: u64| cached.saturating_mul(factor).min(MAX_BYTES)).to_vec();
    sizes.dedup();
    let level = |bytes: u64| {
        let rate = convnet_kernels::roofline::gigabytes_per_second(threads, isa, bytes as usize);
        Level { bytes, gigabytes_per_second: rate }
    };
    Roofline {
        threads: threads.count(),
        gflops: convnet_kernels::roofline::gflops(threads, isa),
        levels: sizes.into_iter().map(level).collect(),
    }
}

/// What tells this machine's figures from another's.
fn machine(engine: &Engine) -> String {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{}, {cpus} processors, {}, {} threads", processor(), engine.isa(), engine.threads())
}

/// The processor's name where the system tells, else its architecture.
pub(crate) fn processor() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    name.map_or(std::env::consts::ARCH, |(_, name)| name.trim()).to_owned()
}

/// `roofline-` and the machine's letters and digits.
fn file_name(machine: &str) -> PathBuf {
    let words = machine.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let name: String = words.collect::<Vec<&str>>().join("-").to_ascii_lowercase().chars().take(120).collect();
    PathBuf::from(format!("roofline-{METHOD}-{name}.json"))
}

fn read(path: &Path) -> Option<Record> {
    let meta = fs::metadata(path).ok()?;
    if !meta.is_file() || meta.len() > MAX_FILE_BYTES {
        return None;
    }
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// Whether the figures can be computed with.
fn is_sound(Record { roofline, .. }: &Record, engine: &Engine) -> bool {
    let rates = roofline.levels.iter().map(|level| level.gigabytes_per_second).chain([roofline.gflops]);
    let sizes = roofline.levels.is_sorted_by(|a, b| a.bytes < b.bytes);
    let rates = rates.into_iter().all(|rate| rate.is_finite() && rate > 0.0);
    rates && sizes && !roofline.levels.is_empty() && roofline.threads == engine.threads()
}

fn keep(folder: &Path, path: &Path, record: &Record) -> crate::Result<()> {
    fs::create_dir_all(folder).map_err(crate::Error::io("creating", folder))?;
    write_atomic(path, |out| {
        serde_json::to_writer_pretty(&mut *out, record)?;
        out.write_all(b"\n")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The one file in a folder.
    fn file(folder: &Path) -> PathBuf {
        let mut entries = fs::read_dir(folder).unwrap();
        let path = entries.next().expect("nothing was kept").unwrap().path();
        assert!(entries.next().is_none());
        path
    }

    #[test]
    fn the_machine_is_measured_once() {
        let folder = tempfile::tempdir().unwrap();
        let cache = folder.path().join("not/yet/there");
        let engine = Engine::new(2).unwrap();
        let measured = cached_in(&cache, &engine);
        assert_eq!(cached_in(&cache, &engine), measured);
        // What is found is believed, so nothing was measured.
        let text = fs::read_to_string(file(&cache)).unwrap();
        let known = Roofline { gflops: 123.0, ..measured };
        let record = Record { roofline: known.clone(), ..serde_json::from_str(&text).unwrap() };
        fs::write(file(&cache), serde_json::to_string(&record).unwrap()).unwrap();
        assert_eq!(cached_in(&cache, &engine), known);
        // Another number of threads has another file.
        assert_eq!(cached_in(&cache, &Engine::new(1).unwrap()).threads, 1);
        assert_eq!(fs::read_dir(&cache).unwrap().count(), 2);
    }

    #[test]
    fn a_damaged_file_is_measured_anew() {
        let folder = tempfile::tempdir().unwrap();
        let engine = Engine::new(1).unwrap();
        let measured = cached_in(folder.path(), &engine);
        let text = fs::read_to_string(file(folder.path())).unwrap();
        let replaced = |from: &str, to: &str| {
            assert!(text.contains(from), "no {from} in {text}");
            text.replace(from, to)
        };
        let damaged = [
            String::new(),
            text[..text.len() / 2].to_owned(),
            replaced("1 threads", "3 threads"),
            replaced("\"gflops\": ", "\"gflops\": -"),
            replaced("\"threads\": 1", "\"threads\": 7"),
            replaced("\"levels\": [", "\"levels\": [], \"old\": ["),
            "9".repeat(1 << 17),
        ];
        for content in damaged {
            fs::write(file(folder.path()), &content).unwrap();
            let again = cached_in(folder.path(), &engine);
            assert_eq!(again.levels.len(), measured.levels.len());
            assert!(again.gflops > 0.0);
            let kept: Record = serde_json::from_slice(&fs::read(file(folder.path())).unwrap()).unwrap();
            assert_eq!(kept.roofline, again, "{content:.40}");
        }
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_no_error() {
        let folder = tempfile::tempdir().unwrap();
        let blocked = folder.path().join("file");
        fs::write(&blocked, "").unwrap();
        assert!(cached_in(&blocked, &Engine::new(1).unwrap()).gflops > 0.0);
        assert_eq!(fs::read(&blocked).unwrap(), b"");
    }

    #[test]
    fn file_names_are_harmless() {
        assert_eq!(file_name("A(R) CPU/../x @ 2 GHz, avx2").to_str(), Some("roofline-2-a-r-cpu-x-2-ghz-avx2.json"));
    }
}
