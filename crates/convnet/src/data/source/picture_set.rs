//! Pictures in files of their own, sorted into parts and classes but not decoded yet, and the data sets that they become.
//! They come from a folder (`image_folder.rs`) or from a tar of one (`archive.rs`).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::thread;

use crate::data::{Dataset, Splits, Target, picture};
use crate::{Error, Result};

/// No data set takes more memory, in bytes.
const MAX_MEMORY: u64 = 16 << 30;

/// The folders whose pictures a net learns from, and those whose pictures it is judged on, the preferred first.
pub(super) const TRAIN: &str = "train";
pub(super) const HELD_OUT: [&str; 2] = ["val", "test"];

/// A picture's file.
pub(super) enum PictureFile {
    OnDisk(PathBuf),
    /// With the name to be used in messages.
    InMemory(PathBuf, Vec<u8>),
}

/// The pictures of one part by class, each by its path below the class; both sorted by name.
pub(super) type Classes = BTreeMap<String, BTreeMap<PathBuf, PictureFile>>;

/// The parts of a set of pictures.
#[derive(Default)]
pub(super) struct PictureSet {
    pub(super) train: Option<Classes>,
    pub(super) test: Option<Classes>,
}

impl PictureSet {
    /// Decodes both parts. `origin` is the folder or archive that they come from.
    ///
    /// # Errors
    /// A part that is missing, classes that do not fit, and the first picture that cannot be used.
    pub(super) fn splits(self, origin: &PathBuf, target: Option<Target>) -> Result<Splits> {
        let (Some(train), Some(test)) = (&self.train, &self.test) else {
            let there = if self.train.is_some() { "val/<class> or test/<class>" } else { "train/<class>" };
            return Err(Error::file(origin, format!("expected folders {there} with pictures, found none")));
        };
        let classes = class_names(origin, train)?;
        check_classes(origin, test, &classes)?;
        let target = match target {
            Some(target) => target,
            None => first_shape(train)?,
        };
        let name = |part: &str| format!("{} ({part})", origin.display());
        Ok(Splits {
            train: dataset(name(TRAIN), train, &classes, target)?,
            test: dataset(name("test"), test, &classes, target)?,
        })
    }

    /// Decodes the held-out part alone. The classes are those of the training part, where there is one.
    ///
    /// # Errors
    /// As [`PictureSet::splits`], but that the training part may be missing.
    pub(super) fn test(self, origin: &PathBuf, target: Option<Target>) -> Result<Dataset> {
        let Some(test) = &self.test else {
            return Err(Error::file(origin, "expected folders val/<class> or test/<class> with pictures, found none"));
        };
        let classes = match &self.train {
            Some(train) => train.keys().cloned().collect(),
            None => class_names(origin, test)?,
        };
        check_classes(origin, test, &classes)?;
        let target = match target {
            Some(target) => target,
            None => first_shape(test)?,
        };
        dataset(format!("{} (test)", origin.display()), test, &classes, target)
    }
}

/// The names of classes of which each has pictures.
fn class_names(origin: &PathBuf, part: &Classes) -> Result<Vec<String>> {
    if part.is_empty() {
        return Err(Error::file(origin, "expected a folder for each class, such as train/cat"));
    }
    match part.iter().find(|(_, pictures)| pictures.is_empty()) {
        Some((class, _)) => Err(Error::file(origin, format!("no pictures ({}) of class '{class}'", picture::FORMATS))),
        None => Ok(part.keys().cloned().collect()),
    }
}

fn check_classes(origin: &PathBuf, test: &Classes, classes: &[String]) -> Result<()> {
    match test.keys().find(|class| !classes.contains(class)) {
        Some(class) => {
            let problem =
                format!("class '{class}' is held out, but there is no folder {TRAIN}/{class} to learn it from");
            Err(Error::file(origin, problem))
        }
        None => Ok(()),
    }
}

/// Pictures as they are must have the shape of the first.
fn first_shape(part: &Classes) -> Result<Target> {
    let first = part.values().flat_map(BTreeMap::values).next();
    let first = first.ok_or_else(|| Error::invalid("expected at least one picture"))?;
    Ok(Target { shape: first.with_bytes(picture::shape)?, resize: None })
}

impl PictureFile {
    fn with_bytes<T>(&self, work: impl FnOnce(&[u8]) -> Result<T, String>) -> Result<T> {
        match self {
            PictureFile::OnDisk(path) => {
                work(&picture::read_bytes(path)?).map_err(|problem| Error::file(path, problem))
            }
            PictureFile::InMemory(name, bytes) => work(bytes).map_err(|problem| Error::file(name, problem)),
        }
    }
}

fn dataset(name: String, part: &Classes, classes: &[String], target: Target) -> Result<Dataset> {
    let of_class = |(label, class): (usize, &String)| part.get(class).map(|pictures| (label as u32, pictures));
    let classes_there = || classes.iter().enumerate().filter_map(of_class);
    let labels: Vec<u32> =
        classes_there().flat_map(|(label, pictures)| std::iter::repeat_n(label, pictures.len())).collect();
    let files: Vec<&PictureFile> = classes_there().flat_map(|(_, pictures)| pictures.values()).collect();
    let images = decode(&name, &files, target)?;
    Dataset::new(name, target.shape, images, labels, classes.to_vec())
}

/// Decodes pictures on all cores, into one piece of memory.
fn decode(name: &str, files: &[&PictureFile], target: Target) -> Result<Vec<u8>> {
    let [channels, height, width] = target.shape;
    let total = [height, width, files.len()].iter().try_fold(channels, |product, &n| product.checked_mul(n));
    let total = total.filter(|&total| total as u64 <= MAX_MEMORY).ok_or_else(|| {
        Error::invalid(format!(
            "data set '{name}': {} pictures of {channels}x{height}x{width} take more than {} GiB of memory",
            files.len(),
            MAX_MEMORY >> 30
        ))
    })?;
    let mut images = Vec::new();
    let reserved = images.try_reserve_exact(total);
    reserved.map_err(|_| Error::invalid(format!("data set '{name}': not enough memory for {total} bytes")))?;
    images.resize(total, 0);
    let size = (total / files.len().max(1)).max(1);
    let work = Mutex::new(images.chunks_exact_mut(size).zip(files).enumerate());
    let problem: Mutex<Option<(usize, Error)>> = Mutex::new(None);
    let next = || match problem.lock().ok()?.is_some() {
        true => None,
        false => work.lock().ok()?.next(),
    };
    let worker = || {
        while let Some((index, (planes, file))) = next() {
            match file.with_bytes(|bytes| picture::decode(bytes, target)) {
                Ok(decoded) => planes.copy_from_slice(&decoded),
                Err(error) => {
                    // Pictures are handed out in their order, so the first that is bad has been taken by now.
                    let Ok(mut problem) = problem.lock() else { return };
                    if problem.as_ref().is_none_or(|&(first, _)| index < first) {
                        *problem = Some((index, error));
                    }
                }
            }
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from).min(files.len());
    thread::scope(|scope| {
        for _ in 1..threads {
            // A thread that the system refuses leaves its share to the others.
            let _ = thread::Builder::new().name("decoder".into()).spawn_scoped(scope, worker);
        }
        worker();
    });
    match problem.into_inner() {
        Ok(None) => Ok(images),
        Ok(Some((_, error))) => Err(error),
        Err(_) => Err(Error::invalid(format!("data set '{name}': a thread that decodes pictures broke off"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::test_data;
    use crate::data::{Source, picture::write_png};

    /// CIFAR-10 in small JPEG files, which are decoded as Pillow does.
    #[test]
    #[ignore = "decodes 60,000 pictures"]
    fn cifar10_is_read_from_its_archive() {
        let Some(folder) = test_data("cifar10") else { return };
        let source = Source::parse(folder.join("cifar10-jpeg.tar.gz").to_str().unwrap()).unwrap();
        let start = std::time::Instant::now();
        let splits = source.load(None).unwrap();
        eprintln!("{} pictures read in {:.1?}", splits.train.len() + splits.test.len(), start.elapsed());
        assert_eq!((splits.train.shape(), splits.test.shape()), ([3, 32, 32], [3, 32, 32]));
        assert_eq!((splits.train.class_counts(), splits.test.class_counts()), (vec![5000; 10], vec![1000; 10]));
        assert_eq!(splits.train.classes(), crate::data::labels::cifar10());
        assert_eq!(source.load_test(None).unwrap(), splits.test);
    }

    #[test]
    fn the_first_bad_picture_is_named_whatever_the_threads_do() {
        let folder = tempfile::tempdir().unwrap();
        let class = folder.path().join("test/a");
        std::fs::create_dir_all(&class).unwrap();
        for number in 0..40 {
            write_png(&class.join(format!("{number:02}.png")), [3, 1, 2], &[number; 6]).unwrap();
        }
        let source = Source::Folder(folder.path().into());
        let test = source.load_test(None).unwrap();
        assert!((0..40).all(|i| test.image(i) == [i as u8; 6]));
        for number in [7, 9, 30] {
            std::fs::write(class.join(format!("{number:02}.png")), "no picture").unwrap();
        }
        for _ in 0..5 {
            let message = source.load_test(None).unwrap_err().to_string();
            assert!(message.ends_with("test/a/07.png: not a PNG, JPEG, BMP or WebP file"), "{message}");
        }
    }

    #[test]
    fn what_does_not_fit_into_memory_is_refused() {
        let file = PictureFile::InMemory("a.png".into(), Vec::new());
        for side in [100_000, usize::MAX] {
            let target = Target::customary([3, side, side]);
            let message = decode("t", &[&file], target).unwrap_err().to_string();
            assert!(message.contains("take more than 16 GiB of memory"), "{message}");
        }
    }
}
