//! Rewrites of a net into one that computes the same, cheaper.
//!
//! | rewrite | precondition | equivalence tested by |
//! | --- | --- | --- |
//! | drop what the output does not need | none | `what_the_output_does_not_need_is_dropped` |
//! | drop dropout | inference, where it does nothing | `dropout_goes_and_its_readers_are_rewired` |
//! | fold batch norm into the convolution before it | inference (constant statistics); nothing else reads the convolution | `a_folded_convolution_gives_what_batch_norm_gave` |
//! | fold layer scale into the convolution, or linear layer at each pixel, before it | inference; nothing else reads that | `a_folded_layer_gives_what_layer_scale_gave` |
//!
//! Nodes keep their names, so parameters do too. The last node computes what the last node did, unless other nodes are kept
//! beside it: then `Rewritten` says which node computes what.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::{Net, NodeId};
use crate::ops::{Category, Conv2d, Linear, Op};
use crate::{Error, Result, StateDict, Tensor};

/// Parameters by name: those of a state, and new ones in place of some.
pub type Parameters<'a> = BTreeMap<String, Cow<'a, Tensor>>;

/// The net and its parameters for inference alone: without dropout, and with each batch norm and layer scale folded into the
/// convolution before it where nothing else reads that convolution. The result's parameters are exactly those that its net names;
/// what is not folded is not copied.
///
/// # Errors
/// [`Error::Missing`] or [`Error::Shape`] for a parameter that is missing from `state` or has another shape than the net's.
pub fn inference<'a>(net: &Net, state: &'a StateDict) -> Result<(Net, Parameters<'a>)> {
    let Rewritten { net, parameters, .. } = inference_keeping(net, borrowed(state), &[])?;
    Ok((net, parameters))
}

/// A state's tensors, none of them copied.
pub(crate) fn borrowed(state: &StateDict) -> Parameters<'_> {
    state.iter().map(|(name, tensor)| (name.clone(), Cow::Borrowed(tensor))).collect()
}

/// A net rewritten for inference, and where the values of the original are.
pub(crate) struct Rewritten<'a> {
    pub(crate) net: Net,
    pub(crate) parameters: Parameters<'a>,
    /// For each node of the original net, the node that has its value, if there is one.
    moved: Vec<Option<NodeId>>,
}

impl Rewritten<'_> {
    /// The node that has the value of the original net's output, or of a node that was kept.
    pub(crate) fn kept(&self, node: NodeId) -> NodeId {
        self.moved[node.0].expect("what is kept has a value")
    }
}

/// As [`inference`], and the values of some nodes stay: none of them is dropped, or folded into the layer before it unless that
/// layer then has its value.
pub(crate) fn inference_keeping<'a>(net: &Net, state: Parameters<'a>, kept: &[NodeId]) -> Result<Rewritten<'a>> {
    let (plain, first) = without_dropout(net, kept)?;
    let after = |moved: &[Option<NodeId>], node: NodeId| moved[node.0].expect("what is kept has a value");
    let output = after(&first, net.output());
    let kept: Vec<NodeId> = kept.iter().map(|&node| after(&first, node)).collect();
    let folds = foldable(&plain, &kept);
    let roots = || [output].into_iter().chain(kept.iter().copied());
    let (net, second) = rebuild(&plain, roots(), |id| match (folds.get(&id), &plain.node(id).op) {
        (Some(fold), _) => Some(fold.layer()),
        (None, Op::BatchNorm2d(_) | Op::LayerScale(_)) if folds.contains_key(&plain.node(id).inputs[0]) => None,
        (None, op) => Some(op.clone()),
    })?;
    let parameters = folded_parameters(&plain, &folds, &net, state)?;
    let moved = first.iter().map(|node| node.and_then(|node| second[node.0])).collect();
    Ok(Rewritten { net, parameters, moved })
}

/// The net without its auxiliary outputs and whatever else its own output does not need: what inference runs, and what a
/// network is counted by.
///
/// # Errors
/// None that the net's own building did not give.
pub fn without_auxiliaries(net: &Net) -> Result<Net> {
    Ok(rebuild(net, [net.output()], |id| Some(net.node(id).op.clone()))?.0)
}

/// Dropout removed, unless its value is kept, whose gradient is not its input's; what read it reads its input.
fn without_dropout(net: &Net, kept: &[NodeId]) -> Result<(Net, Moved)> {
    rebuild(net, [net.output()].into_iter().chain(kept.iter().copied()), |id| match &net.node(id).op {
        op if op.category() == Category::Dropout && !kept.contains(&id) => None,
        op => Some(op.clone()),
    })
}

/// The parameters that a net names whose layers have taken what followed them; a batch norm gives its layer a bias.
fn folded_parameters<'a>(
    net: &Net,
    folds: &BTreeMap<NodeId, Fold<'_>>,
    folded: &Net,
    mut state: Parameters<'a>,
) -> Result<Parameters<'a>> {
    let mut parameters = Parameters::new();
    for (&id, fold) in folds {
        let shapes = net.node(id).op.parameters(&net.input_shapes(id));
        let name = &net.node(id).name;
        let (weight, bias) = fold.parameters(&mut state, name, &shapes[0].shape, shapes.len() > 1)?;
        parameters.insert(format!("{name}.weight"), Cow::Owned(weight));
        parameters.extend(bias.map(|bias| (format!("{name}.bias"), Cow::Owned(bias))));
    }
    for (name, _, parameter) in folded.parameters() {
        if let Entry::Vacant(entry) = parameters.entry(name) {
            let tensor = take(&mut state, entry.key(), &parameter.shape)?;
            entry.insert(tensor);
        }
    }
    Ok(parameters)
}

/// A batch norm or layer scale that is the only reader of a convolution or of a linear layer at each pixel.
struct Fold<'a> {
    layer: &'a Op,
    follower: &'a Op,
    follower_name: &'a str,
}

/// By the layer's node, unless its own value is kept.
fn foldable<'n>(net: &'n Net, kept: &[NodeId]) -> BTreeMap<NodeId, Fold<'n>> {
    let mut readers = vec![0; net.nodes().len()];
    net.nodes().iter().flat_map(|node| &node.inputs).for_each(|id| readers[id.0] += 1);
    let folds = net.nodes().iter().filter_map(|node| {
        let (follower @ (Op::BatchNorm2d(_) | Op::LayerScale(_)), &[id]) = (&node.op, &node.inputs[..]) else {
            return None;
        };
        let layer = &net.node(id).op;
        let takes = matches!(layer, Op::Conv2d(_)) || matches!(layer, Op::Linear(linear) if linear.per_pixel);
        (takes && readers[id.0] == 1 && !kept.contains(&id))
            .then_some((id, Fold { layer, follower, follower_name: &node.name }))
    });
    folds.collect()
}

impl Fold<'_> {
    /// The layer that does what both did.
    fn layer(&self) -> Op {
        let adds = matches!(self.follower, Op::BatchNorm2d(_));
        match self.layer.clone() {
            Op::Conv2d(conv) => Op::Conv2d(Conv2d { bias: conv.bias || adds, ..conv }),
            Op::Linear(linear) => Op::Linear(Linear { bias: linear.bias || adds, ..linear }),
            other => other,
        }
    }

    /// Weight and bias of that layer, computed in f64: `w' = w · s` and `b' = b · s + shift`, per output channel. For a batch
    /// norm `s = gamma / sqrt(var + eps)` and `shift = beta - mean · s`; for a layer scale it is `s` alone.
    fn parameters(
        &self,
        state: &mut Parameters<'_>,
        name: &str,
        weight_shape: &[usize],
        has_bias: bool,
    ) -> Result<(Tensor, Option<Tensor>)> {
        let channels = weight_shape[0];
        let mut folded = take(state, &format!("{name}.weight"), weight_shape)?.into_owned();
        let bias = if has_bias { Some(take(state, &format!("{name}.bias"), &[channels])?) } else { None };
        let (scale, shift) = self.scale_and_shift(state, channels)?;
        let filter = folded.data().len() / channels;
        for (filter, scale) in folded.data_mut().chunks_exact_mut(filter).zip(&scale) {
            filter.iter_mut().for_each(|w| *w = (f64::from(*w) * scale) as f32);
        }
        let shifted = |channel: usize| {
            let bias = bias.as_ref().map_or(0.0, |bias| f64::from(bias.data()[channel]));
            (bias * scale[channel] + shift[channel]) as f32
        };
        let biased = has_bias || matches!(self.follower, Op::BatchNorm2d(_));
        Ok((folded, biased.then(|| Tensor::new([channels], (0..channels).map(shifted).collect()))))
    }

    fn scale_and_shift(&self, state: &mut Parameters<'_>, channels: usize) -> Result<(Vec<f64>, Vec<f64>)> {
        let mut numbers = |name: &str, shape: &[usize]| {
            let tensor = take(state, &format!("{}.{name}", self.follower_name), shape)?;
            Ok::<_, Error>(tensor.data().iter().map(|&x| f64::from(x)).collect::<Vec<f64>>())
        };
        let Op::BatchNorm2d(norm) = self.follower else {
            return Ok((numbers("layer_scale", &[channels, 1, 1])?, vec![0.0; channels]));
        };
        let mut vector = |name: &str| numbers(name, &[channels]);
        let (gamma, beta) = (vector("weight")?, vector("bias")?);
        let (mean, var) = (vector("running_mean")?, vector("running_var")?);
        let scale = |channel: usize| gamma[channel] / (var[channel] + f64::from(norm.eps)).sqrt();
        let scale: Vec<f64> = (0..channels).map(scale).collect();
        let shift = (0..channels).map(|channel| beta[channel] - mean[channel] * scale[channel]).collect();
        Ok((scale, shift))
    }
}

/// The tensor of that name, if it has the shape. A net reads each once.
fn take<'a>(state: &mut Parameters<'a>, name: &str, shape: &[usize]) -> Result<Cow<'a, Tensor>> {
    match state.remove(name) {
        Some(tensor) if tensor.shape() == shape => Ok(tensor),
        Some(tensor) => Err(Error::parameter_shape(name, shape, tensor.shape())),
        None => Err(Error::missing_parameter(name)),
    }
}

/// For each node of a net, the node of the rebuilt one that has its value.
type Moved = Vec<Option<NodeId>>;

/// The net with each node's operation replaced, or the node taken out where `replace` gives `None`: what read it then
/// reads its first input. Nodes that none of `roots` needs are dropped; where the output is the only root, that keeps the last
/// node the output.
fn rebuild(
    net: &Net,
    roots: impl IntoIterator<Item = NodeId>,
    replace: impl Fn(NodeId) -> Option<Op>,
) -> Result<(Net, Moved)> {
    let needed = net.needed_by(roots);
    let mut rebuilt = Net::new(net.name(), net.input_shape())?;
    let mut moved: Moved = vec![Some(NodeId(0))];
    for (index, node) in net.nodes().iter().enumerate().skip(1) {
        if !needed[index] {
            moved.push(None);
            continue;
        }
        let inputs = node.inputs.iter().map(|id| moved[id.0].expect("what a needed node reads is needed"));
        let inputs: Vec<NodeId> = inputs.collect();
        moved.push(Some(match replace(NodeId(index)) {
            None => inputs[0],
            Some(op) => rebuilt.add(&node.name, op, &inputs)?,
        }));
    }
    Ok((rebuilt, moved))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::Window;
    use crate::ops::{BatchNorm2d, Dropout, LayerScale, Shape};
    use crate::zoo::{Cnn, cnn};

    fn names(net: &Net) -> Vec<&str> {
        net.nodes().iter().map(|node| node.name.as_str()).collect()
    }

    /// Parameters that differ from one another, with positive variances.
    fn numbered(net: &Net) -> StateDict {
        let tensor = |shape: Vec<usize>| {
            let elements = shape.iter().product::<usize>();
            Tensor::new(shape, (0..elements).map(|i| 0.25 + (i % 7) as f32).collect())
        };
        net.parameters().into_iter().map(|(name, _, parameter)| (name, tensor(parameter.shape))).collect()
    }

    #[test]
    fn dropout_goes_and_its_readers_are_rewired() {
        let mut net = Net::new("net", Shape::Vector(4)).unwrap();
        let drop = net.then("drop", Op::Dropout(Dropout { p: 0.5 })).unwrap();
        net.then("head", Op::Linear(Linear::new(2))).unwrap();
        net.add("twin", Op::RELU, &[drop]).unwrap();
        net.add("last", Op::Dropout(Dropout { p: 0.5 }), &[NodeId(2)]).unwrap();
        let (rewritten, _) = inference(&net, &numbered(&net)).unwrap();
        assert_eq!(names(&rewritten), ["input", "head"]);
        assert_eq!(rewritten.nodes()[1].inputs, [NodeId(0)]);
    }

    #[test]
    fn what_the_output_does_not_need_is_dropped() {
        let mut net = Net::new("net", Shape::Map([2, 4, 4])).unwrap();
        let conv = net.then("conv", Op::Conv2d(Conv2d::new(2, Window::square(1)))).unwrap();
        net.then("aux_flatten", Op::Flatten).unwrap();
        net.then("aux_head", Op::Linear(Linear::new(3))).unwrap();
        net.add("norm", Op::BatchNorm2d(BatchNorm2d::default()), &[conv]).unwrap();
        let numbered = numbered(&net);
        let (rewritten, state) = inference(&net, &numbered).unwrap();
        // The auxiliary head read the convolution too, but it is gone before folding asks.
        assert_eq!(names(&rewritten), ["input", "conv"]);
        assert_eq!(state.keys().collect::<Vec<_>>(), ["conv.bias", "conv.weight"]);
    }

    #[test]
    fn a_folded_convolution_gives_what_batch_norm_gave() {
        for bias in [false, true] {
            let mut net = Net::new("net", Shape::Map([2, 1, 1])).unwrap();
            net.then("conv", Op::Conv2d(Conv2d { bias, ..Conv2d::new(2, Window::square(1)) })).unwrap();
            let eps = 1e-3;
            net.then("norm", Op::BatchNorm2d(BatchNorm2d { eps, momentum: 0.1 })).unwrap();
            let vector = |values: [f32; 2]| Tensor::new([2], values.to_vec());
            let (weight, conv_bias) = ([[1.5, -2.0], [0.5, 3.0]], if bias { [0.25, -1.0] } else { [0.0; 2] });
            let (gamma, beta, mean, var) = ([2.0, -0.5], [0.125, 1.0], [0.75, -3.0], [4.0, 0.25]);
            let mut state = StateDict::from([
                ("conv.weight".into(), Tensor::new([2, 2, 1, 1], weight.concat())),
                ("norm.weight".into(), vector(gamma)),
                ("norm.bias".into(), vector(beta)),
                ("norm.running_mean".into(), vector(mean)),
                ("norm.running_var".into(), vector(var)),
                ("norm.num_batches_tracked".into(), Tensor::zeros([])),
            ]);
            if bias {
                state.insert("conv.bias".into(), vector(conv_bias));
            }
            let (rewritten, folded) = inference(&net, &state).unwrap();
            assert_eq!(names(&rewritten), ["input", "conv"]);
            assert_eq!(folded.keys().collect::<Vec<_>>(), ["conv.bias", "conv.weight"]);
            let x = [0.5_f32, -1.25];
            for channel in 0..2 {
                let plain = weight[channel][0] * x[0] + weight[channel][1] * x[1] + conv_bias[channel];
                let expected = (plain - mean[channel]) / (var[channel] + eps).sqrt() * gamma[channel] + beta[channel];
                let row = &folded["conv.weight"].data()[2 * channel..];
                let got = row[0] * x[0] + row[1] * x[1] + folded["conv.bias"].data()[channel];
                assert!((got - expected).abs() < 1e-5, "channel {channel}: {got} instead of {expected}");
            }
        }
    }

    #[test]
    fn a_folded_layer_gives_what_layer_scale_gave() {
        for bias in [false, true] {
            let mut net = Net::new("net", Shape::Map([2, 1, 1])).unwrap();
            net.then("linear", Linear { bias, per_pixel: true, ..Linear::new(2) }).unwrap();
            net.then("block", LayerScale { init: 1.0 }).unwrap();
            let mut state = StateDict::from([
                ("linear.weight".into(), Tensor::new([2, 2], vec![1.5, -2.0, 0.5, 3.0])),
                ("block.layer_scale".into(), Tensor::new([2, 1, 1], vec![0.5, -4.0])),
            ]);
            if bias {
                state.insert("linear.bias".into(), Tensor::new([2], vec![0.25, -1.0]));
            }
            let (rewritten, folded) = inference(&net, &state).unwrap();
            assert_eq!(names(&rewritten), ["input", "linear"]);
            assert_eq!(folded["linear.weight"].data(), [0.75, -1.0, -2.0, -12.0]);
            assert_eq!(folded.get("linear.bias").map(|b| b.data().to_vec()), bias.then(|| vec![0.125, 4.0]));
        }
    }

    #[test]
    fn a_convolution_with_another_reader_is_not_folded() {
        let mut net = Net::new("net", Shape::Map([1, 2, 2])).unwrap();
        let conv = net.then("conv", Op::Conv2d(Conv2d::new(1, Window::square(1)))).unwrap();
        net.then("norm", Op::BatchNorm2d(BatchNorm2d::default())).unwrap();
        net.add("side", Op::RELU, &[conv]).unwrap();
        assert!(foldable(&net, &[]).is_empty());
    }

    #[test]
    fn the_lectures_cnn_keeps_its_names_and_its_output() {
        let net = cnn(&Cnn::default()).unwrap();
        let state = numbered(&net);
        let (rewritten, folded) = inference(&net, &state).unwrap();
        let expected =
            "input conv1 relu1 pool1 conv2 relu2 pool2 flatten linear1 relu_linear1 linear2 relu_linear2 head";
        assert_eq!(names(&rewritten).join(" "), expected);
        assert_eq!(rewritten.output_shape(), net.output_shape());
        assert_eq!(*folded["head.weight"], state["head.weight"]);
        assert!(matches!(folded["head.weight"], Cow::Borrowed(_)));
        assert!(rewritten.parameters().iter().all(|(name, _, p)| folded[name].shape() == p.shape));
        assert_eq!(folded.len(), rewritten.parameters().len());
    }

    #[test]
    fn missing_and_misshapen_parameters_are_named() {
        let net = cnn(&Cnn::default()).unwrap();
        for name in ["bn1.running_var", "head.weight"] {
            let mut state = numbered(&net);
            state.insert(name.into(), Tensor::zeros([3]));
            let misshapen = inference(&net, &state).unwrap_err().to_string();
            state.remove(name);
            let missing = inference(&net, &state).unwrap_err().to_string();
            assert!(misshapen.contains(name) && misshapen.ends_with("got [3]"), "{misshapen}");
            assert!(missing.contains(name) && missing.ends_with("is missing"), "{missing}");
        }
    }
}
