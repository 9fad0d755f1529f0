//! A model that is served under a name: where it comes from, the version that answers, and how it is loaded again.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use convnet::Result;
use convnet::classifier::Classifier;
use convnet::exec::Engine;

use crate::sessions::Sessions;

/// Where a model comes from: a name, and what loads its classifier, at first and on each reload.
#[derive(Clone)]
pub struct Source {
    pub(crate) name: String,
    pub(crate) load: Arc<dyn Fn() -> Result<Classifier> + Send + Sync>,
}

impl Source {
    /// A model of that name.
    pub fn new(name: impl Into<String>, load: impl Fn() -> Result<Classifier> + Send + Sync + 'static) -> Source {
        Source { name: name.into(), load: Arc::new(load) }
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
    /// Pictures between admission and answer.
    pub(crate) under_way: AtomicUsize,
    /// One reload at a time.
    pub(crate) reload: tokio::sync::Mutex<()>,
}

impl Model {
    /// Loads a model for the first time.
    pub(crate) fn new(source: Source, engine: &Engine, max_batch: usize) -> Result<Model> {
        let sessions = Sessions::new((source.load)()?, engine, max_batch, 1)?;
        let (current, under_way) = (RwLock::new(Arc::new(sessions)), AtomicUsize::new(0));
        Ok(Model { source, current, under_way, reload: tokio::sync::Mutex::new(()) })
    }

    pub(crate) fn name(&self) -> &str {
        &self.source.name
    }

    /// The version that answers now.
    pub(crate) fn current(&self) -> Arc<Sessions> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// How long the engine takes for all that is under way.
    pub(crate) fn backlog(&self) -> Duration {
        self.current().predicted(self.under_way.load(Ordering::Acquire))
    }

    /// Loads, plans and tries the model beside the version that answers, and puts it in that one's place. After an error the old
    /// version goes on answering.
    pub(crate) fn load_again(&self, engine: &Engine, max_batch: usize) -> Result<u64> {
        let version = self.current().version + 1;
        let sessions = Arc::new(Sessions::new((self.source.load)()?, engine, max_batch, version)?);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = sessions;
        Ok(version)
    }
}
