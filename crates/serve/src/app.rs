//! What all requests share, and the way of a picture through it: admitted, received, prepared, computed.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};
use convnet::data::picture;
use convnet::exec::Engine;
use convnet::explain::Explainer;
use convnet::predictor::Input;
use futures_util::StreamExt;
use tokio::sync::{Semaphore, oneshot};

use crate::admission::{Admission, Permit};
use crate::api::problem::Problem;
use crate::config::Config;
use crate::connections::Entry;
use crate::log::{Level, Logger};
use crate::metrics::Metrics;
use crate::model::Model;
use crate::queue::{Computed, Failure, Job, Queue, Work};
use crate::runs::Runs;
use crate::sessions::Sessions;

/// What is read of a body that is not wanted, so that the client can read why: more than that closes the connection.
const DRAINED: usize = 1 << 20;
/// How long that may take.
const DRAIN_TIME: Duration = Duration::from_secs(1);
/// Room for a body that does not say how long it is.
const UNKNOWN: usize = 64 << 10;

/// A server's state.
pub(crate) struct App {
    pub(crate) config: Config,
    pub(crate) engine: Engine,
    /// The description of the interface, with the names of models and runs.
    pub(crate) openapi: String,
    pub(crate) models: BTreeMap<String, Arc<Model>>,
    pub(crate) runs: Runs,
    pub(crate) queue: Queue,
    pub(crate) admission: Arc<Admission>,
    /// Requests that are decoded at once.
    pub(crate) decoders: Semaphore,
    pub(crate) metrics: Metrics,
    pub(crate) logger: Logger,
    /// Whether it wants requests; not while it stops.
    pub(crate) ready: AtomicBool,
    /// Whether only this machine can reach it.
    pub(crate) is_local: bool,
}

/// A request with a body that has not been received yet.
pub(crate) struct Incoming {
    /// The connection that it comes by; none in a test of the routes alone.
    connection: Option<Arc<Entry>>,
    pub(crate) headers: HeaderMap,
    body: Body,
}

impl<S: Sync> FromRequest<S> for Incoming {
    type Rejection = Infallible;

    async fn from_request(request: Request, _: &S) -> Result<Incoming, Infallible> {
        let (parts, body) = request.into_parts();
        let connection = parts.extensions.get::<Arc<Entry>>().cloned();
        Ok(Incoming { connection, headers: parts.headers, body })
    }
}

/// A body that has been received, and its right to be under way.
pub(crate) struct Received {
    pub(crate) body: Bytes,
    pub(crate) permit: Permit,
    pub(crate) arrived: Instant,
}

/// When computing must have begun.
#[derive(Clone, Copy)]
pub(crate) struct Latest {
    time: Instant,
    /// Whether the request says so, rather than the server.
    is_own: bool,
}

/// A picture as the network takes it, and what is damaged in its file.
pub(crate) struct Prepared {
    pub(crate) image: Vec<f32>,
    pub(crate) warnings: Vec<String>,
}

impl App {
    /// The model of that name.
    pub(crate) fn model(&self, name: &str) -> Result<&Arc<Model>, Problem> {
        self.models.get(name).ok_or_else(|| {
            let known: Vec<&str> = self.models.keys().map(String::as_str).collect();
            let known = if known.is_empty() {
                "there is none".to_owned()
            } else {
                format!("expected one of {}", known.join(", "))
            };
            Problem::missing(format!("no model '{}': {known}", name.escape_debug()))
        })
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// How long a picture that comes now waits for the engine.
    fn backlog(&self) -> Duration {
        self.models.values().map(|model| model.backlog()).sum()
    }

    fn busy(&self, reason: &'static str, message: String) -> Problem {
        self.metrics.shed(reason);
        Problem::busy(message, self.backlog().as_secs_f64().ceil().max(1.0) as u64)
    }

    /// Receives the body of a request for a model, where there is room for it.
    pub(crate) async fn receive(
        &self,
        model: &Arc<Model>,
        Incoming { connection, headers, body }: Incoming,
    ) -> Result<Received, Problem> {
        let arrived = Instant::now();
        let length = self.announced(&headers)?;
        if let Err(problem) = self.admits(length) {
            // A client that waits to be told to go on has sent nothing.
            if !headers.contains_key(header::EXPECT) {
                drain(body).await;
            }
            return Err(problem);
        }
        let mut permit = Permit::new(&self.admission, model, connection);
        let received = tokio::time::timeout(self.config.body_timeout, self.read(body, length, &mut permit)).await;
        let body = received.map_err(|_| {
            let seconds = self.config.body_timeout.as_secs_f64();
            Problem::new(StatusCode::REQUEST_TIMEOUT, format!("the body did not arrive within {seconds} s"))
        })??;
        Ok(Received { body, permit, arrived })
    }

    /// The length of the body, where the headers say it.
    fn announced(&self, headers: &HeaderMap) -> Result<Option<usize>, Problem> {
        if headers.get(header::CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
            let message = "Content-Encoding: expected none, for bodies are not unpacked";
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
        }
        let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        match length {
            Some(length) if length > self.config.max_body => Err(self.too_large(&format!("{length} bytes"))),
            length => Ok(length),
        }
    }

    fn too_large(&self, found: &str) -> Problem {
        let message = format!("the body has {found}: expected at most {} (--max-body)", self.config.max_body);
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, message)
    }

    /// Whether a request can be taken on.
    fn admits(&self, length: Option<usize>) -> Result<(), Problem> {
        let (wait, most) = (self.backlog(), self.config.max_wait);
        if wait > most && self.admission.pictures() > 0 {
            let message = format!(
                "the engine is busy for {:.3} s: expected at most {:.3} s",
                wait.as_secs_f64(),
                most.as_secs_f64()
            );
            return Err(self.busy("wait", message));
        }
        if !self.admission.has_room(length.unwrap_or(UNKNOWN)) {
            return Err(self.no_room());
        }
        Ok(())
    }

    fn no_room(&self) -> Problem {
        let pictures = self.admission.pictures();
        let most = self.admission.most_pictures();
        self.busy("room", format!("no room for the request: {pictures} of {most} pictures are under way"))
    }

    async fn read(&self, body: Body, length: Option<usize>, permit: &mut Permit) -> Result<Bytes, Problem> {
        let mut parts = body.into_data_stream();
        let mut received = Vec::with_capacity(length.unwrap_or(0).min(UNKNOWN));
        while let Some(part) = parts.next().await {
            let part = part.map_err(|error| Problem::request(format!("the body broke off: {error}")))?;
            if received.len() + part.len() > self.config.max_body {
                return Err(self.too_large("more bytes"));
            }
            if !permit.add_bytes(part.len()) {
                return Err(self.no_room());
            }
            received.extend_from_slice(&part);
        }
        Ok(received.into())
    }

    /// Takes room for a request's pictures.
    pub(crate) fn admit(&self, permit: &mut Permit, pictures: usize) -> Result<(), Problem> {
        let most = self.admission.most_pictures();
        if pictures > most {
            let message = format!("the request has {pictures} pictures: expected at most {most} (--max-queue)");
            return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, message));
        }
        if permit.add_pictures(pictures) { Ok(()) } else { Err(self.no_room()) }
    }

    /// Runs what takes a core for more than a moment, on as many threads as there are cores.
    pub(crate) async fn on_a_core<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let _turn = self.decoders.acquire().await.map_err(|_| stopping())?;
        match tokio::task::spawn_blocking(work).await {
            Ok(found) => found,
            Err(_) => Err(broken()),
        }
    }

    /// Decodes a picture and brings it to what the network takes.
    pub(crate) async fn prepare(
        &self,
        sessions: &Arc<Sessions>,
        name: String,
        bytes: Bytes,
        strict: bool,
    ) -> Result<Prepared, Problem> {
        let (sessions, most) = (Arc::clone(sessions), self.config.max_pixels);
        let work = move || {
            if let Ok([_, height, width]) = picture::shape(&bytes)
                && (height as u64).saturating_mul(width as u64) > most
            {
                let message = format!("{name}: a picture of {width}x{height} pixels: expected at most {most} pixels");
                return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, message));
            }
            let input = Input::bytes(bytes.to_vec()).named(name);
            let (image, warnings) = sessions.description.prepare_with(input, strict)?;
            Ok(Prepared { image, warnings })
        };
        self.on_a_core(work).await
    }

    /// Computes the network's output for a picture.
    pub(crate) async fn compute(
        &self,
        sessions: &Arc<Sessions>,
        image: Vec<f32>,
        latest: Latest,
    ) -> Result<Computed, Problem> {
        let (reply, answer) = oneshot::channel();
        let work = Work::Picture(image, reply);
        self.queue.push(Job { sessions: Arc::clone(sessions), work, queued: Instant::now(), latest: latest.time });
        self.answered(answer.await, latest.is_own)
    }

    /// Calls with the explainer of a model, on the thread that computes.
    pub(crate) async fn explained<T: Send + 'static>(
        &self,
        model: &Arc<Model>,
        sessions: &Arc<Sessions>,
        latest: Instant,
        ask: impl FnOnce(&mut Explainer) -> convnet::Result<T> + Send + 'static,
    ) -> Result<T, Problem> {
        let (reply, answer) = oneshot::channel::<Result<T, Failure>>();
        let (model, with) = (Arc::clone(model), Arc::clone(sessions));
        let task = move |refused: Option<Failure>| {
            let found = match refused {
                Some(failure) => Err(failure),
                None => with.explained(|| (model.source.load)(), ask).map_err(Failure::Error),
            };
            // Nobody may be waiting any more.
            let _ = reply.send(found);
        };
        // Dropped with this future, whether it was answered or the client has gone.
        let waits = Arc::new(());
        let work = Work::Task(Box::new(task), Arc::downgrade(&waits));
        self.queue.push(Job { sessions: Arc::clone(sessions), work, queued: Instant::now(), latest });
        let answer = answer.await;
        drop(waits);
        self.answered(answer, false)
    }

    /// What came of a job; `is_own` says that its latest time is the request's own.
    fn answered<T>(
        &self,
        answer: Result<Result<T, Failure>, oneshot::error::RecvError>,
        is_own: bool,
    ) -> Result<T, Problem> {
        match answer {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(Failure::Late)) if is_own => {
                self.metrics.shed("timeout");
                let message = "computing could not begin within the request's timeout";
                Err(Problem::new(StatusCode::REQUEST_TIMEOUT, message))
            }
            Ok(Err(Failure::Late)) => {
                let most = self.config.max_wait.as_secs_f64();
                Err(self.busy("late", format!("the engine was not free within {most:.3} s")))
            }
            Ok(Err(Failure::Stopping)) => Err(stopping()),
            Ok(Err(Failure::Error(error))) => Err(error.into()),
            Ok(Err(Failure::Broken)) | Err(_) => {
                self.logger.event(Level::Error, "computing broke off");
                Err(broken())
            }
        }
    }

    /// When computing must have begun for a request that may say so itself.
    pub(crate) fn latest(&self, arrived: Instant, timeout: Option<Duration>) -> Latest {
        let own = timeout.filter(|&timeout| timeout < self.config.max_wait);
        Latest { time: arrived + own.unwrap_or(self.config.max_wait), is_own: own.is_some() }
    }

    /// Loads a model again beside the version that answers. The old one stays after an error.
    pub(crate) async fn reload(self: &Arc<Self>, model: &Arc<Model>) -> Result<u64, Problem> {
        let _one = model.reload.lock().await;
        let (app, again) = (Arc::clone(self), Arc::clone(model));
        let loaded = tokio::task::spawn_blocking(move || again.load_again(&app.engine, app.config.max_batch)).await;
        match loaded {
            Ok(Ok(version)) => {
                self.metrics.version(model.name(), version);
                self.logger.event(Level::Info, &format!("model '{}': version {version} answers", model.name()));
                Ok(version)
            }
            Ok(Err(error)) => {
                let message =
                    format!("model '{}' could not be loaded again, the old one answers: {error}", model.name());
                self.logger.event(Level::Error, &message);
                Err(Problem::request(message))
            }
            Err(_) => Err(broken()),
        }
    }
}

pub(crate) fn stopping() -> Problem {
    Problem::busy("the server stops", 1)
}

fn broken() -> Problem {
    Problem::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "the server could not compute this: the cause is an error of its own",
    )
}

/// Reads and forgets what a client sends, so that it can read the answer.
async fn drain(body: Body) {
    let read = async {
        let (mut parts, mut bytes) = (body.into_data_stream(), 0);
        while let Some(Ok(part)) = parts.next().await {
            bytes += part.len();
            if bytes > DRAINED {
                return;
            }
        }
    };
    // What has not come by then is not waited for.
    let _ = tokio::time::timeout(DRAIN_TIME, read).await;
}
