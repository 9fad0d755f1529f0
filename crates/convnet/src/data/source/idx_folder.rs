//! Folders with the four IDX files of MNIST, or of a set in its form: also under longer names that say what they are, such as
//! EMNIST's (`emnist-balanced-train-images-idx3-ubyte`).

use std::path::{Path, PathBuf};

use super::entries;
use crate::columns::counted;
use crate::data::{Dataset, Splits, digits, idx, labels};
use crate::suggest::nearest;
use crate::{Error, Result};

/// A file with the names of the classes, one a line, that may lie beside IDX files; without it they are "0" to "9".
const CLASSES_FILE: &str = "classes.txt";
const PARTS: [&str; 2] = ["train", "t10k"];
/// Files named, of those that are there instead.
const SHOWN: usize = 5;

/// The four files under their standard names, without `.gz`.
pub(super) fn file_names() -> Vec<String> {
    PARTS.iter().flat_map(|part| [format!("{part}-images-idx3-ubyte"), format!("{part}-labels-idx1-ubyte")]).collect()
}

/// Reads the four files in `folder`; `name` is what to call the set in messages.
///
/// # Errors
/// Files that are missing, damaged or do not fit together, each named.
pub(super) fn read(folder: &Path, name: &str) -> Result<Splits> {
    let names = file_names();
    let find = |name: &String| find(folder, name).or_else(|| find_longer(folder, name));
    let found: Vec<_> = names.iter().map(find).collect();
    let (Some(train_images), Some(train_labels), Some(test_images), Some(test_labels)) =
        (&found[0], &found[1], &found[2], &found[3])
    else {
        let absent = names.into_iter().zip(&found).filter(|(_, found)| found.is_none());
        return Err(missing(folder, &absent.map(|(name, _)| name).collect::<Vec<_>>()));
    };
    let classes = read_classes(folder)?;
    let (train_read, train_labelled) = (idx::read_images(train_images)?, idx::read_labels(train_labels)?);
    let (test_read, test_labelled) = (idx::read_images(test_images)?, idx::read_labels(test_labels)?);
    // EMNIST's letters are counted from 1.
    let largest = train_labelled.iter().max().map(|&label| usize::from(label));
    let from_one = train_labelled.iter().min() == Some(&1) && largest == Some(classes.len());
    let first = u8::from(from_one && !test_labelled.contains(&0));
    let pair = |part: &str, images: (&Path, idx::Images), labels: (&Path, Vec<u8>)| {
        let numbers = labels.1.into_iter().map(|label| u32::from(label - first)).collect();
        pair_up(&format!("{name} ({part})"), images, (labels.0, numbers), &classes)
    };
    let mut train = pair("train", (train_images, train_read), (train_labels, train_labelled))?;
    let test = pair("test", (test_images, test_read), (test_labels, test_labelled))?;
    if first == 1 {
        train.warn(format!("{}: labels begin at 1, which is taken for the first class", train_labels.display()));
    }
    if train.shape() != test.shape() {
        let size = |data: &Dataset| format!("{}x{}", data.shape()[1], data.shape()[2]);
        let problem = format!("pictures of {}, but the training pictures are {}", size(&test), size(&train));
        return Err(Error::file(test_images, problem));
    }
    Ok(Splits { train, val: None, test: Some(test) })
}

/// The file called `name` in one of its spellings.
fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    spellings(name).into_iter().map(|file| folder.join(file)).find(|path| path.is_file())
}

/// The one file whose longer name has the words of `name`: its part (`train`; `t10k` or `test`), its kind and its form.
fn find_longer(folder: &Path, name: &str) -> Option<PathBuf> {
    let (part, rest) = name.split_once('-')?;
    let (kind, form) = rest.split_once('-')?;
    let parts: &[&str] = if part == PARTS[0] { &["train"] } else { &["t10k", "test"] };
    let form = form.split('-').next()?;
    let fits = |file: &&String| {
        let file = file.to_lowercase();
        parts.iter().any(|part| file.contains(part)) && file.contains(kind) && file.contains(form)
    };
    let files = entries(folder, |path| path.is_file());
    let mut found = files.iter().filter(fits);
    match (found.next(), found.next()) {
        (Some(file), None) => Some(folder.join(file)),
        _ => None,
    }
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
    let there = match others().take(SHOWN).collect::<Vec<_>>() {
        files if hint.is_empty() && !files.is_empty() => {
            let csv = if files.iter().any(|file| file.ends_with(".csv")) { "; CSV is not read" } else { "" };
            format!("; there is {}{csv}", files.join(", "))
        }
        _ => String::new(),
    };
    let problem = format!(
        "missing {} (or the same with .gz){hint}{there}. Put the files into this folder; MNIST itself is the data set 'mnist', \
         which can be downloaded",
        names.join(", ")
    );
    Error::file(folder, problem)
}

/// Pictures with their labels, each with the file that they come from.
fn pair_up(
    name: &str,
    (images_path, images): (&Path, idx::Images),
    (labels_path, labels): (&Path, Vec<u32>),
    classes: &[String],
) -> Result<Dataset> {
    if images.count != labels.len() {
        let (labels, pictures) = (counted(labels.len(), "label"), counted(images.count, "picture"));
        let problem = format!("{labels}, but {} has {pictures}", images_path.display());
        return Err(Error::file(labels_path, problem));
    }
    Dataset::new(name, [1, images.height, images.width], images.pixels, labels, classes.to_vec())
        .map_err(|error| Error::file(labels_path, format!("{error} (a file {CLASSES_FILE} beside it can name more)")))
}

fn read_classes(folder: &Path) -> Result<Vec<String>> {
    let path = folder.join(CLASSES_FILE);
    if !path.exists() {
        return Ok(digits::classes());
    }
    let classes = labels::read(&path)?;
    match classes.len() {
        1..=256 => Ok(classes),
        many => Err(Error::file(path, format!("{many} class names: expected 1 to 256"))),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::{Sizing, Source, redownload};
    use super::*;
    use crate::data::test_data;

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
        Source::parse(folder.path().to_str().unwrap()).unwrap().load(Sizing::default()).unwrap_err().to_string()
    }

    #[test]
    fn a_folder_is_read_under_any_spelling() {
        let folder = folder(TWO_IMAGES, &labels([1, 2]));
        let splits = Source::Folder(folder.path().into()).load(Sizing::default()).unwrap();
        let test = splits.test.as_ref().unwrap();
        assert_eq!((splits.train.shape(), splits.train.labels(), test.labels()), ([1, 1, 2], &[9, 0][..], &[1, 2][..]));
        assert_eq!(&*test.image(1).unwrap(), [3, 4]);
        fs::write(folder.path().join(CLASSES_FILE), (0..12).map(|i| format!("class {i}\n")).collect::<String>())
            .unwrap();
        fs::write(folder.path().join("t10k-labels.idx1-ubyte"), labels([11, 0])).unwrap();
        let splits = Source::Folder(folder.path().into()).load(Sizing::default()).unwrap();
        let test = splits.test.as_ref().unwrap();
        assert_eq!(test.classes()[11], "class 11");
        fs::write(folder.path().join(CLASSES_FILE), "a\n\nb\n").unwrap();
        assert!(problem(&folder).contains("without empty lines"));
    }

    #[test]
    fn longer_names_and_labels_from_one() {
        let folder = tempfile::tempdir().unwrap();
        let write = |part: &str, labels: [u8; 2]| {
            fs::write(folder.path().join(format!("emnist-letters-{part}-images-idx3-ubyte")), TWO_IMAGES).unwrap();
            fs::write(folder.path().join(format!("emnist-letters-{part}-labels-idx1-ubyte")), self::labels(labels))
                .unwrap();
        };
        write("train", [2, 1]);
        write("test", [1, 1]);
        fs::write(folder.path().join(CLASSES_FILE), "a\nb\n").unwrap();
        let splits = Source::Folder(folder.path().into()).load(Sizing::default()).unwrap();
        let test = splits.test.as_ref().unwrap();
        assert_eq!((splits.train.labels(), test.labels()), (&[1, 0][..], &[0, 0][..]));
        assert!(splits.train.warnings()[0].contains("labels begin at 1"));
        write("test", [0, 1]);
        assert!(problem(&folder).contains("label 2 of picture 0 is out of range"));
    }

    #[test]
    fn files_that_do_not_fit_together_are_named() {
        let message = problem(&folder(TWO_IMAGES, &labels([1, 10])));
        assert!(
            message.contains("t10k-labels") && message.contains("label 10 of picture 1 is out of range"),
            "{message}"
        );
        let message = problem(&folder(ONE_IMAGE, &labels([1, 2])));
        assert!(message.contains("2 labels, but") && message.contains("has 1 picture"), "{message}");
        let message = problem(&folder(ONE_IMAGE, &[0, 0, 8, 1, 0, 0, 0, 1, 4]));
        assert!(message.contains("pictures of 2x2, but the training pictures are 1x2"), "{message}");
        let swapped = folder(&labels([1, 2]), TWO_IMAGES);
        assert!(
            redownload(read(swapped.path(), "mnist").unwrap_err())
                .to_string()
                .contains("Delete it to download it again")
        );
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
        let other = tempfile::tempdir().unwrap();
        fs::write(other.path().join("mnist_train.csv"), "label,pixel0").unwrap();
        assert!(problem(&other).contains("there is mnist_train.csv; CSV is not read"));
        let message = problem(&tempfile::tempdir().unwrap());
        assert!(message.contains("t10k-labels-idx1-ubyte") && message.contains("can be downloaded"), "{message}");
    }

    #[test]
    fn mnist_has_its_known_counts() {
        let Some(folder) = test_data("mnist") else { return };
        let splits = Source::Folder(folder).load(Sizing::default()).unwrap();
        let test = splits.test.as_ref().unwrap();
        assert_eq!((splits.train.len(), test.len(), splits.train.shape()), (60_000, 10_000, [1, 28, 28]));
        assert_eq!(splits.train.class_counts(), [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]);
        assert_eq!(test.class_counts(), [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]);
    }
}
