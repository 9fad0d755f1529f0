//! How much is under way: pictures between admission and answer, and bytes of requests' bodies. Where there is no room a request is
//! refused before its body is read. A body takes room as it arrives, so that a slow one holds no more than it has sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::connections::Entry;
use crate::model::Model;

/// A number of things of which there may be so many.
#[derive(Debug)]
struct Bounded {
    used: AtomicUsize,
    most: usize,
}

impl Bounded {
    fn new(most: usize) -> Bounded {
        Bounded { used: AtomicUsize::new(0), most }
    }

    /// Takes so many more, if there is room.
    fn take(&self, count: usize) -> bool {
        let more = |used: usize| used.checked_add(count).filter(|&used| used <= self.most);
        self.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok()
    }

    fn give_back(&self, count: usize) {
        self.used.fetch_sub(count, Ordering::AcqRel);
    }

    fn used(&self) -> usize {
        self.used.load(Ordering::Acquire)
    }
}

/// What may be under way.
#[derive(Debug)]
pub(crate) struct Admission {
    pictures: Bounded,
    bytes: Bounded,
}

impl Admission {
    pub(crate) fn new(pictures: usize, bytes: usize) -> Arc<Admission> {
        Arc::new(Admission { pictures: Bounded::new(pictures), bytes: Bounded::new(bytes) })
    }

    /// Whether a request with one picture and so many bytes would find room now.
    pub(crate) fn has_room(&self, bytes: usize) -> bool {
        let fits = |bounded: &Bounded, more: usize| bounded.used().saturating_add(more) <= bounded.most;
        fits(&self.pictures, 1) && fits(&self.bytes, bytes)
    }

    /// Pictures under way.
    pub(crate) fn pictures(&self) -> usize {
        self.pictures.used()
    }

    /// Most pictures under way.
    pub(crate) fn most_pictures(&self) -> usize {
        self.pictures.most
    }
}

/// What a request has under way, until it is dropped.
pub(crate) struct Permit {
    admission: Arc<Admission>,
    model: Arc<Model>,
    /// The connection that it has come by, which is not closed while pictures are under way.
    connection: Option<Arc<Entry>>,
    pictures: usize,
    bytes: usize,
    /// What is yet to be computed.
    to_compute: Load,
}

/// What a request makes the engine compute.
#[derive(Clone, Copy, PartialEq)]
enum Load {
    Nothing,
    Pictures(usize),
    /// A task of that kind.
    Task(&'static str),
}

impl Permit {
    /// A permit for nothing yet.
    pub(crate) fn new(admission: &Arc<Admission>, model: &Arc<Model>, connection: Option<Arc<Entry>>) -> Permit {
        let (admission, model) = (Arc::clone(admission), Arc::clone(model));
        Permit { admission, model, connection, pictures: 0, bytes: 0, to_compute: Load::Nothing }
    }

    /// Takes room for so many more bytes; whether there was any.
    pub(crate) fn add_bytes(&mut self, bytes: usize) -> bool {
        let fits = self.admission.bytes.take(bytes);
        self.bytes += if fits { bytes } else { 0 };
        fits
    }

    /// Takes room for so many pictures, once; whether there was any.
    pub(crate) fn add_pictures(&mut self, pictures: usize) -> bool {
        let fits = self.take(pictures, Load::Pictures(pictures));
        if fits {
            self.model.under_way.fetch_add(pictures, Ordering::AcqRel);
        }
        fits
    }

    /// Takes room for a task of a kind about one picture, once; whether there was any.
    pub(crate) fn add_task(&mut self, kind: &'static str) -> bool {
        let fits = self.take(1, Load::Task(kind));
        if fits {
            self.model.begin_task(kind);
        }
        fits
    }

    fn take(&mut self, pictures: usize, load: Load) -> bool {
        if !self.admission.pictures.take(pictures) {
            return false;
        }
        if let Some(connection) = &self.connection {
            connection.begin();
        }
        (self.pictures, self.to_compute) = (pictures, load);
        true
    }

    /// Says that the engine has done its part. The room is kept until the answer has been sent, but nobody waits for it, and the
    /// connection may be closed for others again.
    pub(crate) fn computed(&mut self) {
        match std::mem::replace(&mut self.to_compute, Load::Nothing) {
            Load::Nothing => return,
            Load::Pictures(pictures) => drop(self.model.under_way.fetch_sub(pictures, Ordering::AcqRel)),
            Load::Task(kind) => self.model.end_task(kind),
        }
        if let Some(connection) = &self.connection {
            connection.end();
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.computed();
        self.admission.pictures.give_back(self.pictures);
        self.admission.bytes.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_taken_than_fits_and_all_of_it_is_given_back() {
        let bounded = Bounded::new(4);
        assert!(bounded.take(3) && !bounded.take(2) && bounded.take(1) && !bounded.take(usize::MAX));
        bounded.give_back(4);
        assert_eq!(bounded.used(), 0);
        let admission = Admission::new(1, 100);
        assert!(admission.has_room(100) && !admission.has_room(101));
        assert!(admission.pictures.take(1) && !admission.has_room(1));
    }
}
