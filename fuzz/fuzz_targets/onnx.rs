//! Any bytes as an ONNX file: an error, or a network with weights that fit it.

#![no_main]

use convnet::{onnx, weights};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(imported) = onnx::read_bytes(bytes.to_vec(), "net", &onnx::Options::default()) {
        weights::check(&imported.net, &imported.weights).expect("weights that fit the network");
    }
});
