//! What the programs of this package have in common: `PROGRAM FOLDER THREADS` speaks as worker.py does. When all is ready it prints
//! a line of JSON with the logits of the first picture; then, for each line on stdin, which says how many seconds a turn lasts, a line
//! with the milliseconds of each run. FOLDER has net.onnx and input.npy.

use std::error::Error;
use std::io::BufRead;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::json;

pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Runs before the first turn.
const WARM_UP: usize = 3;

/// What a program is given.
pub struct Given {
    pub model: PathBuf,
    /// The pictures' shape and numbers.
    pub shape: Vec<usize>,
    pub pictures: Vec<f32>,
    pub threads: usize,
}

impl Given {
    /// Reads the arguments and the pictures.
    pub fn read() -> Result<Given> {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        let [folder, threads] = &arguments[..] else { return Err("expected a folder and a number of threads".into()) };
        let (shape, pictures) = npy(&std::fs::read(PathBuf::from(folder).join("input.npy"))?)?;
        Ok(Given { model: PathBuf::from(folder).join("net.onnx"), shape, pictures, threads: threads.parse()? })
    }
}

/// Shape and numbers of NumPy's file of `f32`, as `numpy.save` writes it.
fn npy(bytes: &[u8]) -> Result<(Vec<usize>, Vec<f32>)> {
    const START: usize = 10;
    let length = bytes.get(8..START).ok_or("a cut off .npy")?;
    let end = START + usize::from(u16::from_le_bytes([length[0], length[1]]));
    let header = std::str::from_utf8(bytes.get(START..end).ok_or("a cut off .npy")?)?;
    let shape = header.split(['(', ')']).nth(1).ok_or("a .npy without a shape")?;
    let shape = shape.split(',').map(str::trim).filter(|side| !side.is_empty()).map(str::parse);
    let numbers = bytes[end..].chunks_exact(4).map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]]));
    Ok((shape.collect::<std::result::Result<_, _>>()?, numbers.collect()))
}

/// Answers turn by turn. `run` computes the outputs of all pictures.
pub fn take_turns(pictures: usize, mut run: impl FnMut() -> Result<Vec<f32>>) -> Result<()> {
    let mut found = Vec::new();
    for _ in 0..WARM_UP {
        found = run()?;
    }
    println!("{}", json!({ "logits": found[..found.len() / pictures] }));
    for line in std::io::stdin().lock().lines() {
        let end = Instant::now() + Duration::from_secs_f64(line?.trim().parse()?);
        let mut ms = Vec::new();
        while ms.is_empty() || Instant::now() < end {
            let start = Instant::now();
            run()?;
            ms.push(1e3 * start.elapsed().as_secs_f64());
        }
        println!("{}", json!({ "ms": ms }));
    }
    Ok(())
}
