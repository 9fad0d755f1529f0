//! What a running server is told, and the signals that tell it: SIGTERM and Ctrl-C to stop, SIGHUP to load its models again.

use std::io;
use std::sync::{Arc, mpsc as std_mpsc};
use std::thread;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::app::App;

/// What a server can be told while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// To stop: what is under way is answered.
    Stop,
    /// To load all models again.
    Reload,
}

/// Gives orders to the server that has the [`Orders`].
#[derive(Clone, Debug)]
pub struct Handle(UnboundedSender<Order>);

/// The orders of a [`Handle`], for [`crate::Server::run_ordered`].
#[derive(Debug)]
pub struct Orders(UnboundedReceiver<Order>);

/// A handle, and its orders.
pub fn orders() -> (Handle, Orders) {
    let (sender, receiver) = unbounded_channel();
    (Handle(sender), Orders(receiver))
}

impl Handle {
    /// Gives an order, which waits for a server that has not begun. Whether anybody can obey it: not once the server stops.
    pub fn give(&self, order: Order) -> bool {
        self.0.send(order).is_ok()
    }
}

impl Orders {
    /// Obeys until the server is to stop. From then on no order can be given.
    pub(crate) async fn obey(mut self, app: Arc<App>) {
        loop {
            match self.0.recv().await {
                Some(Order::Stop) => return,
                Some(Order::Reload) => {
                    let app = Arc::clone(&app);
                    tokio::spawn(async move {
                        for model in app.models() {
                            // What goes wrong is in the log, and the old version goes on answering.
                            let _ = app.reload(&model).await;
                        }
                    });
                }
                // There is no handle any more.
                None => std::future::pending().await,
            }
        }
    }
}

/// Calls for each signal to this process, on a thread of its own: SIGTERM and Ctrl-C are [`Order::Stop`], SIGHUP is
/// [`Order::Reload`]. From then on these signals have no other effect.
///
/// # Errors
/// When the system refuses a thread or the signals.
pub fn on_signals(mut call: impl FnMut(Order) + Send + 'static) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let (tell, told) = std_mpsc::channel();
    let listen = async move {
        let mut signals = match Signals::new() {
            Ok(signals) => signals,
            Err(error) => return drop(tell.send(Err(error))),
        };
        let _ = tell.send(Ok(()));
        while let Some(order) = signals.next().await {
            call(order);
        }
    };
    thread::Builder::new().name("signals".into()).spawn(move || runtime.block_on(listen))?;
    told.recv().map_err(|_| io::Error::other("the thread for signals broke off"))?
}

#[cfg(unix)]
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> io::Result<Signals> {
        use tokio::signal::unix::{SignalKind, signal};
        let [terminate, interrupt, hangup] =
            [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()].map(signal);
        Ok(Signals { terminate: terminate?, interrupt: interrupt?, hangup: hangup? })
    }

    async fn next(&mut self) -> Option<Order> {
        tokio::select! {
            signal = self.terminate.recv() => signal.map(|()| Order::Stop),
            signal = self.interrupt.recv() => signal.map(|()| Order::Stop),
            signal = self.hangup.recv() => signal.map(|()| Order::Reload),
        }
    }
}

#[cfg(not(unix))]
struct Signals(tokio::signal::windows::CtrlC);

#[cfg(not(unix))]
impl Signals {
    fn new() -> io::Result<Signals> {
        tokio::signal::windows::ctrl_c().map(Signals)
    }

    async fn next(&mut self) -> Option<Order> {
        self.0.recv().await.map(|()| Order::Stop)
    }
}
