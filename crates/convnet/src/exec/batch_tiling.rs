//! Batch tiling: in inference, neighbouring stages run on some pictures, one after the other, before they run on the next, so
//! that what they hand on stays in the caches whatever the batch.
//!
//! Early stages, whose maps are large, take few pictures at a time; late ones, whose weights are large, take many and read
//! their weights seldom. Values that live within a group of such stages have room for its pictures alone. Training, whose
//! norms need whole batches, is one group.

use super::graph::{Graph, Stage};
use super::placement::Places;
use crate::net::{Net, NodeId};
use crate::ops::Shape;
use convnet_kernels::caches::Caches;
use std::ops::Range;

/// Floats of a stage's inputs and output that the caches of two cores should hold, at most.
const CACHED_FLOATS: usize = 4 * 1024 * 1024;
/// Multiply-adds for each float read or written from which on memory is no bottleneck, so that stages lose more by taking
/// fewer pictures (which share transformed weights) than by waiting for memory.
const BUSY: u64 = 256;

/// Neighbouring stages that run together on as many pictures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TileGroup {
    pub(super) stages: Range<usize>,
    /// Pictures at a time, at most.
    pub(super) pictures: usize,
}

/// Pictures at a time for the stage that begins with each node, where caches are those of large machines: from shapes alone. By
/// these, methods are chosen, on any machine.
pub(super) fn pictures(net: &Net, batch: usize) -> Vec<usize> {
    in_floats(net, batch, CACHED_FLOATS)
}

/// The same for this machine's caches: half of the last level, which others use as well.
pub(super) fn pictures_in(net: &Net, batch: usize, caches: Caches) -> Vec<usize> {
    in_floats(net, batch, CACHED_FLOATS.min(caches.l3 / size_of::<f32>() / 2))
}

/// Pictures whose values take so many floats; never fewer than at the node before.
fn in_floats(net: &Net, batch: usize, cached: usize) -> Vec<usize> {
    let nodes: Vec<usize> = (0..net.nodes().len()).collect();
    let mut pictures = vec![batch; nodes.len()];
    let mut most = batch;
    for level in nodes.chunk_by(|&a, &b| resolution(net, a) == resolution(net, b)).rev() {
        let floats = || level.iter().map(|&node| floats(net, node));
        let macs: u64 = level.iter().map(|&node| net.macs(NodeId(node))).sum();
        if macs < BUSY * floats().sum::<usize>() as u64 {
            let largest = floats().max().expect("a level has nodes");
            most = most.min(cached / largest.max(1)).max(1);
        }
        level.iter().for_each(|&node| pictures[node] = even_share(batch, most));
    }
    pictures
}

/// Height and width of a node's output.
fn resolution(net: &Net, node: usize) -> [usize; 2] {
    match net.nodes()[node].shape {
        Shape::Map([_, h, w]) => [h, w],
        Shape::Vector(_) => [1, 1],
    }
}

/// Floats of a picture that a node reads and writes, unless it is a part of its neighbours' stages.
fn floats(net: &Net, index: usize) -> usize {
    let node = &net.nodes()[index];
    match node.op.category().is_free() {
        true => 0,
        false => {
            net.input_shapes(NodeId(index)).iter().map(|shape| shape.elements()).sum::<usize>() + node.shape.elements()
        }
    }
}

/// The size of the parts, at most, when a batch is cut evenly into parts of up to `most` pictures.
fn even_share(batch: usize, most: usize) -> usize {
    batch.div_ceil(batch.div_ceil(most))
}

/// Runs of stages with as many pictures at a time.
pub(super) fn tile_groups(stages: &[Stage]) -> Vec<TileGroup> {
    let mut groups: Vec<TileGroup> = Vec::new();
    for (index, stage) in stages.iter().enumerate() {
        match groups.last_mut() {
            Some(group) if group.pictures == stage.pictures => group.stages.end = index + 1,
            Some(_) | None => groups.push(TileGroup { stages: index..index + 1, pictures: stage.pictures }),
        }
    }
    groups
}

/// For each stage that is the root of a buffer, the group outside which nobody writes or reads it, if there is one.
pub(super) fn homes(graph: &Graph, places: &Places, groups: &[TileGroup]) -> Vec<Option<usize>> {
    let group_of = |stage: usize| groups.iter().position(|group| group.stages.contains(&stage));
    let mut homes: Vec<Option<usize>> = (0..graph.stages.len()).map(group_of).collect();
    for (index, stage) in graph.stages.iter().enumerate() {
        for &value in stage.inputs.iter().chain([&index]) {
            let root = places.places[value].root;
            if homes[root] != group_of(index) {
                homes[root] = None;
            }
        }
    }
    for &output in &graph.outputs {
        homes[places.places[output].root] = None;
    }
    homes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::tests::{numbers, random_net, state};
    use crate::exec::{ConvChoice, Engine, Inference, Precision};
    use crate::net::rewrite;
    use crate::weights;
    use crate::zoo::{self, ZooOptions};
    use convnet_kernels::random;

    #[test]
    fn large_maps_are_handed_on_in_the_caches() {
        let of = |name: &str, batch: usize| {
            let net = zoo::by_name(name, &ZooOptions::default()).unwrap();
            let folded = (name != "vgg16").then(|| rewrite::inference(&net, &weights::init(&net, 0)).unwrap().0);
            let net = folded.unwrap_or(net);
            let mut pictures = pictures(&net, batch);
            assert!(pictures.is_sorted(), "{name}: {pictures:?}");
            pictures.dedup();
            pictures
        };
        assert_eq!(of("resnet50", 16), [1, 3, 6, 16]);
        assert_eq!(of("densenet121", 16), [2, 4, 8, 16]);
        // The transformed weights of its later convolutions cost more than their maps.
        assert_eq!(of("vgg16", 16), [1, 16]);
        assert_eq!(of("resnet50", 1), [1]);
    }

    #[test]
    fn caches_change_no_bit() {
        let options = ZooOptions { input: Some([3, 96, 96]), ..ZooOptions::default() };
        let mut cuts = Vec::new();
        for name in ["resnet18", "mobilenet_v2"] {
            let net = zoo::by_name(name, &options).unwrap();
            let (weights, batch) = (weights::init(&net, 1), 6);
            let images = numbers(2, batch * net.input_shape().elements());
            let of = |l2: usize, l3: usize| {
                let engine = Engine::new(2).unwrap().with_caches(Caches { l2, l3 });
                let mut one = Inference::builder(&net, &weights).build(&engine).unwrap();
                let mut inference = one.with_batch(batch).unwrap();
                let logits = inference.run(&images, batch).unwrap().to_vec();
                (logits, one.run(&images[..images.len() / batch], 1).unwrap().to_vec())
            };
            let typical = of(1 << 20, 32 << 20);
            for (l2, l3) in [(256 << 10, 256 << 10), (512 << 10, 6 << 20), (2 << 20, 300 << 20)] {
                cuts.push(pictures_in(&net, batch, Caches { l2, l3 }));
                assert_eq!(typical, of(l2, l3), "{name}: {l2} and {l3} bytes");
            }
        }
        cuts.dedup();
        assert!(cuts.len() > 2, "small caches take fewer pictures at a time");
    }

    #[test]
    fn tiles_change_no_bit() {
        for seed in 0..60 {
            let net = random_net(seed);
            let method = [ConvChoice::Direct, ConvChoice::Winograd][seed as usize % 2];
            let precision = [Precision::F32, Precision::Bf16][seed as usize / 2 % 2];
            let (state, batch) = (state(&net), 5);
            let images = numbers(1, batch * net.input_shape().elements());
            let inference = |threads: usize, pictures: &dyn Fn(usize) -> usize| {
                let engine = Engine::new(threads).unwrap().with_conv(method).with_precision(precision);
                let pictures = |net: &Net| (0..net.nodes().len()).map(pictures).collect();
                let builder = Inference::builder(&net, &state).batch(batch);
                let mut inference = builder.in_tiles(&engine, pictures).unwrap();
                let all = inference.run(&images, batch).unwrap().to_vec();
                let len = images.len() / batch;
                assert_eq!(inference.run(&images[..3 * len], 3).unwrap(), &all[..all.len() / batch * 3]);
                all
            };
            let whole = inference(2, &|_| batch);
            let (first, second) = (seed as usize % 5, seed as usize % 13);
            let parts = |node: usize| if node <= first { 1 } else { 2 + usize::from(node > second) };
            // A plan is right for any cut.
            let any = |node: usize| 1 + (random::mix(seed, node as u64 / 3) >> 33) as usize % batch;
            for parts in [&parts as &dyn Fn(usize) -> usize, &any] {
                assert_eq!(whole, inference(2, parts), "{}", net.name());
                assert_eq!(whole, inference(3, parts), "{} on three threads", net.name());
            }
        }
    }
}
