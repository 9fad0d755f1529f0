//! The built-in data set: handwritten-looking digits, drawn instead of stored.
//!
//! A digit is drawn as a person writes it: one of several ways to write it (`skeletons.rs`), its points a little off, the
//! whole narrowed, slanted, turned and bent, then inked with a pen of some width and pressure, white on black. As in
//! MNIST, it fills a box of about 20 × 20 in the middle of 28 × 28 pixels.
//!
//! Picture `i` of a part depends on the seed, the part and `i` alone: a smaller set is a prefix of a larger one. Only
//! exactly rounded operations are used (no sine, no logarithm), so it is the same on every machine.
//! Speed: 10,000 pictures in about 0.1 s on one core.

mod skeletons;

use self::skeletons::{SKELETONS, Skeleton, Stroke};
use super::{Dataset, Splits};
use crate::Result;
use crate::random::Random;

/// Seed of the set that `--data digits` means.
pub const SEED: u64 = 0;
/// Its number of training pictures.
pub const TRAIN: usize = 10_000;
/// Its number of validation pictures.
pub const VAL: usize = 2_000;

const SIDE: usize = 28;
const PIXELS: usize = SIDE * SIDE;
/// Lines drawn for each part of a curve between two points of a skeleton.
const LINES_PER_SPAN: usize = 6;

/// Draws `train` and `val` pictures of 1×28×28, from streams of random numbers that never meet.
///
/// # Errors
/// None that can be met with sizes that fit into memory.
pub fn splits(seed: u64, train: usize, val: usize) -> Result<Splits> {
    Ok(Splits {
        train: dataset("digits (train)", seed, *b"digits-a", train)?,
        val: Some(dataset("digits (val)", seed, *b"digits-b", val)?),
        test: None,
    })
}

/// "0" to "9".
pub fn classes() -> Vec<String> {
    (0..10).map(|digit| digit.to_string()).collect()
}

fn dataset(name: &str, seed: u64, part: [u8; 8], len: usize) -> Result<Dataset> {
    let mut images = Vec::with_capacity(len * PIXELS);
    let mut labels = Vec::with_capacity(len);
    for index in 0..len {
        let mut random = Random::stream(seed, part, index as u64);
        let digit = random.below(10);
        labels.push(digit as u32);
        images.extend(draw(&mut random, digit));
    }
    Dataset::new(name, [1, SIDE, SIDE], images, labels, classes())
}

type Point = (f32, f32);

/// One picture of `digit`, row by row.
fn draw(random: &mut Random, digit: usize) -> [u8; PIXELS] {
    let ways = SKELETONS[digit];
    let skeleton = ways[random.below(ways.len())];
    let mut curves = trace(random, skeleton);
    let pose = Pose::random(random);
    for point in curves.iter_mut().flatten() {
        *point = pose.apply(*point);
    }
    let pen = Pen::random(random);
    place(random, &mut curves, pen.radius);
    let mut coverage = [0.0; PIXELS];
    for curve in &curves {
        pen.stroke(random, curve, &mut coverage);
    }
    let gain = random.range(0.9, 1.1);
    let grain = random.range(0.0, 0.08);
    coverage.map(|ink| if ink > 0.0 { ((ink * gain + random.bell(grain)) * 255.0).round() as u8 } else { 0 })
}

/// The strokes of a skeleton as lists of points close to each other, its own points moved a little.
fn trace(random: &mut Random, skeleton: Skeleton) -> Vec<Vec<Point>> {
    skeleton.iter().map(|stroke| smooth(&wobble(random, stroke))).collect()
}

/// Moves the points of a stroke; the two of a corner stay together.
fn wobble(random: &mut Random, stroke: Stroke) -> Vec<Point> {
    let mut offset = (0.0, 0.0);
    let moved = stroke.iter().enumerate().map(|(i, point)| {
        if i == 0 || stroke[i - 1] != *point {
            offset = (random.bell(0.031), random.bell(0.031));
        }
        (point.0 + offset.0, point.1 + offset.1)
    });
    moved.collect()
}

/// A Catmull-Rom curve through `points`, in pieces that end where a point is given twice.
fn smooth(points: &[Point]) -> Vec<Point> {
    let mut curve = vec![points[0]];
    for piece in points.chunk_by(|a, b| a != b) {
        let mirrored = |end: Point, next: Point| (2.0 * end.0 - next.0, 2.0 * end.1 - next.1);
        for i in 1..piece.len() {
            let (p1, p2) = (piece[i - 1], piece[i]);
            let p0 = if i > 1 { piece[i - 2] } else { mirrored(p1, p2) };
            let p3 = piece.get(i + 1).copied().unwrap_or(mirrored(p2, p1));
            for step in 1..=LINES_PER_SPAN {
                let t = step as f32 / LINES_PER_SPAN as f32;
                curve.push((catmull_rom([p0.0, p1.0, p2.0, p3.0], t), catmull_rom([p0.1, p1.1, p2.1, p3.1], t)));
            }
        }
    }
    curve
}

/// The curve at `t` in 0..1 between the middle two of four values.
fn catmull_rom([a, b, c, d]: [f32; 4], t: f32) -> f32 {
    b + 0.5 * t * ((c - a) + t * ((2.0 * a - 5.0 * b + 4.0 * c - d) + t * (3.0 * (b - c) + d - a)))
}

/// How a whole digit is written: narrow or wide, slanted, turned, bent.
struct Pose {
    width: f32,
    slant: f32,
    turn: f32,
    bends: [Bend; 2],
}

/// A wave that a coordinate is moved by along the other.
struct Bend {
    height: f32,
    frequency: f32,
    phase: f32,
}

impl Bend {
    fn random(random: &mut Random) -> Bend {
        Bend { height: random.bell(0.035), frequency: random.range(0.6, 1.3), phase: random.unit() }
    }

    fn at(&self, x: f32) -> f32 {
        self.height * wave(self.frequency * x + self.phase)
    }
}

impl Pose {
    fn random(random: &mut Random) -> Pose {
        Pose {
            width: random.range(0.75, 1.3),
            slant: 0.12 + random.bell(0.18),
            turn: random.bell(0.09),
            bends: [Bend::random(random), Bend::random(random)],
        }
    }

    fn apply(&self, (x, y): Point) -> Point {
        let (x, y) = (x + self.bends[0].at(y), y + self.bends[1].at(x));
        let (x, y) = ((x - 0.3) * self.width, y - 0.5);
        let x = x - self.slant * y;
        // A rotation by a small angle, its cosine and sine by their series.
        let (cos, sin) = (1.0 - self.turn * self.turn / 2.0, self.turn);
        (cos * x - sin * y, sin * x + cos * y)
    }
}

/// A wave of height 1 and period 1, made of parabolas: nearly a sine, and the same everywhere.
fn wave(x: f32) -> f32 {
    let x = x - x.floor();
    if x < 0.5 { 16.0 * x * (0.5 - x) } else { -16.0 * (x - 0.5) * (1.0 - x) }
}

/// Scales a drawing into its box, ink of the given radius included, and puts it near the middle of the picture.
fn place(random: &mut Random, curves: &mut [Vec<Point>], radius: f32) {
    let points = || curves.iter().flatten();
    let low = points().fold((f32::MAX, f32::MAX), |low, p| (low.0.min(p.0), low.1.min(p.1)));
    let high = points().fold((f32::MIN, f32::MIN), |high, p| (high.0.max(p.0), high.1.max(p.1)));
    let size = (high.0 - low.0).max(high.1 - low.1).max(0.1);
    let scale = (random.range(17.5, 21.5) - 2.0 * radius) / size;
    let middle = SIDE as f32 / 2.0;
    let to = (middle + random.bell(1.0), middle + random.bell(0.7));
    let from = ((low.0 + high.0) / 2.0, (low.1 + high.1) / 2.0);
    for point in curves.iter_mut().flatten() {
        *point = (to.0 + scale * (point.0 - from.0), to.1 + scale * (point.1 - from.1));
    }
}

/// What the digit is written with; in pixels.
struct Pen {
    radius: f32,
    /// Width of the edge in which the ink fades.
    edge: f32,
    /// How much the pressure varies along a stroke.
    pressure: f32,
}

impl Pen {
    fn random(random: &mut Random) -> Pen {
        let heavy = random.unit();
        Pen {
            radius: 0.75 + 0.6 * random.unit() + 0.6 * heavy * heavy,
            edge: random.range(0.9, 1.6),
            pressure: random.range(0.0, 0.25),
        }
    }

    /// Inks the lines between the points of a curve.
    fn stroke(&self, random: &mut Random, curve: &[Point], coverage: &mut [f32; PIXELS]) {
        let (frequency, phase) = (random.range(0.5, 1.5), random.unit());
        let length = curve.len() as f32;
        for (i, line) in curve.windows(2).enumerate() {
            let radius = self.radius * (1.0 + self.pressure * wave(frequency * i as f32 / length + phase));
            self.line(line[0], line[1], radius, coverage);
        }
    }

    /// Inks all that lies within `radius` of a line: each pixel by its distance, so the edge is smooth.
    fn line(&self, from: Point, to: Point, radius: f32, coverage: &mut [f32; PIXELS]) {
        let reach = radius + self.edge;
        let pixels = |a: f32, b: f32| {
            let (low, high) = ((a.min(b) - reach).max(0.0), (a.max(b) + reach).clamp(0.0, SIDE as f32));
            low as usize..high as usize
        };
        let (dx, dy) = (to.0 - from.0, to.1 - from.1);
        let length_squared = (dx * dx + dy * dy).max(1e-6);
        for row in pixels(from.1, to.1) {
            for column in pixels(from.0, to.0) {
                let (x, y) = (column as f32 + 0.5 - from.0, row as f32 + 0.5 - from.1);
                let along = ((x * dx + y * dy) / length_squared).clamp(0.0, 1.0);
                let (x, y) = (x - along * dx, y - along * dy);
                let distance = (x * x + y * y).sqrt();
                let ink = ((radius - distance) / self.edge + 0.5).clamp(0.0, 1.0);
                let pixel = &mut coverage[row * SIDE + column];
                *pixel = pixel.max(ink);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Instant;

    use super::*;
    use crate::data::{Sizing, Source, picture, test_data};

    #[test]
    fn a_smaller_set_is_a_prefix_and_seeds_and_parts_differ() {
        let large = splits(7, 60, 40).unwrap();
        let mut small = large.clone();
        small.train.truncate(20);
        small.val.as_mut().unwrap().truncate(10);
        assert_eq!(splits(7, 20, 10).unwrap(), small);
        assert_ne!(splits(8, 20, 10).unwrap(), small);
        assert_ne!(small.train.image(0).unwrap(), small.val.unwrap().image(0).unwrap());
        let val = large.val.as_ref().unwrap();
        let mut unique: Vec<_> = (0..60).map(|i| large.train.image(i).unwrap()).collect();
        unique.extend((0..40).map(|i| val.image(i).unwrap()));
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(unique.len(), 100, "no two pictures are equal");
    }

    #[test]
    fn every_picture_looks_like_writing() {
        let data = splits(SEED, 2_000, 0).unwrap().train;
        assert!(data.class_counts().iter().all(|count| (150..250).contains(count)));
        for i in 0..data.len() {
            let image = data.image(i).unwrap();
            let ink = image.iter().map(|&x| f32::from(x)).sum::<f32>() / 255.0;
            assert!((15.0..330.0).contains(&ink), "picture {i}: {ink} pixels of ink");
            let rim =
                (0..PIXELS).filter(|p| [0, SIDE - 1].contains(&(p % SIDE)) || [0, SIDE - 1].contains(&(p / SIDE)));
            assert!(rim.map(|p| image[p]).max() < Some(200), "picture {i} leaves its frame");
        }
    }

    #[test]
    fn the_set_stays_the_same() {
        use sha2::{Digest, Sha256};
        let data = splits(SEED, 200, 0).unwrap().train;
        let mut hash = Sha256::new();
        (0..data.len()).for_each(|i| hash.update(data.image(i).unwrap()));
        let hex: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex, "dcfc1068ddd0207cddf74e6d4a7c1716cb7e4301da5417ce4f42079cd4f8b618",
            "the drawing has changed: results on digits will too"
        );
    }

    /// `cargo test -p convnet contact_sheet -- --ignored`, then look at target/digits.png.
    #[test]
    #[ignore = "draws a sheet to look at"]
    fn contact_sheet() {
        let start = Instant::now();
        let data = splits(SEED, TRAIN, 0).unwrap().train;
        println!("{} pictures in {:?}", data.len(), start.elapsed());
        let mut order: Vec<usize> = (0..600).collect();
        order[300..].sort_by_key(|&i| data.labels()[i]);
        let (columns, zoom) = (30, 2);
        let (width, height) = (columns * SIDE * zoom, order.len() / columns * SIDE * zoom);
        let mut sheet = vec![0; width * height];
        for (i, pixel) in sheet.iter_mut().enumerate() {
            let (x, y) = (i % width / zoom, i / width / zoom);
            *pixel = data.image(order[y / SIDE * columns + x / SIDE]).unwrap()[y % SIDE * SIDE + x % SIDE];
        }
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/digits.png");
        picture::write_png(&path, [1, height, width], &sheet).unwrap();
    }

    /// How hard the set is, by the simplest judge; MNIST's first 10,000 and 500 pictures give 0.922, these digits 0.960.
    #[test]
    #[ignore = "slow: compares 500 pictures with 10,000"]
    fn nearest_neighbour_accuracy() {
        let Splits { train, val, .. } = splits(SEED, TRAIN, 500).unwrap();
        let accuracy = nearest_neighbour(&train, &val.unwrap());
        println!("digits: {accuracy}");
        assert!((0.90..0.98).contains(&accuracy));
        let Some(folder) = test_data("mnist") else { return };
        let Splits { mut train, test, .. } = Source::Folder(folder).load(Sizing::default()).unwrap();
        let mut test = test.unwrap();
        train.truncate(TRAIN);
        test.truncate(500);
        println!("MNIST: {}", nearest_neighbour(&train, &test));
    }

    fn nearest_neighbour(train: &Dataset, test: &Dataset) -> f32 {
        let distance =
            |a: &[u8], b: &[u8]| -> i32 { a.iter().zip(b).map(|(&a, &b)| (i32::from(a) - i32::from(b)).pow(2)).sum() };
        let nearest = |image: &[u8]| (0..train.len()).min_by_key(|&i| distance(image, &train.image(i).unwrap()));
        let class = |i| nearest(&test.image(i).unwrap()).map(|n| train.labels()[n]);
        (0..test.len()).filter(|&i| class(i) == Some(test.labels()[i])).count() as f32 / test.len() as f32
    }
}
