//! How a recipe trains each parameter: frozen layers, another learning rate below the head, another weight decay of norms and
//! biases.

use std::collections::BTreeSet;

use crate::exec::ParameterGroup;
use crate::net::Net;
use crate::ops::Op;
use crate::suggest::hint;
use crate::train::{OptimizerConfig, Recipe};
use crate::weights::is_below;
use crate::{Error, Result};

/// What is called so in a recipe: all layers but those that give the classes.
const BACKBONE: &str = "backbone";

/// The groups of a net's parameters.
pub(super) struct Groups {
    frozen: Vec<String>,
    heads: Vec<String>,
    backbone_lr: f32,
    /// The names of all norms.
    norms: BTreeSet<String>,
    /// Factors of the weight decay of the parameters of norms, and of biases, where these have their own.
    decays: [Option<f32>; 2],
}

impl Groups {
    /// # Errors
    /// [`Error::Invalid`] for layers to freeze that the net does not have, and a net without a head where one is needed.
    pub(super) fn new(net: &Net, recipe: &Recipe) -> Result<Groups> {
        let (frozen, backbone_lr) = (recipe.freeze.clone(), recipe.optimizer.backbone_lr as f32);
        let names = || net.nodes().iter().map(|node| node.name.as_str());
        for layer in frozen.iter().filter(|layer| *layer != BACKBONE) {
            if !names().any(|name| is_below(name, layer)) {
                let hint = hint(layer, names().chain([BACKBONE]));
                return Err(Error::invalid(format!("freeze: net '{}' has no layer '{layer}'{hint}", net.name())));
            }
        }
        let needs_heads = backbone_lr != 1.0 || frozen.iter().any(|layer| layer == BACKBONE);
        let heads = if needs_heads { net.heads()? } else { Vec::new() };
        let heads = heads.into_iter().map(|head| net.node(head).name.clone()).collect();
        let is_norm = |op: &Op| matches!(op, Op::BatchNorm2d(_) | Op::LayerNorm2d(_));
        let norms = net.nodes().iter().filter(|node| is_norm(&node.op)).map(|node| node.name.clone()).collect();
        let OptimizerConfig { norm_weight_decay, bias_weight_decay, .. } = recipe.optimizer;
        let decay = recipe.optimizer.weight_decay();
        let factor = |own: f64| if own == 0.0 { 0.0 } else { (own / decay) as f32 };
        let decays = [norm_weight_decay, bias_weight_decay].map(|own| own.map(factor));
        Ok(Groups { frozen, heads, backbone_lr, norms, decays })
    }

    /// How a parameter is trained.
    pub(super) fn of(&self, parameter: &str) -> ParameterGroup {
        let (layer, name) = parameter.rsplit_once('.').unwrap_or((parameter, ""));
        let lr = if self.heads.iter().any(|head| head == layer) { 1.0 } else { self.backbone_lr };
        let [of_norm, of_bias] = self.decays;
        let of_bias = of_bias.filter(|_| name == "bias");
        let weight_decay = of_bias.or(of_norm.filter(|_| self.norms.contains(layer))).unwrap_or(1.0);
        ParameterGroup { lr, weight_decay, trained: !self.is_frozen(layer) }
    }

    /// Whether a layer stays as it is; norms keep their running statistics then.
    pub(super) fn is_frozen(&self, layer: &str) -> bool {
        let is_head = || self.heads.iter().any(|head| head == layer);
        self.frozen.iter().any(|frozen| if frozen == BACKBONE { !is_head() } else { is_below(layer, frozen) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zoo;

    #[test]
    fn layers_are_frozen_by_name_and_the_backbone_is_all_but_the_head() {
        let net = zoo::by_name("resnet18", &Default::default()).unwrap();
        let groups = |freeze: &[&str], backbone_lr: f64| {
            let freeze = freeze.iter().map(|name| name.to_string()).collect();
            let optimizer = OptimizerConfig { backbone_lr, ..OptimizerConfig::default() };
            Groups::new(&net, &Recipe { freeze, optimizer, ..Recipe::default() })
        };
        let backbone = groups(&["backbone"], 1.0).unwrap();
        let trained = net.parameters().into_iter().filter(|(name, ..)| backbone.of(name).trained);
        assert_eq!(trained.map(|(name, ..)| name).collect::<Vec<_>>(), ["fc.weight", "fc.bias"]);
        assert!(backbone.is_frozen("layer1.0.bn1"));
        let some = groups(&["layer1", "conv1"], 0.1).unwrap();
        assert!(!some.of("layer1.0.conv1.weight").trained && !some.of("conv1.weight").trained);
        assert!(some.of("layer2.0.conv1.weight").trained && some.of("layer2.0.conv1.weight").lr == 0.1);
        assert_eq!(some.of("fc.bias"), ParameterGroup::default());
        let problem = groups(&["layr1"], 1.0).err().unwrap().to_string();
        assert!(problem.starts_with("freeze: net 'resnet18' has no layer 'layr1'"), "{problem}");
    }
    /// torchvision's `references/classification/utils.py`, `set_weight_decay`: the biases go first.
    #[test]
    fn norms_and_biases_have_their_own_decay() {
        let net = zoo::by_name("vgg11_bn", &Default::default()).unwrap();
        let decays = |norm_weight_decay, bias_weight_decay| {
            let weight_decay = Some(0.5);
            let optimizer =
                OptimizerConfig { weight_decay, norm_weight_decay, bias_weight_decay, ..OptimizerConfig::default() };
            let groups = Groups::new(&net, &Recipe { optimizer, ..Recipe::default() }).unwrap();
            let of = |name: &str| groups.of(name).weight_decay;
            ["features.0.weight", "features.0.bias", "features.1.weight", "features.1.bias"].map(of)
        };
        assert_eq!(decays(None, None), [1.0; 4]);
        assert_eq!(decays(Some(0.0), None), [1.0, 1.0, 0.0, 0.0]);
        assert_eq!(decays(None, Some(0.0)), [1.0, 0.0, 1.0, 0.0]);
        assert_eq!(decays(Some(0.0), Some(0.25)), [1.0, 0.5, 0.0, 0.5]);
    }
}
