//! Folders of pictures, a folder for each class: `train/<class>/*` to learn from, `val/<class>/*` (or `valid`,
//! `validation`) and `test/<class>/*` held out. Classes are sorted by name; folders within a class may be nested. Hidden
//! entries and a system's own are left alone; files whose names do not end as a picture's are counted.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::Part;
use super::picture_set::{Classes, PictureFile, PictureSet, class_name, is_passed_over};
use crate::data::picture;
use crate::{Error, Result};

/// Folders of a class may be nested so deep.
const MAX_DEPTH: usize = 32;

/// Whether a folder has parts.
pub(super) fn has_parts(folder: &Path) -> bool {
    Part::ALL.iter().any(|&part| part_folder(folder, part).is_some())
}

/// Whether a folder has classes: folders with pictures.
pub(super) fn has_classes(folder: &Path) -> bool {
    let has_picture = |class: &PathBuf| {
        entries(class)
            .is_ok_and(|entries| entries.iter().any(|(path, is_folder)| !is_folder && picture::is_picture(path)))
    };
    let folders = entries(folder).unwrap_or_default().into_iter().filter(|(_, is_folder)| *is_folder);
    folders.map(|(path, _)| path).any(|class| has_picture(&class))
}

/// The folder of a part, under the first of its names that is there.
fn part_folder(folder: &Path, part: Part) -> Option<PathBuf> {
    part.spellings().iter().map(|name| folder.join(name)).find(|folder| folder.is_dir())
}

/// Finds the pictures of all parts, but reads none of them.
///
/// # Errors
/// What cannot be read, folders that contain themselves, and names that are not UTF-8.
pub(super) fn list(folder: &Path) -> Result<PictureSet> {
    let mut set = PictureSet::default();
    for part in Part::ALL {
        if let Some(folder) = part_folder(folder, part) {
            set.parts[part as usize] = Some(classes(&folder, &mut set)?);
        }
    }
    Ok(set)
}

/// Finds the pictures of a folder that holds the classes of one part.
///
/// # Errors
/// As [`list`].
pub(super) fn list_classes(folder: &Path, part: Part) -> Result<PictureSet> {
    let mut set = PictureSet::default();
    set.parts[part as usize] = Some(classes(folder, &mut set)?);
    Ok(set)
}

/// The pictures in a folder and in those below it, sorted by name.
///
/// # Errors
/// As [`list`].
pub(in crate::data) fn pictures(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    collect(folder, &mut |path| found.push(path), &mut HashSet::new(), 0)?;
    found.retain(|path| picture::is_picture(path) || picture::is_unread_picture(path));
    found.sort();
    Ok(found)
}

fn classes(part: &Path, set: &mut PictureSet) -> Result<Classes> {
    let mut classes = Classes::new();
    for (path, is_folder) in entries(part)? {
        if !is_folder {
            continue;
        }
        let class = path.file_name().and_then(|name| name.to_str());
        let class = class.ok_or_else(|| Error::file(&path, "expected a class whose name is UTF-8"))?;
        let pictures = classes.entry(class_name(class)).or_default();
        let mut take = |file: PathBuf| match picture::is_picture(&file) {
            true => {
                let within = file.strip_prefix(&path).unwrap_or(&file).to_owned();
                pictures.insert(within, PictureFile::OnDisk(file));
            }
            false => set.pass_over(&file),
        };
        collect(&path, &mut take, &mut HashSet::new(), 0)?;
    }
    Ok(classes)
}

/// Tells of the files in a folder and in those below it. `seen` holds the folders that were there, as links may lead back.
fn collect(folder: &Path, take: &mut dyn FnMut(PathBuf), seen: &mut HashSet<PathBuf>, depth: usize) -> Result<()> {
    let place = fs::canonicalize(folder).map_err(Error::io("reading", folder))?;
    if !seen.insert(place) {
        return Err(Error::file(folder, "a link to a folder whose pictures are in this class already"));
    }
    if depth > MAX_DEPTH {
        return Err(Error::file(folder, format!("expected folders of a class to be nested at most {MAX_DEPTH} deep")));
    }
    for (path, is_folder) in entries(folder)? {
        match is_folder {
            true => collect(&path, take, seen, depth + 1)?,
            false => take(path),
        }
    }
    Ok(())
}

/// The paths of what is in a folder, and whether each is a folder, but for entries that are passed over.
fn entries(folder: &Path) -> Result<Vec<(PathBuf, bool)>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::io("reading", folder))? {
        let entry = entry.map_err(Error::io("reading", folder))?;
        if !is_passed_over(&entry.file_name().to_string_lossy()) {
            let path = entry.path();
            let is_folder = fs::metadata(&path).map_err(Error::io("reading", &path))?.is_dir();
            paths.push((path, is_folder));
        }
    }
    Ok(paths)
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
        let val = val.unwrap();
        assert_eq!(test, None);
        assert_eq!((train.classes(), train.labels()), (&["big cat", "dog"].map(str::to_owned)[..], &[0, 1, 1][..]));
        assert_eq!([0, 1, 2].map(|i| train.image(i)[0]), [3, 1, 2]);
        assert_eq!((val.labels(), val.image(0), val.classes()), (&[1][..], &[4; 6][..], train.classes()));
        let target = Some(TargetSize { resize: Some(2), ..TargetSize::exactly([3, 2, 2]) });
        let sizing = Sizing { target, ..Sizing::default() };
        let fitted = Source::Folder(folder.path().into()).load(sizing).unwrap().train;
        assert_eq!((fitted.shape(), fitted.image(0)), ([3, 2, 2], &[3; 12][..]));
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
    fn unequal_sizes_are_brought_to_one_where_that_is_wanted() {
        let folder = folder(&FINE);
        write_png(&folder.path().join("train/dog/0.png"), [3, 2, 3], &[9; 18]).unwrap();
        assert!(load(&folder).unwrap_err().contains("the net takes"));
        let otherwise = Some(TargetSize { resize: Some(2), ..TargetSize::exactly([3, 2, 2]) });
        let load = |largest| {
            let sizing = Sizing { target: None, otherwise, largest };
            Source::Folder(folder.path().into()).load(sizing).unwrap().train.shape()
        };
        assert_eq!(load(9), [3, 2, 2]);
        fs::remove_file(folder.path().join("train/dog/0.png")).unwrap();
        assert_eq!((load(1), load(0)), ([3, 1, 2], [3, 2, 2]));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let problem = |pictures: &[(&str, u8)], spoil: &dyn Fn(&Path)| {
            let folder = folder(pictures);
            spoil(folder.path());
            load(&folder).unwrap_err()
        };
        let with = |pictures: &[(&'static str, u8)]| [&FINE[..], pictures].concat();
        let empty = |path: &Path| fs::create_dir_all(path.join("train/cow")).unwrap();
        assert!(problem(&FINE, &empty).contains("no pictures (PNG, JPEG, WebP, GIF, TIFF or BMP) of class 'cow'"));
        let held_out = problem(&with(&[("val/cow/1.png", 1)]), &|_| ());
        assert!(held_out.contains("class 'cow' is held out, but there is no folder train/cow"), "{held_out}");
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
        symlink(folder.path().join("train/big cat"), folder.path().join("train/cow")).unwrap();
        assert_eq!(load(&folder).unwrap().train.class_counts(), [1, 1, 2]);
        symlink("..", folder.path().join("train/dog/up")).unwrap();
        let message = load(&folder).unwrap_err();
        assert!(message.contains("train/dog/up/dog: a link to a folder whose pictures are in this class"), "{message}");
        fs::remove_file(folder.path().join("train/dog/up")).unwrap();
        symlink("nowhere", folder.path().join("train/dog/lost")).unwrap();
        assert!(load(&folder).unwrap_err().contains("reading"));
    }
}
