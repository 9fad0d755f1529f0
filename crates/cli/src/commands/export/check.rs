//! A written file beside ONNX Runtime, where Python has it.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use convnet::exec::{Engine, Inference};
use convnet::onnx::{self, Imported, Options};

/// What runs the file: a program for Python.
const SCRIPT: &str = include_str!("check.py");
/// How far outputs may be apart, as a share of the largest one.
const TOLERANCE: f32 = 1e-4;
/// Pictures that are shown, where the file fixes no number.
const PICTURES: usize = 2;

/// What a check has found.
pub(super) enum Checked {
    /// The largest difference of two outputs, as a share of the largest one, and ONNX Runtime's version.
    Same { difference: f32, version: String },
    /// Why nothing was compared.
    Not(String),
}

/// Shows the same pictures to the file as it is read again here, and to ONNX Runtime.
///
/// # Errors
/// Outputs that differ, a file that ONNX Runtime refuses, and what goes wrong while they are computed.
pub(super) fn check(path: &Path, batch: Option<usize>) -> anyhow::Result<Checked> {
    if let Err(problem) = has_runtime() {
        return Ok(Checked::Not(format!("python3: {problem}")));
    }
    let imported = onnx::read(path, &Options::default())?;
    let count = batch.unwrap_or(PICTURES);
    let bytes = pixels(count * imported.net.input_shape().elements());
    let expected = own(&imported, &bytes, count)?;
    let (found, version) = theirs(path, &imported, &bytes, count)?;
    let largest = expected.iter().fold(f32::MIN_POSITIVE, |largest, value| largest.max(value.abs()));
    let difference = match found.len() == expected.len() {
        true => expected.iter().zip(&found).fold(0.0, |most: f32, (a, b)| most.max((a - b).abs())) / largest,
        false => bail!("{}: expected {} outputs of ONNX Runtime, got {}", path.display(), expected.len(), found.len()),
    };
    match difference <= TOLERANCE {
        true => Ok(Checked::Same { difference, version }),
        false => bail!(
            "{}: ONNX Runtime {version} computes outputs that differ by {difference:.1e} of the largest one, expected at most {TOLERANCE:.0e}",
            path.display()
        ),
    }
}

/// Whether Python has ONNX Runtime, or why not.
fn has_runtime() -> Result<(), String> {
    let mut python = Command::new("python3");
    python.args(["-c", "import numpy, onnxruntime"]).stderr(Stdio::null());
    match python.status().map_err(|error| error.to_string())?.success() {
        true => Ok(()),
        false => Err("it has no onnxruntime (pip install onnxruntime)".into()),
    }
}

/// Pixels that differ from one another, the same in each run; by channels, rows and columns.
fn pixels(count: usize) -> Vec<u8> {
    (0..count as u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

fn own(imported: &Imported, pixels: &[u8], count: usize) -> anyhow::Result<Vec<f32>> {
    let input: Vec<f32> = pixels.iter().map(|&pixel| value(imported, pixel)).collect();
    let mut inference = Inference::new(&imported.net, &Engine::new(0)?, count, &imported.weights)?;
    Ok(inference.run(&input, count)?.to_vec())
}

/// A pixel as the network takes it.
fn value(imported: &Imported, pixel: u8) -> f32 {
    match imported.takes_bytes {
        true => f32::from(pixel),
        false => f32::from(pixel) / 127.5 - 1.0,
    }
}

/// What ONNX Runtime gives for the same pixels, and its version.
fn theirs(path: &Path, imported: &Imported, pixels: &[u8], count: usize) -> anyhow::Result<(Vec<f32>, String)> {
    let dims = imported.net.input_shape().dims();
    let (shape, input): (Vec<usize>, Vec<u8>) = match (imported.takes_bytes, &dims[..]) {
        (true, &[channels, rows, columns]) => {
            let picture = |picture: usize| {
                (0..rows * columns).flat_map(move |place| {
                    (0..channels).map(move |channel| pixels[(picture * channels + channel) * rows * columns + place])
                })
            };
            (vec![count, rows, columns, channels], (0..count).flat_map(picture).collect())
        }
        _ => {
            let floats = pixels.iter().flat_map(|&pixel| value(imported, pixel).to_le_bytes()).collect();
            ([&[count][..], &dims].concat(), floats)
        }
    };
    let shape = shape.iter().map(usize::to_string).collect::<Vec<_>>().join("x");
    let mut python = Command::new("python3")
        .arg("-c")
        .arg(SCRIPT)
        .arg(path)
        .arg(shape)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("starting python3")?;
    // The script reads everything before it writes.
    let written = python.stdin.take().map(|mut stdin| stdin.write_all(&input));
    let done = python.wait_with_output().context("waiting for python3")?;
    let told = String::from_utf8_lossy(&done.stderr);
    if !done.status.success() {
        bail!("{}: ONNX Runtime: {}", path.display(), told.trim().lines().last().unwrap_or("stopped"));
    }
    written.transpose().context("writing to python3")?;
    let floats = done.stdout.chunks_exact(4).map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
    Ok((floats.collect(), told.trim().to_owned()))
}
