//! The subcommands, one file each: its arguments, and what it does with them.

mod bench;
mod compare;
mod completions;
mod convert;
mod data;
mod eval;
mod explain;
mod export;
mod filter;
mod lecture;
mod models;
mod pack;
mod predict;
mod recipes;
mod scale;
mod serve;
mod studio;
mod study;
mod summary;
mod train;

use clap::Subcommand;

use crate::console::Console;
use crate::processes;
use crate::usage::Usage;

#[derive(Subcommand)]
#[allow(clippy::large_enum_variant, reason = "one is made in a process")]
pub(crate) enum Command {
    Train(train::Args),
    Eval(eval::Args),
    Predict(predict::Args),
    Compare(compare::Args),
    Study(study::Args),
    Data(data::Args),
    Pack(pack::Args),
    Convert(convert::Args),
    Explain(explain::Args),
    Export(export::Args),
    Serve(serve::Args),
    Studio(studio::Args),
    Bench(bench::Args),
    Scale(scale::Args),
    Summary(summary::Args),
    Filter(filter::Args),
    Lecture(lecture::Args),
    Models(models::Args),
    Recipes(recipes::Args),
    Completions(completions::Args),
}

impl Command {
    /// Whether several processes can do it together.
    fn is_divided(&self) -> bool {
        matches!(self, Command::Train(_) | Command::Eval(_) | Command::Predict(_))
    }

    pub(crate) fn run(&self, console: &Console) -> anyhow::Result<()> {
        if let (Some(launch), false) = (processes::launch(), self.is_divided()) {
            let (launcher, size) = (launch.launcher, launch.size);
            let problem = format!(
                "{launcher} has started {size} processes, but only train, eval and predict are divided among processes: start this alone"
            );
            return Err(Usage::new(problem).into());
        }
        match self {
            Command::Train(args) => args.run(console),
            Command::Eval(args) => args.run(console),
            Command::Predict(args) => args.run(console),
            Command::Compare(args) => args.run(console),
            Command::Study(args) => args.run(console),
            Command::Data(args) => args.run(console),
            Command::Pack(args) => args.run(console),
            Command::Convert(args) => args.run(console),
            Command::Explain(args) => args.run(console),
            Command::Export(args) => args.run(console),
            Command::Serve(args) => args.run(console),
            Command::Studio(args) => args.run(console),
            Command::Bench(args) => args.run(console),
            Command::Scale(args) => args.run(console),
            Command::Summary(args) => args.run(console),
            Command::Filter(args) => args.run(console),
            Command::Lecture(args) => args.run(console),
            Command::Models(args) => args.run(console),
            Command::Recipes(args) => args.run(console),
            Command::Completions(args) => args.run(),
        }
    }
}
