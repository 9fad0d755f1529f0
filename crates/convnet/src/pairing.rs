//! Which class of a net each class of a data set is: by name, wherever the two lists differ in order or in length. Never by
//! position where both have names.

use std::collections::HashMap;

use unicode_normalization::UnicodeNormalization;

use crate::data::labels;
use crate::{Error, Result};

/// How classes were paired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// Both have the same names.
    Name,
    /// The same names but for case, accents' form, and `_` and `-` for spaces; or the first of several names.
    SimilarName,
    /// Both are numbers, `07` and `7` the same.
    Number,
    /// The data set's names are numbers of the net's classes, counted from 0.
    Index,
    /// The data set's names are ImageNet's synsets, such as n01440764.
    Synset,
    /// In their order: the net's classes have no names, or the user wants it so.
    Position,
}

/// Classes of a data set and of a net, paired.
#[derive(Clone, Debug, PartialEq)]
pub struct Pairing {
    /// For each class of the data set, the net's.
    pub classes: Vec<u32>,
    /// How they were paired.
    pub by: By,
}

/// Pairs each class of a data set with one of a net.
///
/// # Errors
/// [`Error::Classes`] when the net does not know all of them.
///
/// ```
/// use convnet::pairing::{By, pair};
/// let names = |names: &[&str]| names.iter().map(|name| name.to_string()).collect::<Vec<_>>();
/// let paired = pair(&names(&["0", "10", "2"]), &names(&["00", "01", "02", "10"])).unwrap();
/// assert_eq!((&paired.classes[..], paired.by), (&[0, 3, 2][..], By::Number));
/// assert!(pair(&names(&["cat", "cow"]), &names(&["cat", "dog"])).is_err());
/// ```
pub fn pair(data: &[String], net: &[String]) -> Result<Pairing> {
    let number = |name: &str| name.trim().parse::<u64>().ok().map(|number| number.to_string());
    let ways: [(By, &Key); 3] = [(By::Name, &exact), (By::Number, &number), (By::SimilarName, &similar)];
    let named = !is_numbered(net);
    for (by, key) in ways {
        if let Some(classes) = by_key(data, net, key) {
            return Ok(Pairing { classes, by });
        }
    }
    if let Some(classes) = by_synset(data, net) {
        return Ok(Pairing { classes, by: By::Synset });
    }
    let index = |name: &String| name.trim().parse::<u32>().ok().filter(|&index| (index as usize) < net.len());
    let indices: Option<Vec<u32>> = data.iter().map(index).collect();
    if let Some(classes) = indices.filter(|classes| named && distinct(classes)) {
        return Ok(Pairing { classes, by: By::Index });
    }
    if !named && data.len() == net.len() {
        return by_position(data, net);
    }
    let among = |names: &[String], wanted: &str| names.iter().any(|name| exact(name) == exact(wanted));
    Err(Error::Classes {
        unknown: data.iter().filter(|name| !among(net, name)).cloned().collect(),
        unused: net.iter().filter(|name| !among(data, name)).cloned().collect(),
        data: data.len(),
        net: net.len(),
    })
}

/// Pairs classes in their order.
///
/// # Errors
/// [`Error::Classes`] when one list is longer.
pub fn by_position(data: &[String], net: &[String]) -> Result<Pairing> {
    if data.len() != net.len() {
        return Err(Error::Classes { unknown: Vec::new(), unused: Vec::new(), data: data.len(), net: net.len() });
    }
    Ok(Pairing { classes: (0..data.len() as u32).collect(), by: By::Position })
}

/// What two names must have in common to be one class's; nothing where a name has no such thing.
type Key = dyn Fn(&str) -> Option<String>;

/// A name without blanks around it, composed.
fn exact(name: &str) -> Option<String> {
    Some(name.trim().nfc().collect())
}

/// Whether classes are called by their numbers alone.
fn is_numbered(classes: &[String]) -> bool {
    classes.iter().enumerate().all(|(number, name)| *name == number.to_string())
}

/// The net's class with the same key for each of the data set's, where keys are there and tell all classes apart.
fn by_key(data: &[String], net: &[String], key: &Key) -> Option<Vec<u32>> {
    let mut numbers: HashMap<String, Option<u32>> = HashMap::new();
    for (number, name) in net.iter().enumerate() {
        let Some(key) = key(name) else { continue };
        // A key of two classes tells neither.
        numbers.entry(key).and_modify(|number| *number = None).or_insert(Some(number as u32));
    }
    let classes: Option<Vec<u32>> = data.iter().map(|name| *numbers.get(&key(name)?)?).collect();
    classes.filter(|classes| distinct(classes))
}

fn distinct(classes: &[u32]) -> bool {
    let mut sorted = classes.to_vec();
    sorted.sort_unstable();
    sorted.windows(2).all(|pair| pair[0] != pair[1])
}

/// What similar names have in common: of "tench, Tinca tinca" and "Tench", "tench".
fn similar(name: &str) -> Option<String> {
    let first = name.split(',').next().unwrap_or(name);
    let plain: String =
        first.nfc().flat_map(char::to_lowercase).map(|c| if "_-".contains(c) { ' ' } else { c }).collect();
    let words: Vec<&str> = plain.split_whitespace().collect();
    (!words.is_empty()).then(|| words.join(" "))
}

/// The classes of ImageNet's synsets, for nets with its 1,000 classes under their usual names or numbers.
fn by_synset(data: &[String], net: &[String]) -> Option<Vec<u32>> {
    let imagenet = net.len() == 1000 && (is_numbered(net) || net == labels::imagenet());
    let synsets = labels::imagenet_synsets();
    let number = |name: &String| synsets.iter().position(|synset| synset.eq_ignore_ascii_case(name.trim()));
    data.iter().map(|name| number(name).filter(|_| imagenet).map(|number| number as u32)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn paired(data: &[&str], net: &[&str]) -> (Vec<u32>, By) {
        let Pairing { classes, by } = pair(&names(data), &names(net)).unwrap();
        (classes, by)
    }

    #[test]
    fn names_go_before_order() {
        assert_eq!(paired(&["cat", "dog"], &["cat", "dog"]), (vec![0, 1], By::Name));
        assert_eq!(paired(&["cat", "dog"], &["dog", "cow", "cat"]), (vec![2, 0], By::Name));
        assert_eq!(paired(&["cafe\u{301}"], &["bar", "caf\u{e9}"]), (vec![1], By::Name));
        assert_eq!(paired(&["Big_Cat", "dog"], &["dog, hound", "big cat"]), (vec![1, 0], By::SimilarName));
        assert_eq!(paired(&["0", "1", "10", "2"], &["00", "01", "02", "10"]), (vec![0, 1, 3, 2], By::Number));
        assert_eq!(paired(&["1", "0"], &["cat", "dog"]), (vec![1, 0], By::Index));
        assert_eq!(paired(&["cat", "dog"], &["0", "1"]), (vec![0, 1], By::Position));
    }

    #[test]
    fn imagenet_is_known_by_its_synsets() {
        let net = labels::imagenet();
        let data = names(&["n01440764", "n02102040", "n03000684"]);
        let expected = Pairing { classes: vec![0, 217, 491], by: By::Synset };
        assert_eq!(pair(&data, &net).unwrap(), expected);
        let numbered: Vec<String> = (0..1000).map(|number| number.to_string()).collect();
        assert_eq!(pair(&data, &numbered).unwrap(), expected);
        assert!(pair(&names(&["n00000000"]), &net).is_err());
        assert_eq!(pair(&names(&["English_springer", "tench"]), &net).unwrap().classes, [217, 0]);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let message = |data: &[&str], net: &[&str]| pair(&names(data), &names(net)).unwrap_err().to_string();
        let differ = message(&["green", "red", "violet"], &["blue", "green", "red"]);
        assert!(differ.contains("'violet'") && differ.contains("'blue'") && !differ.contains("green"), "{differ}");
        let more = message(&["a", "b", "c"], &["0", "1"]);
        assert!(more.contains("3 classes") && more.contains("2"), "{more}");
        // Two that look alike tell neither.
        assert!(pair(&names(&["Cat"]), &names(&["cat", "CAT"])).is_err());
        assert!(by_position(&names(&["a"]), &names(&["b", "c"])).is_err());
    }
}
