//! Folders of pictures, a folder for each class: `train/<class>/*` to learn from, `val/<class>/*` (or `valid`,
//! `validation`) and `test/<class>/*` held out. Classes are sorted by name; folders within a class may be nested. Links are
//! followed, but not in circles, nor twice to a folder of a class. Hidden entries and a system's own are left alone; files
//! whose names do not end as a picture's are counted.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::Part;
use super::found::Found;
use super::picture_set::{PictureSet, class_name, is_passed_over};
use crate::data::picture;
use crate::{Error, Result};

/// Folders of a class may be nested so deep.
const MAX_DEPTH: usize = 32;

/// Folders within which a set may lie, each the only one in the other.
const MAX_WRAPPERS: usize = 8;

/// The folder in which a set lies: this one, or the only one in it, where that is all that is there.
pub(super) fn inner(folder: &Path) -> PathBuf {
    let mut inner = folder.to_owned();
    for _ in 0..MAX_WRAPPERS {
        if has_parts(&inner) || has_classes(&inner) {
            return inner;
        }
        match &entries(&inner).unwrap_or_default().seen[..] {
            [(only, true)] => inner = only.clone(),
            _ => break,
        }
    }
    folder.to_owned()
}

/// Whether pictures lie in a folder itself.
pub(super) fn has_pictures(folder: &Path) -> bool {
    let seen = entries(folder).unwrap_or_default().seen;
    seen.iter().any(|(path, is_folder)| !is_folder && picture::is_picture(path))
}

/// Whether a folder has parts.
pub(super) fn has_parts(folder: &Path) -> bool {
    entries(folder).unwrap_or_default().folders().any(|(name, _)| Part::named(&name).is_some())
}

/// Whether a folder has classes: folders with pictures.
pub(super) fn has_classes(folder: &Path) -> bool {
    entries(folder).unwrap_or_default().folders().any(|(_, class)| has_pictures(class))
}

/// Finds the pictures of all parts, but reads none of them.
///
/// # Errors
/// What cannot be read, folders that are nested too deep, and names that are not UTF-8.
pub(super) fn list(folder: &Path) -> Result<PictureSet> {
    let mut found = Found::default();
    let mut taken: [Option<&PathBuf>; 3] = [None; 3];
    let listed = entries(folder)?;
    for (name, path) in listed.folders() {
        let Some(part) = Part::named(&name) else {
            found.beside.push(name);
            continue;
        };
        if let Some(other) = taken[part as usize].replace(path) {
            let problem = format!("two folders for the part {}: {} and {name}", part.name(), other.display());
            return Err(Error::file(folder, problem));
        }
        classes(path, part, &mut found)?;
    }
    found.beside.sort();
    Ok(found.finish())
}

/// Finds the pictures of a folder that holds the classes of one part.
///
/// # Errors
/// As [`list`].
pub(super) fn list_classes(folder: &Path, part: Part) -> Result<PictureSet> {
    let mut found = Found::default();
    classes(folder, part, &mut found)?;
    Ok(PictureSet { classes_alone: true, ..found.finish() })
}

/// The pictures in a folder and in those below it, sorted by name.
///
/// # Errors
/// As [`list`].
pub(in crate::data) fn pictures(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    collect(folder, None, &mut |path| found.push(path))?;
    found.retain(|path| picture::is_picture(path) || picture::is_unread_picture(path));
    found.sort();
    Ok(found)
}

fn classes(folder: &Path, part: Part, found: &mut Found) -> Result<()> {
    found.part(part);
    let listed = entries(folder)?;
    found.hidden += listed.hidden;
    found.lost_links += listed.lost;
    let place = fs::canonicalize(folder).map_err(Error::io("reading", folder))?;
    for (path, is_folder) in listed.seen {
        if !is_folder {
            // A picture in no class is told of as well.
            found.pass_over(&path);
            continue;
        }
        let class = path.file_name().and_then(|name| name.to_str());
        let class = class.ok_or_else(|| Error::file(&path, "expected a class whose name is UTF-8"))?;
        let class = class_name(class);
        found.class(part, class.clone());
        let mut take = |file: PathBuf| match picture::is_picture(&file) {
            true => {
                let within = file.strip_prefix(&path).unwrap_or(&file).to_owned();
                let item = found.files.add_path(&file);
                found.class(part, class.clone()).insert(within, item);
            }
            false => found.pass_over(&file),
        };
        let Passed { hidden, lost, circles } = collect(&path, Some(&place), &mut take)?;
        found.hidden += hidden;
        found.lost_links += lost;
        found.circles += circles;
    }
    Ok(())
}

/// What was passed over in a folder and in those below it.
#[derive(Default)]
struct Passed {
    hidden: usize,
    /// Links that lead nowhere.
    lost: usize,
    /// Links to folders that have been read, or that hold the folder itself.
    circles: usize,
}

/// Tells of the files in a folder and in those below it, each folder once, and says what was passed over. What holds the folder,
/// or the folder `around` it, holds more than belongs here, so a link to that is not followed.
fn collect(folder: &Path, around: Option<&Path>, take: &mut dyn FnMut(PathBuf)) -> Result<Passed> {
    let place_of = |path: &Path| fs::canonicalize(path).map_err(Error::io("reading", path));
    let own = place_of(folder)?;
    let (mut passed, mut seen) = (Passed::default(), HashSet::new());
    let mut folders = vec![(folder.to_owned(), 0)];
    // These come last, so that a picture goes by the name that it has without them.
    let mut links = BTreeSet::new();
    while let Some((path, depth)) = folders.pop().or_else(|| links.pop_first()) {
        if depth > MAX_DEPTH {
            let problem = format!("expected folders of a class to be nested at most {MAX_DEPTH} deep");
            return Err(Error::file(path, problem));
        }
        let place = place_of(&path)?;
        let holds = |inner: &Path| inner.starts_with(&place);
        let leads_back = (depth > 0 && holds(&own)) || around.is_some_and(holds);
        if leads_back || !seen.insert(place) {
            passed.circles += 1;
            continue;
        }
        let listed = entries(&path)?;
        passed.hidden += listed.hidden;
        passed.lost += listed.lost;
        for (path, is_folder) in listed.seen {
            match is_folder {
                false => take(path),
                true if path.is_symlink() => _ = links.insert((path, depth + 1)),
                true => folders.push((path, depth + 1)),
            }
        }
    }
    Ok(passed)
}

/// What is in a folder.
#[derive(Default)]
struct Entries {
    /// Paths, and whether each is a folder.
    seen: Vec<(PathBuf, bool)>,
    /// How many were passed over.
    hidden: usize,
    /// Links that lead nowhere.
    lost: usize,
}

impl Entries {
    /// The names and the paths of the folders.
    fn folders(&self) -> impl Iterator<Item = (String, &PathBuf)> {
        let folders = self.seen.iter().filter(|(_, is_folder)| *is_folder);
        folders.map(|(path, _)| (path.file_name().unwrap_or_default().to_string_lossy().into_owned(), path))
    }
}

fn entries(folder: &Path) -> Result<Entries> {
    let mut entries = Entries::default();
    for entry in fs::read_dir(folder).map_err(Error::io("reading", folder))? {
        let entry = entry.map_err(Error::io("reading", folder))?;
        if is_passed_over(&entry.file_name().to_string_lossy()) {
            entries.hidden += 1;
            continue;
        }
        let path = entry.path();
        match fs::metadata(&path) {
            Ok(metadata) => entries.seen.push((path, metadata.is_dir())),
            // Also a link to itself, whose error has no kind.
            Err(error) if error.kind() != ErrorKind::PermissionDenied && path.is_symlink() => entries.lost += 1,
            Err(error) => return Err(Error::io("reading", &path)(error)),
        }
    }
    Ok(entries)
}

/// The shards in a folder that has nothing else to learn from, in the order of their names.
pub(super) fn shards(folder: &Path) -> Vec<PathBuf> {
    let seen = entries(folder).unwrap_or_default().seen.into_iter();
    let is_tar = |path: &PathBuf| picture::extension(path).is_some_and(|extension| extension == "tar");
    let mut shards: Vec<PathBuf> =
        seen.filter(|(_, is_folder)| !is_folder).map(|(path, _)| path).filter(is_tar).collect();
    shards.sort();
    shards
}

#[cfg(test)]
mod tests {
    use super::super::Source;
    use super::*;
    use crate::data::picture::write_png;
    use crate::data::{Sizing, Splits, TargetSize};

    /// A folder with pictures at these paths: 2×1 pixels, all of the value that comes with the path.
    fn folder(pictures: &[(&str, u8)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (path, value) in pictures {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            write_png(&path, [3, 1, 2], &[*value; 6]).unwrap();
        }
        folder
    }

    fn load(folder: &tempfile::TempDir) -> Result<Splits, String> {
        Source::parse(folder.path().to_str().unwrap())
            .unwrap()
            .load(Sizing::default())
            .map_err(|error| error.to_string())
    }

    const FINE: [(&str, u8); 5] = [
        ("train/dog/2.png", 2),
        ("train/dog/1.png", 1),
        ("train/big cat/nested/deep/3.PNG", 3),
        ("val/dog/4.png", 4),
        ("test/dog/5.png", 5),
    ];

    #[test]
    fn classes_and_pictures_are_sorted_by_name() {
        let folder = folder(&FINE);
        fs::write(folder.path().join("train/dog/notes.txt"), "no picture").unwrap();
        fs::write(folder.path().join("train/dog/._1.png"), "no picture").unwrap();
        fs::write(folder.path().join("train/readme.png"), "no class").unwrap();
        fs::create_dir(folder.path().join("train/.hidden")).unwrap();
        let Splits { train, val, test } = load(&folder).unwrap();
        let (val, test) = (val.unwrap(), test.unwrap());
        assert_eq!((test.labels(), &*test.image(0).unwrap(), test.classes()), (&[1][..], &[5; 6][..], train.classes()));
        assert_eq!((train.classes(), train.labels()), (&["big cat", "dog"].map(str::to_owned)[..], &[0, 1, 1][..]));
        assert_eq!([0, 1, 2].map(|i| train.image(i).unwrap()[0]), [3, 1, 2]);
        assert_eq!((val.labels(), &*val.image(0).unwrap(), val.classes()), (&[1][..], &[4; 6][..], train.classes()));
        let target = Some(TargetSize { resize: Some(2), ..TargetSize::exactly([3, 2, 2]) });
        let sizing = Sizing { target, ..Sizing::default() };
        let fitted = Source::Folder(folder.path().into()).load(sizing).unwrap().train;
        assert_eq!((fitted.shape(), &*fitted.image(0).unwrap()), ([3, 2, 2], &[3; 12][..]));
    }

    #[test]
    fn the_held_out_part_can_stand_alone() {
        let folder = folder(&FINE[3..]);
        assert!(load(&folder).unwrap_err().contains("expected folders train/<class> with pictures, found none"));
        let val = Source::Folder(folder.path().into()).held_out(None, None).unwrap();
        assert_eq!((val.classes(), val.len(), val.part()), (&["dog".to_owned()][..], 1, Some(Part::Val)));
    }

    #[test]
    fn classes_alone_are_a_training_part() {
        let folder = folder(&[("dog/1.png", 1), ("cat/2.png", 2), ("cat/3.png", 3)]);
        let Splits { train, val, test } = load(&folder).unwrap();
        assert_eq!((train.class_counts(), train.classes()), (vec![2, 1], &["cat", "dog"].map(str::to_owned)[..]));
        assert_eq!((val, test), (None, None));
    }

    #[test]
    fn folders_may_lie_in_others_and_be_spelled_otherwise() {
        let nested = folder(&[("photos/all/dog/1.png", 1), ("photos/all/cat/2.png", 2)]);
        assert_eq!(load(&nested).unwrap().train.class_counts(), [1, 1]);
        let spelled = folder(&[("Training/dog/1.png", 1), ("VALID/dog/2.png", 2), ("dev/dog/3.png", 3)]);
        let Splits { train, val, .. } = load(&spelled).unwrap();
        assert_eq!((train.len(), val.map(|val| val.len())), (1, Some(1)));
        assert_eq!(train.warnings(), ["not read: 1 folder beside those of the parts: dev"]);
        let twice = folder(&[("train/dog/1.png", 1), ("val/dog/2.png", 2), ("valid/dog/3.png", 3)]);
        assert!(load(&twice).unwrap_err().contains("two folders for the part val"));
        let classless = folder(&[("1.png", 1), ("2.png", 2)]);
        let message = load(&classless).unwrap_err();
        assert!(message.contains("pictures, but no folder for each class"), "{message}");
    }

    #[test]
    fn decoded_pictures_keep_the_names_of_their_files() {
        let folder = folder(&FINE);
        let train = load(&folder).unwrap().train;
        assert!(train.is_decoded() && train.image_name(1).ends_with("train/dog/1.png"), "{}", train.image_name(1));
        let (rest, held_out) = train.parted(&[false, true, false]);
        assert!(held_out.image_name(0).ends_with("1.png") && rest.image_name(1).ends_with("2.png"));
    }

    #[test]
    fn unequal_sizes_are_brought_to_one_where_that_is_wanted() {
        let folder = folder(&FINE);
        write_png(&folder.path().join("train/dog/0.png"), [3, 2, 3], &[9; 18]).unwrap();
        assert!(load(&folder).unwrap_err().contains("the net takes"));
        let otherwise = Some(TargetSize { resize: Some(2), ..TargetSize::exactly([3, 2, 2]) });
        let load = |largest| {
            let sizing = Sizing { otherwise, largest, ..Sizing::default() };
            Source::Folder(folder.path().into()).load(sizing).unwrap().train.shape()
        };
        assert_eq!(load(9), [3, 2, 2]);
        fs::remove_file(folder.path().join("train/dog/0.png")).unwrap();
        assert_eq!((load(1), load(0)), ([3, 1, 2], [3, 2, 2]));
    }

    #[test]
    fn messy_folders_are_read_and_told_of() {
        let folder = folder(&[&FINE[..], &[("val/cow/1.png", 1), ("val/cow/2.png", 1)]].concat());
        let path = |name: &str| folder.path().join(name);
        fs::create_dir_all(path("train/horse/empty")).unwrap();
        fs::create_dir_all(path("train/.git/objects")).unwrap();
        for file in
            ["train/Thumbs.db", "train/dog/.DS_Store", "train/dog/notes.txt", "train/dog/x.heic", "train/lost.png"]
        {
            fs::write(path(file), "no picture").unwrap();
        }
        let Splits { train, val, .. } = load(&folder).unwrap();
        assert_eq!((train.classes(), train.len()), (&["big cat", "dog"].map(str::to_owned)[..], 3));
        assert_eq!(
            train.warnings(),
            [
                "not read as pictures: 3 files (1 .heic, 1 .png, 1 .txt)",
                "passed over: 3 entries, hidden or a system's own",
                "left out: 1 class of train without pictures: horse",
            ]
        );
        let val = val.unwrap();
        assert_eq!((val.len(), val.labels()), (1, &[1][..]));
        assert_eq!(
            val.warnings(),
            [
                "left out: 2 pictures of 1 class of val without training pictures: cow",
                "1 class without pictures in val: big cat",
            ]
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        let problem = |pictures: &[(&str, u8)], spoil: &dyn Fn(&Path)| {
            let folder = folder(pictures);
            spoil(folder.path());
            load(&folder).unwrap_err()
        };
        let none = problem(&[("val/dog/1.png", 1)], &|path| fs::create_dir_all(path.join("train/cow")).unwrap());
        assert!(
            none.contains("no pictures of the part train: expected pictures (PNG, JPEG, WebP, GIF, TIFF or BMP)"),
            "{none}"
        );
        let others = problem(&[("train/dog/1.png", 1), ("val/cow/1.png", 1)], &|_| ());
        assert!(
            others.contains("1 class of val without training pictures: cow; expected the same classes as in train"),
            "{others}"
        );
        let cut = |path: &Path| {
            let file = path.join("train/dog/2.png");
            let bytes = fs::read(&file).unwrap();
            fs::write(file, &bytes[..bytes.len() / 2]).unwrap();
        };
        assert!(problem(&FINE, &cut).contains("train/dog/2.png: cannot be decoded as a picture"));
        let other = |path: &Path| write_png(&path.join("val/dog/4.png"), [3, 2, 1], &[0; 6]).unwrap();
        assert!(problem(&FINE, &other).contains("val/dog/4.png: a picture of 1x2 pixels, but the net takes 2x1"));
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_but_not_in_circles() {
        use std::os::unix::fs::symlink;
        let folder = folder(&FINE);
        let link = |to: &str, name: &str| symlink(to, folder.path().join(name)).unwrap();
        let loaded = || {
            let train = load(&folder).unwrap().train;
            (train.class_counts(), train.warnings().join(" "))
        };
        link("big cat", "train/cow");
        assert_eq!(loaded(), (vec![1, 1, 2], String::new()));
        // To the class, to all classes, to a folder that has been read, and a class that is all of them.
        link(".", "train/dog/again");
        link("..", "train/dog/up");
        link("..", "train/big cat/nested/deep/above");
        link("..", "train/all");
        let (counts, warnings) = loaded();
        assert_eq!(counts, [1, 1, 2]);
        // The folder of cats is read for the cows, too.
        assert!(warnings.contains("not followed: 5 links in a circle"), "{warnings}");
        assert!(warnings.contains("left out: 1 class of train without pictures: all"), "{warnings}");
        let names = pictures(&folder.path().join("train/dog")).unwrap();
        assert_eq!(names.len(), 2, "{names:?}");
        link("nowhere", "train/dog/lost");
        link("itself", "train/dog/itself");
        let (_, warnings) = loaded();
        assert!(warnings.contains("not followed: 2 links to what is not there"), "{warnings}");
    }
}
