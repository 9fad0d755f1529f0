//! `convnet data`: what a data set holds, and a look at it.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Subcommand;
use convnet::columns::{Columns, Style, counted, thousands};
use convnet::data::augment::Augmentation;
use convnet::data::{Check, Part, PartCheck, Same, Sheet, Sizing, Source, TargetSize};
use convnet::train::{NamedRecipe, TrainConfig};
use serde::Serialize;

use crate::args::{InputSize, part};
use crate::console::{Console, print, print_json};
use crate::interrupt::{self, Interrupted};
use crate::progress::Pictures;
use crate::usage::OrUsage;

/// Classes whose counts are listed in text; JSON has all.
const LISTED: usize = 40;
/// Findings of a kind that are named in text; JSON has all.
const NAMED: usize = 10;

/// Look at a data set before training on it
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Check(CheckArgs),
    Show(ShowArgs),
}

impl Args {
    pub(crate) fn run(&self, console: &Console) -> anyhow::Result<()> {
        match &self.command {
            Command::Check(args) => args.run(console),
            Command::Show(args) => args.run(console),
        }
    }
}

/// Decode every picture of a data set and say what there is and what is wrong
///
/// Pictures by part and class, their sizes, those that cannot be read or are damaged, and those whose decoded pixels are the
/// same: in different parts (then a network is measured on what it was trained on), in different classes, or twice in a class. The
/// exit code is 1 when a picture cannot be read or is damaged, or the same one is in different parts or classes.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  convnet data check photos\n  convnet data check photos.tar --json")]
struct CheckArgs {
    /// Folder, archive, shards, list or name of a data set, as for `convnet train --data`
    #[arg(value_name = "SET")]
    data: String,

    /// Print one JSON document and nothing else on stdout [default: text]
    #[arg(long, help_heading = "Output")]
    json: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Document<'a> {
    data: &'a str,
    sound: bool,
    #[serde(flatten)]
    check: &'a Check,
}

impl CheckArgs {
    fn run(&self, console: &Console) -> anyhow::Result<()> {
        let source = Source::parse(&self.data)?;
        interrupt::tell();
        let progress = Pictures::new(console, "checking");
        let watch = |done: usize, all: usize| {
            progress.tell(done, all);
            !interrupt::requested()
        };
        let check = source.check(&watch)?.ok_or(Interrupted)?;
        drop(progress);
        match self.json {
            true => print_json(&Document { data: &self.data, sound: check.is_sound(), check: &check })?,
            false => print(&text(&check))?,
        }
        match check.is_sound() {
            true => Ok(()),
            false => Err(anyhow::anyhow!("{}: something is wrong with its pictures", self.data)),
        }
    }
}

fn text(check: &Check) -> String {
    let mut text = String::new();
    for part in &check.parts {
        text += &of_part(part);
    }
    let mut columns = Columns::new(
        1,
        &["class"].into_iter().chain(check.parts.iter().map(|part| &part.part[..])).collect::<Vec<_>>(),
    );
    let mut names: Vec<&String> = Vec::new();
    for (name, _) in check.parts.iter().flat_map(|part| &part.classes) {
        if !names.contains(&name) {
            names.push(name);
        }
        if names.len() > LISTED {
            break;
        }
    }
    for &name in names.iter().take(LISTED) {
        let count = |part: &PartCheck| {
            let found = part.classes.iter().find(|(class, _)| class == name);
            found.map_or("-".to_owned(), |(_, count)| thousands(*count as u64))
        };
        columns.row([name.clone()].into_iter().chain(check.parts.iter().map(count)).collect::<Vec<_>>());
    }
    let _ = write!(text, "\n{}", columns.render(Style::Plain));
    if names.len() > LISTED {
        let _ = writeln!(text, "… and more; --json has all");
    }
    text.push('\n');
    for note in &check.notes {
        let _ = writeln!(text, "{note}");
    }
    let unreadable = check.unreadable.iter().map(|picture| format!("{}: {}", picture.name, picture.problem));
    findings(&mut text, ["picture", "that cannot be read"], unreadable.collect());
    findings(&mut text, ["picture", "with damage"], check.damaged.clone());
    findings(&mut text, ["group", "of the same pictures in different parts"], same(&check.leaks));
    findings(&mut text, ["group", "of the same pictures in different classes"], same(&check.contradictions));
    findings(&mut text, ["group", "of the same pictures in one class"], same(&check.duplicates));
    if check.is_sound() {
        text += "Nothing is wrong.\n";
    }
    text
}

fn of_part(part: &PartCheck) -> String {
    let (pictures, classes) = (counted(part.pictures, "picture"), counted(part.classes.len(), "class"));
    let size = |[width, height]: [usize; 2]| format!("{width}x{height}");
    let sizes = match part.sizes {
        Some([least, ..]) if part.distinct_sizes == 1 => format!(", all of {}", size(least)),
        Some([least, middle, greatest]) => {
            let side = |axis: usize| format!("{} to {} (median {})", least[axis], greatest[axis], middle[axis]);
            let sizes = thousands(part.distinct_sizes as u64);
            format!(", {sizes} sizes: width {}, height {}", side(0), side(1))
        }
        None => String::new(),
    };
    format!("{}: {pictures} in {classes}{sizes}\n", part.part)
}

fn same(groups: &[Same]) -> Vec<String> {
    let group = |same: &Same| {
        let pictures: Vec<String> =
            same.pictures.iter().map(|(part, class, name)| format!("{name} ({part}, {class})")).collect();
        pictures.join(" = ")
    };
    groups.iter().map(group).collect()
}

fn findings(text: &mut String, [thing, what]: [&str; 2], found: Vec<String>) {
    if found.is_empty() {
        return;
    }
    let _ = writeln!(text, "{} {what}:", counted(found.len(), thing));
    found.iter().take(NAMED).for_each(|line| _ = writeln!(text, "  {line}"));
    if found.len() > NAMED {
        let _ = writeln!(text, "  … and {} more; --json has all", found.len() - NAMED);
    }
}

/// Draw a contact sheet of a data set: pictures of every class, as a network gets them
///
/// With --augment each row is a picture and what the augmentation makes of it.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  convnet data show photos\n  convnet data show photos -o sheet.png --augment imagenet"
)]
struct ShowArgs {
    /// Folder, archive, shards, list or name of a data set, as for `convnet train --data`
    #[arg(value_name = "SET")]
    data: String,

    /// PNG file to write
    #[arg(short, long, value_name = "FILE", default_value = "sheet.png")]
    output: PathBuf,

    /// Which part of the data: train, val or test
    #[arg(long, value_name = "PART", default_value = "train")]
    split: Part,

    /// Show what this makes of the pictures: an augmentation (cifar, imagenet, light, …, or a list as in a recipe) or a recipe by
    /// its name [default: pictures as they are]
    #[arg(long, value_name = "RECIPE")]
    augment: Option<String>,

    /// Size that the pictures are brought to, such as 3x224x224 or 224x224 [default: their own where it is the same for all and at
    /// most 128 pixels, else 128x128]
    #[arg(long, value_name = "CxHxW")]
    input: Option<InputSize>,

    /// Pictures in a row
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = crate::args::at_least_1)]
    per_class: usize,

    /// Decides which pictures are shown
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

impl ShowArgs {
    fn run(&self, console: &Console) -> anyhow::Result<()> {
        let augmentation = self.augment.as_deref().map(augmentation).transpose()?.unwrap_or_default();
        let otherwise = Some(TargetSize::customary([3, 128, 128]));
        let sizing =
            Sizing { otherwise, largest: 128, whole: augmentation.takes_any_size(), memory: 0, ..Sizing::default() };
        let target = self.input.as_ref().map(|size| size.picture([3, 128, 128])).transpose().or_usage()?;
        let sizing = Sizing { target: target.map(TargetSize::customary), ..sizing };
        let data = part(&self.data, self.split, sizing, console)?;
        let sheet = Sheet { per_class: self.per_class.min(64), augmentation, seed: self.seed };
        for problem in sheet.write(&self.output, &data)? {
            console.warn(&problem.to_string());
        }
        print(&format!("{}\n", self.output.display()))
    }
}

/// The augmentation, or that of the recipe, of this name.
fn augmentation(text: &str) -> anyhow::Result<Augmentation> {
    let parsed = text.parse::<Augmentation>();
    match NamedRecipe::find(text) {
        Ok(recipe) if parsed.is_err() => Ok(TrainConfig::resolve([recipe.settings()?])?.recipe.augment),
        Ok(_) | Err(_) => parsed.or_usage(),
    }
}
