//! Why a graph cannot be read: everything in one message.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::proto::Node;
use crate::weights::printable;

/// How many nodes a message names for each operator, and how many operators with their problems.
const SHOWN: usize = 3;
const GROUPS: usize = 20;

/// A node that is not read.
#[derive(Clone, Debug)]
pub(super) struct Unsupported {
    operator: String,
    node: String,
    problem: String,
}

impl Unsupported {
    pub(super) fn new(node: &Node, problem: String) -> Unsupported {
        let name = if node.name.is_empty() { node.output.first() } else { Some(&node.name) };
        let (operator, node) = (printable(&node.op_type), printable(name.map_or("", String::as_str)));
        let plain = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
        Unsupported { operator, node, problem: problem.chars().map(plain).collect() }
    }
}

/// The message about all of them: by operator and problem, with the first nodes.
pub(super) fn message(found: &[Unsupported], made_by: &str) -> String {
    let mut groups: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for Unsupported { operator, node, problem } in found {
        groups.entry((operator, problem)).or_default().push(node);
    }
    let nodes = if found.len() == 1 { "a node" } else { "nodes" };
    let mut text = format!("{nodes} that this version does not read ({made_by}):");
    let hidden = groups.len().saturating_sub(GROUPS);
    for ((operator, problem), nodes) in groups.into_iter().take(GROUPS) {
        let named: Vec<String> = nodes.iter().take(SHOWN).map(|node| format!("'{node}'")).collect();
        let more = if nodes.len() > SHOWN { format!(" and {} more", nodes.len() - SHOWN) } else { String::new() };
        // Writing to a string cannot fail.
        let _ = write!(text, "\n  {operator}: {problem}: {}{more}", named.join(", "));
    }
    if hidden > 0 {
        let _ = write!(text, "\n  and {hidden} more kinds");
    }
    text
}
