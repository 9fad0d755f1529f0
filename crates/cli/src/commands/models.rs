//! `convnet models`: the networks that have a name.

use std::collections::BTreeMap;
use std::io::IsTerminal;

use convnet::columns::{Columns, Style, thousands};
use convnet::net::rewrite::without_auxiliaries;
use convnet::zoo::{self, Model, ZooOptions};
use serde::Serialize;

use crate::console::{Console, print, print_json};

/// A network with its multiply-adds for one picture of its own size, without auxiliary outputs.
#[derive(Serialize)]
struct Listed {
    #[serde(flatten)]
    model: &'static Model,
    macs: u64,
}

impl Listed {
    fn of(model: &'static Model) -> convnet::Result<Listed> {
        let net = without_auxiliaries(&model.net(&ZooOptions::default())?)?;
        Ok(Listed { model, macs: net.table(1).total.macs })
    }
}

/// List the networks that have a name
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Print one JSON document and nothing else on stdout [default: a table]
    #[arg(long, help_heading = "Output")]
    json: bool,
}

impl Args {
    pub(crate) fn run(&self, console: &Console) -> anyhow::Result<()> {
        let models = zoo::models().map(Listed::of).collect::<convnet::Result<Vec<Listed>>>()?;
        if self.json {
            return print_json(&BTreeMap::from([("models", models)]));
        }
        let headings = ["family", "model", "what it is", "input", "classes", "params", "multiply-adds"];
        let mut columns = Columns::new(3, &headings);
        let mut last = "";
        for Listed { model, macs } in models {
            let [c, h, w] = model.input;
            let family = if model.family == last { "" } else { model.family };
            last = model.family;
            let words = [family, model.name, model.description].map(str::to_owned);
            let counts = [model.params, macs].map(thousands);
            let sizes = [format!("{c}x{h}x{w}"), model.classes.to_string()].into_iter().chain(counts);
            columns.row(words.into_iter().chain(sizes));
        }
        print(&columns.render(Style::Plain))?;
        if std::io::stdout().is_terminal() {
            console.note("\nSee one's layers with `convnet summary MODEL`.");
        }
        Ok(())
    }
}
