//! What waits for the engine. One thread computes; each time it is free, it takes the job that has waited longest and, with it,
//! the pictures of the same model that wait as well.
//!
//! All jobs of a request share its [`Ticket`]. They leave the queue uncomputed when nobody waits for the answer any more, or when
//! computing has not begun before the request's latest time; once it has begun, what is left of the request is computed, too.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::sessions::{Sessions, lock};

/// Why a job was not computed, or what went wrong.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It could not begin in time.
    Late,
    /// The server stops.
    Stopping,
    /// The files of the model have changed since it was loaded, so that nothing can be explained by them.
    Changed,
    /// An error of the library.
    Error(convnet::Error),
    /// Computing broke off.
    Broken,
}

/// An answer of the engine.
#[derive(Clone, Debug)]
pub(crate) struct Computed {
    /// The network's output for the picture.
    pub(crate) output: Vec<f32>,
    /// Time in the queue until its batch began.
    pub(crate) queued: Duration,
    /// Time that its batch took.
    pub(crate) computed: Duration,
}

const WAITING: u8 = 0;
const BEGUN: u8 = 1;
const LEFT: u8 = 2;

/// A request as its client and the engine see it: whether computing has begun, and whether anybody waits for the answer.
#[derive(Debug)]
pub(crate) struct Ticket {
    state: AtomicU8,
    /// When computing must have begun.
    pub(crate) latest: Instant,
}

impl Ticket {
    pub(crate) fn new(latest: Instant) -> Arc<Ticket> {
        Arc::new(Ticket { state: AtomicU8::new(WAITING), latest })
    }

    /// Says that computing begins.
    fn begin(&self) {
        // Who has left meanwhile is not called back.
        let _ = self.state.compare_exchange(WAITING, BEGUN, Ordering::AcqRel, Ordering::Acquire);
    }

    /// Gives up, unless computing has begun; whether the request has been given up.
    pub(crate) fn give_up(&self) -> bool {
        self.state.compare_exchange(WAITING, LEFT, Ordering::AcqRel, Ordering::Acquire) != Err(BEGUN)
    }

    /// Says that nobody waits any more.
    pub(crate) fn leave(&self) {
        self.state.store(LEFT, Ordering::Release);
    }

    /// Whether nobody waits any more.
    pub(crate) fn is_left(&self) -> bool {
        self.state.load(Ordering::Acquire) == LEFT
    }

    /// Whether it has come too late to begin.
    fn is_late(&self, now: Instant) -> bool {
        self.latest < now && self.state.load(Ordering::Acquire) == WAITING
    }
}

/// The way back to who asks.
pub(crate) type Reply<T> = oneshot::Sender<Result<T, Failure>>;

/// A call that needs the engine. It computes, asking between its batches whether to go on, or passes on why it must not.
pub(crate) type Call = Box<dyn FnOnce(Result<&mut dyn FnMut() -> bool, Failure>) + Send>;

/// A picture, or something else that needs the engine.
pub(crate) enum Work {
    /// The numbers of a picture as the network takes it.
    Picture(Vec<f32>, Reply<Computed>),
    /// A call of some kind, such as `grad-cam`, which answers by itself.
    Task(&'static str, Call),
}

/// Work that waits.
pub(crate) struct Job {
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) work: Work,
    pub(crate) queued: Instant,
    pub(crate) ticket: Arc<Ticket>,
}

impl Job {
    /// Answers without computing.
    fn refuse(self, failure: Failure) {
        match self.work {
            // Nobody may be waiting any more.
            Work::Picture(_, reply) => drop(reply.send(Err(failure))),
            Work::Task(_, call) => call(Err(failure)),
        }
    }

    fn is_task(&self) -> bool {
        matches!(self.work, Work::Task(..))
    }
}

/// The jobs that wait, in the order in which they have come.
#[derive(Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Job>,
    stopping: bool,
}

impl Queue {
    /// Adds a job.
    pub(crate) fn push(&self, job: Job) {
        let mut state = lock(&self.state);
        if state.stopping {
            drop(state);
            return job.refuse(Failure::Stopping);
        }
        state.waiting.push_back(job);
        drop(state);
        self.changed.notify_one();
    }

    /// Jobs that wait.
    pub(crate) fn len(&self) -> usize {
        lock(&self.state).waiting.len()
    }

    /// Forgets the jobs of requests that nobody waits for any more.
    pub(crate) fn sweep(&self) {
        lock(&self.state).waiting.retain(|job| !job.ticket.is_left());
    }

    /// Lets [`Queue::take`] return nothing once all that waits has been taken, and ends what is asked whether to go on.
    pub(crate) fn stop(&self) {
        lock(&self.state).stopping = true;
        self.changed.notify_all();
    }

    pub(crate) fn is_stopping(&self) -> bool {
        lock(&self.state).stopping
    }

    /// The job that has waited longest, and pictures of the same model that wait, too: at most as many as its largest batch. Waits
    /// for one, and then up to `delay` after the first was queued for a full batch. Nothing once the queue has been stopped.
    pub(crate) fn take(&self, delay: Duration) -> Option<Vec<Job>> {
        let mut state = lock(&self.state);
        loop {
            state.drop_useless(Instant::now());
            let Some(first) = state.waiting.front() else {
                if state.stopping {
                    return None;
                }
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            // Waiting for others uses no more than half of the time in which it must begin.
            let delay = delay.min(first.ticket.latest.saturating_duration_since(first.queued) / 2);
            let left = (first.queued + delay).saturating_duration_since(Instant::now());
            if first.is_task() || left.is_zero() || state.stopping || state.batch_size() >= first.sessions.max_batch() {
                return Some(state.take_batch(0));
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The picture that has waited longest and those beside it, as [`Queue::take`] takes them, without waiting for any.
    pub(crate) fn take_pictures(&self) -> Option<Vec<Job>> {
        let mut state = lock(&self.state);
        state.drop_useless(Instant::now());
        let first = state.waiting.iter().position(|job| !job.is_task())?;
        Some(state.take_batch(first))
    }
}

impl State {
    /// Drops jobs that nobody waits for, and refuses those that are late.
    fn drop_useless(&mut self, now: Instant) {
        if !self.waiting.iter().any(|job| job.ticket.is_late(now) || job.ticket.is_left()) {
            return;
        }
        for job in std::mem::take(&mut self.waiting) {
            match job {
                job if job.ticket.is_left() => {}
                job if job.ticket.is_late(now) => job.refuse(Failure::Late),
                job => self.waiting.push_back(job),
            }
        }
    }

    /// Pictures that can go together with the first.
    fn batch_size(&self) -> usize {
        let Some(first) = self.waiting.front() else { return 0 };
        self.waiting.iter().filter(|job| is_beside(first, job)).count()
    }

    /// Takes the job of a place, and what can go together with it.
    fn take_batch(&mut self, first: usize) -> Vec<Job> {
        let Some(first) = self.waiting.remove(first) else { return Vec::new() };
        let most = if first.is_task() { 1 } else { first.sessions.max_batch() };
        let mut batch = vec![first];
        for job in std::mem::take(&mut self.waiting) {
            match batch.len() < most && is_beside(&batch[0], &job) {
                true => batch.push(job),
                false => self.waiting.push_back(job),
            }
        }
        batch.iter().for_each(|job| job.ticket.begin());
        batch
    }
}

/// Whether a job is a picture of the same version of a model.
fn is_beside(first: &Job, job: &Job) -> bool {
    !job.is_task() && Arc::ptr_eq(&first.sessions, &job.sessions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_given_up_until_computing_begins() {
        let past = Instant::now();
        let ticket = Ticket::new(past);
        let now = past + Duration::from_millis(1);
        assert!(ticket.is_late(now) && !ticket.is_left());
        ticket.begin();
        assert!(!ticket.is_late(now) && !ticket.give_up(), "what has begun is not late");
        ticket.leave();
        assert!(ticket.is_left());
        let other = Ticket::new(past);
        assert!(other.give_up() && other.give_up() && other.is_left() && !other.is_late(now));
        other.begin();
        assert!(other.is_left(), "who has left is not called back");
    }
}
