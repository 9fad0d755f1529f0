//! `POST /v1/models/{model}/predict`: pictures in, labels out.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use convnet::predictor::{Guess, guesses};
use futures_util::future::join_all;
use serde::Serialize;

use super::pictures::{self, Picture};
use super::problem::Problem;
use super::query::Parameters;
use super::{PathOf, path};
use crate::app::{App, Incoming, Purpose, Received};
use crate::asking::{Asking, Latest};
use crate::held::held;
use crate::queue::Computed;

/// Guesses of a picture, unless the request says how many.
const GUESSES: usize = 5;

/// What a request may say.
struct Asked {
    /// Guesses for each picture.
    top: usize,
    /// Whether the network's outputs come along.
    logits: bool,
    /// Whether damaged pictures are refused.
    strict: bool,
    /// Within which time computing must begin.
    timeout: Option<Duration>,
}

impl Asked {
    fn new(mut parameters: Parameters) -> Result<Asked, Problem> {
        let asked = Asked {
            top: parameters.number("top", 1)?.unwrap_or(GUESSES),
            logits: parameters.flag("logits")?,
            strict: parameters.flag("strict")?,
            timeout: parameters.number("timeout", 1)?.map(|milliseconds| Duration::from_millis(milliseconds as u64)),
        };
        parameters.end()?;
        Ok(asked)
    }
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
    parameters: Parameters,
    incoming: Incoming,
) -> Result<Response, Problem> {
    let (model, asked) = (app.model(&path(model)?)?, Asked::new(parameters)?);
    let boundary = pictures::boundary(&incoming.headers)?;
    let Received { body, mut permit, arrived } = app.receive(&model, Purpose::Pictures, incoming).await?;
    let pictures = pictures::of(body, boundary, app.admission.most_pictures()).await?;
    app.admit(&mut permit, Purpose::Pictures, pictures.len())?;
    let latest = Latest::new(arrived, app.config.max_wait, asked.timeout);
    let asking = Asking::new(&app, model.current(), Purpose::Pictures, latest);
    let answers = pictures.into_iter().map(|picture| answer(&app, &asking, picture, &asked));
    let mut answers = join_all(answers).await;
    // One bad picture among others is told of; alone it is the request that is bad. That the server is busy is of the whole request.
    let is_of_time = |(_, found): &(_, Result<_, Problem>)| found.as_ref().is_err_and(Problem::is_of_time);
    let failed = match answers.iter().position(is_of_time) {
        None if answers.iter().all(|(_, found)| found.is_err()) => Some(0),
        found => found,
    };
    if let Some((_, Err(problem))) = failed.map(|place| answers.swap_remove(place)) {
        return Err(problem);
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
    let document = Document { model: model.name(), version: asking.sessions.version, predictions, seconds };
    Ok(held(Json(document).into_response(), permit).await)
}

async fn answer(
    app: &App,
    asking: &Asking<'_>,
    Picture { name, bytes }: Picture,
    asked: &Asked,
) -> (String, Result<(Answered, Computed), Problem>) {
    let found = async {
        let prepared = app.prepare(&asking.sessions, name.clone(), bytes, asked.strict).await?;
        let computed = asking.compute(prepared.image).await?;
        let entry = Answered {
            name: name.clone(),
            error: None,
            top: guesses(&asking.sessions.description, &computed.output, asked.top),
            logits: asked.logits.then(|| computed.output.clone()),
            warnings: prepared.warnings,
        };
        Ok((entry, computed))
    };
    let found = found.await;
    (name, found)
}
