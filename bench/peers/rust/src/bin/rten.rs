//! rten on an ONNX file, turn by turn.

use std::sync::Arc;

use convnet_peers::{Given, Result, take_turns};
use rten::{Model, RunOptions, ThreadPool};
use rten_tensor::NdTensor;
use rten_tensor::prelude::*;

fn main() -> Result<()> {
    let given = Given::read()?;
    let model = Model::load_file(&given.model)?;
    let shape = <[usize; 4]>::try_from(&given.shape[..])?;
    let pictures = NdTensor::from_data(shape, given.pictures);
    let pool = Arc::new(ThreadPool::with_num_threads(given.threads));
    take_turns(shape[0], || {
        let options = RunOptions::default().with_thread_pool(Some(pool.clone()));
        let found: NdTensor<f32, 2> = model.run_one(pictures.view().into(), Some(options))?.try_into()?;
        Ok(found.into_data())
    })
}
