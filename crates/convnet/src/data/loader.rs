//! Batches for one epoch, prepared on background threads.
//!
//! Worker `w` of `n` makes the batches w, w + n, w + 2n, … and the loader takes from the workers in turn, so the order is
//! that of the options alone, whatever the threads do. Each worker owns a few buffers: a [`Batch`] that is dropped
//! hands its buffer back, so nothing is allocated once the first ones are filled, and a slow net makes the workers wait.

use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use super::augment::{Augmentation, Augmenter, Given, PictureRef, RandomKey, Scratch};
use super::{Dataset, Normalization, Normalizer};
use crate::random::Random;
use crate::{Error, Result};

/// Batches that a worker may have ready or under way.
const BUFFERS_PER_WORKER: usize = 3;

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
    /// Background threads, at least 1.
    pub workers: usize,
}

/// One epoch of batches: an iterator.
pub struct Loader {
    workers: Vec<Worker>,
    start: usize,
    next: usize,
    end: usize,
}

/// Normalised pictures and their classes. Dropping it hands its memory back to the [`Loader`].
pub struct Batch {
    buffer: Buffer,
    shape: [usize; 3],
    home: SyncSender<Message>,
}

#[derive(Default)]
struct Buffer {
    images: Vec<f32>,
    labels: Vec<u32>,
    /// Why there is no batch.
    problem: Option<Error>,
}

/// What a worker needs to change pictures.
#[derive(Default)]
struct Changed {
    planes: Vec<u8>,
    scratch: Scratch,
}

/// What a worker receives.
enum Message {
    Fill(Buffer),
    Stop,
}

struct Worker {
    shape: [usize; 3],
    ready: Option<Receiver<Buffer>>,
    free: SyncSender<Message>,
    thread: Option<JoinHandle<()>>,
}

/// What the workers share.
struct Epoch {
    data: Arc<Dataset>,
    normalizer: Normalizer,
    augmenter: Option<Augmenter>,
    /// Seed and number of the epoch.
    key: [u64; 2],
    order: Vec<u32>,
    batch_size: usize,
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

    /// The same with pictures that are changed at random, by seed and epoch of the order.
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
        if batch_size == 0 || workers == 0 {
            let (setting, found) = if workers == 0 { ("workers", workers) } else { ("batch_size", batch_size) };
            return Err(Error::setting(setting, "at least 1", found));
        }
        let normalizer = normalization.normalizer(data.shape()[0])?;
        let target @ [_, height, width] = data.shape();
        let augmenter = match augmentation.0.is_empty() {
            true => None,
            false => Some(Augmenter::new(augmentation, Given::Size([height, width]), target, normalization)?),
        };
        let key = match order {
            Order::Sequential | Order::Sample { .. } => [0, 0],
            Order::Shuffled { seed, epoch } => [seed, epoch],
        };
        let order = order.of(data.len())?;
        let end = order.len().div_ceil(batch_size);
        let epoch = Arc::new(Epoch { data, normalizer, augmenter, key, order, batch_size });
        let start = start_batch.min(end);
        let workers = workers.min(end - start);
        let worker = |w| Worker::start(Arc::clone(&epoch), (start + w..end).step_by(workers));
        Ok(Loader { workers: (0..workers).map(worker).collect::<Result<_>>()?, start, next: start, end })
    }
}

impl fmt::Debug for Loader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loader").field("next", &self.next).field("end", &self.end).finish_non_exhaustive()
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
        if self.next == self.end {
            return None;
        }
        let turn = (self.next - self.start) % self.workers.len();
        self.next += 1;
        Some(self.workers[turn].take())
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.end - self.next, Some(self.end - self.next))
    }
}

impl ExactSizeIterator for Loader {}

impl Order {
    /// Indices of `len` pictures in this order.
    fn of(self, len: usize) -> Result<Vec<u32>> {
        let len = u32::try_from(len).map_err(|_| Error::invalid(format!("{len} pictures: at most {}", u32::MAX)))?;
        let mut order: Vec<u32> = (0..len).collect();
        match self {
            Order::Sequential => {}
            Order::Shuffled { seed, epoch } => Random::stream(seed, *b"shuffle.", epoch).shuffle(&mut order),
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
        // Its worker may have ended: then the memory is simply freed.
        let _ = self.home.try_send(Message::Fill(std::mem::take(&mut self.buffer)));
    }
}

impl Worker {
    /// A thread that makes the batches of the given numbers, in their order.
    fn start(epoch: Arc<Epoch>, batches: impl Iterator<Item = usize> + Send + 'static) -> Result<Worker> {
        let (filled, ready) = sync_channel(BUFFERS_PER_WORKER);
        // One place more than there are buffers, so that the order to stop never waits.
        let (free, empty) = sync_channel(BUFFERS_PER_WORKER + 1);
        for _ in 0..BUFFERS_PER_WORKER {
            let _ = free.try_send(Message::Fill(Buffer::default()));
        }
        let shape = epoch.data.shape();
        let work = move || {
            let mut changed = Changed::default();
            for batch in batches {
                let Ok(Message::Fill(mut buffer)) = empty.recv() else { return };
                buffer.problem = epoch.fill(batch, &mut buffer, &mut changed).err();
                if filled.send(buffer).is_err() {
                    return;
                }
            }
        };
        let thread = thread::Builder::new().name("loader".into()).spawn(work);
        let thread = thread.map_err(Error::thread("loading"))?;
        Ok(Worker { shape, ready: Some(ready), free, thread: Some(thread) })
    }

    /// Its next batch, which must be one that it was told to make.
    fn take(&self) -> Result<Batch> {
        let buffer = self.ready.as_ref().and_then(|ready| ready.recv().ok());
        let mut buffer = buffer.expect("a worker ends only after its last batch");
        match buffer.problem.take() {
            Some(problem) => Err(problem),
            None => Ok(Batch { buffer, shape: self.shape, home: self.free.clone() }),
        }
    }
}

impl Drop for Worker {
    /// Stops the thread wherever it is: waiting to send (nobody receives any more), or waiting for a buffer.
    fn drop(&mut self) {
        self.ready = None;
        let _ = self.free.try_send(Message::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Epoch {
    fn fill(&self, batch: usize, buffer: &mut Buffer, changed: &mut Changed) -> Result<()> {
        let start = batch * self.batch_size;
        let items = &self.order[start..self.order.len().min(start.saturating_add(self.batch_size))];
        let size: usize = self.data.shape().iter().product();
        buffer.labels.clear();
        buffer.labels.extend(items.iter().map(|&item| self.data.labels()[item as usize]));
        buffer.images.resize(items.len() * size, 0.0);
        for (out, &item) in buffer.images.chunks_exact_mut(size).zip(items) {
            let planes = self.data.image(item as usize);
            let Some(augmenter) = &self.augmenter else {
                self.normalizer.apply(planes, out);
                continue;
            };
            let [seed, epoch] = self.key;
            let key = RandomKey { seed, epoch, index: u64::from(item) };
            let Changed { planes: made, scratch } = changed;
            made.resize(size, 0);
            augmenter.apply(PictureRef { shape: self.data.shape(), planes }, key, scratch, made)?;
            self.normalizer.apply(made, out);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// 103 pictures of 2 channels; the first byte of a picture and its label are its index.
    fn data() -> Arc<Dataset> {
        let images = (0..103).flat_map(|i| [i, 0, 0, 255]).collect();
        let classes = (0..103).map(|i| i.to_string()).collect();
        Arc::new(Dataset::new("t", [2, 1, 2], images, (0..103).collect(), classes).unwrap())
    }

    fn loader(batch_size: usize, order: Order, start_batch: usize, workers: usize) -> Loader {
        let options = LoaderOptions { batch_size, order, start_batch, workers };
        Loader::new(data(), &Normalization::unit(2), options).unwrap()
    }

    fn labels(batches: impl Iterator<Item = Result<Batch>>) -> Vec<Vec<u32>> {
        batches.map(|batch| batch.unwrap().labels().to_vec()).collect()
    }

    const SHUFFLED: Order = Order::Shuffled { seed: 5, epoch: 2 };

    #[test]
    fn an_epoch_has_every_picture_once_normalised() {
        let mut seen = Vec::new();
        for batch in loader(10, SHUFFLED, 0, 2).map(Result::unwrap) {
            assert_eq!(batch.shape(), [batch.len(), 2, 1, 2]);
            for (image, &label) in batch.images().chunks(4).zip(batch.labels()) {
                assert_eq!(image, [label as f32 / 255.0, 0.0, 0.0, 1.0]);
            }
            seen.extend_from_slice(batch.labels());
        }
        assert_ne!(seen, (0..103).collect::<Vec<_>>());
        seen.sort_unstable();
        assert_eq!(seen, (0..103).collect::<Vec<_>>());
    }

    #[test]
    fn the_order_depends_on_seed_and_epoch_alone() {
        let expected = labels(loader(10, SHUFFLED, 0, 1));
        assert_eq!(expected.iter().map(Vec::len).collect::<Vec<_>>(), [10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 3]);
        for workers in [2, 3, 16] {
            assert_eq!(labels(loader(10, SHUFFLED, 0, workers)), expected);
            assert_eq!(labels(loader(10, SHUFFLED, 4, workers)), expected[4..]);
        }
        assert_ne!(labels(loader(10, Order::Shuffled { seed: 5, epoch: 3 }, 0, 1)), expected);
        assert_ne!(labels(loader(10, Order::Shuffled { seed: 6, epoch: 2 }, 0, 1)), expected);
        assert_eq!(labels(loader(100, Order::Sequential, 1, 1)), [[100, 101, 102]]);
    }

    #[test]
    fn sizes_are_known_and_ends_are_clean() {
        let mut loader = loader(50, SHUFFLED, 1, 2);
        assert_eq!(loader.len(), 2);
        assert!(loader.next().is_some() && loader.next().is_some() && loader.next().is_none());
        assert!(loader.next().is_none());
        assert_eq!(self::loader(50, SHUFFLED, 99, 2).count(), 0);
        assert_eq!(self::loader(usize::MAX, SHUFFLED, 0, 2).count(), 1);
        let refused = |batch_size, workers| {
            let options = LoaderOptions { batch_size, order: SHUFFLED, start_batch: 0, workers };
            Loader::new(data(), &Normalization::unit(2), options).is_err()
        };
        assert!(refused(0, 1) && refused(1, 0) && !refused(1, 1));
    }

    #[test]
    fn dropping_early_stops_the_threads() {
        for taken in 0..8 {
            let mut loader = loader(5, SHUFFLED, 0, 2);
            let held: Vec<Batch> = loader.by_ref().take(taken.min(6)).map(Result::unwrap).collect();
            drop(loader);
            drop(held);
        }
    }

    #[test]
    fn buffers_come_round_again() {
        let places: HashSet<_> = loader(2, SHUFFLED, 0, 2).map(|batch| batch.unwrap().images().as_ptr()).collect();
        assert!(places.len() <= 2 * BUFFERS_PER_WORKER, "{} buffers for 52 batches", places.len());
    }

    #[test]
    fn pictures_are_changed_alike_by_any_number_of_workers() {
        let images = (0..20 * 48).map(|i| (i * 7 % 251) as u8).collect();
        let data = Arc::new(Dataset::new("t", [3, 4, 4], images, vec![0; 20], vec!["a".into()]).unwrap());
        let epoch = |augmentation: &str, order: Order, start_batch: usize, workers: usize| {
            let options = LoaderOptions { batch_size: 3, order, start_batch, workers };
            let augmentation = augmentation.parse().unwrap();
            let loader = Loader::augmented(Arc::clone(&data), &Normalization::unit(3), options, &augmentation).unwrap();
            loader.map(|batch| batch.unwrap().images().to_vec()).collect::<Vec<_>>()
        };
        let one = epoch("imagenet_v2", SHUFFLED, 0, 1);
        assert_eq!(epoch("imagenet_v2", SHUFFLED, 0, 4), one);
        assert_eq!(epoch("imagenet_v2", SHUFFLED, 4, 2), one[4..]);
        assert_ne!(epoch("none", SHUFFLED, 0, 1), one);
        assert_ne!(epoch("imagenet_v2", Order::Shuffled { seed: 5, epoch: 3 }, 0, 1), one);
    }
}
