//! Runs: what they are, their epochs as they come, and their report.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use convnet::train::RunFolder;
use futures_util::stream;
use serde_json::{Value, json};

use super::problem::Problem;
use super::{PathOf, path};
use crate::app::App;
use crate::runs::epochs;

/// Between two looks at a run that is under way.
const LOOK: Duration = Duration::from_millis(500);

fn of<'a>(app: &'a App, name: &str) -> Result<&'a RunFolder, Problem> {
    app.runs.0.get(name).ok_or_else(|| {
        let known: Vec<&str> = app.runs.0.keys().map(String::as_str).collect();
        match known.is_empty() {
            true => Problem::missing("no run is shown: start the server with the folder of one"),
            false => Problem::missing(format!("no run '{name}': expected one of {}", known.join(", "))),
        }
    })
}

fn short(name: &str, run: &RunFolder) -> Value {
    json!({
        "name": name, "folder": run.path().display().to_string(), "is_training": run.is_training(),
        "has_report": run.report_html().is_file(),
    })
}

/// `GET /v1/runs`.
pub(crate) async fn list(State(app): State<Arc<App>>) -> Response {
    let runs: Vec<Value> = app.runs.0.iter().map(|(name, run)| short(name, run)).collect();
    Json(json!({ "runs": runs })).into_response()
}

/// `GET /v1/runs/{run}`.
pub(crate) async fn run(State(app): State<Arc<App>>, run: PathOf<String>) -> Result<Response, Problem> {
    let name = path(run)?;
    let run = of(&app, &name)?.clone();
    let read = move || {
        let text =
            std::fs::read_to_string(run.config_toml()).map_err(convnet::Error::io("reading", run.config_toml()))?;
        let config: Value =
            toml::from_str(&text).map_err(|error| convnet::Error::file(run.config_toml(), error.to_string()))?;
        let mut document = short(&name, &run);
        document["config"] = config;
        document["epochs"] = epochs(&run).into();
        Ok(document)
    };
    Ok(Json(app.on_a_core(read).await?).into_response())
}

/// Where a stream of epochs is.
struct Watched {
    run: RunFolder,
    /// Epochs that have been sent or wait.
    seen: usize,
    waiting: VecDeque<Value>,
    ended: bool,
}

/// `GET /v1/runs/{run}/events`: an event `epoch` for each epoch, those that there are and those that come; `end` when the
/// training ends.
pub(crate) async fn events(State(app): State<Arc<App>>, run: PathOf<String>) -> Result<Response, Problem> {
    let run = of(&app, &path(run)?)?.clone();
    let begin = Watched { run, seen: 0, waiting: VecDeque::new(), ended: false };
    let stream = stream::unfold((begin, app), |(mut watched, app)| async move {
        loop {
            if let Some(epoch) = watched.waiting.pop_front() {
                let event = Event::default().event("epoch").data(epoch.to_string());
                return Some((Ok::<_, Infallible>(event), (watched, app)));
            }
            if watched.ended {
                return None;
            }
            // First whether it goes on, then what there is: nothing comes after that, then.
            let goes_on = watched.run.is_training() && app.is_ready();
            let new: Vec<Value> = epochs(&watched.run).into_iter().skip(watched.seen).collect();
            watched.seen += new.len();
            watched.waiting.extend(new);
            if watched.waiting.is_empty() {
                if goes_on {
                    tokio::time::sleep(LOOK).await;
                } else {
                    watched.ended = true;
                    return Some((Ok(Event::default().event("end").data("{}")), (watched, app)));
                }
            }
        }
    });
    Ok(Sse::new(stream).keep_alive(KeepAlive::default()).into_response())
}

/// `GET /v1/runs/{run}/report`.
pub(crate) async fn report(State(app): State<Arc<App>>, run: PathOf<String>) -> Result<Response, Problem> {
    let name = path(run)?;
    let path = of(&app, &name)?.report_html();
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
