//! The Open Inference Protocol, version 2 (KServe), over REST, with Triton's extensions for binary tensors, classification and
//! the model repository.
//!
//! A model has one input, `input`: float32, pictures × channels × height × width, normalised already. Its outputs are `logits`, the
//! network's own, and `probabilities`; both pictures × classes. Answers have the bits of `convnet predict --npy`.

mod tensors;

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use convnet::evaluate::softmax;
use convnet::predictor::guesses;
use futures_util::future::join_all;
use serde_json::json;

use self::tensors::{HEADER_LENGTH, Inference, Limits, Output, Wanted};
use super::problem::Problem;
use super::{PathOf, path};
use crate::app::{App, Incoming, Purpose, Received};
use crate::asking::{Asking, Latest};
use crate::held::held;
use crate::model::Model;
use crate::sessions::Sessions;

/// The outputs of a model.
pub(super) const LOGITS: &str = "logits";
pub(super) const PROBABILITIES: &str = "probabilities";
/// Its input.
pub(super) const INPUT: &str = "input";

/// `GET /v2`.
pub(crate) async fn server() -> Response {
    let extensions = ["binary_tensor_data", "classification", "model_repository"];
    Json(json!({ "name": "convnet", "version": env!("CARGO_PKG_VERSION"), "extensions": extensions })).into_response()
}

/// `GET /v2/models/{model}`.
pub(crate) async fn metadata(State(app): State<Arc<App>>, model: PathOf<String>) -> Result<Response, Problem> {
    let model = app.model(&path(model)?)?;
    Ok(Json(described(&model, &model.current())).into_response())
}

/// `GET /v2/models/{model}/versions/{version}`.
pub(crate) async fn metadata_of_version(
    State(app): State<Arc<App>>,
    names: PathOf<(String, String)>,
) -> Result<Response, Problem> {
    let model = of_version(&app, names)?;
    Ok(Json(described(&model, &model.current())).into_response())
}

fn described(model: &Model, sessions: &Sessions) -> serde_json::Value {
    let [channels, height, width] = sessions.description.input();
    let output =
        |name: &str| json!({ "name": name, "datatype": "FP32", "shape": [-1, sessions.description.classes().len()] });
    json!({
        "name": model.name(), "versions": [sessions.version.to_string()], "platform": "convnet",
        "inputs": [{ "name": INPUT, "datatype": "FP32", "shape": [-1, channels, height, width] }],
        "outputs": [output(LOGITS), output(PROBABILITIES)],
    })
}

/// `GET /v2/models/{model}/ready`.
pub(crate) async fn ready(State(app): State<Arc<App>>, model: PathOf<String>) -> Result<Response, Problem> {
    Ok(readiness(&app, app.model(&path(model)?)?.name()))
}

/// `GET /v2/models/{model}/versions/{version}/ready`.
pub(crate) async fn ready_of_version(
    State(app): State<Arc<App>>,
    names: PathOf<(String, String)>,
) -> Result<Response, Problem> {
    Ok(readiness(&app, of_version(&app, names)?.name()))
}

fn readiness(app: &App, name: &str) -> Response {
    let status = if app.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({ "name": name, "ready": app.is_ready() }))).into_response()
}

/// The model of which that version answers.
fn of_version(app: &App, names: PathOf<(String, String)>) -> Result<Arc<Model>, Problem> {
    let (name, version) = path(names)?;
    let model = app.model(&name)?;
    let current = model.current().version.to_string();
    match version == current {
        true => Ok(model),
        false => Err(Problem::missing(format!("model '{name}' has no version '{version}': version {current} answers"))),
    }
}

/// `POST /v2/models/{model}/infer`.
pub(crate) async fn infer(
    State(app): State<Arc<App>>,
    model: PathOf<String>,
    incoming: Incoming,
) -> Result<Response, Problem> {
    answer(&app, &app.model(&path(model)?)?, incoming).await
}

/// `POST /v2/models/{model}/versions/{version}/infer`.
pub(crate) async fn infer_of_version(
    State(app): State<Arc<App>>,
    names: PathOf<(String, String)>,
    incoming: Incoming,
) -> Result<Response, Problem> {
    answer(&app, &of_version(&app, names)?, incoming).await
}

async fn answer(app: &App, model: &Arc<Model>, incoming: Incoming) -> Result<Response, Problem> {
    let json_length = tensors::json_length(&incoming.headers)?;
    let Received { body, mut permit, arrived } = app.receive(model, Purpose::Pictures, incoming).await?;
    let sessions = model.current();
    let input = sessions.description.input();
    let classes = sessions.description.classes().len();
    let limits = Limits { input, classes, pictures: app.admission.most_pictures() };
    let Inference { id, pictures, outputs, timeout } =
        app.on_a_core(move || tensors::read(&body, json_length, limits)).await?;
    app.admit(&mut permit, Purpose::Pictures, pictures.len())?;
    let latest = Latest::new(arrived, app.config.max_wait, timeout.map(Duration::from_micros));
    let asking = Asking::new(app, Arc::clone(&sessions), Purpose::Pictures, latest);
    let rows = join_all(pictures.into_iter().map(|picture| asking.compute(picture))).await;
    let rows =
        rows.into_iter().map(|row| row.map(|computed| computed.output)).collect::<Result<Vec<Vec<f32>>, Problem>>()?;
    let named = (model.name(), sessions.version);
    let (json, binary) = tensors::write(named, id.as_deref(), &outputs, |output| of_output(output, &rows, &sessions));
    if binary.is_empty() {
        let response = ([(header::CONTENT_TYPE, "application/json")], json).into_response();
        return Ok(held(response, permit).await);
    }
    let length = json.len().to_string();
    let headers = [(header::CONTENT_TYPE.as_str(), "application/octet-stream"), (HEADER_LENGTH, length.as_str())];
    Ok(held((headers, [json, binary].concat()).into_response(), permit).await)
}

/// What an output holds for the pictures.
fn of_output(wanted: &Wanted, rows: &[Vec<f32>], sessions: &Sessions) -> Output {
    let values = |row: &Vec<f32>| match wanted.is_probabilities {
        true => softmax(row).into_iter().map(|probability| probability as f32).collect(),
        false => row.clone(),
    };
    if wanted.classes == 0 {
        let classes = rows.first().map_or(0, Vec::len);
        return Output::Numbers { shape: [rows.len(), classes], values: rows.iter().flat_map(values).collect() };
    }
    let best = |row: &Vec<f32>| {
        let values = values(row);
        let guesses = guesses(&sessions.description, row, wanted.classes);
        guesses
            .into_iter()
            .map(|guess| format!("{}:{}:{}", values[guess.class], guess.class, guess.label))
            .collect::<Vec<_>>()
    };
    let texts: Vec<String> = rows.iter().flat_map(best).collect();
    Output::Texts { shape: [rows.len(), texts.len() / rows.len().max(1)], texts }
}

/// `POST /v2/repository/index`.
pub(crate) async fn index(State(app): State<Arc<App>>) -> Response {
    let entry = |model: Arc<Model>| json!({ "name": model.name(), "version": model.current().version.to_string(), "state": "READY", "reason": "" });
    Json(app.models().into_iter().map(entry).collect::<Vec<_>>()).into_response()
}

/// `POST /v2/repository/models/{model}/load`: loads the model's files again. The version that answers goes on until the new one is
/// planned and tried, and after a failure. Triton's parameters (`config`, `file:…`) would say what to load instead: there are none here.
pub(crate) async fn load(
    State(app): State<Arc<App>>,
    model: PathOf<String>,
    incoming: Incoming,
) -> Result<Response, Problem> {
    let model = app.model(&path(model)?)?;
    tensors::without_parameters(&app.receive_small(incoming).await?)?;
    let version = app.reload(&model).await?;
    Ok(Json(json!({ "name": model.name(), "version": version.to_string() })).into_response())
}
