//! Where text goes: results to stdout, with errors returned; notes to stderr, as many as were asked for.

use std::io::{self, IsTerminal, Write};

use anyhow::Context;
use serde::Serialize;

/// How much is said on stderr.
pub(crate) struct Console {
    quiet: bool,
    verbose: bool,
}

impl Console {
    pub(crate) fn new(quiet: bool, verbose: u8) -> Console {
        Console { quiet, verbose: verbose > 0 }
    }

    /// Says something on stderr, unless `--quiet`.
    pub(crate) fn note(&self, text: &str) {
        if !self.quiet {
            let _ = writeln!(anstream::stderr(), "{text}");
        }
    }

    /// Says on stderr what went wrong without ending the command.
    pub(crate) fn warn(&self, text: &str) {
        let _ = writeln!(anstream::stderr(), "warning: {text}");
    }

    /// Whether hints and progress are wanted.
    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Whether there is a terminal on which a progress bar can move.
    pub(crate) fn has_bar(&self) -> bool {
        !self.quiet && io::stderr().is_terminal()
    }

    /// Says something on stderr with `--verbose`.
    pub(crate) fn detail(&self, text: impl FnOnce() -> String) {
        if self.verbose {
            let _ = writeln!(anstream::stderr(), "{}", text());
        }
    }
}

/// Writes a result to stdout.
///
/// # Errors
/// When stdout cannot be written: a closed pipe, a full disk.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).context("writing to stdout")
}

/// Writes a result with colours to stdout; they are left out where nobody sees them or `NO_COLOR` is set.
///
/// # Errors
/// As [`print()`].
pub(crate) fn print_styled(text: &str) -> anyhow::Result<()> {
    let mut stdout = anstream::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).context("writing to stdout")
}

/// Writes a result to stdout as one JSON document on one line.
///
/// # Errors
/// As [`print()`].
pub(crate) fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    print(&(serde_json::to_string(value)? + "\n"))
}
