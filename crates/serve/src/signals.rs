//! The signals of a server: SIGTERM and Ctrl-C stop it, a second one ends the process, SIGHUP loads its models again.

use std::io;
use std::sync::Arc;

#[cfg(unix)]
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::app::App;

/// What the process exits with after a second signal.
const EXIT_CODE: i32 = 130;

/// The signals, which are handled from its making on.
#[cfg(unix)]
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

#[cfg(unix)]
impl Signals {
    pub(crate) fn new() -> io::Result<Signals> {
        let [terminate, interrupt, hangup] =
            [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()].map(signal);
        Ok(Signals { terminate: terminate?, interrupt: interrupt?, hangup: hangup? })
    }

    /// Ends when the server is to stop.
    pub(crate) async fn stop(self, app: Arc<App>) {
        let Signals { mut terminate, mut interrupt, mut hangup } = self;
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hangup.recv() => {
                    let app = Arc::clone(&app);
                    tokio::spawn(async move {
                        for model in app.models() {
                            // What goes wrong is in the log, and the old version goes on answering.
                            let _ = app.reload(&model).await;
                        }
                    });
                }
            }
        }
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            std::process::exit(EXIT_CODE)
        });
    }
}

/// The signals, which are handled from its making on.
#[cfg(not(unix))]
pub(crate) struct Signals(tokio::signal::windows::CtrlC);

#[cfg(not(unix))]
impl Signals {
    pub(crate) fn new() -> io::Result<Signals> {
        tokio::signal::windows::ctrl_c().map(Signals)
    }

    /// Ends when the server is to stop.
    pub(crate) async fn stop(mut self, _: Arc<App>) {
        self.0.recv().await;
        tokio::spawn(async move {
            self.0.recv().await;
            std::process::exit(EXIT_CODE)
        });
    }
}
