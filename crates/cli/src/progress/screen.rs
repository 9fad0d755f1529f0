//! The terminal as bars are drawn on it: the cursor waits at the beginning of the last line. Where it waits at the end, as it
//! does by itself, the `^C` that the terminal writes at a Ctrl-C moves it into the next line, and one line too few is cleared.

use std::io::{self, Write, stderr};
use std::sync::{Mutex, PoisonError};

use indicatif::TermLike;

/// What is written to it goes to stderr at once when it is flushed.
#[derive(Debug, Default)]
pub(super) struct Screen(Mutex<String>);

impl Screen {
    fn add(&self, text: &str) -> io::Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_str(text);
        Ok(())
    }

    /// An escape sequence of ECMA-48 with a number, unless that is 0.
    fn move_by(&self, count: usize, direction: char) -> io::Result<()> {
        if count == 0 { Ok(()) } else { self.add(&format!("\x1b[{count}{direction}")) }
    }
}

/// Width and height of the terminal, as it is now.
pub(super) fn size() -> [u16; 2] {
    let size = terminal_size::terminal_size_of(stderr());
    size.map_or([80, 24], |(width, height)| [width.0, height.0])
}

impl TermLike for Screen {
    fn width(&self) -> u16 {
        size()[0]
    }

    fn height(&self) -> u16 {
        size()[1]
    }

    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        self.move_by(n, 'A')
    }

    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        self.move_by(n, 'B')
    }

    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        self.move_by(n, 'C')
    }

    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        self.move_by(n, 'D')
    }

    fn write_line(&self, s: &str) -> io::Result<()> {
        self.add(s)?;
        self.add("\n")
    }

    fn write_str(&self, s: &str) -> io::Result<()> {
        self.add(s)
    }

    fn clear_line(&self) -> io::Result<()> {
        self.add("\r\x1b[2K")
    }

    fn flush(&self) -> io::Result<()> {
        let mut text = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        text.push('\r');
        let written = stderr().write_all(text.as_bytes());
        text.clear();
        written
    }
}
