//! Pictures in files of their own, sorted into parts and classes but not decoded yet, and the data sets that they become.
//! They come from a folder (`image_folder.rs`) or from a tar of one (`archive.rs`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;

use unicode_normalization::UnicodeNormalization;

use super::{Part, Sizing, Splits};
use crate::data::picture::{self, Picture, PictureError};
use crate::data::{Dataset, TargetSize, ValSplit};
use crate::{Error, Result};

/// No data set takes more memory, in bytes.
const MAX_MEMORY: u64 = 16 << 30;
/// What systems and programs leave in folders; nobody means it to be a picture or a class.
const SYSTEM_NAMES: [&str; 9] = [
    "@eaDir",
    "__MACOSX",
    "$RECYCLE.BIN",
    "System Volume Information",
    "lost+found",
    "#recycle",
    "Thumbs.db",
    "ehthumbs.db",
    "desktop.ini",
];

/// Whether an entry of that name is passed over: hidden, or a system's own.
pub(super) fn is_passed_over(name: &str) -> bool {
    name.starts_with('.') || SYSTEM_NAMES.iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// The name of a class, composed: a Mac's archives have accents apart from their letters.
pub(super) fn class_name(folder: &str) -> String {
    folder.nfc().collect()
}

/// A picture's file.
#[derive(Debug)]
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
    /// As [`Part::ALL`] has them.
    pub(super) parts: [Option<Classes>; 3],
    /// How the names of files end that are no pictures, and how many there are of each.
    pub(super) passed_over: BTreeMap<String, usize>,
    /// Links in an archive that lead nowhere.
    pub(super) lost_links: usize,
}

/// Pictures of one part with the class of each, not decoded yet.
pub(super) struct Labelled {
    pub(super) part: Part,
    pub(super) classes: Vec<String>,
    pub(super) files: Vec<(PictureFile, u32)>,
    pub(super) notes: Vec<String>,
}

impl PictureSet {
    /// Takes note of a file that is no picture.
    pub(super) fn pass_over(&mut self, name: &Path) {
        let ending = picture::extension(name).map_or("without an ending".to_owned(), |ending| format!(".{ending}"));
        *self.passed_over.entry(ending).or_default() += 1;
    }

    /// Whether a part is there.
    pub(super) fn has(&self, part: Part) -> bool {
        self.part(part).is_some()
    }

    fn part(&self, part: Part) -> Option<&Classes> {
        self.parts[part as usize].as_ref()
    }

    /// What is to be told of the files that were found.
    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if !self.passed_over.is_empty() {
            let count: usize = self.passed_over.values().sum();
            let endings: Vec<String> = self.passed_over.iter().map(|(end, count)| format!("{count} {end}")).collect();
            notes.push(format!("{count} files were not read as pictures: {}", endings.join(", ")));
        }
        if self.lost_links > 0 {
            notes.push(format!("{} links to files that the archive does not hold were not followed", self.lost_links));
        }
        notes
    }

    /// Decodes the training part, and the validation part or else the test part. `origin` is the folder or archive that they
    /// come from.
    ///
    /// # Errors
    /// No training part, classes that do not fit, and all pictures that cannot be used.
    pub(super) fn splits(self, origin: &Path, sizing: Sizing) -> Result<Splits> {
        let Some(train) = self.part(Part::Train) else {
            return Err(Error::file(origin, "expected folders train/<class> with pictures, found none"));
        };
        let classes = class_names(origin, train)?;
        let target = match sizing.target {
            Some(target) => target,
            None => common_target(train, sizing)?,
        };
        let read = |part: Part, pictures: &Classes| {
            let name = format!("{} ({})", origin.display(), part.name());
            dataset(name, &labelled(pictures, &classes), classes.clone(), target)
        };
        let watched = [Part::Val, Part::Test].into_iter().find_map(|part| Some((part, self.part(part)?)));
        if let Some((_, pictures)) = watched {
            check_classes(origin, pictures, &classes)?;
        }
        let mut splits = Splits { train: read(Part::Train, train)?, val: None, test: None };
        self.notes().into_iter().for_each(|note| splits.train.warn(note));
        if let Some((part, pictures)) = watched {
            let place = if part == Part::Val { &mut splits.val } else { &mut splits.test };
            *place = Some(read(part, pictures)?);
        }
        Ok(splits)
    }

    /// The pictures of one part, which are not decoded: of the one that is asked for, else the validation part, else the
    /// test part. The classes are those of the training part, too, where there is one.
    ///
    /// # Errors
    /// A part that is missing, or without pictures.
    pub(super) fn held_out(mut self, origin: &Path, wanted: Option<Part>) -> Result<Labelled> {
        let parts = wanted.map_or(vec![Part::Val, Part::Test], |part| vec![part]);
        let Some(part) = parts.iter().copied().find(|&part| self.part(part).is_some()) else {
            let folders: Vec<String> = parts.iter().map(|part| format!("{}/<class>", part.name())).collect();
            return Err(Error::file(
                origin,
                format!("expected folders {} with pictures, found none", folders.join(" or ")),
            ));
        };
        let notes = self.notes();
        let chosen = self.parts[part as usize].take().unwrap_or_default();
        let mut classes: Vec<String> = match self.part(Part::Train) {
            Some(train) => train.keys().chain(chosen.keys()).cloned().collect(),
            None => class_names(origin, &chosen)?,
        };
        classes.sort();
        classes.dedup();
        let number = |class: &String| classes.iter().position(|known| known == class).unwrap_or(0) as u32;
        let of_class = |(class, pictures): (String, BTreeMap<PathBuf, PictureFile>)| {
            let label = number(&class);
            pictures.into_values().map(move |file| (file, label)).collect::<Vec<_>>()
        };
        let files: Vec<_> = chosen.into_iter().flat_map(of_class).collect();
        if files.is_empty() {
            let folder = part.name();
            return Err(Error::file(origin, format!("no pictures in folders {folder}/<class> ({})", picture::FORMATS)));
        }
        Ok(Labelled { part, classes, files, notes })
    }
}

impl Labelled {
    /// Those of the training pictures that a split holds out for validation, if there are any.
    pub(super) fn chosen_by(self, split: ValSplit, has_test: bool) -> Option<Labelled> {
        let labels: Vec<u32> = self.files.iter().map(|(_, label)| *label).collect();
        let mask = split.mask(&labels, has_test);
        let files = self.files.into_iter().zip(mask).filter_map(|(file, is_in)| is_in.then_some(file));
        let chosen = Labelled { part: Part::Val, files: files.collect(), ..self };
        (!chosen.files.is_empty()).then_some(chosen)
    }
}

/// The names of classes of which each has pictures.
fn class_names(origin: &Path, part: &Classes) -> Result<Vec<String>> {
    if part.is_empty() {
        return Err(Error::file(origin, "expected a folder for each class, such as train/cat"));
    }
    match part.iter().find(|(_, pictures)| pictures.is_empty()) {
        Some((class, _)) => Err(Error::file(origin, format!("no pictures ({}) of class '{class}'", picture::FORMATS))),
        None => Ok(part.keys().cloned().collect()),
    }
}

fn check_classes(origin: &Path, test: &Classes, classes: &[String]) -> Result<()> {
    match test.keys().find(|class| !classes.contains(class)) {
        Some(class) => {
            let problem = format!("class '{class}' is held out, but there is no folder train/{class} to learn it from");
            Err(Error::file(origin, problem))
        }
        None => Ok(()),
    }
}

/// The shape that all pictures have, grey only where all are; else what pictures of several sizes are brought to, or the
/// shape of the first, which the others will not fit.
fn common_target(part: &Classes, sizing: Sizing) -> Result<TargetSize> {
    let mut files = part.values().flat_map(BTreeMap::values);
    let first = files.next().ok_or_else(|| Error::invalid("expected at least one picture"))?;
    let [mut channels, height, width] = first.with_bytes(picture::shape)?;
    let mut as_they_are = height.min(width) <= sizing.largest;
    // What cannot be read is named when it is decoded.
    for [c, h, w] in files.filter_map(|file| file.with_bytes(picture::shape).ok()) {
        channels = channels.max(c);
        as_they_are &= [h, w] == [height, width];
        match sizing.otherwise {
            Some(target) if !as_they_are => return Ok(target),
            // Nothing more can be learned from the others.
            None if channels == 3 => break,
            Some(_) | None => {}
        }
    }
    Ok(TargetSize::exactly([channels, height, width]))
}

fn labelled<'a>(part: &'a Classes, classes: &[String]) -> Vec<(&'a PictureFile, u32)> {
    let of_class = |(label, class): (usize, &String)| part.get(class).map(|pictures| (label as u32, pictures));
    let there = classes.iter().enumerate().filter_map(of_class);
    there.flat_map(|(label, pictures)| pictures.values().map(move |file| (file, label))).collect()
}

impl PictureFile {
    fn with_bytes<T>(&self, work: impl FnOnce(&[u8]) -> Result<T, PictureError>) -> Result<T> {
        match self {
            PictureFile::OnDisk(path) => work(&picture::read_bytes(path)?).map_err(picture::named(path.display())),
            PictureFile::InMemory(name, bytes) => work(bytes).map_err(picture::named(name.display())),
        }
    }

    fn name(&self) -> &Path {
        match self {
            PictureFile::OnDisk(path) | PictureFile::InMemory(path, _) => path,
        }
    }
}

fn dataset(name: String, files: &[(&PictureFile, u32)], classes: Vec<String>, target: TargetSize) -> Result<Dataset> {
    let (images, warnings) = decode(&name, files, target)?;
    let labels = files.iter().map(|(_, label)| *label).collect();
    let mut data = Dataset::new(name, target.shape, images, labels, classes)?;
    warnings.into_iter().for_each(|warning| data.warn(warning));
    Ok(data)
}

/// Decodes pictures on all cores, into one piece of memory; also what is damaged, in the order of the pictures.
fn decode(name: &str, files: &[(&PictureFile, u32)], target: TargetSize) -> Result<(Vec<u8>, Vec<String>)> {
    let mut images = reserve(name, files.len(), target.shape)?;
    let size = (images.len() / files.len().max(1)).max(1);
    let work = Mutex::new(images.chunks_exact_mut(size).zip(files).enumerate());
    let problems: Mutex<BTreeMap<usize, Error>> = Mutex::default();
    let warnings: Mutex<BTreeMap<usize, String>> = Mutex::default();
    let next = || work.lock().ok()?.next();
    let worker = || {
        while let Some((index, (planes, (file, _)))) = next() {
            match file.with_bytes(|bytes| picture::decode(bytes, target)) {
                Ok(Picture { planes: decoded, warnings: found }) => {
                    planes.copy_from_slice(&decoded);
                    if let (false, Ok(mut warnings)) = (found.is_empty(), warnings.lock()) {
                        warnings.insert(index, format!("{}: damaged: {}", file.name().display(), found.join("; ")));
                    }
                }
                Err(error) => {
                    if let Ok(mut problems) = problems.lock() {
                        problems.insert(index, error);
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
    let (Ok(problems), Ok(warnings)) = (problems.into_inner(), warnings.into_inner()) else {
        return Err(Error::invalid(format!("data set '{name}': a thread that decodes pictures broke off")));
    };
    Error::of_pictures(problems.into_values().collect())?;
    Ok((images, warnings.into_values().collect()))
}

/// Memory for so many pictures.
fn reserve(name: &str, count: usize, shape: [usize; 3]) -> Result<Vec<u8>> {
    let [channels, height, width] = shape;
    let total = [height, width, count].iter().try_fold(channels, |product, &n| product.checked_mul(n));
    let total = total.filter(|&total| total as u64 <= MAX_MEMORY).ok_or_else(|| {
        Error::invalid(format!(
            "data set '{name}': {count} pictures of {channels}x{height}x{width} take more than {} GiB of memory",
            MAX_MEMORY >> 30
        ))
    })?;
    let mut images = Vec::new();
    let reserved = images.try_reserve_exact(total);
    reserved.map_err(|_| Error::invalid(format!("data set '{name}': not enough memory for {total} bytes")))?;
    images.resize(total, 0);
    Ok(images)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::test_data;
    use crate::data::{Sizing, Source, Splits, picture::write_png};

    /// CIFAR-10 in small JPEG files, which are decoded as Pillow does.
    #[test]
    #[ignore = "decodes 60,000 pictures"]
    fn cifar10_is_read_from_its_archive() {
        let Some(folder) = test_data("cifar10") else { return };
        let source = Source::parse(folder.join("cifar10-jpeg.tar.gz").to_str().unwrap()).unwrap();
        let start = std::time::Instant::now();
        let Splits { train, test, .. } = source.load(Sizing::default()).unwrap();
        let test = test.unwrap();
        eprintln!("{} pictures read in {:.1?}", train.len() + test.len(), start.elapsed());
        assert_eq!((train.shape(), test.shape()), ([3, 32, 32], [3, 32, 32]));
        assert_eq!((train.class_counts(), test.class_counts()), (vec![5000; 10], vec![1000; 10]));
        assert_eq!(train.classes(), crate::data::labels::cifar10());
    }

    #[test]
    fn every_bad_picture_is_named_whatever_the_threads_do() {
        let folder = tempfile::tempdir().unwrap();
        let class = folder.path().join("a");
        std::fs::create_dir_all(&class).unwrap();
        for number in 0..40 {
            write_png(&class.join(format!("{number:02}.png")), [3, 1, 2], &[number; 6]).unwrap();
        }
        let source = Source::Folder(folder.path().into());
        let train = source.load(Sizing::default()).unwrap().train;
        assert!((0..40).all(|i| train.image(i) == [i as u8; 6]));
        for number in [7, 9, 30] {
            std::fs::write(class.join(format!("{number:02}.png")), "no picture").unwrap();
        }
        for _ in 0..5 {
            let message = source.load(Sizing::default()).unwrap_err().to_string();
            let lines: Vec<&str> = message.lines().collect();
            assert_eq!((lines[0], lines.len()), ("3 pictures cannot be used:", 4));
            for (line, number) in lines[1..].iter().zip(["07", "09", "30"]) {
                let expected = format!("a/{number}.png: not a PNG, JPEG, WebP, GIF, TIFF or BMP file");
                assert!(line.ends_with(&expected), "{line}");
            }
        }
    }

    #[test]
    fn what_does_not_fit_into_memory_is_refused() {
        let file = PictureFile::InMemory("a.png".into(), Vec::new());
        for side in [100_000, usize::MAX] {
            let target = TargetSize::customary([3, side, side]);
            let message = decode("t", &[(&file, 0)], target).unwrap_err().to_string();
            assert!(message.contains("take more than 16 GiB of memory"), "{message}");
        }
    }
}
