//! Where the pictures in uncompressed archives lie, kept in the cache folder, so that an archive is read through once: 24 bytes a
//! picture behind a line of JSON, which has the archives' sizes and times of modification. An index of other archives, or one
//! that is damaged, is made anew; one that cannot be written is done without.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Part;
use super::picture_set::{PartList, PictureSet};
use crate::Result;
use crate::data::stored::Item;
use crate::files::write_atomic;

/// An index of fewer pictures is not kept: reading the archive takes no longer.
const KEPT: usize = 5_000;
/// The version of the form that is written here.
const VERSION: u32 = 3;
/// Bytes of a picture.
const RECORD: usize = 24;
/// Larger files are none of ours, in bytes.
const MAX_BYTES: u64 = 4 << 30;

/// The line before the pictures.
#[derive(Deserialize, PartialEq, Serialize)]
struct Head {
    version: u32,
    archives: Vec<Archive>,
    notes: Vec<String>,
    /// For each part, its classes and how many pictures it has.
    parts: [Option<(Vec<String>, usize)>; 3],
    classes_alone: bool,
}

#[derive(Deserialize, PartialEq, Serialize)]
struct Archive {
    path: PathBuf,
    bytes: u64,
    /// Nanoseconds since 1970.
    modified: u64,
}

/// The archives as they are now; nothing where one cannot be described.
fn describe(paths: &[PathBuf]) -> Option<Vec<Archive>> {
    let of = |path: &PathBuf| {
        let path = fs::canonicalize(path).ok()?;
        path.to_str()?;
        let meta = fs::metadata(&path).ok()?;
        let modified = meta.modified().ok()?.duration_since(UNIX_EPOCH).ok()?.as_nanos();
        let modified = u64::try_from(modified).ok()?;
        Some(Archive { path, bytes: meta.len(), modified })
    };
    paths.iter().map(of).collect()
}

/// The pictures in archives, from the index in this folder or else as `find` finds them.
///
/// # Errors
/// As `find`.
pub(super) fn cached(
    folder: Option<PathBuf>,
    paths: &[PathBuf],
    find: impl FnOnce() -> Result<PictureSet>,
) -> Result<PictureSet> {
    let place = folder.zip(describe(paths)).map(|(folder, archives)| {
        let mut hash = Sha256::new();
        archives.iter().for_each(|archive| hash.update(archive.path.as_os_str().as_encoded_bytes()));
        let name: String = hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        (folder.join("index").join(name), archives)
    });
    let Some((file, archives)) = place else { return find() };
    if let Some(set) = read(&file, &archives, paths) {
        return Ok(set);
    }
    let set = find()?;
    if set.parts.iter().flatten().map(|part| part.items.len()).sum::<usize>() >= KEPT {
        // Without it the archive is read again the next time, and nothing else changes.
        let _ = write(&file, archives, &set);
    }
    Ok(set)
}

fn write(file: &Path, archives: Vec<Archive>, set: &PictureSet) -> Result<()> {
    let folder = file.parent().unwrap_or(file);
    fs::create_dir_all(folder).map_err(crate::Error::io("creating", folder))?;
    let part = |part: &Option<PartList>| part.as_ref().map(|list| (list.classes.clone(), list.items.len()));
    let parts = [part(&set.parts[0]), part(&set.parts[1]), part(&set.parts[2])];
    let head = Head { version: VERSION, archives, notes: set.notes.clone(), parts, classes_alone: set.classes_alone };
    write_atomic(file, |out| {
        serde_json::to_writer(&mut *out, &head)?;
        out.write_all(b"\n")?;
        for (part, list) in (0_u32..).zip(&set.parts) {
            for (Item { start, length, place }, label) in list.iter().flat_map(|list| &list.items) {
                out.write_all(&start.to_le_bytes())?;
                [*length, *place, *label, part].iter().try_for_each(|number| out.write_all(&number.to_le_bytes()))?;
            }
        }
        Ok(())
    })
}

/// The index in a file, if it is one of these archives.
fn read(file: &Path, archives: &[Archive], paths: &[PathBuf]) -> Option<PictureSet> {
    if fs::metadata(file).ok()?.len() > MAX_BYTES {
        return None;
    }
    let bytes = fs::read(file).ok()?;
    let line = bytes.iter().position(|&byte| byte == b'\n')?;
    let Head { version, archives: of, notes, parts, classes_alone } = serde_json::from_slice(&bytes[..line]).ok()?;
    let (mut records, rest) = bytes[line + 1..].as_chunks::<RECORD>();
    let count: usize = parts.iter().flatten().try_fold(0_usize, |sum, (_, count)| sum.checked_add(*count))?;
    if version != VERSION || of != archives || records.len() != count || !rest.is_empty() {
        return None;
    }
    let mut set = PictureSet { notes, classes_alone, ..PictureSet::default() };
    paths.iter().for_each(|path| _ = set.files.add_tar(path));
    for ((part, place), of_part) in Part::ALL.into_iter().zip(&mut set.parts).zip(parts) {
        let Some((classes, count)) = of_part else { continue };
        let (own, others) = records.split_at(count);
        records = others;
        let item = |record: &[u8; RECORD]| {
            let number = |at: usize| u32::from_le_bytes([record[at], record[at + 1], record[at + 2], record[at + 3]]);
            let start = u64::from(number(4)) << 32 | u64::from(number(0));
            let (length, place, label) = (number(8), number(12), number(16));
            let end = start.checked_add(length.into())?;
            let fits = archives.get(place as usize).is_some_and(|archive| end <= archive.bytes);
            let is_ours = number(20) == part as u32 && (label as usize) < classes.len();
            (fits && is_ours).then_some((Item { start, length, place }, label))
        };
        let items = own.iter().map(item).collect::<Option<Vec<_>>>()?;
        *place = Some(PartList { classes, items });
    }
    Some(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(paths: &[PathBuf]) -> PictureSet {
        let mut set = PictureSet { notes: vec!["a note".into()], ..PictureSet::default() };
        paths.iter().for_each(|path| _ = set.files.add_tar(path));
        let item = |number: u32| Item { start: u64::from(number % 90), length: 3, place: number % 2 };
        let items = |count: u32| (0..count).map(|number| (item(number), number % 3)).collect();
        let classes = ["a", "b", "c"].map(str::to_owned).to_vec();
        set.parts[0] = Some(PartList { classes: classes.clone(), items: items(KEPT as u32) });
        set.parts[2] = Some(PartList { classes, items: items(7) });
        set
    }

    #[test]
    fn an_index_lasts_as_long_as_its_archives() {
        let folder = tempfile::tempdir().unwrap();
        let paths = ["x.tar", "y.tar"].map(|name| folder.path().join(name)).to_vec();
        paths.iter().for_each(|path| fs::write(path, [0; 100]).unwrap());
        let cache = folder.path().join("cache");
        let found = |finds: bool| {
            let mut has_found = false;
            let find = || {
                has_found = true;
                Ok(set(&paths))
            };
            let found = cached(Some(cache.clone()), &paths, find).unwrap();
            assert_eq!(has_found, finds);
            assert_eq!((&found.parts, &found.notes), (&set(&paths).parts, &set(&paths).notes));
        };
        found(true);
        found(false);
        let file = fs::read_dir(cache.join("index")).unwrap().next().unwrap().unwrap().path();
        let bytes = fs::read(&file).unwrap();
        let head = bytes.iter().position(|&byte| byte == b'\n').unwrap() + 1;
        assert_eq!(bytes.len() - head, RECORD * (KEPT + 7));
        // Damage anywhere in the records that would lead out of the archives, and files that are cut.
        let mut spoiled = bytes.clone();
        spoiled[head + 5] = 1;
        for spoiled in [&spoiled[..], &bytes[..bytes.len() - 1], &bytes[..head], b"", b"{}\n"] {
            fs::write(&file, spoiled).unwrap();
            found(true);
            assert_eq!(fs::read(&file).unwrap(), bytes);
        }
        fs::write(&paths[1], [0; 101]).unwrap();
        found(true);
        fs::File::options().write(true).open(&paths[0]).unwrap().set_modified(UNIX_EPOCH).unwrap();
        found(true);
        found(false);
    }
}
