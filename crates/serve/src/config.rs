//! What a server may use, and how long it waits.

use std::time::Duration;

use convnet::{Error, Result};

/// Limits and times of a server.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// Most pictures that go through a network at once.
    pub max_batch: usize,
    /// How long the first picture of a batch waits for others while the engine is free.
    pub max_delay: Duration,
    /// Most pictures between admission and answer; a request beyond them is refused with 503.
    pub max_queue: usize,
    /// A request that would wait longer for the engine is refused with 503.
    pub max_wait: Duration,
    /// Most bytes of a request's body.
    pub max_body: usize,
    /// Most bytes of all bodies that have been admitted and are not answered.
    pub max_pending: usize,
    /// Most pixels of a picture.
    pub max_pixels: u64,
    /// How long a client may take to read 64 KiB of an answer.
    pub write_timeout: Duration,
    /// Most connections. Beyond them, the one that has been idle longest is closed.
    pub max_connections: usize,
    /// How long a client may take to send a request's headers, and how long a connection may be idle.
    pub header_timeout: Duration,
    /// How long a client may take to send a request's body.
    pub body_timeout: Duration,
    /// How long requests are still accepted after the server has been told to stop and says that it is not ready.
    pub drain_grace: Duration,
    /// How long requests that are under way may take after that.
    pub drain_timeout: Duration,
    /// How long what the engine computes then may take to end.
    pub engine_timeout: Duration,
    /// The token that requests must bring (`Authorization: Bearer …`), but for health and the page's own files.
    pub token: Option<String>,
    /// Names of hosts that requests may be sent to, beside this machine's own: those under which a proxy is reached.
    pub allow_hosts: Vec<String>,
    /// Whether explanations, features and the arithmetic of units are served; they take memory once asked for, which is
    /// given back when none has been asked for a minute.
    pub explain: bool,
    /// What is written to stderr.
    pub log: Log,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            max_batch: 16,
            max_delay: Duration::ZERO,
            max_queue: 256,
            max_wait: Duration::from_secs(1),
            max_body: 64 << 20,
            max_pending: 256 << 20,
            max_pixels: 64_000_000,
            max_connections: 1024,
            header_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            drain_grace: Duration::from_secs(5),
            drain_timeout: Duration::from_secs(20),
            engine_timeout: Duration::from_secs(4),
            token: None,
            allow_hosts: Vec::new(),
            explain: true,
            log: Log::Text,
        }
    }
}

impl Config {
    /// # Errors
    /// [`Error::Invalid`] for times in which nothing could be answered.
    pub(crate) fn check(&self) -> Result<()> {
        if self.max_wait.is_zero() {
            return Err(Error::invalid("max_wait: expected more than 0"));
        }
        if self.max_delay >= self.max_wait {
            let (delay, wait) = (self.max_delay, self.max_wait);
            return Err(Error::invalid(format!("max_delay: expected less than max_wait, {wait:?}, got {delay:?}")));
        }
        Ok(())
    }
}

/// What is written to stderr.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Log {
    /// Nothing.
    Off,
    /// Starts, stops, reloads and failures, a line each.
    Text,
    /// The same and every request, each as a JSON document on a line.
    Json,
}

impl Log {
    /// Writes a line about what happens to the server, as it does itself.
    pub fn info(self, message: &str) {
        crate::log::Logger(self).event(crate::log::Level::Info, message);
    }
}
