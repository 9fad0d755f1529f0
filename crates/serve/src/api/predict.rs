//! `POST /v1/models/{model}/predict`: pictures in, labels out.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use convnet::predictor::{Guess, guesses};
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};

use super::pictures::{self, Picture};
use super::problem::Problem;
use super::{PathOf, QueryOf, path, query};
use crate::app::{App, Incoming, Latest, Received};
use crate::queue::Computed;
use crate::sessions::Sessions;

/// Guesses of a picture, unless the request says how many.
const GUESSES: usize = 5;

/// What a request may say.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Asked {
    /// Guesses for each picture.
    top: Option<usize>,
    /// Whether the network's outputs come along.
    #[serde(default)]
    logits: bool,
    /// Whether damaged pictures are refused.
    #[serde(default)]
    strict: bool,
    /// Milliseconds within which computing must begin.
    timeout: Option<u64>,
}

#[derive(Serialize)]
struct Document<'a> {
    model: &'a str,
    version: u64,
    predictions: Vec<Answered>,
    seconds: Seconds,
}

/// A picture's answer.
#[derive(Serialize)]
struct Answered {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    top: Vec<Guess>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logits: Option<Vec<f32>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

/// The longest of each picture's times.
#[derive(Default, Serialize)]
struct Seconds {
    queue: f64,
    compute: f64,
    total: f64,
}

/// `POST /v1/models/{model}/predict`.
pub(crate) async fn predict(
    State(app): State<Arc<App>>,
    model: PathOf<String>,
    asked: QueryOf<Asked>,
    incoming: Incoming,
) -> Result<Response, Problem> {
    let (model, asked) = (app.model(&path(model)?)?, query(asked)?);
    if asked.top == Some(0) || asked.timeout == Some(0) {
        return Err(Problem::request("top and timeout: expected at least 1"));
    }
    let boundary = pictures::boundary(&incoming.headers)?;
    let Received { body, mut permit, arrived } = app.receive(model, incoming).await?;
    let pictures = pictures::of(body, boundary, app.admission.most_pictures()).await?;
    app.admit(&mut permit, pictures.len())?;
    let sessions = model.current();
    let latest = app.latest(arrived, asked.timeout.map(Duration::from_millis));
    let answers = pictures.into_iter().map(|picture| answer(&app, &sessions, picture, &asked, latest));
    let answers = join_all(answers).await;
    // One bad picture among others is told of; alone it is the request that is bad. That the server is busy always is.
    if answers.iter().all(|(_, found)| found.is_err()) {
        let first = answers.into_iter().find_map(|(_, found)| found.err());
        return Err(first.unwrap_or_else(|| Problem::request("expected a picture")));
    }
    let mut seconds = Seconds::default();
    let mut predictions = Vec::new();
    for (name, found) in answers {
        predictions.push(match found {
            Ok((entry, computed)) => {
                seconds.queue = seconds.queue.max(computed.queued.as_secs_f64());
                seconds.compute = seconds.compute.max(computed.computed.as_secs_f64());
                entry
            }
            Err(problem) => {
                let error = Some(problem.message().to_owned());
                Answered { name, error, top: Vec::new(), logits: None, warnings: Vec::new() }
            }
        });
    }
    seconds.total = arrived.elapsed().as_secs_f64();
    Ok(Json(Document { model: model.name(), version: sessions.version, predictions, seconds }).into_response())
}

async fn answer(
    app: &App,
    sessions: &Arc<Sessions>,
    Picture { name, bytes }: Picture,
    asked: &Asked,
    latest: Latest,
) -> (String, Result<(Answered, Computed), Problem>) {
    let found = async {
        let prepared = app.prepare(sessions, name.clone(), bytes, asked.strict).await?;
        let computed = app.compute(sessions, prepared.image, latest).await?;
        let entry = Answered {
            name: name.clone(),
            error: None,
            top: guesses(&sessions.description, &computed.output, asked.top.unwrap_or(GUESSES)),
            logits: asked.logits.then(|| computed.output.clone()),
            warnings: prepared.warnings,
        };
        Ok((entry, computed))
    };
    let found = found.await;
    (name, found)
}
