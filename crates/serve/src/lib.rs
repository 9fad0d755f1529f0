//! An HTTP server for convnet's classifiers: pictures in, labels out; the Open Inference Protocol; explanations; metrics; a page.
//!
//! A [`Server`] has models, each a name and what loads it. [`Server::run`] serves them until the process is told to stop; then it
//! answers what is under way. One thread computes: each time it is free it takes what waits, up to [`Config::max_batch`] pictures.
//! What a picture's answer is does not depend on the pictures beside it: the bits are those of [`convnet::predictor::Predictor`].
//!
//! ```no_run
//! use convnet::classifier::Classifier;
//! use convnet::exec::Engine;
//! use convnet_serve::{Config, Server, Source};
//!
//! # fn main() -> convnet::Result<()> {
//! let mut server = Server::new(Config::default(), Engine::new(0)?);
//! server.add_model(Source::new("cats", || Classifier::load(None, "cats.safetensors".as_ref())))?;
//! let listener = std::net::TcpListener::bind("127.0.0.1:8080").map_err(convnet::Error::io("listening on", "127.0.0.1:8080"))?;
//! server.run(listener)
//! # }
//! ```
//!
//! `openapi.json` beside this file describes the interface; the server has it at `/openapi.json`.
#![forbid(unsafe_code)]
#![warn(missing_debug_implementations, missing_docs)]

mod admission;
mod api;
mod app;
mod asking;
mod config;
mod connections;
mod engine;
mod follow;
mod held;
mod listen;
mod log;
mod metrics;
mod model;
mod orders;
mod patient;
mod queue;
mod runs;
mod sessions;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::net::TcpListener;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, RwLock, mpsc};
use std::thread;

use convnet::exec::Engine;
use convnet::{Error, Result};
use tokio::sync::Semaphore;

pub use crate::config::{Config, Log};
pub use crate::model::Source;
pub use crate::orders::{Handle, Order, Orders, on_signals, orders};

use crate::admission::Admission;
use crate::app::App;
use crate::log::{Level, Logger};
use crate::metrics::Metrics;
use crate::model::Model;
use crate::queue::Queue;
use crate::runs::Runs;

/// What the process exits with after a second signal.
const EXIT_CODE: i32 = 130;
/// Longest name of a model.
const LONGEST_NAME: usize = 200;

/// A server that has not begun yet.
pub struct Server {
    config: Config,
    engine: Engine,
    models: BTreeMap<String, Arc<Model>>,
    awaited: Vec<Source>,
    runs: Runs,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("config", &self.config)
            .field("models", &self.models.keys())
            .finish_non_exhaustive()
    }
}

impl Server {
    /// A server without models, which computes on an engine.
    pub fn new(config: Config, engine: Engine) -> Server {
        Server { config, engine, models: BTreeMap::new(), awaited: Vec::new(), runs: Runs::default() }
    }

    /// Loads a model, plans it for 1, 2, 4, … pictures, and tries each plan. One that follows files which are not there yet is loaded
    /// once they are.
    ///
    /// # Errors
    /// Those of the source; weights that do not fit their network or whose output is no number; a name that there is already, or
    /// that is empty or too long.
    pub fn add_model(&mut self, source: Source) -> Result<()> {
        let name = source.name.clone();
        if name.is_empty() || name.len() > LONGEST_NAME || name.contains('/') || name.chars().any(char::is_control) {
            let problem =
                format!("model '{}': expected a name of 1 to {LONGEST_NAME} bytes without '/'", name.escape_debug());
            return Err(Error::invalid(problem));
        }
        if self.models.contains_key(&name) || self.awaited.iter().any(|source| source.name == name) {
            let problem = format!("two models are called '{name}': name one of them apart, as NAME=PATH");
            return Err(Error::invalid(problem));
        }
        if source.stamp.is_some() && source.now().is_none() {
            self.awaited.push(source);
            return Ok(());
        }
        let model = Model::new(source, &self.engine, self.config.max_batch)?;
        self.models.insert(name, Arc::new(model));
        Ok(())
    }

    /// Shows a run under a name: its configuration, its curves while it trains, and its report.
    ///
    /// # Errors
    /// A folder that is none of a run, or a name that another run has.
    pub fn add_run(&mut self, name: &str, folder: &Path) -> Result<()> {
        self.runs.add(name, folder)
    }

    /// Serves until SIGTERM or Ctrl-C, and answers what is under way then; SIGHUP loads all models again. A second signal ends the
    /// process, and so do signals after the server's end.
    ///
    /// # Errors
    /// [`Error::Thread`] or [`Error::Io`] when the system refuses threads, signals or the listener.
    pub fn run(self, listener: TcpListener) -> Result<()> {
        let (handle, orders) = orders();
        let give = move |order| {
            if !handle.give(order) && order == Order::Stop {
                std::process::exit(EXIT_CODE)
            }
        };
        on_signals(give).map_err(Error::io("handling", "signals"))?;
        self.run_ordered(listener, orders)
    }

    /// Serves until it is ordered to stop, and answers what is under way then. Signals are left to the caller: [`on_signals`].
    ///
    /// ```
    /// # use convnet::exec::Engine;
    /// # use convnet_serve::{Config, Order, Server};
    /// # fn main() -> convnet::Result<()> {
    /// let mut config = Config::default();
    /// config.drain_grace = std::time::Duration::ZERO;
    /// let server = Server::new(config, Engine::new(1)?);
    /// let listener = std::net::TcpListener::bind("127.0.0.1:0").map_err(convnet::Error::io("listening on", "127.0.0.1:0"))?;
    /// let (handle, orders) = convnet_serve::orders();
    /// std::thread::spawn(move || handle.give(Order::Stop));
    /// server.run_ordered(listener, orders)
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Server::run`].
    pub fn run_ordered(self, listener: TcpListener, orders: Orders) -> Result<()> {
        self.config.check()?;
        let address = listener.local_addr().map_err(Error::io("listening on", "the socket"))?;
        listener.set_nonblocking(true).map_err(Error::io("listening on", "the socket"))?;
        let app = Arc::new(self.app(address.ip().is_loopback()));
        let (queue_of, delay) = (Arc::clone(&app), app.config.max_delay);
        // Hears from the engine's thread when it ends, whether well or not.
        let (ending, ended) = mpsc::channel::<()>();
        let work = move || {
            let _ending = ending;
            engine::compute(&queue_of.queue, delay, &queue_of.metrics);
        };
        let engine = thread::Builder::new()
            .name("engine".into())
            .spawn(work)
            .map_err(Error::io("starting a thread for", "the engine"))?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        let runtime = runtime.map_err(Error::io("starting threads for", "connections"))?;
        let served = runtime.block_on(async {
            let listener =
                tokio::net::TcpListener::from_std(listener).map_err(Error::io("listening on", "the socket"))?;
            let looking = tokio::spawn(follow::look_after(Arc::clone(&app)));
            listen::serve(Arc::clone(&app), api::router(&app), listener, orders.obey(Arc::clone(&app))).await;
            looking.abort();
            Ok(())
        });
        app.queue.stop();
        // Requests that did not end in time end with their connections.
        runtime.shutdown_background();
        let has_ended = ended.recv_timeout(app.config.engine_timeout) != Err(mpsc::RecvTimeoutError::Timeout);
        if !has_ended {
            app.logger.event(Level::Error, "what the engine computes did not end in time");
        } else if engine.join().is_err() {
            app.logger.event(Level::Error, "the engine broke off");
        }
        app.logger.event(Level::Info, "stopped");
        served
    }

    fn app(self, is_local: bool) -> App {
        let Server { config, engine, models, awaited, runs } = self;
        let metrics = Metrics::new(engine.isa(), engine.threads(), config.max_batch);
        models.values().for_each(|model| metrics.version(model.name(), model.current().version));
        let awaited_names = awaited.iter().map(|source| source.name.as_str());
        let names: Vec<&str> = models.keys().map(String::as_str).chain(awaited_names).collect();
        let of_runs: Vec<&str> = runs.0.keys().map(String::as_str).collect();
        let openapi = api::page::described(&names, &of_runs);
        let cores = thread::available_parallelism().map_or(1, usize::from);
        App {
            admission: Admission::new(config.max_queue, config.max_pending),
            decoders: Semaphore::new(cores),
            logger: Logger(config.log),
            queue: Queue::default(),
            ready: AtomicBool::new(true),
            config,
            engine,
            openapi,
            models: RwLock::new(models),
            awaited: Mutex::new(awaited),
            runs,
            metrics,
            is_local,
        }
    }
}
