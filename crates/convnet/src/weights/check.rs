//! Whether weights fit a net, told in one message rather than one key at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use super::Checkpoint;
use super::init::init_parameter;
use super::likeness::looks_like;
use super::problem::{Misfit, Misshaped, Problem};
use crate::net::{Net, NodeId};
use crate::ops::Op;
use crate::{Error, Result, StateDict, parallel};

/// What the last linear layer of every net is called where layers are named.
pub(super) const HEAD: &str = "head";

/// Checks that the weights are exactly the net's parameters and buffers. PyTorch's `num_batches_tracked`, which nothing
/// here needs, may be there or not.
///
/// # Errors
/// [`Problem::Misfit`] with the missing, the unexpected and the mis-shaped keys, and the net of the zoo that the weights
/// look like.
pub fn check(net: &Net, weights: &StateDict) -> Result<()> {
    let parameters = net.parameters();
    let heads = heads(net);
    let mut misfit = Misfit { net: net.name().to_owned(), ..Misfit::default() };
    let mut only_head = true;
    for (name, node, parameter) in &parameters {
        match weights.get(name) {
            None if is_counter(name) => {}
            None => {
                only_head &= heads.contains(node);
                misfit.missing.push(name.clone());
            }
            Some(tensor) if tensor.shape() != parameter.shape => {
                only_head &= heads.contains(node);
                let (expected, got) = (parameter.shape.clone(), tensor.shape().to_vec());
                misfit.misshaped.push(Misshaped { name: name.clone(), expected, got });
            }
            Some(_) => {}
        }
    }
    let expected: BTreeSet<&str> = parameters.iter().map(|(name, ..)| name.as_str()).collect();
    let unexpected = weights.keys().filter(|name| !expected.contains(name.as_str()) && !is_counter(name));
    misfit.unexpected = unexpected.cloned().collect();
    if misfit.missing.is_empty() && misfit.unexpected.is_empty() && misfit.misshaped.is_empty() {
        return Ok(());
    }
    misfit.only_head = only_head && misfit.unexpected.is_empty();
    misfit.likeness = looks_like(weights);
    Err(Problem::Misfit(Box::new(misfit)).into())
}

/// The weights, without `num_batches_tracked`, when they fit the net.
///
/// # Errors
/// As [`check`].
pub fn fitting(net: &Net, weights: StateDict) -> Result<StateDict> {
    Ok(fitted(net, weights, &[])?.weights)
}

/// Weights that fit a net because some layers need not.
#[derive(Clone, Debug, PartialEq)]
pub struct Fitted {
    /// Exactly the net's parameters and buffers.
    pub weights: StateDict,
    /// Those of them that the file does not have in this shape: they have their first values.
    pub initial: Vec<String>,
}

/// As [`fitting`], but below the layers `ignored` the weights may lack tensors, have others, or have them in another
/// shape: the net's parameters then keep the values of [`init`](super::init()) with seed 0. A layer is named by a node or by
/// the beginning of the names of several (`layer4`); `head` is the last linear layer, whatever its name, and those of
/// auxiliary outputs. What only auxiliary outputs need may always be missing: inference does not miss it.
///
/// # Errors
/// As [`check`] for what remains; [`Error::Unknown`] for a name that neither a node nor a tensor has.
///
/// ```
/// use convnet::{weights, zoo};
/// let ten = zoo::cnn(&zoo::Cnn::default()).unwrap();
/// let three = zoo::cnn(&zoo::Cnn { ydim: 3, ..zoo::Cnn::default() }).unwrap();
/// let fitted = weights::fitted(&three, weights::init(&ten, 7), &["head".to_owned()]).unwrap();
/// assert_eq!(fitted.initial, ["head.weight", "head.bias"]);
/// assert!(weights::fitted(&three, weights::init(&ten, 7), &[]).is_err());
/// ```
pub fn fitted(net: &Net, mut weights: StateDict, ignored: &[String]) -> Result<Fitted> {
    let ignored: Vec<Vec<String>> =
        ignored.iter().map(|layer| prefixes(net, &weights, layer)).collect::<Result<_>>()?;
    let is_ignored = |name: &str| ignored.iter().flatten().any(|prefix| name.starts_with(prefix));
    let needed = net.needed(false);
    for (name, node, parameter) in net.parameters() {
        if !needed[node.index()] && !weights.contains_key(&name) {
            weights.insert(name.clone(), init_parameter(&name, &parameter, 0));
        }
    }
    let parameters: Vec<_> = net.parameters().into_iter().filter(|(name, ..)| is_ignored(name)).collect();
    let shapes: BTreeMap<&str, &[usize]> =
        parameters.iter().map(|(name, _, p)| (name.as_str(), &p.shape[..])).collect();
    weights.retain(|name, tensor| !is_ignored(name) || shapes.get(name.as_str()).is_some_and(|&s| s == tensor.shape()));
    let mut initial = Vec::new();
    for (name, _, parameter) in parameters {
        if !weights.contains_key(&name) {
            weights.insert(name.clone(), init_parameter(&name, &parameter, 0));
            initial.push(name);
        }
    }
    check(net, &weights)?;
    weights.retain(|name, _| !is_counter(name));
    Ok(Fitted { weights, initial })
}

/// What the names of a layer's parameters begin with.
fn prefixes(net: &Net, weights: &StateDict, layer: &str) -> Result<Vec<String>> {
    let heads = heads(net);
    if layer == HEAD && !heads.is_empty() {
        return Ok(heads.into_iter().map(|id| format!("{}.", net.node(id).name)).collect());
    }
    let prefix = format!("{layer}.");
    let in_file = weights.keys().any(|name| name.starts_with(&prefix));
    match in_file || net.nodes().iter().any(|node| node.name == layer || node.name.starts_with(&prefix)) {
        true => Ok(vec![prefix]),
        false => Err(Error::unknown_layer(net, layer)),
    }
}

/// The last linear layer or convolution (SqueezeNet), which tells the classes apart, and those that do for auxiliary outputs.
pub(super) fn heads(net: &Net) -> Vec<NodeId> {
    let needed = net.needed(false);
    let linear = |id: &NodeId| matches!(net.node(*id).op, Op::Linear(_) | Op::Conv2d(_));
    let last = (0..net.nodes().len()).rev().map(NodeId).find(|id| needed[id.index()] && linear(id));
    last.into_iter().chain(net.auxiliaries().iter().map(|auxiliary| auxiliary.node).filter(linear)).collect()
}

/// Reads weights for a net from any file of weights, a [`Checkpoint`] of ours or anyone's, without `num_batches_tracked`.
///
/// # Errors
/// As [`Checkpoint::load`]; [`Error::File`] also when the weights do not fit the net.
pub fn load(net: &Net, path: &Path) -> Result<StateDict> {
    fitting(net, Checkpoint::load(path)?.weights).map_err(|error| error.in_file(path))
}

/// PyTorch's count of batches seen by a batch norm.
pub(super) fn is_counter(name: &str) -> bool {
    name.ends_with("num_batches_tracked")
}

/// Checks that every element of every tensor is a finite number.
///
/// # Errors
/// [`Problem::NotFinite`] with the first tensor, by name, that holds another.
pub fn check_finite(weights: &StateDict) -> Result<()> {
    let Some(name) = not_finite(weights) else { return Ok(()) };
    let data = weights[name].data();
    let mut others = data.iter().enumerate().filter(|(_, value)| !value.is_finite());
    let (index, &value) = others.next().expect("one is not finite");
    let (count, elements) = (1 + others.count(), data.len());
    Err(Problem::NotFinite { tensor: name.to_owned(), value, index, count, elements }.into())
}

/// The first tensor, by name, with NaN or infinity in it.
pub(crate) fn not_finite(weights: &StateDict) -> Option<&str> {
    /// Elements that a thread looks at before it looks for other work.
    const PART: usize = 1 << 20;
    let parts = weights.iter().flat_map(|(name, tensor)| tensor.data().chunks(PART).map(move |part| (name, part)));
    let found: Mutex<Option<&String>> = Mutex::new(None);
    parallel::for_each(
        parts.collect::<Vec<_>>(),
        || (),
        |(name, part): (&String, &[f32]), ()| {
            // A chunk at a time without a branch, so that it is as fast as memory.
            let is_finite = |chunk: &[f32]| chunk.iter().fold(true, |all, value| all & value.is_finite());
            if !part.chunks(4096).all(is_finite) {
                let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                *found = Some(found.map_or(name, |other| other.min(name)));
            }
        },
    );
    found.into_inner().unwrap_or_else(PoisonError::into_inner).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tensor;
    use crate::weights::init;
    use crate::zoo::{Cnn, cnn};

    fn small() -> (Net, StateDict) {
        let net = cnn(&Cnn { cdims: vec![2], hdims: vec![], ..Cnn::default() }).unwrap();
        let weights = init(&net, 0);
        (net, weights)
    }

    #[test]
    fn every_difference_is_in_one_message() {
        let (net, mut weights) = small();
        weights.remove("bn1.bias");
        weights.insert("fc.weight".into(), Tensor::zeros([1]));
        weights.insert("conv1.weight".into(), Tensor::zeros([2, 3, 3, 3]));
        assert_eq!(
            check(&net, &weights).unwrap_err().to_string(),
            "the weights do not fit the net 'cnn': 1 missing: bn1.bias; 1 unexpected: fc.weight; \
             1 of another shape: conv1.weight (expected [2, 1, 3, 3], got [2, 3, 3, 3])"
        );
    }

    #[test]
    fn long_lists_are_shortened() {
        let message = check(&small().0, &StateDict::new()).unwrap_err().to_string();
        assert!(
            message.ends_with("8 missing: conv1.weight, conv1.bias, bn1.weight, bn1.bias, bn1.running_mean and 3 more")
        );
    }

    #[test]
    fn ignored_layers_keep_their_first_values() {
        let net = |ydim| cnn(&Cnn { cdims: vec![2], hdims: vec![3, 3], ydim, ..Cnn::default() }).unwrap();
        let (ten, two) = (init(&net(10), 5), net(2));
        let head = ["head".to_owned()];
        let Fitted { weights, initial } = fitted(&two, ten.clone(), &head).unwrap();
        assert_eq!(initial, ["head.weight", "head.bias"]);
        assert_eq!(weights["linear1.weight"], ten["linear1.weight"]);
        assert_eq!(weights["head.weight"], init(&two, 0)["head.weight"]);
        check(&two, &weights).unwrap();
        let mut other = ten.clone();
        other.remove("linear2.bias");
        other.insert("linear2.scale".into(), Tensor::zeros([1]));
        let message = fitted(&two, other.clone(), &head).unwrap_err().to_string();
        assert!(message.ends_with("1 missing: linear2.bias; 1 unexpected: linear2.scale"), "{message}");
        let ignored = ["head", "linear2"].map(str::to_owned);
        assert_eq!(fitted(&two, other, &ignored).unwrap().initial, ["linear2.bias", "head.weight", "head.bias"]);
        // What fits is kept, below an ignored layer too; names are not prefixes of longer ones.
        assert_eq!(fitted(&net(10), ten.clone(), &head).unwrap(), Fitted { weights: ten.clone(), initial: vec![] });
        let message = fitted(&two, ten, &["linear".to_owned()]).unwrap_err().to_string();
        assert!(message.starts_with("the net 'cnn' has no layer 'linear': did you mean 'linear1'?"), "{message}");
    }

    #[test]
    fn another_number_of_classes_is_recognised() {
        let net = |ydim| cnn(&Cnn { ydim, ..Cnn::default() }).unwrap();
        let message = check(&net(10), &init(&net(3), 0)).unwrap_err().to_string();
        assert!(message.ends_with("got [3]); they look like 'cnn' with 3 classes"), "{message}");
    }

    #[test]
    fn num_batches_tracked_is_tolerated() {
        let (net, mut weights) = small();
        let plain = weights.clone();
        weights.insert("bn1.num_batches_tracked".into(), Tensor::zeros([]));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        crate::weights::safetensors::write(&path, &weights, &Default::default()).unwrap();
        assert_eq!(load(&net, &path).unwrap(), plain);
    }

    #[test]
    fn weights_of_another_net_are_refused_with_the_file_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        crate::weights::safetensors::write(&path, &StateDict::new(), &Default::default()).unwrap();
        let message = load(&small().0, &path).unwrap_err().to_string();
        assert!(message.contains("w.safetensors: the weights do not fit the net 'cnn': 8 missing"), "{message}");
    }
}
