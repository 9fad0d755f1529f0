//! The thread that computes what is queued.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crate::metrics::Metrics;
use crate::queue::{Computed, Failure, Job, Queue, Reply, Work};

/// Computes until the queue is stopped and empty.
pub(crate) fn compute(queue: &Queue, delay: Duration, metrics: &Metrics) {
    while let Some(batch) = queue.take(delay) {
        let mut pictures = Vec::new();
        for Job { sessions, work, queued, .. } in batch {
            match work {
                // A call that breaks off has dropped its reply, which tells who waits.
                Work::Task(task, _) => drop(catch_unwind(AssertUnwindSafe(|| task(None)))),
                Work::Picture(image, reply) => pictures.push((sessions, image, reply, queued)),
            }
        }
        let Some((sessions, ..)) = pictures.first() else { continue };
        let (sessions, count, start) = (std::sync::Arc::clone(sessions), pictures.len(), Instant::now());
        let images: Vec<f32> = pictures.iter().flat_map(|(_, image, ..)| image.iter().copied()).collect();
        let found = catch_unwind(AssertUnwindSafe(|| sessions.run(&images, count)));
        let computed = start.elapsed();
        metrics.batch(count, computed);
        let rows = match found {
            Ok(Ok(rows)) => rows,
            Ok(Err(error)) => {
                let message = error.to_string();
                pictures.into_iter().for_each(|(_, _, reply, _)| {
                    answer(reply, Err(Failure::Error(convnet::Error::invalid(message.clone()))));
                });
                continue;
            }
            Err(_) => {
                pictures.into_iter().for_each(|(_, _, reply, _)| answer(reply, Err(Failure::Broken)));
                continue;
            }
        };
        let classes = rows.len() / count;
        for ((_, _, reply, queued), output) in pictures.into_iter().zip(rows.chunks_exact(classes.max(1))) {
            let queued = start.saturating_duration_since(queued);
            metrics.queued(queued);
            answer(reply, Ok(Computed { output: output.to_vec(), queued, computed }));
        }
    }
}

/// Nobody may be waiting any more.
fn answer(reply: Reply<Computed>, found: Result<Computed, Failure>) {
    let _ = reply.send(found);
}
