//! `convnet compare`: what runs have come to, side by side.

use std::path::PathBuf;

use convnet::columns::{Columns, Style};
use convnet::compare::{Comparison, Table};
use convnet::files::write_atomic;

use crate::console::{Console, print, print_json};

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
        text += "\n";
        text += &lines(&comparison.settings());
    }
    text
}

fn lines(table: &Table) -> String {
    let headings: Vec<&str> = table.headings.iter().map(String::as_str).collect();
    let mut columns = Columns::new(table.names, &headings);
    table.rows.iter().for_each(|row| columns.row(row.iter().cloned()));
    columns.render(Style::Plain)
}
