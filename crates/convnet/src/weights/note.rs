//! What was done to make a file's weights fit, or left undone: worth telling whoever uses them.

use std::fmt;

use super::problem::listed;

/// Something that a file's reader should know.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Note {
    /// The weights come from one of several places in the file.
    Chosen {
        /// Where they lie: a key, or what the names begin with.
        key: String,
        /// Where there are others.
        others: Vec<String>,
    },
    /// What all names of the net's tensors begin with was taken off.
    Prefix(String),
    /// Tensors that go by another name in the net, as (file, net).
    Renamed(Vec<(String, String)>),
    /// Tensors of the file that the net has no use for.
    Left(Vec<String>),
    /// Classes and functions that the file mentions; nothing was executed.
    Objects(Vec<String>),
    /// Weights that were multiplied with the mask of a pruning, or put together from direction and length.
    Merged(Vec<String>),
    /// How many classes the head in the file tells apart, which was taken over.
    Classes(usize),
    /// How many channels the first kernel in the file takes, which was taken over.
    Channels(usize),
    /// A first kernel that was changed to take another number of channels, as (tensor, file, net): grey is the sum over
    /// the channels of colour, and colour a third of grey in each.
    Adapted(String, usize, usize),
    /// Parameters that the file does not have and that have their first values.
    Initial(Vec<String>),
    /// What the file does not say, and is taken as usual.
    Assumed(String),
}

/// Modules whose functions do harm when an unpickled file calls them.
const DANGEROUS: [&str; 16] = [
    "os",
    "posix",
    "nt",
    "subprocess",
    "sys",
    "runpy",
    "importlib",
    "socket",
    "shutil",
    "webbrowser",
    "pty",
    "commands",
    "ctypes",
    "pip",
    "requests",
    "urllib",
];
/// The same of Python's own functions.
const DANGEROUS_BUILTINS: [&str; 6] = ["eval", "exec", "compile", "open", "__import__", "execfile"];

impl Note {
    /// Whether it may make results other than expected.
    pub fn is_warning(&self) -> bool {
        match self {
            Note::Left(_) | Note::Initial(_) => true,
            Note::Objects(names) => names.iter().any(|name| is_dangerous(name)),
            Note::Chosen { .. }
            | Note::Prefix(_)
            | Note::Renamed(_)
            | Note::Merged(_)
            | Note::Classes(_)
            | Note::Channels(_)
            | Note::Adapted(..)
            | Note::Assumed(_) => false,
        }
    }
}

impl Note {
    /// Whether it tells that tensors of this layer, or of one below it, were left.
    pub(super) fn is_left_below(&self, layer: &str) -> bool {
        let part = format!("{layer}.");
        let is_of_layer =
            |name: &String| name == layer || name.starts_with(&part) || name.contains(&format!(".{part}"));
        matches!(self, Note::Left(names) if names.iter().any(is_of_layer))
    }
}

fn is_dangerous(name: &str) -> bool {
    let (module, function) = name.rsplit_once('.').unwrap_or(("", name));
    let package = module.split('.').next().unwrap_or_default();
    DANGEROUS.contains(&package)
        || matches!(package, "builtins" | "__builtin__") && DANGEROUS_BUILTINS.contains(&function)
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Note::Chosen { key, others } => {
                write!(f, "weights of '{}' taken; there are others under {}", super::printable(key), listed(others))
            }
            Note::Prefix(prefix) => write!(f, "'{}' was taken off the names", super::printable(prefix)),
            Note::Renamed(pairs) => {
                let pairs: Vec<String> = pairs.iter().map(|(file, net)| format!("{file} → {net}")).collect();
                write!(f, "renamed: {}", listed(&pairs))
            }
            Note::Left(names) => write!(f, "not used, for the net does not need them: {}", listed(names)),
            Note::Objects(names) if self.is_warning() => {
                let mut names = names.clone();
                names.sort_by_key(|name| !is_dangerous(name));
                write!(
                    f,
                    "Python would run code of this file's choice when it unpickles it; here nothing was executed: {}",
                    listed(&names)
                )
            }
            Note::Objects(names) => write!(f, "objects beside the weights were passed over: {}", listed(names)),
            Note::Merged(names) => {
                write!(f, "put together from the parts of a pruned or normalised weight: {}", listed(names))
            }
            Note::Classes(count) => write!(f, "{count} classes, as many as the head of the weights has outputs"),
            Note::Channels(1) => write!(f, "grey pictures, as the first kernel of the weights takes 1 channel"),
            Note::Channels(count) => {
                write!(f, "pictures of {count} channels, as many as the first kernel of the weights takes")
            }
            Note::Adapted(tensor, from, 1) => write!(f, "{tensor}: summed over its {from} channels for grey pictures"),
            Note::Adapted(tensor, from, to) => write!(f, "{tensor}: spread from {from} to {to} channels"),
            Note::Initial(names) => write!(f, "not trained, these have their first values: {}", names.join(", ")),
            Note::Assumed(what) => write!(f, "assumed, as the file does not say: {what}"),
        }
    }
}
