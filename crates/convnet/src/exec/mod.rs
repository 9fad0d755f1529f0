//! Plans and executors: a net compiled once, then run with no allocation.
//!
//! [`Training`] and [`Inference`] lower a net to stages (`cpu/lower.rs`), place every value (`placement.rs`, `values.rs`),
//! gradient (`gradient_placement.rs`) and scratch buffer in one arena by liveness (`arena.rs`), keep parameters in the
//! layouts that kernels read (`parameters.rs`), and run (`cpu/session.rs`). [`mod@reference`] runs the same net naively, in
//! f64 if asked, as the definition that the others are tested against. Results do not depend on the number of threads.
//!
//! ```
//! use convnet::prelude::*;
//!
//! # fn main() -> Result<()> {
//! let net = zoo::by_name("resnet20", &zoo::ZooOptions::default())?;
//! let state = weights::init(&net, 0);
//! // Features of a named layer, or of the last layer of a block, beside the logits.
//! let mut session = Inference::builder(&net, &state).batch(2).taps(["layer2"]).build(&Engine::new(2)?)?;
//! let logits = session.run(&vec![0.0; 2 * 3 * 32 * 32], 2)?;
//! assert_eq!(logits.len(), 2 * 10);
//! let (shape, features) = session.feature("layer2")?;
//! assert_eq!((shape, features.len()), (Shape::Map([32, 16, 16]), 2 * 32 * 16 * 16));
//! # Ok(())
//! # }
//! ```

mod arena;
mod batch_tiling;
mod cpu;
mod engine;
mod gradient_placement;
mod gradients;
mod graph;
mod inference;
mod muon;
mod parameters;
mod placement;
mod profile;
pub mod reference;
mod storage;
mod taps;
#[cfg(test)]
pub(crate) mod tests;
mod training;
mod training_options;
mod values;

pub use convnet_kernels::loss::{Loss, Targets};
pub use engine::{ConvChoice, Engine, Precision};
pub use gradients::Gradients;
pub use inference::{Inference, InferenceBuilder, Weights};
pub use profile::ProfileRow;
pub(crate) use taps::find as find_layer;
pub(crate) use training::{Bucket, Shard, ShardExchange, ShardPictures, Sums, Watch};
pub use training::{NotFinite, Place, Step, Training};
pub use training_options::{MuonRate, ParameterGroup, TrainingBuilder, Update};

use crate::net::Net;
use crate::{Error, Result};

/// Most floats of a batch of any one value, so that places in it fit 32 bits.
const MAX_BATCH_ELEMENTS: usize = 1 << 31;

/// Refuses a batch whose values no plan holds.
pub(crate) fn check_batch(net: &Net, batch: usize) -> Result<()> {
    if batch == 0 {
        return Err(Error::setting("batch", "at least 1", 0));
    }
    for node in net.nodes() {
        let elements = node.shape.elements().next_multiple_of(16).saturating_mul(batch);
        if elements > MAX_BATCH_ELEMENTS {
            let problem = format!("a batch of {batch} pictures has {elements} numbers here; use a smaller batch size");
            return Err(Error::Layer { layer: node.name.clone(), op: node.op.name(), problem });
        }
    }
    Ok(())
}

pub(crate) fn check_images(len: usize, picture: usize, count: usize, batch: usize) -> Result<()> {
    if count == 0 || count > batch {
        return Err(Error::setting("pictures", format!("1 to {batch}, as planned"), count));
    }
    if len != count * picture {
        return Err(Error::Length {
            of: format!("numbers of {count} pictures"),
            expected: count * picture,
            found: len,
        });
    }
    Ok(())
}
