//! Where text goes: results to stdout, with errors returned; notes to stderr, as many as were asked for. Names of files may hold
//! anything, so control characters are spelled out in all of it but JSON ([`visible`]).

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};

use anyhow::Context;
use serde::Serialize;

use crate::processes;

/// How much is said on stderr.
pub(crate) struct Console {
    quiet: bool,
    verbose: bool,
    silent: bool,
}

impl Console {
    pub(crate) fn new(quiet: bool, verbose: u8) -> Console {
        Console { quiet, verbose: verbose > 0, silent: false }
    }

    /// That of a process for which another one speaks.
    pub(crate) fn silent() -> Console {
        Console { quiet: true, verbose: false, silent: true }
    }

    /// Says something on stderr, unless `--quiet`.
    pub(crate) fn note(&self, text: &str) {
        if !self.quiet {
            let _ = writeln!(anstream::stderr(), "{}", visible(text));
        }
    }

    /// Says on stderr what went wrong without ending the command.
    pub(crate) fn warn(&self, text: &str) {
        if !self.silent {
            let _ = writeln!(anstream::stderr(), "warning: {}", visible(text));
        }
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
            let _ = writeln!(anstream::stderr(), "{}", visible(&text()));
        }
    }
}

/// The text with its control characters spelled out (`\u{1b}`), but for line breaks and tabs: nothing in it can move the cursor,
/// change colours or write over what stands there.
pub(crate) fn visible(text: &str) -> Cow<'_, str> {
    let is_control = |letter: char| letter.is_control() && !matches!(letter, '\n' | '\t');
    if !text.contains(is_control) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        let ends_line = letter == '\r' && letters.peek() == Some(&'\n');
        match is_control(letter) && !ends_line {
            true => shown.extend(letter.escape_debug()),
            false => shown.push(letter),
        }
    }
    Cow::Owned(shown)
}

/// Writes a result to stdout.
///
/// # Errors
/// When stdout cannot be written: a closed pipe, a full disk.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    print_as_it_is(&visible(text))
}

/// Writes a result to stdout in which control characters are escaped already, or have no place.
///
/// # Errors
/// As [`print()`].
pub(crate) fn print_as_it_is(text: &str) -> anyhow::Result<()> {
    // Of several processes, one has the results of all.
    if !processes::is_first() {
        return Ok(());
    }
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
    print_as_it_is(&(serde_json::to_string(value)? + "\n"))
}

#[cfg(test)]
mod tests {
    use super::visible;

    #[test]
    fn control_characters_are_spelled_out() {
        for (text, expected) in [
            ("a/b c.png: 猫\n\té", "a/b c.png: 猫\n\té"),
            ("\u{1b}[31mred\u{1b}]0;title\u{7}", "\\u{1b}[31mred\\u{1b}]0;title\\u{7}"),
            ("over\rwritten\r\n", "over\\rwritten\r\n"),
            ("\u{0}\u{7f}\u{9b}1m", "\\0\\u{7f}\\u{9b}1m"),
        ] {
            assert_eq!(visible(text), expected);
        }
    }
}
