//! `convnet compare`: what runs have come to, side by side.

use std::path::PathBuf;

use convnet::columns::{Columns, Style};
use convnet::compare::{Comparison, Table};
use convnet::files::write_atomic;

use crate::console::{Console, print, print_json};

/// Letters of a setting's value in the table; the page and JSON have all of them.
const WIDEST: usize = 40;
/// Letters before the first difference that are shown.
const BEFORE: usize = 8;

/// Show what runs have come to, side by side, and which of their settings differ
///
/// Accuracy and loss are those on the held-out pictures of each run; a run that still goes on is shown as far as it is.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    convnet compare runs/*\n  \
    convnet compare runs/cnn-1 runs/cnn-2 --html compared.html\n  \
    convnet compare runs/* --csv epochs.csv")]
pub(crate) struct Args {
    /// Folders of runs
    #[arg(value_name = "RUN", required = true)]
    runs: Vec<PathBuf>,

    /// Write an HTML page with their curves over one another
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    html: Option<PathBuf>,

    /// Write every epoch of every run to a CSV file
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    csv: Option<PathBuf>,

    /// Print one JSON document and nothing else on stdout [default: a table]
    #[arg(long, help_heading = "Output")]
    json: bool,
}

impl Args {
    pub(crate) fn run(&self, console: &Console) -> anyhow::Result<()> {
        let comparison = Comparison::read(&self.runs)?;
        let files = [(&self.html, Comparison::to_html as fn(&Comparison) -> String), (&self.csv, Comparison::to_csv)];
        for (path, content) in files {
            if let Some(path) = path {
                write_atomic(path, |out| out.write_all(content(&comparison).as_bytes()))?;
                console.note(&format!("{} is written", path.display()));
            }
        }
        match self.json {
            true => print_json(&comparison),
            false => print(&text(&comparison)),
        }
    }
}

fn text(comparison: &Comparison) -> String {
    let mut text = lines(&comparison.results());
    if !comparison.settings.is_empty() {
        let mut settings = comparison.settings();
        settings.rows.iter_mut().for_each(|row| shorten(&mut row[1..]));
        text += "\n";
        text += &lines(&settings);
    }
    text
}

/// Cuts the values of a setting that are too long, lists of transforms mostly: several begin shortly before they differ.
fn shorten(values: &mut [String]) {
    let mut long: Vec<&mut String> = values.iter_mut().filter(|value| value.chars().count() > WIDEST).collect();
    let letters: Vec<Vec<char>> = long.iter().map(|value| value.chars().collect()).collect();
    let Some((first, others)) = letters.split_first() else { return };
    let is_same = |at: &usize| others.iter().all(|other| other.get(*at) == first.get(*at));
    let same = (0..first.len()).take_while(is_same).count();
    let differ = others.iter().any(|other| other != first);
    let start = if differ && same + BEFORE > WIDEST { same - BEFORE } else { 0 };
    for (value, letters) in long.iter_mut().zip(&letters) {
        let rest = &letters[start..];
        let [before, after] = [start > 0, rest.len() > WIDEST].map(|is_cut| if is_cut { "…" } else { "" });
        let shown: String = rest.iter().take(WIDEST).collect();
        **value = format!("{before}{shown}{after}");
    }
}

fn lines(table: &Table) -> String {
    let headings: Vec<&str> = table.headings.iter().map(String::as_str).collect();
    let mut columns = Columns::new(table.names, &headings);
    table.rows.iter().for_each(|row| columns.row(row.iter().cloned()));
    columns.render(Style::Plain)
}

#[cfg(test)]
mod tests {
    use super::shorten;

    #[test]
    fn long_values_are_cut_to_where_they_differ() {
        let shortened = |values: &[&str]| {
            let mut values: Vec<String> = values.iter().map(|&value| value.to_owned()).collect();
            shorten(&mut values);
            values
        };
        assert_eq!(shortened(&["0.1", "[8, 16]"]), ["0.1", "[8, 16]"]);
        let long = "x".repeat(50);
        let cut = format!("{}…", "x".repeat(40));
        assert_eq!(shortened(&[&long, "–", &long]), [&cut, "–", &cut]);
        let [one, two] = ["1", "2 and more"].map(|end| format!("{long}{end}"));
        let cut = ["…xxxxxxxx1", "…xxxxxxxx2 and more", "…xxxxxxxx", "[]"];
        assert_eq!(shortened(&[&one, &two, &long, "[]"]), cut);
    }
}
