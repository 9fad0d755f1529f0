//! The order in which numbers of shards are added: halves first, and halves of these. A process whose shards are a half, a quarter, …
//! of all adds them up by itself; of any other shards few sums are needed by the others.

use std::iter::Peekable;
use std::ops::Range;

/// Neighbouring shards whose numbers are added: a node of the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) first: usize,
    pub(crate) end: usize,
}

impl Node {
    /// The root of a tree over so many shards, at least 1.
    pub(crate) fn all(shards: usize) -> Node {
        Node { first: 0, end: shards }
    }

    /// The two nodes whose sum it is; nothing for a single shard.
    pub(crate) fn halves(self) -> Option<[Node; 2]> {
        let middle = self.first + (self.end - self.first) / 2;
        (self.end - self.first > 1).then_some([Node { end: middle, ..self }, Node { first: middle, ..self }])
    }

    /// The largest nodes below it, itself included, that lie within these shards, in their order.
    pub(crate) fn within(self, shards: &Range<usize>) -> Vec<Node> {
        match self.halves() {
            _ if shards.start <= self.first && self.end <= shards.end => vec![self],
            Some(halves) if self.first < shards.end && shards.start < self.end => {
                halves.into_iter().flat_map(|half| half.within(shards)).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Its sum, from those of nodes below it, in their order; nothing where one is missing.
    pub(crate) fn sum<T>(
        self,
        terms: &mut Peekable<impl Iterator<Item = (Node, T)>>,
        add: &mut impl FnMut(T, T) -> T,
    ) -> Option<T> {
        if let Some((_, term)) = terms.next_if(|(node, _)| *node == self) {
            return Some(term);
        }
        let [left, right] = self.halves()?;
        let left = left.sum(terms, add)?;
        let right = right.sum(terms, add)?;
        Some(add(left, right))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How the sum over shards is written, from the nodes that each of `size` processes has.
    fn written(shards: usize, size: usize) -> String {
        let own = shards / size;
        let nodes = (0..size).flat_map(|rank| Node::all(shards).within(&(rank * own..(rank + 1) * own)));
        let text = |node: Node| {
            let mut leaves = (node.first..node.end)
                .map(|shard| (Node { first: shard, end: shard + 1 }, shard.to_string()))
                .peekable();
            node.sum(&mut leaves, &mut |a, b| format!("({a}+{b})")).unwrap()
        };
        let mut terms = nodes.map(|node| (node, text(node))).peekable();
        Node::all(shards).sum(&mut terms, &mut |a, b| format!("({a}+{b})")).unwrap()
    }

    #[test]
    fn the_sum_is_the_same_for_any_number_of_processes() {
        assert_eq!(written(4, 1), "((0+1)+(2+3))");
        assert_eq!(written(6, 3), "((0+(1+2))+(3+(4+5)))");
        for shards in 1..40 {
            for size in (1..=shards).filter(|size| shards % size == 0) {
                assert_eq!(written(shards, size), written(shards, 1), "{shards} shards, {size} processes");
            }
        }
    }

    #[test]
    fn halves_are_added_where_they_are_computed() {
        for (shards, own, count) in [(8, 0..4, 1), (8, 4..6, 1), (8, 7..8, 1), (6, 0..2, 2), (6, 2..4, 2), (6, 0..3, 1)]
        {
            assert_eq!(Node::all(shards).within(&own).len(), count, "{own:?} of {shards}");
        }
        assert_eq!(Node::all(4).within(&(1..3)), [Node { first: 1, end: 2 }, Node { first: 2, end: 3 }]);
    }

    #[test]
    fn a_missing_term_shows() {
        let mut terms = [(Node { first: 0, end: 1 }, 1.0)].into_iter().peekable();
        assert_eq!(Node::all(2).sum(&mut terms, &mut |a, b| a + b), None);
    }
}
