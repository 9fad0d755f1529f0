//! Pictures per second that a loader gives: decoded, cropped at random to 224×224, mirrored and normalised. `bench/loader.py` runs
//! it beside torchvision's.
//!
//! ```text
//! cargo run --release --example loader -- FOLDER WORKERS BATCH_SIZE EPOCHS
//! ```

use std::env;
use std::sync::Arc;
use std::time::Instant;

use convnet::data::augment::Augmentation;
use convnet::data::{Loader, LoaderOptions, Normalization, Order, Sizing, Source, TargetSize};
use convnet::{Error, Result};

fn main() -> Result<()> {
    let usage = || Error::invalid("expected FOLDER WORKERS BATCH_SIZE EPOCHS");
    let [folder, numbers @ ..] = &env::args().skip(1).collect::<Vec<_>>()[..] else { return Err(usage()) };
    let numbers = numbers.iter().map(|text| text.parse().ok()).collect::<Option<Vec<usize>>>();
    let [workers, batch_size, epochs] = numbers.unwrap_or_default()[..] else { return Err(usage()) };
    let augmentation = Augmentation::imagenet();
    let target = TargetSize::customary([3, 224, 224]);
    let sizing = Sizing { whole: true, memory: 0, ..Sizing::to(target) };
    let data = Arc::new(Source::parse(folder)?.load(sizing)?.train);
    for epoch in 0..epochs as u64 {
        let options = LoaderOptions { batch_size, order: Order::Shuffled { seed: 0, epoch }, start_batch: 0, workers };
        let start = Instant::now();
        let loader = Loader::augmented(Arc::clone(&data), &Normalization::imagenet(), options, &augmentation)?;
        let pictures = loader.map(|batch| Ok(batch?.len())).sum::<Result<usize>>()?;
        println!("{:.1}", pictures as f64 / start.elapsed().as_secs_f64());
    }
    Ok(())
}
