//! Runs a network of an ONNX file on numbers: `cargo run --example run_onnx -- model.onnx input.f32 output.f32`. Both files hold
//! little-endian f32 without a header: pictures (batch, channels, height, width, whatever the file's own input is), and what the
//! network makes of them.

use std::fs;

use convnet::onnx;
use convnet::prelude::*;

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, input, output] = &arguments[..] else {
        return Err("expected a model, a file of numbers, and one to write".into());
    };
    let imported = onnx::read(model.as_ref(), &onnx::Options::default())?;
    let bytes = fs::read(input)?;
    let pictures: Vec<f32> = bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    let count = pictures.len() / imported.net.input_shape().elements();
    let mut inference = Inference::new(&imported.net, &Engine::new(0)?, count, &imported.weights)?;
    let found = inference.run(&pictures, count)?;
    fs::write(output, found.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<u8>>())?;
    println!("{count} x {}", imported.net.output_shape());
    Ok(())
}
