//! From the names that a foreign file gives its tensors to torchvision's, as far as no net is needed to tell.

use crate::StateDict;
use crate::weights::note::Note;

/// Before every name when the net was wrapped for several devices, averaged, or compiled.
const WRAPPED: [&str; 2] = ["module.", "_orig_mod."];
/// What a wrapper keeps beside the net: how many weights were averaged.
const OF_WRAPPERS: &str = "n_averaged";

/// The same tensors, named as torchvision names them now: without a prefix that wrappers of nets add to all names, and
/// DenseNet's layers as they have been called since PyTorch 0.4 (`denselayer1.norm1`, before that `denselayer1.norm.1`).
pub(super) fn canonical(mut weights: StateDict, notes: &mut Vec<Note>) -> StateDict {
    let mut cut = 0;
    let shared = |prefix: &str, cut: usize| {
        let names = weights.keys().filter(|name| *name != OF_WRAPPERS);
        let mut rests = names.map(|name| &name[cut..]).peekable();
        rests.peek().is_some() && rests.all(|rest| rest.len() > prefix.len() && rest.starts_with(prefix))
    };
    while let Some(prefix) = WRAPPED.into_iter().find(|prefix| shared(prefix, cut)) {
        cut += prefix.len();
    }
    if cut > 0 {
        weights.remove(OF_WRAPPERS);
        let prefix = weights.keys().next().map(|name| name[..cut].to_owned());
        notes.extend(prefix.map(Note::Prefix));
        weights = weights.into_iter().map(|(name, tensor)| (name[cut..].to_owned(), tensor)).collect();
    }
    let mapped = |name: &String| Some((name.clone(), dense_layer(name)?));
    let renamed: Vec<_> = weights.keys().filter_map(mapped).filter(|(_, new)| !weights.contains_key(new)).collect();
    for (old, new) in renamed {
        if let Some(tensor) = weights.remove(&old) {
            weights.insert(new, tensor);
        }
    }
    weights
}

/// `….denselayer1.norm1.weight` for `….denselayer1.norm.1.weight`, nothing for other names.
pub(super) fn dense_layer(name: &str) -> Option<String> {
    let (rest, parameter) = name.rsplit_once('.')?;
    let (rest, number) = rest.rsplit_once('.')?;
    let (layer, kind) = rest.rsplit_once('.')?;
    let (_, layer_number) = layer.rsplit('.').next()?.split_once("denselayer")?;
    let old = matches!(kind, "norm" | "conv") && matches!(number, "1" | "2") && layer_number.parse::<u32>().is_ok();
    old.then(|| format!("{layer}.{kind}{number}.{parameter}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tensor;

    fn renamed(names: &[&str]) -> Vec<String> {
        let weights = names.iter().map(|name| ((*name).to_owned(), Tensor::zeros([1]))).collect();
        canonical(weights, &mut Vec::new()).into_keys().collect()
    }

    #[test]
    fn prefixes_go_when_all_names_have_them() {
        assert_eq!(renamed(&["module.a.weight", "module.b"]), ["a.weight", "b"]);
        assert_eq!(renamed(&["module._orig_mod.module.a", "module._orig_mod.module.b"]), ["a", "b"]);
        assert_eq!(renamed(&["module.a", "b"]), ["b", "module.a"]);
        assert_eq!(renamed(&["module.a", "n_averaged"]), ["a"]);
        assert_eq!(renamed(&["n_averaged"]), ["n_averaged"]);
        assert_eq!(renamed(&["module."]), ["module."]);
        assert_eq!(renamed(&[]), [""; 0]);
        assert_eq!(renamed(&[&("module.".repeat(1_000_000) + "a")]), ["a"], "in linear time");
    }

    #[test]
    fn old_dense_layers_are_respelled() {
        assert_eq!(
            renamed(&[
                "features.denseblock1.denselayer12.conv.2.weight",
                "features.denseblock1.denselayer12.norm.1.running_mean",
                "features.transition1.norm.1.weight",
                "features.denseblock1.denselayerx.norm.1.weight",
                "norm.1.weight",
            ]),
            [
                "features.denseblock1.denselayer12.conv2.weight",
                "features.denseblock1.denselayer12.norm1.running_mean",
                "features.denseblock1.denselayerx.norm.1.weight",
                "features.transition1.norm.1.weight",
                "norm.1.weight",
            ]
        );
        let both = ["denselayer1.conv.1.weight", "denselayer1.conv1.weight"];
        assert_eq!(renamed(&both), both, "neither is lost");
    }
}
