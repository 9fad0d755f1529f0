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
use serde::Serialize;
use serde_json::{Value, json};

use super::pictures;
use super::problem::Problem;
use super::query::Parameters;
use super::{PathOf, path};
use crate::admission::Permit;
use crate::app::{App, Incoming, Purpose, Received, broken};
use crate::asking::{Asking, Latest};
use crate::held::held;
use crate::model::Model;
use crate::sessions::Sessions;

/// Most numbers of a layer that are sent.
const MOST_NUMBERS: usize = 1 << 24;
/// Most numbers of a layer's maps that are sent as they are, rather than as a byte each.
const MOST_WHOLE: usize = 1 << 18;
/// What the features of layers and the arithmetic of units are counted as.
const FEATURES: &str = "features";
const UNIT: &str = "unit";

/// A request about one picture.
struct About {
    app: Arc<App>,
    model: Arc<Model>,
    sessions: Arc<Sessions>,
    purpose: Purpose,
    received: Received,
    image: Vec<f32>,
    /// Height and width of its file.
    size: Option<[usize; 2]>,
}

impl About {
    /// Receives and prepares the picture.
    async fn picture(app: Arc<App>, model: Arc<Model>, purpose: Purpose, incoming: Incoming) -> Result<About, Problem> {
        let boundary = pictures::boundary(&incoming.headers)?;
        let mut received = app.receive(&model, purpose, incoming).await?;
        let mut pictures = pictures::of(received.body.clone(), boundary, app.admission.most_pictures()).await?;
        let (Some(picture), true) = (pictures.pop(), pictures.is_empty()) else {
            return Err(Problem::request("expected one picture"));
        };
        app.admit(&mut received.permit, purpose, 1)?;
        let sessions = model.current();
        let size = convnet::data::picture::shape(&picture.bytes).ok().map(|[_, height, width]| [height, width]);
        let image = app.prepare(&sessions, picture.name, picture.bytes, false).await?.image;
        Ok(About { app, model, sessions, purpose, received, image, size })
    }

    /// The same for what needs the explainer, where the server has one.
    async fn to_explain(
        app: Arc<App>,
        model: Arc<Model>,
        kind: &'static str,
        incoming: Incoming,
    ) -> Result<About, Problem> {
        match app.config.explain {
            true => About::picture(app, model, Purpose::Task(kind), incoming).await,
            false => Err(Problem::missing("explanations are switched off on this server (--no-explain)")),
        }
    }

    /// Asks the explainer about it. Where the model's files have changed and the server follows them, they are loaded again first.
    async fn ask<T: Send + 'static>(
        mut self,
        ask: impl FnOnce(&mut Explainer, &[f32], &mut dyn FnMut() -> bool) -> convnet::Result<T> + Clone + Send + 'static,
    ) -> Result<Found<T>, Problem> {
        let Purpose::Task(kind) = self.purpose else { return Err(broken()) };
        let within = self.app.longest_wait(self.purpose);
        let found = match self.asked(kind, within, ask.clone()).await {
            Err(problem) if problem.is_changed() && self.model.source.stamp.is_some() => {
                self.app.reload(&self.model).await?;
                self.sessions = self.model.current();
                self.asked(kind, within, ask).await
            }
            found => found,
        };
        Ok(Found { found: found?, sessions: self.sessions, permit: self.received.permit })
    }

    async fn asked<T: Send + 'static>(
        &self,
        kind: &'static str,
        within: Duration,
        ask: impl FnOnce(&mut Explainer, &[f32], &mut dyn FnMut() -> bool) -> convnet::Result<T> + Send + 'static,
    ) -> Result<T, Problem> {
        let (latest, image) = (Latest::new(self.received.arrived, within, None), self.image.clone());
        let asking = Asking::new(&self.app, Arc::clone(&self.sessions), self.purpose, latest);
        asking.explained(&self.model, kind, move |explainer, goes_on| ask(explainer, &image, goes_on)).await
    }
}

/// What the explainer has found, in which version of the model, and the request's room.
struct Found<T> {
    found: T,
    sessions: Arc<Sessions>,
    permit: Permit,
}

impl<T> Found<T> {
    /// The answer, which names the version.
    async fn answer(
        self,
        document: impl FnOnce(T, &Description) -> Result<Value, Problem>,
    ) -> Result<Response, Problem> {
        let mut document = document(self.found, &self.sessions.description)?;
        document["version"] = self.sessions.version.into();
        Ok(held(Json(document).into_response(), self.permit).await)
    }
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
    mut parameters: Parameters,
    incoming: Incoming,
) -> Result<Response, Problem> {
    let model = app.model(&path(model)?)?;
    let method: Method = parameters.text("method")?.as_deref().unwrap_or("grad-cam").parse()?;
    let class = class(&mut parameters, &model.current().description)?;
    let layer = parameters.text("layer")?;
    parameters.end()?;
    let about = About::to_explain(app, model, method.name(), incoming).await?;
    let question = Question { method, class, layer };
    let ask = move |explainer: &mut Explainer, image: &[f32], goes_on: &mut dyn FnMut() -> bool| {
        explainer.explain_while(image, &question, goes_on)
    };
    about.ask(ask).await?.answer(|found, description| Ok(json!(explained(found, description)))).await
}

/// The class that a request is about: by number, or by name (`#8` is a number, too). The predicted one where there is none.
fn class(parameters: &mut Parameters, description: &Description) -> Result<Option<usize>, Problem> {
    let (name, number) = (parameters.text("class")?, parameters.number("class_index", 0)?);
    match (name, number) {
        (None, None) => Ok(None),
        (Some(name), None) => Ok(Some(convnet::explain::class(description, &name)?)),
        (None, Some(number)) => Ok(Some(convnet::explain::class(description, &format!("#{number}"))?)),
        (Some(_), Some(_)) => Err(Problem::request("expected class or class_index, got both")),
    }
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

/// `POST /v1/models/{model}/preprocess`: the picture as the network sees it, before it is normalised, and what was done to it.
pub(crate) async fn preprocess(
    State(app): State<Arc<App>>,
    model: PathOf<String>,
    parameters: Parameters,
    incoming: Incoming,
) -> Result<Response, Problem> {
    parameters.end()?;
    let model = app.model(&path(model)?)?;
    let about = About::picture(app, model, Purpose::Pictures, incoming).await?;
    let description = &about.sessions.description;
    let [_, height, width] = description.input();
    let pixels = convnet::explain::pixels(description, &about.image)?;
    let preprocessing = description.preprocessing();
    // A picture of the network's own size is taken as it is, unless all are resized.
    let is_resized = preprocessing.resize_always || about.size != Some([height, width]);
    let resize = preprocessing.resize.filter(|_| is_resized);
    let document = json!({
        "size": [height, width], "rgb": BASE64_STANDARD.encode(pixels), "source": about.size, "resize": resize,
        "interpolation": resize.map(|_| preprocessing.interpolation), "version": about.sessions.version,
    });
    Ok(held(Json(document).into_response(), about.received.permit).await)
}

/// `POST /v1/models/{model}/features`: what a layer makes of the picture.
pub(crate) async fn features(
    State(app): State<Arc<App>>,
    model: PathOf<String>,
    mut parameters: Parameters,
    incoming: Incoming,
) -> Result<Response, Problem> {
    let model = app.model(&path(model)?)?;
    let layer = layer(&mut parameters)?;
    parameters.end()?;
    let about = About::to_explain(app, model, FEATURES, incoming).await?;
    let ask =
        move |explainer: &mut Explainer, image: &[f32], _: &mut dyn FnMut() -> bool| explainer.values(image, &layer);
    about.ask(ask).await?.answer(|(layer, values), _| all_of(&layer, &values)).await
}

/// The layer that a request is about.
fn layer(parameters: &mut Parameters) -> Result<String, Problem> {
    parameters.text("layer")?.ok_or_else(|| Problem::request("layer: expected the name of one"))
}

fn all_of(layer: &str, values: &Tensor) -> Result<Value, Problem> {
    if values.data().len() > MOST_NUMBERS {
        let message = format!("'{layer}' has {} numbers: expected at most {MOST_NUMBERS}", values.data().len());
        return Err(Problem::request(message));
    }
    Ok(match *values.shape() {
        [_, height, width] => maps(layer, values, height * width),
        _ => json!({ "layer": layer, "shape": values.shape(), "values": values.data() }),
    })
}

/// Maps as bytes, each scaled to its own range; where they are not large, their numbers, too (32-bit floats, little-endian).
fn maps(layer: &str, values: &Tensor, area: usize) -> Value {
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
    let mut document = json!({ "layer": layer, "shape": values.shape(), "ranges": ranges, "maps": maps });
    if values.data().len() <= MOST_WHOLE {
        let bytes: Vec<u8> = values.data().iter().flat_map(|number| number.to_le_bytes()).collect();
        document["numbers"] = BASE64_STANDARD.encode(bytes).into();
    }
    document
}

/// `POST /v1/models/{model}/unit`: the arithmetic of one number of a layer.
pub(crate) async fn unit(
    State(app): State<Arc<App>>,
    model: PathOf<String>,
    mut parameters: Parameters,
    incoming: Incoming,
) -> Result<Response, Problem> {
    let model = app.model(&path(model)?)?;
    let layer = layer(&mut parameters)?;
    let channel = parameters.number("channel", 0)?.ok_or_else(|| Problem::request("channel: expected its number"))?;
    let place = match (parameters.number("row", 0)?, parameters.number("column", 0)?) {
        (Some(row), Some(column)) => Some([row, column]),
        (None, None) => None,
        (Some(_), None) | (None, Some(_)) => return Err(Problem::request("expected row and column, or neither")),
    };
    parameters.end()?;
    let about = About::to_explain(app, model, UNIT, incoming).await?;
    let ask = move |explainer: &mut Explainer, image: &[f32], _: &mut dyn FnMut() -> bool| {
        explainer.arithmetic(image, &layer, channel, place)
    };
    about.ask(ask).await?.answer(|found, _| Ok(arithmetic(&found))).await
}

fn arithmetic(found: &Arithmetic) -> Value {
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
