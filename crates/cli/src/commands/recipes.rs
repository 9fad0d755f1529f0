//! `convnet recipes`: the recipes for training that have a name.

use std::collections::BTreeMap;
use std::io::IsTerminal;

use convnet::columns::{Columns, Style};
use convnet::train::{NamedRecipe, RECIPES};

use crate::console::{Console, print, print_json};
use crate::usage::OrUsage;

/// List the recipes for training that have a name, or print one as TOML
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The recipe to print, with its source
    #[arg(value_name = "NAME")]
    name: Option<String>,

    /// Print one JSON document and nothing else on stdout [default: a table, or TOML]
    #[arg(long, help_heading = "Output")]
    json: bool,
}

impl Args {
    pub(crate) fn run(&self, console: &Console) -> anyhow::Result<()> {
        let named = self.name.as_deref().map(NamedRecipe::find).transpose().or_usage()?;
        if self.json {
            return print_json(&BTreeMap::from([("recipes", named.map_or(RECIPES.to_vec(), |recipe| vec![recipe]))]));
        }
        if let Some(recipe) = named {
            return print(recipe.toml);
        }
        let mut columns = Columns::new(2, &["recipe", "what it is for"]);
        RECIPES.iter().for_each(|recipe| columns.row([recipe.name, recipe.about()].map(str::to_owned)));
        print(&columns.render(Style::Plain))?;
        if std::io::stdout().is_terminal() {
            console.note(
                "\nSee one's settings with `convnet recipes NAME`, and use it with `convnet train --recipe NAME`.",
            );
        }
        Ok(())
    }
}
