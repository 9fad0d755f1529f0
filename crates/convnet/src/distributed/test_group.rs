//! Processes that are threads of one, for tests.

use std::sync::{Arc, Barrier, Mutex, PoisonError};
use std::thread;

use super::{Collectives, Processes};
use crate::Result;

/// What the threads have laid out for one another, as bytes.
struct Board {
    sent: Vec<Mutex<Vec<Vec<u8>>>>,
    barrier: Barrier,
}

struct Member {
    rank: usize,
    board: Arc<Board>,
}

impl Member {
    /// Lays out a part for each thread, and takes what each has laid out for this one.
    fn trade(&self, parts: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
        let lock = |rank: usize| self.board.sent[rank].lock().unwrap_or_else(PoisonError::into_inner);
        *lock(self.rank) = parts;
        self.board.barrier.wait();
        let taken = (0..self.size()).map(|rank| lock(rank)[self.rank].clone()).collect();
        self.board.barrier.wait();
        taken
    }
}

fn bytes(floats: &[f32]) -> Vec<u8> {
    floats.iter().flat_map(|float| float.to_le_bytes()).collect()
}

impl Collectives for Member {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.board.sent.len()
    }

    fn local_size(&self) -> usize {
        self.size()
    }

    fn swap(&mut self, send: &[(usize, &[f32])], receive: Vec<(usize, &mut [f32])>) -> Result<()> {
        let mut parts = vec![Vec::new(); self.size()];
        send.iter().for_each(|(to, part)| parts[*to].extend(bytes(part)));
        let mut all = self.trade(parts);
        for (of, part) in receive {
            let rest = all[of].split_off(4 * part.len());
            let floats = all[of].chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap()));
            part.iter_mut().zip(floats).for_each(|(target, float)| *target = float);
            all[of] = rest;
        }
        assert!(all.iter().all(Vec::is_empty), "what is sent is received");
        Ok(())
    }

    fn all_gather_bytes(&mut self, send: &[u8]) -> Result<Vec<Vec<u8>>> {
        Ok(self.trade(vec![send.to_vec(); self.size()]))
    }

    fn abort(&mut self) {
        unreachable!("a test does not leave the others alone");
    }
}

/// Runs `work` in so many threads that are processes to one another, and collects what they return by their numbers.
pub(crate) fn together<T: Send>(size: usize, work: impl Fn(Processes) -> T + Sync) -> Vec<T> {
    let sent = (0..size).map(|_| Mutex::default()).collect();
    let board = Arc::new(Board { sent, barrier: Barrier::new(size) });
    let (work, board) = (&work, &board);
    thread::scope(|scope| {
        let run = |rank: usize| {
            let board = Arc::clone(board);
            scope.spawn(move || work(Processes::start(move || Ok(Member { rank, board })).unwrap()))
        };
        let threads: Vec<_> = (0..size).map(run).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}
