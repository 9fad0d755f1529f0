//! Data: sets of labelled pictures, where they come from, and batches of them.
//!
//! A [`Source`] (a built-in set, a folder, an archive, shards or a list) gives [`Splits`]: [`Dataset`]s to train on, to validate
//! with and to test with. Small ones are decoded and in memory, as bytes; of larger ones ([`Sizing::memory`]) pictures stay in
//! their files or their archive, compressed, and take 20 bytes of memory each. A [`Loader`] turns one of them into an epoch of
//! batches on background threads: read and decoded, changed at random, brought to the net's size ([`Preprocessing`]) and
//! normalised, in an order that seed and epoch alone decide, in buffers that come round again. A picture's crop is one of the
//! picture itself. JPEG files are decoded whole: at a quarter or an eighth of their size, the decoder takes a fourth less time, for
//! most of it goes into the entropy-coded data.
//!
//! Files are treated as hostile: sizes are held against the file before anything is reserved, and whatever is wrong is an
//! [`Error`] that names the file. [`Source::check`] looks at every picture, [`Source::pack`] writes shards.
//!
//! ```
//! use convnet::data::{Loader, LoaderOptions, Normalization, Order, Source, Sizing};
//! use std::sync::Arc;
//!
//! # fn main() -> convnet::Result<()> {
//! let digits = Source::parse("digits")?.load(Sizing::default())?;
//! let normalization = Normalization::unit(digits.train.shape()[0]);
//! let order = Order::Shuffled { seed: 0, epoch: 0 };
//! let options = LoaderOptions { batch_size: 100, order, start_batch: 0, workers: 1 };
//! for batch in Loader::new(Arc::new(digits.train), &normalization, options)?.take(2) {
//!     let batch = batch?;
//!     println!("{} pictures of {:?}, the first of class {}", batch.len(), batch.shape(), batch.labels()[0]);
//! }
//! # Ok(())
//! # }
//! ```

pub mod augment;
#[cfg(feature = "plots")]
mod augmented;
pub mod bitmap;
mod dataset;
pub mod digits;
#[cfg(feature = "download")]
pub mod download;
pub mod idx;
#[cfg(feature = "jpeg")]
mod jpeg;
pub mod labels;
mod loader;
mod normalize;
pub mod npy;
pub mod picture;
mod preprocessing;
pub mod preset;
mod resample;
mod resize;
#[cfg(feature = "plots")]
mod sheet;
mod source;
mod split;
pub(crate) mod stored;

#[cfg(feature = "plots")]
pub(crate) use augmented::Augmented;
pub use dataset::{Dataset, Splits};
pub(crate) use loader::Parts;
pub use loader::{Batch, Loader, LoaderOptions, Order};
pub use normalize::{Normalization, Normalizer};
pub use picture::PictureError;
pub use preprocessing::{Preprocessing, TargetSize};
pub use preset::Preset;
pub use resize::Interpolation;
#[cfg(feature = "plots")]
pub use sheet::Sheet;
pub use source::{
    Check, HeldOut, LeftOut, Packed, Packing, Part, PartCheck, Same, Sizing, Source, Unusable, cache_folder,
    pictures_in,
};
pub use split::ValSplit;
pub(crate) use stored::{Files, Item};

use std::fs::{self, File};
use std::path::Path;

use crate::{Error, Result};

/// Opens a regular file and says how many bytes it has; a pipe or a device could keep its reader waiting for ever.
pub(crate) fn open(path: &Path) -> Result<(File, u64)> {
    if !fs::metadata(path).map_err(Error::io("opening", path))?.is_file() {
        return Err(Error::file(path, "expected a regular file"));
    }
    let file = File::open(path).map_err(Error::io("opening", path))?;
    let length = file.metadata().map_err(Error::io("opening", path))?.len();
    Ok((file, length))
}

/// A folder of real data for tests, or nothing, with a line that says so: `$CONVNET_TEST_DATA/name`, else
/// `shared/data/name` beside the checkout.
#[cfg(test)]
pub(crate) fn test_data(name: &str) -> Option<std::path::PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(|folder| folder.join("shared/data"));
    let found = std::env::var_os("CONVNET_TEST_DATA").map(Into::into).into_iter().chain(beside);
    let found = found.map(|folder: std::path::PathBuf| folder.join(name)).find(|folder| folder.is_dir());
    if found.is_none() {
        eprintln!("skipped: no {name} in $CONVNET_TEST_DATA, nor in a folder shared/data beside the checkout");
    }
    found
}
