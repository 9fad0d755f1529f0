//! The processes that a launcher (`mpirun`, `srun`) has started this one with. The first of them speaks; the others say no more than
//! that something has failed in them.

use std::env;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use convnet::distributed::{Launch, Processes, launched};

/// The processes, once they are joined: they are left when what there is to say has been said, so that no launcher ends a process
/// that still speaks.
static JOINED: Mutex<Option<Processes>> = Mutex::new(None);

/// Time in which the first process says what all of them have found.
const PATIENCE: Duration = Duration::from_secs(3);

/// What has started this process as one of several.
pub(crate) fn launch() -> Option<Launch> {
    launched(|name| env::var(name).ok())
}

/// Whether this process is the first of those that were started together.
pub(crate) fn is_first() -> bool {
    launch().is_none_or(|launch| launch.rank == 0)
}

/// Whether this process is to tell an error. Before the processes have joined, all find the same command line: then the first alone tells what
/// is wrong with it, and the others leave later, since a launcher ends all of them once one has left.
pub(crate) fn tells(is_usage: bool) -> bool {
    let joined = JOINED.lock().unwrap_or_else(PoisonError::into_inner).is_some();
    if joined || is_first() {
        return true;
    }
    thread::sleep(PATIENCE);
    !is_usage
}

/// Joins the others; alone where no launcher has started this process.
pub(crate) fn join() -> anyhow::Result<Processes> {
    let Some(launch) = launch() else { return Ok(Processes::alone()) };
    let processes = connect(launch)?;
    *JOINED.lock().unwrap_or_else(PoisonError::into_inner) = Some(processes.clone());
    Ok(processes)
}

/// Takes leave of the others, which waits until all do; where something has failed of which they know nothing, ends them.
pub(crate) fn leave(failed: bool) {
    let joined = JOINED.lock().unwrap_or_else(PoisonError::into_inner).take();
    joined.iter().filter(|_| failed).for_each(Processes::abort);
}

#[cfg(feature = "mpi")]
fn connect(launch: Launch) -> anyhow::Result<Processes> {
    let processes = convnet::distributed::mpi::join()?;
    anyhow::ensure!(
        processes.size() == launch.size,
        "{} has started {} processes, but MPI knows of {}: the launcher is not that of the MPI library that this program was built with",
        launch.launcher,
        launch.size,
        processes.size()
    );
    Ok(processes)
}

#[cfg(not(feature = "mpi"))]
fn connect(Launch { launcher, size, .. }: Launch) -> anyhow::Result<Processes> {
    anyhow::bail!(
        "{launcher} has started {size} processes, but this program is built without MPI: build it with `cargo build --release -p \
         convnet-cli --features mpi`, or start it alone"
    )
}
