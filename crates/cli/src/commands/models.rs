//! `convnet models`: the networks that have a name.

use std::collections::BTreeMap;
use std::io::IsTerminal;

use convnet::columns::{Columns, Style, thousands};
use convnet::zoo::{self, Model};

use crate::console::{Console, print, print_json};

/// List the networks that have a name
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Print one JSON document and nothing else on stdout [default: a table]
    #[arg(long, help_heading = "Output")]
    json: bool,
}

impl Args {
    pub(crate) fn run(&self, console: &Console) -> anyhow::Result<()> {
        let models: Vec<&Model> = zoo::models().collect();
        if self.json {
            return print_json(&BTreeMap::from([("models", models)]));
        }
        let mut columns = Columns::new(3, &["family", "model", "what it is", "input", "classes", "params"]);
        let mut last = "";
        for model in models {
            let [c, h, w] = model.input;
            let family = if model.family == last { "" } else { model.family };
            last = model.family;
            let words = [family, model.name, model.description].map(str::to_owned);
            let sizes = [format!("{c}x{h}x{w}"), model.classes.to_string(), thousands(model.params)];
            columns.row(words.into_iter().chain(sizes));
        }
        print(&columns.render(Style::Plain))?;
        if std::io::stdout().is_terminal() {
            console.note("\nSee one's layers with `convnet summary MODEL`.");
        }
        Ok(())
    }
}
