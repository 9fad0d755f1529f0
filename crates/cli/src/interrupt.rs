//! Ctrl-C, SIGTERM and SIGHUP. They end the process at once, unless a command has asked to be told: then the first only
//! tells it, and the second ends the process.

use std::fmt;
use std::io::{Write, stderr};
use std::process;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

/// What the process exits with.
pub(crate) const EXIT_CODE: u8 = 130;

const LEAVE: u8 = 0;
const TELL: u8 = 1;
const TOLD: u8 = 2;
/// Somebody else handles the signals.
const HANDED_OVER: u8 = 3;
static STATE: AtomicU8 = AtomicU8::new(LEAVE);
/// Whether the cursor stands in a line that is drawn again and again.
static IN_LINE: AtomicBool = AtomicBool::new(false);

/// The error of a command that has stopped because it was told to, and has said so.
#[derive(Debug)]
pub(crate) struct Interrupted;

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {}

/// Handles the signals. Where that fails they kill the process, as they do by themselves.
pub(crate) fn install() {
    let _ = ctrlc::set_handler(|| match STATE.compare_exchange(TELL, TOLD, Ordering::SeqCst, Ordering::SeqCst) {
        Ok(_) | Err(HANDED_OVER) => {}
        Err(_) => {
            if IN_LINE.load(Ordering::SeqCst) {
                // The shell's next line is its own. There is nobody to tell that it cannot be written.
                let _ = stderr().write_all(b"\n");
            }
            process::exit(EXIT_CODE.into())
        }
    });
}

/// Says whether a process that ends now is to end the line in which the cursor stands.
pub(crate) fn is_in_line(is: bool) {
    IN_LINE.store(is, Ordering::SeqCst);
}

/// From now on the first signal does no more than [`requested`] tells.
pub(crate) fn tell() {
    STATE.store(TELL, Ordering::SeqCst);
}

/// From now on no signal does anything here: the server handles them.
///
/// # Errors
/// [`Interrupted`] when one has come since [`tell`].
pub(crate) fn hand_over() -> Result<(), Interrupted> {
    match STATE.swap(HANDED_OVER, Ordering::SeqCst) {
        TOLD => Err(Interrupted),
        _ => Ok(()),
    }
}

/// From now on the next signal ends the process: the server has ended.
pub(crate) fn take_back() {
    STATE.store(LEAVE, Ordering::SeqCst);
}

/// Whether a signal has come since [`tell`].
pub(crate) fn requested() -> bool {
    STATE.load(Ordering::SeqCst) == TOLD
}
