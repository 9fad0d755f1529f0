//! Threads that decode pictures ahead of the net, in bounded memory. Picture `i` goes to thread `i % n`, and the answers
//! are taken in the same turn, so they come in the order of the pictures.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use super::input::{Input, Prepared};
use crate::data::TargetSize;
use crate::{Error, Result};

/// Threads that decode.
pub(super) struct Decoders {
    workers: Vec<Worker>,
    /// Pictures handed in, and taken out.
    given: usize,
    taken: usize,
    /// Pictures that may be under way.
    most: usize,
}

struct Worker {
    jobs: Option<SyncSender<(String, Input)>>,
    done: Receiver<(String, Result<Prepared>)>,
    thread: Option<JoinHandle<()>>,
}

impl Decoders {
    /// Starts so many threads, which have at most `most` pictures under way.
    ///
    /// # Errors
    /// [`Error::Thread`] when the system refuses a thread.
    pub(super) fn start(threads: usize, most: usize, target: TargetSize) -> Result<Decoders> {
        let workers = (0..threads.max(1)).map(|_| Worker::start(most, target)).collect::<Result<_>>()?;
        Ok(Decoders { workers, given: 0, taken: 0, most: most.max(1) })
    }

    /// Whether another picture may be handed in.
    pub(super) fn has_room(&self) -> bool {
        self.given - self.taken < self.most
    }

    /// Hands a picture in, for which there must be room.
    pub(super) fn give(&mut self, input: Input) {
        let worker = &self.workers[self.given % self.workers.len()];
        let name = input.name(self.given);
        self.given += 1;
        if let Some(jobs) = &worker.jobs {
            // A thread that has ended shows when its answer is taken.
            let _ = jobs.send((name, input));
        }
    }

    /// The next picture, with its name; nothing when none is under way. Waits until it is ready.
    pub(super) fn take(&mut self) -> Option<(String, Result<Prepared>)> {
        if self.taken == self.given {
            return None;
        }
        let worker = &self.workers[self.taken % self.workers.len()];
        self.taken += 1;
        let lost = |_| {
            let error = Error::invalid("a thread that decodes pictures broke off");
            (format!("picture {}", self.taken - 1), Err(error))
        };
        Some(worker.done.recv().unwrap_or_else(lost))
    }
}

impl Worker {
    fn start(most: usize, target: TargetSize) -> Result<Worker> {
        let (jobs, received) = sync_channel::<(String, Input)>(most);
        let (ready, done) = sync_channel(most);
        let work = move || {
            for (name, input) in received {
                let prepared = input.prepare(&name, target);
                if ready.send((name, prepared)).is_err() {
                    return;
                }
            }
        };
        let thread = thread::Builder::new().name("decoder".into()).spawn(work);
        let thread = thread.map_err(Error::thread("decoding"))?;
        Ok(Worker { jobs: Some(jobs), done, thread: Some(thread) })
    }
}

impl Drop for Decoders {
    /// Stops the threads after the picture that each is at.
    fn drop(&mut self) {
        for mut worker in self.workers.drain(..) {
            worker.jobs = None;
            drop(worker.done);
            if let Some(thread) = worker.thread.take() {
                let _ = thread.join();
            }
        }
    }
}
