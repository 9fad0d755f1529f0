//! Ctrl-C, SIGTERM and SIGHUP. They end the process at once, unless a command has asked to be told: then the first only
//! tells it, and the second ends the process. A server is given them as orders. A hangup that is ignored when the process
//! begins, as `nohup` has it, stays ignored but by a server.

use std::fmt;
use std::io::{self, Write, stderr};
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use convnet_serve::{Handle, Order, Orders, on_signals, orders};

/// What the process exits with.
pub(crate) const EXIT_CODE: u8 = 130;

/// What the next signal does.
#[derive(Debug)]
enum State {
    /// It ends the process.
    Leave,
    /// It is told, by [`requested`].
    Tell,
    /// It ends the process: one has been told.
    Told,
    /// It is a server's, until that stops; then it ends the process.
    HandedOver(Handle),
}

/// The number of SIGHUP.
const HANGUP: u32 = 1;

static STATE: Mutex<State> = Mutex::new(State::Leave);
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

fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Handles the signals. Where that fails they kill the process, as they do by themselves.
pub(crate) fn install() {
    let hangup_is_ignored = is_ignored(HANGUP);
    let _ = on_signals(move |order| hear(order, hangup_is_ignored));
}

/// Does what the next signal does.
fn hear(order: Order, hangup_is_ignored: bool) {
    let mut state = state();
    match &*state {
        // A server that stops has nothing to load again, and no more orders to stop.
        State::HandedOver(handle) if handle.give(order) || order == Order::Reload => {}
        _ if order == Order::Reload && hangup_is_ignored => {}
        State::Tell => *state = State::Told,
        State::Leave | State::Told | State::HandedOver(_) => {
            if IN_LINE.load(Ordering::SeqCst) {
                // The shell's next line is its own. There is nobody to tell that it cannot be written.
                let _ = stderr().write_all(b"\n");
            }
            process::exit(EXIT_CODE.into())
        }
    }
}

/// The end of stdin is a signal, too: whoever has started the process holds the other end, and need not live to tell it.
///
/// # Errors
/// When the system refuses a thread.
pub(crate) fn end_with_stdin() -> io::Result<()> {
    let wait = || {
        // One that cannot be read has ended.
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        hear(Order::Stop, false);
    };
    thread::Builder::new().name("stdin".into()).spawn(wait).map(drop)
}

/// Whether the process was started to ignore a signal; not known but on Linux.
fn is_ignored(signal: u32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    ignored.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

/// Says whether a process that ends now is to end the line in which the cursor stands.
pub(crate) fn is_in_line(is: bool) {
    IN_LINE.store(is, Ordering::SeqCst);
}

/// From now on the first signal does no more than [`requested`] tells.
pub(crate) fn tell() {
    *state() = State::Tell;
}

/// From now on signals are orders, until the server stops.
///
/// # Errors
/// [`Interrupted`] when one has come since [`tell`].
pub(crate) fn hand_over() -> Result<Orders, Interrupted> {
    let mut state = state();
    if let State::Told = *state {
        return Err(Interrupted);
    }
    let (handle, orders) = orders();
    *state = State::HandedOver(handle);
    Ok(orders)
}

/// Whether a signal has come since [`tell`].
pub(crate) fn requested() -> bool {
    matches!(*state(), State::Told)
}
