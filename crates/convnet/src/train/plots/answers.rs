//! What a net answers to the first pictures of a part.

use std::path::Path;
use std::sync::Arc;

use super::{Prediction, predictions};
use crate::classifier::Description;
use crate::data::{Dataset, Loader, LoaderOptions, Order};
use crate::evaluate::ranking;
use crate::exec::{Engine, Inference};
use crate::{Result, StateDict};

/// Pictures that are drawn.
const SHOWN: usize = 40;

/// Draws what the net sees in the first of these pictures; nothing where they have other than 1 or 3 channels.
pub(in crate::train) fn answers(
    path: &Path,
    description: &Description,
    weights: &StateDict,
    data: &Arc<Dataset>,
    engine: &Engine,
) -> Result<()> {
    let (shape, classes) = (data.shape(), description.classes());
    if !matches!(shape[0], 1 | 3) {
        return Ok(());
    }
    let options = LoaderOptions { batch_size: SHOWN, order: Order::Sequential, start_batch: 0, workers: 1 };
    let mut loader = Loader::new(Arc::clone(data), description.normalization(), options)?;
    let Some(batch) = loader.next().transpose()? else { return Ok(()) };
    let mut inference = Inference::new(description.net(), engine, batch.len(), weights)?;
    let logits = inference.run(batch.images(), batch.len())?.chunks_exact(classes.len());
    let planes = (0..batch.len()).map(|index| data.image(index)).collect::<Result<Vec<_>>>()?;
    let seen = logits.zip(batch.labels()).zip(&planes).map(|((logits, &label), planes)| Prediction {
        pixels: planes,
        predicted: &classes[ranking(logits)[0]],
        truth: &classes[label as usize],
    });
    predictions(path, shape, &seen.collect::<Vec<_>>())
}
