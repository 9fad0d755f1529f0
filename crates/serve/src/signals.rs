//! The signals of a server: SIGTERM and Ctrl-C stop it, a second one ends the process, SIGHUP loads its models again.

use std::sync::Arc;

use crate::app::App;
use crate::log::Level;

/// What the process exits with after a second signal.
const EXIT_CODE: i32 = 130;

/// Ends when the server is to stop.
#[cfg(unix)]
pub(crate) async fn stop(app: Arc<App>) {
    use tokio::signal::unix::{SignalKind, signal};
    let kinds = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()];
    let [Ok(mut terminate), Ok(mut interrupt), Ok(mut hangup)] = kinds.map(signal) else {
        app.logger.event(Level::Error, "signals cannot be handled: they end the process");
        return std::future::pending().await;
    };
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

/// Ends when the server is to stop.
#[cfg(not(unix))]
pub(crate) async fn stop(app: Arc<App>) {
    if tokio::signal::ctrl_c().await.is_err() {
        app.logger.event(Level::Error, "Ctrl-C cannot be handled: it ends the process");
        return std::future::pending().await;
    }
    tokio::spawn(async {
        let _ = tokio::signal::ctrl_c().await;
        std::process::exit(EXIT_CODE)
    });
}
