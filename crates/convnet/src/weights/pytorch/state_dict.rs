//! Finding the state dict in what a file holds: itself, or what training scripts wrap around it.

use super::pickle::{Pickle, Problem};
use super::value::{Id, Value, View};
use crate::weights::printable;

/// Keys under which training scripts keep a state dict, the likeliest first: a net's own weights before an average of
/// them.
const WRAPPERS: [&str; 9] = [
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "net",
    "network",
    "weights",
    "state_dict_ema",
    "model_ema",
];
/// Most wrappers around each other.
const MAX_WRAPPERS: usize = 4;
/// How many keys a message names.
const SHOWN: usize = 8;

/// The names and tensors of a file's state dict, in the file's order. Entries that are no tensors are left out.
pub(super) fn find<'p, 'a>(pickle: &'p Pickle<'a>) -> Result<Vec<(&'a str, &'p View<'a>)>, Problem> {
    let mut dict = pickle.root();
    for _ in 0..MAX_WRAPPERS {
        match unwrap(pickle, dict) {
            Some(inner) => dict = inner,
            None => break,
        }
    }
    let tensor = |(name, id)| match pickle.get(id) {
        Value::Tensor(view) => Some((name, &**view)),
        _ => None,
    };
    let Some(entries) = pickle.entries(dict) else {
        return Err("expected a state dict (names and tensors), found something else".into());
    };
    let tensors: Vec<_> = entries.filter_map(tensor).collect();
    if tensors.is_empty() {
        let mut keys: Vec<String> = pickle.entries(dict).into_iter().flatten().map(|(key, _)| printable(key)).collect();
        let more = if keys.len() > SHOWN { " and more" } else { "" };
        keys.truncate(SHOWN);
        return Err(format!("expected a state dict (names and tensors), found a dict of [{}]{more}", keys.join(", ")));
    }
    Ok(tensors)
}

/// The dict that `dict` wraps, if it does.
fn unwrap(pickle: &Pickle, dict: Id) -> Option<Id> {
    let find = |key: &str| {
        let mut entries = pickle.entries(dict)?;
        entries.find(|&(name, id)| name == key && matches!(pickle.get(id), Value::Dict(_))).map(|(_, id)| id)
    };
    WRAPPERS.into_iter().find_map(find)
}
