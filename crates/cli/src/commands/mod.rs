//! The subcommands, one file each: its arguments, and what it does with them.

mod completions;
mod models;
mod summary;

use clap::Subcommand;

use crate::console::Console;

#[derive(Subcommand)]
#[allow(clippy::large_enum_variant, reason = "one is made in a process")]
pub(crate) enum Command {
    Summary(summary::Args),
    Models(models::Args),
    Completions(completions::Args),
}

impl Command {
    pub(crate) fn run(&self, console: &Console) -> anyhow::Result<()> {
        match self {
            Command::Summary(args) => args.run(console),
            Command::Models(args) => args.run(console),
            Command::Completions(args) => args.run(),
        }
    }
}
