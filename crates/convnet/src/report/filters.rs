//! The filters of a network's first convolution, as small pictures.

use super::data_uri;
use super::page::{Section, section};
use crate::StateDict;
use crate::markup::{Markup, element, void};
use crate::net::Net;
use crate::ops::Op;

/// Filters that are shown.
const MOST: usize = 64;
/// Largest side of a filter that is shown, in pixels.
const LARGEST: usize = 32;

/// Filters of a layer, as RGB pixels.
struct Filters {
    layer: String,
    count: usize,
    /// Rows, columns.
    kernel: [usize; 2],
    channels: usize,
    tiles: Vec<Vec<u8>>,
}

pub(super) fn filters(net: &Net, weights: &StateDict) -> Option<Section> {
    let Filters { layer, count, kernel: [rows, columns], channels, tiles } = first(net, weights)?;
    let shown = if tiles.len() < count { format!(", of which {} are shown", tiles.len()) } else { String::new() };
    let meaning = match channels {
        1 => "Grey is a weight of 0, white the largest and black the lowest of equal size.",
        _ => "Each channel of a weight is a colour; grey is 0.",
    };
    let note = format!("{layer}: {count} filters of {rows}×{columns}{shown}. {meaning}");
    let tile = |(index, rgb): (usize, &Vec<u8>)| {
        let (address, name) = (data_uri::png([columns, rows], rgb), format!("filter {}", index + 1));
        void("img", &[("src", &address), ("alt", &name), ("title", &name), ("width", &columns), ("height", &rows)])
    };
    let tiles: Markup = tiles.iter().enumerate().map(tile).sum();
    Some(section("filters", "First layer", &note, element("div", &[("class", &"filters")], tiles).line()))
}

/// Those of the first convolution with more than a pixel, where it takes grey or coloured pictures.
fn first(net: &Net, weights: &StateDict) -> Option<Filters> {
    let node = net.nodes().iter().find(|node| matches!(node.op, Op::Conv2d(_)))?;
    let weight = weights.get(&format!("{}.weight", node.name))?;
    let &[count, channels, rows, columns] = weight.shape() else { return None };
    if !matches!(channels, 1 | 3) || rows * columns < 2 || rows.max(columns) > LARGEST {
        return None;
    }
    let largest = weight.data().iter().fold(f32::MIN_POSITIVE, |largest, value| largest.max(value.abs()));
    let byte = |value: f32| (127.5 + 127.5 * value / largest).round() as u8;
    let size = rows * columns;
    let tile = |filter: &[f32]| {
        let pixel = |i: usize| [0, 1, 2].map(|channel: usize| byte(filter[channel.min(channels - 1) * size + i]));
        (0..size).flat_map(pixel).collect()
    };
    let tiles = weight.data().chunks_exact(channels * size).take(MOST).map(tile).collect();
    Some(Filters { layer: node.name.clone(), count, kernel: [rows, columns], channels, tiles })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tensor;
    use crate::ops::Shape;
    use crate::prelude::Conv2d;

    #[test]
    fn weights_become_shades_and_colours() {
        let net = |channels: usize| {
            let mut net = Net::new("n", Shape::Map([channels, 4, 4])).unwrap();
            net.then("c", Conv2d::new(2, 2)).unwrap();
            net
        };
        let weights = |channels: usize, data: Vec<f32>| {
            StateDict::from([("c.weight".to_owned(), Tensor::new([2, channels, 2, 2], data))])
        };
        let grey = first(&net(1), &weights(1, vec![0.0, 2.0, -2.0, 1.0, 0.0, 0.0, 0.0, 0.0])).unwrap();
        assert_eq!(grey.tiles[0], [[128; 3], [255; 3], [0; 3], [191; 3]].concat());
        assert_eq!((grey.tiles[1].clone(), grey.kernel, grey.count), (vec![128; 12], [2, 2], 2));
        let mut data = vec![0.0; 24];
        (data[0], data[4]) = (1.0, -1.0);
        assert_eq!(first(&net(3), &weights(3, data)).unwrap().tiles[0][..6], [255, 0, 128, 128, 128, 128]);
        assert!(first(&net(2), &weights(2, vec![0.0; 16])).is_none());
    }
}
