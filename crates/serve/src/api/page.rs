//! The page that people use in a browser, and the description of the interface: files within the program.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use serde_json::Value;

use super::problem::Problem;
use super::{PathOf, path};
use crate::app::App;

/// What the page may do: nothing but to ask this server.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; \
                      media-src 'self' blob:; frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const INDEX: &[u8] = include_bytes!("../../page/index.html");
const OPENAPI: &str = include_str!("../../openapi.json");

/// The page's files by name.
macro_rules! assets {
    ($($name:literal)*) => { [$(($name, include_bytes!(concat!("../../page/", $name)).as_slice())),*] };
}
const ASSETS: &[(&str, &[u8])] = &assets![
    "api.js" "app.js" "arithmetic.js" "camera.js" "charts.js" "colours.js" "dom.js" "draw.js" "explain.js" "graph.js" "grid.js" "i18n.js" "icon.svg" "job.js" "keys.js" "layers.js" "lecture.js" "maps.js" "network.js" "numbers.js" "picker.js" "picture.js" "results.js" "run.js" "state.js" "style.css" "try.js" "unit.js"
];

/// The names of the page's files, sorted.
#[cfg(test)]
pub(crate) fn names() -> Vec<&'static str> {
    ASSETS.iter().map(|(name, _)| *name).collect()
}

/// `GET /`.
pub(crate) async fn index() -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, INDEX).into_response()
}

/// `GET /assets/{file}`.
pub(crate) async fn asset(file: PathOf<String>) -> Result<Response, Problem> {
    let name = path(file)?;
    let found = ASSETS.iter().find(|(own, _)| *own == name);
    let (own, content) =
        found.ok_or_else(|| Problem::missing(format!("the page has no file '{}'", name.escape_debug())))?;
    let kind = match own.rsplit('.').next() {
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "text/javascript; charset=utf-8",
    };
    let headers = [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache")];
    Ok((headers, *content).into_response())
}

/// `GET /openapi.json`.
pub(crate) async fn openapi(State(app): State<Arc<App>>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], app.openapi.clone()).into_response()
}

/// The description of the interface, in which paths name the models and runs that there are.
pub(crate) fn described(models: &[&str], runs: &[&str]) -> String {
    let Ok(mut document) = serde_json::from_str::<Value>(OPENAPI) else { return OPENAPI.to_owned() };
    let operations = document["paths"].as_object_mut().into_iter().flat_map(|paths| paths.values_mut());
    for operation in operations.flat_map(|path| path.as_object_mut()).flat_map(|path| path.values_mut()) {
        let parameters = operation.get_mut("parameters").and_then(Value::as_array_mut);
        for parameter in parameters.into_iter().flatten() {
            let known = match parameter["name"].as_str() {
                Some("model") => models,
                Some("run") => runs,
                Some(_) | None => continue,
            };
            if !known.is_empty() {
                parameter["schema"]["enum"] = known.into();
            }
        }
    }
    document.to_string()
}
