//! What waits for the engine. One thread computes; each time it is free, it takes the job that has waited longest and, with it,
//! the pictures of the same model that wait as well.
//!
//! A job leaves the queue uncomputed when nobody waits for its answer any more, or when it could not begin before its latest time.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
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
    /// From the moment it was queued until its batch began.
    pub(crate) queued: Duration,
    /// What its batch took.
    pub(crate) computed: Duration,
}

/// The way back to who asks.
pub(crate) type Reply<T> = oneshot::Sender<Result<T, Failure>>;

/// A call that needs the engine; what it is called with says why it is not to compute.
pub(crate) type Task = Box<dyn FnOnce(Option<Failure>) + Send>;

/// A picture, or something else that needs the engine. Beside a task stands what lives as long as somebody waits for it.
pub(crate) enum Work {
    /// The numbers of a picture as the network takes it.
    Picture(Vec<f32>, Reply<Computed>),
    /// A call that answers by itself: it computes, or passes on why it must not.
    Task(Task, Weak<()>),
}

/// Work that waits.
pub(crate) struct Job {
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) work: Work,
    pub(crate) queued: Instant,
    /// When it must have begun.
    pub(crate) latest: Instant,
}

impl Job {
    fn is_abandoned(&self) -> bool {
        match &self.work {
            Work::Picture(_, reply) => reply.is_closed(),
            Work::Task(_, waits) => waits.strong_count() == 0,
        }
    }

    /// Answers without computing.
    fn refuse(self, failure: Failure) {
        match self.work {
            // Nobody may be waiting any more.
            Work::Picture(_, reply) => drop(reply.send(Err(failure))),
            Work::Task(task, _) => task(Some(failure)),
        }
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

    /// Lets [`Queue::take`] return nothing once all that waits has been taken.
    pub(crate) fn stop(&self) {
        lock(&self.state).stopping = true;
        self.changed.notify_all();
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
            let (until, most) = (first.queued + delay, first.sessions.max_batch());
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || state.stopping || state.batch_size() >= most {
                return Some(state.take_batch(most));
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl State {
    /// Drops jobs that nobody waits for, and refuses those that are late.
    fn drop_useless(&mut self, now: Instant) {
        if !self.waiting.iter().any(|job| job.latest < now || job.is_abandoned()) {
            return;
        }
        for job in std::mem::take(&mut self.waiting) {
            match job {
                job if job.is_abandoned() => {}
                job if job.latest < now => job.refuse(Failure::Late),
                job => self.waiting.push_back(job),
            }
        }
    }

    /// Pictures that can go together with the first; a task waits for nothing.
    fn batch_size(&self) -> usize {
        let Some(first) = self.waiting.front() else { return 0 };
        match first.work {
            Work::Task(..) => usize::MAX,
            Work::Picture(..) => self.waiting.iter().filter(|job| is_beside(first, job)).count(),
        }
    }

    fn take_batch(&mut self, most: usize) -> Vec<Job> {
        let Some(first) = self.waiting.pop_front() else { return Vec::new() };
        let mut batch = vec![first];
        if matches!(batch[0].work, Work::Task(..)) {
            return batch;
        }
        for job in std::mem::take(&mut self.waiting) {
            match batch.len() < most && is_beside(&batch[0], &job) {
                true => batch.push(job),
                false => self.waiting.push_back(job),
            }
        }
        batch
    }
}

/// Whether a job is a picture of the same version of a model.
fn is_beside(first: &Job, job: &Job) -> bool {
    matches!(job.work, Work::Picture(..)) && Arc::ptr_eq(&first.sessions, &job.sessions)
}
