//! Runs a network of an ONNX file on numbers: `cargo run --example run_onnx -- model.onnx input.f32 output.f32 [CxHxW]`. Both
//! files hold little-endian f32 without a header: pictures (batch, channels, height, width, whatever the file's own input is), and
//! what the network makes of them. The size is for a network that leaves its own open.

use std::fs;

use convnet::onnx;
use convnet::prelude::*;

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (model, input, output, size) = match &arguments[..] {
        [model, input, output] => (model, input, output, None),
        [model, input, output, size] => (model, input, output, Some(size)),
        _ => return Err("expected a model, a file of numbers, one to write, and perhaps a size".into()),
    };
    let dims = |size: &String| size.split('x').map(str::parse).collect::<std::result::Result<Vec<usize>, _>>();
    let size = match size.map(dims).transpose()?.as_deref() {
        None => None,
        Some(&[channels, height, width]) => Some([channels, height, width].into()),
        Some(_) => return Err("expected a size such as 3x224x224".into()),
    };
    let imported = onnx::read(model.as_ref(), &onnx::Options { input: size })?;
    let bytes = fs::read(input)?;
    let pictures: Vec<f32> = bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    let count = pictures.len() / imported.net.input_shape().elements();
    let mut inference = Inference::new(&imported.net, &Engine::new(0)?, count, &imported.weights)?;
    let found = inference.run(&pictures, count)?;
    fs::write(output, found.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<u8>>())?;
    println!("{count} x {}", imported.net.output_shape());
    Ok(())
}
