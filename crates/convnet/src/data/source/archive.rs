//! Tar archives (`.tar`, `.tar.gz`, `.tgz`) of a folder of pictures, as in `image_folder.rs`, perhaps within one folder
//! more. Nothing is unpacked to disk: the pictures' files are kept in memory until they are decoded.
//!
//! An archive may claim anything: entries that lead out of it, links and devices are refused, and what it unpacks to is
//! counted as it comes, whatever its headers say.

use std::io::{self, BufRead, BufReader, Read};
use std::path::{Component, Path};

use flate2::bufread::MultiGzDecoder;
use tar::{Archive, Entry, EntryType};

use super::picture_set::{Classes, HELD_OUT, PictureFile, PictureSet, TRAIN};
use crate::data::picture;
use crate::{Error, Result};

/// No archive may unpack to more bytes.
const MAX_UNPACKED: u64 = 8 << 30;
/// Nor have more entries.
const MAX_ENTRIES: usize = 4_000_000;
/// How the names of archives end.
const EXTENSIONS: [&str; 3] = [".tar", ".tar.gz", ".tgz"];

/// Whether a file of that name is taken for an archive.
pub(super) fn is_archive(path: &Path) -> bool {
    let name = path.to_string_lossy().to_lowercase();
    EXTENSIONS.iter().any(|extension| name.ends_with(extension))
}

/// Which parts of an archive to keep.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Keep {
    Both,
    /// Of the training part only the names of its classes.
    HeldOut,
}

/// Reads the pictures' files, but decodes none of them.
///
/// # Errors
/// An archive that cannot be read, is damaged or cut short, unpacks to too much, or holds what it should not.
pub(super) fn read(path: &Path, keep: Keep) -> Result<PictureSet> {
    let (file, _) = crate::data::open(path)?;
    unpack(path, BufReader::new(file), keep).map_err(|problem| Error::file(path, problem))
}

fn unpack(path: &Path, mut source: impl BufRead, keep: Keep) -> Result<PictureSet, String> {
    let gzip = source.fill_buf().map_err(|error| unreadable(&error))?.starts_with(&[0x1f, 0x8b]);
    let source: Box<dyn Read> = if gzip { Box::new(MultiGzDecoder::new(source)) } else { Box::new(source) };
    let mut archive = Archive::new(Limited { source, left: MAX_UNPACKED });
    let mut parts: Parts = Default::default();
    for (number, entry) in archive.entries().map_err(|error| unreadable(&error))?.enumerate() {
        if number >= MAX_ENTRIES {
            return Err(format!("more than {MAX_ENTRIES} entries: unpack it and name the folder"));
        }
        add(path, &mut parts, entry.map_err(|error| unreadable(&error))?, keep)?;
    }
    // To its very end, where the checksum is that tells whether it is whole.
    io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(|error| unreadable(&error))?;
    let [train, val, test] = parts;
    Ok(PictureSet { train, test: val.or(test) })
}

/// `train`, `val` and `test`.
type Parts = [Option<Classes>; 3];

/// Takes an entry of an archive if it is a picture or a folder for them.
fn add(archive: &Path, parts: &mut Parts, mut entry: Entry<'_, impl Read>, keep: Keep) -> Result<(), String> {
    let name = entry.path().map_err(|error| unreadable(&error))?.into_owned();
    let problem = |problem: String| format!("entry '{}': {problem}", name.display());
    let folder = match entry.header().entry_type() {
        EntryType::Directory => true,
        EntryType::Regular | EntryType::Continuous => false,
        EntryType::XGlobalHeader => return Ok(()),
        other => return Err(problem(format!("expected files and folders alone, found type {other:?}"))),
    };
    let names = names(&name).map_err(problem)?;
    let Some((part, [class, within @ ..])) = part(&names) else { return Ok(()) };
    if names.iter().any(|name| name.starts_with('.')) {
        return Ok(());
    }
    let (class_folder, picture) = (folder && within.is_empty(), !folder && picture::is_picture(&name));
    if !class_folder && (!picture || within.is_empty()) {
        return Ok(());
    }
    let pictures = parts[part].get_or_insert_default().entry((*class).to_owned()).or_default();
    if picture && (part > 0 || keep == Keep::Both) {
        let size = entry.size();
        picture::check_bytes(size).map_err(problem)?;
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).map_err(|error| problem(unreadable(&error)))?;
        if bytes.len() as u64 != size {
            return Err(problem(format!("{size} bytes are announced, but {} come: cut short", bytes.len())));
        }
        pictures.insert(within.iter().collect(), PictureFile::InMemory(archive.join(&name), bytes));
    }
    Ok(())
}

/// The names that a path is made of, none of which may lead out of the archive.
fn names(path: &Path) -> Result<Vec<&str>, String> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::Normal(name) => names.push(name.to_str().ok_or("expected a name in UTF-8")?),
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                return Err("expected a path that stays within the archive".into());
            }
        }
    }
    Ok(names)
}

/// To which part a path belongs, and what of it lies below the part: which may begin the path, or its second name.
fn part<'a>(names: &'a [&'a str]) -> Option<(usize, &'a [&'a str])> {
    let number = |name: &str| [TRAIN].iter().chain(&HELD_OUT).position(|part| *part == name);
    let parts = names.iter().take(2).enumerate();
    let (at, part) = parts.filter_map(|(at, name)| Some((at, number(name)?))).next()?;
    Some((part, &names[at + 1..]))
}

fn unreadable(error: &io::Error) -> String {
    format!("cannot be unpacked: {error}")
}

/// What can be read before it is too much.
struct Limited<R> {
    source: R,
    left: u64,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(buffer)?;
        self.left = self.left.checked_sub(read as u64).ok_or_else(|| {
            io::Error::other(format!(
                "it unpacks to more than {} GiB: unpack it and name the folder",
                MAX_UNPACKED >> 30
            ))
        })?;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use tar::{Builder, Header};

    use super::super::Source;
    use super::*;
    use crate::data::Splits;
    use crate::data::picture::write_png;

    fn png(value: u8) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.png");
        write_png(&path, [3, 1, 2], &[value; 6]).unwrap();
        fs::read(path).unwrap()
    }

    /// Adds an entry, whatever its name and type.
    fn append(tar: &mut Builder<Vec<u8>>, name: &str, kind: EntryType, content: &[u8]) {
        let mut header = Header::new_gnu();
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(kind);
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        tar.append(&header, content).unwrap();
    }

    fn fine(prefix: &str) -> Builder<Vec<u8>> {
        let mut tar = Builder::new(Vec::new());
        append(&mut tar, &format!("{prefix}train/"), EntryType::Directory, &[]);
        append(&mut tar, &format!("{prefix}train/dog/1.png"), EntryType::Regular, &png(1));
        append(&mut tar, &format!("{prefix}train/dog/._1.png"), EntryType::Regular, b"hidden");
        append(&mut tar, &format!("{prefix}train/cat/deep/2.png"), EntryType::Regular, &png(2));
        append(&mut tar, &format!("{prefix}train/cat/a.txt"), EntryType::Regular, b"no picture");
        append(&mut tar, &format!("{prefix}test/dog/3.png"), EntryType::Regular, &png(3));
        tar
    }

    fn load(bytes: &[u8]) -> Result<Splits, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pictures.tar");
        fs::write(&path, bytes).unwrap();
        Source::parse(path.to_str().unwrap()).unwrap().load(None).map_err(|error| error.to_string())
    }

    fn gzipped(bytes: &[u8]) -> Vec<u8> {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(bytes).unwrap();
        gzip.finish().unwrap()
    }

    #[test]
    fn an_archive_is_a_folder() {
        for prefix in ["", "./", "pictures/"] {
            let bytes = fine(prefix).into_inner().unwrap();
            for bytes in [gzipped(&bytes), bytes] {
                let Splits { train, test } = load(&bytes).unwrap();
                assert_eq!((train.classes(), train.labels()), (&["cat", "dog"].map(str::to_owned)[..], &[0, 1][..]));
                assert_eq!((train.image(0), train.image(1), test.image(0)), (&[2; 6][..], &[1; 6][..], &[3; 6][..]));
                assert_eq!(test.labels(), [1]);
            }
        }
    }

    #[test]
    fn the_held_out_part_knows_all_classes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pictures.tgz");
        fs::write(&path, gzipped(&fine("").into_inner().unwrap())).unwrap();
        let test = Source::Archive(path).load_test(None).unwrap();
        assert_eq!((test.classes().len(), test.labels(), test.len()), (2, &[1][..], 1));
    }

    #[test]
    fn entries_that_should_not_be_there_are_refused() {
        let problem = |name: &str, kind: EntryType, content: &[u8]| {
            let mut tar = fine("");
            append(&mut tar, name, kind, content);
            load(&tar.into_inner().unwrap()).unwrap_err()
        };
        for name in ["../train/dog/4.png", "/train/dog/4.png", "train/../../dog/4.png"] {
            let message = problem(name, EntryType::Regular, &png(4));
            assert!(message.contains("a path that stays within the archive"), "{name}: {message}");
        }
        for kind in [EntryType::Symlink, EntryType::Link, EntryType::Fifo, EntryType::Char] {
            assert!(problem("train/dog/4.png", kind, &[]).contains("files and folders alone"), "{kind:?}");
        }
        let message = problem("train/dog/4.png", EntryType::Regular, b"no picture");
        assert!(message.contains("pictures.tar/train/dog/4.png: not a PNG, JPEG, BMP or WebP file"), "{message}");
        assert!(problem("train/cow", EntryType::Directory, &[]).contains("no pictures"));
        assert!(problem("test/cow/4.png", EntryType::Regular, &png(4)).contains("no folder train/cow"));
    }

    #[test]
    fn lies_and_damage_are_found() {
        let mut tar = fine("");
        let mut header = Header::new_gnu();
        header.set_path("train/dog/4.png").unwrap();
        header.set_size(1 << 40);
        header.set_cksum();
        tar.get_mut().extend_from_slice(header.as_bytes());
        let bytes = tar.into_inner().unwrap();
        assert!(load(&bytes).unwrap_err().contains("a picture of 1099511627776 bytes"));
        assert!(load(b"no archive").is_err());
        assert!(load(&[7; 2000]).unwrap_err().contains("pictures.tar"));
        let mut bytes = gzipped(&fine("").into_inner().unwrap());
        for end in 0..bytes.len() {
            assert!(load(&bytes[..end]).is_err(), "{end}");
        }
        let sum = bytes.len() - 6;
        bytes[sum] ^= 1;
        assert!(load(&bytes).unwrap_err().contains("cannot be unpacked"));
        let bytes = fine("").into_inner().unwrap();
        for end in (0..bytes.len()).step_by(100) {
            let _ = load(&bytes[..end]);
        }
    }

    /// A few bytes that unpack to more than may be read.
    #[test]
    fn bombs_are_stopped() {
        let mut source = Limited { source: io::repeat(0), left: 1000 };
        let mut bytes = Vec::new();
        let error = source.read_to_end(&mut bytes).unwrap_err().to_string();
        assert!(error.contains("unpack it and name the folder") && bytes.len() <= 1000, "{error}");
    }
}
