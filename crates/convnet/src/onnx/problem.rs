//! Why a graph cannot be read: everything in one message.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::proto::Node;
use crate::weights::printable;

/// How many nodes a message names for each operator.
const SHOWN: usize = 3;

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
        Unsupported { operator: printable(&node.op_type), node: printable(name.map_or("", String::as_str)), problem }
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
    for ((operator, problem), nodes) in groups {
        let named: Vec<String> = nodes.iter().take(SHOWN).map(|node| format!("'{node}'")).collect();
        let more = if nodes.len() > SHOWN { format!(" and {} more", nodes.len() - SHOWN) } else { String::new() };
        // Writing to a string cannot fail.
        let _ = write!(text, "\n  {operator}: {problem}: {}{more}", named.join(", "));
    }
    text
}
