//! Archives of a folder of pictures as in `image_folder.rs`, perhaps within other folders. A tar is read through once for where
//! its pictures lie (`index.rs`), and they are read in place then; so are those of a zip (`zipped.rs`). A gzipped tar is unpacked
//! into memory, as the pictures' files, as far as `memory.rs` allows. Nothing is unpacked to disk. A hard link is its file once more,
//! as tar stores a second name of a file. A tar without folders of classes may be a shard (`shards.rs`).
//!
//! An archive may claim anything: entries that lead out of it or beyond its end, symbolic links and devices are refused, and
//! what it unpacks to is counted as it comes, whatever its headers say. It must end with its end marker.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Component, Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use tar::{Archive, Entry, EntryType};

use super::found::Found;
use super::memory::Bound;
use super::picture_set::{PictureSet, class_name, is_passed_over};
use super::{Part, cache_folder, index, shards, zipped};
use crate::data::picture;
use crate::data::stored::{Item, read_at};
use crate::{Error, Result};

/// No gzipped archive may have more entries.
const MAX_ENTRIES: usize = 4_000_000;
/// The parts may lie so deep.
const MAX_DEPTH: usize = 8;
/// How the names of archives end.
const EXTENSIONS: [&str; 4] = [".tar", ".tar.gz", ".tgz", ".zip"];

/// Whether a file of that name is taken for an archive.
pub(super) fn is_archive(path: &Path) -> bool {
    let name = path.to_string_lossy().to_lowercase();
    EXTENSIONS.iter().any(|extension| name.ends_with(extension))
}

/// Other archives, and what they are called.
pub(super) fn other_archive(path: &Path) -> Option<&'static str> {
    let name = path.to_string_lossy().to_lowercase();
    let known = [(".rar", "rar"), (".7z", "7z"), (".bz2", "bzip2"), (".xz", "xz"), (".zst", "Zstandard")];
    known.into_iter().find(|(ending, _)| name.ends_with(ending)).map(|(_, kind)| kind)
}

/// Finds the pictures in an archive; of a gzipped one, the files of those of some parts are kept.
///
/// # Errors
/// An archive that cannot be read, is damaged or cut short, unpacks to too much, or holds what it should not.
pub(super) fn read(path: &Path, keep: &[Part]) -> Result<PictureSet> {
    let (file, length) = crate::data::open(path)?;
    let mut source = BufReader::new(file);
    let start = source.fill_buf().map_err(Error::io("reading", path))?;
    if start.starts_with(&[0x1f, 0x8b]) {
        return unpack(path, source, keep, Bound::of(length)).map_err(|problem| Error::file(path, problem));
    }
    if start.starts_with(b"PK") {
        return zipped::index(path);
    }
    let paths = [path.to_owned()];
    index::cached(cache_folder().ok(), &paths, || {
        match in_place(path, length).map_err(|problem| Error::file(path, problem))? {
            // Labels that lie beside pictures say more than folders.
            found if found.is_empty() => shards::index(&paths).or_else(|error| {
                let set = found.finish();
                if set.classes_alone { Ok(set) } else { Err(error) }
            }),
            found => Ok(found.finish()),
        }
    })
}

/// Where the pictures in a tar lie.
fn in_place(path: &Path, length: u64) -> Result<Found, String> {
    let mut reader =
        Reader { archive: path, keep: &Part::ALL, place: None, found: Found::default(), links: Vec::new() };
    reader.place = Some(reader.found.files.add_tar(path));
    let mut end = TarEnd::new(length);
    let mut archive = Archive::new(File::open(path).map_err(|error| unreadable(&error))?);
    for entry in archive.entries_with_seek().map_err(|error| unreadable(&error))? {
        let entry = entry.map_err(|error| unreadable(&error))?;
        end.pass(&entry)?;
        reader.add(entry)?;
    }
    end.check(&archive.into_inner())?;
    reader.follow_links();
    Ok(reader.found)
}

/// Where the entries of a tar end that is read in place.
pub(super) struct TarEnd {
    /// Bytes of the file.
    length: u64,
    /// Where the last entry ends.
    end: u64,
}

impl TarEnd {
    /// In a file of so many bytes.
    pub(super) fn new(length: u64) -> TarEnd {
        TarEnd { length, end: 0 }
    }

    /// Takes note of an entry, which must end within the file.
    pub(super) fn pass<R: Read>(&mut self, entry: &Entry<'_, R>) -> Result<(), String> {
        let size = if entry.header().entry_type() == EntryType::Link { 0 } else { entry.size() };
        let end = size.checked_next_multiple_of(512).and_then(|size| entry.raw_file_position().checked_add(size));
        match end.filter(|&end| end <= self.length) {
            Some(end) => {
                self.end = self.end.max(end);
                Ok(())
            }
            None => {
                let name = entry.path().map(|name| name.display().to_string()).unwrap_or_default();
                let length = self.length;
                Err(format!(
                    "entry '{name}': {size} bytes are announced in an archive of {length}: cut short, or damaged"
                ))
            }
        }
    }

    /// Checks that the end marker follows, two blocks of zeros.
    pub(super) fn check(&self, file: &File) -> Result<(), String> {
        let mut marker = [1; END_MARKER as usize];
        match read_at(file, self.end, &mut marker) {
            Ok(()) if marker.iter().all(|&byte| byte == 0) => Ok(()),
            Ok(()) | Err(_) => Err("cannot be unpacked: it has no end marker, so it is cut short".into()),
        }
    }
}

fn unpack(path: &Path, source: impl BufRead, keep: &[Part], bound: Bound) -> Result<PictureSet, String> {
    let source = MultiGzDecoder::new(source);
    let mut archive = Archive::new(Tail { source: Limited { source, left: bound.bytes, bound }, zeros: 0 });
    let mut reader = Reader { archive: path, keep, place: None, found: Found::default(), links: Vec::new() };
    for (number, entry) in archive.entries().map_err(|error| unreadable(&error))?.enumerate() {
        if number >= MAX_ENTRIES {
            return Err(format!("more than {MAX_ENTRIES} entries: unpack it and name the folder"));
        }
        reader.add(entry.map_err(|error| unreadable(&error))?)?;
    }
    // To its very end, where the checksum is that tells whether it is whole.
    let mut source = archive.into_inner();
    io::copy(&mut source, &mut io::sink()).map_err(|error| unreadable(&error))?;
    if source.zeros < END_MARKER {
        return Err("cannot be unpacked: it has no end marker, so it is cut short".into());
    }
    reader.follow_links();
    Ok(reader.found.finish())
}

/// Where a picture belongs: its part, its class and its path below that.
pub(super) type Place = (Part, String, PathBuf);

/// Sorts the entries of an archive.
struct Reader<'a> {
    archive: &'a Path,
    keep: &'a [Part],
    /// Number of the archive among the files, where its pictures are read in place.
    place: Option<u32>,
    found: Found,
    /// Hard links: where they stand, and what they lead to.
    links: Vec<(Place, Option<Place>)>,
}

impl Reader<'_> {
    /// Takes an entry of an archive if it is a picture or a folder for them.
    fn add(&mut self, mut entry: Entry<'_, impl Read>) -> Result<(), String> {
        let name = entry.path().map_err(|error| unreadable(&error))?.into_owned();
        let problem = |problem: String| format!("entry '{}': {problem}", name.display());
        let kind = entry.header().entry_type();
        match kind {
            EntryType::Directory | EntryType::Regular | EntryType::Continuous | EntryType::Link => {}
            EntryType::XGlobalHeader => return Ok(()),
            other => return Err(problem(format!("expected files and folders alone, found type {other:?}"))),
        }
        let (part, class, within) = match place(&name, &mut self.found).map_err(problem)? {
            Spot::Of(place) => place,
            Spot::Apart if kind != EntryType::Regular || !self.found.is_empty() || !picture::is_picture(&name) => {
                return Ok(());
            }
            Spot::Apart => {
                let item = self.item(&mut entry, &name).map_err(problem)?;
                self.found.apart.push((plain(&name).map_err(problem)?, item));
                return Ok(());
            }
            Spot::PassedOver => return Ok(()),
        };
        self.found.apart.clear();
        let folder = kind == EntryType::Directory;
        if within.as_os_str().is_empty() && !folder {
            return Ok(());
        }
        self.found.class(part, class.clone());
        if folder {
            return Ok(());
        }
        if !picture::is_picture(&name) {
            self.found.pass_over(&name);
            return Ok(());
        }
        if !self.keep.contains(&part) {
            self.found.class(part, class).insert(within, Item::ABSENT);
            return Ok(());
        }
        if kind == EntryType::Link {
            let target = entry.link_name().map_err(|error| unreadable(&error))?;
            let target = target.map(|target| place(&target, &mut Found::default())).transpose().map_err(problem)?;
            let target = target.and_then(|target| if let Spot::Of(place) = target { Some(place) } else { None });
            self.links.push(((part, class, within), target));
            return Ok(());
        }
        let item = self.item(&mut entry, &name).map_err(problem)?;
        self.found.class(part, class).insert(within, item);
        Ok(())
    }

    /// Where the file of a picture lies; of a gzipped archive it is taken into memory.
    fn item(&mut self, entry: &mut Entry<'_, impl Read>, name: &Path) -> Result<Item, String> {
        let size = entry.size();
        picture::check_bytes(size).map_err(|error| error.to_string())?;
        if let Some(place) = self.place {
            return Ok(Item { start: entry.raw_file_position(), length: size as u32, place });
        }
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).map_err(|error| unreadable(&error))?;
        if bytes.len() as u64 != size {
            return Err(format!("{size} bytes are announced, but {} come: cut short", bytes.len()));
        }
        self.found.files.add_bytes(self.archive, name, &bytes).ok_or_else(|| "no memory is left for it".into())
    }

    /// Gives each hard link the file that it leads to.
    fn follow_links(&mut self) {
        for ((part, class, within), target) in std::mem::take(&mut self.links) {
            match target.and_then(|(part, class, within)| self.found.find(part, &class, &within)) {
                Some(item) => _ = self.found.class(part, class).insert(within, item),
                None => self.found.lost_links += 1,
            }
        }
    }
}

/// Where an entry belongs.
pub(super) enum Spot {
    Of(Place),
    /// To no part.
    Apart,
    PassedOver,
}

/// Where an entry belongs. One that is passed over is counted, if it would belong to a class.
pub(super) fn place(name: &Path, found: &mut Found) -> Result<Spot, String> {
    let names = names(name)?;
    let is_out = names.iter().any(|name| is_passed_over(name));
    match part(&names) {
        Some((_, [_, ..])) if is_out => {
            found.hidden += 1;
            Ok(Spot::PassedOver)
        }
        Some((part, [class, within @ ..])) => Ok(Spot::Of((part, class_name(class), within.iter().collect()))),
        Some((_, [])) => Ok(Spot::PassedOver),
        None if is_out => Ok(Spot::PassedOver),
        None => Ok(Spot::Apart),
    }
}

/// The same path without what means nothing in it.
pub(super) fn plain(name: &Path) -> Result<PathBuf, String> {
    Ok(names(name)?.iter().collect())
}

/// The names that a path is made of, none of which may lead out of the archive.
pub(super) fn names(path: &Path) -> Result<Vec<&str>, String> {
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

/// To which part a path belongs, and what of it lies below the part, which may lie in other folders.
fn part<'a>(names: &'a [&'a str]) -> Option<(Part, &'a [&'a str])> {
    let parts = names.iter().take(MAX_DEPTH).enumerate();
    let (at, part) = parts.filter_map(|(at, name)| Some((at, Part::named(name)?))).next()?;
    Some((part, &names[at + 1..]))
}

pub(super) fn unreadable(error: &io::Error) -> String {
    format!("cannot be unpacked: {error}")
}

/// What can be read before it is too much.
struct Limited<R> {
    source: R,
    left: u64,
    bound: Bound,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(buffer)?;
        let left = self.left.checked_sub(read as u64);
        self.left = left.ok_or_else(|| io::Error::other(self.bound.exceeded()))?;
        Ok(read)
    }
}

/// An archive ends with two blocks of zeros.
const END_MARKER: u64 = 1024;

/// How many zeros came last.
struct Tail<R> {
    source: R,
    zeros: u64,
}

impl<R: Read> Read for Tail<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(buffer)?;
        let zeros = buffer[..read].iter().rev().take_while(|&&byte| byte == 0).count();
        self.zeros = if zeros == read { self.zeros + read as u64 } else { zeros as u64 };
        Ok(read)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::fs;
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use tar::{Builder, Header};

    use super::super::Source;
    use super::*;
    use crate::data::picture::write_png;
    use crate::data::{Sizing, Splits};

    /// A picture of one colour, 2×1 pixels.
    pub(in crate::data::source) fn png(value: u8) -> Vec<u8> {
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
        Source::parse(path.to_str().unwrap()).unwrap().load(Sizing::default()).map_err(|error| error.to_string())
    }

    fn gzipped(bytes: &[u8]) -> Vec<u8> {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(bytes).unwrap();
        gzip.finish().unwrap()
    }

    #[test]
    fn an_archive_is_a_folder() {
        for prefix in ["", "./", "pictures/", "./data/pictures/"] {
            let bytes = fine(prefix).into_inner().unwrap();
            for bytes in [gzipped(&bytes), bytes] {
                let Splits { train, test, .. } = load(&bytes).unwrap();
                let test = test.unwrap();
                assert_eq!((train.classes(), train.labels()), (&["cat", "dog"].map(str::to_owned)[..], &[0, 1][..]));
                assert_eq!(
                    [&train.image(0), &train.image(1), &test.image(0)].map(|image| image.as_ref().unwrap()[5]),
                    [2, 1, 3]
                );
                assert_eq!(test.labels(), [1]);
            }
        }
    }

    #[test]
    fn the_held_out_part_knows_all_classes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pictures.tgz");
        fs::write(&path, gzipped(&fine("").into_inner().unwrap())).unwrap();
        let test = Source::Archive(path).held_out(None, None).unwrap();
        assert_eq!((test.classes().len(), test.len(), test.part()), (2, 1, Some(Part::Test)));
        assert_eq!(test.into_inputs().map(|(_, label)| label).collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn what_a_run_held_out_is_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pictures.tar");
        let split = |share| Some(crate::data::ValSplit { share, seed: 3 });
        let held_out = |part, split| {
            let held_out = Source::Archive(path.clone()).held_out(part, split).unwrap();
            (held_out.part(), held_out.len())
        };
        let mut tar = Builder::new(Vec::new());
        for number in 0..5 {
            append(&mut tar, &format!("train/dog/{number}.png"), EntryType::Regular, &png(number));
            append(&mut tar, &format!("train/cat/{number}.png"), EntryType::Regular, &png(number));
        }
        append(&mut tar, "test/dog/9.png", EntryType::Regular, &png(9));
        fs::write(&path, tar.into_inner().unwrap()).unwrap();
        // There is a test part, so a share is held out only where that was asked for.
        assert_eq!(held_out(None, split(None)), (Some(Part::Test), 1));
        assert_eq!(held_out(None, split(Some(0.4))), (Some(Part::Val), 4));
        assert_eq!(held_out(Some(Part::Train), split(Some(0.4))), (Some(Part::Train), 6));
        assert_eq!(held_out(Some(Part::Train), None), (Some(Part::Train), 10));
    }

    #[test]
    fn classes_alone_are_a_training_part() {
        for prefix in ["", "./", "photos/", "a/b/"] {
            let mut tar = Builder::new(Vec::new());
            for (name, value) in [("cat/1.png", 1), ("cat/deep/2.png", 2), ("dog/3.png", 3), ("dog/._3.png", 9)] {
                append(&mut tar, &format!("{prefix}{name}"), EntryType::Regular, &png(value));
            }
            let bytes = tar.into_inner().unwrap();
            for bytes in [gzipped(&bytes), bytes] {
                let Splits { train, val, test } = load(&bytes).unwrap();
                assert_eq!((train.classes(), train.labels()), (&["cat", "dog"].map(str::to_owned)[..], &[0, 0, 1][..]));
                assert_eq!([0, 1, 2].map(|index| train.image(index).unwrap()[0]), [1, 2, 3]);
                assert_eq!((val, test), (None, None));
                let folder = tempfile::tempdir().unwrap();
                let path = folder.path().join("pictures.tar");
                fs::write(&path, &bytes).unwrap();
                let split = Some(crate::data::ValSplit { share: Some(0.5), seed: 0 });
                let held_out = |part, split| Source::Archive(path.clone()).held_out(part, split);
                let of_split = held_out(None, split).unwrap();
                assert_eq!((of_split.len(), of_split.split()), (1, Some([2, 1])));
                assert_eq!(held_out(Some(Part::Train), split).unwrap().len(), 2);
                assert_eq!(held_out(None, None).unwrap().len(), 3);
                let message = held_out(Some(Part::Test), split).unwrap_err().to_string();
                assert!(message.contains("expected a part test, found folders of classes alone"), "{message}");
            }
        }
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
        for kind in [EntryType::Symlink, EntryType::Fifo, EntryType::Char] {
            assert!(problem("train/dog/4.png", kind, &[]).contains("files and folders alone"), "{kind:?}");
        }
        let message = problem("train/dog/4.png", EntryType::Regular, b"no picture");
        assert!(
            message.contains("pictures.tar/train/dog/4.png: not a PNG, JPEG, WebP, GIF, TIFF or BMP file"),
            "{message}"
        );
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
        assert!(load(&bytes).unwrap_err().contains("1099511627776 bytes are announced in an archive of"));
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
        for end in (0..bytes.len() - 512).step_by(64) {
            assert!(load(&bytes[..end]).is_err(), "{end}");
        }
    }

    /// The second name of a file, and one of a file that is not there.
    #[test]
    fn hard_links_are_their_files() {
        let mut tar = fine("pictures/");
        for (name, to) in [("pictures/train/dog/9.png", "pictures/train/cat/deep/2.png"), ("train/dog/8.png", "none")] {
            let mut header = Header::new_gnu();
            header.set_entry_type(EntryType::Link);
            header.set_size(0);
            tar.append_link(&mut header, name, to).unwrap();
        }
        let train = load(&tar.into_inner().unwrap()).unwrap().train;
        assert_eq!((train.class_counts(), &*train.image(2).unwrap()), (vec![1, 2], &[2; 6][..]));
        let warnings = train.warnings().join(" ");
        assert!(warnings.contains("not followed: 1 link to what is not there"), "{warnings}");
        assert!(warnings.contains("1 .txt"), "{warnings}");
    }

    /// A few bytes that unpack to more than may be read.
    #[test]
    fn bombs_are_stopped() {
        let bytes = gzipped(&fine("").into_inner().unwrap());
        let unpacked = |available| unpack(Path::new("x.tgz"), &bytes[..], &Part::ALL, Bound::with(0, Some(available)));
        let problem = unpacked(4 << 10).unwrap_err();
        let expected = "it unpacks to more than 2.0 KiB, half of the memory that is available: unpack it (tar xzf)";
        assert!(problem.contains(expected), "{problem}");
        assert!(unpacked(1 << 20).is_ok());
    }
}
