//! Batches for one epoch, prepared on background threads.
//!
//! The threads share the batches picture by picture: each takes the next few pictures of the earliest batch that still lacks
//! some, reads, decodes and changes them, and writes them to their place. So the order is that of the options alone, whatever the
//! threads do, and the first batch is ready soon. Batches lie in a few buffers: a [`Batch`] that is dropped hands its buffer
//! back, so memory is bounded, nothing is allocated for batches once the first ones are filled, and a slow net makes the
//! threads wait.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::augment::{Augmentation, Augmenter, Given, RandomKey, Scratch};
use super::dataset::Making;
use super::{Dataset, Normalization, Normalizer};
use crate::random::Random;
use crate::{Error, Result};

/// Batches that are ready, under way or in use. Where batches are small, there are more, so that every thread has work.
const BUFFERS: usize = 3;
/// Pictures that a thread takes at a time, where there are enough.
const SHARE: usize = 4;

/// In which order the pictures come.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Order {
    /// As they lie: for evaluation.
    Sequential,
    /// Shuffled; the order depends on the two numbers and the size of the set alone.
    Shuffled {
        /// Seed of the run.
        seed: u64,
        /// Number of the epoch.
        epoch: u64,
    },
    /// Shuffled within a window that moves along the pictures as they lie, for disks that read slowly out of order. An epoch begins
    /// at a random place and goes around; each picture is drawn from the next `window` of those that are left.
    Windowed {
        /// Seed of the run.
        seed: u64,
        /// Number of the epoch.
        epoch: u64,
        /// From how many pictures one is drawn.
        window: usize,
    },
    /// Some of them, as they lie: which ones depends on the two numbers and the size of the set alone.
    Sample {
        /// Seed of the run.
        seed: u64,
        /// How many, if there are that many.
        count: usize,
    },
}

/// What a [`Loader`] does.
#[derive(Clone, Copy, Debug)]
pub struct LoaderOptions {
    /// Pictures in a batch; the last one of an epoch holds what remains.
    pub batch_size: usize,
    /// In which order they come.
    pub order: Order,
    /// Batches to leave out: those that a resumed epoch has had already.
    pub start_batch: usize,
    /// Background threads, at least 1. They change no batch.
    pub workers: usize,
}

/// What [`Loader::of_parts`] does.
#[derive(Clone, Copy)]
pub(crate) struct Parts<'a> {
    /// In which order the pictures come.
    pub(crate) order: Order,
    /// The batches, as ranges of an order of so many pictures.
    pub(crate) parts: &'a dyn Fn(usize) -> Vec<Range<usize>>,
    /// Background threads, at least 1.
    pub(crate) workers: usize,
}

/// One epoch of batches: an iterator.
pub struct Loader {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    next: usize,
    waited: Duration,
}

/// Normalised pictures and their classes. Dropping it hands its memory back to the [`Loader`].
pub struct Batch {
    buffer: Buffer,
    shape: [usize; 3],
    home: Arc<Shared>,
}

#[derive(Default)]
struct Buffer {
    images: Vec<f32>,
    labels: Vec<u32>,
}

/// What the threads share.
struct Shared {
    epoch: Epoch,
    state: Mutex<State>,
    /// Told when there is something to do, or nothing any more.
    work: Condvar,
    /// Told when a batch is complete.
    done: Condvar,
}

/// Where the epoch stands.
struct State {
    /// Batches that are begun, the earliest first.
    slots: VecDeque<Slot>,
    /// The next batch to begin.
    next: usize,
    free: Vec<Buffer>,
    stop: bool,
}

/// A batch that is begun.
struct Slot {
    buffer: Arc<Mutex<Buffer>>,
    batch: usize,
    /// Pictures in all, those that threads have taken, and those that are done.
    count: usize,
    taken: usize,
    done: usize,
    /// The first picture of which there is none, and why.
    problem: Option<(usize, Error)>,
}

/// Some pictures of a batch, to be made.
struct Job {
    batch: usize,
    pictures: Range<usize>,
    buffer: Arc<Mutex<Buffer>>,
}

/// Memory in which a thread makes pictures.
#[derive(Default)]
struct Maker {
    making: Making,
    scratch: Scratch,
    planes: Vec<u8>,
}

/// What batches are made of.
struct Epoch {
    data: Arc<Dataset>,
    normalizer: Normalizer,
    augmenter: Option<Augmenter>,
    /// Whether pictures are changed at their own size, before they have the net's.
    at_own_size: bool,
    /// Seed and number of the epoch.
    key: [u64; 2],
    order: Vec<u32>,
    /// The batches, each a range of the order.
    batches: Vec<Range<usize>>,
}

impl Loader {
    /// Starts to prepare an epoch of `data`.
    ///
    /// # Errors
    /// A batch size or number of workers of 0, a normalisation for another number of channels, a set of over 2³²
    /// pictures, or a thread that the system refuses.
    pub fn new(data: Arc<Dataset>, normalization: &Normalization, options: LoaderOptions) -> Result<Loader> {
        Loader::augmented(data, normalization, options, &Augmentation::none())
    }

    /// The same with pictures that are changed at random, by seed and epoch of the order: at their own size where the
    /// augmentation takes any ([`Augmentation::takes_any_size`]), else at that of the set.
    ///
    /// # Errors
    /// As [`Loader::new`] and [`Augmenter::new`].
    pub fn augmented(
        data: Arc<Dataset>,
        normalization: &Normalization,
        options: LoaderOptions,
        augmentation: &Augmentation,
    ) -> Result<Loader> {
        let LoaderOptions { batch_size, order, start_batch, workers } = options;
        if batch_size == 0 {
            return Err(Error::setting("batch_size", "at least 1", batch_size));
        }
        let batches = |count: usize| {
            let begin = |batch: usize| batch.saturating_mul(batch_size).min(count);
            (start_batch..count.div_ceil(batch_size)).map(|batch| begin(batch)..begin(batch + 1)).collect()
        };
        Loader::of_parts(data, normalization, Parts { order, parts: &batches, workers }, augmentation)
    }

    /// The same with batches that are any parts of the order, none of them empty.
    pub(crate) fn of_parts(
        data: Arc<Dataset>,
        normalization: &Normalization,
        Parts { order, parts, workers }: Parts<'_>,
        augmentation: &Augmentation,
    ) -> Result<Loader> {
        if workers == 0 {
            return Err(Error::setting("workers", "at least 1", workers));
        }
        let normalizer = normalization.normalizer(data.shape()[0])?;
        let target @ [_, height, width] = data.shape();
        let at_own_size = augmentation.takes_any_size();
        let given = if at_own_size { Given::AnySize } else { Given::Size([height, width]) };
        let augmenter = match augmentation.0.is_empty() {
            true => None,
            false => Some(Augmenter::new(augmentation, given, target, normalization)?),
        };
        let key = match order {
            Order::Sequential | Order::Sample { .. } => [0, 0],
            Order::Shuffled { seed, epoch } | Order::Windowed { seed, epoch, .. } => [seed, epoch],
        };
        let order = order.of(data.len())?;
        let batches: Vec<Range<usize>> = parts(order.len());
        let workers = workers.min(batches.iter().map(Range::len).sum());
        let largest = batches.iter().map(Range::len).max().unwrap_or(1);
        let buffers = BUFFERS.saturating_add((SHARE * workers).div_ceil(largest));
        let free = (0..buffers.min(batches.len())).map(|_| Buffer::default()).collect();
        let state = State { slots: VecDeque::new(), next: 0, free, stop: false };
        let epoch = Epoch { data, normalizer, augmenter, at_own_size, key, order, batches };
        let (work, done) = (Condvar::new(), Condvar::new());
        let shared = Arc::new(Shared { epoch, state: Mutex::new(state), work, done });
        let mut loader = Loader { shared, threads: Vec::new(), next: 0, waited: Duration::ZERO };
        for _ in 0..workers {
            let shared = Arc::clone(&loader.shared);
            let thread = thread::Builder::new().name("loader".into()).spawn(move || shared.run());
            loader.threads.push(thread.map_err(Error::thread("loading"))?);
        }
        Ok(loader)
    }

    /// For how long batches were waited for so far.
    pub fn waited(&self) -> Duration {
        self.waited
    }
}

impl fmt::Debug for Loader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loader")
            .field("next", &self.next)
            .field("end", &self.shared.epoch.batches.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("len", &self.len()).field("shape", &self.shape).finish_non_exhaustive()
    }
}

impl Iterator for Loader {
    type Item = Result<Batch>;

    /// The next batch, or why it cannot be made; waits until it is ready.
    fn next(&mut self) -> Option<Result<Batch>> {
        if self.next == self.shared.epoch.batches.len() {
            return None;
        }
        self.next += 1;
        let start = Instant::now();
        let batch = self.shared.take();
        self.waited += start.elapsed();
        Some(batch.map(|buffer| {
            let shape = self.shared.epoch.data.shape();
            Batch { buffer, shape, home: Arc::clone(&self.shared) }
        }))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.shared.epoch.batches.len() - self.next;
        (left, Some(left))
    }
}

impl ExactSizeIterator for Loader {}

impl Drop for Loader {
    /// Stops the threads after the pictures that each is at.
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.work.notify_all();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Order {
    /// Indices of `len` pictures in this order.
    fn of(self, len: usize) -> Result<Vec<u32>> {
        let len = u32::try_from(len).map_err(|_| Error::invalid(format!("{len} pictures: at most {}", u32::MAX)))?;
        let mut order: Vec<u32> = (0..len).collect();
        match self {
            Order::Sequential => {}
            Order::Shuffled { seed, epoch } => Random::stream(seed, *b"shuffle.", epoch).shuffle(&mut order),
            Order::Windowed { seed, epoch, window } => {
                let mut random = Random::stream(seed, *b"shuffle.", epoch);
                let len = order.len();
                order.rotate_left(random.below(len));
                for at in 0..len {
                    order.swap(at, at + random.below(window.min(len - at)));
                }
            }
            Order::Sample { seed, count } => {
                Random::stream(seed, *b"sampled.", 0).shuffle(&mut order);
                order.truncate(count);
                order.sort_unstable();
            }
        }
        Ok(order)
    }
}

impl Batch {
    /// Count, channels, height, width.
    pub fn shape(&self) -> [usize; 4] {
        let [c, h, w] = self.shape;
        [self.len(), c, h, w]
    }

    /// Number of pictures.
    pub fn len(&self) -> usize {
        self.buffer.labels.len()
    }

    /// Whether there are no pictures; a loader never gives such a batch.
    pub fn is_empty(&self) -> bool {
        self.buffer.labels.is_empty()
    }

    /// The normalised pixels, NCHW.
    pub fn images(&self) -> &[f32] {
        &self.buffer.images
    }

    /// The normalised pixels, to be changed, and the class of each picture.
    pub fn parts_mut(&mut self) -> (&mut [f32], &[u32]) {
        (&mut self.buffer.images, &self.buffer.labels)
    }

    /// The class of each picture.
    pub fn labels(&self) -> &[u32] {
        &self.buffer.labels
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        self.home.lock().free.push(std::mem::take(&mut self.buffer));
        self.home.work.notify_all();
    }
}

impl Shared {
    /// The state; nothing that holds it can panic half-way through a change.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes pictures until there are none left.
    fn run(&self) {
        let mut maker = Maker::default();
        while let Some(job) = self.next_job() {
            let Job { batch, pictures, buffer } = job;
            let count = pictures.len();
            // The decoders' own panics are caught where they are named.
            let made = catch_unwind(AssertUnwindSafe(|| self.epoch.make(batch, pictures, &buffer, &mut maker)));
            let broken = |_| Err((0, Error::invalid("a thread that makes batches broke off")));
            drop(buffer);
            self.finish(batch, count, made.unwrap_or_else(broken));
        }
    }

    /// The next pictures to make. Waits for a free buffer; nothing at the end of the epoch.
    fn next_job(&self) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if state.stop {
                return None;
            }
            if let Some(slot) = state.slots.iter_mut().find(|slot| slot.taken < slot.count) {
                let end = slot.count.min(slot.taken + SHARE);
                let pictures = slot.taken..end;
                slot.taken = end;
                return Some(Job { batch: slot.batch, pictures, buffer: Arc::clone(&slot.buffer) });
            }
            if state.next == self.epoch.batches.len() {
                return None;
            }
            match state.free.pop() {
                Some(buffer) => state.begin(buffer, &self.epoch),
                None => state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    /// Takes note of pictures that are done, or of why one is not.
    fn finish(&self, batch: usize, count: usize, made: Result<(), (usize, Error)>) {
        let mut state = self.lock();
        let Some(slot) = state.slots.iter_mut().find(|slot| slot.batch == batch) else { return };
        slot.done += count;
        if let Err((picture, error)) = made
            && slot.problem.as_ref().is_none_or(|(first, _)| picture < *first)
        {
            slot.problem = Some((picture, error));
        }
        if slot.done == slot.count {
            self.done.notify_all();
        }
    }

    /// The next batch, once it is complete.
    fn take(&self) -> Result<Buffer> {
        let mut state = self.lock();
        let slot = loop {
            if let Some(slot) = state.slots.pop_front_if(|slot| slot.done == slot.count) {
                break slot;
            }
            if state.slots.is_empty() && state.free.is_empty() {
                // Whoever holds all batches gets more memory instead of waiting for himself.
                state.free.push(Buffer::default());
                self.work.notify_all();
            }
            state = self.done.wait(state).unwrap_or_else(PoisonError::into_inner);
        };
        let buffer = std::mem::take(&mut *slot.buffer.lock().unwrap_or_else(PoisonError::into_inner));
        match slot.problem {
            None => Ok(buffer),
            Some((_, error)) => {
                state.free.push(buffer);
                drop(state);
                self.work.notify_all();
                Err(error)
            }
        }
    }
}

impl State {
    /// Begins the next batch in this buffer.
    fn begin(&mut self, mut buffer: Buffer, epoch: &Epoch) {
        let items = epoch.items(self.next);
        buffer.labels.clear();
        buffer.labels.extend(items.iter().map(|&item| epoch.data.labels()[item as usize]));
        let slot = Slot {
            buffer: Arc::new(Mutex::new(buffer)),
            batch: self.next,
            count: items.len(),
            taken: 0,
            done: 0,
            problem: None,
        };
        self.slots.push_back(slot);
        self.next += 1;
    }
}

impl Epoch {
    /// The pictures of a batch.
    fn items(&self, batch: usize) -> &[u32] {
        &self.order[self.batches[batch].clone()]
    }

    /// Makes some pictures of a batch; the error says at which one it broke off.
    fn make(
        &self,
        batch: usize,
        pictures: Range<usize>,
        buffer: &Mutex<Buffer>,
        maker: &mut Maker,
    ) -> Result<(), (usize, Error)> {
        let items = self.items(batch);
        let size: usize = self.data.shape().iter().product();
        for picture in pictures {
            maker.planes.resize(size, 0);
            self.draw(items[picture] as usize, maker).map_err(|error| (picture, error))?;
            let mut buffer = buffer.lock().unwrap_or_else(PoisonError::into_inner);
            buffer.images.resize(items.len() * size, 0.0);
            self.normalizer.apply(&maker.planes, &mut buffer.images[picture * size..][..size]);
        }
        Ok(())
    }

    /// Makes a picture: its planes.
    fn draw(&self, item: usize, maker: &mut Maker) -> Result<()> {
        let Maker { making, scratch, planes } = maker;
        let [seed, epoch] = self.key;
        let key = RandomKey { seed, epoch, index: item as u64 };
        match &self.augmenter {
            None => self.data.make(item, making, planes),
            Some(augmenter) if self.at_own_size => {
                self.data.with_whole(item, making, |source| augmenter.apply_to(source, key, scratch, planes))
            }
            Some(augmenter) => {
                self.data.with_fitted(item, making, |source| augmenter.apply_to(source, key, scratch, planes))
            }
        }
    }
}

#[cfg(test)]
mod tests;
