//! What a trainer sees of the processes that it is one of.

use std::fmt::{self, Display};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};

use convnet_kernels::memory::{Buffer, BufferPart};
use serde::{Deserialize, Serialize};

use super::Shards;
use super::sum::{Received, gather_numbers};
use crate::{Error, Result};

/// Numbers that an exchange of gradients has at least where nothing else is said: 4 MiB, which takes a link of 1 Gbit/s some 30 ms, and is
/// much beside its latency.
const BUCKET: usize = 1 << 20;

/// What connects processes. Every call is made by all of them, in the same order.
pub trait Collectives {
    /// Number of this process, from 0.
    fn rank(&self) -> usize;

    /// Number of processes.
    fn size(&self) -> usize;

    /// How many of the processes are on this machine.
    fn local_size(&self) -> usize;

    /// Sends numbers to other processes, and receives what they send to this one. What one sends to another arrives in its order; both
    /// know its lengths.
    ///
    /// # Errors
    /// When the connection fails.
    fn swap(&mut self, send: &[(usize, &[f32])], receive: Vec<(usize, &mut [f32])>) -> Result<()>;

    /// Sends bytes to all processes, and receives what each has sent, of whose number the others know nothing.
    ///
    /// # Errors
    /// When the connection fails.
    fn all_gather_bytes(&mut self, send: &[u8]) -> Result<Vec<Vec<u8>>>;

    /// Ends all processes.
    fn abort(&mut self);
}

/// The processes that train one net together, as one of them sees them. Clones are the same; the last one that is dropped takes
/// leave of the others.
#[derive(Clone)]
pub struct Processes {
    rank: usize,
    size: usize,
    local_size: usize,
    /// Numbers that an exchange of gradients has at least.
    bucket: usize,
    /// What makes the calls; nothing for a process that is alone.
    thread: Option<Arc<Caller>>,
}

/// The thread that alone speaks with the others.
struct Caller {
    /// Whether something has failed in one of the processes and all know it.
    failed: AtomicBool,
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

/// What is to be done, and where the answer goes.
enum Job {
    Gather(Vec<u8>, Sender<Result<Vec<Vec<u8>>>>),
    GatherNumbers(Buffer, Sender<Result<Buffer>>),
    Sum(Shards, Vec<BufferPart>, Sender<Result<Vec<BufferPart>>>),
    Abort(Sender<Result<()>>),
}

/// What each process tells the others of something that all of them do.
#[derive(Serialize, Deserialize)]
struct Told<T> {
    found: Option<T>,
    /// Why it could not be done.
    problem: Option<String>,
}

impl Processes {
    /// A process that is alone.
    pub fn alone() -> Processes {
        Processes { rank: 0, size: 1, local_size: 1, bucket: BUCKET, thread: None }
    }

    /// Starts the thread that makes all calls, on which `connect` makes the connection.
    ///
    /// # Errors
    /// Those of `connect`; [`Error::Thread`] when the system refuses a thread.
    pub fn start<C: Collectives>(connect: impl FnOnce() -> Result<C> + Send + 'static) -> Result<Processes> {
        let (jobs, received) = mpsc::channel();
        let (told, connected) = mpsc::channel();
        let run = move || match connect() {
            Ok(mut group) => {
                let _ = told.send(Ok([group.rank(), group.size(), group.local_size()]));
                serve(&mut group, &received);
            }
            Err(error) => drop(told.send(Err(error))),
        };
        let thread =
            thread::Builder::new().name("processes".into()).spawn(run).map_err(Error::thread("communication"))?;
        let [rank, size, local_size] = connected.recv().map_err(|_| broken_off())??;
        let thread = Some(Arc::new(Caller { failed: AtomicBool::new(false), jobs: Some(jobs), thread: Some(thread) }));
        Ok(Processes { rank, size, local_size, bucket: BUCKET, thread })
    }

    /// Number of this process, from 0.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// Number of processes.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Whether this is the process that writes files and speaks.
    pub fn is_first(&self) -> bool {
        self.rank == 0
    }

    /// Threads for this process where nobody has said how many: its share of the machine's cores, at least 1, and no more than it
    /// may run on.
    pub fn threads(&self) -> usize {
        let own = thread::available_parallelism().map_or(1, usize::from);
        (cores().max(own) / self.local_size).clamp(1, own)
    }

    /// So many threads as are asked for; where that is 0, for one per core, this process's share of them.
    pub fn share_of(&self, threads: usize) -> usize {
        if threads == 0 && self.size > 1 { self.threads() } else { threads }
    }

    /// What each process has to say, by its number.
    ///
    /// # Errors
    /// When the processes lose one another.
    pub(crate) fn gather(&self, own: Vec<u8>) -> Result<Vec<Vec<u8>>> {
        match &self.thread {
            None => Ok(vec![own]),
            Some(thread) => answered(&thread.begin(|answer| Job::Gather(own, answer))?),
        }
    }

    /// The numbers that each process has, one after the other; all of them have as many.
    ///
    /// # Errors
    /// When the processes lose one another.
    pub(crate) fn gather_numbers(&self, own: Buffer) -> Result<Buffer> {
        match &self.thread {
            None => Ok(own),
            Some(thread) => answered(&thread.begin(|answer| Job::GatherNumbers(own, answer))?),
        }
    }

    /// Waits until all processes have come here, and says what each has found. Where something has failed in one, it fails in all: in
    /// the first one that failed with its own error, in the others with [`Error::Elsewhere`].
    ///
    /// # Errors
    /// Those; and when the processes lose one another.
    pub fn exchange<T, E>(&self, own: Result<T, E>) -> Result<Vec<T>, E>
    where
        T: Serialize + for<'a> Deserialize<'a>,
        E: Display + From<Error>,
    {
        let (found, mut failed) = match own {
            Ok(found) if self.size == 1 => return Ok(vec![found]),
            Err(error) if self.size == 1 => return Err(error),
            Ok(found) => (Some(found), None),
            Err(error) => (None, Some(error)),
        };
        let told = Told { found, problem: failed.as_ref().map(E::to_string) };
        let own = serde_json::to_vec(&told).map_err(|error| Error::invalid(error.to_string()))?;
        let mut all = Vec::new();
        for (rank, told) in self.gather(own)?.into_iter().enumerate() {
            let unreadable = |error| Error::invalid(format!("process {rank} of {}: its message: {error}", self.size));
            let Told { found, problem } = serde_json::from_slice(&told).map_err(unreadable)?;
            if let Some(found) = found {
                all.push(found);
                continue;
            }
            if let Some(thread) = &self.thread {
                thread.failed.store(true, Ordering::SeqCst);
            }
            let elsewhere = Error::Elsewhere { rank, size: self.size, problem: problem.unwrap_or_default() };
            return Err(failed.take().filter(|_| rank == self.rank).unwrap_or_else(|| elsewhere.into()));
        }
        Ok(all)
    }

    /// The same of which only the success is told.
    ///
    /// # Errors
    /// As [`Processes::exchange`].
    pub fn agree<T, E: Display + From<Error>>(&self, own: Result<T, E>) -> Result<T, E> {
        let mut kept = None;
        let own = own.map(|found| {
            kept = Some(found);
            true
        });
        self.exchange(own)?;
        kept.ok_or_else(|| broken_off().into())
    }

    /// To be called when this process has failed and leaves: ends the other processes, which would wait for it, unless they know of
    /// it and leave as well.
    pub fn abort(&self) {
        if let Some(thread) = self.thread.as_ref().filter(|thread| !thread.failed.load(Ordering::SeqCst)) {
            let _ = thread.begin(Job::Abort).map(|answer| answer.recv());
        }
    }

    /// Expects what each process says of itself to be what the first says: `own` has pairs of what it is called and what it is.
    ///
    /// # Errors
    /// [`Error::Invalid`], the same in all processes, with the first that differs; as [`Processes::exchange`].
    pub(crate) fn expect_same(&self, own: Vec<(String, String)>) -> Result<()> {
        let all = self.exchange::<_, Error>(Ok(own))?;
        for (rank, other) in all.iter().enumerate().skip(1) {
            if let Some(((what, _), _)) = all[0].iter().zip(other).find(|(first, other)| first != other) {
                let size = self.size;
                let problem = Error::invalid(format!(
                    "process {rank} of {size} has another {what} than process 0: all of them need the same program, settings and data"
                ));
                return self.agree(if self.is_first() { Err(problem) } else { Ok(()) });
            }
        }
        Ok(())
    }

    /// Begins to add up what all processes have: `own` holds a vector for each of [`Shards::own_nodes`].
    ///
    /// # Errors
    /// When the processes lose one another.
    pub(crate) fn begin_sum(&self, shards: Shards, own: Vec<BufferPart>) -> Result<Summing> {
        Ok(match &self.thread {
            None => Summing::Here(own),
            Some(thread) => Summing::There(thread.begin(|answer| Job::Sum(shards, own, answer))?),
        })
    }

    /// The same with at least so many MiB of gradients in an exchange, so that the first are exchanged while backward goes on; 0
    /// exchanges all of them after it. It is 4 unless this is called. All processes need the same.
    #[must_use]
    pub fn with_bucket_cap(self, mib: usize) -> Processes {
        Processes { bucket: if mib == 0 { usize::MAX } else { mib.saturating_mul(1 << 20) / size_of::<f32>() }, ..self }
    }

    /// The same in numbers.
    #[cfg(test)]
    pub(super) fn with_bucket(self, bucket: usize) -> Processes {
        Processes { bucket, ..self }
    }

    /// Numbers that an exchange of gradients has at least.
    pub(crate) fn bucket(&self) -> usize {
        if self.size == 1 { usize::MAX } else { self.bucket }
    }

    /// The same if there were other processes.
    pub(super) fn least(&self) -> usize {
        self.bucket
    }
}

/// A sum that others are asked for.
pub(crate) enum Summing {
    Here(Vec<BufferPart>),
    There(Receiver<Result<Vec<BufferPart>>>),
}

impl Summing {
    /// Waits for it: the first of what was given is the sum, the others are memory.
    ///
    /// # Errors
    /// When the processes lose one another.
    pub(crate) fn wait(self) -> Result<Vec<BufferPart>> {
        match self {
            Summing::Here(own) => Ok(own),
            Summing::There(answer) => answered(&answer),
        }
    }
}

impl fmt::Debug for Processes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Processes").field("rank", &self.rank).field("size", &self.size).finish_non_exhaustive()
    }
}

impl Caller {
    fn begin<T>(&self, job: impl FnOnce(Sender<Result<T>>) -> Job) -> Result<Receiver<Result<T>>> {
        let (answer, answered) = mpsc::channel();
        let jobs = self.jobs.as_ref().ok_or_else(broken_off)?;
        jobs.send(job(answer)).map_err(|_| broken_off())?;
        Ok(answered)
    }
}

impl Drop for Caller {
    /// Takes leave of the other processes.
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Does what is asked until nobody asks any more. Whoever has asked and does not wait for the answer wants none.
fn serve(group: &mut dyn Collectives, jobs: &Receiver<Job>) {
    let mut received = Received::default();
    while let Ok(job) = jobs.recv() {
        match job {
            Job::Gather(own, answer) => drop(answer.send(group.all_gather_bytes(&own))),
            Job::GatherNumbers(own, answer) => drop(answer.send(gather_numbers(group, &own))),
            Job::Sum(shards, mut own, answer) => {
                drop(answer.send(received.sum(group, shards, &mut own).map(|()| own)));
            }
            Job::Abort(answer) => {
                group.abort();
                drop(answer.send(Ok(())));
            }
        }
    }
}

/// Waits for what the thread has been asked for.
fn answered<T>(answer: &Receiver<Result<T>>) -> Result<T> {
    answer.recv().map_err(|_| broken_off())?
}

fn broken_off() -> Error {
    Error::invalid("the thread that speaks with the other processes broke off")
}

/// Cores of this machine, whether this process may run on them or not.
fn cores() -> usize {
    let online = std::fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
    online.trim().split(',').filter_map(count).sum()
}

/// Numbers in a range such as `0-3`.
fn count(range: &str) -> Option<usize> {
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
    Some((last + 1).saturating_sub(first))
}
