//! Muon (Jordan 2024, <https://kellerjordan.github.io/posts/muon/>): momentum whose direction, seen as a matrix, is replaced by
//! the nearest one whose singular values are about 1. A step of `torch.optim.Muon`:
//!
//! ```text
//! m ← momentum · m + (1 - momentum) · g        u = (1 - momentum) · g + momentum · m, or m without Nesterov's form
//! X ← u / ‖u‖, wide or square, and five times X ← a·X + (b·X·Xᵀ + c·(X·Xᵀ)²)·X      (Newton and Schulz)
//! w ← (1 - lr · weight_decay) · w - lr · ratio · X
//! ```
//!
//! A convolution's kernels are a matrix of `[outputs, inputs · height · width]`, as in the author's code; `ratio` is that of
//! [`MuonRate`] for this matrix. The products are those of linear layers (`kernels/linear.rs`), in the engine's precision, where
//! PyTorch rounds to bf16. Parameters lie in the layouts of their stages: the direction is brought into rows and back, so padding
//! stays 0. Sums do not depend on the number of threads.
//!
//! Muon is for what lies between other layers: the first layers that have weights and those that give the classes go by AdamW, and
//! so does all that is no such matrix: biases, norms, and kernels that see one channel each (depthwise convolutions).

use std::collections::BTreeSet;

use super::Engine;
use super::parameters::{Packing, Slot};
use super::training_options::MuonRate;
use crate::net::{Net, NodeId};
use crate::ops::{Category, Op};
use convnet_kernels::activation::Activation;
use convnet_kernels::layout::blocks;
use convnet_kernels::linear::Linear;
use convnet_kernels::memory::Buffer;
use convnet_kernels::optimizer::{self, Sgd};
use convnet_kernels::simd::LANES;

/// Coefficients of `X`, `X·Xᵀ·X` and `(X·Xᵀ)²·X`: steep at 0, so that few iterations suffice (Jordan 2024).
const COEFFICIENTS: [f32; 3] = [3.4445, -4.7750, 2.0315];
const ITERATIONS: usize = 5;
/// The least norm that a direction is divided by.
const EPS: f64 = 1e-7;

/// The memory of a step: enough for the largest of the matrices.
#[derive(Debug, Default)]
pub(super) struct Muon {
    /// A direction as its stage packs it.
    pub(super) packed: Buffer,
    /// The same, row-major and without padding.
    pub(super) plain: Vec<f32>,
    /// X, and two more of its size.
    rows: [Buffer; 3],
    gram: Buffer,
    scratch: Buffer,
}

/// Rows and columns of a weight as a matrix.
pub(super) fn matrix(shape: &[usize]) -> [usize; 2] {
    [shape[0], shape[1..].iter().product()]
}

/// The names of the weights that Muon updates.
pub(super) fn weights(net: &Net) -> BTreeSet<String> {
    let heads = net.heads().unwrap_or_default();
    let mut is_above = vec![false; net.nodes().len()];
    let mut found = BTreeSet::new();
    for (index, node) in net.nodes().iter().enumerate() {
        let above = node.inputs.iter().any(|input| is_above[input.index()]);
        let multiplies = matches!(node.op.category(), Category::Convolution | Category::Linear);
        let is_depthwise =
            matches!(&node.op, Op::Conv2d(conv) if conv.groups == net.input_shapes(NodeId(index))[0].channels());
        is_above[index] = above || multiplies;
        if multiplies && !is_depthwise && above && !heads.iter().any(|head| head.index() == index) {
            found.insert(format!("{}.weight", node.name));
        }
    }
    found
}

impl MuonRate {
    /// What the learning rate is multiplied by for a matrix.
    pub(super) fn ratio(self, [rows, columns]: [usize; 2]) -> f32 {
        let (rows, columns) = (rows as f64, columns as f64);
        let ratio = match self {
            MuonRate::Original => (rows / columns).max(1.0).sqrt(),
            MuonRate::MatchRmsAdamW => 0.2 * rows.max(columns).sqrt(),
        };
        ratio as f32
    }
}

/// The settings of a step of one weight.
#[derive(Clone, Copy, Debug)]
pub(super) struct MuonStep {
    pub(super) lr: f32,
    pub(super) rate: MuonRate,
    pub(super) momentum: f32,
    pub(super) nesterov: bool,
    pub(super) weight_decay: f32,
}

/// The product of a matrix with a square one of this side, and the sum of its rows' products with themselves.
fn layer(engine: &Engine, side: usize) -> Linear {
    Linear::new([side, 1], side, engine.set(), engine.product_precision(), false)
}

impl Muon {
    /// Room for the largest of these parameters.
    pub(super) fn new<'a>(slots: impl Iterator<Item = &'a Slot>, engine: &Engine) -> Muon {
        let [mut packed, mut plain, mut rows, mut gram, mut scratch] = [0; 5];
        for slot in slots {
            let [mut long, mut short] = matrix(&slot.shape);
            if long < short {
                (long, short) = (short, long);
            }
            let layer = layer(engine, short);
            packed = packed.max(slot.range.len());
            plain = plain.max(long * short);
            rows = rows.max(long * blocks(short) * LANES);
            gram = gram.max(layer.weights_len());
            scratch = scratch.max(layer.scratch_len(engine.threads()));
        }
        let [packed, gram, scratch] = [packed, gram, scratch].map(Buffer::zeros);
        Muon { packed, plain: vec![0.0; plain], rows: [(); 3].map(|()| Buffer::zeros(rows)), gram, scratch }
    }

    /// Moves a weight, which lies as `packing` says, by its gradient and its running mean.
    pub(super) fn step(
        &mut self,
        rule: MuonStep,
        engine: &Engine,
        (slot, packing): (&Slot, &dyn Packing),
        [weights, mean]: [&mut [f32]; 2],
        gradient: &[f32],
    ) {
        let (isa, threads, shape) = (engine.set(), engine.pool(), matrix(&slot.shape));
        let [rows, columns] = shape;
        let momentum = f64::from(rule.momentum);
        optimizer::average(isa, threads, momentum, gradient, mean);
        let packed = &mut self.packed[..weights.len()];
        packed.copy_from_slice(if rule.nesterov { gradient } else { mean });
        if rule.nesterov {
            optimizer::average(isa, threads, 1.0 - momentum, mean, packed);
        }
        packing.unpack(packed, &mut self.plain[..rows * columns]);
        self.orthogonalize(engine, shape);
        let packed = &mut self.packed[..weights.len()];
        packing.pack(threads, &self.plain[..rows * columns], packed);
        // The decay is by the rate before its ratio.
        let ratio = rule.rate.ratio(shape);
        let descent =
            Sgd { lr: rule.lr * ratio, momentum: 0.0, nesterov: false, weight_decay: rule.weight_decay / ratio };
        descent.step(isa, threads, weights, packed, mean);
    }

    /// Replaces the matrix that `plain` begins with by one whose singular values are about 1.
    pub(super) fn orthogonalize(&mut self, engine: &Engine, [rows, columns]: [usize; 2]) {
        let plain = &mut self.plain[..rows * columns];
        let is_tall = rows >= columns;
        let (long, short) = if is_tall { (rows, columns) } else { (columns, rows) };
        let (len, layer, threads) = (blocks(short) * LANES, layer(engine, short), engine.pool());
        let place = |row: usize, column: usize| if is_tall { row * len + column } else { column * len + row };
        let norm = plain.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt().max(EPS);
        let [x, product, sum] = self.rows.each_mut().map(|buffer| &mut buffer[..long * len]);
        x.fill(0.0);
        for (row, values) in plain.chunks_exact(columns).enumerate() {
            for (column, &value) in values.iter().enumerate() {
                x[place(row, column)] = (f64::from(value) / norm) as f32;
            }
        }
        let [a, b, c] = COEFFICIENTS;
        let gram = &mut self.gram[..layer.weights_len()];
        for _ in 0..ITERATIONS {
            layer.backward_weights(threads, long, x, x, gram, &mut self.scratch);
            // With G the sum: a·X + (b·X + c·X·G)·G. G is symmetric.
            layer.forward(threads, long, x, gram, None, Activation::Identity, product, &mut self.scratch);
            for ((sum, &x), &product) in sum.iter_mut().zip(&*x).zip(&*product) {
                *sum = b * x + c * product;
            }
            layer.forward(threads, long, sum, gram, None, Activation::Identity, product, &mut self.scratch);
            for (x, &product) in x.iter_mut().zip(&*product) {
                *x = a * *x + product;
            }
        }
        for (row, values) in plain.chunks_exact_mut(columns).enumerate() {
            for (column, value) in values.iter_mut().enumerate() {
                *value = x[place(row, column)];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zoo;
    use convnet_kernels::reference::gradcheck::pattern;
    use convnet_kernels::simd::Isa;

    /// The same in f64, on the shorter side, as PyTorch has it.
    fn naive(matrix: &[f64], [rows, columns]: [usize; 2]) -> Vec<f64> {
        let norm = matrix.iter().map(|x| x * x).sum::<f64>().sqrt().max(EPS);
        let mut x: Vec<f64> = matrix.iter().map(|x| x / norm).collect();
        let [a, b, c] = COEFFICIENTS.map(f64::from);
        for _ in 0..ITERATIONS {
            let gram = |i: usize, j: usize| (0..columns).map(|k| x[i * columns + k] * x[j * columns + k]).sum::<f64>();
            let g: Vec<f64> = (0..rows * rows).map(|i| gram(i / rows, i % rows)).collect();
            let square = |i: usize, j: usize| (0..rows).map(|k| g[i * rows + k] * g[k * rows + j]).sum::<f64>();
            let update: Vec<f64> = (0..rows * rows).map(|i| b * g[i] + c * square(i / rows, i % rows)).collect();
            let next = |i: usize, j: usize| {
                a * x[i * columns + j] + (0..rows).map(|k| update[i * rows + k] * x[k * columns + j]).sum::<f64>()
            };
            x = (0..rows * columns).map(|i| next(i / columns, i % columns)).collect();
        }
        x
    }

    /// Tall, wide, square and ragged matrices on every instruction set; any number of threads gives the same bits.
    #[test]
    fn directions_are_those_of_the_definition() {
        for shape @ [rows, columns] in [[3, 7], [20, 5], [33, 33], [70, 18], [16, 144], [1, 9]] {
            let matrix = pattern(1, rows * columns);
            let want = naive(&matrix, shape);
            for isa in Isa::NAMES.into_iter().filter_map(Isa::named) {
                let found = [1, 3].map(|threads| {
                    let engine = Engine::with_isa(threads, isa).unwrap();
                    let slot = Slot {
                        name: "w".into(),
                        shape: shape.to_vec(),
                        range: 0..rows * columns,
                        stage: 0,
                        packed: true,
                        weight: 0,
                        trained: true,
                        words: false,
                    };
                    let mut muon = Muon::new([&slot].into_iter(), &engine);
                    muon.plain.iter_mut().zip(&matrix).for_each(|(to, from)| *to = *from as f32);
                    muon.orthogonalize(&engine, shape);
                    muon.plain
                });
                assert_eq!(found[0], found[1]);
                for (found, want) in found[0].iter().zip(&want) {
                    assert!((f64::from(*found) - want).abs() < 1e-4, "{shape:?} {}: {found} {want}", isa.name());
                }
            }
        }
    }

    #[test]
    fn a_direction_of_zeros_stays() {
        let engine = Engine::new(1).unwrap();
        let mut muon = Muon { plain: vec![0.0; 12], ..Muon::default() };
        let layer = layer(&engine, 3);
        muon.rows = [(); 3].map(|()| Buffer::zeros(4 * 16));
        (muon.gram, muon.scratch) = (Buffer::zeros(layer.weights_len()), Buffer::zeros(layer.scratch_len(1)));
        muon.orthogonalize(&engine, [3, 4]);
        assert_eq!(muon.plain, [0.0; 12]);
    }

    #[test]
    fn the_first_layer_the_head_and_depthwise_kernels_are_left_to_adamw() {
        let net = zoo::by_name("resnet18", &Default::default()).unwrap();
        let found = weights(&net);
        assert!(!found.contains("conv1.weight") && !found.contains("fc.weight") && !found.contains("bn1.weight"));
        assert!(found.contains("layer1.0.conv1.weight") && found.contains("layer2.0.downsample.0.weight"));
        assert_eq!(found.len(), 19);
        let net = zoo::by_name("mobilenet_v2", &Default::default()).unwrap();
        let shapes = net.parameters();
        let found = weights(&net);
        let depthwise =
            shapes.iter().filter(|(name, _, parameter)| parameter.shape.get(1) == Some(&1) && found.contains(name));
        assert_eq!(depthwise.count(), 0);
        assert!(found.contains("features.18.0.weight"));
    }
}
