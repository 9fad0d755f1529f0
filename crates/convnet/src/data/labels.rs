//! What the classes of ImageNet and CIFAR are called, and lists of names from files.
//!
//! ImageNet's 1,000 names, in the order of the ILSVRC 2012 classes, are those of torchvision's weights
//! (`torchvision/models/_meta.py`), its synsets those of the ILSVRC 2012 devkit, sorted; CIFAR's are those of `batches.meta.txt` and `fine_label_names.txt` in the binary
//! distributions of <https://www.cs.toronto.edu/~kriz/cifar.html>.

use std::io::Read;
use std::path::Path;

use crate::{Error, Result};

/// No list of names is longer, in bytes.
const MAX_BYTES: u64 = 8 << 20;

/// The 1,000 classes of ImageNet (ILSVRC 2012).
pub fn imagenet() -> Vec<String> {
    lines(include_str!("labels/imagenet.txt"))
}

/// The WordNet synsets of ImageNet's 1,000 classes, in the same order: what its folders are called.
pub fn imagenet_synsets() -> Vec<String> {
    lines(include_str!("labels/imagenet_synsets.txt"))
}

/// The 10 classes of CIFAR-10.
pub fn cifar10() -> Vec<String> {
    lines(include_str!("labels/cifar10.txt"))
}

/// The 100 (fine) classes of CIFAR-100.
pub fn cifar100() -> Vec<String> {
    lines(include_str!("labels/cifar100.txt"))
}

/// Reads names of classes, one a line, that of class 0 first. Empty lines at the end do not count.
///
/// # Errors
/// A file that cannot be read, is over 8 MiB or not UTF-8, has no names, or an empty line between them.
pub fn read(path: &Path) -> Result<Vec<String>> {
    let (file, size) = super::open(path)?;
    if size > MAX_BYTES {
        return Err(Error::file(path, format!("{size} bytes; expected names of classes, one a line")));
    }
    let mut text = String::new();
    file.take(MAX_BYTES).read_to_string(&mut text).map_err(Error::io("reading", path))?;
    let names = lines(text.trim_start_matches('\u{feff}').trim_end());
    if names.is_empty() || names.iter().any(String::is_empty) {
        return Err(Error::file(path, "expected names of classes, one a line, without empty lines"));
    }
    Ok(names)
}

fn lines(text: &str) -> Vec<String> {
    text.split_terminator('\n').map(|line| line.trim().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn built_in_lists_are_complete() {
        let (imagenet, cifar10, cifar100) = (imagenet(), cifar10(), cifar100());
        assert_eq!((imagenet.len(), cifar10.len(), cifar100.len()), (1000, 10, 100));
        assert_eq!((&imagenet[0][..], &imagenet[281][..], &imagenet[999][..]), ("tench", "tabby", "toilet tissue"));
        let synsets = imagenet_synsets();
        assert_eq!((synsets.len(), &synsets[0][..], &synsets[999][..]), (1000, "n01440764", "n15075141"));
        assert!(synsets.is_sorted() && synsets.iter().all(|synset| synset.len() == 9));
        // CIFAR's classes are in alphabetical order, so that folders of that name give the same numbers.
        assert!(cifar10.is_sorted() && cifar100.is_sorted());
        assert!([imagenet, cifar10, cifar100].iter().flatten().all(|name| !name.is_empty()));
    }

    #[test]
    fn names_come_from_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("names.txt");
        let read = |text: &[u8]| {
            fs::write(&path, text).unwrap();
            super::read(&path).map_err(|error| error.to_string())
        };
        assert_eq!(read(b"cat\r\nbig dog\n\n"), Ok(vec!["cat".to_owned(), "big dog".to_owned()]));
        assert_eq!(read("\u{feff}Katze".as_bytes()), Ok(vec!["Katze".to_owned()]));
        assert!(read(b"cat\n\ndog").unwrap_err().contains("without empty lines"));
        assert!(read(b"\n").unwrap_err().contains("names.txt: expected"));
        assert!(read(b"\xff\xfe").unwrap_err().contains("names.txt"));
        assert!(super::read(folder.path()).is_err());
    }
}
