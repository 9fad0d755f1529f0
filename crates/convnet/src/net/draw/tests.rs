use std::collections::BTreeSet;

use super::layout::{Rect, layout};
use super::*;
use crate::net::samples;
use crate::ops::{Linear, Shape};
use crate::zoo::{Cnn, cnn};
use proptest::prelude::*;

fn samples() -> [Net; 4] {
    [cnn(&Cnn::default()).unwrap(), samples::residual(3), samples::inception(), samples::dense(4)]
}

/// The cards' texts in a drawing, each with its box.
fn cards(svg: &str) -> Vec<(Vec<String>, Rect)> {
    let document = roxmltree::Document::parse(svg).expect("a drawing is well-formed XML");
    let groups = document.descendants().filter(|node| node.attribute("class") == Some("card"));
    let card = |group: roxmltree::Node| {
        let texts = group.children().filter(|node| node.has_tag_name("text"));
        let rect = group.children().find(|node| node.has_tag_name("rect")).unwrap();
        let number = |name| rect.attribute(name).unwrap().parse().unwrap();
        let rect = Rect { x: number("x"), y: number("y"), width: number("width"), height: number("height") };
        (texts.map(|text| text.text().unwrap_or_default().to_owned()).collect(), rect)
    };
    groups.map(card).collect()
}

fn overlap(a: &Rect, b: &Rect) -> bool {
    a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height && b.y < a.y + a.height
}

#[test]
fn every_node_lies_on_one_card_and_every_card_is_drawn_once() {
    for net in samples() {
        for depth in [Depth::All, Depth::Auto, Depth::Parts(1), Depth::Parts(2)] {
            let figure = net.figure(depth).unwrap();
            let mut nodes: Vec<usize> = figure.cards.iter().flat_map(|card| card.nodes.clone()).collect();
            nodes.sort_unstable();
            assert!(nodes.into_iter().eq(0..net.nodes().len()), "{} at {depth:?}", net.name());
            let drawn = cards(&net.svg(depth).unwrap());
            let names: Vec<&String> = drawn.iter().map(|(texts, _)| &texts[0]).collect();
            assert_eq!(names, figure.cards.iter().map(|card| &card.name).collect::<Vec<_>>());
            assert_eq!(figure.cards.iter().filter(|card| card.output).count(), 1);
            for (i, (texts, a)) in drawn.iter().enumerate() {
                assert!(drawn[..i].iter().all(|(_, b)| !overlap(a, b)), "{texts:?} in {}", net.name());
            }
        }
    }
}

#[test]
fn chains_are_one_card() {
    let figure = samples::residual(2).figure(Depth::All).unwrap();
    let card = |name: &str| figure.cards.iter().position(|card| card.name == name).unwrap();
    let conv = &figure.cards[card("layer2.0.conv1")];
    assert_eq!(conv.lines, ["conv2d 3x3/2 p1 64→128", "batch_norm2d · relu"]);
    assert_eq!((conv.footer.as_str(), conv.kind), ("128x8x8 · 73,984 params", Kind::Convolution));
    assert_eq!(figure.cards[card("layer1.0.add")].lines, ["add · relu"]);
    // Two ways lead from the block before to the sum: the convolutions, and the shortcut.
    assert!(figure.edges.contains(&(card("layer1.0.add"), card("layer1.1.add"))));
    assert!(figure.edges.contains(&(card("layer1.0.add"), card("layer1.1.conv1"))));
    // A dense layer normalises before it convolves; the first may not prolong what others read too.
    let figure = samples::dense(2).figure(Depth::All).unwrap();
    let first = figure.cards.iter().find(|card| card.name == "features.denseblock1.denselayer1.conv1").unwrap();
    assert_eq!(first.lines, ["batch_norm2d · relu", "conv2d 1x1 64→128", "batch_norm2d · relu"]);
}

#[test]
fn branches_lie_side_by_side_and_shortcuts_at_the_side() {
    let drawn = cards(&samples::inception().svg(Depth::All).unwrap());
    let place = |name: &str| drawn.iter().find(|(texts, _)| texts[0].ends_with(name)).unwrap().1;
    let heads = ["branch1.conv", "branch2.0.conv", "branch3.0.conv", "branch4.0"].map(place);
    assert!(heads.windows(2).all(|pair| pair[0].x + pair[0].width < pair[1].x));
    assert!(heads[0].y < place("branch2.1.conv").y && place("branch2.1.conv").y < place("3a.concat").y);
    let middle = |rect: Rect| rect.x + rect.width / 2.0;
    assert!((middle(place("branch2.0.conv")) - middle(place("branch2.1.conv"))).abs() < 8.0, "a branch is straight");
    // The main way is straight although the auxiliary output hangs beside it.
    assert!((middle(place("input")) - middle(drawn.last().unwrap().1)).abs() < 0.2);
    let svg = samples::residual(1).svg(Depth::All).unwrap();
    let corners = svg.lines().filter(|line| line.starts_with("<path") && line.contains(" Q")).count();
    assert_eq!(corners, 2, "two blocks have an identity shortcut");
}

/// A net with names that would break out of quotes, tags and lines.
fn hostile() -> Net {
    let mut net = Net::new("a\"]; b -> c [label=\"</svg>&amp;", Shape::Vector(4)).unwrap();
    for name in ["</text><script>", "\\", "\\\"", "x\\N", "&lt;", "]]>", "\u{fffe}\u{202e}'", &"長い".repeat(40)] {
        net.then(name, Op::Linear(Linear::new(3))).unwrap();
    }
    net
}

#[test]
fn hostile_names_stay_text() {
    let net = hostile();
    let drawn = cards(&net.svg(Depth::All).unwrap());
    assert_eq!(drawn.len(), 9);
    assert_eq!(drawn[1].0[0], "</text><script>");
    assert!(drawn[8].0[0].chars().count() <= MAX_LINE && drawn[8].0[0].contains('…'));
    let dot = net.dot(Depth::All).unwrap();
    // Outside of quoted strings there is nothing but our own few words.
    let (mut outside, mut characters) = (String::new(), dot.chars());
    while let Some(c) = characters.next() {
        outside.push(c);
        let mut open = c == '"';
        while open {
            match characters.next().expect("every string ends") {
                '\\' => drop(characters.next()),
                c => open = c != '"',
            }
        }
    }
    assert!(!outside.contains("script") && !outside.contains("svg") && !outside.contains('&'), "{outside}");
    let nodes = outside.lines().filter(|line| line.trim_start().starts_with('n') && line.contains("[label=\"")).count();
    assert_eq!((nodes, outside.matches(" -> ").count()), (9, 8));
}

#[test]
fn a_drawing_that_nobody_could_read_is_refused() {
    let mut net = Net::new("deep", Shape::Vector(1)).unwrap();
    for layer in 0..MAX_CARDS {
        net.then(&format!("block.{layer}"), Op::Linear(Linear::new(1))).unwrap();
    }
    assert!(net.svg(Depth::All).unwrap_err().to_string().contains("draw it at a smaller depth"));
    assert_eq!(cards(&net.svg(Depth::Parts(1)).unwrap()).len(), 2);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn boxes_of_any_net_never_overlap(
        sizes in prop::collection::vec((10.0..300.0f64, 10.0..120.0f64), 1..40),
        picks in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..80),
        result in any::<prop::sample::Index>(),
    ) {
        let sizes: Vec<[f64; 2]> = sizes.into_iter().map(|(width, height)| [width, height]).collect();
        // Everything hangs on something earlier, and there are any number of lines beside.
        let chain = picks.iter().cycle().zip(1..sizes.len()).map(|((from, _), to)| (from.index(to), to));
        let more = picks.iter().map(|(a, b)| (a.index(sizes.len()), b.index(sizes.len())));
        let edges: BTreeSet<(usize, usize)> =
            chain.chain(more.filter(|(a, b)| a != b).map(|(a, b)| (a.min(b), a.max(b)))).collect();
        let edges: Vec<(usize, usize)> = edges.into_iter().collect();
        let drawn = layout(&sizes, &edges, result.index(sizes.len()));
        prop_assert_eq!(drawn.routes.len(), edges.len());
        for (i, a) in drawn.boxes.iter().enumerate() {
            prop_assert_eq!([a.width, a.height], sizes[i]);
            prop_assert!(a.x >= -1e-6 && a.y >= -1e-6);
            prop_assert!(a.x + a.width <= drawn.width + 1e-6 && a.y + a.height <= drawn.height + 1e-6);
            for b in &drawn.boxes[..i] {
                prop_assert!(!overlap(a, b), "{a:?} and {b:?}");
            }
        }
        for (from, to) in edges {
            prop_assert!(drawn.boxes[from].y + drawn.boxes[from].height < drawn.boxes[to].y);
        }
    }
}
