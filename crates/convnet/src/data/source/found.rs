//! The pictures of folders or of an archive as they are found, before they are a set.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::Part;
use super::picture_set::{PartList, PictureSet, class_name, listed};
use crate::columns::counted;
use crate::data::picture;
use crate::data::stored::{Files, Item};

/// The pictures of one part by class, each by its path below the class; both sorted by name.
type Classes = BTreeMap<String, BTreeMap<PathBuf, Item>>;

/// The pictures of folders or of an archive of them, as they are found.
#[derive(Default)]
pub(super) struct Found {
    /// As [`Part::ALL`] has them.
    parts: [Option<Classes>; 3],
    /// Where the pictures' files are.
    pub(super) files: Files,
    /// How the names of files end that are no pictures, and how many there are of each.
    passed_over: BTreeMap<String, usize>,
    /// Hidden entries, and those that are a system's own.
    pub(super) hidden: usize,
    /// Links that lead nowhere.
    pub(super) lost_links: usize,
    /// Links to folders that have been read for their class, or that hold it.
    pub(super) circles: usize,
    /// Pictures of an archive that lie in no part, with their paths, as long as no part has come.
    pub(super) apart: Vec<(PathBuf, Item)>,
    /// Folders beside those of the parts.
    pub(super) beside: Vec<String>,
}

impl Found {
    /// The pictures of a class of a part, which is there from now on.
    pub(super) fn class(&mut self, part: Part, class: String) -> &mut BTreeMap<PathBuf, Item> {
        self.part(part).entry(class).or_default()
    }

    /// The classes of a part, which is there from now on.
    pub(super) fn part(&mut self, part: Part) -> &mut Classes {
        self.parts[part as usize].get_or_insert_default()
    }

    /// The picture at a place, if there is one.
    pub(super) fn find(&self, part: Part, class: &str, within: &Path) -> Option<Item> {
        self.parts[part as usize].as_ref()?.get(class)?.get(within).copied()
    }

    /// Whether there is no part.
    pub(super) fn is_empty(&self) -> bool {
        self.parts.iter().all(Option::is_none)
    }

    /// Makes folders that are no parts classes of a training part: those below all folders that the pictures share. Whether there
    /// are any.
    fn take_classes_alone(&mut self) -> bool {
        let apart = std::mem::take(&mut self.apart);
        let folders = apart.iter().map(|(path, _)| path.parent().unwrap_or(Path::new("")));
        let depth = |folder: &Path| folder.components().count();
        let both = |a: &Path, b: &Path| a.components().zip(b.components()).take_while(|(a, b)| a == b).count();
        let Some(first) = folders.clone().next() else { return false };
        let shared = folders.clone().fold(depth(first), |most, folder| most.min(both(first, folder)));
        // All in one folder are of one class.
        let is_one = folders.clone().all(|folder| depth(folder) == shared);
        let shared = if is_one { shared.saturating_sub(1) } else { shared };
        for (path, item) in apart {
            let mut names = path.components().skip(shared);
            let class = names.next().map(|class| class_name(&class.as_os_str().to_string_lossy()));
            let within: PathBuf = names.collect();
            match class.filter(|_| within != Path::new("")) {
                Some(class) => _ = self.class(Part::Train, class).insert(within, item),
                // A picture in no class is told of as well.
                None => self.pass_over(&path),
            }
        }
        !self.is_empty()
    }

    /// Takes note of a file that is no picture.
    pub(super) fn pass_over(&mut self, name: &Path) {
        let ending = picture::extension(name).map_or("without an ending".to_owned(), |ending| format!(".{ending}"));
        *self.passed_over.entry(ending).or_default() += 1;
    }

    /// The set, without classes that have no picture, and what is to be told of what was found.
    pub(super) fn finish(mut self) -> PictureSet {
        let classes_alone = self.is_empty() && self.take_classes_alone();
        let mut notes = Vec::new();
        if !self.passed_over.is_empty() {
            let count: usize = self.passed_over.values().sum();
            let endings: Vec<String> = self.passed_over.iter().map(|(end, count)| format!("{count} {end}")).collect();
            notes.push(format!("not read as pictures: {} ({})", counted(count, "file"), endings.join(", ")));
        }
        if self.hidden > 0 {
            notes.push(format!("passed over: {}, hidden or a system's own", counted(self.hidden, "entry")));
        }
        if self.lost_links > 0 {
            notes.push(format!("not followed: {} to what is not there", counted(self.lost_links, "link")));
        }
        if self.circles > 0 {
            let links = counted(self.circles, "link");
            notes.push(format!(
                "not followed: {links} in a circle, or to a folder whose pictures are in the class already"
            ));
        }
        if !self.beside.is_empty() {
            let (folders, beside) = (counted(self.beside.len(), "folder"), listed(&self.beside));
            notes.push(format!("not read: {folders} beside those of the parts: {beside}"));
        }
        let mut parts = [None, None, None];
        for (part, classes) in Part::ALL.into_iter().zip(self.parts) {
            let Some(mut classes) = classes else { continue };
            let empty: Vec<String> =
                classes.extract_if(.., |_, pictures| pictures.is_empty()).map(|(class, _)| class).collect();
            if !empty.is_empty() {
                let (classes, part) = (counted(empty.len(), "class"), part.name());
                notes.push(format!("left out: {classes} of {part} without pictures: {}", listed(&empty)));
            }
            let mut list = PartList::default();
            for (label, (class, pictures)) in (0..).zip(classes) {
                list.classes.push(class);
                list.items.extend(pictures.into_values().map(|item| (item, label)));
            }
            parts[part as usize] = Some(list);
        }
        PictureSet { parts, files: self.files, notes, classes_alone }
    }
}
