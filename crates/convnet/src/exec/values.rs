//! Where each value lies in the arena: a view for every stage's output, from its place and its life.
//!
//! Stage `i` runs forward at time `i`.

use super::arena::{Lives, View};
use super::batch_tiling::{TileGroup, homes, tile_groups};
use super::graph::{Graph, Purpose};
use super::placement::{Places, place};

/// Values and their lives; scratch and gradients are added to the same lives.
#[derive(Debug)]
pub(super) struct Values {
    pub(super) lives: Lives,
    /// Each stage's output.
    pub(super) views: Vec<View>,
    pub(super) places: Places,
    pub(super) groups: Vec<TileGroup>,
}

impl Values {
    /// Places the values of a batch.
    pub(super) fn place(graph: &Graph, purpose: Purpose, batch: usize) -> Values {
        let mut lives = Lives::default();
        let places = place(graph, purpose);
        let stages = &graph.stages;
        let groups = tile_groups(stages);
        let homes = homes(graph, &places, &groups);
        let mut buffers = vec![None; stages.len()];
        for group in &groups {
            for i in group.stages.clone() {
                let root = places.places[i].root;
                let pictures = if homes[root].is_some() { group.pictures } else { batch };
                buffers[root].get_or_insert_with(|| lives.begin(stages[root].floats() * pictures, i));
                for &value in stages[i].inputs.iter().chain([&i]) {
                    let root = places.places[value].root;
                    let buffer = buffers[root].expect("stages stand in running order");
                    lives.use_at(buffer, i);
                    if homes[root].is_none() {
                        // Pictures of it are written or read with every tile of the group.
                        lives.use_at(buffer, group.stages.start);
                        lives.use_at(buffer, group.stages.end - 1);
                    }
                }
            }
        }
        let view = |i: usize| {
            let (place, len, stored) = (places.places[i], stages[i].floats(), stages[i].stored);
            let buffer = buffers[place.root].expect("every stage has a root");
            let (stride, of_tile) = (stages[place.root].floats(), homes[place.root].is_some());
            View { buffer, offset: place.offset / stored.per_word(), stride, len, of_tile, stored }
        };
        let views: Vec<View> = (0..stages.len()).map(view).collect();
        for &output in &graph.outputs {
            lives.use_at(views[output].buffer, stages.len());
        }
        Values { lives, views, places, groups }
    }
}
