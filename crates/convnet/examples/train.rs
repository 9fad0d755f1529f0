//! Trains a net of one's own on arrays and prints its accuracy: `cargo run --release --example train`.

use convnet::data::{Dataset, Splits};
use convnet::prelude::*;
use convnet::train::{Recipe, Trainer};

fn main() -> Result<()> {
    let mut net = Net::new("bars", Shape::Map([1, 8, 8]))?;
    net.then("conv", Conv2d::new(8, 3))?;
    net.then("relu", Activation::Relu)?;
    net.then("flatten", Op::Flatten)?;
    net.then("head", Linear::new(2))?;
    let splits = Splits { train: bars(512)?, val: Some(bars(64)?), test: None };
    let outcome = Trainer::new(Classifier::untrained(net, 0)?, splits, Recipe { epochs: 20, ..Recipe::default() })?
        .fit(&mut ())?;
    println!("{:.1} % of the validation pictures recognised", 100.0 * outcome.progress.best_accuracy);
    Ok(())
}

/// Pictures of 8×8 with a horizontal bar or a vertical one.
fn bars(count: usize) -> Result<Dataset> {
    let bright = |i: usize, at: [usize; 2]| at[i % 2] == i / 2 % 8;
    let picture = |i: usize| (0..64).map(move |at| if bright(i, [at / 8, at % 8]) { 255 } else { 0 });
    let classes = ["horizontal", "vertical"].map(str::to_owned).to_vec();
    let labels = (0..count).map(|i| (i % 2) as u32).collect();
    Dataset::new("bars", [1, 8, 8], (0..count).flat_map(picture).collect(), labels, classes)
}
