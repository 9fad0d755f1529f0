//! Runs a net with the naive reference kernels, in f32 or f64: the definition of what every faster engine computes.
//!
//! Forward keeps every node's output; backward walks the nodes from the last to the first and adds up the gradients
//! that reach a node from all its consumers. Layouts are plain NCHW and the checkpoint's. Memory: all activations
//! twice.

use std::collections::BTreeMap;

use convnet_kernels::random;
use convnet_kernels::reference::batch_norm::{BatchNorm, Statistics};
use convnet_kernels::reference::conv2d::{self, ConvProblem};
use convnet_kernels::reference::layer_norm::LayerNorm;
use convnet_kernels::reference::linear::{self, LinearProblem};
use convnet_kernels::reference::local_response_norm::{self, LrnProblem};
use convnet_kernels::reference::pool::{self, AdaptiveProblem, PoolProblem};
use convnet_kernels::reference::{Float, activation, channel_scale, channels, cross_entropy, dropout, softmax};

use crate::geometry::Window;
use crate::net::{Net, Node, NodeId};
use crate::ops::{BatchNorm2d, Conv2d, Linear, LocalResponseNorm, Op, PadChannels, Role, Shape, Slice};
use crate::{Error, Result, StateDict};

/// How a net is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Batch norm uses the running statistics, dropout does nothing.
    Inference,
    /// Batch norm uses the batch's statistics; dropout drops, with the mask that the step's and the node's seed give.
    Training {
        /// Seed of the whole run.
        run_seed: u64,
        /// Steps made before this one.
        step: u64,
    },
}

/// Tensors by their full name, row-major.
pub type Tensors<T> = BTreeMap<String, Vec<T>>;

/// What one pass forward and backward gives.
#[derive(Clone, Debug, PartialEq)]
pub struct Pass<T> {
    /// The net's output, `[batch, classes]`.
    pub logits: Vec<T>,
    /// Softmax cross-entropy, the mean over the batch, in nats; in training plus the auxiliary outputs', weighted.
    pub loss: T,
    /// The gradient of the loss by every weight and bias.
    pub gradients: Tensors<T>,
    /// The gradient of the loss by the input, NCHW.
    pub input_gradient: Vec<T>,
    /// Every buffer (running statistics) after the pass: moved in training, as it was in inference.
    pub buffers: Tensors<T>,
}

/// Every node's value and the gradient by it, in running order.
#[derive(Clone, Debug, PartialEq)]
pub struct Values<T> {
    /// What each node gives, `[batch, …]` of its shape.
    pub outputs: Vec<Vec<T>>,
    /// The gradient by each; 0 where the net's output does not depend on it.
    pub gradients: Vec<Vec<T>>,
}

/// A net with its parameters, run by the reference kernels.
#[derive(Clone, Debug)]
pub struct Reference<'net, T> {
    net: &'net Net,
    tensors: Tensors<T>,
    /// Nodes that are run as in inference in training, too.
    frozen: Vec<bool>,
}

/// What forward leaves behind for backward.
struct Trace<T> {
    /// Output of each node.
    outputs: Vec<Vec<T>>,
    /// What else each node keeps.
    kept: Vec<Kept<T>>,
}

enum Kept<T> {
    Nothing,
    /// The statistics with which a batch norm normalised.
    Statistics(Statistics<T>),
    /// Which pixels won a maximum pooling.
    Winners(Vec<usize>),
}

/// The gradients that one node gives back.
struct NodeGradients<T> {
    /// By its inputs, in their order.
    inputs: Vec<Vec<T>>,
    /// By its trained parameters, under their short names.
    parameters: Vec<(&'static str, Vec<T>)>,
}

impl<T> NodeGradients<T> {
    fn of_input(input: Vec<T>) -> NodeGradients<T> {
        NodeGradients { inputs: vec![input], parameters: Vec::new() }
    }
}

impl<'net, T: Float> Reference<'net, T> {
    /// A net with the parameters and buffers of a state dictionary.
    ///
    /// # Errors
    /// [`Error::Missing`] when a tensor is missing, [`Error::Unknown`] when it belongs to no node, [`Error::Length`] when it
    /// has another number of elements.
    pub fn from_state(net: &'net Net, state: &StateDict) -> Result<Self> {
        let convert = |data: &[f32]| data.iter().map(|&x| T::from_f64(f64::from(x))).collect();
        Self::new(net, state.iter().map(|(name, tensor)| (name.clone(), convert(tensor.data()))).collect())
    }

    /// A net with parameters and buffers by name.
    ///
    /// # Errors
    /// As [`Reference::from_state`].
    pub fn new(net: &'net Net, tensors: Tensors<T>) -> Result<Self> {
        let expected = net.parameters();
        for (name, _, parameter) in &expected {
            let count = parameter.shape.iter().product::<usize>();
            match tensors.get(name).map(Vec::len) {
                Some(found) if found == count => {}
                Some(found) => {
                    return Err(Error::Length { of: format!("elements of tensor '{name}'"), expected: count, found });
                }
                None => return Err(Error::missing_parameter(name)),
            }
        }
        match tensors.keys().find(|name| expected.iter().all(|(known, ..)| known != *name)) {
            Some(stranger) => {
                Err(Error::unknown("parameter", stranger, expected.iter().map(|(name, ..)| name.as_str())))
            }
            None => Ok(Reference { net, tensors, frozen: vec![false; net.nodes().len()] }),
        }
    }

    /// The same with batch norms, by the names of their nodes, that take and leave their running statistics in training.
    #[must_use]
    pub fn with_frozen_norms(self, frozen: impl Fn(&str) -> bool) -> Self {
        let norm = |node: &Node| node.op.has_running_statistics() && frozen(&node.name);
        Reference { frozen: self.net.nodes().iter().map(norm).collect(), ..self }
    }

    /// Parameters and buffers by name.
    pub fn tensors(&self) -> &Tensors<T> {
        &self.tensors
    }

    /// Parameters and buffers by name, to change, as an optimizer does; their lengths must stay.
    pub fn tensors_mut(&mut self) -> &mut Tensors<T> {
        &mut self.tensors
    }

    /// The net's output for `input`, `[batch, …]` of the net's input shape.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the input is not made of whole pictures, or batch norm in training gets a single
    /// element per channel.
    pub fn forward(&self, input: &[T], mode: Mode) -> Result<Vec<T>> {
        let mut trace = self.trace(input, mode)?;
        Ok(trace.outputs.pop().expect("a net has at least its input"))
    }

    /// Forward, loss and backward. The label of a picture is the index of its class.
    ///
    /// # Errors
    /// As [`Reference::forward`], and when there is not one label per picture or a label is not a class.
    pub fn pass(&self, input: &[T], labels: &[usize], mode: Mode) -> Result<Pass<T>> {
        let mut gradients = Tensors::new();
        let pass = self.pass_to(input, labels, mode, &mut |name, gradient| {
            gradients.insert(name, gradient);
        })?;
        Ok(Pass { gradients, ..pass })
    }

    /// The same, except that the gradient by each weight and bias goes to `take` as soon as it is known, from the last
    /// layer to the first, and [`Pass::gradients`] stays empty: a large net's gradients need not be in memory together.
    ///
    /// # Errors
    /// As [`Reference::pass`].
    pub fn pass_to(
        &self,
        input: &[T],
        labels: &[usize],
        mode: Mode,
        take: &mut dyn FnMut(String, Vec<T>),
    ) -> Result<Pass<T>> {
        let classes = self.net.output_shape().elements();
        if let Some(&label) = labels.iter().find(|&&label| label >= classes) {
            return Err(Error::Label { label, classes });
        }
        let batch = self.batch(input)?;
        if labels.len() != batch {
            return Err(Error::Length { of: "labels of the pictures".into(), expected: batch, found: labels.len() });
        }
        let trace = self.trace(input, mode)?;
        let logits = trace.outputs.last().expect("a net has at least its input");
        let (mut loss, mut of_outputs) = (T::ZERO, Vec::new());
        for (node, weight) in self.losses(mode) {
            let found = cross_entropy::forward_backward(&trace.outputs[node.index()], labels, classes);
            loss += weight * found.loss;
            of_outputs.push((node, found.grad_logits.into_iter().map(|gradient| weight * gradient).collect()));
        }
        let mut of_nodes = self.backward(&trace, batch, mode, of_outputs, take);
        let input_gradient = of_nodes.swap_remove(0);
        let buffers = self.buffers(&trace, batch, mode);
        Ok(Pass { logits: logits.clone(), loss, gradients: Tensors::new(), input_gradient, buffers })
    }

    /// Every node's value, and the gradient by it for a gradient by the net's output.
    ///
    /// # Errors
    /// As [`Reference::forward`], and when the gradient has another length than the output.
    pub fn values(&self, input: &[T], by_output: &[T], mode: Mode) -> Result<Values<T>> {
        let (batch, output) = (self.batch(input)?, self.net.output());
        let trace = self.trace(input, mode)?;
        let (expected, found) = (trace.outputs[output.index()].len(), by_output.len());
        if expected != found {
            return Err(Error::Length { of: "numbers of the gradient by the output".into(), expected, found });
        }
        let gradients = self.backward(&trace, batch, mode, vec![(output, by_output.to_vec())], &mut |_, _| {});
        Ok(Values { outputs: trace.outputs, gradients })
    }

    /// Whose cross-entropy is summed, times what: the net's output, and in training its auxiliary outputs.
    fn losses(&self, mode: Mode) -> Vec<(NodeId, T)> {
        let auxiliaries = self.net.auxiliaries().iter().filter(|_| mode != Mode::Inference);
        let weighted = auxiliaries.map(|auxiliary| (auxiliary.node, T::from_f64(f64::from(auxiliary.loss_weight))));
        [(self.net.output(), T::ONE)].into_iter().chain(weighted).collect()
    }

    /// Pictures in an input.
    fn batch(&self, input: &[T]) -> Result<usize> {
        let shape = self.net.input_shape();
        match input.len() {
            len if len > 0 && len.is_multiple_of(shape.elements()) => Ok(len / shape.elements()),
            len => Err(Error::invalid(format!("expected whole pictures of {shape}, got {len} elements"))),
        }
    }

    fn trace(&self, input: &[T], mode: Mode) -> Result<Trace<T>> {
        let batch = self.batch(input)?;
        let mut trace = Trace { outputs: vec![input.to_vec()], kept: vec![Kept::Nothing] };
        for index in 1..self.net.nodes().len() {
            let (output, kept) = self.forward_node(NodeId(index), batch, mode, &trace.outputs)?;
            trace.outputs.push(output);
            trace.kept.push(kept);
        }
        Ok(trace)
    }

    fn forward_node(&self, id: NodeId, batch: usize, mode: Mode, outputs: &[Vec<T>]) -> Result<(Vec<T>, Kept<T>)> {
        let node = self.net.node(id);
        let input = |which: usize| outputs[node.inputs[which].index()].as_slice();
        let shape = |which: usize| self.net.node(node.inputs[which]).shape;
        let rearranged = |from: &[_]| channels::forward(channels_and_pixels(shape(0)), input(0), from);
        let dropped = |p, together| drop(p, together, keep(id, mode), input(0));
        let output = match &node.op {
            Op::Input(_) => unreachable!("the input is the first node alone"),
            Op::Conv2d(op) => {
                let problem = conv_problem(op, batch, shape(0));
                conv2d::forward(&problem, input(0), self.tensor(node, "weight"), self.bias(node, op.bias))
            }
            Op::Linear(op) => {
                let (weight, bias) = (self.tensor(node, "weight"), self.bias(node, op.bias));
                match op.per_pixel {
                    true => conv2d::forward(&pixel_problem(op, batch, shape(0)), input(0), weight, bias),
                    false => linear::forward(&linear_problem(op, batch, shape(0)), input(0), weight, bias),
                }
            }
            Op::BatchNorm2d(op) => {
                let norm = self.batch_norm(node, op, batch);
                let statistics = match self.norm_mode(id, mode) {
                    Mode::Inference => self.running(node),
                    Mode::Training { .. } if batch * norm.pixels < 2 => {
                        let problem = "expected more than one element per channel in training".into();
                        return Err(Error::Layer { layer: node.name.clone(), op: node.op.name(), problem });
                    }
                    Mode::Training { .. } => norm.statistics(input(0)),
                };
                return Ok((norm.forward(input(0), &statistics), Kept::Statistics(statistics)));
            }
            Op::LayerNorm2d(op) => self.layer_norm(node, op.eps).forward(input(0)),
            Op::LocalResponseNorm(op) => local_response_norm::forward(&lrn_problem(op, batch, shape(0)), input(0)),
            Op::Activation(op) => activation::forward(*op, input(0)),
            Op::Softmax => softmax::forward(channels_and_pixels(node.shape), input(0)),
            Op::LayerScale(_) => channel_scale::forward(pixels(node.shape), input(0), self.tensor(node, "layer_scale")),
            Op::MaxPool2d(op) => {
                let found = pool::max_forward(&pool_problem(op.window, batch, shape(0)), input(0));
                return Ok((found.output, Kept::Winners(found.winners)));
            }
            Op::AvgPool2d(op) => {
                pool::avg_forward(&pool_problem(op.window, batch, shape(0)), op.count_include_pad, input(0))
            }
            Op::AdaptiveAvgPool2d(op) => {
                pool::adaptive_avg_forward(&adaptive_problem(op.output, batch, shape(0)), input(0))
            }
            Op::Add => {
                let inputs: Vec<&[T]> = (0..node.inputs.len()).map(input).collect();
                (0..input(0).len()).map(|i| inputs.iter().map(|input| input[i]).sum()).collect()
            }
            Op::Mul => channel_scale::forward(pixels(node.shape), input(0), input(1)),
            Op::Concat => {
                let parts: Vec<usize> = (0..node.inputs.len()).map(|which| shape(which).elements()).collect();
                let part = |n: usize, which: usize| &input(which)[n * parts[which]..][..parts[which]];
                (0..batch).flat_map(|n| (0..parts.len()).flat_map(move |which| part(n, which))).copied().collect()
            }
            Op::PadChannels(op) => rearranged(&pad_sources(op, shape(0))),
            Op::Slice(op) => rearranged(&slice_sources(op)),
            Op::ChannelShuffle(op) => rearranged(&channels::shuffled(shape(0).channels(), op.groups)),
            Op::Dropout(op) => dropped(op.p, 1),
            Op::Dropout2d(op) => dropped(op.p, pixels(node.shape)),
            Op::StochasticDepth(op) => dropped(op.p, node.shape.elements()),
            Op::Flatten => input(0).to_vec(),
        };
        Ok((output, Kept::Nothing))
    }

    /// How a batch norm is run.
    fn norm_mode(&self, id: NodeId, mode: Mode) -> Mode {
        if self.frozen[id.index()] { Mode::Inference } else { mode }
    }

    /// Gradients by every node's output; those by trained parameters go to `take`.
    fn backward(
        &self,
        trace: &Trace<T>,
        batch: usize,
        mode: Mode,
        of_outputs: Vec<(NodeId, Vec<T>)>,
        take: &mut dyn FnMut(String, Vec<T>),
    ) -> Vec<Vec<T>> {
        // What has arrived so far from each node's consumers; zero at first, and to the end where nothing asks.
        let mut arrived: Vec<Vec<T>> = trace.outputs.iter().map(|output| vec![T::ZERO; output.len()]).collect();
        for (node, gradient) in of_outputs {
            arrived[node.index()] = gradient;
        }
        for index in (1..arrived.len()).rev() {
            let node = &self.net.nodes()[index];
            let found = self.backward_node(NodeId(index), batch, mode, trace, &arrived[index]);
            for (input, gradient) in node.inputs.iter().zip(found.inputs) {
                arrived[input.index()].iter_mut().zip(gradient).for_each(|(sum, gradient)| *sum += gradient);
            }
            for (name, gradient) in found.parameters {
                take(format!("{}.{name}", node.name), gradient);
            }
        }
        arrived
    }

    fn backward_node(&self, id: NodeId, batch: usize, mode: Mode, trace: &Trace<T>, dy: &[T]) -> NodeGradients<T> {
        let node = self.net.node(id);
        let input = |which: usize| trace.outputs[node.inputs[which].index()].as_slice();
        let shape = |which: usize| self.net.node(node.inputs[which]).shape;
        let rearranged =
            |from: &[_]| NodeGradients::of_input(channels::backward(channels_and_pixels(shape(0)), dy, from));
        let dropped = |p, together| NodeGradients::of_input(drop(p, together, keep(id, mode), dy));
        match &node.op {
            Op::Input(_) => unreachable!("the input is the first node alone"),
            Op::Conv2d(op) => self.backward_conv(node, &conv_problem(op, batch, shape(0)), op.bias, input(0), dy),
            Op::Linear(op) if op.per_pixel => {
                self.backward_conv(node, &pixel_problem(op, batch, shape(0)), op.bias, input(0), dy)
            }
            Op::Linear(op) => {
                let problem = linear_problem(op, batch, shape(0));
                let mut parameters = vec![("weight", linear::backward_weights(&problem, input(0), dy))];
                if op.bias {
                    parameters.push(("bias", linear::backward_bias(&problem, dy)));
                }
                let data = linear::backward_data(&problem, self.tensor(node, "weight"), dy);
                NodeGradients { inputs: vec![data], parameters }
            }
            Op::BatchNorm2d(op) => {
                let norm = self.batch_norm(node, op, batch);
                let statistics = kept_statistics(&trace.kept[id.index()]);
                let found = match self.norm_mode(id, mode) {
                    Mode::Inference => norm.backward_inference(input(0), statistics, dy),
                    Mode::Training { .. } => norm.backward_training(input(0), statistics, dy),
                };
                let parameters = vec![("weight", found.weight), ("bias", found.bias)];
                NodeGradients { inputs: vec![found.input], parameters }
            }
            Op::LayerNorm2d(op) => {
                let found = self.layer_norm(node, op.eps).backward(input(0), dy);
                let parameters = vec![("weight", found.weight), ("bias", found.bias)];
                NodeGradients { inputs: vec![found.input], parameters }
            }
            Op::LocalResponseNorm(op) => {
                let problem = lrn_problem(op, batch, shape(0));
                NodeGradients::of_input(local_response_norm::backward(&problem, input(0), dy))
            }
            Op::Activation(op) => NodeGradients::of_input(activation::backward(*op, input(0), dy)),
            Op::Softmax => {
                let output = &trace.outputs[id.index()];
                NodeGradients::of_input(softmax::backward(channels_and_pixels(node.shape), output, dy))
            }
            Op::LayerScale(_) => {
                let (pixels, factors) = (pixels(node.shape), self.tensor(node, "layer_scale"));
                let by_factors = channel_scale::backward_factors(pixels, input(0), dy, factors.len());
                let by_input = channel_scale::forward(pixels, dy, factors);
                NodeGradients { inputs: vec![by_input], parameters: vec![("layer_scale", by_factors)] }
            }
            Op::MaxPool2d(op) => {
                let Kept::Winners(winners) = &trace.kept[id.index()] else { unreachable!("forward keeps the winners") };
                NodeGradients::of_input(pool::max_backward(&pool_problem(op.window, batch, shape(0)), winners, dy))
            }
            Op::AvgPool2d(op) => {
                let problem = pool_problem(op.window, batch, shape(0));
                NodeGradients::of_input(pool::avg_backward(&problem, op.count_include_pad, dy))
            }
            Op::AdaptiveAvgPool2d(op) => {
                let problem = adaptive_problem(op.output, batch, shape(0));
                NodeGradients::of_input(pool::adaptive_avg_backward(&problem, dy))
            }
            Op::Add => NodeGradients { inputs: vec![dy.to_vec(); node.inputs.len()], parameters: Vec::new() },
            Op::Mul => {
                let (pixels, factors) = (pixels(node.shape), input(1));
                let by_factors = channel_scale::backward_factors(pixels, input(0), dy, factors.len());
                let inputs = vec![channel_scale::forward(pixels, dy, factors), by_factors];
                NodeGradients { inputs, parameters: Vec::new() }
            }
            Op::Concat => {
                let mut inputs = vec![Vec::new(); node.inputs.len()];
                for mut picture in dy.chunks(node.shape.elements()) {
                    for (which, gradient) in inputs.iter_mut().enumerate() {
                        let (own, rest) = picture.split_at(shape(which).elements());
                        gradient.extend_from_slice(own);
                        picture = rest;
                    }
                }
                NodeGradients { inputs, parameters: Vec::new() }
            }
            Op::PadChannels(op) => rearranged(&pad_sources(op, shape(0))),
            Op::Slice(op) => rearranged(&slice_sources(op)),
            Op::ChannelShuffle(op) => rearranged(&channels::shuffled(shape(0).channels(), op.groups)),
            Op::Dropout(op) => dropped(op.p, 1),
            Op::Dropout2d(op) => dropped(op.p, pixels(node.shape)),
            Op::StochasticDepth(op) => dropped(op.p, node.shape.elements()),
            Op::Flatten => NodeGradients::of_input(dy.to_vec()),
        }
    }

    fn backward_conv(&self, node: &Node, problem: &ConvProblem, bias: bool, x: &[T], dy: &[T]) -> NodeGradients<T> {
        let mut parameters = vec![("weight", conv2d::backward_weights(problem, x, dy))];
        if bias {
            parameters.push(("bias", conv2d::backward_bias(problem, dy)));
        }
        let data = conv2d::backward_data(problem, self.tensor(node, "weight"), dy);
        NodeGradients { inputs: vec![data], parameters }
    }

    /// Every buffer after a pass: running statistics are moved in training.
    fn buffers(&self, trace: &Trace<T>, batch: usize, mode: Mode) -> Tensors<T> {
        let buffers = self.net.parameters().into_iter().filter(|(_, _, parameter)| parameter.role == Role::Buffer);
        let mut found: Tensors<T> = buffers.map(|(name, ..)| (name.clone(), self.tensors[&name].clone())).collect();
        for (index, (node, kept)) in self.net.nodes().iter().zip(&trace.kept).enumerate() {
            let mode = self.norm_mode(NodeId(index), mode);
            if let (Op::BatchNorm2d(op), Mode::Training { .. }) = (&node.op, mode) {
                let mut running = self.running(node);
                let momentum = T::from_f64(f64::from(op.momentum));
                self.batch_norm(node, op, batch).update(&mut running, kept_statistics(kept), momentum);
                found.insert(format!("{}.running_mean", node.name), running.mean);
                found.insert(format!("{}.running_var", node.name), running.var);
            }
        }
        found
    }

    fn tensor(&self, node: &Node, name: &str) -> &[T] {
        &self.tensors[&format!("{}.{name}", node.name)]
    }

    fn bias(&self, node: &Node, present: bool) -> Option<&[T]> {
        present.then(|| self.tensor(node, "bias"))
    }

    fn batch_norm(&self, node: &Node, op: &BatchNorm2d, batch: usize) -> BatchNorm<'_, T> {
        BatchNorm {
            batch,
            pixels: pixels(node.shape),
            weight: self.tensor(node, "weight"),
            bias: self.tensor(node, "bias"),
            eps: T::from_f64(f64::from(op.eps)),
        }
    }

    fn layer_norm(&self, node: &Node, eps: f32) -> LayerNorm<'_, T> {
        LayerNorm {
            pixels: pixels(node.shape),
            weight: self.tensor(node, "weight"),
            bias: self.tensor(node, "bias"),
            eps: T::from_f64(f64::from(eps)),
        }
    }

    fn running(&self, node: &Node) -> Statistics<T> {
        Statistics { mean: self.tensor(node, "running_mean").to_vec(), var: self.tensor(node, "running_var").to_vec() }
    }
}

/// The output of a dropout for its input, and the gradient by its input for that of its output: each `together` neighbours
/// share a fate. Without a mask everything stays.
fn drop<T: Float>(p: f32, together: usize, keep: Option<impl Fn(u64, f32) -> bool>, values: &[T]) -> Vec<T> {
    match keep {
        None => values.to_vec(),
        Some(keep) => dropout::channels(values, together, p, |index| keep(index, p)),
    }
}

/// The channels that a padded picture's come from.
fn pad_sources(PadChannels { before, after }: &PadChannels, input: Shape) -> Vec<Option<usize>> {
    let zeros = |channels: usize| std::iter::repeat_n(None, channels);
    zeros(*before).chain((0..input.channels()).map(Some)).chain(zeros(*after)).collect()
}

/// The channels that a slice's come from.
fn slice_sources(Slice { start, end }: &Slice) -> Vec<Option<usize>> {
    (*start..*end).map(Some).collect()
}

/// The mask of a node's dropout: whether `index` is kept at probability `p`; none in inference.
fn keep(id: NodeId, mode: Mode) -> Option<impl Fn(u64, f32) -> bool> {
    let Mode::Training { run_seed, step } = mode else { return None };
    let seed = random::mix(random::mix(run_seed, step), id.index() as u64);
    Some(move |index, p| random::keep(seed, index, p))
}

fn kept_statistics<T>(kept: &Kept<T>) -> &Statistics<T> {
    match kept {
        Kept::Statistics(statistics) => statistics,
        Kept::Nothing | Kept::Winners(_) => unreachable!("forward keeps a batch norm's statistics"),
    }
}

fn conv_problem(op: &Conv2d, batch: usize, input: Shape) -> ConvProblem {
    let [in_channels, height, width] = maps(input);
    let Conv2d { out_channels, groups, window, .. } = *op;
    ConvProblem { batch, in_channels, out_channels, groups, input: [height, width], window }
}

fn linear_problem(op: &Linear, batch: usize, input: Shape) -> LinearProblem {
    LinearProblem { batch, in_features: input.elements(), out_features: op.out_features }
}

/// A linear layer at each pixel is a 1×1 convolution.
fn pixel_problem(op: &Linear, batch: usize, input: Shape) -> ConvProblem {
    conv_problem(&Conv2d::new(op.out_features, Window::square(1)), batch, input)
}

fn pool_problem(window: Window, batch: usize, input: Shape) -> PoolProblem {
    let [channels, height, width] = maps(input);
    PoolProblem { planes: batch * channels, input: [height, width], window }
}

fn adaptive_problem(output: [usize; 2], batch: usize, input: Shape) -> AdaptiveProblem {
    let [channels, height, width] = maps(input);
    AdaptiveProblem { planes: batch * channels, input: [height, width], output }
}

fn lrn_problem(op: &LocalResponseNorm, batch: usize, input: Shape) -> LrnProblem {
    let LocalResponseNorm { size, alpha, beta, k } = *op;
    let [channels, height, width] = maps(input);
    let [alpha, beta, k] = [alpha, beta, k].map(f64::from);
    LrnProblem { batch, channels, pixels: height * width, size, alpha, beta, k }
}

/// Height times width; a vector's features are channels of one pixel.
fn pixels(shape: Shape) -> usize {
    shape.elements() / shape.channels()
}

fn channels_and_pixels(shape: Shape) -> [usize; 2] {
    [shape.channels(), pixels(shape)]
}

fn maps(shape: Shape) -> [usize; 3] {
    match shape {
        Shape::Map(dims) => dims,
        Shape::Vector(_) => unreachable!("the net's builder has checked that these are maps"),
    }
}

#[cfg(test)]
mod tests;
