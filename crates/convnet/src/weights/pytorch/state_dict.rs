//! Finding the state dicts in what a file holds: itself, what training scripts wrap around one, or a pickled module.

use std::collections::HashSet;

use super::pickle::{Pickle, Problem};
use super::value::{Id, Value, View};
use crate::weights::printable;

/// Most containers around a state dict.
const MAX_DEPTH: usize = 4;
/// Most state dicts that are found in a file.
const MAX_FOUND: usize = 64;
/// Most items of a list that are looked into.
const MAX_ITEMS: usize = 64;
/// Most containers that are looked into at one depth.
const MAX_CONTAINERS: usize = 1 << 16;
/// Most modules within each other.
const MAX_MODULES: usize = 64;
/// Most entries of all state dicts together, and most bytes of their names: modules may be shared, so a small pickle
/// could stand for any number.
const MAX_TENSORS: usize = 1 << 17;
const MAX_NAMES: usize = 16 << 20;
/// How many keys a message names.
const SHOWN: usize = 8;
/// What tensors of a net are called, after the last dot.
const PARAMETERS: [&str; 4] = ["weight", "bias", "running_mean", "running_var"];

/// A state dict in a file.
#[derive(Debug)]
pub(super) struct Found<'p, 'a> {
    /// The keys that lead to it, with dots between them; empty for the file's own object.
    pub(super) key: String,
    /// Names and tensors, in the file's order.
    pub(super) tensors: Vec<(String, &'p View<'a>)>,
    /// Why it cannot be used: a parameter that is no tensor, or one whose elements cannot be read.
    pub(super) problem: Option<Problem>,
}

/// Every state dict of a file, those that fewer keys lead to first. Entries that are neither tensors nor called like
/// parameters are left out.
///
/// # Errors
/// When there is none, or more than can be meant well.
pub(super) fn find<'p, 'a>(pickle: &'p Pickle<'a>) -> Result<Vec<Found<'p, 'a>>, Problem> {
    let mut search = Search { pickle, found: Vec::new(), tensors: 0, names: 0 };
    let mut seen = HashSet::new();
    let mut level = vec![(String::new(), pickle.root())];
    for _ in 0..=MAX_DEPTH {
        let mut next = Vec::new();
        for (key, id) in level {
            if !seen.insert(id) || search.found.len() == MAX_FOUND {
                continue;
            }
            if search.modules(id).is_some() {
                search.add_module(&key, id)?;
            } else {
                search.add_dict(&key, id)?;
                let below = |name: &str| if key.is_empty() { name.to_owned() } else { format!("{key}.{name}") };
                let new = children(pickle, id).filter(|(_, id)| !seen.contains(id));
                next.extend(new.take(MAX_CONTAINERS - next.len()).map(|(name, id)| (below(&name), id)));
            }
        }
        level = next;
    }
    if search.found.is_empty() {
        return Err(nothing_found(pickle));
    }
    Ok(search.found)
}

/// What in a value may hold a state dict.
fn children(pickle: &Pickle, id: Id) -> impl Iterator<Item = (String, Id)> {
    let container =
        |id: Id| matches!(pickle.get(id), Value::Dict(_) | Value::Object(_) | Value::List(_) | Value::Tuple(_));
    let named = pickle.entries(id).into_iter().flatten().chain(pickle.attributes(id).into_iter().flatten());
    let items = match pickle.get(id) {
        Value::List(items) | Value::Tuple(items) => &items[..items.len().min(MAX_ITEMS)],
        _ => &[],
    };
    let named = named.filter(move |&(_, id)| container(id)).map(|(name, id)| (printable(name), id));
    let items = items.iter().enumerate().map(|(i, &id)| (i.to_string(), id));
    named.chain(items.filter(move |&(_, id)| container(id)))
}

struct Search<'p, 'a> {
    pickle: &'p Pickle<'a>,
    found: Vec<Found<'p, 'a>>,
    tensors: usize,
    names: usize,
}

impl<'p, 'a> Search<'p, 'a> {
    /// Adds the tensors that lie directly in a dict.
    fn add_dict(&mut self, key: &str, id: Id) -> Result<(), Problem> {
        let Some(entries) = self.pickle.entries(id) else { return Ok(()) };
        let mut found = Found { key: key.to_owned(), tensors: Vec::new(), problem: None };
        for (name, id) in entries {
            self.add_tensor(&mut found, name.to_owned(), id)?;
        }
        self.push(found);
        Ok(())
    }

    /// Adds the parameters and buffers of a module and of those below it, as its `state_dict()` would name them.
    fn add_module(&mut self, key: &str, id: Id) -> Result<(), Problem> {
        let mut found = Found { key: key.to_owned(), tensors: Vec::new(), problem: None };
        let mut modules = vec![(String::new(), id, 0)];
        while let Some((prefix, id, depth)) = modules.pop() {
            if depth > MAX_MODULES {
                return Err(format!("more than {MAX_MODULES} modules within each other"));
            }
            let attribute = |name: &str| self.pickle.attributes(id).and_then(|mut all| all.find(|(n, _)| *n == name));
            let (parameters, buffers) = (attribute("_parameters"), attribute("_buffers"));
            let unsaved = attribute("_non_persistent_buffers_set").map(|(_, id)| self.texts(id)).unwrap_or_default();
            for (_, dict) in parameters.into_iter().chain(buffers) {
                for (name, id) in self.pickle.entries(dict).into_iter().flatten() {
                    if !unsaved.contains(&name) {
                        self.add_tensor(&mut found, format!("{prefix}{name}"), id)?;
                    }
                }
            }
            let below: Vec<_> = self.modules(id).into_iter().flatten().collect();
            for (name, id) in below.into_iter().rev() {
                self.names += prefix.len() + name.len();
                self.tensors += 1;
                self.check_limits()?;
                modules.push((format!("{prefix}{name}."), id, depth + 1));
            }
        }
        self.push(found);
        Ok(())
    }

    /// The modules directly below a pickled `torch.nn.Module`; nothing for anything else.
    fn modules(&self, id: Id) -> Option<impl Iterator<Item = (&'a str, Id)>> {
        let mut modules = None;
        let mut has_parameters = false;
        for (name, id) in self.pickle.attributes(id)? {
            match name {
                "_modules" => modules = self.pickle.entries(id),
                "_parameters" => has_parameters = true,
                _ => {}
            }
        }
        modules.filter(|_| has_parameters)
    }

    fn texts(&self, id: Id) -> Vec<&'a str> {
        match self.pickle.get(id) {
            Value::List(items) | Value::Tuple(items) => items.iter().filter_map(|&id| self.pickle.text(id)).collect(),
            _ => Vec::new(),
        }
    }

    fn add_tensor(&mut self, found: &mut Found<'p, 'a>, name: String, id: Id) -> Result<(), Problem> {
        let problem = match self.pickle.get(id) {
            Value::Tensor(view) => {
                self.tensors += 1;
                self.names += name.len();
                self.check_limits()?;
                found.tensors.push((name, view));
                return Ok(());
            }
            Value::Special(kind) => format!(
                "tensor '{}' is {kind}, and only dense tensors of real numbers are read: convert it with PyTorch \
                 (dequantize(), to_dense()) and save the state_dict again",
                printable(&name)
            ),
            Value::Object(object) if is_parameter(&name) => {
                let class =
                    object.class.map_or_else(|| "a call".to_owned(), |(module, name)| format!("{module}.{name}"));
                format!(
                    "'{}' is no tensor but an object of '{}'; nothing was executed. If you trust the file, load it with \
                     PyTorch and save the state_dict alone",
                    printable(&name),
                    printable(&class)
                )
            }
            _ => return Ok(()),
        };
        found.problem.get_or_insert(problem);
        Ok(())
    }

    fn check_limits(&self) -> Result<(), Problem> {
        match self.tensors > MAX_TENSORS || self.names > MAX_NAMES {
            true => Err(format!("more than {MAX_TENSORS} tensors, or names of more than {MAX_NAMES} bytes")),
            false => Ok(()),
        }
    }

    fn push(&mut self, found: Found<'p, 'a>) {
        if !found.tensors.is_empty() || found.problem.is_some() {
            self.found.push(found);
        }
    }
}

/// Whether a name is one that a state dict gives a parameter, and not a setting beside it.
fn is_parameter(name: &str) -> bool {
    match name.rsplit_once('.') {
        Some((_, last)) => last != "_extra_state",
        None => PARAMETERS.contains(&name),
    }
}

fn nothing_found(pickle: &Pickle) -> Problem {
    let keys = match pickle.get(pickle.root()) {
        Value::Object(object) => {
            let class = object.class.map_or_else(|| "a call".to_owned(), |(module, name)| format!("{module}.{name}"));
            return format!(
                "expected a state dict (names and tensors), found an object of '{}' without tensors that can be named; \
                 nothing was executed. If you trust the file, load it with PyTorch and save the state_dict alone",
                printable(&class)
            );
        }
        _ => pickle.entries(pickle.root()),
    };
    let Some(keys) = keys else { return "expected a state dict (names and tensors), found something else".into() };
    let mut keys: Vec<String> = keys.map(|(key, _)| printable(key)).collect();
    let more = if keys.len() > SHOWN { " and more" } else { "" };
    keys.truncate(SHOWN);
    format!("expected a state dict (names and tensors), found a dict of [{}]{more}", keys.join(", "))
}
