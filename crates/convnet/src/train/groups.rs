//! How a recipe trains each parameter: frozen layers, another learning rate below the head, another weight decay of norms and
//! biases.

use std::collections::BTreeSet;

use crate::exec::ParameterGroup;
use crate::net::Net;
use crate::ops::{Category, Op};
use crate::train::unfreezing::Stages;
use crate::train::{OptimizerConfig, Recipe};
use crate::weights::is_below;
use crate::{Error, Result};

/// What is called so in a recipe: all layers but those that give the classes.
const BACKBONE: &str = "backbone";

/// An epoch of a run.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Epoch {
    /// Its number, counted from 0.
    pub(super) index: usize,
    /// The steps of each epoch.
    pub(super) steps: u64,
}

/// The groups of a net's parameters.
pub(super) struct Groups {
    frozen: Vec<String>,
    heads: Vec<String>,
    backbone_lr: f32,
    bias_lr: f32,
    /// The names of all norms.
    norms: BTreeSet<String>,
    /// Factors of the weight decay of the parameters of norms, and of biases, where these have their own.
    decays: [Option<f32>; 2],
    /// Where stages are unfrozen one after the other.
    unfreezing: Option<Unfreezing>,
}

/// What is trained of the stages of a net.
struct Unfreezing {
    stages: Stages,
    /// How many are trained.
    trained: usize,
    /// Steps between the beginnings of two stages.
    steps: u64,
}

impl Groups {
    /// # Errors
    /// [`Error::Unknown`] for layers to freeze that the net does not have, and a net without a head where one is needed.
    pub(super) fn new(net: &Net, recipe: &Recipe, when: Epoch) -> Result<Groups> {
        let frozen = recipe.freeze.clone();
        let [backbone_lr, bias_lr] = [recipe.optimizer.backbone_lr, recipe.optimizer.bias_lr].map(|lr| lr as f32);
        let names = || net.nodes().iter().map(|node| node.name.as_str());
        for layer in frozen.iter().filter(|layer| *layer != BACKBONE) {
            if !names().any(|name| is_below(name, layer)) {
                return Err(Error::unknown_layer(net, layer));
            }
        }
        let needs_heads =
            backbone_lr != 1.0 || recipe.unfreeze_every.is_some() || frozen.iter().any(|layer| layer == BACKBONE);
        let heads = if needs_heads { net.heads()? } else { Vec::new() };
        let heads: Vec<String> = heads.into_iter().map(|head| net.node(head).name.clone()).collect();
        let is_norm = |op: &Op| op.category() == Category::Normalization;
        let norms = net.nodes().iter().filter(|node| is_norm(&node.op)).map(|node| node.name.clone()).collect();
        let OptimizerConfig { norm_weight_decay, bias_weight_decay, .. } = recipe.optimizer;
        let decay = recipe.optimizer.weight_decay();
        let factor = |own: f64| if own == 0.0 { 0.0 } else { (own / decay) as f32 };
        let decays = [norm_weight_decay, bias_weight_decay].map(|own| own.map(factor));
        let mut groups = Groups { frozen, heads, backbone_lr, bias_lr, norms, decays, unfreezing: None };
        groups.unfreezing = recipe.unfreeze_every.map(|every| {
            let stages = Stages::new(net, &groups.heads, |layer| groups.is_frozen(layer));
            let trained = stages.trained(every, when.index);
            Unfreezing { stages, trained, steps: every as u64 * when.steps }
        });
        Ok(groups)
    }

    /// How a parameter is trained.
    pub(super) fn of(&self, parameter: &str) -> ParameterGroup {
        let (layer, name) = parameter.rsplit_once('.').unwrap_or((parameter, ""));
        let of_layer = if self.heads.iter().any(|head| head == layer) { 1.0 } else { self.backbone_lr };
        let lr = of_layer * if name == "bias" { self.bias_lr } else { 1.0 };
        let [of_norm, of_bias] = self.decays;
        let of_bias = of_bias.filter(|_| name == "bias");
        let weight_decay = of_bias.or(of_norm.filter(|_| self.norms.contains(layer))).unwrap_or(1.0);
        let stage = self.unfreezing.as_ref().map(|unfreezing| (unfreezing, unfreezing.stages.of(layer)));
        let first_step = stage.map_or(0, |(unfreezing, stage)| stage.unwrap_or_default() as u64 * unfreezing.steps);
        ParameterGroup { lr, weight_decay, trained: !self.is_frozen(layer), first_step }
    }

    /// The layers of the last stage that is trained, where stages are unfrozen, and how many stages are.
    pub(super) fn unfrozen(&self) -> Option<(usize, &[String])> {
        let Unfreezing { stages, trained, .. } = self.unfreezing.as_ref()?;
        Some((*trained, stages.layers(trained.saturating_sub(1))))
    }

    /// Whether a layer stays as it is; norms keep their running statistics then.
    pub(super) fn is_frozen(&self, layer: &str) -> bool {
        let is_head = || self.heads.iter().any(|head| head == layer);
        let waits =
            |unfreezing: &Unfreezing| unfreezing.stages.of(layer).is_some_and(|stage| stage >= unfreezing.trained);
        if self.unfreezing.as_ref().is_some_and(waits) {
            return true;
        }
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
            Groups::new(&net, &Recipe { freeze, optimizer, ..Recipe::default() }, Epoch::default())
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
        assert!(problem.starts_with("the net 'resnet18' has no layer 'layr1'"), "{problem}");
    }

    #[test]
    fn stages_are_unfrozen_from_the_head_down() {
        let net = zoo::by_name("resnet18", &Default::default()).unwrap();
        let recipe = Recipe { unfreeze_every: Some(2), freeze: vec!["layer3".into()], ..Recipe::default() };
        let at = |index| Groups::new(&net, &recipe, Epoch { index, steps: 10 }).unwrap();
        let trained = |groups: &Groups| {
            let of = |layer: &str| groups.of(&format!("{layer}.weight")).trained;
            ["fc", "layer4.1.bn2", "layer3.0.conv1", "layer2.0.conv1", "conv1"].map(of)
        };
        assert_eq!(trained(&at(0)), [true, false, false, false, false]);
        assert_eq!(trained(&at(3)), [true, true, false, false, false]);
        assert_eq!(trained(&at(4)), [true, true, false, true, false]);
        assert_eq!(trained(&at(50)), [true, true, false, true, true]);
        assert!(
            at(0).is_frozen("layer4.1.bn2") && !at(2).is_frozen("layer4.1.bn2") && at(50).is_frozen("layer3.0.bn1")
        );
        assert_eq!((at(4).of("layer2.0.conv1.weight").first_step, at(4).of("fc.bias").first_step), (40, 0));
        let (stages, layers) = (at(2).unfrozen().unwrap().0, at(2).unfrozen().unwrap().1.to_vec());
        assert_eq!((stages, layers[0].as_str()), (2, "layer4.0.conv1"));
    }

    #[test]
    fn biases_have_a_rate_of_their_own() {
        let net = zoo::by_name("vgg11_bn", &Default::default()).unwrap();
        let optimizer = OptimizerConfig { backbone_lr: 0.5, bias_lr: 64.0, ..OptimizerConfig::default() };
        let recipe = Recipe { optimizer, ..Recipe::default() };
        let groups = Groups::new(&net, &recipe, Epoch::default()).unwrap();
        let names = ["features.0.weight", "features.0.bias", "features.1.weight", "features.1.bias"];
        assert_eq!(names.map(|name| groups.of(name).lr), [0.5, 32.0, 0.5, 32.0]);
        assert_eq!(["classifier.6.weight", "classifier.6.bias"].map(|name| groups.of(name).lr), [1.0, 64.0]);
    }

    /// torchvision's `references/classification/utils.py`, `set_weight_decay`: the biases go first.
    #[test]
    fn norms_and_biases_have_their_own_decay() {
        let net = zoo::by_name("vgg11_bn", &Default::default()).unwrap();
        let decays = |norm_weight_decay, bias_weight_decay| {
            let weight_decay = Some(0.5);
            let optimizer =
                OptimizerConfig { weight_decay, norm_weight_decay, bias_weight_decay, ..OptimizerConfig::default() };
            let groups = Groups::new(&net, &Recipe { optimizer, ..Recipe::default() }, Epoch::default()).unwrap();
            let of = |name: &str| groups.of(name).weight_decay;
            ["features.0.weight", "features.0.bias", "features.1.weight", "features.1.bias"].map(of)
        };
        assert_eq!(decays(None, None), [1.0; 4]);
        assert_eq!(decays(Some(0.0), None), [1.0, 1.0, 0.0, 0.0]);
        assert_eq!(decays(None, Some(0.0)), [1.0, 0.0, 1.0, 0.0]);
        assert_eq!(decays(Some(0.0), Some(0.25)), [1.0, 0.5, 0.0, 0.5]);
    }
}
