//! Processes over MPI, by the crate `mpi`. One thread makes all calls, so the library need not be made for several.

use std::thread;
use std::time::{Duration, Instant};

use ::mpi::Count;
use ::mpi::Threading;
use ::mpi::datatype::{Partition, PartitionMut};
use ::mpi::environment::Universe;
use ::mpi::request::{Request, Scope, scope};
use ::mpi::topology::SimpleCommunicator;
use ::mpi::traits::{Communicator, CommunicatorCollectives};

use super::{Collectives, Processes};
use crate::{Error, Result};

/// For how long an exchange is looked at without a pause, and the pauses after that.
const BUSY: Duration = Duration::from_micros(20);
const PAUSE: Duration = Duration::from_micros(50);

/// Joins the processes that a launcher (`mpirun`, `srun`, …) has started this one with. To be called once in a program.
///
/// # Errors
/// [`Error::Invalid`] when MPI has been initialised before; [`Error::Thread`] when the system refuses a thread.
pub fn join() -> Result<Processes> {
    Processes::start(|| {
        let begun = ::mpi::initialize_with_threading(Threading::Funneled);
        let (universe, _) = begun.ok_or_else(|| Error::invalid("MPI has been initialised before in this program"))?;
        let world = universe.world().duplicate();
        let local = world.split_shared(world.rank()).size();
        Ok(World { world, local, _universe: universe })
    })
}

/// All processes. The communicator is dropped before MPI ends.
struct World {
    world: SimpleCommunicator,
    local: Count,
    _universe: Universe,
}

/// Numbers of elements and where they begin, as MPI counts them.
fn counts(lengths: &[usize]) -> Result<[Vec<Count>; 2]> {
    let count = |length: usize| {
        Count::try_from(length).map_err(|_| Error::invalid(format!("{length} numbers: more than MPI can send at once")))
    };
    let begins = lengths.iter().scan(0, |next, length| {
        let begin = *next;
        *next += length;
        Some(begin)
    });
    Ok([lengths.iter().map(|&length| count(length)).collect::<Result<_>>()?, begins.map(count).collect::<Result<_>>()?])
}

/// Waits without taking a core from those that compute: MPI itself would look again and again.
fn wait<'a, D: ?Sized, S: Scope<'a>>(mut request: Request<'a, D, S>) {
    let start = Instant::now();
    while let Err(pending) = request.test() {
        request = pending;
        if start.elapsed() < BUSY { thread::yield_now() } else { thread::sleep(PAUSE) }
    }
}

impl Collectives for World {
    fn rank(&self) -> usize {
        self.world.rank() as usize
    }

    fn size(&self) -> usize {
        self.world.size() as usize
    }

    fn local_size(&self) -> usize {
        self.local.max(1) as usize
    }

    fn all_to_all(
        &mut self,
        (send, sent): (&[f32], &[usize]),
        (receive, received): (&mut [f32], &[usize]),
    ) -> Result<()> {
        let ([sent, from], [received, to]) = (counts(sent)?, counts(received)?);
        let (send, mut receive) = (Partition::new(send, sent, from), PartitionMut::new(receive, received, to));
        scope(|scope| wait(self.world.immediate_all_to_all_varcount_into(scope, &send, &mut receive)));
        Ok(())
    }

    fn all_gather(&mut self, send: &[f32], receive: &mut [f32], lengths: &[usize]) -> Result<()> {
        // As an exchange in which everybody gets the same: MPI's own way over TCP often sends to one side first, then to the other.
        let ([sent, _], [received, to]) = (counts(&vec![send.len(); lengths.len()])?, counts(lengths)?);
        let same = vec![0; sent.len()];
        let (send, mut receive) = (Partition::new(send, sent, same), PartitionMut::new(receive, received, to));
        scope(|scope| wait(self.world.immediate_all_to_all_varcount_into(scope, &send, &mut receive)));
        Ok(())
    }

    fn all_gather_bytes(&mut self, send: &[u8]) -> Result<Vec<Vec<u8>>> {
        let mut lengths = vec![0_u64; self.size()];
        self.world.all_gather_into(&(send.len() as u64), &mut lengths[..]);
        let lengths: Vec<usize> = lengths.into_iter().map(|length| length as usize).collect();
        let [received, to] = counts(&lengths)?;
        let mut all = vec![0_u8; lengths.iter().sum()];
        self.world.all_gather_varcount_into(send, &mut PartitionMut::new(&mut all[..], received, to));
        let mut rest = &all[..];
        Ok(lengths.into_iter().map(|length| rest.split_off(..length).unwrap_or_default().to_vec()).collect())
    }

    fn abort(&mut self) {
        self.world.abort(1)
    }
}
