//! Runs: what they are, their epochs as they come, and their report.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde_json::{Value, json};

use super::problem::Problem;
use super::{PathOf, path};
use crate::app::App;
use crate::connections::Entry;
use crate::runs::{Epochs, Run};

/// Time between two looks at a run that is under way.
const LOOK: Duration = Duration::from_millis(500);

fn of(app: &App, name: &str) -> Result<Arc<Run>, Problem> {
    app.runs.0.get(name).cloned().ok_or_else(|| {
        let known: Vec<&str> = app.runs.0.keys().map(String::as_str).collect();
        match known.is_empty() {
            true => Problem::missing("no run is shown: start the server with the folder of one"),
            false => Problem::missing(format!("no run '{name}': expected one of {}", known.join(", "))),
        }
    })
}

fn short(name: &str, Run { folder: run, .. }: &Run) -> Value {
    json!({
        "name": name, "folder": run.path().display().to_string(), "is_training": run.is_training(),
        "has_report": run.report_html().is_file(),
    })
}

/// `GET /v1/runs`.
pub(crate) async fn list(State(app): State<Arc<App>>) -> Result<Response, Problem> {
    let looked = Arc::clone(&app);
    let look = move || Ok(looked.runs.0.iter().map(|(name, run)| short(name, run)).collect::<Vec<Value>>());
    Ok(Json(json!({ "runs": app.on_a_core(look).await? })).into_response())
}

/// `GET /v1/runs/{run}`.
pub(crate) async fn run(State(app): State<Arc<App>>, run: PathOf<String>) -> Result<Response, Problem> {
    let name = path(run)?;
    let run = of(&app, &name)?;
    let read = move || {
        let path = run.folder.config_toml();
        let text = std::fs::read_to_string(&path).map_err(convnet::Error::io("reading", &path))?;
        let config: Value = toml::from_str(&text).map_err(|error| convnet::Error::file(&path, error.to_string()))?;
        let mut document = short(&name, &run);
        document["config"] = config;
        document["epochs"] = run.epochs().rows.iter().map(|row| Value::clone(row)).collect();
        Ok(document)
    };
    Ok(Json(app.on_a_core(read).await?).into_response())
}

/// Where a stream of epochs is.
struct Watched {
    app: Arc<App>,
    run: Arc<Run>,
    /// The connection that it goes by, which is not idle.
    connection: Option<Arc<Entry>>,
    /// Epochs that have been sent or wait, and the beginning of the metrics that they are of.
    seen: usize,
    beginning: Option<usize>,
    waiting: VecDeque<Event>,
    ended: bool,
}

impl Watched {
    /// The next event, once there is one; nothing after the end.
    async fn next(mut self) -> Option<(Result<Event, Infallible>, Watched)> {
        loop {
            if let Some(connection) = &self.connection {
                connection.touch();
            }
            if let Some(event) = self.waiting.pop_front() {
                return Some((Ok(event), self));
            }
            if self.ended {
                return None;
            }
            let run = Arc::clone(&self.run);
            // First whether it goes on, then what there is: nothing comes after that, then.
            let look = move || (run.folder.is_training(), run.epochs());
            let (is_training, epochs) = tokio::task::spawn_blocking(look).await.ok()?;
            self.add(&epochs);
            if self.waiting.is_empty() {
                if is_training && self.app.is_ready() {
                    tokio::time::sleep(LOOK).await;
                } else if self.app.is_ready() {
                    self.ended = true;
                    self.waiting.push_back(Event::default().event("end").data("{}"));
                } else {
                    // The training goes on, and another server may show it.
                    return None;
                }
            }
        }
    }

    /// Adds the epochs that have not been sent; where the metrics have begun anew, that is told first.
    fn add(&mut self, Epochs { rows, beginning }: &Epochs) {
        if self.beginning.replace(*beginning).is_some_and(|before| before != *beginning) {
            self.seen = 0;
            self.waiting.push_back(Event::default().event("again").data("{}"));
        }
        let new = rows.iter().skip(self.seen);
        self.waiting.extend(new.map(|row| Event::default().event("epoch").data(row.to_string())));
        self.seen = rows.len();
    }
}

/// `GET /v1/runs/{run}/events`: an event `epoch` for each epoch, those that there are and those that come; `again` before all of them come again, as a run that was resumed has them; `end` when the training ends.
pub(crate) async fn events(
    State(app): State<Arc<App>>,
    run: PathOf<String>,
    connection: Option<Extension<Arc<Entry>>>,
) -> Result<Response, Problem> {
    let run = of(&app, &path(run)?)?;
    let connection = connection.map(|Extension(entry)| entry);
    let (seen, waiting) = (0, VecDeque::new());
    let begin = Watched { app, run, connection, seen, beginning: None, waiting, ended: false };
    Ok(Sse::new(stream::unfold(begin, Watched::next)).keep_alive(KeepAlive::default()).into_response())
}

/// `GET /v1/runs/{run}/report`.
pub(crate) async fn report(State(app): State<Arc<App>>, run: PathOf<String>) -> Result<Response, Problem> {
    let name = path(run)?;
    let path = of(&app, &name)?.folder.report_html();
    match tokio::task::spawn_blocking(move || std::fs::read(path)).await {
        Ok(Ok(html)) => {
            // What the report may load and run it says itself.
            let policy = "frame-ancestors 'self'";
            let headers =
                [(header::CONTENT_TYPE, "text/html; charset=utf-8"), (header::CONTENT_SECURITY_POLICY, policy)];
            Ok((headers, html).into_response())
        }
        Ok(Err(_)) | Err(_) => {
            Err(Problem::missing(format!("run '{name}' has no report yet: it is written when an epoch ends")))
        }
    }
}
