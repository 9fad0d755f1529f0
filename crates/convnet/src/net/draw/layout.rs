//! Places for boxes and lines: a layered drawing (Sugiyama, Tagawa and Toda 1981), from top to bottom.
//!
//! A box's rank is the longest way to it. A line that skips ranks is a *shortcut* when boxes lie on another way between
//! its ends; it runs at the right-hand side. Any other long line gets an invisible box in each rank that it crosses, so
//! that it runs between the boxes. Within a rank, boxes are ordered by the mean place of their neighbours, and then moved as
//! close to it as their widths allow: the exact least-squares solution, by pooling adjacent violators.

/// Space between neighbours in a rank, between ranks, and between lines at the side.
const GAP_X: f64 = 24.0;
const GAP_Y: f64 = 30.0;
const LANE: f64 = 16.0;

/// Width of an invisible box.
const LINE_WIDTH: f64 = 10.0;

/// Rounds of moving boxes towards their neighbours.
const ROUNDS: usize = 60;

/// Most invisible boxes; with more, every long line runs at the side.
const MAX_POINTS: usize = 50_000;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Point {
    pub(super) x: f64,
    pub(super) y: f64,
}

/// A box's place: left, top, and size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rect {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) width: f64,
    pub(super) height: f64,
}

/// How a line runs.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Route {
    /// Downwards through these points.
    Down(Vec<Point>),
    /// From the right-hand side of one box to that of another, along a vertical at `lane`.
    Side { from: Point, lane: f64, to: Point },
}

#[derive(Debug)]
pub(super) struct Layout {
    pub(super) width: f64,
    pub(super) height: f64,
    pub(super) boxes: Vec<Rect>,
    /// One for each edge.
    pub(super) routes: Vec<Route>,
}

/// A box, or a point of a long line, in the making.
struct Vertex {
    rank: usize,
    width: f64,
    height: f64,
    above: Vec<usize>,
    below: Vec<usize>,
    /// Middle.
    x: f64,
    /// Held to the middle of the drawing: every way to the result leads through it.
    pinned: bool,
}

/// Lays out boxes of these widths and heights, one of which is the result; edges lead from smaller to larger indices.
pub(super) fn layout(sizes: &[[f64; 2]], edges: &[(usize, usize)], result: usize) -> Layout {
    let ranks = ranks(sizes.len(), edges);
    let shortcuts = shortcuts(sizes.len(), edges, &ranks);
    let vertex = |rank, [width, height]: [f64; 2]| Vertex {
        rank,
        width,
        height,
        above: Vec::new(),
        below: Vec::new(),
        x: 0.0,
        pinned: false,
    };
    let mut vertices: Vec<Vertex> = sizes.iter().zip(&ranks).map(|(&size, &rank)| vertex(rank, size)).collect();
    // The points of each line that is no shortcut, its ends included.
    let mut lines: Vec<Vec<usize>> = Vec::with_capacity(edges.len());
    for (&(from, to), &shortcut) in edges.iter().zip(&shortcuts) {
        let mut line = vec![from];
        if !shortcut {
            for rank in ranks[from] + 1..ranks[to] {
                line.push(vertices.len());
                vertices.push(vertex(rank, [LINE_WIDTH, 0.0]));
            }
            line.push(to);
            for pair in line.windows(2) {
                vertices[pair[0]].below.push(pair[1]);
                vertices[pair[1]].above.push(pair[0]);
            }
        }
        lines.push(line);
    }
    pin(&mut vertices[..sizes.len()], result, edges, &shortcuts);
    let mut rows: Vec<Vec<usize>> = vec![Vec::new(); ranks.iter().max().map_or(0, |rank| rank + 1)];
    (0..vertices.len()).for_each(|index| rows[vertices[index].rank].push(index));
    order(&mut rows, &vertices);
    spread(&rows, &mut vertices);
    place(&rows, &vertices, sizes.len(), edges, &shortcuts, &lines)
}

/// The longest way to each box.
fn ranks(boxes: usize, edges: &[(usize, usize)]) -> Vec<usize> {
    let mut ranks = vec![0; boxes];
    let mut sorted = edges.to_vec();
    sorted.sort_by_key(|&(from, _)| from);
    for (from, to) in sorted {
        ranks[to] = ranks[to].max(ranks[from] + 1);
    }
    ranks
}

/// For each edge whether it runs at the side: it skips ranks beside another way between its ends.
fn shortcuts(boxes: usize, edges: &[(usize, usize)], ranks: &[usize]) -> Vec<bool> {
    let mut below: Vec<Vec<usize>> = vec![Vec::new(); boxes];
    edges.iter().for_each(|&(from, to)| below[from].push(to));
    // Sets of boxes that can be reached, as bits.
    let words = boxes.div_ceil(64);
    let mut reach: Vec<Vec<u64>> = vec![vec![0; words]; boxes];
    for from in (0..boxes).rev() {
        let mut set = vec![0; words];
        for &to in &below[from] {
            set[to / 64] |= 1 << (to % 64);
            set.iter_mut().zip(&reach[to]).for_each(|(word, other)| *word |= other);
        }
        reach[from] = set;
    }
    let reaches = |from: usize, to: usize| reach[from][to / 64] >> (to % 64) & 1 == 1;
    let is_shortcut = |&(from, to): &(usize, usize)| {
        ranks[to] > ranks[from] + 1 && below[from].iter().any(|&next| next != to && reaches(next, to))
    };
    let found: Vec<bool> = edges.iter().map(is_shortcut).collect();
    let long = |&(from, to): &(usize, usize)| ranks[to] > ranks[from] + 1;
    let points = edges
        .iter()
        .zip(&found)
        .filter(|(_, shortcut)| !**shortcut)
        .map(|(&(from, to), _)| ranks[to] - ranks[from] - 1);
    if points.sum::<usize>() > MAX_POINTS { edges.iter().map(long).collect() } else { found }
}

/// Pins the boxes that lead to the result and that no line jumps over on its way there.
fn pin(boxes: &mut [Vertex], result: usize, edges: &[(usize, usize)], shortcuts: &[bool]) {
    let mut above: Vec<Vec<usize>> = vec![Vec::new(); boxes.len()];
    edges.iter().for_each(|&(from, to)| above[to].push(from));
    let mut needed = vec![false; boxes.len()];
    needed[result] = true;
    for index in (0..boxes.len()).rev().filter(|&index| index <= result) {
        if needed[index] {
            above[index].iter().for_each(|&from| needed[from] = true);
        }
    }
    let mut lands: Vec<usize> = (0..boxes.len()).collect();
    for (&(from, to), _) in edges.iter().zip(shortcuts).filter(|((_, to), shortcut)| needed[*to] && !**shortcut) {
        lands[from] = lands[from].max(to);
    }
    let mut furthest = 0;
    for index in (0..boxes.len()).filter(|&index| needed[index]) {
        boxes[index].pinned = furthest <= index;
        furthest = furthest.max(lands[index]);
    }
}

/// Orders each rank by the mean place of its neighbours above, then below, then above.
fn order(rows: &mut [Vec<usize>], vertices: &[Vertex]) {
    let mut place = vec![0.0; vertices.len()];
    let number = |row: &[usize], place: &mut Vec<f64>| {
        let middle = (row.len() as f64 - 1.0) / 2.0;
        row.iter().enumerate().for_each(|(i, &vertex)| place[vertex] = i as f64 - middle);
    };
    rows.iter().for_each(|row| number(row, &mut place));
    for round in 0..3 {
        let downwards = round % 2 == 0;
        for i in 0..rows.len() {
            let i = if downwards { i } else { rows.len() - 1 - i };
            let row = &mut rows[i];
            let key = |vertex: usize| {
                let neighbours = if downwards { &vertices[vertex].above } else { &vertices[vertex].below };
                mean(neighbours, &place).unwrap_or(place[vertex])
            };
            let mut keyed: Vec<(f64, usize)> = row.iter().map(|&vertex| (key(vertex), vertex)).collect();
            keyed.sort_by(|a, b| a.0.total_cmp(&b.0));
            *row = keyed.into_iter().map(|(_, vertex)| vertex).collect();
            number(row, &mut place);
        }
    }
}

/// Mean of the neighbours' values.
fn mean(neighbours: &[usize], values: &[f64]) -> Option<f64> {
    let sum: f64 = neighbours.iter().map(|&neighbour| values[neighbour]).sum();
    (!neighbours.is_empty()).then(|| sum / neighbours.len() as f64)
}

/// Moves the boxes of each rank towards their neighbours. The fewer lines leave and enter at the ends of a line, the more it
/// pulls, so that chains become straight and a merge does not draw its branches together.
fn spread(rows: &[Vec<usize>], vertices: &mut [Vertex]) {
    let mut x = vec![0.0; vertices.len()];
    for round in 0..ROUNDS {
        for i in 0..rows.len() {
            let row = &rows[if round % 2 == 0 { i } else { rows.len() - 1 - i }];
            let wishes: Vec<(f64, f64)> = row.iter().map(|&index| wish(index, vertices, &x)).collect();
            let widths: Vec<f64> = row.iter().map(|&index| vertices[index].width).collect();
            for (&index, place) in row.iter().zip(apart(&wishes, &widths)) {
                x[index] = place;
            }
        }
    }
    vertices.iter_mut().zip(x).for_each(|(vertex, x)| vertex.x = x);
}

/// Where a vertex would best be, and how much it matters.
fn wish(index: usize, vertices: &[Vertex], x: &[f64]) -> (f64, f64) {
    let Vertex { above, below, pinned, .. } = &vertices[index];
    if *pinned {
        return (0.0, 1e6);
    }
    let pull = |from: usize, to: usize| {
        let busiest = vertices[from].below.len().max(vertices[to].above.len()) as f64;
        busiest.powi(-4)
    };
    let above = above.iter().map(|&other| (x[other], pull(other, index)));
    let below = below.iter().map(|&other| (x[other], pull(index, other)));
    let (sum, weight) = above.chain(below).fold((0.0, 0.0), |(sum, all), (x, pull)| (sum + x * pull, all + pull));
    if weight > 0.0 { (sum / weight, weight) } else { (0.0, 1.0) }
}

/// The places closest to what is wished, in weighted least squares, at which boxes of these widths keep their order and
/// their distance. Wishes are pairs of a place and a weight.
fn apart(wishes: &[(f64, f64)], widths: &[f64]) -> Vec<f64> {
    // Less the room that the boxes before need, places only have to ascend.
    let mut offsets = vec![0.0];
    for pair in widths.windows(2) {
        offsets.push(offsets[offsets.len() - 1] + (pair[0] + pair[1]) / 2.0 + GAP_X);
    }
    // Boxes that push against one another: their mean wish, their weight, and how many they are.
    let mut pools: Vec<(f64, f64, usize)> = Vec::new();
    for ((wish, weight), offset) in wishes.iter().zip(&offsets) {
        let mut pool = (wish - offset, *weight, 1);
        while let Some(&(before, heavy, count)) = pools.last().filter(|(before, ..)| *before > pool.0) {
            let weight = heavy + pool.1;
            pool = ((before * heavy + pool.0 * pool.1) / weight, weight, count + pool.2);
            pools.pop();
        }
        pools.push(pool);
    }
    let places = pools.into_iter().flat_map(|(place, _, count)| std::iter::repeat_n(place, count));
    places.zip(offsets).map(|(place, offset)| place + offset).collect()
}

/// From middles to corners, with the lines at the side.
fn place(
    rows: &[Vec<usize>],
    vertices: &[Vertex],
    boxes: usize,
    edges: &[(usize, usize)],
    shortcuts: &[bool],
    lines: &[Vec<usize>],
) -> Layout {
    let left = vertices.iter().map(|vertex| vertex.x - vertex.width / 2.0).fold(f64::MAX, f64::min).min(0.0);
    let heights: Vec<f64> =
        rows.iter().map(|row| row.iter().map(|&index| vertices[index].height).fold(0.0, f64::max)).collect();
    let mut tops = vec![0.0];
    heights.iter().for_each(|height| tops.push(tops[tops.len() - 1] + height + GAP_Y));
    let rect = |vertex: &Vertex| Rect {
        x: vertex.x - left - vertex.width / 2.0,
        y: tops[vertex.rank] + (heights[vertex.rank] - vertex.height) / 2.0,
        width: vertex.width,
        height: vertex.height,
    };
    let rects: Vec<Rect> = vertices.iter().map(rect).collect();
    let right = |row: &Vec<usize>| row.iter().map(|&index| rects[index].x + rects[index].width).fold(0.0, f64::max);
    let lanes = lanes(&rows.iter().map(right).collect::<Vec<f64>>(), vertices, edges, shortcuts);
    let mut routes = Vec::with_capacity(edges.len());
    for ((&(from, to), line), lane) in edges.iter().zip(lines).zip(&lanes) {
        routes.push(match lane {
            Some(lane) => Route::Side { from: side(rects[from], 0.68), lane: *lane, to: side(rects[to], 0.32) },
            None => Route::Down(down(line, &rects, vertices, &tops, &heights)),
        });
    }
    let lanes = lanes.iter().flatten();
    let width = rects.iter().map(|rect| rect.x + rect.width).chain(lanes.copied()).fold(0.0, f64::max);
    let height = tops[rows.len()] - GAP_Y;
    Layout { width, height, boxes: rects[..boxes].to_vec(), routes }
}

/// For each shortcut the place of its vertical: right of all boxes in the ranks that it passes, and of all shorter
/// shortcuts beside it.
fn lanes(right: &[f64], vertices: &[Vertex], edges: &[(usize, usize)], shortcuts: &[bool]) -> Vec<Option<f64>> {
    let mut lanes = vec![None; edges.len()];
    // The outermost line beside the gap below each rank.
    let mut taken = vec![0.0_f64; right.len()];
    let span = |index: &usize| (vertices[edges[*index].0].rank, vertices[edges[*index].1].rank);
    let mut order: Vec<usize> = (0..edges.len()).filter(|&index| shortcuts[index]).collect();
    order.sort_by_key(|index| (span(index).1 - span(index).0, span(index).0));
    for index in order {
        let (first, last) = span(&index);
        let boxes = right[first..=last].iter().chain(&taken[first..last]).copied().fold(0.0, f64::max);
        let lane = boxes + LANE;
        taken[first..last].fill(lane);
        lanes[index] = Some(lane);
    }
    lanes
}

/// A point on the right-hand side of a box, so far down.
fn side(rect: Rect, share: f64) -> Point {
    Point { x: rect.x + rect.width, y: rect.y + share * rect.height }
}

/// From the bottom of the first box through the invisible ones, each from the top to the bottom of its rank, to the top of
/// the last.
fn down(line: &[usize], rects: &[Rect], vertices: &[Vertex], tops: &[f64], heights: &[f64]) -> Vec<Point> {
    let middle = |index: usize| rects[index].x + rects[index].width / 2.0;
    let (first, last) = (line[0], line[line.len() - 1]);
    let mut points = vec![Point { x: middle(first), y: rects[first].y + rects[first].height }];
    for &index in &line[1..line.len() - 1] {
        let (top, height) = (tops[vertices[index].rank], heights[vertices[index].rank]);
        points.extend([Point { x: middle(index), y: top }, Point { x: middle(index), y: top + height }]);
    }
    points.push(Point { x: middle(last), y: rects[last].y });
    points
}
