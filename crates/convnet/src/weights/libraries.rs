//! Weights under the names of torchvision's and timm's networks, and the calls that make these.
//!
//! Names of the zoo are torchvision's. timm has the same for ResNet, ResNeXt, wide ResNet, DenseNet and Inception v3, and others for
//! the networks of [`TIMM`]: a block of an inverted residual is told there by what its convolutions do.

use std::collections::{BTreeMap, BTreeSet};

use crate::net::{Net, Node};
use crate::ops::{Op, Shape};
use crate::zoo::{self, ZooOptions};
use crate::{Error, Result, StateDict, Tensor};

/// Who else has networks of the zoo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Library {
    /// torchvision.
    Torchvision,
    /// timm (PyTorch Image Models).
    Timm,
}

/// Weights as a library names them.
#[derive(Clone, Debug)]
pub struct Named {
    /// The tensors, with a counter of batches for each batch norm.
    pub weights: StateDict,
    /// The call that makes the network: `timm.create_model("resnet18", num_classes=10)`.
    pub call: String,
    /// The version that the network's state dict must have, where it asks for one: safetensors have no place for it.
    pub version: Option<u32>,
}

/// timm's names for networks that it calls or builds otherwise.
const TIMM: &[(&str, &str)] = &[
    ("mobilenet_v2", "mobilenetv2_100"),
    ("mobilenet_v3_large", "mobilenetv3_large_100"),
    ("mobilenet_v3_small", "mobilenetv3_small_100"),
    ("mnasnet0_5", "mnasnet_050"),
    ("mnasnet0_75", "mnasnet_075"),
    ("mnasnet1_0", "mnasnet_100"),
    ("efficientnet_v2_s", "efficientnetv2_s"),
    ("efficientnet_v2_m", "efficientnetv2_m"),
    ("efficientnet_v2_l", "efficientnetv2_l"),
    ("regnet_x_400mf", "regnetx_004_tv"),
    ("regnet_x_800mf", "regnetx_008"),
    ("regnet_x_1_6gf", "regnetx_016"),
    ("regnet_x_3_2gf", "regnetx_032"),
    ("regnet_x_8gf", "regnetx_080"),
    ("regnet_x_16gf", "regnetx_160"),
    ("regnet_x_32gf", "regnetx_320"),
    ("regnet_y_400mf", "regnety_004"),
    ("regnet_y_800mf", "regnety_008_tv"),
    ("regnet_y_1_6gf", "regnety_016"),
    ("regnet_y_3_2gf", "regnety_032"),
    ("regnet_y_8gf", "regnety_080_tv"),
    ("regnet_y_16gf", "regnety_160"),
    ("regnet_y_32gf", "regnety_320"),
    ("regnet_y_128gf", "regnety_1280"),
];
/// Families whose networks have the same name in timm.
const SAME_IN_TIMM: [&str; 8] =
    ["VGG", "ResNet", "ResNeXt", "Wide ResNet", "DenseNet", "Inception v3", "EfficientNet", "ConvNeXt"];
/// Families, and single networks, that torchvision does not have.
const NOT_IN_TORCHVISION: [&str; 8] = [
    "CNN",
    "LeNet",
    "ResNet for CIFAR",
    "Plain nets for CIFAR",
    "DenseNet for CIFAR",
    "airbench",
    "alexnet_2012",
    "googlenet_v1",
];
/// The usual number that keeps batch norm from dividing by 0.
const USUAL_EPS: f32 = 1e-5;
/// From this side on, VGG's last maps are larger than the 7×7 that timm's first dense layer, a convolution, is for.
const TOO_LARGE_FOR_VGG: usize = 256;

/// The weights of a network of the zoo as a library names them.
///
/// # Errors
/// [`Error::Invalid`] where the library has no such network, or where the weights are for another one.
///
/// ```
/// use convnet::weights::{self, Library, named};
/// use convnet::zoo;
///
/// # fn main() -> convnet::Result<()> {
/// let net = zoo::by_name("convnext_tiny", &zoo::ZooOptions::default())?;
/// let timm = named(Library::Timm, &net, weights::init(&net, 0))?;
/// assert_eq!(timm.call, "timm.create_model(\"convnext_tiny\", num_classes=1000)");
/// assert_eq!(timm.weights["stages.0.blocks.0.gamma"].shape(), [96]);
/// # Ok(())
/// # }
/// ```
pub fn named(library: Library, net: &Net, weights: StateDict) -> Result<Named> {
    let library_name = match library {
        Library::Torchvision => "torchvision",
        Library::Timm => "timm",
    };
    let model = zoo::find(net.name()).ok().filter(|model| is_of_zoo(net, model));
    let family = model.map(|model| model.family).unwrap_or_default();
    let known = match library {
        Library::Torchvision => {
            let absent = NOT_IN_TORCHVISION.iter().any(|name| *name == family || *name == net.name());
            model.filter(|_| !absent).map(|model| model.name)
        }
        Library::Timm => {
            let other = TIMM.iter().find(|(own, _)| *own == net.name()).map(|(_, other)| *other);
            model.and_then(|model| other.or(SAME_IN_TIMM.contains(&family).then_some(model.name)))
        }
    };
    let known = known.ok_or_else(|| Error::invalid(format!("{library_name} has no network '{}'", net.name())))?;
    match library {
        Library::Torchvision => torchvision(known, net, weights),
        Library::Timm => timm(known, family, net, weights),
    }
}

/// Whether a net has the parameters of the zoo's for the same pictures and classes.
fn is_of_zoo(net: &Net, model: &zoo::Model) -> bool {
    let Shape::Map(input) = net.input_shape() else { return false };
    let parameters = |net: &Net| -> BTreeMap<String, Vec<usize>> {
        let needed = net.needed(false);
        let all = net.parameters().into_iter().filter(|(_, node, _)| needed[node.index()]);
        all.map(|(name, _, parameter)| (name, parameter.shape)).collect()
    };
    let options =
        ZooOptions { input: Some(input), classes: Some(net.output_shape().elements()), ..ZooOptions::default() };
    model.net(&options).is_ok_and(|own| parameters(&own) == parameters(net))
}

fn torchvision(name: &str, net: &Net, mut weights: StateDict) -> Result<Named> {
    let (channels, classes) = (net.input_shape().channels(), net.output_shape().elements());
    if channels != 3 {
        return Err(Error::invalid(format!("torchvision's networks take 3 channels, got {channels}")));
    }
    let settings = match name {
        "googlenet" | "inception_v3" => {
            let has = if weights.keys().any(|name| is_auxiliary(name)) { "True" } else { "False" };
            format!(", aux_logits={has}, init_weights=False")
        }
        _ => String::new(),
    };
    count_batches(&mut weights);
    let version = name.starts_with("mnasnet").then_some(2);
    Ok(Named { weights, version, call: format!("torchvision.models.{name}(num_classes={classes}{settings})") })
}

fn timm(name: &str, family: &str, net: &Net, weights: StateDict) -> Result<Named> {
    let Shape::Map([channels, height, width]) = net.input_shape() else {
        return Err(Error::invalid("expected a network for pictures"));
    };
    if family == "VGG" && height.max(width) >= TOO_LARGE_FOR_VGG {
        let problem = format!("timm's VGG is for pictures below {TOO_LARGE_FOR_VGG} pixels, got {height}x{width}");
        return Err(Error::invalid(problem));
    }
    let mut settings = format!("num_classes={}", net.output_shape().elements());
    if channels != 3 {
        settings.push_str(&format!(", in_chans={channels}"));
    }
    let eps = net.nodes().iter().find_map(|node| match &node.op {
        Op::BatchNorm2d(norm) => Some(norm.eps),
        _ => None,
    });
    if let Some(eps) = eps.filter(|&eps| eps != USUAL_EPS && family != "Inception v3") {
        settings.push_str(&format!(", bn_eps={eps}"));
    }
    let places = places(family, net);
    let mut renamed = StateDict::new();
    for (name, tensor) in weights.into_iter().filter(|(name, _)| !is_auxiliary(name)) {
        let (module, parameter) = name.rsplit_once('.').unwrap_or(("", &name));
        let found = places.get(module).map_or(module, String::as_str);
        let name = match (parameter, found) {
            ("layer_scale", block) => format!("{block}.gamma"),
            (parameter, module) => format!("{module}.{parameter}"),
        };
        let shape = shape_in_timm(&name, tensor.shape());
        renamed.insert(name, Tensor::new(shape, tensor.into_data()));
    }
    count_batches(&mut renamed);
    Ok(Named { weights: renamed, version: None, call: format!("timm.create_model(\"{name}\", {settings})") })
}

fn is_auxiliary(name: &str) -> bool {
    name.starts_with("aux") || name.starts_with("AuxLogits")
}

/// A tensor's shape: some of timm's dense layers are convolutions, and its scales of layers are lists.
fn shape_in_timm(name: &str, shape: &[usize]) -> Vec<usize> {
    /// The side of VGG's last maps.
    const SIDE: usize = 7;
    let is_dense = name.ends_with(".weight") && shape.len() == 2;
    match *shape {
        [outputs, inputs] if name.starts_with("pre_logits.fc1") => vec![outputs, inputs / (SIDE * SIDE), SIDE, SIDE],
        [outputs, inputs]
            if is_dense && ["pre_logits.", "conv_head.", "se."].iter().any(|part| name.contains(part)) =>
        {
            vec![outputs, inputs, 1, 1]
        }
        [channels, 1, 1] if name.ends_with(".gamma") => vec![channels],
        _ => shape.to_vec(),
    }
}

/// Gives each batch norm its counter of batches, which PyTorch asks for and inference does not read.
fn count_batches(weights: &mut StateDict) {
    let norms: BTreeSet<String> =
        weights.keys().filter_map(|name| name.strip_suffix("running_var")).map(str::to_owned).collect();
    weights.extend(norms.into_iter().map(|norm| (format!("{norm}num_batches_tracked"), Tensor::new([], vec![0.0]))));
}

/// For modules of a net that timm calls otherwise, what it calls them.
fn places(family: &str, net: &Net) -> BTreeMap<String, String> {
    let modules: BTreeSet<&str> = net
        .nodes()
        .iter()
        .flat_map(|node| [&node.name[..], node.name.rsplit_once('.').unwrap_or_default().0])
        .collect();
    let by_path = |place: fn(&[&str]) -> Option<String>| {
        let found = |module: &&str| Some(((*module).to_owned(), place(&module.split('.').collect::<Vec<_>>())?));
        modules.iter().filter_map(found).collect()
    };
    match family {
        "VGG" => by_path(of_vgg),
        "RegNet" => by_path(of_regnet),
        "ConvNeXt" => by_path(of_convnext),
        "MobileNet v2" | "MobileNet v3" | "MNASNet" | "EfficientNet" | "EfficientNet V2" => {
            inverted_residuals(family, net)
        }
        _ => BTreeMap::new(),
    }
}

fn of_vgg(path: &[&str]) -> Option<String> {
    Some(match path {
        ["classifier", "0"] => "pre_logits.fc1".into(),
        ["classifier", "3"] => "pre_logits.fc2".into(),
        ["classifier", "6"] => "head.fc".into(),
        _ => return None,
    })
}

fn of_regnet(path: &[&str]) -> Option<String> {
    const CONV_NORM: [&str; 2] = ["conv", "bn"];
    let conv_norm = |number: &str| number.parse().ok().and_then(|number: usize| CONV_NORM.get(number).copied());
    Some(match path {
        ["stem", number] => format!("stem.{}", conv_norm(number)?),
        ["fc"] => "head.fc".into(),
        ["trunk_output", stage, block, rest @ ..] => {
            let stage = stage.strip_prefix("block")?;
            let (_, index) = block.rsplit_once('-')?;
            let block = format!("s{stage}.b{}", index.parse::<usize>().ok()? + 1);
            match rest {
                ["proj", number] => format!("{block}.downsample.{}", conv_norm(number)?),
                ["f", "a", number] => format!("{block}.conv1.{}", conv_norm(number)?),
                ["f", "b", number] => format!("{block}.conv2.{}", conv_norm(number)?),
                ["f", "c", number] => format!("{block}.conv3.{}", conv_norm(number)?),
                ["f", "se", layer] => format!("{block}.se.{layer}"),
                _ => return None,
            }
        }
        _ => return None,
    })
}

fn of_convnext(path: &[&str]) -> Option<String> {
    Some(match path {
        ["features", "0", number] => format!("stem.{number}"),
        ["classifier", "0"] => "head.norm".into(),
        ["classifier", "2"] => "head.fc".into(),
        ["features", stage, rest @ ..] => {
            // Stages and what lies between them take turns.
            let stage = stage.parse::<usize>().ok()?;
            let (place, is_between) = (format!("stages.{}", stage / 2), stage % 2 == 0);
            match rest {
                [number] if is_between => format!("{place}.downsample.{number}"),
                [block] => format!("{place}.blocks.{block}"),
                [block, "block", layer] => {
                    let layer = match *layer {
                        "0" => "conv_dw",
                        "2" => "norm",
                        "3" => "mlp.fc1",
                        "5" => "mlp.fc2",
                        _ => return None,
                    };
                    format!("{place}.blocks.{block}.{layer}")
                }
                _ => return None,
            }
        }
        _ => return None,
    })
}

/// Where a module of a net of inverted residuals stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Stem,
    /// By stage and place in it.
    Block(usize, usize),
    Head,
}

fn inverted_residuals(family: &str, net: &Net) -> BTreeMap<String, String> {
    let mut parts: BTreeMap<Part, Vec<&Node>> = BTreeMap::new();
    let is_kept = |node: &&Node| matches!(node.op, Op::Conv2d(_) | Op::BatchNorm2d(_) | Op::Linear(_));
    let nodes: Vec<&Node> = net.nodes().iter().filter(is_kept).collect();
    let number = |node: &Node| -> Option<usize> { node.name.split('.').nth(1)?.parse().ok() };
    let last = nodes.iter().filter(|node| node.name.starts_with("features")).filter_map(|node| number(node)).max();
    let stages = if family.starts_with("MobileNet") { stages(&nodes, number) } else { BTreeMap::new() };
    let mut places = BTreeMap::new();
    for node in nodes {
        let path: Vec<&str> = node.name.split('.').collect();
        let numbers: Vec<Option<usize>> = path.iter().map(|part| part.parse().ok()).collect();
        let part = match (&path[..], &numbers[..]) {
            (["classifier", ..], _) => {
                let is_head = family == "MobileNet v3" && path[1] == "0";
                places.insert(node.name.clone(), if is_head { "conv_head" } else { "classifier" }.to_owned());
                continue;
            }
            (["features", "0", ..] | ["layers", "0" | "1"], _) => Part::Stem,
            (["layers", ..], [_, Some(layer), Some(block), ..]) => Part::Block(layer - 7, *block),
            (["layers", ..], [_, Some(3..=7)]) => Part::Block(0, 0),
            (["layers", ..], _) => Part::Head,
            (_, [_, layer, ..]) if *layer == last && family != "MobileNet v3" => Part::Head,
            (_, [_, Some(layer), ..]) if family.starts_with("MobileNet") => stages[layer],
            (_, [_, Some(stage), Some(block), ..]) => Part::Block(stage - 1, *block),
            _ => continue,
        };
        parts.entry(part).or_default().push(node);
    }
    for (part, nodes) in parts {
        places.extend(of_part(part, &nodes));
    }
    places
}

/// MobileNet's layers by stage: a stage begins where the channels become others.
fn stages(nodes: &[&Node], number: impl Fn(&Node) -> Option<usize>) -> BTreeMap<usize, Part> {
    let mut outputs: BTreeMap<usize, usize> = BTreeMap::new();
    for node in nodes.iter().filter(|node| node.name.starts_with("features")) {
        outputs.extend(number(node).map(|layer| (layer, node.shape.channels())));
    }
    let (mut stage, mut place, mut before) = (0, 0, None);
    let mut stages = BTreeMap::new();
    for (layer, channels) in outputs.into_iter().skip(1) {
        (stage, place) = match before {
            None => (0, 0),
            Some(before) if before == channels => (stage, place + 1),
            Some(_) => (stage + 1, 0),
        };
        before = Some(channels);
        stages.insert(layer, Part::Block(stage, place));
    }
    stages
}

/// What timm calls the modules of a part, by what its convolutions do.
fn of_part(part: Part, nodes: &[&Node]) -> Vec<(String, String)> {
    let squeezes = |node: &&&Node| node.name.ends_with(".fc1") || node.name.ends_with(".fc2");
    let convs: Vec<bool> = nodes
        .iter()
        .filter(|node| !squeezes(node))
        .filter_map(|node| match &node.op {
            Op::Conv2d(conv) => Some(conv.groups > 1),
            _ => None,
        })
        .collect();
    let (prefix, names, first_norm): (String, &[&str], usize) = match part {
        Part::Stem => (String::new(), &["conv_stem"], 1),
        Part::Head => (String::new(), &["conv_head"], 2),
        Part::Block(stage, place) => {
            let names: &[&str] = match convs[..] {
                [_] => &["conv"],
                [true, _] => &["conv_dw", "conv_pw"],
                [false, _] => &["conv_exp", "conv_pwl"],
                _ => &["conv_pw", "conv_dw", "conv_pwl"],
            };
            (format!("blocks.{stage}.{place}."), names, 1)
        }
    };
    let (mut conv, mut norm) = (names.iter(), first_norm..);
    let mut places = Vec::new();
    for node in nodes {
        let name = match &node.op {
            _ if node.name.ends_with(".fc1") => Some("se.conv_reduce".to_owned()),
            _ if node.name.ends_with(".fc2") => Some("se.conv_expand".to_owned()),
            Op::BatchNorm2d(_) => norm.next().map(|number| format!("bn{number}")),
            _ => conv.next().map(|name| (*name).to_owned()),
        };
        places.extend(name.map(|name| (node.name.clone(), format!("{prefix}{name}"))));
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::init;

    /// Names of timm 1.0.31; `tests/onnx/libraries.py` loads all of them there.
    #[test]
    fn names_are_those_of_timm() {
        let names = |model: &str| -> StateDict {
            let net = zoo::by_name(model, &ZooOptions { classes: Some(3), ..ZooOptions::default() }).unwrap();
            named(Library::Timm, &net, init(&net, 0)).unwrap().weights
        };
        for (model, expected) in [
            (
                "mobilenet_v3_small",
                &["conv_stem.weight", "blocks.0.0.se.conv_reduce.bias", "blocks.5.0.conv.weight"][..],
            ),
            (
                "mobilenet_v2",
                &["blocks.0.0.conv_pw.weight", "blocks.6.0.bn3.running_mean", "conv_head.weight", "bn2.bias"],
            ),
            ("mnasnet0_5", &["blocks.0.0.bn2.weight", "blocks.6.0.conv_pwl.weight", "classifier.bias"]),
            ("efficientnet_b0", &["blocks.0.0.conv_dw.weight", "blocks.6.0.bn3.num_batches_tracked"]),
            ("regnet_y_400mf", &["s1.b1.downsample.conv.weight", "s4.b6.se.fc2.bias", "head.fc.weight"]),
            ("resnet18", &["layer1.0.conv1.weight", "bn1.num_batches_tracked"]),
        ] {
            let found = names(model);
            for name in expected {
                assert!(found.contains_key(*name), "{model}: no {name}");
            }
        }
    }

    #[test]
    fn shapes_are_those_of_timm() {
        let net = zoo::by_name("mobilenet_v3_small", &ZooOptions::default()).unwrap();
        let found = named(Library::Timm, &net, init(&net, 0)).unwrap();
        assert_eq!(found.weights["conv_head.weight"].shape(), [1024, 576, 1, 1]);
        assert!(found.call.ends_with("(\"mobilenetv3_small_100\", num_classes=1000, bn_eps=0.001)"), "{}", found.call);
        assert_eq!(shape_in_timm("pre_logits.fc1.weight", &[4096, 25088]), [4096, 512, 7, 7]);
        assert_eq!(shape_in_timm("pre_logits.fc1.bias", &[4096]), [4096]);
    }

    #[test]
    fn other_networks_are_refused() {
        let problem = |library, model: &str, options: ZooOptions| {
            let net = zoo::by_name(model, &options).unwrap();
            named(library, &net, StateDict::new()).unwrap_err().to_string()
        };
        let none = ZooOptions::default;
        assert_eq!(problem(Library::Timm, "googlenet", none()), "timm has no network 'googlenet'");
        assert_eq!(problem(Library::Torchvision, "lenet5", none()), "torchvision has no network 'lenet5'");
        assert_eq!(problem(Library::Torchvision, "googlenet_v1", none()), "torchvision has no network 'googlenet_v1'");
        let grey = ZooOptions { input: Some([1, 64, 64]), ..none() };
        assert!(problem(Library::Torchvision, "resnet18", grey).contains("3 channels, got 1"));
        // Another network under the name of one of the zoo.
        let own = Net::new("resnet18", Shape::Map([3, 8, 8])).unwrap();
        assert!(named(Library::Timm, &own, StateDict::new()).is_err());
    }
}
