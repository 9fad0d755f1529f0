//! What plans run on: a pool of threads and an instruction set.

use crate::{Error, Result};
use convnet_kernels::simd::Isa;
use convnet_kernels::threads::Threads;
use std::sync::Arc;

/// Most threads that an engine has.
const MAX_THREADS: usize = 1024;

/// Threads and the instruction set of this machine's CPU. Clones share the threads.
#[derive(Clone)]
pub struct Engine {
    threads: Arc<Threads>,
    isa: Isa,
}

impl Engine {
    /// An engine of `threads` threads, 0 for one per core, with the fastest instruction set that the CPU has or the one
    /// that the environment variable `CONVNET_ISA` names (`avx512`, `avx2`, `portable`).
    ///
    /// # Errors
    /// [`Error::Invalid`] when the variable names a set that is unknown or that this CPU lacks, when there are more than
    /// 1,024 threads, or when the operating system starts no more.
    pub fn new(threads: usize) -> Result<Engine> {
        let isa = match std::env::var("CONVNET_ISA") {
            Ok(name) if !name.is_empty() => Isa::named(&name).ok_or_else(|| {
                let present: Vec<_> = Isa::NAMES.into_iter().filter(|name| Isa::named(name).is_some()).collect();
                Error::invalid(format!("CONVNET_ISA: expected one of {} on this CPU, got '{name}'", present.join(", ")))
            })?,
            Ok(_) | Err(_) => Isa::best(),
        };
        Engine::with_isa(threads, isa)
    }

    /// An engine with a given instruction set.
    pub(crate) fn with_isa(threads: usize, isa: Isa) -> Result<Engine> {
        let threads = match threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            given if given > MAX_THREADS => {
                return Err(Error::invalid(format!("threads: expected at most {MAX_THREADS}, got {given}")));
            }
            given => given,
        };
        let threads = Threads::new(threads).map_err(|e| Error::invalid(format!("starting {threads} threads: {e}")))?;
        Ok(Engine { threads: Arc::new(threads), isa })
    }

    /// Number of threads that compute.
    pub fn threads(&self) -> usize {
        self.threads.count()
    }

    /// `avx512`, `avx2` or `portable`.
    pub fn isa(&self) -> &'static str {
        self.isa.name()
    }

    pub(crate) fn pool(&self) -> &Threads {
        &self.threads
    }

    pub(crate) fn set(&self) -> Isa {
        self.isa
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Engine of {} threads, {}", self.threads(), self.isa())
    }
}
