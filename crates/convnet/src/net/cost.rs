//! The least time that a net can take on a machine: the roofline model (Williams, Waterman and Patterson, "Roofline",
//! CACM 2009). A layer takes at least as long as its arithmetic at the peak rate, and at least as long as moving its
//! operands once at the bandwidth of the smallest level of memory that can hold them; the net takes the sum.
//!
//! Arithmetic is counted as Winograd's algorithm does it where it applies (3×3 kernels at stride 1), with a quarter of the
//! direct method's products.
//!
//! Bytes are counted as of a plan that fuses what can be fused: convolutions, linear layers and pooling read their input
//! and parameters and write their output; what works on single elements rides along with its neighbours, as does a
//! concatenation, whose inputs are written in place. In training a layer does its work three times (forward, by data, by
//! weights), or twice where its input is the picture, which needs no gradient.

use serde::{Deserialize, Serialize};

use super::{Net, NodeId};
use crate::ops::{Category, Conv2d, Op, Role, Shape};
use convnet_kernels::conv::{self, ConvShape};

/// Bytes of a number.
const NUMBER: f64 = size_of::<f32>() as f64;

/// What a machine can do with some number of threads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Roofline {
    /// Threads that compute.
    pub threads: usize,
    /// Peak of fused multiply-adds in f32, two operations each, in 10⁹ a second.
    pub gflops: f64,
    /// Bandwidth for working sets of growing size; the last is main memory's. At least one.
    pub levels: Vec<Level>,
}

/// How fast a working set of a size moves.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Level {
    /// Size of the working set.
    pub bytes: u64,
    /// Bytes read and written, in 10⁹ a second.
    pub gigabytes_per_second: f64,
}

/// The least time of a batch, and the rates behind it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// Threads that compute.
    pub threads: usize,
    /// Peak rate of arithmetic in 10⁹ operations a second.
    pub gflops: f64,
    /// Main memory's bandwidth in 10⁹ bytes a second.
    pub gigabytes_per_second: f64,
    /// Inference of the batch takes at least this long, in milliseconds.
    pub inference_ms: f64,
    /// A training step of the batch takes at least this long, in milliseconds.
    pub training_ms: f64,
}

impl Roofline {
    /// Seconds that `flops` operations on `bytes` of operands take at least.
    pub fn seconds(&self, flops: f64, bytes: f64) -> f64 {
        (flops / self.gflops).max(bytes / self.bandwidth(bytes)) / 1e9
    }

    /// 10⁹ bytes a second for operands of that size: the best of the levels that are large enough, else the last.
    fn bandwidth(&self, bytes: f64) -> f64 {
        let fits = self.levels.iter().filter(|level| level.bytes as f64 >= bytes);
        let best = fits.map(|level| level.gigabytes_per_second).fold(f64::NAN, f64::max);
        if best.is_nan() { self.memory() } else { best }
    }

    /// Main memory's 10⁹ bytes a second.
    fn memory(&self) -> f64 {
        self.levels.last().map_or(f64::NAN, |level| level.gigabytes_per_second)
    }
}

impl Net {
    /// The least time that the net takes for a batch.
    pub fn estimate(&self, roofline: &Roofline, batch_size: u64) -> Estimate {
        let milliseconds = |training: bool| {
            let needed = self.needed(training);
            let ids = (1..self.nodes().len()).filter(|&index| needed[index]).map(NodeId);
            let seconds = |id: NodeId| {
                let [flops, bytes] = self.work(id, batch_size as f64);
                let passes = match (training, self.node(id).inputs.contains(&NodeId(0))) {
                    (false, _) => 1.0,
                    (true, true) => 2.0,
                    (true, false) => 3.0,
                };
                passes * roofline.seconds(flops, bytes)
            };
            1e3 * ids.map(seconds).sum::<f64>()
        };
        Estimate {
            threads: roofline.threads,
            gflops: roofline.gflops,
            gigabytes_per_second: roofline.memory(),
            inference_ms: milliseconds(false),
            training_ms: milliseconds(true),
        }
    }

    /// Products that a layer is computed with at least, as a share of its multiply-adds: Winograd's algorithm does with fewer.
    fn least_products(&self, id: NodeId) -> f64 {
        let node = self.node(id);
        match (&node.op, self.input_shapes(id).first()) {
            (Op::Conv2d(op), Some(&Shape::Map([in_channels, h, w]))) => {
                let Conv2d { out_channels, groups, window, .. } = *op;
                let shape = ConvShape { in_channels, out_channels, groups, input: [h, w], window };
                conv::least_products(&shape, node.inputs == [NodeId(0)] && in_channels <= conv::PLAIN_CHANNELS)
            }
            (_, _) => 1.0,
        }
    }

    /// Operations and bytes of one pass over a layer.
    fn work(&self, id: NodeId, batch_size: f64) -> [f64; 2] {
        let node = self.node(id);
        let inputs = self.input_shapes(id);
        let numbers = |shape: &Shape| shape.elements() as f64 * batch_size;
        let moved = match node.op.category() {
            Category::Convolution | Category::Linear | Category::Pooling => {
                inputs.iter().map(numbers).sum::<f64>() + numbers(&node.shape)
            }
            // One of the summands is at hand when the sum is made.
            Category::Merge => inputs[1..].iter().map(numbers).sum(),
            Category::Input | Category::Normalization | Category::Pointwise | Category::Dropout => 0.0,
            Category::Join | Category::Rearrangement | Category::Reshape => 0.0,
        };
        let parameters = node.op.parameters(&inputs);
        let trained = parameters.iter().filter(|parameter| parameter.role != Role::Buffer);
        let bytes = NUMBER * (moved + trained.map(|parameter| parameter.elements() as f64).sum::<f64>());
        let products = node.op.macs(&inputs, node.shape) as f64 * self.least_products(id);
        [2.0 * products * batch_size, bytes]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::Window;
    use crate::ops::Linear;

    fn machine() -> Roofline {
        let level = |bytes, gigabytes_per_second| Level { bytes, gigabytes_per_second };
        Roofline { threads: 2, gflops: 100.0, levels: vec![level(1 << 20, 200.0), level(1 << 27, 10.0)] }
    }

    #[test]
    fn the_slower_of_arithmetic_and_memory_counts() {
        let machine = machine();
        assert_eq!(machine.seconds(100e9, 0.0), 1.0);
        // A million bytes fit the cache, a hundred million do not, and more than any level moves as the last does.
        assert_eq!(machine.seconds(0.0, 1e6), 1e6 / 200e9);
        assert_eq!(machine.seconds(0.0, 1e8), 0.01);
        assert_eq!(machine.seconds(0.0, 1e10), 1.0);
        assert_eq!(machine.seconds(1e9, 1e8), 0.01);
        assert_eq!(machine.seconds(1e9, 1e6), 0.01);
    }

    #[test]
    fn layers_add_up_and_training_passes_twice_or_three_times() {
        let mut net = Net::new("net", Shape::Map([16, 32, 32])).unwrap();
        net.then("conv", Op::Conv2d(Conv2d::new(16, Window::square(3).padding(1)))).unwrap();
        net.then("relu", Op::RELU).unwrap();
        net.then("flatten", Op::Flatten).unwrap();
        net.then("head", Op::Linear(Linear { bias: false, ..Linear::new(1000) })).unwrap();
        let estimate = net.estimate(&machine(), 4);
        // Arithmetic decides in the convolution, with a quarter of its products; the head's 65 MB of weights come from memory.
        let conv = 0.25 * 2.0 * 4.0 * (16.0 * 16.0 * 9.0 * 1024.0) / 100e9;
        let head = 4.0 * (16_384.0 * 1000.0 + 4.0 * 16_384.0 + 4.0 * 1000.0) / 10e9;
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-9 * b, "{a} instead of {b}");
        close(estimate.inference_ms, 1e3 * (conv + head));
        close(estimate.training_ms, 1e3 * (2.0 * conv + 3.0 * head));
        assert_eq!((estimate.threads, estimate.gflops, estimate.gigabytes_per_second), (2, 100.0, 10.0));
    }

    #[test]
    fn auxiliary_outputs_cost_in_training_alone() {
        let mut net = Net::new("net", Shape::Vector(1000)).unwrap();
        let aux = net.then("aux", Op::Linear(Linear::new(10))).unwrap();
        net.add("head", Op::Linear(Linear::new(10)), &[NodeId(0)]).unwrap();
        let plain = net.estimate(&machine(), 1);
        net.add_auxiliary(aux, 0.3).unwrap();
        let estimate = net.estimate(&machine(), 1);
        assert_eq!(plain.inference_ms, estimate.inference_ms);
        assert_eq!(2.0 * plain.training_ms, estimate.training_ms);
    }
}
