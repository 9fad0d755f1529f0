//! How a training would scale: the step of one machine as it is measured, and a link as latency and bandwidth.
//!
//! Each process sends `size - 1` others their slices of a bucket and receives as many, and the sums go the same way back, so a bucket
//! of `b` bytes takes `2 (n - 1) (latency + b / (n · bandwidth))`, and the time of adding. Buckets are exchanged one after the other, each
//! as soon as backward has completed it. Everything else is taken to be the same on all machines: whoever waits for the slowest of many waits
//! longer.

use std::time::Instant;

use convnet_kernels::memory::Buffer;
use serde::Serialize;

use crate::exec::{Engine, Training, Update};
use crate::net::Net;
use crate::{Result, weights};

/// Steps before the first that counts.
const WARM_UP: usize = 3;
const LEARNING_RATE: f32 = 1e-3;

/// What connects machines: each sends and receives at this rate at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Link {
    /// Bytes a second.
    pub bandwidth: f64,
    /// Seconds until a message arrives, however short it is.
    pub latency: f64,
}

/// Where the time of a step goes on one machine.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StepProfile {
    /// Pictures of the step.
    pub batch_size: usize,
    /// Bytes of each bucket of gradients and when backward has completed it, in seconds from the beginning of the step.
    pub buckets: Vec<(u64, f64)>,
    /// Seconds of the update.
    pub update: f64,
    /// Seconds that adding a byte of gradients to others takes.
    pub add: f64,
}

/// A step on several machines.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ScaledStep {
    /// Machines, each with a batch as large as that which was measured.
    pub nodes: usize,
    /// Seconds of a step.
    pub seconds: f64,
    /// The same if the exchange began after backward.
    pub sequential: f64,
    /// Seconds of all exchanges.
    pub exchange: f64,
    /// The step of one machine over that of these, 0 to 1.
    pub efficiency: f64,
}

impl StepProfile {
    /// Measures steps of stochastic gradient descent on random pictures: the median of so many, at least 1.
    ///
    /// # Errors
    /// As [`Training::new`].
    pub fn measure(
        net: &Net,
        engine: &Engine,
        batch_size: usize,
        bucket_cap_mb: usize,
        repeats: usize,
    ) -> Result<StepProfile> {
        let update = Update::Sgd { momentum: 0.9, nesterov: false, weight_decay: 0.0 };
        let mut training = Training::new(net, engine, batch_size, &weights::init(net, 0), update, 0)?;
        let pixels = batch_size * net.input_shape().elements();
        let images: Vec<f32> = (0..pixels).map(|i| (i.wrapping_mul(0x9e37_79b1) >> 8 & 0xff) as f32 / 255.0).collect();
        let classes = net.output_shape().elements();
        let labels: Vec<u32> = (0..batch_size).map(|image| (image % classes) as u32).collect();
        let buckets = training.buckets(super::Processes::alone().with_bucket_cap(bucket_cap_mb).least());
        let mut times = vec![Vec::new(); buckets.len() + 1];
        for step in 0..WARM_UP + repeats.max(1) {
            let found = training.timed_step(&images, &labels, LEARNING_RATE, &buckets)?;
            if step >= WARM_UP {
                times.iter_mut().zip(found).for_each(|(times, found)| times.push(found.as_secs_f64()));
            }
        }
        let mut median = |times: &mut Vec<f64>| {
            times.sort_by(f64::total_cmp);
            times[times.len() / 2]
        };
        let medians: Vec<f64> = times.iter_mut().map(&mut median).collect();
        let bytes = buckets.iter().map(|bucket| (bucket.range.len() * size_of::<f32>()) as u64);
        Ok(StepProfile {
            batch_size,
            buckets: bytes.zip(medians.iter().copied()).collect(),
            update: medians[buckets.len()],
            add: time_of_adding(),
        })
    }

    /// Seconds of the step.
    pub fn seconds(&self) -> f64 {
        self.backward() + self.update
    }

    /// When backward ends.
    fn backward(&self) -> f64 {
        self.buckets.last().map_or(0.0, |(_, complete)| *complete)
    }

    /// The step on so many machines, at least 1, each with such a batch.
    pub fn on(&self, nodes: usize, link: Link) -> ScaledStep {
        let others = nodes.max(1) as f64 - 1.0;
        let each = |bytes: u64| {
            let slice = bytes as f64 / nodes.max(1) as f64;
            others * (2.0 * (link.latency + slice / link.bandwidth) + slice * self.add)
        };
        let (mut free, mut exchange) = (0.0, 0.0);
        for &(bytes, complete) in &self.buckets {
            exchange += each(bytes);
            free = f64::max(free, complete) + each(bytes);
        }
        let seconds = f64::max(self.backward(), free) + self.update;
        let sequential = self.backward() + exchange + self.update;
        ScaledStep { nodes, seconds, sequential, exchange, efficiency: self.seconds() / seconds }
    }
}

/// Seconds a byte.
fn time_of_adding() -> f64 {
    const LEN: usize = 4 << 20;
    const TIMES: usize = 5;
    let (mut sum, other) = (Buffer::zeros(LEN), Buffer::from(&vec![1.0; LEN][..]));
    let mut least = f64::INFINITY;
    for _ in 0..TIMES {
        let start = Instant::now();
        super::sum::add(&mut sum, &other);
        least = least.min(start.elapsed().as_secs_f64());
    }
    least / (LEN * size_of::<f32>()) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zoo::{ZooOptions, by_name};

    const PROFILE: StepProfile = StepProfile { batch_size: 8, buckets: Vec::new(), update: 1.0, add: 0.0 };

    #[test]
    fn buckets_go_one_after_the_other_as_they_are_complete() {
        let profile = StepProfile { buckets: vec![(10, 1.0), (10, 2.0)], ..PROFILE };
        let link = Link { bandwidth: 10.0, latency: 0.0 };
        // Each bucket takes 2 · 1 · 10 / (2 · 10) = 1 s: from 1 to 2 and from 2 to 3.
        let two = profile.on(2, link);
        assert_eq!((two.seconds, two.sequential, two.exchange, two.efficiency), (4.0, 5.0, 2.0, 0.75));
        // Of infinitely many nodes each takes 2 s, from 1 to 3 and on to 5, and its latency for each of them.
        let many = profile.on(1 << 30, link);
        assert!((many.seconds - 6.0).abs() < 1e-6 && (many.sequential - 7.0).abs() < 1e-6);
        let late = profile.on(5, Link { latency: 0.25, ..link });
        assert!((late.exchange - (3.2 + 4.0)).abs() < 1e-9);
        let one = profile.on(1, link);
        assert_eq!((one.seconds, one.sequential, one.exchange, one.efficiency), (3.0, 3.0, 0.0, 1.0));
        // Adding takes time of its own.
        let adding = StepProfile { add: 0.01, ..profile.clone() }.on(2, link);
        assert!((adding.exchange - 2.1).abs() < 1e-9 && (adding.sequential - 5.1).abs() < 1e-9);
    }

    #[test]
    fn a_step_is_measured() {
        let net = by_name("resnet20", &ZooOptions::default()).unwrap();
        let profile = StepProfile::measure(&net, &Engine::new(1).unwrap(), 2, 0, 1).unwrap();
        assert_eq!(profile.buckets.len(), 1);
        assert!(profile.buckets[0].0 >= 4 * net.parameter_count() && profile.add > 0.0);
        assert!(profile.update > 0.0 && profile.seconds() > profile.update);
    }
}
