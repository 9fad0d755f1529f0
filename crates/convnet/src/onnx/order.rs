//! The running order of a graph's nodes, which the format demands of a file and not every program keeps.

use std::collections::{BTreeSet, HashMap};

use super::proto::Node;

/// The nodes so that each comes after those whose outputs it takes, otherwise as they are in the file.
///
/// # Errors
/// Two nodes that give the same output, or nodes that wait for one another.
pub(super) fn running(nodes: &[Node]) -> Result<Vec<&Node>, String> {
    let mut made_by = HashMap::new();
    for (index, node) in nodes.iter().enumerate() {
        for name in node.output.iter().filter(|name| !name.is_empty()) {
            if made_by.insert(&name[..], index).is_some() {
                return Err(format!("two nodes give the tensor '{}'", crate::weights::printable(name)));
            }
        }
    }
    let mut waits = vec![0_usize; nodes.len()];
    let mut readers = vec![Vec::new(); nodes.len()];
    for (index, node) in nodes.iter().enumerate() {
        for maker in node.input.iter().filter_map(|name| made_by.get(&name[..])) {
            waits[index] += 1;
            readers[*maker].push(index);
        }
    }
    let mut ready: BTreeSet<usize> = (0..nodes.len()).filter(|&index| waits[index] == 0).collect();
    let mut order = Vec::with_capacity(nodes.len());
    while let Some(index) = ready.pop_first() {
        order.push(&nodes[index]);
        for &reader in &readers[index] {
            waits[reader] -= 1;
            if waits[reader] == 0 {
                ready.insert(reader);
            }
        }
    }
    match order.len() == nodes.len() {
        true => Ok(order),
        false => Err("its nodes wait for one another in a circle".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(input: &str, output: &str) -> Node {
        Node { input: vec![input.into()], output: vec![output.into()], ..Node::default() }
    }

    #[test]
    fn nodes_come_after_what_they_read() {
        let nodes = [node("b", "c"), node("x", "a"), node("a", "b")];
        let order: Vec<&str> = running(&nodes).unwrap().iter().map(|node| &node.output[0][..]).collect();
        assert_eq!(order, ["a", "b", "c"]);
        assert!(running(&[node("a", "b"), node("b", "a")]).unwrap_err().contains("circle"));
        assert!(running(&[node("x", "a"), node("y", "a")]).unwrap_err().contains("'a'"));
    }
}
