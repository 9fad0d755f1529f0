//! Gradual unfreezing (Howard and Ruder 2018, section 3.3): at first the layers that give the classes are trained alone, and after
//! every so many epochs one more stage of the net, from the top down, so that what the net has learned is not lost to the large
//! gradients of a head that knows nothing yet.
//!
//! A stage ends where maps get smaller; each linear layer is one. Frozen layers are in none. The optimizer of a stage begins when the
//! stage does. Which stages are trained follows from the epoch, so that a run goes on from a checkpoint as if it had never stopped.

use std::collections::{BTreeMap, BTreeSet};

use crate::net::Net;
use crate::ops::{Op, Shape};

/// The layers of a net by stages, those that give the classes first.
#[derive(Debug)]
pub(super) struct Stages(Vec<Vec<String>>);

impl Stages {
    /// Those of the layers with parameters of which `is_frozen` is not true. `heads` give the classes.
    pub(super) fn new(net: &Net, heads: &[String], is_frozen: impl Fn(&str) -> bool) -> Stages {
        let depths = depths(net);
        let with_parameters: BTreeSet<usize> = net.parameters().iter().map(|(_, node, _)| node.index()).collect();
        let (mut stages, mut below) = (vec![Vec::new()], BTreeMap::<usize, Vec<String>>::new());
        for index in with_parameters {
            let name = &net.nodes()[index].name;
            match () {
                () if is_frozen(name) => {}
                () if heads.contains(name) => stages[0].push(name.clone()),
                () => below.entry(depths[index]).or_default().push(name.clone()),
            }
        }
        stages.extend(below.into_values().rev());
        stages.retain(|stage| !stage.is_empty());
        Stages(stages)
    }

    /// The number of a layer's stage, 0 for the first that is trained.
    pub(super) fn of(&self, layer: &str) -> Option<usize> {
        self.0.iter().position(|stage| stage.iter().any(|name| name == layer))
    }

    /// The layers of a stage.
    pub(super) fn layers(&self, stage: usize) -> &[String] {
        self.0.get(stage).map_or(&[], Vec::as_slice)
    }

    /// How many stages are trained in an epoch, counted from 0.
    pub(super) fn trained(&self, every: usize, epoch: usize) -> usize {
        (1 + epoch / every).min(self.0.len())
    }
}

/// For each node how often maps have become smaller up to it; a linear layer counts as such. What a number per channel is computed
/// with (squeeze and excitation) belongs to the maps that it is for.
fn depths(net: &Net) -> Vec<usize> {
    let nodes = net.nodes();
    let pixels = |index: usize| match nodes[index].shape {
        Shape::Map([_, height, width]) => height * width,
        Shape::Vector(_) => 1,
    };
    let mut depths = vec![0; nodes.len()];
    for (index, node) in nodes.iter().enumerate() {
        let inputs: &[_] = if matches!(node.op, Op::Mul) { &node.inputs[..1] } else { &node.inputs };
        let before = inputs.iter().map(|input| depths[input.index()]).max().unwrap_or_default();
        let shrinks = inputs.iter().any(|input| pixels(index) < pixels(input.index()));
        depths[index] = before + usize::from(shrinks || matches!(node.op, Op::Linear(_)));
        if matches!(node.op, Op::Mul) {
            let mut gate = node.inputs[1].index();
            while depths[gate] > before && nodes[gate].inputs.len() == 1 {
                depths[gate] = before;
                gate = nodes[gate].inputs[0].index();
            }
        }
    }
    depths
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::NodeId;
    use crate::zoo;

    fn stages(name: &str, frozen: &str) -> Stages {
        let net = zoo::by_name(name, &Default::default()).unwrap();
        let heads: Vec<String> = net.heads().unwrap().into_iter().map(|head| net.node(head).name.clone()).collect();
        Stages::new(&net, &heads, |layer| !frozen.is_empty() && layer.starts_with(frozen))
    }

    #[test]
    fn stages_are_those_of_the_maps() {
        let resnet = stages("resnet18", "");
        let of = |layer: &str| resnet.of(layer).unwrap();
        let layers =
            ["fc", "layer4.0.conv1", "layer4.1.bn2", "layer3.0.downsample.0", "layer2.1.conv2", "layer1.0.bn1", "bn1"];
        assert_eq!(layers.map(of), [0, 1, 1, 2, 3, 4, 5]);
        assert_eq!((resnet.0.len(), resnet.of("relu")), (6, None));
        assert_eq!([0, 1, 2, 3, 11, 99].map(|epoch| resnet.trained(2, epoch)), [1, 1, 2, 2, 6, 6]);
        // Frozen layers are left out, and no epoch is spent on them.
        assert_eq!((stages("resnet18", "layer4").of("layer3.0.conv1"), stages("resnet18", "fc").0.len()), (Some(1), 5));
        // Three linear layers, then five stages of convolutions.
        assert_eq!(stages("vgg11", "").0.len(), 3 + 5);
        // The layers that weigh channels are trained with the channels.
        let efficient = stages("efficientnet_b0", "");
        let net = zoo::by_name("efficientnet_b0", &Default::default()).unwrap();
        let source = |mut at: NodeId| loop {
            match efficient.of(&net.node(at).name) {
                Some(stage) => break stage,
                None => at = net.node(at).inputs[0],
            }
        };
        let products: Vec<_> = net.nodes().iter().filter(|node| matches!(node.op, Op::Mul)).collect();
        assert_eq!(products.len(), 16);
        for node in products {
            assert_eq!(source(node.inputs[0]), source(node.inputs[1]), "{}", node.name);
        }
        assert!((5..=9).contains(&efficient.0.len()), "{}", efficient.0.len());
    }
}
