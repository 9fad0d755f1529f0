//! Why a network says what it says, and how its numbers come about: `explain`, `preprocess`, `features` and `unit` of a model.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use convnet::Tensor;
use convnet::classifier::Description;
use convnet::explain::{Arithmetic, Explainer, Explanation, Method, Question};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::pictures;
use super::problem::Problem;
use super::{PathOf, QueryOf, path, query};
use crate::app::{App, Incoming, Received};
use crate::model::Model;
use crate::sessions::Sessions;

/// Most numbers of a layer that are sent.
const MOST_NUMBERS: usize = 1 << 24;

/// A request about one picture.
struct About {
    app: Arc<App>,
    model: Arc<Model>,
    sessions: Arc<Sessions>,
    received: Received,
    image: Vec<f32>,
}

impl About {
    /// Receives and prepares the picture.
    async fn picture(app: Arc<App>, model: PathOf<String>, incoming: Incoming) -> Result<About, Problem> {
        let model = Arc::clone(app.model(&path(model)?)?);
        let boundary = pictures::boundary(&incoming.headers)?;
        let mut received = app.receive(&model, incoming).await?;
        let mut pictures = pictures::of(received.body.clone(), boundary, app.admission.most_pictures()).await?;
        let (Some(picture), true) = (pictures.pop(), pictures.is_empty()) else {
            return Err(Problem::request("expected one picture"));
        };
        app.admit(&mut received.permit, 1)?;
        let sessions = model.current();
        let image = app.prepare(&sessions, picture.name, picture.bytes, false).await?.image;
        Ok(About { app, model, sessions, received, image })
    }

    /// The same for what needs the explainer, where the server has one.
    async fn to_explain(app: Arc<App>, model: PathOf<String>, incoming: Incoming) -> Result<About, Problem> {
        match app.config.explain {
            true => About::picture(app, model, incoming).await,
            false => Err(Problem::missing("explanations are switched off on this server (--no-explain)")),
        }
    }

    /// Asks the explainer about it; computing may begin late, for people look at the answer.
    async fn ask<T: Send + 'static>(
        self,
        ask: impl FnOnce(&mut Explainer, &[f32]) -> convnet::Result<T> + Send + 'static,
    ) -> Result<T, Problem> {
        let About { app, model, sessions, received, image } = self;
        let latest = received.arrived + app.config.max_wait.max(Duration::from_secs(10));
        app.explained(&model, &sessions, latest, move |explainer| ask(explainer, &image)).await
    }
}

/// What `explain` may be asked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AskedToExplain {
    method: Option<String>,
    /// By name or number.
    class: Option<String>,
    layer: Option<String>,
}

#[derive(Serialize)]
struct Explained {
    method: &'static str,
    class: usize,
    label: String,
    probability: f64,
    score: f32,
    layer: Option<String>,
    size: [usize; 2],
    range: [f32; 2],
    values: Vec<f32>,
    is_signed: bool,
    caution: Option<&'static str>,
    completeness_error: Option<f64>,
}

/// `POST /v1/models/{model}/explain`.
pub(crate) async fn explain(
    State(app): State<Arc<App>>,
    model: PathOf<String>,
    asked: QueryOf<AskedToExplain>,
    incoming: Incoming,
) -> Result<Response, Problem> {
    let AskedToExplain { method, class, layer } = query(asked)?;
    let method: Method = method.as_deref().unwrap_or("grad-cam").parse()?;
    let about = About::to_explain(app, model, incoming).await?;
    let description = &about.sessions.description;
    let class = class.map(|class| convnet::explain::class(description, &class)).transpose()?;
    let sessions = Arc::clone(&about.sessions);
    let question = Question { method, class, layer };
    let found = about.ask(move |explainer, image| explainer.explain(image, &question)).await?;
    Ok(Json(explained(found, &sessions.description)).into_response())
}

fn explained(found: Explanation, description: &Description) -> Explained {
    Explained {
        method: found.method.name(),
        class: found.class,
        label: description.classes()[found.class].clone(),
        probability: found.probability,
        score: found.score,
        layer: found.layer,
        size: found.map.size(),
        range: found.map.range(),
        values: found.map.values().to_vec(),
        is_signed: found.method.is_signed(),
        caution: found.method.caution(),
        completeness_error: found.completeness.map(|completeness| completeness.error()),
    }
}

/// `POST /v1/models/{model}/preprocess`: the picture as the network sees it, before it is normalised.
pub(crate) async fn preprocess(
    State(app): State<Arc<App>>,
    model: PathOf<String>,
    incoming: Incoming,
) -> Result<Response, Problem> {
    let about = About::picture(app, model, incoming).await?;
    let description = &about.sessions.description;
    let [_, height, width] = description.input();
    let pixels = convnet::explain::pixels(description, &about.image)?;
    Ok(Json(json!({ "size": [height, width], "rgb": BASE64_STANDARD.encode(pixels) })).into_response())
}

/// A layer.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AskedForLayer {
    layer: String,
}

/// `POST /v1/models/{model}/features`: what a layer makes of the picture.
pub(crate) async fn features(
    State(app): State<Arc<App>>,
    model: PathOf<String>,
    asked: QueryOf<AskedForLayer>,
    incoming: Incoming,
) -> Result<Response, Problem> {
    let layer = query(asked)?.layer;
    let about = About::to_explain(app, model, incoming).await?;
    let (layer, values) = about.ask(move |explainer, image| explainer.values(image, &layer)).await?;
    if values.data().len() > MOST_NUMBERS {
        let message = format!("'{layer}' has {} numbers: expected at most {MOST_NUMBERS}", values.data().len());
        return Err(Problem::request(message));
    }
    let document = match *values.shape() {
        [_, height, width] => maps(&layer, &values, height * width),
        _ => json!({ "layer": layer, "shape": values.shape(), "values": values.data() }),
    };
    Ok(Json(document).into_response())
}

/// Maps as bytes, each scaled to its own range.
fn maps(layer: &str, values: &Tensor, area: usize) -> serde_json::Value {
    let planes = values.data().chunks_exact(area.max(1));
    let range = |plane: &[f32]| {
        plane.iter().fold([f32::INFINITY, f32::NEG_INFINITY], |[low, high], &x| [low.min(x), high.max(x)])
    };
    let ranges: Vec<[f32; 2]> = planes.clone().map(range).collect();
    let bytes = planes.zip(&ranges).flat_map(|(plane, &[low, high])| {
        let scale = if high > low { 255.0 / (high - low) } else { 0.0 };
        plane.iter().map(move |x| ((x - low) * scale).round() as u8)
    });
    let maps = BASE64_STANDARD.encode(bytes.collect::<Vec<u8>>());
    json!({ "layer": layer, "shape": values.shape(), "ranges": ranges, "maps": maps })
}

/// A unit of a layer.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AskedForUnit {
    layer: String,
    channel: usize,
    row: Option<usize>,
    column: Option<usize>,
}

/// `POST /v1/models/{model}/unit`: the arithmetic of one number of a layer.
pub(crate) async fn unit(
    State(app): State<Arc<App>>,
    model: PathOf<String>,
    asked: QueryOf<AskedForUnit>,
    incoming: Incoming,
) -> Result<Response, Problem> {
    let AskedForUnit { layer, channel, row, column } = query(asked)?;
    let place = match (row, column) {
        (Some(row), Some(column)) => Some([row, column]),
        (None, None) => None,
        (Some(_), None) | (None, Some(_)) => return Err(Problem::request("expected row and column, or neither")),
    };
    let about = About::to_explain(app, model, incoming).await?;
    let found = about.ask(move |explainer, image| explainer.arithmetic(image, &layer, channel, place)).await?;
    Ok(Json(arithmetic(&found)).into_response())
}

fn arithmetic(found: &Arithmetic) -> serde_json::Value {
    let range = |range: &std::ops::Range<usize>| [range.start, range.end];
    let groups = found.groups.iter().map(|group| {
        json!({
            "title": group.title, "rows": group.rows, "columns": group.columns, "values": group.values,
            "weights": group.weights, "result": group.result,
        })
    });
    let constants = found.constants.iter().map(|(name, value)| json!({ "name": name, "value": value }));
    json!({
        "layer": found.layer, "op": found.op, "unit": found.unit, "value": found.value,
        "field": { "rows": range(&found.field.rows), "columns": range(&found.field.columns) },
        "formula": found.formula, "inputs": found.inputs,
        "groups": groups.collect::<Vec<_>>(), "constants": constants.collect::<Vec<_>>(), "result": found.result,
    })
}
