//! What models there are, and what they are: for people and for the page. And the lecture.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use convnet::explain::Method;
use convnet::lecture::{self, Block, Lang};
use convnet::net::{Depth, LayerRow, Net, rewrite};
use serde_json::{Value, json};

use super::problem::Problem;
use super::query::Parameters;
use super::{PathOf, path};
use crate::app::App;
use crate::model::Model;

/// `GET /v1/models`.
pub(crate) async fn models(State(app): State<Arc<App>>) -> Response {
    let models: Vec<Value> = app.models().iter().map(|model| short(model)).collect();
    Json(json!({ "models": models })).into_response()
}

fn short(model: &Model) -> Value {
    let sessions = model.current();
    let description = &sessions.description;
    json!({
        "name": model.name(), "net": description.net().name(), "input": description.input(),
        "classes": description.classes().len(), "version": sessions.version, "ready": true,
    })
}

/// `GET /v1/models/{model}`.
pub(crate) async fn model(State(app): State<Arc<App>>, model: PathOf<String>) -> Result<Response, Problem> {
    let model = app.model(&path(model)?)?;
    let sessions = model.current();
    let description = &sessions.description;
    let net = as_it_infers(description.net())?;
    let table = net.table(1);
    let input = json!({
        "name": "input", "op": "input", "settings": "", "inputs": [], "shape": table.input, "parameters": 0,
        "multiply_adds": 0, "receptive_field": { "size": [1, 1], "stride": [1, 1] },
    });
    let layers: Vec<Value> = [input].into_iter().chain(table.layers.iter().map(layer)).collect();
    let preprocessing = description.preprocessing();
    let methods = Method::ALL.iter().map(|method| {
        json!({
            "name": method.name(), "takes_layer": method.takes_layer(), "is_signed": method.is_signed(),
            "caution": method.caution(),
        })
    });
    Ok(Json(json!({
        "name": model.name(), "net": net.name(), "version": sessions.version, "input": description.input(),
        "classes": description.classes(), "parameters": table.total.params, "multiply_adds": table.total.macs,
        "preprocessing": {
            "resize": preprocessing.resize, "interpolation": preprocessing.interpolation,
            "resize_always": preprocessing.resize_always, "mean": preprocessing.normalization.mean,
            "std": preprocessing.normalization.std, "text": preprocessing.describe(description.input()),
        },
        "explain": app.config.explain, "methods": methods.collect::<Vec<_>>(), "layers": layers,
    }))
    .into_response())
}

fn as_it_infers(net: &Net) -> Result<Net, Problem> {
    Ok(rewrite::without_auxiliaries(net)?)
}

fn layer(row: &LayerRow) -> Value {
    json!({
        "name": row.name, "op": row.op, "settings": row.settings, "inputs": row.inputs, "shape": row.output,
        "parameters": row.weights + row.biases, "multiply_adds": row.macs,
        "receptive_field": { "size": row.receptive_field, "stride": row.effective_stride },
    })
}

/// `GET /v1/models/{model}/graph.svg`.
pub(crate) async fn graph(State(app): State<Arc<App>>, model: PathOf<String>) -> Result<Response, Problem> {
    let sessions = app.model(&path(model)?)?.current();
    let drawing = as_it_infers(sessions.description.net())?.svg(Depth::Auto)?;
    Ok(([(header::CONTENT_TYPE, "image/svg+xml")], drawing).into_response())
}

/// `GET /v1/lecture`.
pub(crate) async fn lecture(State(app): State<Arc<App>>, mut parameters: Parameters) -> Result<Response, Problem> {
    let lang = match parameters.text("lang")?.as_deref() {
        None | Some("en") => Lang::En,
        Some("ko") => Lang::Ko,
        Some(other) => {
            return Err(Problem::request(format!("lang: expected en or ko, got '{}'", other.escape_debug())));
        }
    };
    parameters.end()?;
    let rows = move || {
        let row = |row: &lecture::Row| {
            let blocks: Vec<Value> = row.explain()?.iter().map(|part| block(part, lang)).collect();
            Ok(json!({ "id": row.id(), "topic": row.topic, "title": row.title.get(lang), "blocks": blocks }))
        };
        lecture::rows().iter().map(row).collect::<Result<Vec<Value>, Problem>>()
    };
    Ok(Json(json!({ "rows": app.on_a_core(rows).await? })).into_response())
}

fn block(block: &Block, lang: Lang) -> Value {
    match block {
        Block::Words(text) => json!({ "kind": "words", "text": text.get(lang) }),
        Block::Exhibit(text) => json!({ "kind": "exhibit", "text": text.get(lang) }),
        Block::Slip(text) => json!({ "kind": "slip", "text": text.get(lang) }),
        Block::Try(command, text) => json!({ "kind": "try", "command": command, "text": text.get(lang) }),
        Block::Figure(figure) => json!({
            "kind": "figure", "name": figure.name.get(lang), "working": figure.working,
            "computed": figure.computed.to_string(), "unit": figure.unit.get(lang),
            "notes": figure.notes.as_ref().map(ToString::to_string), "agrees": figure.agrees(),
            "remark": figure.remark.as_ref().map(|remark| remark.get(lang)),
        }),
    }
}
