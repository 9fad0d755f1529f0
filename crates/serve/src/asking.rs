//! A request that asks the engine: its pictures or its explanation wait together, until computing must have begun, and are stopped
//! together when the client goes away.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use convnet::explain::Explainer;
use tokio::sync::oneshot;

use crate::api::problem::Problem;
use crate::app::{App, Purpose, broken, stopping};
use crate::log::Level;
use crate::model::Model;
use crate::queue::{Computed, Failure, Job, Ticket, Work};
use crate::sessions::Sessions;

/// When computing must have begun.
#[derive(Clone, Copy)]
pub(crate) struct Latest {
    time: Instant,
    /// How long after the request that is.
    within: Duration,
    /// Whether the request says so, rather than the server.
    is_own: bool,
}

impl Latest {
    /// So long after a request, or as long as it says itself where that is less.
    pub(crate) fn new(arrived: Instant, within: Duration, own: Option<Duration>) -> Latest {
        let own = own.filter(|&own| own < within);
        let (within, is_own) = (own.unwrap_or(within), own.is_some());
        Latest { time: arrived + within, within, is_own }
    }
}

/// What a request asks the engine, until it is dropped: whether it has been answered or the client has gone.
pub(crate) struct Asking<'a> {
    app: &'a App,
    pub(crate) sessions: Arc<Sessions>,
    purpose: Purpose,
    ticket: Arc<Ticket>,
    latest: Latest,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.ticket.leave();
        self.app.queue.sweep();
    }
}

impl<'a> Asking<'a> {
    /// A request to a version of a model.
    pub(crate) fn new(app: &'a App, sessions: Arc<Sessions>, purpose: Purpose, latest: Latest) -> Asking<'a> {
        Asking { app, sessions, purpose, ticket: Ticket::new(latest.time), latest }
    }

    /// The network's output for a picture.
    pub(crate) async fn compute(&self, image: Vec<f32>) -> Result<Computed, Problem> {
        let (reply, answer) = oneshot::channel();
        self.push(Work::Picture(image, reply));
        self.answer(answer).await
    }

    /// Calls with the explainer of a model, on the thread that computes; `kind` is what it is counted as.
    pub(crate) async fn explained<T: Send + 'static>(
        &self,
        model: &Arc<Model>,
        kind: &'static str,
        ask: impl FnOnce(&mut Explainer, &mut dyn FnMut() -> bool) -> convnet::Result<T> + Send + 'static,
    ) -> Result<T, Problem> {
        let (reply, answer) = oneshot::channel::<Result<T, Failure>>();
        let (model, with) = (Arc::clone(model), Arc::clone(&self.sessions));
        let call = move |turn: Result<&mut dyn FnMut() -> bool, Failure>| {
            let load = || (model.source.load)();
            let found = turn.and_then(|goes_on| with.explained(load, |explainer| ask(explainer, goes_on)));
            // Nobody may be waiting any more.
            let _ = reply.send(found);
        };
        self.push(Work::Task(kind, Box::new(call)));
        self.answer(answer).await
    }

    fn push(&self, work: Work) {
        let (sessions, ticket) = (Arc::clone(&self.sessions), Arc::clone(&self.ticket));
        self.app.queue.push(Job { sessions, work, queued: Instant::now(), ticket });
    }

    /// What comes of a job. It is waited for until the latest time, and longer once computing has begun.
    async fn answer<T>(&self, mut answer: oneshot::Receiver<Result<T, Failure>>) -> Result<T, Problem> {
        let found = tokio::select! {
            biased;
            found = &mut answer => found,
            () = tokio::time::sleep_until(self.latest.time.into()) => match self.ticket.give_up() {
                true => Ok(Err(Failure::Late)),
                false => answer.await,
            },
        };
        match found {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(Failure::Late)) => Err(self.late()),
            Ok(Err(Failure::Stopping)) => Err(stopping()),
            Ok(Err(Failure::Changed)) => Err(Problem::changed()),
            Ok(Err(Failure::Error(error))) => Err(error.into()),
            Ok(Err(Failure::Broken)) | Err(_) => {
                self.app.logger.event(Level::Error, "computing broke off");
                Err(broken())
            }
        }
    }

    fn late(&self) -> Problem {
        let within = self.latest.within.as_secs_f64();
        if self.latest.is_own {
            self.app.metrics.shed("timeout");
            let message = format!("computing could not begin within the request's timeout of {within:.3} s");
            return Problem::new(StatusCode::REQUEST_TIMEOUT, message);
        }
        let message = format!("the engine was not free within {within:.3} s");
        self.app.busy("late", self.purpose, message)
    }
}
