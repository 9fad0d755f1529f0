//! What names a data set: a built-in set, a downloaded one in the cache folder, a folder of IDX files, of pictures or of
//! CIFAR's binary files, an archive or shards of pictures, or a list of them.

mod archive;
mod check;
mod cifar;
mod found;
mod idx_folder;
mod image_folder;
mod index;
mod list;
mod memory;
mod pack;
mod picture_set;
mod shards;
mod zipped;

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use self::check::{Check, PartCheck, Same};
use self::cifar::Cifar;
use self::list::Absent;
pub use self::pack::{Packed, Packing};
pub(super) use self::picture_set::each;
use self::picture_set::{Labelled, PictureSet};
pub use self::picture_set::{LeftOut, Unusable};
#[cfg(feature = "download")]
use super::download::{self, Progress};
use super::stored::{Files, Item};
use super::{Dataset, Splits, TargetSize, ValSplit, digits};
use crate::predictor::Input;
use crate::suggest::nearest;
use crate::{Error, Result};

/// A part of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// What a net learns from.
    Train,
    /// What steers its training: which epoch is the best.
    Val,
    /// What it is judged on in the end.
    Test,
}

impl Part {
    /// Every part.
    pub const ALL: [Part; 3] = [Part::Train, Part::Val, Part::Test];

    /// What it is called: `train`, `val` or `test`.
    pub fn name(self) -> &'static str {
        self.spellings()[0]
    }

    /// What its folder may be called, in small letters or large ones.
    fn spellings(self) -> &'static [&'static str] {
        match self {
            Part::Train => &["train", "training"],
            Part::Val => &["val", "valid", "validation"],
            Part::Test => &["test", "testing"],
        }
    }

    /// The part whose folder is called so.
    fn named(folder: &str) -> Option<Part> {
        let is_called = |part: &Part| part.spellings().iter().any(|name| name.eq_ignore_ascii_case(folder));
        Part::ALL.into_iter().find(is_called)
    }
}

impl std::str::FromStr for Part {
    type Err = String;

    fn from_str(text: &str) -> Result<Part, String> {
        Part::named(text).ok_or_else(|| "expected train, val or test".to_owned())
    }
}

/// Pictures whose classes are known, to measure a net with. Those in files of their own are read one after the other.
#[derive(Debug)]
pub struct HeldOut {
    part: Option<Part>,
    split: Option<[usize; 2]>,
    classes: Vec<String>,
    notes: Vec<String>,
    pictures: Pictures,
}

#[derive(Debug)]
enum Pictures {
    Files(Arc<Files>, Vec<(Item, u32)>),
    Memory(Box<Dataset>),
}

impl HeldOut {
    fn of_memory(part: Part, data: Dataset) -> HeldOut {
        let (classes, notes) = (data.classes().to_vec(), data.warnings().to_vec());
        HeldOut { part: Some(part), split: None, classes, notes, pictures: Pictures::Memory(Box::new(data)) }
    }

    /// The part that they are, where the set has parts.
    pub fn part(&self) -> Option<Part> {
        self.part
    }

    /// Where a run's split has chosen them: how many pictures it leaves to train on, and how many it holds out.
    pub fn split(&self) -> Option<[usize; 2]> {
        self.split
    }

    /// What each class is called.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// What is to be told of the files that were found.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Number of pictures.
    pub fn len(&self) -> usize {
        match &self.pictures {
            Pictures::Files(_, items) => items.len(),
            Pictures::Memory(data) => data.len(),
        }
    }

    /// Whether there are no pictures.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The pictures for a [`crate::predictor::Predictor`], each with its class.
    pub fn into_inputs(self) -> Box<dyn Iterator<Item = (Input, u32)>> {
        match self.pictures {
            Pictures::Files(files, items) => Box::new(items.into_iter().map(move |(item, label)| {
                let input = files.path(item).map(Input::path);
                (input.unwrap_or_else(|| Input::stored(Arc::clone(&files), item)), label)
            })),
            Pictures::Memory(data) => Box::new((0..data.len()).map(move |index| {
                let planes = data.image(index).map(std::borrow::Cow::into_owned).unwrap_or_default();
                (Input::planes(data.shape(), planes).named(data.image_name(index)), data.labels()[index])
            })),
        }
    }
}

impl From<Labelled> for HeldOut {
    fn from(Labelled { part, classes, items, files, notes }: Labelled) -> HeldOut {
        HeldOut { part: Some(part), split: None, classes, notes, pictures: Pictures::Files(files, items) }
    }
}

/// What the pictures of files are brought to as they are read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sizing {
    /// What all are brought to; without it they stay as they are.
    pub target: Option<TargetSize>,
    /// What they are brought to where there is no target and they are of several sizes or larger than `largest`. Without it
    /// pictures of several sizes are an error.
    pub otherwise: Option<TargetSize>,
    /// Pictures of one size stay as they are up to so many pixels on their shorter side.
    pub largest: usize,
    /// Whether the training pictures are wanted at their own size, for an augmentation that takes any
    /// ([`Augmentation::takes_any_size`](super::augment::Augmentation::takes_any_size)).
    pub whole: bool,
    /// Bytes of decoded pictures of files that may be kept in memory. A part is decoded as it is read where all of it fits, at its
    /// own size if that is wanted and else at the target's; of parts that do not fit, pictures are decoded each time that they
    /// are wanted. Batches are the same.
    pub memory: u64,
}

impl Sizing {
    /// Memory for decoded pictures where nothing is said: 256 MiB.
    pub const MEMORY: u64 = 256 << 20;
}

impl Default for Sizing {
    /// Pictures as they are, which must be of one size.
    fn default() -> Sizing {
        Sizing { target: None, otherwise: None, largest: usize::MAX, whole: false, memory: Sizing::MEMORY }
    }
}

impl Sizing {
    /// All pictures are brought to this.
    pub fn to(target: TargetSize) -> Sizing {
        Sizing { target: Some(target), ..Sizing::default() }
    }
}

/// Where a data set comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// The built-in handwritten-looking digits.
    Digits,
    /// MNIST in the cache folder.
    Mnist,
    /// A folder: with pictures in `train/<class>/` and `val/<class>/` or `test/<class>/`, or in `<class>/` alone, with CIFAR-10 or CIFAR-100 in its binary form, or with the four files of MNIST or of a set in its form.
    Folder(PathBuf),
    /// A tar, gzipped or not, or a zip of a folder with pictures; or a tar that is a shard in WebDataset's form.
    Archive(PathBuf),
    /// Shards in WebDataset's form: their paths, with braces such as `photos-{000000..000146}.tar`.
    Shards(PathBuf),
    /// A CSV or text file with a line for each picture: `path,label`, perhaps with its part.
    List(PathBuf),
}

impl Source {
    /// The names that are not folders.
    pub const NAMES: [&str; 2] = ["digits", "mnist"];

    /// What `--data value` means: one of [`Source::NAMES`], else a folder (`./mnist` is the folder of that name) or an
    /// archive.
    ///
    /// # Errors
    /// None of them; the message has a suggestion when a name is near.
    pub fn parse(value: &str) -> Result<Source> {
        let path = Path::new(value);
        match value {
            "digits" => Ok(Source::Digits),
            "mnist" => Ok(Source::Mnist),
            _ if path.is_dir() => Ok(Source::Folder(path.into())),
            _ if path.is_file() && archive::is_archive(path) => Ok(Source::Archive(path.into())),
            _ if path.is_file() && archive::other_archive(path).is_some() => {
                let kind = archive::other_archive(path).unwrap_or_default();
                let problem = format!("{kind} archives are not read: unpack it (unzip, or tar) and name the folder");
                Err(Error::file(path, problem))
            }
            _ if path.is_file() && list::is_list(path) => Ok(Source::List(path.into())),
            _ if path.exists() => {
                let expected =
                    "expected a folder, a .tar, .tar.gz, .tgz or .zip of pictures, or a list of them as .csv or .txt";
                Err(Error::file(path, expected))
            }
            _ if shards::expand(value).is_some() => Ok(Source::Shards(path.into())),
            _ => Err(unknown(value)),
        }
    }

    /// Whether its pictures are files of their own, which are brought to any size.
    pub fn has_files(&self) -> bool {
        match self {
            Source::Digits | Source::Mnist => false,
            Source::Folder(folder) => {
                let folder = &image_folder::inner(folder);
                let has_classes = image_folder::has_parts(folder) || image_folder::has_classes(folder);
                has_classes || !image_folder::shards(folder).is_empty()
            }
            Source::Archive(_) | Source::Shards(_) | Source::List(_) => true,
        }
    }

    /// The folder, the archive or the list that it was given as, or the pattern of its shards.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Source::Digits | Source::Mnist => None,
            Source::Folder(path) | Source::Archive(path) | Source::Shards(path) | Source::List(path) => Some(path),
        }
    }

    /// Reads it, or draws it: its training part, and its validation part or else its test part. Folders of classes
    /// alone are a training part.
    ///
    /// # Errors
    /// Files that are missing, damaged or do not fit together, each named.
    pub fn load(&self, sizing: Sizing) -> Result<Splits> {
        self.load_with(sizing, Unusable::Refused)
    }

    /// The same, with something else done about pictures in files that cannot be used.
    ///
    /// # Errors
    /// As [`Source::load`]; no picture that can be used; known ones that are not there.
    pub fn load_with(&self, sizing: Sizing, unusable: Unusable<'_>) -> Result<Splits> {
        let Splits { train, val, test } = self.read(sizing, unusable)?;
        let fitted = |data: Dataset| match sizing.target {
            Some(target) => data.fitted(target),
            None => Ok(data),
        };
        Ok(Splits { train: fitted(train)?, val: val.map(fitted).transpose()?, test: test.map(fitted).transpose()? })
    }

    /// Reads it; pictures of sets that are not files of their own are as they are.
    fn read(&self, sizing: Sizing, unusable: Unusable<'_>) -> Result<Splits> {
        let absent = match unusable {
            Unusable::Refused => Absent::Refused,
            Unusable::LeftOut | Unusable::Known(_) => Absent::Kept,
        };
        if let Some(set) = self.listed(&Part::ALL, absent)? {
            return set.splits(self.origin(), sizing, unusable);
        }
        match self {
            Source::Digits => digits::splits(digits::SEED, digits::TRAIN, digits::VAL),
            Source::Mnist => idx_folder::read(&cache_folder()?.join("mnist"), "mnist").map_err(redownload),
            Source::Folder(path) | Source::Archive(path) | Source::Shards(path) | Source::List(path) => {
                match Cifar::find(path)? {
                    Some(cifar) => cifar.splits(),
                    None if image_folder::has_pictures(path) => {
                        let problem =
                            "pictures, but no folder for each class: expected <class>/*.jpg, or train/<class>/*.jpg";
                        Err(Error::file(path, problem))
                    }
                    None => idx_folder::read(path, &path.display().to_string()),
                }
            }
        }
    }

    /// The pictures in files of their own, not decoded yet, those of an archive with the contents of these parts alone; nothing for
    /// sets of other forms. Folders of classes alone are a training part. They come from [`Source::origin`].
    fn listed(&self, keep: &[Part], absent: Absent) -> Result<Option<PictureSet>> {
        Ok(match self {
            Source::Archive(path) => Some(archive::read(path, keep)?),
            Source::List(path) => Some(list::read(path, absent)?),
            Source::Shards(path) => Some(shard_index(&shard_paths(path)?)?),
            Source::Folder(folder) => {
                let inner = image_folder::inner(folder);
                if image_folder::has_parts(&inner) {
                    return image_folder::list(&inner).map(Some);
                }
                if image_folder::has_classes(&inner) {
                    return image_folder::list_classes(&inner, Part::Train).map(Some);
                }
                let paths = image_folder::shards(folder);
                match paths.is_empty() || Cifar::find(folder)?.is_some() {
                    true => None,
                    false => Some(shard_index(&paths)?),
                }
            }
            Source::Digits | Source::Mnist => None,
        })
    }

    /// The folder, the archive or the list of a set of files, for messages.
    fn origin(&self) -> &Path {
        self.path().unwrap_or(Path::new(""))
    }

    /// Finds the pictures of a part to measure a net with: of the one that is asked for, else the validation part, else
    /// the test part; or all of a folder whose folders are classes. `split` is that of a run on these data: the pictures that it
    /// held out are the validation part then, and the others the training part. Pictures in files of their own are not decoded yet.
    ///
    /// # Errors
    /// Files that are missing or damaged, a part that is not there, or classes that do not fit together.
    pub fn held_out(&self, part: Option<Part>, split: Option<ValSplit>) -> Result<HeldOut> {
        self.held_out_without(part, split, &[])
    }

    /// The same without pictures that a run has left out of the set.
    ///
    /// # Errors
    /// As [`Source::held_out`], and pictures that are not there.
    pub fn held_out_without(
        &self,
        part: Option<Part>,
        split: Option<ValSplit>,
        left_out: &[LeftOut],
    ) -> Result<HeldOut> {
        let keep = part.map_or(vec![Part::Val, Part::Test], |part| vec![part]);
        let absent = if left_out.is_empty() { Absent::Refused } else { Absent::Kept };
        let Some(set) = self.listed(&keep, absent)? else {
            return self.held_out_in_memory(part, split);
        };
        let (origin, has_test) = (self.origin(), set.has(Part::Test));
        let split = split.filter(|split| !set.has(Part::Val) && split.takes_some(has_test));
        // What a split chooses from is the training part, of which an archive may not have been read.
        if let (Some(split), None | Some(Part::Val | Part::Train)) = (split, part) {
            let train = match set.classes_alone || keep == [Part::Train] {
                true => set,
                false => match self.listed(&[Part::Train], absent)? {
                    Some(set) => set,
                    None => return self.held_out_in_memory(part, Some(split)),
                },
            };
            let train = train.held_out(origin, Some(Part::Train), left_out)?;
            let part = part.unwrap_or(Part::Val);
            return Ok(match train.chosen_by(split, has_test, part) {
                Some((items, counts)) => {
                    HeldOut { split: Some(counts), ..HeldOut::from(Labelled { part, items, ..train }) }
                }
                None => HeldOut::from(train),
            });
        }
        if set.classes_alone {
            let named = origin.file_name().and_then(|name| Part::named(name.to_str()?));
            if let Some(wanted) = part.filter(|&wanted| wanted != named.unwrap_or(Part::Train)) {
                let problem = format!("expected a part {}, found folders of classes alone", wanted.name());
                return Err(Error::file(origin, problem));
            }
            return Ok(HeldOut { part: named, ..HeldOut::from(set.held_out(origin, Some(Part::Train), left_out)?) });
        }
        Ok(HeldOut::from(set.held_out(origin, part, left_out)?))
    }

    /// The same of a set that is read whole. These have parts of their own, so a share of the training part is held out only
    /// where somebody has said how much.
    fn held_out_in_memory(&self, part: Option<Part>, split: Option<ValSplit>) -> Result<HeldOut> {
        let split = split.filter(|split| split.share.is_some_and(|share| share > 0.0) && part != Some(Part::Test));
        if let (Source::Folder(folder), None, Some(Part::Test) | None) = (self, split, part)
            && let Some(cifar) = Cifar::find(folder)?
        {
            return Ok(HeldOut::of_memory(Part::Test, cifar.test()?));
        }
        let mut splits = self.load(Sizing::default())?;
        if let Some(split) = split {
            splits = splits.hold_out(split);
        }
        let parts = [(Part::Val, splits.val), (Part::Test, splits.test), (Part::Train, Some(splits.train))];
        let mut there = parts.into_iter().filter_map(|(part, data)| Some((part, data?)));
        let found = match part {
            Some(wanted) => there.find(|(part, _)| *part == wanted),
            None => there.next(),
        };
        let (part, data) =
            found.ok_or_else(|| Error::invalid(format!("the data have no part {}", part.map_or("val", Part::name))))?;
        Ok(HeldOut::of_memory(part, data))
    }

    /// Fetches what can be fetched, unless it is there already, and reports on the way.
    ///
    /// # Errors
    /// Nothing to be fetched for such a source, no network, a wrong checksum, or a disk that does not take it.
    #[cfg(feature = "download")]
    pub fn download(&self, progress: &mut dyn FnMut(Progress)) -> Result<()> {
        match self {
            Source::Digits => Ok(()),
            Source::Mnist => download::mnist(&cache_folder()?.join("mnist"), progress),
            Source::Folder(path) | Source::Archive(path) | Source::Shards(path) | Source::List(path) => {
                Err(Error::invalid(format!(
                    "nothing can be downloaded into '{}': only the data set 'mnist' can be",
                    path.display()
                )))
            }
        }
    }
}

/// Where the pictures of shards lie.
fn shard_index(paths: &[PathBuf]) -> Result<PictureSet> {
    index::cached(cache_folder().ok(), paths, || shards::index(paths))
}

/// The shards that a pattern stands for, all of which must be there.
fn shard_paths(pattern: &Path) -> Result<Vec<PathBuf>> {
    let paths: Vec<PathBuf> =
        pattern.to_str().and_then(shards::expand).unwrap_or_default().into_iter().map(PathBuf::from).collect();
    let missing: Vec<&PathBuf> = paths.iter().filter(|path| !path.is_file()).collect();
    match missing.first() {
        Some(first) => {
            let (count, all) = (missing.len(), paths.len());
            Err(Error::file(pattern, format!("shards missing: {count} of {all}, the first is {}", first.display())))
        }
        None => Ok(paths),
    }
}

/// The pictures in a folder and in those below it, sorted by name; also those in formats that are not read.
///
/// # Errors
/// What cannot be read, folders that are nested too deep, and a folder without a picture.
pub fn pictures_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let found = image_folder::pictures(folder)?;
    match found.is_empty() {
        true => Err(Error::file(folder, format!("no pictures ({}) in this folder", super::picture::FORMATS))),
        false => Ok(found),
    }
}

fn unknown(value: &str) -> Error {
    let path = Path::new(value);
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let folders: Vec<String> = entries(parent.unwrap_or(Path::new(".")), Path::is_dir);
    let names = if parent.is_none() { &Source::NAMES[..] } else { &[] };
    let known = names.iter().copied().chain(folders.iter().map(String::as_str));
    let hint = match path.file_name().and_then(|name| nearest(name.to_str()?, known)) {
        Some(name) => format!(": did you mean '{}'?", path.with_file_name(name).display()),
        None => ".".into(),
    };
    Error::invalid(format!(
        "no data set or folder '{value}'{hint} Expected {}, a folder with pictures in <class>, or in train/<class> and \
         val/<class>, a tar or zip of one, shards such as photos-{{000..146}}.tar, a list as .csv or .txt, or a folder with CIFAR's \
         binary files or with the IDX files {}",
        Source::NAMES.join(", "),
        idx_folder::file_names().join(", "),
    ))
}

/// Says what can be done about a file of the cache folder, or that MNIST is not there.
fn redownload(error: Error) -> Error {
    match error {
        Error::File { path, problem } if path.is_file() => {
            Error::file(path, format!("{problem}. Delete it to download it again"))
        }
        Error::File { path: folder, problem } => Error::NotDownloaded { set: "mnist", folder, problem },
        other => other,
    }
}

/// The folder for downloads: `$CONVNET_HOME`, else `$XDG_CACHE_HOME/convnet`, else `~/.cache/convnet`.
///
/// # Errors
/// None of them is known.
pub fn cache_folder() -> Result<PathBuf> {
    cache_folder_from(|name| env::var_os(name), env::home_dir())
}

fn cache_folder_from(var: impl Fn(&str) -> Option<OsString>, home: Option<PathBuf>) -> Result<PathBuf> {
    let folder = |name| var(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    // A relative XDG path is to be ignored, says the XDG specification.
    let xdg = || folder("XDG_CACHE_HOME").filter(|path| path.is_absolute()).map(|path| path.join("convnet"));
    let home = || home.filter(|path| !path.as_os_str().is_empty()).map(|path| path.join(".cache/convnet"));
    folder("CONVNET_HOME").or_else(xdg).or_else(home).ok_or_else(|| {
        Error::invalid("no folder for downloads is known: set CONVNET_HOME (or XDG_CACHE_HOME, or HOME) to one")
    })
}

/// Names of those entries of a folder whose path is `wanted`; none where it cannot be read.
fn entries(folder: &Path, wanted: impl Fn(&Path) -> bool) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().filter(|entry| wanted(&entry.path()));
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_folders_are_told_apart() {
        assert_eq!(Source::parse("digits").unwrap(), Source::Digits);
        assert_eq!(Source::parse("mnist").unwrap(), Source::Mnist);
        let message = Source::parse("mnits").unwrap_err().to_string();
        assert!(message.contains("no data set or folder 'mnits': did you mean 'mnist'?"), "{message}");
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("fashion")).unwrap();
        let typo = folder.path().join("fasion");
        let message = Source::parse(typo.to_str().unwrap()).unwrap_err().to_string();
        assert!(message.contains("fashion'?"), "{message}");
        let message = Source::parse(folder.path().join("other").to_str().unwrap()).unwrap_err().to_string();
        assert!(!message.contains("did you mean"), "{message}");
        fs::write(folder.path().join("file"), "").unwrap();
        assert!(Source::parse(folder.path().join("file").to_str().unwrap()).is_err());
    }

    #[test]
    #[cfg(feature = "download")]
    fn only_mnist_is_downloaded() {
        let folder = Source::Folder("photos".into());
        let message = folder.download(&mut |_| ()).unwrap_err().to_string();
        assert!(message.contains("only the data set 'mnist'"), "{message}");
    }

    #[test]
    fn the_cache_folder_follows_the_environment() {
        let at = |home: &str, xdg: &str| {
            let var = |name: &str| Some(OsString::from(if name == "CONVNET_HOME" { home } else { xdg }));
            cache_folder_from(var, Some("/home/me".into())).unwrap()
        };
        assert_eq!(at("/data", "/xdg"), Path::new("/data"));
        assert_eq!(at("", "/xdg"), Path::new("/xdg/convnet"));
        assert_eq!(at("", "relative"), Path::new("/home/me/.cache/convnet"));
        assert!(cache_folder_from(|_| None, None).unwrap_err().to_string().contains("CONVNET_HOME"));
    }
}
