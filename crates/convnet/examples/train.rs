//! Trains a net of one's own on arrays and prints its accuracy: `cargo run --release --example train`.

use convnet::prelude::*;

fn main() -> Result<()> {
    // Pictures of 8×8 with a bar, horizontal and vertical in turn.
    let pixels =
        (0..640 * 64).map(|at| if [at / 8 % 8, at % 8][at / 64 % 2] == at / 128 % 8 { 255 } else { 0 }).collect();
    let (labels, classes) = ((0..640).map(|i| i % 2).collect(), ["horizontal", "vertical"].map(String::from).to_vec());
    let splits = Splits::from(Dataset::new("bars", [1, 8, 8], pixels, labels, classes)?).hold_out(ValSplit::default());
    let mut net = Net::new("bars", Shape::Map([1, 8, 8]))?;
    net.then("conv", Conv2d::new(8, 3))?;
    net.then("relu", Activation::Relu)?;
    net.then("flatten", Op::Flatten)?;
    net.then("head", Linear::new(2))?;
    let outcome = Trainer::new(Classifier::untrained(net, 0)?, splits, Recipe::default())?.fit(&mut ())?;
    println!("{:.1} % of the validation pictures recognised", 100.0 * outcome.progress.best_accuracy);
    Ok(())
}
