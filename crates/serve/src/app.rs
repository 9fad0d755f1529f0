//! What all requests share, and the way of a picture through it: admitted, received, prepared, computed.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};
use convnet::data::picture;
use convnet::exec::Engine;
use convnet::predictor::Input;
use futures_util::StreamExt;
use tokio::sync::Semaphore;

use crate::admission::{Admission, Permit};
use crate::api::problem::Problem;
use crate::config::Config;
use crate::connections::Entry;
use crate::log::{Level, Logger};
use crate::metrics::Metrics;
use crate::model::{Model, Source};
use crate::queue::Queue;
use crate::runs::Runs;
use crate::sessions::Sessions;

/// What is read of a body that is not wanted, so that the client can read why: more than that closes the connection.
const DRAINED: usize = 1 << 20;
/// How long that may take.
const DRAIN_TIME: Duration = Duration::from_secs(1);
/// Room for a body that does not say how long it is.
const UNKNOWN: usize = 64 << 10;
/// How long explanations and the like may wait for the engine, at least.
const TASKS_WAIT: Duration = Duration::from_secs(10);

/// A server's state.
pub(crate) struct App {
    pub(crate) config: Config,
    pub(crate) engine: Engine,
    /// The description of the interface, with the names of models and runs.
    pub(crate) openapi: String,
    pub(crate) models: RwLock<BTreeMap<String, Arc<Model>>>,
    /// Models that there is nothing of to load yet.
    pub(crate) awaited: Mutex<Vec<Source>>,
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

/// What a request makes the engine do.
#[derive(Clone, Copy)]
pub(crate) enum Purpose {
    /// The network's output for pictures.
    Pictures,
    /// An explanation or the like, of this kind.
    Task(&'static str),
}

/// A picture as the network takes it, and what is damaged in its file.
pub(crate) struct Prepared {
    pub(crate) image: Vec<f32>,
    pub(crate) warnings: Vec<String>,
}

impl App {
    /// The model of that name.
    pub(crate) fn model(&self, name: &str) -> Result<Arc<Model>, Problem> {
        let models = self.models.read().unwrap_or_else(PoisonError::into_inner);
        models.get(name).cloned().ok_or_else(|| {
            let known: Vec<&str> = models.keys().map(String::as_str).collect();
            let known = if known.is_empty() {
                "there is none".to_owned()
            } else {
                format!("expected one of {}", known.join(", "))
            };
            Problem::missing(format!("no model '{}': {known}", name.escape_debug()))
        })
    }

    /// All models by their names' order.
    pub(crate) fn models(&self) -> Vec<Arc<Model>> {
        self.models.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Adds a model that there was nothing of to load before.
    pub(crate) fn add(&self, model: Model) {
        self.metrics.version(model.name(), model.current().version);
        self.logger.event(Level::Info, &format!("model '{}': version 1 answers", model.name()));
        let mut models = self.models.write().unwrap_or_else(PoisonError::into_inner);
        models.insert(model.name().to_owned(), Arc::new(model));
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// How long what comes now waits for the engine. A task is done when all that has come before it is done; between its batches
    /// pictures are computed, so that these wait for a batch of it before each of theirs.
    fn backlog(&self, purpose: Purpose) -> Duration {
        let models = self.models();
        let (mut pictures, mut batches, mut tasks, mut step) = (Duration::ZERO, 0, Duration::ZERO, Duration::ZERO);
        for model in models {
            let (time, count) = model.backlog();
            (pictures, batches) = (pictures + time, batches + count as u32);
            if let Some((time, of_batch)) = model.backlog_of_tasks() {
                (tasks, step) = (tasks + time, step.max(of_batch));
            }
        }
        match purpose {
            Purpose::Task(_) => pictures + tasks,
            Purpose::Pictures => pictures + step * (batches + 1),
        }
    }

    /// How long what comes now may wait for the engine. People look at the answers of tasks, and wait longer.
    pub(crate) fn longest_wait(&self, purpose: Purpose) -> Duration {
        match purpose {
            Purpose::Pictures => self.config.max_wait,
            Purpose::Task(_) => self.config.max_wait.max(TASKS_WAIT),
        }
    }

    /// A refusal, for a reason that is counted.
    pub(crate) fn busy(&self, reason: &'static str, purpose: Purpose, message: String) -> Problem {
        self.metrics.shed(reason);
        Problem::busy(message, self.backlog(purpose).as_secs_f64().ceil().max(1.0) as u64)
    }

    /// Receives the body of a request for a model, where there is room for it.
    pub(crate) async fn receive(
        &self,
        model: &Arc<Model>,
        purpose: Purpose,
        Incoming { connection, headers, body }: Incoming,
    ) -> Result<Received, Problem> {
        let arrived = Instant::now();
        let length = self.announced(&headers)?;
        if let Err(problem) = self.admits(purpose, length) {
            // A client that waits to be told to go on has sent nothing.
            if !headers.contains_key(header::EXPECT) {
                drain(body).await;
            }
            return Err(problem);
        }
        let mut permit = Permit::new(&self.admission, model, connection);
        let received = tokio::time::timeout(self.config.body_timeout, self.read(body, length, &mut permit)).await;
        let body = received.map_err(|_| self.slow_body())??;
        Ok(Received { body, permit, arrived })
    }

    /// Receives a body that is no picture's.
    pub(crate) async fn receive_small(&self, Incoming { body, .. }: Incoming) -> Result<Bytes, Problem> {
        let received = tokio::time::timeout(self.config.body_timeout, axum::body::to_bytes(body, UNKNOWN)).await;
        let received = received.map_err(|_| self.slow_body())?;
        received.map_err(|error| Problem::request(format!("the body cannot be read: {error}")))
    }

    fn slow_body(&self) -> Problem {
        let seconds = self.config.body_timeout.as_secs_f64();
        Problem::new(StatusCode::REQUEST_TIMEOUT, format!("the body did not arrive within {seconds} s"))
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
    fn admits(&self, purpose: Purpose, length: Option<usize>) -> Result<(), Problem> {
        let (wait, most) = (self.backlog(purpose), self.longest_wait(purpose));
        if wait > most && self.admission.pictures() > 0 {
            let (wait, most) = (wait.as_secs_f64(), most.as_secs_f64());
            let message = format!("the engine is busy for {wait:.3} s: expected at most {most:.3} s");
            return Err(self.busy("wait", purpose, message));
        }
        if !self.admission.has_room(length.unwrap_or(UNKNOWN)) {
            return Err(self.no_room(purpose));
        }
        Ok(())
    }

    fn no_room(&self, purpose: Purpose) -> Problem {
        let pictures = self.admission.pictures();
        let most = self.admission.most_pictures();
        let message = format!("no room for the request: {pictures} of {most} pictures are under way");
        self.busy("room", purpose, message)
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
                return Err(self.no_room(Purpose::Pictures));
            }
            received.extend_from_slice(&part);
        }
        Ok(received.into())
    }

    /// Takes room for a request's pictures.
    pub(crate) fn admit(&self, permit: &mut Permit, purpose: Purpose, pictures: usize) -> Result<(), Problem> {
        let most = self.admission.most_pictures();
        if pictures > most {
            let message = format!("the request has {pictures} pictures: expected at most {most} (--max-queue)");
            return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, message));
        }
        let fits = match purpose {
            Purpose::Pictures => permit.add_pictures(pictures),
            Purpose::Task(kind) => permit.add_task(kind),
        };
        if fits { Ok(()) } else { Err(self.no_room(purpose)) }
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

    /// Loads a model again beside the version that answers. The old one stays after an error. It is a task of its own, which ends
    /// whether or not the client waits for it.
    pub(crate) async fn reload(self: &Arc<Self>, model: &Arc<Model>) -> Result<u64, Problem> {
        let (app, model) = (Arc::clone(self), Arc::clone(model));
        tokio::spawn(async move { app.load_again(&model).await }).await.unwrap_or_else(|_| Err(broken()))
    }

    async fn load_again(self: &Arc<Self>, model: &Arc<Model>) -> Result<u64, Problem> {
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

pub(crate) fn broken() -> Problem {
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
