//! Trains a net of one's own on arrays, with a loop of one's own: `cargo run --release --example train`.

use convnet::prelude::*;

fn main() -> Result<()> {
    let mut net = Net::new("bars", Shape::Map([1, 8, 8]))?;
    net.then("conv", Conv2d::new(8, 3))?;
    net.then("relu", Activation::Relu)?;
    net.then("flatten", Op::Flatten)?;
    net.then("head", Linear::new(2))?;
    let (images, labels) = bars(512);
    let (engine, update) = (Engine::new(0)?, Update::ADAM);
    let mut training = Training::new(&net, &engine, labels.len(), &weights::init(&net, 0), update, 0)?;
    (0..30).try_for_each(|_| training.step(&images, &labels, 1e-2).map(drop))?;
    let logits = Inference::new(&net, &engine, 512, &training.weights())?.run(&images, 512)?.to_vec();
    let right = logits.chunks(2).zip(&labels).filter(|(row, label)| (row[1] > row[0]) == (**label == 1)).count();
    println!("{} % of {} pictures are classified right", 100 * right / labels.len(), labels.len());
    Ok(())
}

/// Pictures of 8×8 with a horizontal bar (class 0) or a vertical one (class 1), and their classes.
fn bars(count: usize) -> (Vec<f32>, Vec<u32>) {
    let bright = |i: usize, at: [usize; 2]| at[i % 2] == i / 2 % 8;
    let picture = |i: usize| (0..64).map(move |at| f32::from(u8::from(bright(i, [at / 8, at % 8]))));
    ((0..count).flat_map(picture).collect(), (0..count).map(|i| (i % 2) as u32).collect())
}
