//! Which of several state dicts in a file is meant.

use std::collections::BTreeMap;

use super::note::Note;
use super::problem::Problem;
use super::renaming::{Shapes, found_in, hits};
use crate::net::Net;

/// Keys under which training scripts keep a state dict, the likeliest first: a net's own weights before an average of
/// them.
const WRAPPERS: [&str; 13] = [
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "net",
    "network",
    "weights",
    "params",
    "module",
    "state_dict_ema",
    "model_ema",
    "ema_state_dict",
    "ema",
];
/// What the last key begins with where tensors belong to a training and not to a net.
const NOT_A_NET: [&str; 14] = [
    "optim",
    "opt",
    "scheduler",
    "lr_sched",
    "scaler",
    "amp",
    "callbacks",
    "loops",
    "hyper_parameters",
    "hparams",
    "args",
    "config",
    "rng",
    "criterion",
];
/// Share of a net's parameters that a state dict must have to be taken for it.
const ENOUGH: f64 = 0.5;

/// Weights that a file offers, known by names and shapes.
#[derive(Clone, Debug, Default)]
pub(super) struct Offer {
    /// The keys that lead to them, with dots between; empty for the file's own object.
    pub(super) key: String,
    pub(super) shapes: Shapes,
}

/// What is to be read.
#[derive(Clone, Debug, Default)]
pub(super) struct Choice {
    /// Indices of offers. Of several, each one's names begin with its key then.
    pub(super) taken: Vec<usize>,
    pub(super) notes: Vec<Note>,
}

/// Chooses among the offers of a file.
pub(super) type Choose<'c> = &'c mut dyn FnMut(&[Offer]) -> Result<Choice, Problem>;

impl Offer {
    /// Whether the weights lie under this key.
    pub(super) fn is_under(&self, key: &str) -> bool {
        self.key == key || self.key.strip_suffix(key).is_some_and(|before| before.ends_with('.'))
    }

    fn last_key(&self) -> &str {
        self.key.rsplit('.').next().unwrap_or_default()
    }

    /// Whether it has names as modules give them.
    fn is_of_a_net(&self) -> bool {
        self.shapes.keys().any(|name| name.contains('.') || matches!(name.as_str(), "weight" | "bias"))
    }

    fn is_beside(&self) -> bool {
        self.key.split('.').any(|key| NOT_A_NET.iter().any(|begin| key.to_ascii_lowercase().starts_with(begin)))
    }
}

/// The offer under `key`, or else the one that is usual; of one that has its weights under `key` within longer names, these
/// are chosen later (see [`super::renaming`]).
///
/// # Errors
/// [`Problem::Several`] when none is usual, [`Problem::NoSuchKey`].
pub(super) fn default_choice(offers: &[Offer], key: Option<&str>) -> Result<Choice, Problem> {
    let Some(key) = key else { return usual(offers).map(|index| chosen(offers, index)) };
    let one = |index| Choice { taken: vec![index], notes: Vec::new() };
    let exact = offers.iter().position(|offer| offer.key == key);
    if let Some(index) = exact.or_else(|| offers.iter().position(|offer| offer.is_under(key))) {
        return Ok(one(index));
    }
    // Within its names, then: of the usual one, or of the only one.
    let has = |offer: &Offer| !prefixes_for(&offer.shapes, key).is_empty();
    let usual = usual(offers).ok().filter(|&index| has(&offers[index]));
    usual
        .or_else(|| offers.iter().position(has))
        .map(one)
        .ok_or_else(|| Problem::NoSuchKey { key: key.to_owned(), known: known_keys(offers) })
}

/// What names begin with up to `key` and the dot after it, for names in which that is a whole part.
pub(super) fn prefixes_for(shapes: &Shapes, key: &str) -> Vec<String> {
    let key = key.trim_end_matches('.');
    let mut found = BTreeMap::new();
    for name in shapes.keys() {
        let within = name.find(&format!(".{key}.")).map(|at| at + key.len() + 2);
        let end = if name.starts_with(&format!("{key}.")) { Some(key.len() + 1) } else { within };
        if let Some(end) = end {
            *found.entry(name[..end].to_owned()).or_insert(0) += 1;
        }
    }
    let mut found: Vec<(String, usize)> = found.into_iter().collect();
    found.sort_by_key(|(prefix, count)| (std::cmp::Reverse(*count), prefix.len()));
    found.into_iter().map(|(prefix, _)| prefix).collect()
}

/// As [`default_choice`], but where it is not plain, or what is usual is not the net's, the net decides: the only offer that
/// has its parameters, or several that have them together (a backbone and its head).
pub(super) fn choice_for(net: &Net, offers: &[Offer], key: Option<&str>) -> Result<Choice, Problem> {
    if key.is_some() {
        return default_choice(offers, key);
    }
    let parameters = net.parameters().iter().filter(|(name, ..)| !super::check::is_counter(name)).count();
    let fits = |shapes: &Shapes| hits(net, shapes) as f64 >= ENOUGH * parameters as f64;
    let usual = usual(offers);
    if let Ok(index) = usual
        && (offers.len() == 1 || fits(&offers[index].shapes))
    {
        return Ok(chosen(offers, index));
    }
    let candidates: Vec<usize> = (0..offers.len()).filter(|&i| !offers[i].is_beside()).collect();
    let fitting: Vec<usize> = candidates.iter().copied().filter(|&i| fits(&offers[i].shapes)).collect();
    match fitting[..] {
        [] => {}
        // The head may lie beside the backbone.
        [index] => {
            let together = joined(offers, &candidates);
            let better = found_in(net, &together) > found_in(net, &offers[index].shapes);
            return Ok(if better { Choice { taken: candidates, notes: Vec::new() } } else { chosen(offers, index) });
        }
        _ => {
            return usual
                .map(|index| chosen(offers, index))
                .map_err(|_| Problem::Several { keys: fitting.iter().map(|&i| offers[i].key.clone()).collect() });
        }
    }
    usual.map(|index| chosen(offers, index))
}

/// Names and shapes of several offers, as they are when all are taken.
fn joined(offers: &[Offer], indices: &[usize]) -> Shapes {
    let named = |&i: &usize| offers[i].shapes.iter().map(move |(n, s)| (format!("{}.{n}", offers[i].key), s.clone()));
    indices.iter().flat_map(named).collect()
}

/// Takes one, and says which others there are.
fn chosen(offers: &[Offer], index: usize) -> Choice {
    let is_other = |(i, offer): &(usize, &Offer)| *i != index && offer.is_of_a_net() && !offer.is_beside();
    let others: Vec<String> = offers.iter().enumerate().filter(is_other).map(|(_, offer)| offer.key.clone()).collect();
    let notes = match others.is_empty() {
        true => Vec::new(),
        false => vec![Note::Chosen { key: offers[index].key.clone(), others }],
    };
    Choice { taken: vec![index], notes }
}

/// The offer that a training script means to be used.
fn usual(offers: &[Offer]) -> Result<usize, Problem> {
    let rank = |offer: &Offer| WRAPPERS.iter().position(|&wrapper| wrapper == offer.last_key());
    let nets: Vec<usize> = (0..offers.len()).filter(|&i| offers[i].is_of_a_net() && !offers[i].is_beside()).collect();
    let best = nets.iter().copied().filter(|&i| rank(&offers[i]).is_some()).min_by_key(|&i| rank(&offers[i]));
    // The file's own object where that is a state dict, whatever lies beside its tensors.
    let root = nets.iter().copied().find(|&i| offers[i].key.is_empty());
    if let Some(index) = root.or(best) {
        return Ok(index);
    }
    match nets[..] {
        [index] => return Ok(index),
        [] => {}
        _ => return Err(Problem::Several { keys: nets.iter().map(|&i| offers[i].key.clone()).collect() }),
    }
    // Tensors without modules' names: a dict of tensors all the same.
    let named = (0..offers.len()).filter(|&i| rank(&offers[i]).is_some()).min_by_key(|&i| rank(&offers[i]));
    let others: Vec<usize> = (0..offers.len()).filter(|&i| !offers[i].is_beside()).collect();
    match (named, &others[..]) {
        (Some(index), _) | (None, &[index, ..]) => Ok(index),
        (None, []) => Err(Problem::NoSuchKey { key: "state_dict".into(), known: known_keys(offers) }),
    }
}

/// Where weights lie: the offers' keys, and for a lone offer what its names begin with.
fn known_keys(offers: &[Offer]) -> Vec<String> {
    let mut keys: Vec<String> = offers.iter().map(|offer| offer.key.clone()).filter(|key| !key.is_empty()).collect();
    if let [offer] = offers {
        let first = offer.shapes.keys().filter_map(|name| name.split_once('.')).map(|(first, _)| first.to_owned());
        keys.extend(first);
    }
    keys.dedup();
    keys
}
