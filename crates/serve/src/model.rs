//! A model that is served under a name: where it comes from, the version that answers, and how it is loaded again.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use convnet::Result;
use convnet::classifier::Classifier;
use convnet::exec::Engine;

use crate::sessions::{Sessions, lock};

type Load = dyn Fn() -> Result<Classifier> + Send + Sync;
type Stamp = dyn Fn() -> Option<u64> + Send + Sync;

/// Where a model comes from: a name, and what loads its classifier, at first and on each reload.
#[derive(Clone)]
pub struct Source {
    pub(crate) name: String,
    pub(crate) load: Arc<Load>,
    /// What the server looks at to load the model by itself, where it is to do so.
    pub(crate) stamp: Option<Arc<Stamp>>,
}

impl Source {
    /// A model of that name.
    pub fn new(name: impl Into<String>, load: impl Fn() -> Result<Classifier> + Send + Sync + 'static) -> Source {
        Source { name: name.into(), load: Arc::new(load), stamp: None }
    }

    /// The same model, which the server loads by itself: at first, once there is a stamp, and again whenever it is another one. A stamp
    /// is a number that changes with the model's files; there is none before there is anything to load.
    #[must_use]
    pub fn following(self, stamp: impl Fn() -> Option<u64> + Send + Sync + 'static) -> Source {
        Source { stamp: Some(Arc::new(stamp)), ..self }
    }

    /// The stamp of the files as they are now.
    pub(crate) fn now(&self) -> Option<u64> {
        self.stamp.as_ref().and_then(|stamp| stamp())
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A model that is served.
pub(crate) struct Model {
    pub(crate) source: Source,
    current: RwLock<Arc<Sessions>>,
    /// Pictures that are to be computed, from admission on.
    pub(crate) under_way: AtomicUsize,
    /// Tasks that are to be computed, from admission on, by kind.
    tasks: Mutex<BTreeMap<&'static str, usize>>,
    /// The stamp of the files that were loaded last, or tried.
    stamp: Mutex<Option<u64>>,
    /// One reload at a time.
    pub(crate) reload: tokio::sync::Mutex<()>,
}

impl Model {
    /// Loads a model for the first time.
    pub(crate) fn new(source: Source, engine: &Engine, max_batch: usize) -> Result<Model> {
        // Before the files are read: what is written meanwhile is another stamp.
        let stamp = Mutex::new(source.now());
        let sessions = Sessions::new((source.load)()?, engine, max_batch, 1)?;
        let (current, under_way) = (RwLock::new(Arc::new(sessions)), AtomicUsize::new(0));
        Ok(Model { source, current, under_way, tasks: Mutex::default(), stamp, reload: tokio::sync::Mutex::new(()) })
    }

    pub(crate) fn name(&self) -> &str {
        &self.source.name
    }

    /// The version that answers now.
    pub(crate) fn current(&self) -> Arc<Sessions> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// How long the engine takes for all pictures that are under way, and in how many batches.
    pub(crate) fn backlog(&self) -> (Duration, usize) {
        let (sessions, pictures) = (self.current(), self.under_way.load(Ordering::Acquire));
        (sessions.predicted(pictures), pictures.div_ceil(sessions.max_batch()))
    }

    /// How long the engine takes for all tasks that are under way, and for one batch of theirs; nothing where there is none.
    pub(crate) fn backlog_of_tasks(&self) -> Option<(Duration, Duration)> {
        let (sessions, tasks) = (self.current(), lock(&self.tasks));
        if tasks.values().all(|&count| count == 0) {
            return None;
        }
        let all = tasks.iter().map(|(kind, &count)| sessions.predicted_task(kind) * count as u32).sum();
        Some((all, sessions.predicted_step()))
    }

    /// A task of a kind is under way.
    pub(crate) fn begin_task(&self, kind: &'static str) {
        *lock(&self.tasks).entry(kind).or_insert(0) += 1;
    }

    /// It is no longer.
    pub(crate) fn end_task(&self, kind: &'static str) {
        lock(&self.tasks).entry(kind).and_modify(|count| *count = count.saturating_sub(1));
    }

    /// Whether its files have changed since they were loaded or tried, where it follows them.
    pub(crate) fn is_behind(&self) -> bool {
        let now = self.source.now();
        now.is_some() && now != *lock(&self.stamp)
    }

    /// Loads, plans and tries the model beside the version that answers, and puts it in that one's place. After an error the old
    /// version goes on answering.
    pub(crate) fn load_again(&self, engine: &Engine, max_batch: usize) -> Result<u64> {
        *lock(&self.stamp) = self.source.now();
        let version = self.current().version + 1;
        let sessions = Arc::new(Sessions::new((self.source.load)()?, engine, max_batch, version)?);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = sessions;
        Ok(version)
    }
}
