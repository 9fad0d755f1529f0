//! The thread that computes what is queued.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use convnet::predictor::check_outputs;

use crate::metrics::Metrics;
use crate::queue::{Call, Computed, Failure, Job, Queue, Reply, Ticket, Work};
use crate::sessions::Sessions;

/// Computes until the queue is stopped and empty.
pub(crate) fn compute(queue: &Queue, delay: Duration, metrics: &Metrics) {
    while let Some(batch) = queue.take(delay) {
        let mut pictures = Vec::new();
        for Job { sessions, work, queued, ticket } in batch {
            match work {
                Work::Task(kind, call) => task((queue, metrics), &sessions, &ticket, (kind, call)),
                Work::Picture(image, reply) => pictures.push((sessions, image, reply, queued)),
            }
        }
        compute_pictures(pictures, metrics);
    }
}

/// A picture, whose answer goes back to who asks, and when it was queued.
type Picture = (Arc<Sessions>, Vec<f32>, Reply<Computed>, Instant);

/// Calls with what says whether to go on. Between its batches a batch of pictures that wait is computed, so that they need not wait
/// for its end; it ends early when nobody waits for it or the server stops.
fn task(
    (queue, metrics): (&Queue, &Metrics),
    sessions: &Sessions,
    ticket: &Ticket,
    (kind, call): (&'static str, Call),
) {
    let (mut begun, mut taken) = (Instant::now(), Duration::ZERO);
    let mut goes_on = || {
        taken += begun.elapsed();
        sessions.has_stepped(begun.elapsed());
        let waiting = queue.take_pictures().into_iter().flatten();
        let pictures = waiting.filter_map(|Job { sessions, work, queued, .. }| match work {
            Work::Picture(image, reply) => Some((sessions, image, reply, queued)),
            Work::Task(..) => None,
        });
        compute_pictures(pictures.collect(), metrics);
        begun = Instant::now();
        !ticket.is_left() && !queue.is_stopping()
    };
    // A call that breaks off has dropped its reply, which tells who waits.
    drop(catch_unwind(AssertUnwindSafe(|| call(Ok(&mut goes_on)))));
    taken += begun.elapsed();
    sessions.has_stepped(begun.elapsed());
    metrics.task(kind, taken);
    if !ticket.is_left() {
        sessions.has_taken(kind, taken);
    }
}

/// Computes pictures of one version of a model.
fn compute_pictures(pictures: Vec<Picture>, metrics: &Metrics) {
    let Some((sessions, ..)) = pictures.first() else { return };
    let (sessions, count, start) = (Arc::clone(sessions), pictures.len(), Instant::now());
    let images: Vec<f32> = pictures.iter().flat_map(|(_, image, ..)| image.iter().copied()).collect();
    let found = catch_unwind(AssertUnwindSafe(|| sessions.run(&images, count)));
    let computed = start.elapsed();
    metrics.batch(count, computed);
    let failed = |failure: &dyn Fn() -> Failure, pictures: Vec<Picture>| {
        pictures.into_iter().for_each(|(_, _, reply, _)| answer(reply, Err(failure())));
    };
    let rows = match found {
        Ok(Ok(rows)) => rows,
        Ok(Err(error)) => {
            let message = error.to_string();
            return failed(&|| Failure::Error(convnet::Error::invalid(message.clone())), pictures);
        }
        Err(_) => return failed(&|| Failure::Broken, pictures),
    };
    let classes = rows.len() / count;
    for ((_, _, reply, queued), output) in pictures.into_iter().zip(rows.chunks_exact(classes.max(1))) {
        let queued = start.saturating_duration_since(queued);
        metrics.queued(queued);
        let found = check_outputs(&sessions.description, output)
            .map_err(|problem| convnet::Error::invalid(problem.to_string()));
        let found = found.map(|()| Computed { output: output.to_vec(), queued, computed });
        answer(reply, found.map_err(Failure::Error));
    }
}

/// Nobody may be waiting any more.
fn answer(reply: Reply<Computed>, found: Result<Computed, Failure>) {
    let _ = reply.send(found);
}
