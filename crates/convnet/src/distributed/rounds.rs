//! The order in which processes exchange messages.

/// What a process sends to another one, and what it receives from another one meanwhile.
#[derive(Default)]
pub(super) struct Round<'a> {
    pub(super) send: Vec<(usize, &'a [f32])>,
    pub(super) receive: Vec<(usize, &'a mut [f32])>,
}

/// Messages in rounds: in each, a process sends to the one that is so far behind it and receives from the one that is so far before it.
/// Messages between two keep their order, which alone tells them apart. Empty ones are left out.
pub(super) fn rounds<'a>(
    rank: usize,
    size: usize,
    send: &[(usize, &'a [f32])],
    receive: Vec<(usize, &'a mut [f32])>,
) -> Vec<Round<'a>> {
    let mut rounds: Vec<Round> = (0..size).map(|_| Round::default()).collect();
    for &(to, part) in send.iter().filter(|(_, part)| !part.is_empty()) {
        rounds[(to + size - rank) % size].send.push((to, part));
    }
    for (of, part) in receive.into_iter().filter(|(_, part)| !part.is_empty()) {
        rounds[(rank + size - of) % size].receive.push((of, part));
    }
    rounds
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Messages of one process to another: their lengths, in order.
    fn lengths(from: usize, to: usize) -> [usize; 3] {
        [1 + from, 0, 10 + to]
    }

    #[test]
    fn both_ends_of_a_message_are_in_one_round_and_each_process_hears_from_one() {
        let numbers = [0.0; 32];
        for size in [1, 2, 3, 5, 8] {
            let mut sent = Vec::new();
            let mut received = Vec::new();
            for rank in 0..size {
                let others = || (0..size).flat_map(|other| [0, 1, 2].map(|index| (other, index)));
                let send: Vec<_> = others().map(|(to, i)| (to, &numbers[..lengths(rank, to)[i]])).collect();
                let mut memory = vec![numbers; 3 * size];
                let memory = memory.iter_mut().zip(others());
                let receive = memory.map(|(part, (of, i))| (of, &mut part[..lengths(of, rank)[i]]));
                for (number, round) in rounds(rank, size, &send, receive.collect()).into_iter().enumerate() {
                    let to = round.send.iter().map(|(to, part)| (number, rank, *to, part.len()));
                    let of = round.receive.iter().map(|(of, part)| (number, *of, rank, part.len()));
                    let partners = |other: Vec<usize>| other.windows(2).all(|pair| pair[0] == pair[1]);
                    assert!(partners(round.send.iter().map(|(to, _)| *to).collect()), "{size}: sends to several");
                    assert!(partners(round.receive.iter().map(|(of, _)| *of).collect()), "{size}: hears from several");
                    sent.extend(to);
                    received.extend(of);
                }
            }
            // Stable: the order of the messages between two processes stays.
            sent.sort_by_key(|&(round, from, to, _)| (round, from, to));
            received.sort_by_key(|&(round, from, to, _)| (round, from, to));
            assert_eq!(sent, received);
            assert_eq!(sent.len(), 2 * size * size, "{size}: all but the empty ones");
        }
    }
}
