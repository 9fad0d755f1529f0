//! Zip archives of a folder of pictures, which are read in place: stored or deflated entries, each from its local header on.
//! Entries that overlap, lead out of the archive or beyond its end, are encrypted or links, are refused.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use zip::{CompressionMethod, ZipArchive};

use super::archive::{Spot, place, plain};
use super::found::Found;
use super::picture_set::PictureSet;
use crate::data::picture;
use crate::data::stored::Item;
use crate::{Error, Result};

/// No archive may have more entries: each takes some 300 bytes while the archive is listed.
const MAX_ENTRIES: usize = 4_000_000;

/// Finds the pictures in an archive, but reads none of them.
///
/// # Errors
/// An archive that cannot be read, is damaged, or holds what it should not.
pub(super) fn index(path: &Path) -> Result<PictureSet> {
    let (file, length) = crate::data::open(path)?;
    find(path, file, length).map(Found::finish).map_err(|problem| Error::file(path, problem))
}

fn find(path: &Path, file: File, length: u64) -> Result<Found, String> {
    let unreadable = |error: zip::result::ZipError| format!("cannot be read as a zip archive: {error}");
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(unreadable)?;
    if archive.len() > MAX_ENTRIES {
        return Err(format!("{} entries: expected at most {MAX_ENTRIES}", archive.len()));
    }
    let mut found = Found::default();
    let [stored, deflated] = [false, true].map(|deflated| found.files.add_zip(path, deflated));
    let mut extents = Vec::new();
    for number in 0..archive.len() {
        let entry = archive.by_index_raw(number).map_err(unreadable)?;
        let name = PathBuf::from(entry.name().map_err(unreadable)?.as_ref());
        let problem = |problem: String| format!("entry '{}': {problem}", name.display());
        let (start, packed) = (entry.header_start(), entry.compressed_size());
        let end = entry.data_start().and_then(|data| data.checked_add(packed)).filter(|&end| end <= length);
        let end = end.ok_or_else(|| problem(format!("{packed} bytes are announced, beyond the archive's end")))?;
        extents.push((start, end));
        let spot = place(&name, &mut found).map_err(problem)?;
        match &spot {
            Spot::PassedOver => continue,
            Spot::Apart if entry.is_dir() || !found.is_empty() || !picture::is_picture(&name) => continue,
            Spot::Of((_, _, within)) if within.as_os_str().is_empty() && !entry.is_dir() => continue,
            Spot::Apart => {}
            Spot::Of((part, class, _)) => {
                found.apart.clear();
                found.class(*part, class.clone());
                if entry.is_dir() {
                    continue;
                }
                if !picture::is_picture(&name) {
                    found.pass_over(&name);
                    continue;
                }
            }
        }
        if entry.is_symlink() {
            return Err(problem("expected files and folders alone, found a link".into()));
        }
        if entry.encrypted() {
            return Err(problem("is encrypted: zip it without a password".into()));
        }
        let place = match entry.compression() {
            CompressionMethod::Stored => stored,
            CompressionMethod::Deflated => deflated,
            other => return Err(problem(format!("is compressed as {other}: expected none, or deflate"))),
        };
        picture::check_bytes(entry.size().max(packed)).map_err(|error| problem(error.to_string()))?;
        let item = Item { start, length: packed as u32, place };
        match spot {
            Spot::Of((part, class, within)) => _ = found.class(part, class).insert(within, item),
            Spot::Apart => found.apart.push((plain(&name).map_err(problem)?, item)),
            Spot::PassedOver => {}
        }
    }
    extents.sort_unstable();
    match extents.windows(2).any(|pair| pair[0].1 > pair[1].0) {
        true => Err("damaged: its entries overlap".into()),
        false => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use flate2::write::DeflateEncoder;
    use flate2::{Compression, Crc};

    use super::super::{Source, archive::tests::png};
    use crate::data::{Sizing, Splits};

    /// An entry as it is written: its name, its method, its content, and what it says its size is.
    struct Entry {
        name: &'static str,
        deflated: bool,
        content: Vec<u8>,
        flags: u16,
        mode: u32,
    }

    fn entry(name: &'static str, deflated: bool, content: Vec<u8>) -> Entry {
        Entry { name, deflated, content, flags: 0, mode: 0o100_644 }
    }

    /// A zip of these entries (APPNOTE 4.3).
    fn zip(entries: &[Entry]) -> Vec<u8> {
        let (mut file, mut directory) = (Vec::new(), Vec::new());
        for Entry { name, deflated, content, flags, mode } in entries {
            let mut crc = Crc::new();
            crc.update(content);
            let mut packed = DeflateEncoder::new(Vec::new(), Compression::default());
            packed.write_all(content).unwrap();
            let packed = if *deflated { packed.finish().unwrap() } else { content.clone() };
            let mut common = vec![20, 0];
            common.extend(flags.to_le_bytes());
            common.extend([if *deflated { 8 } else { 0 }, 0, 0, 0, 0x21, 0]);
            [crc.sum(), packed.len() as u32, content.len() as u32].iter().for_each(|n| common.extend(n.to_le_bytes()));
            common.extend((name.len() as u16).to_le_bytes());
            common.extend([0, 0]);
            let start = file.len() as u32;
            file.extend([b"PK\x03\x04", &common[..], name.as_bytes(), &packed].concat());
            directory.extend([b"PK\x01\x02", &[20, 3][..], &common].concat());
            directory.extend([0; 6]);
            directory.extend((mode << 16).to_le_bytes());
            directory.extend(start.to_le_bytes());
            directory.extend(name.as_bytes());
        }
        let (count, start) = ((entries.len() as u16).to_le_bytes(), file.len() as u32);
        let size = (directory.len() as u32).to_le_bytes();
        file.extend(directory);
        file.extend([b"PK\x05\x06\0\0\0\0", &count[..], &count, &size, &start.to_le_bytes(), &[0, 0]].concat());
        file
    }

    fn load(bytes: &[u8]) -> Result<Splits, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pictures.zip");
        fs::write(&path, bytes).unwrap();
        let source = Source::parse(path.to_str().unwrap()).unwrap();
        source.load(Sizing::default()).map_err(|error| error.to_string())
    }

    fn fine() -> Vec<Entry> {
        vec![
            entry("photos/train/", false, Vec::new()),
            entry("photos/train/dog/1.png", false, png(1)),
            entry("photos/train/cat/2.png", true, png(2)),
            entry("__MACOSX/photos/train/cat/._2.png", false, b"hidden".to_vec()),
            entry("photos/test/dog/3.png", true, png(3)),
        ]
    }

    #[test]
    fn a_zip_is_a_folder() {
        let Splits { train, test, .. } = load(&zip(&fine())).unwrap();
        assert_eq!((train.classes(), train.labels()), (&["cat", "dog"].map(str::to_owned)[..], &[0, 1][..]));
        assert_eq!([0, 1].map(|index| train.image(index).unwrap()[0]), [2, 1]);
        assert_eq!(test.unwrap().image(0).unwrap()[0], 3);
    }

    #[test]
    fn classes_alone_are_a_training_part() {
        let entries = [("photos/cat/1.png", 1), ("photos/dog/2.png", 2), ("photos/dog/3.png", 3)];
        let entries = entries.map(|(name, value)| entry(name, value == 2, png(value)));
        let Splits { train, val, .. } = load(&zip(&entries)).unwrap();
        assert_eq!((train.classes(), train.labels()), (&["cat", "dog"].map(str::to_owned)[..], &[0, 1, 1][..]));
        assert_eq!(([0, 1, 2].map(|index| train.image(index).unwrap()[0]), val), ([1, 2, 3], None));
    }

    #[test]
    fn damage_shows_by_the_checksum() {
        let mut bytes = zip(&[entry("train/dog/1.png", false, png(1)), entry("train/cat/2.png", true, png(2))]);
        for name in ["dog/1.png", "cat/2.png"] {
            let at = bytes.windows(name.len()).position(|window| window == name.as_bytes()).unwrap();
            // The checksum stands 30 - 14 bytes before the name, which follows the header of 30.
            let checksum = at + name.len() - format!("train/{name}").len() - 16;
            bytes[checksum] ^= 1;
            let message = load(&bytes).unwrap_err();
            assert!(message.contains("checksum is another: the archive is damaged"), "{message}");
            bytes[checksum] ^= 1;
        }
        load(&bytes).unwrap();
    }

    #[test]
    fn what_should_not_be_there_is_refused() {
        let problem = |name, spoil: &dyn Fn(&mut Entry)| {
            let mut entries = fine();
            let mut last = entry(name, true, png(4));
            spoil(&mut last);
            entries.push(last);
            load(&zip(&entries)).unwrap_err()
        };
        for name in ["../train/dog/4.png", "/train/dog/4.png", "train/../../dog/4.png"] {
            assert!(problem(name, &|_| ()).contains("stays within the archive"), "{name}");
        }
        assert!(problem("train/dog/4.png", &|entry| entry.mode = 0o120_777).contains("found a link"));
        assert!(problem("train/dog/4.png", &|entry| entry.flags = 1).contains("encrypted"));
        assert!(problem("train/dog/4.png", &|entry| entry.content = b"no".to_vec()).contains("4.png: not a PNG"));
    }

    /// Deflated zeros that unpack to more than any picture.
    #[test]
    fn bombs_and_damage_are_found() {
        let bytes = zip(&fine());
        for end in 0..bytes.len() {
            assert!(load(&bytes[..end]).is_err(), "{end}");
        }
        let bomb = zip(&[entry("train/dog/1.png", true, vec![0; 300 << 20])]);
        let message = load(&bomb).unwrap_err();
        assert!(message.contains("a picture of 314572800 bytes: expected at most"), "{message}");
        // The directory says a small size, the data unpack to a large one.
        let lie = |bytes: &mut Vec<u8>, at: usize| bytes[at..at + 4].copy_from_slice(&100_u32.to_le_bytes());
        let mut lying = bomb;
        let directory = lying.windows(4).rposition(|four| four == b"PK\x01\x02").unwrap();
        lie(&mut lying, directory + 24);
        let message = load(&lying).unwrap_err();
        assert!(message.contains("a picture of 268435457 bytes"), "{message}");
        // Two entries of the same data.
        let mut twice = zip(&[entry("train/dog/1.png", false, png(1)), entry("train/dog/2.png", false, png(1))]);
        let directory = twice.windows(4).rposition(|four| four == b"PK\x01\x02").unwrap();
        twice[directory + 42..directory + 46].copy_from_slice(&0_u32.to_le_bytes());
        let message = load(&twice).unwrap_err();
        assert!(message.contains("overlap"), "{message}");
    }
}
