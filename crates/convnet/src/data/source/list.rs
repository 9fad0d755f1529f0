//! Lists of pictures: a CSV or text file with a line for each, `path,label`, or with the part as a third column (`train`, `val`
//! or `test`). Columns are apart by commas, semicolons or tabs, in text files also by spaces. A first line with names of columns
//! says which is which. Relative paths are relative to the list.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::Part;
use super::picture_set::{PartList, PictureSet, sorted_classes};
use crate::columns::counted;
use crate::csv;
use crate::data::picture;
use crate::{Error, Result};

/// No list is longer, in bytes.
const MAX_BYTES: u64 = 1 << 30;
/// So many lines are named that do not fit.
const NAMED: usize = 10;
/// How the names of lists end.
const EXTENSIONS: [&str; 4] = ["csv", "tsv", "txt", "lst"];
/// What the columns may be called.
const PATHS: [&str; 11] = [
    "path",
    "file",
    "filename",
    "file_name",
    "filepath",
    "file_path",
    "image",
    "image_path",
    "img",
    "img_path",
    "picture",
];
const LABELS: [&str; 7] = ["label", "labels", "class", "class_name", "category", "target", "cls"];
const PARTS: [&str; 4] = ["split", "part", "set", "subset"];

/// Whether a file of that name is taken for a list.
pub(super) fn is_list(path: &Path) -> bool {
    picture::extension(path).is_some_and(|extension| EXTENSIONS.contains(&&extension[..]))
}

/// The places of the columns.
#[derive(Clone, Copy)]
struct Columns {
    path: usize,
    label: usize,
    part: Option<usize>,
}

/// What is done about lines whose file is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Absent {
    /// They do not fit, as lines without a label.
    Refused,
    /// They are pictures that cannot be read, as those whose file is damaged.
    Kept,
}

/// Lines that do not fit: how many, and the first of them.
#[derive(Default)]
struct Misfits {
    count: usize,
    lines: Vec<String>,
    /// Whether files are not there.
    absent: bool,
}

impl Misfits {
    fn add(&mut self, line: usize, problem: &str) {
        self.count += 1;
        if self.lines.len() < NAMED {
            self.lines.push(format!("\n  line {line}: {problem}"));
        }
    }

    fn check(self, list: &Path) -> Result<()> {
        if self.count == 0 {
            return Ok(());
        }
        let more = match self.count - self.lines.len() {
            0 => String::new(),
            more => format!("\n  and {more} more"),
        };
        let advice = if self.absent { "\nskip_bad leaves out pictures whose file is not there" } else { "" };
        let lines = counted(self.count, "line");
        Err(Error::file(list, format!("{lines} not as expected:{}{more}{advice}", self.lines.concat())))
    }
}

/// Finds the pictures of a list, but reads none of them.
///
/// # Errors
/// A list that cannot be read, or is none; all lines that do not fit: a column is missing, there is no such file and that is
/// refused, or a class that is held out has no picture to learn it from.
pub(super) fn read(list: &Path, absent: Absent) -> Result<PictureSet> {
    let text = content(list)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let separator = separator(text, list);
    let mut rows = csv::rows(text, separator).peekable();
    let first = rows.peek().map(|(_, fields)| fields.clone()).unwrap_or_default();
    let columns = match header(&first) {
        Some(columns) => {
            rows.next();
            columns
        }
        None => Columns { path: 0, label: 1, part: (first.len() > 2).then_some(2) },
    };
    let folder = list.parent().unwrap_or(Path::new(""));
    let (mut misfits, mut found) = (Misfits::default(), Vec::new());
    for (line, fields) in rows {
        let (path, label, part) = match row(&fields, columns, folder) {
            Ok(row) => row,
            Err(problem) => {
                misfits.add(line, &problem);
                continue;
            }
        };
        let problem = match absent {
            Absent::Refused => file_problem(&path),
            Absent::Kept => None,
        };
        match problem {
            Some(problem) => {
                misfits.absent = true;
                misfits.add(line, &problem);
            }
            None => found.push((line, path, label, part)),
        }
    }
    check_classes(&found, &mut misfits);
    misfits.check(list)?;
    if found.is_empty() {
        return Err(Error::file(list, "expected a line for each picture: path,label"));
    }
    Ok(set(found))
}

/// Why a path is none of a file.
fn file_problem(path: &Path) -> Option<String> {
    match fs::metadata(path) {
        Ok(meta) if meta.is_file() => None,
        Ok(_) => Some(format!("expected a file, found a folder: {}", path.display())),
        Err(_) => Some(format!("no file {}", path.display())),
    }
}

fn content(list: &Path) -> Result<String> {
    let (file, size) = crate::data::open(list)?;
    if size > MAX_BYTES {
        return Err(Error::file(list, format!("a list of {size} bytes: expected at most {MAX_BYTES}")));
    }
    let mut text = String::new();
    match file.take(MAX_BYTES).read_to_string(&mut text) {
        Ok(_) => Ok(text),
        Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
            Err(Error::file(list, "expected a list in UTF-8: a line path,label for each picture"))
        }
        Err(error) => Err(Error::io("reading", list)(error)),
    }
}

/// What stands between columns, by the first line.
fn separator(text: &str, list: &Path) -> char {
    let first = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let is_csv = picture::extension(list).is_some_and(|extension| extension == "csv");
    match ['\t', ',', ';'].into_iter().find(|&separator| first.contains(separator)) {
        Some(separator) => separator,
        None if is_csv => ',',
        None => ' ',
    }
}

/// Which column is which, where the first line says so.
fn header(fields: &[String]) -> Option<Columns> {
    let find = |names: &[&str]| fields.iter().position(|field| names.contains(&field.trim().to_lowercase().as_str()));
    Some(Columns { path: find(&PATHS)?, label: find(&LABELS)?, part: find(&PARTS) })
}

fn row(fields: &[String], columns: Columns, folder: &Path) -> Result<(PathBuf, String, Part), String> {
    let field = |column: usize, what: &str| {
        let text = fields.get(column).map(|field| field.trim()).filter(|text| !text.is_empty());
        let found = || counted(fields.len(), "column");
        text.ok_or_else(|| format!("expected a {what} in column {}, found {}", column + 1, found()))
    };
    let (path, label) = (field(columns.path, "path")?, field(columns.label, "label")?);
    let part = match columns.part.and_then(|column| fields.get(column)).map(|field| field.trim()) {
        None | Some("") => Part::Train,
        Some(name) => {
            Part::named(&name.to_lowercase()).ok_or_else(|| format!("expected train, val or test, got '{name}'"))?
        }
    };
    Ok((folder.join(path), label.to_owned(), part))
}

/// A picture of a list: the number of its line, its path, its label and its part.
type Listed = (usize, PathBuf, String, Part);

/// Every class that is held out must have pictures to learn it from, where there are any to learn from.
fn check_classes(found: &[Listed], misfits: &mut Misfits) {
    let learned: HashMap<&str, ()> =
        found.iter().filter(|(.., part)| *part == Part::Train).map(|(_, _, label, _)| (label.as_str(), ())).collect();
    if learned.is_empty() {
        return;
    }
    for (line, _, label, _) in found.iter().filter(|(_, _, label, _)| !learned.contains_key(label.as_str())) {
        misfits.add(*line, &format!("label '{label}' is unknown: no picture of the training part has it"));
    }
}

/// The pictures by part and class, in the order of the list.
fn set(found: Vec<Listed>) -> PictureSet {
    let mut set = PictureSet::default();
    let mut parts: BTreeMap<usize, Vec<(PathBuf, String)>> = BTreeMap::new();
    for (_, path, label, part) in found {
        parts.entry(part as usize).or_default().push((path, label));
    }
    for (part, pictures) in parts {
        let classes = sorted_classes(pictures.iter().map(|(_, label)| label.as_str()));
        let number: HashMap<&str, u32> =
            classes.iter().zip(0..).map(|(class, number)| (class.as_str(), number)).collect();
        let items = pictures.iter().map(|(path, label)| (set.files.add_path(path), number[label.as_str()])).collect();
        drop(number);
        set.parts[part] = Some(PartList { classes, items });
    }
    set.classes_alone = !set.has(Part::Val) && !set.has(Part::Test);
    set
}

#[cfg(test)]
mod tests {
    use super::super::{Source, archive::tests::png};
    use super::*;
    use crate::data::{Sizing, Splits, Unusable};

    /// A list in a folder with the pictures `a.png`, `b c.png` and `deep/d.png`.
    fn load(name: &str, text: &str) -> Result<Splits, String> {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("deep")).unwrap();
        for (name, value) in [("a.png", 1), ("b c.png", 2), ("deep/d.png", 3)] {
            fs::write(folder.path().join(name), png(value)).unwrap();
        }
        let list = folder.path().join(name);
        fs::write(&list, text).unwrap();
        Source::parse(list.to_str().unwrap())
            .and_then(|source| source.load(Sizing::default()))
            .map_err(|e| e.to_string())
    }

    #[test]
    fn lists_of_every_form_are_read() {
        for (name, text) in [
            ("l.csv", "a.png,cat\n\"b c.png\",ant\ndeep/d.png,cat\n"),
            ("l.csv", "\u{feff}label,path\r\ncat,a.png\r\nant,b c.png\r\ncat,./deep/d.png\r\n"),
            ("l.tsv", "file\tid\tclass\na.png\t1\tcat\nb c.png\t2\tant\n\ndeep/d.png\t3\tcat"),
            ("l.csv", "a.png;cat\nb c.png;ant\ndeep/d.png;cat\n"),
        ] {
            let train = load(name, text).unwrap().train;
            assert_eq!(
                (train.classes(), train.labels()),
                (&["ant", "cat"].map(str::to_owned)[..], &[1, 0, 1][..]),
                "{text}"
            );
            assert_eq!([0, 1, 2].map(|index| train.image(index).unwrap()[0]), [1, 2, 3]);
        }
        let train = load("l.txt", "a.png 10\ndeep/d.png 9\n").unwrap().train;
        assert_eq!((train.classes(), train.labels()), (&["9", "10"].map(str::to_owned)[..], &[1, 0][..]));
        let Splits { train, val, test } = load("l.csv", "a.png,x,train\nb c.png,y,\ndeep/d.png,x,valid\n").unwrap();
        assert_eq!((train.len(), val.unwrap().labels(), test), (2, &[0][..], None));
    }

    #[test]
    fn lines_that_do_not_fit_are_named() {
        let message =
            load("l.csv", "a.png,cat\nmissing.png,cat\nb c.png\ndeep,cat\na.png,dog,elsewhere\n").unwrap_err();
        for expected in [
            "l.csv: 3 lines not as expected:",
            "\n  line 2: no file ",
            "missing.png\n",
            "line 3: expected a label in column 2, found 1 column\n",
            "line 4: expected a file, found a folder",
        ] {
            assert!(message.contains(expected), "{message}");
        }
        let message = load("l.csv", "path,label,split\na.png,cat,train\nb c.png,dog,val\na.png,cat,odd\n").unwrap_err();
        assert!(
            message.contains("line 3: label 'dog' is unknown") && message.contains("line 4: expected train, val or"),
            "{message}"
        );
        let many: String = (0..30).map(|number| format!("{number}.png,1\n")).collect();
        let message = load("l.csv", &many).unwrap_err();
        assert!(message.ends_with("and 20 more\nskip_bad leaves out pictures whose file is not there"), "{message}");
        for (text, expected) in
            [("", "expected a line for each picture"), ("path,label\n", "expected a line"), ("\n\n", "expected")]
        {
            assert!(load("l.csv", text).unwrap_err().contains(expected), "{text}");
        }
    }

    #[test]
    fn pictures_that_are_not_there_can_be_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let list = folder.path().join("l.csv");
        fs::create_dir(folder.path().join("deep")).unwrap();
        fs::write(folder.path().join("a.png"), png(1)).unwrap();
        fs::write(&list, "missing.png,cat\na.png,cat\ndeep,cat\n").unwrap();
        let source = Source::List(list);
        assert!(source.load(Sizing::default()).unwrap_err().to_string().contains("2 lines not as expected"));
        let train = source.load_with(Sizing::default(), Unusable::LeftOut).unwrap().train;
        let left_out: Vec<_> = train.left_out().iter().map(|picture| (picture.index, &picture.problem[..])).collect();
        assert_eq!((train.len(), left_out[1], left_out[0].0), (1, (2, "expected a regular file"), 0));
        assert!(left_out[0].1.starts_with("opening: "), "{left_out:?}");
        assert!(
            train.warnings()[0].starts_with("left out: 2 pictures that cannot be used: "),
            "{:?}",
            train.warnings()
        );
        let again = source.load_with(Sizing::default(), Unusable::Known(train.left_out())).unwrap().train;
        assert_eq!(again, train);
        assert_eq!(source.held_out_without(Some(Part::Train), None, train.left_out()).unwrap().len(), 1);
        assert_eq!(source.check(&|_, _| true).unwrap().unwrap().unreadable.len(), 2);
    }
}
