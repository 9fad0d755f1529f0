//! The routes, and what is done to every request: an identifier, the token, the log and the metrics.

pub(crate) mod explain;
pub(crate) mod health;
pub(crate) mod page;
pub(crate) mod pictures;
pub(crate) mod predict;
pub(crate) mod problem;
pub(crate) mod query;
pub(crate) mod runs;
pub(crate) mod v1;
pub(crate) mod v2;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::extract::rejection::PathRejection;
use axum::extract::{DefaultBodyLimit, MatchedPath, Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::json;
use subtle::ConstantTimeEq;

use self::problem::Problem;
use crate::app::App;

/// A request's identifier, from the client or ours.
const REQUEST_ID: &str = "x-request-id";
/// W3C Trace Context.
const TRACEPARENT: &str = "traceparent";
/// Longest identifier that is taken over.
const LONGEST_ID: usize = 128;

/// What a route needs of its path.
pub(crate) type PathOf<T> = Result<Path<T>, PathRejection>;

/// All routes.
pub(crate) fn router(app: &Arc<App>) -> Router {
    let routes = Router::new()
        .route("/", get(page::index))
        .route("/assets/{file}", get(page::asset))
        .route("/openapi.json", get(page::openapi))
        .route("/metrics", get(health::metrics))
        .route("/v1/models", get(v1::models))
        .route("/v1/models/{model}", get(v1::model))
        .route("/v1/models/{model}/graph.svg", get(v1::graph))
        .route("/v1/models/{model}/predict", post(predict::predict))
        .route("/v1/models/{model}/explain", post(explain::explain))
        .route("/v1/models/{model}/preprocess", post(explain::preprocess))
        .route("/v1/models/{model}/features", post(explain::features))
        .route("/v1/models/{model}/unit", post(explain::unit))
        .route("/v1/runs", get(runs::list))
        .route("/v1/runs/{run}", get(runs::run))
        .route("/v1/runs/{run}/events", get(runs::events))
        .route("/v1/runs/{run}/report", get(runs::report))
        .route("/v1/lecture", get(v1::lecture))
        .route("/v2", get(v2::server))
        .route("/v2/health/live", get(health::live))
        .route("/v2/health/ready", get(health::ready))
        .route("/v2/models/{model}", get(v2::metadata))
        .route("/v2/models/{model}/ready", get(v2::ready))
        .route("/v2/models/{model}/infer", post(v2::infer))
        .route("/v2/models/{model}/versions/{version}", get(v2::metadata_of_version))
        .route("/v2/models/{model}/versions/{version}/ready", get(v2::ready_of_version))
        .route("/v2/models/{model}/versions/{version}/infer", post(v2::infer_of_version))
        .route("/v2/repository/index", post(v2::index))
        .route("/v2/repository/models/{model}/load", post(v2::load))
        .fallback(async || Problem::missing("no such path: /openapi.json lists them"))
        .method_not_allowed_fallback(async |method: Method| {
            Problem::new(
                StatusCode::METHOD_NOT_ALLOWED,
                format!("{method} is not allowed here: /openapi.json says what is"),
            )
        });
    routes
        // Bodies are bounded as they are received.
        .layer(DefaultBodyLimit::disable())
        .layer(from_fn_with_state(Arc::clone(app), around))
        .with_state(Arc::clone(app))
}

/// What a path names, or why it cannot be read.
pub(crate) fn path<T>(path: PathOf<T>) -> Result<T, Problem> {
    path.map(|Path(found)| found).map_err(|rejection| Problem::request(rejection.body_text()))
}

/// Around every request.
async fn around(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let start = Instant::now();
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_owned();
    let (method, uri) = (request.method().clone(), request.uri().path().to_owned());
    let id = request_id(request.headers());
    let trace = trace_id(request.headers()).map(str::to_owned);
    let mut response = match allowed(&app, &route, request.headers(), request.method()) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    };
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if !app.is_ready() {
        // Clients are to look for another server.
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    let (status, taken) = (response.status().as_u16(), start.elapsed());
    app.metrics.request(&route, known(&method), status, taken);
    app.logger.request(json!({
        "request_id": id, "trace_id": trace, "method": method.as_str(), "path": uri, "status": status,
        "seconds": taken.as_secs_f64(),
    }));
    response
}

/// A method as a metric's label: strangers' own ones are one.
fn known(method: &Method) -> &str {
    let known = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS, Method::PATCH];
    if known.contains(method) { method.as_str() } else { "other" }
}

/// The client's identifier where it is one, or a new one.
fn request_id(headers: &HeaderMap) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let theirs = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok());
    let is_sound = |id: &&str| (1..=LONGEST_ID).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic());
    match theirs.filter(is_sound) {
        Some(id) => id.to_owned(),
        None => {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            format!("{:x}-{:x}", since.as_nanos() as u64, COUNT.fetch_add(1, Ordering::Relaxed))
        }
    }
}

/// The trace of `00-<trace>-<parent>-<flags>`.
fn trace_id(headers: &HeaderMap) -> Option<&str> {
    let text = headers.get(TRACEPARENT)?.to_str().ok()?;
    let mut parts = text.split('-');
    let (_version, trace) = (parts.next()?, parts.next()?);
    let is_sound = trace.len() == 32 && trace.bytes().all(|byte| byte.is_ascii_hexdigit());
    (is_sound && parts.count() == 2).then_some(trace)
}

/// Whether a request may be answered: with the token where there is one, and, where there is none, not on behalf of a page of
/// another origin.
fn allowed(app: &App, route: &str, headers: &HeaderMap, method: &Method) -> Result<(), Problem> {
    let is_open = ["/", "/assets/{file}", "/v2/health/live", "/v2/health/ready"].contains(&route);
    if let Some(token) = app.config.token.as_deref().filter(|_| !is_open) {
        let theirs = headers.get(header::AUTHORIZATION).and_then(bearer);
        let is_right = theirs.is_some_and(|theirs| bool::from(theirs.as_bytes().ct_eq(token.as_bytes())));
        if !is_right {
            let message = "expected the server's token: Authorization: Bearer TOKEN";
            return Err(Problem::new(StatusCode::UNAUTHORIZED, message));
        }
    }
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let is_allowed = |host: &str| app.config.allow_hosts.iter().any(|name| name.eq_ignore_ascii_case(name_of(host)));
    if app.config.token.is_none() && app.is_local && !is_this_machine(host) && !is_allowed(host) {
        let message = format!(
            "Host: expected this machine, as 127.0.0.1 or localhost, or a name that --allow-host gives, got '{}'",
            host.escape_debug()
        );
        return Err(Problem::new(StatusCode::FORBIDDEN, message));
    }
    let origin = headers.get(header::ORIGIN).filter(|_| *method != Method::GET);
    let from =
        origin.map(|origin| origin.to_str().ok().and_then(|origin| origin.split_once("://")).unwrap_or_default().1);
    match from {
        Some(from) if from != host && !is_allowed(from) => {
            Err(Problem::new(StatusCode::FORBIDDEN, "requests of pages of another origin are not answered"))
        }
        Some(_) | None => Ok(()),
    }
}

/// The token of `Bearer TOKEN`.
fn bearer(value: &HeaderValue) -> Option<&str> {
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim_start())
}

/// A host's name or address without its port.
fn name_of(host: &str) -> &str {
    match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    }
}

/// Whether a host names this machine, whatever the port.
fn is_this_machine(host: &str) -> bool {
    let name = name_of(host);
    name.eq_ignore_ascii_case("localhost") || name.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_this_machine() {
        for host in ["localhost", "LocalHost:8080", "127.0.0.1", "127.0.0.1:1", "[::1]:80", "[::1]"] {
            assert!(is_this_machine(host), "{host}");
        }
        for host in ["", "example.org", "localhost.example.org", "10.0.0.1:80", "[::2]:80", "127.0.0.1.example.org"] {
            assert!(!is_this_machine(host), "{host}");
        }
    }

    #[test]
    fn identifiers_and_traces_are_checked() {
        let headers =
            |name: &'static str, value: &str| HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())]);
        assert_eq!(request_id(&headers(REQUEST_ID, "abc-1")), "abc-1");
        assert_ne!(request_id(&headers(REQUEST_ID, "a b")), "a b");
        assert_ne!(request_id(&headers(REQUEST_ID, &"a".repeat(200))), "a".repeat(200));
        let trace = "0af7651916cd43dd8448eb211c80319c";
        assert_eq!(trace_id(&headers(TRACEPARENT, &format!("00-{trace}-b7ad6b7169203331-01"))), Some(trace));
        for bad in ["", "00", "00-xyz-1-01", &format!("00-{trace}"), &format!("00-{trace}-1-2-3")] {
            assert_eq!(trace_id(&headers(TRACEPARENT, bad)), None, "{bad}");
        }
    }
}
