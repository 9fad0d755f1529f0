mod description;
mod drawing;
mod golden;
mod whole;

use super::*;
use crate::data::augment::step::Step;

/// The pictures that `tests/golden/augment.py` makes, too, as planes.
fn picture([channels, height, width]: [usize; 3], smooth: bool) -> Vec<u8> {
    let rough = |x: usize, y: usize| [(x * 37 + y * 11) % 256, (x * y) % 256, (x * x + 3 * y) % 251];
    let soft = |x: usize, y: usize| [60 + (x * 3 + y * 5) % 90, 100 + (x + 2 * y) % 101, 90 + (x * x / 8 + y) % 50];
    let pixel = |i: usize| if smooth { soft(i % width, i / width) } else { rough(i % width, i / width) };
    (0..channels).flat_map(|c| (0..height * width).map(move |i| pixel(i)[c] as u8)).collect()
}

/// Does steps to a picture.
fn done(steps: Vec<Step>, planes: &[u8], shape: [usize; 3], size: [usize; 2]) -> Vec<u8> {
    let mut scratch = Scratch::default();
    scratch.steps = steps;
    let mut out = vec![0; shape[0] * size[0] * size[1]];
    step::run(Source { bytes: planes, layout: Layout::Planes, shape }, &mut scratch, &mut out);
    // The same from pixels as decoders give them.
    let size = shape[1] * shape[2];
    let pixels: Vec<u8> = (0..planes.len()).map(|i| planes[i % shape[0] * size + i / shape[0]]).collect();
    let mut again = vec![0; out.len()];
    step::run(Source { bytes: &pixels, layout: Layout::Pixels, shape }, &mut scratch, &mut again);
    assert_eq!(again, out);
    out
}

/// The steps that a transform draws for each index, for pictures of this shape.
fn drawn(transform: impl Into<Transform>, shape: [usize; 3], target: [usize; 2], indices: u64) -> Vec<Vec<Step>> {
    let transform = transform.into();
    transform.settings().check().unwrap();
    let (mean, std) = ([0.5; 3], [0.25; 3]);
    let frame = settings::Frame { shape, target, mean: &mean, std: &std };
    let steps = |index| {
        let mut scratch = Scratch::default();
        let mut draw = Draw::new(RandomKey { seed: 3, epoch: 1, index }, purpose(transform.name(), 0));
        transform.settings().draw(frame, &mut draw, &mut settings::Steps::of(&mut scratch)).unwrap();
        scratch.steps
    };
    (0..indices).map(steps).collect()
}

/// Whether a count is within five standard deviations of what so many draws of a probability give.
fn likely(count: usize, draws: usize, p: f64) -> bool {
    let deviation = (draws as f64 * p * (1.0 - p)).sqrt();
    (count as f64 - draws as f64 * p).abs() <= 5.0 * deviation
}
