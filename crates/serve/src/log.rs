//! Lines on stderr: what happens to the server, and with [`Log::Json`] every request.

use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use crate::config::Log;

/// Writes events.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Logger(pub(crate) Log);

/// How much an event matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    Info,
    Error,
}

impl Logger {
    /// Something that happens to the server.
    pub(crate) fn event(self, level: Level, message: &str) {
        match self.0 {
            Log::Off => {}
            Log::Text => write(&format!("{}{message}", if level == Level::Error { "error: " } else { "" })),
            Log::Json => self.json(level, json!({ "message": message })),
        }
    }

    /// A request that has been answered.
    pub(crate) fn request(self, fields: Value) {
        match self.0 {
            Log::Off | Log::Text => {}
            Log::Json => self.json(Level::Info, fields),
        }
    }

    fn json(self, level: Level, fields: Value) {
        let level = match level {
            Level::Info => "info",
            Level::Error => "error",
        };
        let mut line = Map::from_iter([("time".to_owned(), json!(now())), ("level".to_owned(), json!(level))]);
        if let Value::Object(fields) = fields {
            line.extend(fields);
        }
        write(&Value::Object(line).to_string());
    }
}

/// One call, so that lines of several threads do not mix. There is nobody to tell that stderr is closed.
fn write(line: &str) {
    let _ = std::io::stderr().lock().write_all(format!("{line}\n").as_bytes());
}

/// Seconds since 1970, to the millisecond.
fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_millis() as f64 / 1000.0
}
