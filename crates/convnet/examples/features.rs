//! The features of a layer for a picture: `cargo run --release --example features -- weights.safetensors photo.jpg layer4`.

use convnet::classifier::Classifier;
use convnet::prelude::*;

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [weights, photo, layer] = &arguments[..] else {
        return Err("expected a file of weights, a picture, and a layer or a block of layers".into());
    };
    let Classifier { description, weights } = Classifier::load(None, weights.as_ref())?;
    let image = description.prepare(std::path::Path::new(photo))?;
    let engine = Engine::new(0)?;
    let mut inference = Inference::builder(description.net(), &weights).taps([layer]).build(&engine)?;
    inference.run(&image, 1)?;
    let (shape, features) = inference.feature(layer)?;
    println!("{layer}: {shape}; the mean of each channel:");
    for (channel, pixels) in features.chunks_exact(features.len() / shape.channels()).enumerate() {
        println!("{channel:5} {:9.4}", pixels.iter().sum::<f32>() / pixels.len() as f32);
    }
    Ok(())
}
