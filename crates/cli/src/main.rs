//! The `convnet` command line.
//!
//! Results go to stdout, everything else to stderr. Exit codes: 0 success, 1 failure, 2 a command line that cannot be
//! understood or carried out ([`usage`]), 130 after Ctrl-C. A reader that closes the pipe early (`convnet models | head -1`) is no failure.

mod args;
mod commands;
mod console;
mod hints;
mod interrupt;
mod pictures;
mod processes;
mod progress;
mod settings;
mod usage;

use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

use anstyle::{AnsiColor, Style};
use clap::builder::Styles;
use clap::{ArgAction, Parser};

use crate::commands::Command;
use crate::console::{Console, visible};
use crate::interrupt::Interrupted;
use crate::usage::Usage;

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

/// Convolutional networks as data: describe, train and run image classifiers.
#[derive(Parser)]
#[command(name = "convnet", version, styles = STYLES, max_term_width = 110)]
#[command(subcommand_required = true, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,

    /// Print less on stderr: no hints, no progress
    #[arg(short, long, global = true, conflicts_with = "verbose", help_heading = "Output")]
    quiet: bool,

    /// Print more on stderr: what is done and how long it takes
    #[arg(short, long, global = true, action = ArgAction::Count, help_heading = "Output")]
    verbose: u8,
}

fn main() -> ExitCode {
    interrupt::install();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() && !processes::tells(true) => return ExitCode::from(2),
        Err(error) => error.exit(),
    };
    let console = if processes::is_first() { Console::new(cli.quiet, cli.verbose) } else { Console::silent() };
    let (code, failed) = match cli.command.run(&console) {
        Ok(()) => (ExitCode::SUCCESS, false),
        Err(error) if is_closed_pipe(&error) => (ExitCode::SUCCESS, false),
        Err(error) if error.is::<Interrupted>() => (ExitCode::from(interrupt::EXIT_CODE), false),
        Err(error) => {
            if !is_elsewhere(&error) && processes::tells(error.is::<Usage>()) {
                report(&error);
            }
            (if error.is::<Usage>() { ExitCode::from(2) } else { ExitCode::FAILURE }, true)
        }
    };
    processes::leave(failed);
    code
}

/// Whether another process has failed, which says so itself.
fn is_elsewhere(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(convnet::Error::Elsewhere { .. }))
}

/// Only [`console::print()`] fails with an [`io::Error`] of this kind: files are the library's, whose errors are its own.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}

/// Prints an error and its causes, but no cause that the message before has already quoted.
fn report(error: &anyhow::Error) {
    let red: Style = AnsiColor::Red.on_default().bold();
    let hint = hints::hint(error).unwrap_or_default();
    let which = processes::launch().filter(|launch| launch.rank > 0);
    let which = which.map(|launch| format!("process {} of {}: ", launch.rank, launch.size)).unwrap_or_default();
    let mut text = format!("{red}error:{red:#} {which}{}\n", visible(&format!("{error}{hint}")));
    let mut last = error.to_string();
    for cause in error.chain().skip(1).map(|cause| cause.to_string()) {
        if !last.ends_with(&cause) {
            text += &format!("  caused by: {}\n", visible(&cause));
        }
        last = cause;
    }
    // Nobody is left to tell when stderr is closed.
    let _ = anstream::stderr().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
