//! What `--data` names: a built-in set, a downloaded one in the cache folder, or a folder of IDX files.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use super::download::{self, Progress};
use super::{Dataset, Splits, digits, idx};
use crate::suggest::nearest;
use crate::{Error, Result};

/// A file with the names of the classes, one a line, that may lie beside IDX files; without it they are "0" to "9".
const CLASSES_FILE: &str = "classes.txt";
const CLASSES_FILE_MAX: u64 = 64 << 10;
const PARTS: [&str; 2] = ["train", "t10k"];

/// Where a data set comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// The built-in handwritten-looking digits.
    Digits,
    /// MNIST in the cache folder.
    Mnist,
    /// A folder with the four files of MNIST or of a set in its form.
    Folder(PathBuf),
}

impl Source {
    /// The names that are not folders.
    pub const NAMES: [&str; 2] = ["digits", "mnist"];

    /// What `--data value` means: one of [`Source::NAMES`], else a folder (`./mnist` is the folder of that name).
    ///
    /// # Errors
    /// Neither; the message has a suggestion when a name is near.
    pub fn parse(value: &str) -> Result<Source> {
        match value {
            "digits" => Ok(Source::Digits),
            "mnist" => Ok(Source::Mnist),
            folder if Path::new(folder).is_dir() => Ok(Source::Folder(folder.into())),
            file if Path::new(file).exists() => Err(Error::file(file, "expected a folder with IDX files")),
            other => Err(unknown(other)),
        }
    }

    /// Reads it, or draws it.
    ///
    /// # Errors
    /// Files that are missing, damaged or do not fit together, each named.
    pub fn load(&self) -> Result<Splits> {
        match self {
            Source::Digits => digits::splits(digits::SEED, digits::TRAIN, digits::TEST),
            Source::Folder(folder) => read_folder(folder, &folder.display().to_string()),
            Source::Mnist => read_folder(&cache_folder()?.join("mnist"), "mnist").map_err(redownload),
        }
    }

    /// Fetches what can be fetched, unless it is there already, and reports on the way.
    ///
    /// # Errors
    /// Nothing to be fetched for such a source, no network, a wrong checksum, or a disk that does not take it.
    pub fn download(&self, progress: &mut dyn FnMut(Progress)) -> Result<()> {
        match self {
            Source::Digits => Ok(()),
            Source::Mnist => download::mnist(&cache_folder()?.join("mnist"), progress),
            Source::Folder(folder) => Err(Error::invalid(format!(
                "nothing can be downloaded into the folder '{}': --download goes with --data mnist",
                folder.display()
            ))),
        }
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
        "no data set or folder '{value}'{hint} Expected {} or a folder with the IDX files {}",
        Source::NAMES.join(", "),
        file_names().join(", "),
    ))
}

/// Adds what can be done about a file of the cache folder.
fn redownload(error: Error) -> Error {
    match error {
        Error::File { path, problem } if path.is_file() => {
            Error::file(path, format!("{problem}. Delete it and run again with --download to fetch it anew"))
        }
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

/// The four files under their standard names, without `.gz`.
fn file_names() -> Vec<String> {
    PARTS.iter().flat_map(|part| [format!("{part}-images-idx3-ubyte"), format!("{part}-labels-idx1-ubyte")]).collect()
}

/// Reads the four files in `folder`.
fn read_folder(folder: &Path, name: &str) -> Result<Splits> {
    let names = file_names();
    let found: Vec<_> = names.iter().map(|name| find(folder, name)).collect();
    let (Some(train_images), Some(train_labels), Some(test_images), Some(test_labels)) =
        (&found[0], &found[1], &found[2], &found[3])
    else {
        let absent = names.into_iter().zip(&found).filter(|(_, found)| found.is_none());
        return Err(missing(folder, &absent.map(|(name, _)| name).collect::<Vec<_>>()));
    };
    let classes = read_classes(folder)?;
    let train = read_pair(&format!("{name} (train)"), train_images, train_labels, &classes)?;
    let test = read_pair(&format!("{name} (test)"), test_images, test_labels, &classes)?;
    if train.shape() != test.shape() {
        let size = |data: &Dataset| format!("{}x{}", data.shape()[1], data.shape()[2]);
        let problem = format!("pictures of {}, but the training pictures are {}", size(&test), size(&train));
        return Err(Error::file(test_images, problem));
    }
    Ok(Splits { train, test })
}

/// The file called `name` in one of its spellings.
fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    spellings(name).into_iter().map(|file| folder.join(file)).find(|path| path.is_file())
}

/// The spellings that are about: `-idx3-` or `.idx3-`, plain or `.gz`.
fn spellings(name: &str) -> [String; 4] {
    let dotted = name.replace("-idx", ".idx");
    [name.into(), format!("{name}.gz"), dotted.clone(), format!("{dotted}.gz")]
}

/// `names` are not in `folder`; perhaps a file there is nearly called so.
fn missing(folder: &Path, names: &[String]) -> Error {
    let known: Vec<String> = file_names().iter().flat_map(|name| spellings(name)).collect();
    let others = entries(folder, |path| path.is_file());
    let others = || others.iter().filter(|file| !known.contains(file)).map(String::as_str);
    let mistyped = |name: &String| {
        let spellings = spellings(name);
        spellings.iter().find_map(|spelling| nearest(spelling, others()).map(|file| (file, spelling.clone())))
    };
    let hint = match names.iter().find_map(mistyped) {
        Some((file, name)) => format!("; is '{file}' meant to be '{name}'?"),
        None => String::new(),
    };
    let problem = format!(
        "missing {} (or the same with .gz){hint}. Put the files into this folder; for MNIST, --data mnist --download \
         fetches them into the cache folder",
        names.join(", ")
    );
    Error::file(folder, problem)
}

fn read_pair(name: &str, images_path: &Path, labels_path: &Path, classes: &[String]) -> Result<Dataset> {
    let images = idx::read_images(images_path)?;
    let labels = idx::read_labels(labels_path)?;
    if images.count != labels.len() {
        let problem = format!("{} labels, but {} has {} pictures", labels.len(), images_path.display(), images.count);
        return Err(Error::file(labels_path, problem));
    }
    let labels = labels.into_iter().map(u32::from).collect();
    Dataset::new(name, [1, images.height, images.width], images.pixels, labels, classes.to_vec())
        .map_err(|error| Error::file(labels_path, format!("{error} (a file {CLASSES_FILE} beside it can name more)")))
}

fn read_classes(folder: &Path) -> Result<Vec<String>> {
    let path = folder.join(CLASSES_FILE);
    let size = match fs::metadata(&path) {
        Ok(meta) => meta.len(),
        Err(_) => return Ok(digits::classes()),
    };
    if size > CLASSES_FILE_MAX {
        return Err(Error::file(path, format!("{size} bytes; expected class names, one a line")));
    }
    let text = fs::read_to_string(&path).map_err(Error::io("reading", &path))?;
    let classes: Vec<String> = text.lines().map(|line| line.trim().to_string()).collect();
    if classes.is_empty() || classes.len() > 256 || classes.iter().any(String::is_empty) {
        return Err(Error::file(path, "expected 1 to 256 class names, one a line, without empty lines"));
    }
    Ok(classes)
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
    use super::super::test_data;
    use super::*;

    fn write_split(folder: &Path, part: &str, images: &[u8], labels: &[u8]) {
        fs::write(folder.join(format!("{part}-images-idx3-ubyte")), images).unwrap();
        fs::write(folder.join(format!("{part}-labels.idx1-ubyte")), labels).unwrap();
    }

    const TWO_IMAGES: &[u8] = &[0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2, 1, 2, 3, 4];
    const ONE_IMAGE: &[u8] = &[0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 2, 1, 2, 3, 4];

    fn labels(labels: [u8; 2]) -> [u8; 10] {
        [0, 0, 8, 1, 0, 0, 0, 2, labels[0], labels[1]]
    }

    fn folder(test_images: &[u8], test_labels: &[u8]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        write_split(folder.path(), "train", TWO_IMAGES, &labels([9, 0]));
        write_split(folder.path(), "t10k", test_images, test_labels);
        folder
    }

    fn problem(folder: &tempfile::TempDir) -> String {
        Source::parse(folder.path().to_str().unwrap()).unwrap().load().unwrap_err().to_string()
    }

    #[test]
    fn a_folder_is_read_under_any_spelling() {
        let folder = folder(TWO_IMAGES, &labels([1, 2]));
        let splits = Source::Folder(folder.path().into()).load().unwrap();
        assert_eq!(
            (splits.train.shape(), splits.train.labels(), splits.test.labels()),
            ([1, 1, 2], &[9, 0][..], &[1, 2][..])
        );
        assert_eq!(splits.test.image(1), [3, 4]);
        fs::write(folder.path().join(CLASSES_FILE), (0..12).map(|i| format!("class {i}\n")).collect::<String>())
            .unwrap();
        fs::write(folder.path().join("t10k-labels.idx1-ubyte"), labels([11, 0])).unwrap();
        let splits = Source::Folder(folder.path().into()).load().unwrap();
        assert_eq!(splits.test.classes()[11], "class 11");
        fs::write(folder.path().join(CLASSES_FILE), "a\n\nb\n").unwrap();
        assert!(problem(&folder).contains("without empty lines"));
    }

    #[test]
    fn files_that_do_not_fit_together_are_named() {
        let message = problem(&folder(TWO_IMAGES, &labels([1, 10])));
        assert!(
            message.contains("t10k-labels") && message.contains("label 10 of picture 1 is out of range"),
            "{message}"
        );
        let message = problem(&folder(ONE_IMAGE, &labels([1, 2])));
        assert!(message.contains("2 labels, but") && message.contains("has 1 pictures"), "{message}");
        let message = problem(&folder(ONE_IMAGE, &[0, 0, 8, 1, 0, 0, 0, 1, 4]));
        assert!(message.contains("pictures of 2x2, but the training pictures are 1x2"), "{message}");
        let swapped = folder(&labels([1, 2]), TWO_IMAGES);
        assert!(redownload(read_folder(swapped.path(), "mnist").unwrap_err()).to_string().contains("with --download"));
        let message = problem(&swapped);
        assert!(message.contains("t10k-images") && message.contains("swapped?"), "{message}");
    }

    #[test]
    fn missing_files_are_listed_with_a_guess() {
        let folder = folder(TWO_IMAGES, &labels([1, 2]));
        fs::rename(folder.path().join("t10k-images-idx3-ubyte"), folder.path().join("t10k-image-idx3-ubyte")).unwrap();
        let message = problem(&folder);
        assert!(message.contains("missing t10k-images-idx3-ubyte (or the same with .gz)"), "{message}");
        assert!(message.contains("is 't10k-image-idx3-ubyte' meant to be 't10k-images-idx3-ubyte'?"), "{message}");
        fs::remove_file(folder.path().join("t10k-image-idx3-ubyte")).unwrap();
        let message = problem(&folder);
        assert!(!message.contains("meant to be"), "the files that are there are themselves: {message}");
        let message = problem(&tempfile::tempdir().unwrap());
        assert!(message.contains("t10k-labels-idx1-ubyte") && message.contains("--download"), "{message}");
    }

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
        let message = Source::Folder(typo).download(&mut |_| ()).unwrap_err().to_string();
        assert!(message.contains("--data mnist"), "{message}");
        fs::write(folder.path().join("file"), "").unwrap();
        assert!(Source::parse(folder.path().join("file").to_str().unwrap()).is_err());
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

    #[test]
    fn mnist_has_its_known_counts() {
        let Some(folder) = test_data("mnist") else { return };
        let splits = Source::Folder(folder).load().unwrap();
        assert_eq!((splits.train.len(), splits.test.len(), splits.train.shape()), (60_000, 10_000, [1, 28, 28]));
        assert_eq!(splits.train.class_counts(), [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]);
        assert_eq!(splits.test.class_counts(), [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]);
    }
}
