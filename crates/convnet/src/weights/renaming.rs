//! From the names that a file gives its tensors to those of a net: without what a wrapper puts before them, with the head
//! under whatever name, and without what belongs to no net.
//!
//! A name is a path of modules. What stands before a net's names is found by counting: for each name of the file that ends
//! in one of the net's, whatever is before that gets a vote.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::check::{heads, is_counter};
use super::choose::prefixes_for;
use super::names::dense_layer;
use super::note::Note;
use super::problem::Problem;
use crate::net::{Net, NodeId};
use crate::ops::Op;

/// Shapes of tensors by name.
pub(super) type Shapes = BTreeMap<String, Vec<usize>>;

/// Parts of names that mean the same in other implementations of a net.
const SAME: [(&str, &str); 2] = [("shortcut", "downsample"), ("downsample", "shortcut")];
/// What the layer that tells classes apart is called.
const HEADS: [&str; 12] = [
    "fc",
    "linear",
    "classifier",
    "head",
    "heads",
    "last_linear",
    "logits",
    "output",
    "out",
    "cls",
    "cls_head",
    "fc_cls",
];
/// Parts of a prefix that mark an average of weights or a second net that follows the first.
const SECONDARY: [&str; 8] = ["ema", "momentum", "encoder_k", "target", "shadow", "swa", "key_encoder", "avg"];
/// Ends of names that programs add to every layer, and that no net needs.
const COUNTERS: [&str; 5] = ["num_batches_tracked", "n_averaged", "total_ops", "total_params", "_extra_state"];

/// Share of a net's parameters that must be found behind a prefix.
const FEW: f64 = 0.1;
/// Most prefixes beside the chosen one that are kept apart.
const MAX_OTHERS: usize = 16;

/// What becomes of a file's names.
#[derive(Clone, Debug, Default)]
pub(super) struct Renaming {
    /// For each name of the file the net's, or nothing where the tensor is left.
    pub(super) names: BTreeMap<String, Option<String>>,
    pub(super) notes: Vec<Note>,
}

/// The names of a net.
struct Names<'n> {
    shapes: HashMap<&'n str, &'n [usize]>,
    /// Most dots in a name, and most bytes.
    dots: usize,
    longest: usize,
    /// The outermost modules in their order: `nn.Sequential(*net.children())` numbers them.
    children: Vec<&'n str>,
    head: Option<&'n str>,
    first_kernel: Option<String>,
}

impl<'n> Names<'n> {
    fn new(net: &'n Net, parameters: &'n [(String, NodeId, crate::ops::Parameter)]) -> Names<'n> {
        let head = heads(net).first().map(|&id| net.node(id).name.as_str());
        let named = parameters.iter().filter(|(name, ..)| !is_counter(name));
        let shapes: HashMap<&str, &[usize]> = named.map(|(name, _, p)| (name.as_str(), &p.shape[..])).collect();
        Names {
            dots: shapes.keys().map(|name| name.matches('.').count()).max().unwrap_or(0),
            longest: shapes.keys().map(|name| name.len()).max().unwrap_or(0),
            children: children(net),
            head,
            first_kernel: first_kernel(net),
            shapes,
        }
    }

    /// The net's own name for what others call `name`.
    fn find(&self, name: &str) -> Option<&'n str> {
        let own = |name: &str| self.shapes.get_key_value(name).map(|(&own, _)| own);
        if name.len() > 2 * self.longest {
            return None;
        }
        own(name).or_else(|| own(&dense_layer(name)?)).or_else(|| {
            let respelled = |&(theirs, ours): &(&str, &str)| {
                let part = format!(".{theirs}.");
                name.contains(&part).then(|| own(&name.replacen(&part, &format!(".{ours}."), 1)))?
            };
            let numbered = || {
                let (number, rest) = name.split_once('.')?;
                own(&format!("{}.{rest}", self.children.get(number.parse::<usize>().ok()?)?))
            };
            SAME.iter().find_map(respelled).or_else(numbered)
        })
    }

    /// Whether a tensor can be the net's of that name, when the number of classes and of channels is left open.
    fn fits(&self, name: &str, shape: &[usize]) -> bool {
        let own = self.shapes[name];
        let of_head = self.head.is_some_and(|head| name.rsplit_once('.').is_some_and(|(node, _)| node == head));
        own == shape
            || of_head && own.len() == shape.len() && own[1..] == shape[1..]
            || self.first_kernel.as_deref() == Some(name)
                && own.len() == shape.len()
                && own[0] == shape[0]
                && own[2..] == shape[2..]
    }

    /// Every way to see a name of a file as something before a name of the net.
    fn splits<'s>(&self, name: &'s str) -> impl Iterator<Item = (&'s str, &'n str)> {
        let dots: Vec<usize> = name.rmatch_indices('.').map(|(at, _)| at + 1).take(self.dots + 1).collect();
        let starts: Vec<usize> = dots.into_iter().chain((name.len() <= 2 * self.longest).then_some(0)).collect();
        let own: Vec<_> = starts.into_iter().filter_map(|at| Some((&name[..at], self.find(&name[at..])?))).collect();
        own.into_iter()
    }

    /// How many parameters of the net there are behind each prefix.
    fn votes<'s>(&self, shapes: &'s Shapes) -> BTreeMap<&'s str, usize> {
        let mut votes: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (name, shape) in shapes {
            for (prefix, own) in self.splits(name).filter(|(_, own)| self.fits(own, shape)) {
                votes.entry(prefix).or_default().insert(own);
            }
        }
        votes.into_iter().map(|(prefix, names)| (prefix, names.len())).collect()
    }
}

/// The outermost modules of a net, as PyTorch's `children()` has them: what computes without being a module is left out.
fn children(net: &Net) -> Vec<&str> {
    let mut children = Vec::new();
    for node in net.nodes() {
        let outermost = node.name.split('.').next().unwrap_or_default();
        if (is_module(&node.op) || node.name.contains('.')) && !children.contains(&outermost) {
            children.push(outermost);
        }
    }
    children
}

/// Whether torchvision's nets have a module for it; the others are functions there.
fn is_module(op: &Op) -> bool {
    match op {
        Op::Input(_) | Op::Flatten | Op::Dropout(_) => false,
        Op::Add | Op::Mul | Op::Concat | Op::PadChannels(_) | Op::Slice(_) | Op::ChannelShuffle(_) => false,
        Op::Conv2d(_) | Op::Linear(_) | Op::BatchNorm2d(_) | Op::LayerNorm2d(_) | Op::LocalResponseNorm(_) => true,
        Op::Activation(_) | Op::Softmax | Op::LayerScale(_) | Op::Dropout2d(_) | Op::StochasticDepth(_) => true,
        Op::MaxPool2d(_) | Op::AvgPool2d(_) | Op::AdaptiveAvgPool2d(_) => true,
    }
}

/// Name of the kernel that reads the pictures.
pub(super) fn first_kernel(net: &Net) -> Option<String> {
    let mut reading = net.nodes().iter().filter(|node| node.inputs == [NodeId(0)]);
    let node = reading.find(|node| matches!(&node.op, Op::Conv2d(conv) if conv.groups == 1))?;
    Some(format!("{}.weight", node.name))
}

/// How many of the net's parameters tensors of these names and shapes can be, whatever stands before all names.
pub(super) fn hits(net: &Net, shapes: &Shapes) -> usize {
    let parameters = net.parameters();
    Names::new(net, &parameters).votes(shapes).into_values().max().unwrap_or(0)
}

/// How many of the net's parameters are found among tensors of these names and shapes, wherever each lies.
pub(super) fn found_in(net: &Net, shapes: &Shapes) -> usize {
    let parameters = net.parameters();
    let own: BTreeSet<&str> = parameters.iter().map(|(name, ..)| name.as_str()).collect();
    let names = rename(net, shapes, None, &[]).map(|renaming| renaming.names).unwrap_or_default();
    names.values().flatten().filter(|name| own.contains(name.as_str())).count()
}

/// Finds the net's names for a file's. `key` is a part of the names below which those of the net are wanted, `ignored` the
/// layers that need not fit (see [`fitted`](super::fitted)). Names that nothing can be found for are kept, for
/// [`check`](super::check()) to report, but for those that are plainly none of the net's where it has all that it needs.
///
/// # Errors
/// [`Problem::Several`] when two prefixes are as good, [`Problem::NoSuchKey`].
pub(super) fn rename(net: &Net, shapes: &Shapes, key: Option<&str>, ignored: &[String]) -> Result<Renaming, Problem> {
    let below = match key {
        None => String::new(),
        Some(key) => prefixes_for(shapes, key).into_iter().next().ok_or_else(|| Problem::NoSuchKey {
            key: key.to_owned(),
            known: shapes
                .keys()
                .filter_map(|name| name.split_once('.'))
                .map(|(first, _)| first.to_owned())
                .collect::<BTreeSet<_>>()
                .into_iter()
                .collect(),
        })?,
    };
    let parameters = net.parameters();
    let names = Names::new(net, &parameters);
    let wanted = shapes.iter().filter_map(|(name, shape)| Some((name.strip_prefix(&below)?.to_owned(), shape.clone())));
    let wanted: Shapes = wanted.collect();
    let mut matching =
        Matching { names, net, shapes: &wanted, own: BTreeMap::new(), taken: BTreeMap::new(), notes: Vec::new() };
    let (prefix, others) = matching.prefix()?;
    matching.match_below(&prefix);
    let is_other = |name: &str| others.iter().any(|other| name.starts_with(other.as_str()));
    matching.match_elsewhere(&is_other);
    matching.match_head(&is_other);
    let mut renaming = matching.finish(&prefix, ignored, &is_other);
    if !prefix.is_empty() {
        renaming.notes.insert(0, Note::Prefix(prefix));
    }
    renaming.names = renaming.names.into_iter().map(|(name, new)| (format!("{below}{name}"), new)).collect();
    renaming.names.extend(shapes.keys().filter(|name| !name.starts_with(&below)).map(|name| (name.clone(), None)));
    Ok(renaming)
}

/// Names of a file and of a net that are being matched.
struct Matching<'n, 's> {
    names: Names<'n>,
    net: &'n Net,
    shapes: &'s Shapes,
    /// The net's name for each name of the file.
    own: BTreeMap<&'s str, &'n str>,
    /// The file's name for each name of the net.
    taken: BTreeMap<&'n str, &'s str>,
    notes: Vec<Note>,
}

impl<'n, 's> Matching<'n, 's> {
    /// What stands before the net's names, and before others that could be meant.
    fn prefix(&mut self) -> Result<(String, Vec<String>), Problem> {
        let votes = self.names.votes(self.shapes);
        let best = votes.values().copied().max().unwrap_or(0);
        // A few names that happen to be the same say nothing.
        if best as f64 <= FEW * self.names.shapes.len() as f64 {
            return Ok(Default::default());
        }
        let is_secondary = |prefix: &str| {
            let marks =
                |part: &str| SECONDARY.iter().any(|mark| part == *mark || part.split('_').any(|word| word == *mark));
            prefix.split('.').any(marks)
        };
        let tied: Vec<&str> = votes.iter().filter(|&(_, &count)| count == best).map(|(&prefix, _)| prefix).collect();
        let first: Vec<&str> = tied.iter().copied().filter(|prefix| !is_secondary(prefix)).collect();
        let chosen = match (&tied[..], &first[..]) {
            (&[only], _) | (_, &[only]) => only,
            _ if tied.contains(&"") => "",
            _ => {
                let keys = tied.iter().map(|prefix| prefix.trim_end_matches('.').to_owned()).collect();
                return Err(Problem::Several { keys });
            }
        };
        let others = votes.iter().filter(|&(&prefix, &count)| prefix != chosen && 2 * count >= best);
        let others: Vec<String> = others.map(|(&prefix, _)| prefix.to_owned()).take(MAX_OTHERS).collect();
        if !others.is_empty() {
            let plain = |prefix: &str| prefix.trim_end_matches('.').to_owned();
            let others = others.iter().map(|other| plain(other)).collect();
            self.notes.push(Note::Chosen { key: plain(chosen), others });
        }
        Ok((chosen.to_owned(), others))
    }

    fn assign(&mut self, name: &'s str, own: &'n str) {
        self.own.insert(name, own);
        self.taken.insert(own, name);
    }

    /// Names that are the net's behind the prefix, those that are spelt as the net spells them first.
    fn match_below(&mut self, prefix: &str) {
        let shapes = self.shapes;
        let below = || shapes.keys().filter_map(|name| Some((name.as_str(), name.strip_prefix(prefix)?)));
        let mut renamed = Vec::new();
        for spelt in [true, false] {
            for (name, rest) in below() {
                let Some(own) = self.names.find(rest).filter(|&own| (own == rest) == spelt) else { continue };
                if !self.taken.contains_key(own) && !self.own.contains_key(name) {
                    self.assign(name, own);
                    if !spelt && dense_layer(rest).is_none() {
                        renamed.push((rest.to_owned(), own.to_owned()));
                    }
                }
            }
        }
        self.note_renamed(renamed);
    }

    /// Names of the net that are found once behind another prefix: a head beside its backbone.
    fn match_elsewhere(&mut self, is_other: &dyn Fn(&str) -> bool) {
        let mut places: BTreeMap<&'n str, Vec<&'s str>> = BTreeMap::new();
        for (name, shape) in self.shapes.iter().filter(|(name, _)| !is_other(name)) {
            if self.own.contains_key(name.as_str()) {
                continue;
            }
            for (_, own) in self.names.splits(name).filter(|(_, own)| self.names.fits(own, shape)) {
                if !self.taken.contains_key(own) {
                    places.entry(own).or_default().push(name);
                }
            }
        }
        let mut renamed = Vec::new();
        for (own, names) in places {
            if let [name] = names[..] {
                self.assign(name, own);
                renamed.push((name.to_owned(), own.to_owned()));
            }
        }
        self.note_renamed(renamed);
    }

    /// The head under another name: the only linear layer left that takes as many features, or the only one that is called
    /// like a head. A head of two linear layers is none of the net's.
    fn match_head(&mut self, is_other: &dyn Fn(&str) -> bool) {
        let Some(head) = self.names.head else { return };
        let own = |parameter: &str| self.names.shapes.get_key_value(format!("{head}.{parameter}").as_str());
        let Some((&own_weight, &weight)) = own("weight") else { return };
        let own_bias = own("bias").map(|(&name, _)| name);
        if self.taken.contains_key(own_weight) || weight.len() != 2 {
            return;
        }
        let shapes = self.shapes;
        let is_free = |name: &str| !self.own.contains_key(name) && !is_other(name);
        let linear = || {
            let free = shapes.iter().filter(|(name, shape)| shape.len() == 2 && is_free(name));
            free.filter_map(|(name, shape)| Some((name.strip_suffix(".weight")?, shape)))
        };
        let takes = |(stem, shape): &(&str, &Vec<usize>)| {
            let bias = shapes.get(&format!("{stem}.bias"));
            shape[1] == weight[1] && bias.map(|bias| &bias[..]) == own_bias.map(|_| &shape[..1])
        };
        let mut fitting: Vec<&'s str> = linear().filter(takes).map(|(stem, _)| stem).collect();
        if fitting.len() > 1 {
            let head_parts: Vec<&str> = head.split('.').chain(HEADS).collect();
            fitting.retain(|stem| stem.split('.').any(|part| head_parts.contains(&part)));
        }
        let [stem] = fitting[..] else { return };
        let beside = |(other, _): (&str, &Vec<usize>)| {
            other != stem && stem.rsplit_once('.').is_some_and(|(parent, _)| other.starts_with(&format!("{parent}.")))
        };
        if linear().any(beside) {
            return;
        }
        let mut renamed = Vec::new();
        for (parameter, own) in [("weight", Some(own_weight)), ("bias", own_bias)] {
            if let (Some(own), Some((name, _))) = (own, shapes.get_key_value(&format!("{stem}.{parameter}"))) {
                self.assign(name, own);
                renamed.push((name.clone(), own.to_owned()));
            }
        }
        self.note_renamed(renamed);
    }

    fn note_renamed(&mut self, mut renamed: Vec<(String, String)>) {
        renamed.retain(|(name, own)| name != own);
        if !renamed.is_empty() {
            self.notes.push(Note::Renamed(renamed));
        }
    }

    /// What becomes of every name.
    fn finish(mut self, prefix: &str, ignored: &[String], is_other: &dyn Fn(&str) -> bool) -> Renaming {
        let needed = self.net.needed(false);
        let is_ignored = |name: &str| ignored.iter().any(|layer| is_below(name, layer));
        let head_ignored = ignored.iter().any(|layer| layer == super::check::HEAD);
        let of_head = |name: &str| head_ignored && self.names.head.is_some_and(|head| is_below(name, head));
        let complete = self.net.parameters().iter().all(|(name, node, _)| {
            is_counter(name)
                || !needed[node.index()]
                || is_ignored(name)
                || of_head(name)
                || self.taken.contains_key(name.as_str())
        });
        let mut left = Vec::new();
        let mut names = BTreeMap::new();
        let stems: BTreeSet<&str> = self.names.shapes.keys().map(|name| stem(name)).collect();
        for name in self.shapes.keys() {
            let rest = name.strip_prefix(prefix).unwrap_or(name);
            let unknown = || !name.starts_with(prefix) || !stems.contains(stem(rest)) && !self.is_of_a_norm(name);
            let new = match self.own.get(name.as_str()) {
                Some(own) => Some((*own).to_owned()),
                // Those of another net have been told.
                None if is_uncounted(rest) || complete && is_other(name) => None,
                None if is_ignored(rest) || of_head(rest) || complete && unknown() => {
                    left.push(name.clone());
                    None
                }
                None => Some(rest.to_owned()),
            };
            names.insert(name.clone(), new);
        }
        if !left.is_empty() {
            self.notes.push(Note::Left(left));
        }
        Renaming { names, notes: self.notes }
    }

    /// Whether running statistics lie beside a tensor: it is part of a batch norm, without which a net computes something
    /// else.
    fn is_of_a_norm(&self, name: &str) -> bool {
        let node = name.rsplit_once('.').map_or("", |(node, _)| node);
        self.shapes.contains_key(&format!("{node}.running_mean"))
    }
}

/// The outermost module of a name, without its number: where nets differ in depth alone, these are the same.
fn stem(name: &str) -> &str {
    name.split('.').next().unwrap_or_default().trim_end_matches(|c: char| c.is_ascii_digit())
}

/// Whether a name is that of a layer or below it.
pub(crate) fn is_below(name: &str, layer: &str) -> bool {
    name.strip_prefix(layer).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Whether no net needs a tensor of that name.
fn is_uncounted(name: &str) -> bool {
    COUNTERS.iter().any(|counter| name == *counter || name.ends_with(&format!(".{counter}")))
}

/// How many classes the file's head tells apart, where everything else about it is as the net needs it.
pub(super) fn classes(net: &Net, shapes: &Shapes, renaming: &Renaming) -> Option<usize> {
    let head = heads(net).first().map(|&id| format!("{}.weight", net.node(id).name))?;
    let (own, shape) = found(net, shapes, renaming, &head)?;
    (own.len() == shape.len() && own[1..] == shape[1..]).then(|| shape[0])
}

/// How many channels the file's first kernel takes, where everything else about it is as the net needs it.
pub(super) fn channels(net: &Net, shapes: &Shapes, renaming: &Renaming) -> Option<usize> {
    let (own, shape) = found(net, shapes, renaming, &first_kernel(net)?)?;
    let same = own.len() == 4 && shape.len() == 4 && own[0] == shape[0] && own[2..] == shape[2..];
    same.then(|| shape[1])
}

/// Shapes of the net's parameter of that name and of the file's tensor for it.
fn found(net: &Net, shapes: &Shapes, renaming: &Renaming, own: &str) -> Option<(Vec<usize>, Vec<usize>)> {
    let (name, _) = renaming.names.iter().find(|(_, new)| new.as_deref() == Some(own))?;
    let (_, _, parameter) = net.parameters().into_iter().find(|(name, ..)| name == own)?;
    Some((parameter.shape, shapes.get(name)?.clone()))
}
