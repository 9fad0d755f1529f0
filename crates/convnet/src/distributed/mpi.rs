//! Processes over MPI, by the crate `mpi`. One thread makes all calls, so the library need not be made for several.

use std::collections::VecDeque;
use std::thread;
use std::time::{Duration, Instant};

use ::mpi::Count;
use ::mpi::Threading;
use ::mpi::datatype::PartitionMut;
use ::mpi::environment::Universe;
use ::mpi::request::{Request, Scope, scope};
use ::mpi::topology::SimpleCommunicator;
use ::mpi::traits::{Communicator, CommunicatorCollectives, Destination, Source};

use super::rounds::{Round, rounds};
use super::{Collectives, Processes};
use crate::{Error, Result};

/// For how long an exchange is looked at without a pause, and the pauses after that.
const BUSY: Duration = Duration::from_micros(20);
const PAUSE: Duration = Duration::from_micros(50);

/// Bytes that a process sends before it waits for what has been sent. Large messages go one by one: streams from several processes to
/// one overflow the queue before its link, and are sent again.
const AT_ONCE: usize = 64 << 10;

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

/// A number of elements as MPI counts them.
fn count(length: usize) -> Result<Count> {
    Count::try_from(length).map_err(|_| Error::invalid(format!("{length} numbers: more than MPI can send at once")))
}

/// Numbers of elements and where they begin.
fn counts(lengths: &[usize]) -> Result<[Vec<Count>; 2]> {
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

    fn swap(&mut self, send: &[(usize, &[f32])], receive: Vec<(usize, &mut [f32])>) -> Result<()> {
        for length in send.iter().map(|(_, part)| part.len()).chain(receive.iter().map(|(_, part)| part.len())) {
            count(length)?;
        }
        let rounds = rounds(self.rank(), self.size(), send, receive);
        let process = |of: usize| self.world.process_at_rank(of as Count);
        scope(|scope| {
            let (mut under_way, mut bytes) = (VecDeque::new(), 0);
            for Round { send, receive } in rounds {
                let more = size_of::<f32>() * send.iter().map(|(_, part)| part.len()).sum::<usize>();
                while bytes + more > AT_ONCE
                    && let Some((of_oldest, oldest)) = under_way.pop_front()
                {
                    Vec::into_iter(oldest).for_each(wait);
                    bytes -= of_oldest;
                }
                // What is sent comes first: where Open MPI 4 is told of the receiving first, the messages of both directions go over TCP
                // one after the other.
                let sent = send.into_iter().map(|(to, part)| process(to).immediate_send(scope, part));
                let mut requests: Vec<_> = sent.collect();
                requests.extend(receive.into_iter().map(|(of, part)| process(of).immediate_receive_into(scope, part)));
                under_way.push_back((more, requests));
                bytes += more;
            }
            under_way.into_iter().flat_map(|(_, requests)| requests).for_each(wait);
        });
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
