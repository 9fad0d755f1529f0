//! tract on an ONNX file, turn by turn.

use convnet_peers::{Given, Result, take_turns};
use tract_linalg::multithread::{Executor, set_default_executor};
use tract_onnx::prelude::*;

fn main() -> Result<()> {
    let given = Given::read()?;
    if given.threads > 1 {
        set_default_executor(Executor::multithread(given.threads));
    }
    let model = tract_onnx::onnx()
        .model_for_path(&given.model)?
        .with_input_fact(0, f32::fact(&given.shape).into())?
        .into_optimized()?
        .into_runnable()?;
    let pictures: TValue = Tensor::from_shape(&given.shape, &given.pictures)?.into();
    take_turns(given.shape[0], || {
        let found = model.run(tvec!(pictures.clone()))?;
        Ok(found[0].to_plain_array_view::<f32>()?.iter().copied().collect())
    })
}
