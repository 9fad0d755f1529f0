//! Prints what a trained net sees in a JPEG in memory: `cargo run --example classify -- weights.safetensors photo.jpg`.

use convnet::classifier::Classifier;
use convnet::predictor::Predictor;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (Some(weights), Some(photo)) = (std::env::args().nth(1), std::env::args().nth(2)) else {
        return Err("expected a file of weights and a picture".into());
    };
    let jpeg: Vec<u8> = std::fs::read(photo)?;
    let mut predictor = Predictor::new(Classifier::load(None, weights.as_ref())?)?;
    println!("{}", predictor.predict(jpeg)?.label());
    Ok(())
}
