//! Pictures in files of their own, sorted into parts and classes but not decoded yet, and the data sets that they become.
//! They come from a folder (`image_folder.rs`) or from a tar of one (`archive.rs`).

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use unicode_normalization::UnicodeNormalization;

use super::{Part, Sizing, Splits};
use crate::columns::counted;
use crate::data::picture::{self, fit_into};
use crate::data::resample::{Layout, Resampling, Source, planes_of};
use crate::data::stored::{Files, Item, Opened, Stored};
use crate::data::{Dataset, TargetSize, ValSplit};
use crate::{Error, Result, parallel};

/// So many pictures that are left out are described in a note.
const DESCRIBED: usize = 5;
/// So many names stand in a note.
const NAMED: usize = 10;
/// What systems and programs leave in folders; nobody means it to be a picture or a class.
const SYSTEM_NAMES: [&str; 9] = [
    "@eaDir",
    "__MACOSX",
    "$RECYCLE.BIN",
    "System Volume Information",
    "lost+found",
    "#recycle",
    "Thumbs.db",
    "ehthumbs.db",
    "desktop.ini",
];

/// Whether an entry of that name is passed over: hidden, or a system's own.
pub(super) fn is_passed_over(name: &str) -> bool {
    name.starts_with('.') || SYSTEM_NAMES.iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// The name of a class, composed: a Mac's archives have accents apart from their letters.
pub(super) fn class_name(folder: &str) -> String {
    folder.nfc().collect()
}

/// The names of classes in their order: as numbers where all are numbers, else by name.
pub(super) fn sorted_classes<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut classes: Vec<String> = names.collect::<BTreeSet<_>>().into_iter().map(str::to_owned).collect();
    if let Some(numbers) = classes.iter().map(|name| name.parse().ok()).collect::<Option<Vec<u64>>>() {
        let mut numbered: Vec<_> = numbers.into_iter().zip(classes).collect();
        numbered.sort();
        classes = numbered.into_iter().map(|(_, name)| name).collect();
    }
    classes
}

/// Pictures, each with the number of its class.
pub(super) type Labels = Vec<(Item, u32)>;

/// The pictures of one part.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct PartList {
    /// The names of its classes.
    pub(super) classes: Vec<String>,
    /// Each with the number of its class.
    pub(super) items: Labels,
}

impl PartList {
    /// Without the classes that have no picture.
    pub(super) fn with_used_classes(self) -> PartList {
        let PartList { classes, mut items } = self;
        let mut used = vec![false; classes.len()];
        items.iter().for_each(|(_, label)| used[*label as usize] = true);
        let number: Vec<u32> = used
            .iter()
            .scan(0, |count, &is| {
                *count += u32::from(is);
                Some(*count - u32::from(is))
            })
            .collect();
        items.iter_mut().for_each(|(_, label)| *label = number[*label as usize]);
        PartList {
            classes: classes.into_iter().zip(used).filter_map(|(class, is)| is.then_some(class)).collect(),
            items,
        }
    }
}

/// The first of some names.
pub(super) fn listed(names: &[String]) -> String {
    match names.len() {
        0..=NAMED => names.join(", "),
        count => format!("{} and {} more", names[..NAMED].join(", "), count - NAMED),
    }
}

/// A picture that is left out of its set, since it cannot be used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LeftOut {
    /// The part that it belongs to: `train`, `val` or `test`.
    pub part: String,
    /// Its place in the part, from 0, all pictures counted.
    pub index: usize,
    /// What it is called.
    pub name: String,
    /// Why it cannot be used.
    pub problem: String,
}

impl LeftOut {
    /// A picture of a part, and what is wrong with it.
    pub(super) fn new(part: Part, index: usize, name: String, error: &Error) -> LeftOut {
        // The name is said already.
        let problem = error.to_string().replace(&format!(" {name}: "), ": ");
        let problem = problem.strip_prefix(&format!("{name}: ")).unwrap_or(&problem).to_owned();
        LeftOut { part: part.name().into(), index, name, problem }
    }

    /// What is told of pictures that are left out, if there are any.
    pub(in crate::data) fn note(pictures: &[LeftOut]) -> Option<String> {
        let first = pictures.iter().take(DESCRIBED).map(|picture| format!("{}: {}", picture.name, picture.problem));
        let first = first.collect::<Vec<_>>().join("; ");
        let more = pictures.len().saturating_sub(DESCRIBED);
        let more = if more > 0 { format!("; and {more} more") } else { String::new() };
        let count = counted(pictures.len(), "picture");
        (!pictures.is_empty()).then(|| format!("left out: {count} that cannot be used: {first}{more}"))
    }
}

/// What is done about pictures that cannot be used.
#[derive(Clone, Copy, Debug)]
pub enum Unusable<'a> {
    /// They are an error: at once where pictures are decoded as they are read, else where a batch wants them.
    Refused,
    /// All pictures are decoded once, and those that cannot be are left out ([`Dataset::left_out`]).
    LeftOut,
    /// These are left out, as they were found before.
    Known(&'a [LeftOut]),
}

impl Unusable<'_> {
    /// The pictures of a part without those that are left out, and these.
    fn without(
        self,
        files: &Arc<Files>,
        part: Part,
        items: Labels,
        target: TargetSize,
    ) -> Result<(Labels, Vec<LeftOut>)> {
        let left_out: Vec<LeftOut> = match self {
            Unusable::Refused => return Ok((items, Vec::new())),
            Unusable::Known(known) => known.iter().filter(|picture| picture.part == part.name()).cloned().collect(),
            Unusable::LeftOut => {
                let stored = Stored::new(Arc::clone(files), items.iter().map(|(item, _)| *item).collect());
                let mut problems = each(items.len(), |index, content| stored.decode(index, target, content).map(drop))?;
                if let Some(index) =
                    problems.iter().find_map(|(index, error)| error.is_of_the_system().then_some(*index))
                {
                    return Err(problems.remove(&index).expect("it has just been found"));
                }
                let left_out = |(index, error): (usize, Error)| LeftOut::new(part, index, stored.name(index), &error);
                problems.into_iter().map(left_out).collect()
            }
        };
        let mut is_out = vec![false; items.len()];
        let mut out = |index: usize| is_out.get_mut(index).into_iter().for_each(|is_out| *is_out = true);
        match self {
            // By name: since they were found, pictures may have been added, or the bad ones deleted.
            Unusable::Known(_) if !left_out.is_empty() => {
                let names: HashSet<&str> = left_out.iter().map(|picture| end_of(&picture.name)).collect();
                let mut opened = Opened::default();
                let mut known = |item: &Item| names.contains(end_of(&files.name_of(*item, &mut opened)));
                items.iter().enumerate().filter(|(_, (item, _))| known(item)).for_each(|(index, _)| out(index));
            }
            _ => left_out.iter().for_each(|picture| out(picture.index)),
        }
        let kept = items.into_iter().zip(is_out).filter_map(|(item, is_out)| (!is_out).then_some(item)).collect();
        Ok((kept, left_out))
    }
}

/// The last two parts of a picture's name, by which it is known again when its set has been moved.
fn end_of(name: &str) -> &str {
    name.rmatch_indices(['/', '\\']).nth(1).map_or(name, |(at, _)| &name[at..])
}

/// The parts of a set of pictures.
#[derive(Debug, Default)]
pub(super) struct PictureSet {
    /// As [`Part::ALL`] has them.
    pub(super) parts: [Option<PartList>; 3],
    /// Where the pictures' files are.
    pub(super) files: Files,
    /// What is to be told of what was found.
    pub(super) notes: Vec<String>,
    /// Whether there are classes alone, and nothing says which part they are.
    pub(super) classes_alone: bool,
}

/// Pictures of one part with the class of each, not decoded yet.
pub(super) struct Labelled {
    pub(super) part: Part,
    pub(super) classes: Vec<String>,
    pub(super) items: Labels,
    pub(super) files: Arc<Files>,
    pub(super) notes: Vec<String>,
}

impl PictureSet {
    /// Whether a part is there.
    pub(super) fn has(&self, part: Part) -> bool {
        self.part(part).is_some()
    }

    fn part(&self, part: Part) -> Option<&PartList> {
        self.parts[part as usize].as_ref()
    }

    /// The training part, the validation part and the test part, decoded as far as memory allows. `origin` is the folder or archive
    /// that they come from. Beside a validation part, a test part of which nothing can be measured is told of and left.
    ///
    /// # Errors
    /// No training part, or none of its pictures, and, where they are decoded, all pictures that cannot be used.
    pub(super) fn splits(mut self, origin: &Path, sizing: Sizing, unusable: Unusable<'_>) -> Result<Splits> {
        let files = Arc::new(std::mem::take(&mut self.files));
        let Some(train) = self.part(Part::Train) else {
            return Err(Error::file(origin, "expected folders train/<class> with pictures, found none"));
        };
        check_not_empty(origin, Part::Train, train)?;
        let classes = &train.classes;
        let target = match sizing.target {
            Some(target) => target,
            None => common_target(&files, train, sizing)?,
        };
        let mut memory = sizing.memory;
        let mut read = |part: Part, list: &PartList| {
            check_not_empty(origin, part, list)?;
            let name = format!("{} ({})", origin.display(), part.name());
            let (items, left_out) = unusable.without(&files, part, list.items.clone(), target)?;
            if items.is_empty() {
                let (part, all) = (part.name(), left_out.len());
                let problem = format!("no picture of the part {part} can be used, of {all}");
                return Err(Error::file(origin, problem));
            }
            let list = PartList { classes: list.classes.clone(), items };
            let (items, notes) = known(origin, part, &list, classes)?;
            let (items, labels): (Vec<Item>, Vec<u32>) = items.into_iter().unzip();
            let stored = Stored::new(Arc::clone(&files), items);
            let whole = sizing.whole && part == Part::Train;
            let decoded = Decoded::of(&stored, labels.len(), target, whole, memory)?;
            memory -= decoded.as_ref().map_or(0, Decoded::bytes);
            let classes = classes.clone();
            let mut data = match decoded {
                Some(Decoded::Fitted(planes)) => {
                    Dataset::new(name, target.shape, planes, labels, classes)?.brought_to(target)
                }
                Some(Decoded::Whole(places, planes)) => {
                    Dataset::decoded(name, target, (places, planes), labels, classes)?
                }
                None => Dataset::stored(name, target, stored.clone(), labels, classes)?,
            };
            if data.is_decoded() && !files.are_in_memory() {
                data = data.of_files(stored.clone());
            }
            stored.take_warnings().into_iter().for_each(|warning| data.warn(warning));
            data.leave_out(left_out);
            notes.into_iter().for_each(|note| data.warn(note));
            Ok::<_, Error>(data)
        };
        let mut splits = Splits { train: read(Part::Train, train)?, val: None, test: None };
        self.notes.iter().for_each(|note| splits.train.warn(note.clone()));
        splits.val = self.part(Part::Val).map(|list| read(Part::Val, list)).transpose()?;
        if let Some(list) = self.part(Part::Test) {
            match immeasurable(list, classes).filter(|_| splits.val.is_some()) {
                Some(problem) => splits.train.warn(format!("the test part will not be measured: {problem}")),
                None => splits.test = Some(read(Part::Test, list)?),
            }
        }
        Ok(splits)
    }

    /// The pictures of one part, which are not decoded: of the one that is asked for, else the validation part, else the
    /// test part. The classes are those of the training part, too, where there is one.
    ///
    /// # Errors
    /// A part that is missing, or without pictures.
    pub(super) fn held_out(mut self, origin: &Path, wanted: Option<Part>, left_out: &[LeftOut]) -> Result<Labelled> {
        let parts = wanted.map_or(vec![Part::Val, Part::Test], |part| vec![part]);
        let Some(part) = parts.iter().copied().find(|&part| self.part(part).is_some()) else {
            let folders: Vec<String> = parts.iter().map(|part| format!("{}/<class>", part.name())).collect();
            return Err(Error::file(
                origin,
                format!("expected folders {} with pictures, found none", folders.join(" or ")),
            ));
        };
        let PartList { classes: own, mut items } = self.parts[part as usize].take().unwrap_or_default();
        let mut classes = self.part(Part::Train).map_or(Vec::new(), |train| train.classes.clone());
        let place = numbers(&own, &classes);
        classes.extend(own.iter().zip(place).filter(|(_, place)| place.is_none()).map(|(class, _)| class.clone()));
        let number = numbers(&own, &classes);
        items.iter_mut().for_each(|(_, label)| *label = number[*label as usize].unwrap_or(0));
        let chosen = PartList { classes: own, items };
        check_not_empty(origin, part, &chosen)?;
        let files = Arc::new(self.files);
        let target = TargetSize::customary([3, 1, 1]);
        let (items, _) = Unusable::Known(left_out).without(&files, part, chosen.items, target)?;
        Ok(Labelled { part, classes, items, files, notes: self.notes })
    }
}

impl Labelled {
    /// The training pictures that a split holds out for validation or leaves, and how many it leaves and holds out; nothing where
    /// it holds out none.
    pub(super) fn chosen_by(&self, split: ValSplit, has_test: bool, part: Part) -> Option<(Labels, [usize; 2])> {
        let labels: Vec<u32> = self.items.iter().map(|(_, label)| *label).collect();
        let mask = split.mask(&labels, has_test);
        let held_out = mask.iter().filter(|&&is_held_out| is_held_out).count();
        let is_wanted = |is_held_out: bool| is_held_out == (part == Part::Val);
        let chosen = self.items.iter().zip(mask).filter_map(|(item, is)| is_wanted(is).then_some(*item));
        (held_out > 0).then(|| (chosen.collect(), [labels.len() - held_out, held_out]))
    }
}

fn check_not_empty(origin: &Path, part: Part, list: &PartList) -> Result<()> {
    match list.items.is_empty() {
        true => {
            let part = part.name();
            let expected =
                format!("expected pictures ({}) in a folder for each class, such as {part}/cat", picture::FORMATS);
            Err(Error::file(origin, format!("no pictures of the part {part}: {expected}")))
        }
        false => Ok(()),
    }
}

/// Why nothing can be measured on a part, if that is so.
fn immeasurable(list: &PartList, classes: &[String]) -> Option<&'static str> {
    let number = numbers(&list.classes, classes);
    match list.items.iter().any(|(_, label)| number[*label as usize].is_some()) {
        true => None,
        false if list.items.is_empty() => Some("it has no pictures in a folder for each class"),
        false => Some("none of its classes is among the training pictures"),
    }
}

/// For each of these names its place among `classes`.
fn numbers(names: &[String], classes: &[String]) -> Vec<Option<u32>> {
    let place: HashMap<&str, u32> = classes.iter().zip(0..).map(|(class, number)| (class.as_str(), number)).collect();
    names.iter().map(|name| place.get(name.as_str()).copied()).collect()
}

/// The pictures of a part whose classes there is something to learn from, numbered as those, and what is to be told of others.
///
/// # Errors
/// No such picture.
fn known(origin: &Path, part: Part, list: &PartList, classes: &[String]) -> Result<(Labels, Vec<String>)> {
    let (number, part) = (numbers(&list.classes, classes), part.name());
    let items: Vec<_> = list.items.iter().filter_map(|&(item, label)| Some((item, number[label as usize]?))).collect();
    let mut notes = Vec::new();
    let unknown: Vec<String> = list
        .classes
        .iter()
        .zip(&number)
        .filter(|(_, number)| number.is_none())
        .map(|(class, _)| class.clone())
        .collect();
    if !unknown.is_empty() {
        let pictures = list.items.len() - items.len();
        let what =
            format!("{} of {part} without training pictures: {}", counted(unknown.len(), "class"), listed(&unknown));
        if items.is_empty() {
            return Err(Error::file(origin, format!("{what}; expected the same classes as in train")));
        }
        notes.push(format!("left out: {} of {what}", counted(pictures, "picture")));
    }
    let mut used = vec![false; classes.len()];
    items.iter().for_each(|(_, label)| used[*label as usize] = true);
    let without: Vec<String> = classes.iter().zip(used).filter(|(_, is)| !is).map(|(class, _)| class.clone()).collect();
    if !without.is_empty() {
        notes.push(format!("{} without pictures in {part}: {}", counted(without.len(), "class"), listed(&without)));
    }
    Ok((items, notes))
}

/// The shape that all pictures have, grey only where all are; else what pictures of several sizes are brought to, or the
/// shape of the first, which the others will not fit.
fn common_target(files: &Files, part: &PartList, sizing: Sizing) -> Result<TargetSize> {
    let mut content = Vec::new();
    // What cannot be read is named when it is decoded.
    let (mut found, mut problem): (Option<[usize; 3]>, _) = (None, None);
    for (item, _) in &part.items {
        let [c, h, w] = match files.shape(*item, &mut content) {
            Ok(shape) => shape,
            Err(error) => {
                problem = problem.or(Some(error));
                continue;
            }
        };
        let [channels, height, width] =
            found.map_or([c, h, w], |[channels, height, width]| [channels.max(c), height, width]);
        found = Some([channels, height, width]);
        let as_they_are = [h, w] == [height, width] && height.min(width) <= sizing.largest;
        match sizing.otherwise {
            Some(target) if !as_they_are => return Ok(target),
            // Nothing more can be learned from the others.
            None if channels == 3 => break,
            Some(_) | None => {}
        }
    }
    let none = || problem.unwrap_or_else(|| Error::invalid("expected at least one picture"));
    found.map(TargetSize::exactly).ok_or_else(none)
}

/// Decoded planes of all pictures of a part.
enum Decoded {
    /// Brought to the target's shape.
    Fitted(Vec<u8>),
    /// Each at its own size, and where each begins.
    Whole(Vec<(usize, [u32; 2])>, Vec<u8>),
}

impl Decoded {
    /// Decodes pictures where they take at most `most` bytes of memory, by what their headers say.
    fn of(stored: &Stored, count: usize, target: TargetSize, whole: bool, most: u64) -> Result<Option<Decoded>> {
        if whole {
            let Some(places) = places(stored, count, target, most) else { return Ok(None) };
            let [channels, ..] = target.shape;
            let sizes = places.iter().map(|(_, size)| channels * size[0] as usize * size[1] as usize);
            let planes = decode(stored, target, &sizes.collect::<Vec<_>>(), true)?;
            return Ok(Some(Decoded::Whole(places, planes)));
        }
        let size = target.shape.iter().try_fold(1_usize, |size, &side| size.checked_mul(side));
        let fits = |size: usize| (size as u64).checked_mul(count as u64).is_some_and(|bytes| bytes <= most);
        match size.filter(|&size| fits(size)) {
            Some(size) => Ok(Some(Decoded::Fitted(decode(stored, target, &vec![size; count], false)?))),
            None => Ok(None),
        }
    }

    fn bytes(&self) -> u64 {
        match self {
            Decoded::Fitted(planes) | Decoded::Whole(_, planes) => planes.len() as u64,
        }
    }
}

/// Where the planes of pictures of their own size begin, with their height and width; nothing when they take more than `most`
/// bytes. A picture whose header cannot be read takes none, and is named when it is decoded.
fn places(stored: &Stored, count: usize, target: TargetSize, most: u64) -> Option<Vec<(usize, [u32; 2])>> {
    let (mut places, mut content, mut start) = (Vec::new(), Vec::new(), 0);
    for index in 0..count {
        let [height, width] = stored.shape(index, &mut content).map_or([0, 0], |[_, height, width]| [height, width]);
        places.push((start, [height as u32, width as u32]));
        start += target.shape[0] * height * width;
        if start as u64 > most {
            return None;
        }
    }
    Some(places)
}

/// Decodes pictures on all cores, into one piece of memory, of which each has so many bytes.
fn decode(stored: &Stored, target: TargetSize, sizes: &[usize], whole: bool) -> Result<Vec<u8>> {
    let mut planes = vec![0; sizes.iter().sum()];
    let mut rest = &mut planes[..];
    let pieces: Vec<Mutex<&mut [u8]>> =
        sizes.iter().filter_map(|&size| rest.split_off_mut(..size)).map(Mutex::new).collect();
    let problems = each(sizes.len(), |index, content| {
        let decoded = stored.decode(index, target, content)?;
        let source = Source { bytes: &decoded.pixels, layout: Layout::Pixels, shape: decoded.shape };
        let mut out = pieces[index].lock().unwrap_or_else(PoisonError::into_inner);
        match whole {
            true => planes_of(source.bytes, source.shape[0], &mut out),
            false => {
                let fitted = fit_into(source, target, &mut Resampling::default(), &mut out);
                fitted.map_err(|problem| picture::named(stored.name(index))(problem))?;
            }
        }
        Ok(())
    })?;
    drop(pieces);
    Error::of_pictures(problems.into_values().collect())?;
    Ok(planes)
}

/// Does something with each of so many pictures, on all cores. `work` gets memory for a file. Says what went wrong, and where.
pub(in crate::data) fn each(
    count: usize,
    work: impl Fn(usize, &mut Vec<u8>) -> Result<()> + Sync,
) -> Result<BTreeMap<usize, Error>> {
    let problems: Mutex<BTreeMap<usize, Error>> = Mutex::default();
    parallel::for_each(0..count, Vec::new, |index, content| {
        if let (Err(error), Ok(mut problems)) = (work(index, content), problems.lock()) {
            problems.insert(index, error);
        }
    });
    problems.into_inner().map_err(|_| Error::invalid("a thread that decodes pictures broke off"))
}

#[cfg(test)]
mod tests {
    use crate::data::test_data;
    use crate::data::{Sizing, Source, Splits, picture::write_png};

    /// CIFAR-10 in small JPEG files, which are decoded as Pillow does.
    #[test]
    #[ignore = "decodes 60,000 pictures"]
    fn cifar10_is_read_from_its_archive() {
        let Some(folder) = test_data("cifar10") else { return };
        let source = Source::parse(folder.join("cifar10-jpeg.tar.gz").to_str().unwrap()).unwrap();
        let start = std::time::Instant::now();
        let Splits { train, test, .. } = source.load(Sizing::default()).unwrap();
        let test = test.unwrap();
        eprintln!("{} pictures read in {:.1?}", train.len() + test.len(), start.elapsed());
        assert_eq!((train.shape(), test.shape()), ([3, 32, 32], [3, 32, 32]));
        assert_eq!((train.class_counts(), test.class_counts()), (vec![5000; 10], vec![1000; 10]));
        assert_eq!(train.classes(), crate::data::labels::cifar10());
    }

    #[test]
    fn every_bad_picture_is_named_whatever_the_threads_do() {
        let folder = tempfile::tempdir().unwrap();
        let class = folder.path().join("a");
        std::fs::create_dir_all(&class).unwrap();
        for number in 0..40 {
            write_png(&class.join(format!("{number:02}.png")), [3, 1, 2], &[number; 6]).unwrap();
        }
        let source = Source::Folder(folder.path().into());
        let train = source.load(Sizing::default()).unwrap().train;
        assert!((0..40).all(|i| train.image(i).unwrap() == [i as u8; 6].as_slice()));
        for number in [7, 9, 30] {
            std::fs::write(class.join(format!("{number:02}.png")), "no picture").unwrap();
        }
        for _ in 0..5 {
            let message = source.load(Sizing::default()).unwrap_err().to_string();
            let lines: Vec<&str> = message.lines().collect();
            assert_eq!((lines[0], lines.len()), ("3 pictures cannot be used:", 4));
            for (line, number) in lines[1..].iter().zip(["07", "09", "30"]) {
                let expected = format!("a/{number}.png: not a PNG, JPEG, WebP, GIF, TIFF or BMP file");
                assert!(line.ends_with(&expected), "{line}");
            }
        }
    }
}
