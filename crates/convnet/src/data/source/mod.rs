//! What `--data` names: a built-in set, a downloaded one in the cache folder, a folder of IDX files, of pictures or of
//! CIFAR's binary files, or a tar of pictures.

mod archive;
mod cifar;
mod idx_folder;
mod image_folder;
mod picture_set;

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use self::archive::Keep;
use self::cifar::Cifar;
use super::download::{self, Progress};
use super::{Dataset, Splits, Target, digits};
use crate::suggest::nearest;
use crate::{Error, Result};

/// Where a data set comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// The built-in handwritten-looking digits.
    Digits,
    /// MNIST in the cache folder.
    Mnist,
    /// A folder: with pictures in `train/<class>/` and `val/<class>/` or `test/<class>/`, with CIFAR-10 or CIFAR-100 in
    /// its binary form, or with the four files of MNIST or of a set in its form.
    Folder(PathBuf),
    /// A tar, gzipped or not, of a folder with pictures.
    Archive(PathBuf),
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
            _ if path.exists() => Err(Error::file(path, "expected a folder, or a .tar, .tar.gz or .tgz of pictures")),
            _ => Err(unknown(value)),
        }
    }

    /// The folder or archive that it was given as.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Source::Digits | Source::Mnist => None,
            Source::Folder(path) | Source::Archive(path) => Some(path),
        }
    }

    /// Reads it, or draws it. Pictures that are files of their own are brought to the target, else they must all be like
    /// the first; other sets are as they are.
    ///
    /// # Errors
    /// Files that are missing, damaged or do not fit together, each named.
    pub fn load(&self, target: Option<Target>) -> Result<Splits> {
        match self {
            Source::Digits => digits::splits(digits::SEED, digits::TRAIN, digits::TEST),
            Source::Mnist => idx_folder::read(&cache_folder()?.join("mnist"), "mnist").map_err(redownload),
            Source::Folder(folder) if image_folder::is_image_folder(folder) => {
                image_folder::list(folder)?.splits(folder, target)
            }
            Source::Folder(folder) => match Cifar::find(folder) {
                Some(cifar) => cifar.splits(),
                None => idx_folder::read(folder, &folder.display().to_string()),
            },
            Source::Archive(path) => archive::read(path, Keep::Both)?.splits(path, target),
        }
    }

    /// Reads the held-out part alone, which takes less time and memory where the parts lie apart.
    ///
    /// # Errors
    /// As [`Source::load`].
    pub fn load_test(&self, target: Option<Target>) -> Result<Dataset> {
        match self {
            Source::Digits | Source::Mnist => Ok(self.load(target)?.test),
            Source::Folder(folder) if image_folder::is_image_folder(folder) => {
                image_folder::list(folder)?.test(folder, target)
            }
            Source::Folder(folder) => match Cifar::find(folder) {
                Some(cifar) => cifar.test(),
                None => Ok(self.load(target)?.test),
            },
            Source::Archive(path) => archive::read(path, Keep::HeldOut)?.test(path, target),
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
            Source::Folder(path) | Source::Archive(path) => Err(Error::invalid(format!(
                "nothing can be downloaded into '{}': --download goes with --data mnist",
                path.display()
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
        "no data set or folder '{value}'{hint} Expected {}, a folder with pictures in train/<class> and val/<class> or a \
         tar of one, or a folder with CIFAR's binary files or with the IDX files {}",
        Source::NAMES.join(", "),
        idx_folder::file_names().join(", "),
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
}
