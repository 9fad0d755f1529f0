//! Kernels on the layers that occur in the zoo: time, rate, and share of what the machine can do at that moment.
//!
//! ```sh
//! cargo bench -p convnet-kernels                       # all of more than a thousand
//! cargo bench -p convnet-kernels -- 'resnet18.*taken'  # what one net takes
//! ```
//!
//! A name is `forward/conv 3x3 64-64 56x56 batch 16 (resnet18,resnet50)/winograd taken`: direction, layer, batch, nets that
//! have it, and the method where there are two; plans take the one that says so. Rates are those of the direct method's
//! multiply-adds, those with padding among them, against the attainable: the lower of the peak of multiply-adds and of as many
//! as belong to the numbers that memory or a cache can bring in that time. Winograd's may exceed it, and so may kernels that
//! skip padding. Where nothing is multiplied, rates are bytes read and written, against what reading as many takes.
//!
//! All cores are used, unless `CONVNET_THREADS` says how many; `CONVNET_ISA` names an instruction set, and
//! `CONVNET_PRECISION=bf16` has products computed in bf16 (the peak is that of f32 all the same).

mod layers;
mod rates;

use convnet_kernels::precision::Precision;
use convnet_kernels::simd::Isa;
use convnet_kernels::threads::Threads;
use criterion::{Criterion, SamplingMode};
use layers::{Direction, Engine, Layer};
use rates::{Peak, Rate};
use std::rc::Rc;
use std::time::Duration;

fn main() {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    let threads = setting("CONVNET_THREADS", |count| count.parse().ok().filter(|&count| count > 0));
    let precision = setting("CONVNET_PRECISION", |name| match name {
        "f32" => Some(Precision::F32),
        "bf16" => Some(Precision::Bf16),
        _ => None,
    });
    let engine = Engine {
        threads: Threads::new(threads.unwrap_or_else(cores)).expect("threads start"),
        isa: setting("CONVNET_ISA", Isa::named).unwrap_or_else(Isa::best),
        precision: precision.unwrap_or_default(),
    };
    let peak = Rc::new(Peak::default());
    let mut criterion = Criterion::default()
        .with_measurement(Rate::new(Rc::clone(&peak)))
        .sample_size(10)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(500))
        .configure_from_args();
    for layer in layers::all() {
        bench(&mut criterion, &layer, &engine, &peak);
    }
    criterion.final_summary();
}

/// What an environment variable says, where there is one.
fn setting<T>(name: &str, read: impl FnOnce(&str) -> Option<T>) -> Option<T> {
    let value = std::env::var(name).ok()?;
    Some(read(&value).unwrap_or_else(|| panic!("{name}: cannot use '{value}' here")))
}

/// All directions of a layer in training, and forward with one picture.
fn bench(criterion: &mut Criterion<Rate>, layer: &Layer, engine: &Engine, peak: &Peak) {
    for &direction in layer.kind.directions() {
        let title = match direction {
            Direction::Forward => "forward",
            Direction::Data => "data",
            Direction::Weights => "weights",
        };
        let mut group = criterion.benchmark_group(title);
        group.sampling_mode(SamplingMode::Flat);
        let batches = layer.batches().into_iter();
        for batch in batches.filter(|&batch| batch > 1 || direction == Direction::Forward) {
            let (amount, bytes) = layer.kind.amount(direction, batch);
            group.throughput(amount.clone());
            for (choice, method) in layer.kind.methods(direction, batch, engine) {
                let name = format!("{} batch {batch} ({})/{method}", layer.kind.name(), layer.nets);
                let mut planned = None;
                group.bench_function(name, |bencher| {
                    // Not before it is known that the name was asked for.
                    let call = planned.get_or_insert_with(|| {
                        peak.measure(&engine.threads, engine.isa, &amount, bytes);
                        layer.kind.plan(direction, choice, batch, engine)
                    });
                    bencher.iter(call);
                });
            }
        }
        group.finish();
    }
}
