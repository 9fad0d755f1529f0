//! Shards in WebDataset's form: tars in which the members of a sample lie beside each other and share the path up to the first
//! dot of the file's name: a picture (`.jpg`, `.png`, …) and its label, as `.cls` (a number or a name), `.json` (its field
//! `label` or `cls`) or `.txt`. They are read once for where the pictures are, and the pictures in place then.
//!
//! The part of a shard is the word of its name that is a part's (`photos-val-000003.tar`), else it is for training. Classes are
//! sorted as numbers where all labels are numbers, else by name.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tar::{Archive, Entry, EntryType};

use super::Part;
use super::archive::{TarEnd, names, unreadable};
use super::picture_set::{PartList, PictureSet, is_passed_over, sorted_classes};
use crate::columns::counted;
use crate::data::picture;
use crate::data::stored::Item;
use crate::{Error, Result};

/// No label's file is longer, in bytes.
const MAX_LABEL: u64 = 1 << 20;
/// Nor a label itself, in letters.
const MAX_NAME: usize = 200;
/// A pattern stands for so many shards at most.
const MAX_SHARDS: usize = 100_000;

/// The paths that a pattern with braces stands for: `{000..146}` counts, with as many digits, and `{train,val}` lists; nothing
/// where a text has no braces of that kind.
pub(super) fn expand(pattern: &str) -> Option<Vec<String>> {
    let open = pattern.find('{')?;
    let close = open + pattern[open..].find('}')?;
    let (before, inside, after) = (&pattern[..open], &pattern[open + 1..close], &pattern[close + 1..]);
    let values: Vec<String> = match inside.split_once("..") {
        Some((first, last)) => {
            let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            if !digits(first) || !digits(last) {
                return None;
            }
            let (from, to): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
            if to.checked_sub(from)? >= MAX_SHARDS as u64 {
                return None;
            }
            (from..=to).map(|number| format!("{number:0width$}", width = first.len())).collect()
        }
        None if inside.contains(',') => inside.split(',').map(str::to_owned).collect(),
        None => return None,
    };
    let rest = expand(after).unwrap_or_else(|| vec![after.to_owned()]);
    if values.len().checked_mul(rest.len())? > MAX_SHARDS {
        return None;
    }
    Some(values.iter().flat_map(|value| rest.iter().map(move |rest| format!("{before}{value}{rest}"))).collect())
}

/// The part that a shard's name says.
fn part_of(shard: &Path) -> Part {
    let name = shard.file_name().unwrap_or_default().to_string_lossy();
    let mut words = name.split(|letter: char| !letter.is_alphanumeric());
    words.find_map(Part::named).unwrap_or(Part::Train)
}

/// Finds the pictures in shards, but reads none of them.
///
/// # Errors
/// Shards that cannot be read, are damaged or cut short, or hold what they should not; no picture with a label.
pub(super) fn index(shards: &[PathBuf]) -> Result<PictureSet> {
    let mut found = Found::default();
    let mut set = PictureSet::default();
    for shard in shards {
        let place = set.files.add_tar(shard);
        found.read(shard, place).map_err(|problem| Error::file(shard, problem))?;
    }
    found.sorted_into(set).ok_or_else(|| {
        let first = shards.first().cloned().unwrap_or_default();
        let expected = "expected pictures in folders <class>, or samples in WebDataset's form: a picture and beside it its label, \
                        as .cls, .json or .txt";
        Error::file(first, expected)
    })
}

/// What a sample says of its class; of several, the greatest counts: a name before a number before a text.
type Label = (u8, String);

/// A sample whose members may not have come all.
#[derive(Default)]
struct Sample {
    key: PathBuf,
    picture: Option<Item>,
    label: Option<Label>,
}

/// The samples of all shards.
#[derive(Default)]
struct Found {
    numbers: HashMap<String, u32>,
    labels: Vec<String>,
    samples: [Vec<(Item, u32)>; 3],
    unlabelled: usize,
    without_picture: usize,
    sample: Sample,
}

impl Found {
    fn read(&mut self, shard: &Path, place: u32) -> Result<(), String> {
        let (file, length) = crate::data::open(shard).map_err(|error| error.to_string())?;
        let mut end = TarEnd::new(length);
        let part = part_of(shard);
        let mut archive = Archive::new(file);
        for entry in archive.entries_with_seek().map_err(|error| unreadable(&error))? {
            let entry = entry.map_err(|error| unreadable(&error))?;
            end.pass(&entry)?;
            self.member(entry, place, part)?;
        }
        self.end_sample(part);
        end.check(&archive.into_inner())
    }

    fn member(&mut self, mut entry: Entry<'_, File>, place: u32, part: Part) -> Result<(), String> {
        let name = entry.path().map_err(|error| unreadable(&error))?.into_owned();
        let problem = |problem: String| format!("entry '{}': {problem}", name.display());
        match entry.header().entry_type() {
            EntryType::Regular | EntryType::Continuous => {}
            EntryType::Directory | EntryType::XGlobalHeader => return Ok(()),
            other => return Err(problem(format!("expected files and folders alone, found type {other:?}"))),
        }
        let parts = names(&name).map_err(problem)?;
        let Some((file, folders)) = parts.split_last().filter(|_| !parts.iter().any(|name| is_passed_over(name)))
        else {
            return Ok(());
        };
        let Some((stem, ending)) = file.split_once('.') else { return Ok(()) };
        let key = folders.iter().collect::<PathBuf>().join(stem);
        if key != self.sample.key {
            self.end_sample(part);
            self.sample.key = key;
        }
        let (ending, size) = (ending.to_lowercase(), entry.size());
        if matches!(&ending[..], "cls" | "json" | "txt") {
            if size > MAX_LABEL {
                return Err(problem(format!("a label of {size} bytes: expected at most {MAX_LABEL}")));
            }
            let mut text = String::new();
            entry.read_to_string(&mut text).map_err(|error| problem(unreadable(&error)))?;
            let label = label(&ending, &text).map_err(problem)?;
            self.sample.label = self.sample.label.take().max(label);
        } else if self.sample.picture.is_none()
            && picture::is_picture(Path::new(&format!("x.{ending}")))
            && !ending.contains('.')
        {
            picture::check_bytes(size).map_err(|error| problem(error.to_string()))?;
            self.sample.picture = Some(Item { start: entry.raw_file_position(), length: size as u32, place });
        }
        Ok(())
    }

    fn end_sample(&mut self, part: Part) {
        let Sample { picture, label, .. } = std::mem::take(&mut self.sample);
        match (picture, label) {
            (Some(item), Some((_, label))) => {
                let labels = &mut self.labels;
                let number = *self.numbers.entry(label).or_insert_with_key(|label| {
                    labels.push(label.clone());
                    labels.len() as u32 - 1
                });
                self.samples[part as usize].push((item, number));
            }
            (Some(_), None) => self.unlabelled += 1,
            (None, Some(_)) => self.without_picture += 1,
            (None, None) => {}
        }
    }

    /// The set, in which each part has the classes that it has pictures of; nothing where no picture has a label.
    fn sorted_into(self, mut set: PictureSet) -> Option<PictureSet> {
        if self.samples.iter().all(Vec::is_empty) {
            return None;
        }
        let classes = sorted_classes(self.labels.iter().map(String::as_str));
        let place: HashMap<&str, u32> =
            classes.iter().zip(0..).map(|(class, number)| (class.as_str(), number)).collect();
        let number: Vec<u32> = self.labels.iter().map(|label| place[label.as_str()]).collect();
        for (part, samples) in self.samples.into_iter().enumerate().filter(|(_, samples)| !samples.is_empty()) {
            let items = samples.into_iter().map(|(item, label)| (item, number[label as usize])).collect();
            set.parts[part] = Some(PartList { classes: classes.clone(), items }.with_used_classes());
        }
        for (count, what, without) in
            [(self.unlabelled, "picture", "a label"), (self.without_picture, "label", "a picture")]
        {
            if count > 0 {
                set.notes.push(format!("left out: {} without {without}", counted(count, what)));
            }
        }
        set.classes_alone = !set.has(Part::Val) && !set.has(Part::Test);
        Some(set)
    }
}

/// What the file of a label says; nothing where it has no label.
fn label(ending: &str, text: &str) -> Result<Option<Label>, String> {
    let text = text.trim();
    let found = match ending {
        "cls" => Some((2, text.to_owned())),
        "txt" => Some((0, text.to_owned())),
        _ => {
            let value: Value = serde_json::from_str(text).map_err(|error| format!("expected JSON: {error}"))?;
            match value.get("label").or_else(|| value.get("cls")) {
                Some(Value::String(name)) => Some((3, name.trim().to_owned())),
                Some(Value::Number(number)) => Some((1, number.to_string())),
                Some(_) | None => None,
            }
        }
    };
    let found = found.filter(|(_, name)| !name.is_empty());
    match &found {
        // A caption is no label.
        Some((0, name)) if name.chars().count() > MAX_NAME || name.contains('\n') => Ok(None),
        Some((_, name)) if name.chars().count() > MAX_NAME => {
            Err(format!("a label of {} letters: expected at most {MAX_NAME}", name.chars().count()))
        }
        _ => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tar::{Builder, Header};

    use super::super::{Source, archive::tests::png};
    use super::*;
    use crate::data::{Sizing, Splits, ValSplit};

    fn shard(path: &Path, members: &[(&str, &[u8])]) {
        let mut tar = Builder::new(Vec::new());
        for (name, content) in members {
            let mut header = Header::new_ustar();
            header.as_ustar_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_size(content.len() as u64);
            header.set_cksum();
            tar.append(&header, *content).unwrap();
        }
        fs::write(path, tar.into_inner().unwrap()).unwrap();
    }

    fn load(pattern: &Path) -> Result<Splits, String> {
        let source = Source::parse(pattern.to_str().unwrap()).map_err(|error| error.to_string())?;
        source.load(Sizing { memory: 0, ..Sizing::default() }).map_err(|error| error.to_string())
    }

    #[test]
    fn patterns_stand_for_paths() {
        assert_eq!(expand("a-{08..10}.tar").unwrap(), ["a-08.tar", "a-09.tar", "a-10.tar"]);
        assert_eq!(expand("{train,val}-{0..1}").unwrap(), ["train-0", "train-1", "val-0", "val-1"]);
        for other in
            ["a.tar", "{}", "{1}", "{2..1}", "{a..b}", "{0..99999999999999999999}", "{0..100000}", "}{", "{é..1}"]
        {
            assert_eq!(expand(other), None, "{other}");
        }
    }

    #[test]
    fn samples_are_pictures_with_labels() {
        let folder = tempfile::tempdir().unwrap();
        let [one, two, three] = [1, 2, 3].map(png);
        shard(
            &folder.path().join("photos-train-0.tar"),
            &[
                ("a/1.png", &one),
                ("a/1.cls", b"10"),
                ("a/1.txt", b"a caption"),
                ("b/1.cls", b"9\n"),
                ("b/1.png", &two),
                ("c.png", &three),
                ("d.txt", b"9"),
                ("e.seg.png", &one),
            ],
        );
        shard(&folder.path().join("photos-train-1.tar"), &[("a/1.json", b"{\"cls\": 9}"), ("a/1.PNG", &three)]);
        shard(&folder.path().join("photos-val-0.tar"), &[("x.png", &two), ("x.cls", b"10")]);
        let Splits { train, val, .. } = load(&folder.path().join("photos-{train-0,train-1,val-0}.tar")).unwrap();
        assert!(!train.is_decoded());
        assert_eq!((train.classes(), train.labels()), (&["9", "10"].map(str::to_owned)[..], &[1, 0, 0][..]));
        assert_eq!([0, 1, 2].map(|index| train.image(index).unwrap()[0]), [1, 2, 3]);
        let val = val.unwrap();
        assert_eq!((val.labels(), val.image(0).unwrap()[0]), (&[1][..], 2));
        let warnings = train.warnings().join(" ");
        assert!(
            warnings.contains("left out: 1 picture without a label") && warnings.contains("1 label without a picture"),
            "{warnings}"
        );
        assert!(train.image_name(0).ends_with("photos-train-0.tar/a/1.png"), "{}", train.image_name(0));
        // A folder of shards, and one shard as an archive.
        assert_eq!(load(folder.path()).unwrap().train.len(), 3);
        let one =
            load(&folder.path().join("photos-train-0.tar")).unwrap().hold_out(ValSplit { share: Some(0.5), seed: 0 });
        assert_eq!(one.train.len(), 2);
    }

    /// A file that is gone can be read as long as it is open.
    #[cfg(unix)]
    #[test]
    fn names_of_many_pictures_open_an_archive_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.tar");
        let picture = png(1);
        shard(&path, &[("1.png", &picture), ("1.cls", b"1"), ("2.png", &picture), ("2.cls", b"1")]);
        let set = index(std::slice::from_ref(&path)).unwrap();
        let items = &set.parts[Part::Train as usize].as_ref().unwrap().items;
        let mut opened = crate::data::stored::Opened::default();
        let mut names = items.iter().map(|(item, _)| set.files.name_of(*item, &mut opened));
        assert!(names.next().unwrap().ends_with("0.tar/1.png"));
        fs::remove_file(&path).unwrap();
        assert!(names.next().unwrap().ends_with("0.tar/2.png"));
        assert!(set.files.name(items[0].0).ends_with("0.tar/byte 512"));
    }

    #[test]
    fn names_go_before_numbers() {
        let folder = tempfile::tempdir().unwrap();
        let picture = png(1);
        shard(
            &folder.path().join("0.tar"),
            &[
                ("1.png", &picture),
                ("1.cls", b"1"),
                ("1.json", br#"{"label": "cat", "cls": 1}"#),
                ("2.png", &picture),
                ("2.json", br#"{"label": "ant"}"#),
            ],
        );
        let train = load(&folder.path().join("0.tar")).unwrap().train;
        assert_eq!((train.classes(), train.labels()), (&["ant", "cat"].map(str::to_owned)[..], &[1, 0][..]));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.tar");
        let picture = png(1);
        let problem = |members: &[(&str, &[u8])]| {
            shard(&path, members);
            load(&path).unwrap_err()
        };
        assert!(problem(&[("1.png", &picture)]).contains("a picture and beside it its label"));
        assert!(problem(&[("1.png", &picture), ("1.json", b"{")]).contains("entry '1.json': expected JSON"));
        assert!(problem(&[("../1.png", &picture), ("../1.cls", b"1")]).contains("stays within the archive"));
        let long = vec![b'x'; 2 << 20];
        assert!(problem(&[("1.png", &picture), ("1.cls", &long)]).contains("a label of 2097152 bytes"));
        assert!(problem(&[("1.png", &picture), ("1.cls", &long[..500])]).contains("a label of 500 letters"));
        shard(&path, &[("1.png", &picture), ("1.cls", b"1"), ("2.png", &picture), ("2.cls", b"0")]);
        let bytes = fs::read(&path).unwrap();
        for end in (0..bytes.len()).step_by(64) {
            fs::write(&path, &bytes[..end]).unwrap();
            let _ = load(&path).map(|splits| assert_eq!(splits.train.len(), 2));
        }
        let message = load(&folder.path().join("s-{0..12}.tar")).unwrap_err();
        assert!(message.contains("shards missing: 13 of 13") && message.contains("s-0.tar"), "{message}");
    }
}
