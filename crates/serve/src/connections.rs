//! The open connections. Where there are as many as may be, the one that has been without progress longest is closed for the next
//! one; a connection whose pictures are under way is never.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::sync::Notify;

use crate::sessions::lock;

/// An open connection.
#[derive(Debug)]
pub(crate) struct Entry {
    /// When a request began, or the connection.
    progress: Mutex<Instant>,
    /// Requests whose pictures are under way.
    busy: AtomicUsize,
    /// Told to close.
    pub(crate) closed: Notify,
}

impl Entry {
    /// A request has come.
    pub(crate) fn touch(&self) {
        *lock(&self.progress) = Instant::now();
    }

    /// Pictures of a request are under way.
    pub(crate) fn begin(&self) {
        self.busy.fetch_add(1, Ordering::AcqRel);
    }

    /// They are no longer.
    pub(crate) fn end(&self) {
        self.busy.fetch_sub(1, Ordering::AcqRel);
        self.touch();
    }
}

/// All open connections.
#[derive(Debug)]
pub(crate) struct Connections {
    open: Mutex<Open>,
    most: usize,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    entries: HashMap<u64, Arc<Entry>>,
}

/// A connection's place among them, until it is dropped.
pub(crate) struct Place {
    connections: Arc<Connections>,
    number: u64,
    pub(crate) entry: Arc<Entry>,
}

impl Connections {
    pub(crate) fn new(most: usize) -> Arc<Connections> {
        Arc::new(Connections { open: Mutex::default(), most: most.max(1) })
    }

    /// Connections that are open.
    pub(crate) fn count(&self) -> usize {
        lock(&self.open).entries.len()
    }

    /// A place for a new connection, for which another may have to close; nothing where all are busy.
    pub(crate) fn open(self: &Arc<Self>) -> Option<Place> {
        let mut open = lock(&self.open);
        if open.entries.len() >= self.most {
            let idle = open.entries.iter().filter(|(_, entry)| entry.busy.load(Ordering::Acquire) == 0);
            let oldest = idle.min_by_key(|(_, entry)| *lock(&entry.progress)).map(|(&number, _)| number)?;
            if let Some(entry) = open.entries.remove(&oldest) {
                entry.closed.notify_one();
            }
        }
        let number = open.next;
        open.next += 1;
        let entry =
            Arc::new(Entry { progress: Mutex::new(Instant::now()), busy: AtomicUsize::new(0), closed: Notify::new() });
        open.entries.insert(number, Arc::clone(&entry));
        Some(Place { connections: Arc::clone(self), number, entry })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.connections.open).entries.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_without_progress_makes_room() {
        let connections = Connections::new(2);
        let first = connections.open().unwrap();
        let second = connections.open().unwrap();
        first.entry.touch();
        let third = connections.open().unwrap();
        assert_eq!(connections.count(), 2);
        first.entry.begin();
        third.entry.begin();
        assert!(connections.open().is_none(), "both are busy");
        first.entry.end();
        let fourth = connections.open().unwrap();
        drop((first, second, third, fourth));
        assert_eq!(connections.count(), 0);
    }
}
