//! Independent items of work on all cores, for what does not run on an engine: reading, decoding, drawing first weights.

use std::sync::{Mutex, PoisonError};
use std::thread;

/// Calls `work` with each item, on all cores of this machine; `scratch` makes what a thread keeps from one item to the next.
///
/// # Panics
/// When `work` does.
pub(crate) fn for_each<I, S>(items: I, scratch: impl Fn() -> S + Sync, work: impl Fn(I::Item, &mut S) + Sync)
where
    I: IntoIterator<IntoIter: ExactSizeIterator + Send>,
{
    let items = items.into_iter();
    let threads = thread::available_parallelism().map_or(1, usize::from).min(items.len());
    let items = Mutex::new(items);
    let worker = || {
        let mut scratch = scratch();
        loop {
            // The lock is free again before the work begins.
            let item = items.lock().unwrap_or_else(PoisonError::into_inner).next();
            match item {
                Some(item) => work(item, &mut scratch),
                None => return,
            }
        }
    };
    thread::scope(|scope| {
        for _ in 1..threads {
            // A thread that the system refuses leaves its share to the others.
            let _ = thread::Builder::new().name("helper".into()).spawn_scoped(scope, worker);
        }
        worker();
    });
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn each_item_is_seen_once() {
        for count in [0, 1, 1000] {
            let mut seen = vec![0; count];
            let threads = AtomicUsize::new(0);
            let scratch = || threads.fetch_add(1, Ordering::Relaxed);
            for_each(seen.iter_mut().enumerate().collect::<Vec<_>>(), scratch, |(i, seen), _| *seen += i + 1);
            assert!(seen.iter().enumerate().all(|(i, &seen)| seen == i + 1));
            assert!(threads.into_inner() <= count.max(1));
        }
    }
}
