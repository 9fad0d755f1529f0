//! Whether weights fit a net, told in one message rather than one key at a time.

use std::collections::BTreeSet;
use std::path::Path;

use super::{Checkpoint, printable};
use crate::net::Net;
use crate::{Error, Result, StateDict};

/// How many keys of each kind a message names.
const SHOWN: usize = 5;

/// Checks that the weights are exactly the net's parameters and buffers. PyTorch's `num_batches_tracked`, which nothing
/// here needs, may be there or not.
///
/// # Errors
/// [`Error::Invalid`] with the missing, the unexpected and the mis-shaped keys, long lists shortened.
pub fn check(net: &Net, weights: &StateDict) -> Result<()> {
    let parameters = net.parameters();
    let (mut missing, mut misshaped) = (Vec::new(), Vec::new());
    for (name, _, parameter) in &parameters {
        match weights.get(name) {
            None if is_counter(name) => {}
            None => missing.push(printable(name)),
            Some(tensor) if tensor.shape() != parameter.shape => {
                misshaped.push(format!(
                    "{} (expected {:?}, got {:?})",
                    printable(name),
                    parameter.shape,
                    tensor.shape()
                ));
            }
            Some(_) => {}
        }
    }
    let expected: BTreeSet<&str> = parameters.iter().map(|(name, ..)| name.as_str()).collect();
    let unexpected = weights.keys().filter(|name| !expected.contains(name.as_str()) && !is_counter(name));
    let problems = [
        listed("missing", &missing),
        listed("unexpected", &unexpected.map(|name| printable(name)).collect::<Vec<_>>()),
        listed("of another shape", &misshaped),
    ];
    let problems: Vec<String> = problems.into_iter().flatten().collect();
    if problems.is_empty() {
        return Ok(());
    }
    Err(Error::invalid(format!("the weights do not fit the net '{}': {}", net.name(), problems.join("; "))))
}

/// The weights, without `num_batches_tracked`, when they fit the net.
///
/// # Errors
/// As [`check`].
pub fn fitting(net: &Net, mut weights: StateDict) -> Result<StateDict> {
    check(net, &weights)?;
    weights.retain(|name, _| !is_counter(name));
    Ok(weights)
}

/// Reads weights for a net from a safetensors file, a [`Checkpoint`] of ours or anyone's, without `num_batches_tracked`.
///
/// # Errors
/// As [`Checkpoint::load`]; [`Error::File`] also when the weights do not fit the net.
pub fn load(net: &Net, path: &Path) -> Result<StateDict> {
    fitting(net, Checkpoint::load(path)?.weights).map_err(|e| Error::file(path, e.to_string()))
}

/// PyTorch's count of batches seen by a batch norm.
fn is_counter(name: &str) -> bool {
    name.ends_with("num_batches_tracked")
}

/// `2 missing: a, b`, or nothing for none.
fn listed(what: &str, keys: &[String]) -> Option<String> {
    let shown = keys[..keys.len().min(SHOWN)].join(", ");
    match keys.len() {
        0 => None,
        n if n > SHOWN => Some(format!("{n} {what}: {shown} and {} more", n - SHOWN)),
        n => Some(format!("{n} {what}: {shown}")),
    }
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
