//! Taps: named values of a net that a session copies for its caller.
//!
//! A tap is a node, or a path that the names of a block's nodes begin with (`layer4`), which stands for the block's last node.

use crate::net::{Net, NodeId};
use crate::ops::Shape;
use crate::{Error, Result};

/// Taps under the names that the caller gave them.
#[derive(Clone, Debug, Default)]
pub(super) struct Taps {
    taps: Vec<Tap>,
}

#[derive(Clone, Debug)]
struct Tap {
    name: String,
    node: NodeId,
    shape: Shape,
}

impl Taps {
    /// Finds the nodes of a net.
    pub(super) fn new(net: &Net, names: &[String]) -> Result<Taps> {
        let find = |name: &String| {
            let node = find(net, name)?;
            Ok(Tap { name: name.clone(), node, shape: net.node(node).shape })
        };
        Ok(Taps { taps: names.iter().map(find).collect::<Result<_>>()? })
    }

    /// The nodes, in the net that they were found in.
    pub(super) fn nodes(&self) -> Vec<NodeId> {
        self.taps.iter().map(|tap| tap.node).collect()
    }

    /// A tap's place among the others, and the shape of its value.
    pub(super) fn get(&self, name: &str) -> Result<(usize, Shape)> {
        let found = self.taps.iter().position(|tap| tap.name == name);
        let unknown = || Error::unknown("tap", name, self.taps.iter().map(|tap| tap.name.as_str()));
        found.map(|index| (index, self.taps[index].shape)).ok_or_else(unknown)
    }
}

/// The node of that name, or the last one of that block.
///
/// # Errors
/// [`Error::Unknown`] when there is neither; [`Error::Invalid`] for a block with several outputs.
pub(crate) fn find(net: &Net, name: &str) -> Result<NodeId> {
    if let Some(node) = net.find(name) {
        return Ok(node);
    }
    let path = format!("{name}.");
    let within = |node: NodeId| net.node(node).name.starts_with(&path);
    let Some(last) = (0..net.nodes().len()).rev().map(NodeId).find(|&node| within(node)) else {
        return Err(Error::unknown_layer(net, name));
    };
    let outside = net.nodes().iter().filter(|node| !node.name.starts_with(&path));
    match outside.flat_map(|node| &node.inputs).find(|&&input| input != last && within(input)) {
        None => Ok(last),
        Some(&other) => {
            let names = [other, last].map(|node| &net.node(node).name);
            let [one, two] = names;
            Err(Error::invalid(format!(
                "'{name}' is a part of '{}' with several outputs, among them '{one}' and '{two}': name one of them",
                net.name()
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zoo::{ZooOptions, by_name};

    #[test]
    fn nodes_and_blocks_are_found() {
        let net = by_name("resnet18", &ZooOptions::default()).unwrap();
        let node = |name: &str| find(&net, name).map(|node| net.node(node).name.clone());
        assert_eq!(node("layer4.1.bn2").unwrap(), "layer4.1.bn2");
        let last = node("layer4").unwrap();
        assert_eq!(
            (&last, net.node(net.find(&last).unwrap()).shape),
            (&node("layer4.1").unwrap(), Shape::Map([512, 7, 7]))
        );
        let problem = node("layer4.1.bn3").unwrap_err().to_string();
        assert_eq!(problem, "the net 'resnet18' has no layer 'layer4.1.bn3': did you mean 'layer4.1.bn1'?");
        let net = by_name("googlenet", &ZooOptions::default()).unwrap();
        let concat = find(&net, "inception4a").unwrap();
        assert_eq!(net.node(concat).name, "inception4a.concat");
        let mut net = Net::new("fork", Shape::Vector(2)).unwrap();
        let a = net.then("block.a", crate::ops::Op::RELU).unwrap();
        let b = net.then("block.b", crate::ops::Op::RELU).unwrap();
        net.add("sum", crate::ops::Op::Add, &[a, b]).unwrap();
        let problem = find(&net, "block").unwrap_err().to_string();
        assert!(problem.contains("among them 'block.a' and 'block.b'"), "{problem}");
    }
}
