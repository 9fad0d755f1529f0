//! What a data set holds and what is wrong with it: pictures by part and class, their sizes, those that cannot be read or are
//! damaged, and those that are there twice, by the content of their decoded pixels.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::list::Absent;
use super::picture_set::{LeftOut, PictureSet, each, sorted_classes};
use super::{Part, Sizing, Source};
use crate::data::stored::Stored;
use crate::data::{Dataset, Splits, TargetSize};
use crate::{Error, Result};

/// What was found in a data set.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Check {
    /// Every part that is there.
    pub parts: Vec<PartCheck>,
    /// Pictures that cannot be read.
    pub unreadable: Vec<LeftOut>,
    /// Pictures whose files are damaged but can be read: their names, and what is wrong.
    pub damaged: Vec<String>,
    /// Pictures of the same pixels in different parts: a net is measured on what it was trained on.
    pub leaks: Vec<Same>,
    /// Pictures of the same pixels in different classes of a part.
    pub contradictions: Vec<Same>,
    /// Pictures of the same pixels in one class of a part.
    pub duplicates: Vec<Same>,
    /// What was noticed as the pictures were listed.
    pub notes: Vec<String>,
}

/// What was found in a part.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PartCheck {
    /// `train`, `val` or `test`.
    pub part: String,
    /// Pictures in all.
    pub pictures: usize,
    /// Each class, and how many pictures it has.
    pub classes: Vec<(String, usize)>,
    /// The least width and height, those in the middle, and the greatest, each by itself; nothing where no picture can be read.
    pub sizes: Option<[[usize; 2]; 3]>,
    /// How many sizes there are.
    pub distinct_sizes: usize,
}

/// Pictures of the same pixels.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Same {
    /// The part, the class and the name of each.
    pub pictures: Vec<(String, String, String)>,
}

impl Check {
    /// Whether nothing is wrong: no part without pictures, no pictures that cannot be read or are damaged, and none that are the same
    /// in different parts or classes.
    pub fn is_sound(&self) -> bool {
        let Check { unreadable, damaged, leaks, contradictions, .. } = self;
        self.parts.iter().all(|part| part.pictures > 0)
            && unreadable.is_empty()
            && damaged.is_empty()
            && leaks.is_empty()
            && contradictions.is_empty()
    }
}

/// A part to be looked at.
struct Looked {
    part: Part,
    classes: Vec<String>,
    labels: Vec<u32>,
    pictures: Pictures,
}

enum Pictures {
    Stored(Stored),
    Memory(Box<Dataset>),
}

/// What one picture is: the beginning of the hash of its pixels, its height and its width.
type Print = ([u8; 16], [u32; 2]);

impl Looked {
    fn look(&self, index: usize, content: &mut Vec<u8>) -> Result<Print> {
        match &self.pictures {
            Pictures::Stored(stored) => {
                let whole = stored.decode(index, TargetSize::customary([3, 1, 1]), content)?;
                Ok(print(&whole.pixels, whole.shape))
            }
            Pictures::Memory(data) => Ok(print(&data.image(index)?, data.shape())),
        }
    }

    fn name(&self, index: usize) -> String {
        match &self.pictures {
            Pictures::Stored(stored) => stored.name(index),
            Pictures::Memory(data) => data.image_name(index),
        }
    }
}

fn print(pixels: &[u8], [_, height, width]: [usize; 3]) -> Print {
    let size = [height as u32, width as u32];
    let mut hash = Sha256::new();
    size.iter().for_each(|side| hash.update(side.to_le_bytes()));
    hash.update(pixels);
    let mut start = [0; 16];
    start.copy_from_slice(&hash.finalize()[..16]);
    (start, size)
}

impl Source {
    /// Decodes every picture of every part and says what there is and what is wrong. `watch` is told how many pictures of how many
    /// have been looked at, by any thread, and can break off: then there is no result.
    ///
    /// # Errors
    /// A set that cannot be listed.
    pub fn check(&self, watch: &(dyn Fn(usize, usize) -> bool + Sync)) -> Result<Option<Check>> {
        let (parts, mut notes) = self.looked()?;
        if parts.is_empty() {
            let problem = "expected pictures in folders <class>, or train/<class>, found none";
            return Err(Error::file(self.path().unwrap_or(Path::new("")), problem));
        }
        let empty = parts.iter().filter(|part| part.labels.is_empty());
        notes.extend(empty.map(|part| format!("the part {} has no pictures", part.part.name())));
        let total: usize = parts.iter().map(|part| part.labels.len()).sum();
        let (mut check, mut prints, done) = (Check { notes, ..Check::default() }, Vec::new(), AtomicUsize::new(0));
        let stop = AtomicBool::new(false);
        let stopped = || Error::invalid("a thread that decodes pictures broke off");
        for part in &parts {
            let found = Mutex::new(vec![None; part.labels.len()]);
            let problems = each(part.labels.len(), |index, content| {
                if stop.load(Ordering::Relaxed) {
                    return Err(stopped());
                }
                let print = part.look(index, content);
                let count = 1 + done.fetch_add(1, Ordering::Relaxed);
                if !watch(count, total) {
                    stop.store(true, Ordering::Relaxed);
                }
                found.lock().map_err(|_| stopped())?[index] = Some(print?);
                Ok(())
            })?;
            if stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            for (index, error) in problems {
                check.unreadable.push(LeftOut::new(part.part, index, part.name(index), &error));
            }
            if let Pictures::Stored(stored) = &part.pictures {
                check.damaged.extend(stored.take_warnings());
            }
            let found = found.into_inner().map_err(|_| stopped())?;
            check.parts.push(part_check(part, &found));
            prints.push(found);
        }
        check.compare(&parts, &prints);
        Ok(Some(check))
    }

    /// The parts of the set, and what was noticed.
    fn looked(&self) -> Result<(Vec<Looked>, Vec<String>)> {
        if let Some(set) = self.listed(&Part::ALL, Absent::Kept)? {
            let PictureSet { parts, files, notes, classes_alone: _ } = set;
            let files = Arc::new(files);
            let looked = |(part, list): (Part, Option<super::picture_set::PartList>)| {
                let list = list?;
                let (items, labels) = list.items.into_iter().unzip();
                let pictures = Pictures::Stored(Stored::new(Arc::clone(&files), items));
                Some(Looked { part, classes: list.classes, labels, pictures })
            };
            return Ok((Part::ALL.into_iter().zip(parts).filter_map(looked).collect(), notes));
        }
        let Splits { train, val, test } = self.load(Sizing::default())?;
        let notes = train.warnings().to_vec();
        let parts = [(Part::Train, Some(train)), (Part::Val, val), (Part::Test, test)];
        let looked = |(part, data): (Part, Option<Dataset>)| {
            let data = data?;
            let (classes, labels) = (data.classes().to_vec(), data.labels().to_vec());
            Some(Looked { part, classes, labels, pictures: Pictures::Memory(Box::new(data)) })
        };
        Ok((parts.into_iter().filter_map(looked).collect(), notes))
    }
}

fn part_check(part: &Looked, prints: &[Option<Print>]) -> PartCheck {
    let mut counts = vec![0; part.classes.len()];
    part.labels.iter().for_each(|&label| counts[label as usize] += 1);
    let mut sides: [Vec<usize>; 2] =
        [1, 0].map(|axis| prints.iter().flatten().map(|(_, size)| size[axis] as usize).collect());
    sides.iter_mut().for_each(|sides| sides.sort_unstable());
    let mut sizes: Vec<[u32; 2]> = prints.iter().flatten().map(|(_, size)| *size).collect();
    sizes.sort_unstable();
    sizes.dedup();
    let at = |place: fn(usize) -> usize| [&sides[0], &sides[1]].map(|sides| sides[place(sides.len())]);
    let all = (!sizes.is_empty()).then(|| [at(|_| 0), at(|count| count / 2), at(|count| count - 1)]);
    PartCheck {
        part: part.part.name().into(),
        pictures: part.labels.len(),
        classes: part.classes.iter().cloned().zip(counts).collect(),
        sizes: all,
        distinct_sizes: sizes.len(),
    }
}

impl Check {
    /// Finds pictures of the same pixels.
    fn compare(&mut self, parts: &[Looked], prints: &[Vec<Option<Print>>]) {
        let mut places: HashMap<Print, Vec<(usize, usize)>> = HashMap::new();
        for (part, prints) in prints.iter().enumerate() {
            for (index, print) in prints.iter().enumerate() {
                print.iter().for_each(|print| places.entry(*print).or_default().push((part, index)));
            }
        }
        let mut groups: Vec<Vec<(usize, usize)>> = places.into_values().filter(|group| group.len() > 1).collect();
        groups.sort();
        for group in groups {
            let class = |(part, index): (usize, usize)| parts[part].classes[parts[part].labels[index] as usize].clone();
            let describe = |&(part, index): &(usize, usize)| {
                (parts[part].part.name().to_owned(), class((part, index)), parts[part].name(index))
            };
            let same = Same { pictures: group.iter().map(describe).collect() };
            let classes: Vec<String> = group.iter().map(|&place| class(place)).collect();
            let list = match group.iter().any(|(part, _)| *part != group[0].0) {
                true => &mut self.leaks,
                false if sorted_classes(classes.iter().map(String::as_str)).len() > 1 => &mut self.contradictions,
                false => &mut self.duplicates,
            };
            list.push(same);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::archive::tests::png;
    use super::*;

    #[test]
    fn counts_sizes_and_everything_wrong_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        };
        for (name, value) in [("train/a/1.png", 1), ("train/a/2.png", 1), ("train/b/3.png", 3), ("train/a/4.png", 3)] {
            write(name, &png(value));
        }
        let wide = folder.path().join("train/b/wide.png");
        crate::data::picture::write_png(&wide, [3, 2, 7], &[9; 42]).unwrap();
        write("train/b/bad.png", b"no picture");
        write("val/a/1.png", &png(5));
        let source = Source::Folder(folder.path().into());
        let check = || source.check(&|_, _| true).unwrap().unwrap();
        let found = check();
        let train = &found.parts[0];
        assert_eq!((train.pictures, &train.classes[..]), (6, &[("a".to_owned(), 3), ("b".to_owned(), 3)][..]));
        assert_eq!((train.sizes, train.distinct_sizes), (Some([[2, 1], [2, 1], [7, 2]]), 2));
        assert_eq!((found.unreadable.len(), &found.unreadable[0].problem[..5]), (1, "not a"));
        let names = |same: &[Same]| {
            let name = |name: &str| std::path::Path::new(name).file_name().unwrap().to_string_lossy().into_owned();
            same.iter().map(|same| same.pictures.iter().map(|(.., path)| name(path)).collect()).collect::<Vec<Vec<_>>>()
        };
        assert_eq!(
            (names(&found.duplicates), names(&found.contradictions)),
            (vec![vec!["1.png".into(), "2.png".into()]], vec![vec!["4.png".into(), "3.png".into()]])
        );
        assert!(found.leaks.is_empty() && !found.is_sound());
        for name in ["train/b/bad.png", "train/a/4.png"] {
            fs::remove_file(folder.path().join(name)).unwrap();
        }
        assert!(check().is_sound());
        write("val/a/1.png", &png(3));
        let leak = &check().leaks[0].pictures;
        assert_eq!((&leak[0].0[..], &leak[0].1[..], &leak[1].0[..]), ("train", "b", "val"));
        assert_eq!(source.check(&|done, _| done < 3).unwrap(), None);
    }
}
