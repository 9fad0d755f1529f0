//! The form that `torch.save` wrote before 1.6: five pickles (a magic number, the protocol's version, facts about the
//! machine, the object, the names of its storages), then each storage as its number of elements (64 bits) and its bytes.

use std::collections::HashMap;
use std::io::{Read, Seek};

use super::pickle::{Pickle, Problem};
use super::source::{Source, le};
use super::value::{Storage, Value};
use crate::weights::printable;

/// 0x1950a86a20f9469cfc6c, with which such a file begins.
pub(super) const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
/// Bytes of a file's beginning in which its pickles nearly always lie.
pub(super) const HEAD: u64 = 8 << 20;
/// The only version of this form that there is.
pub(super) const VERSION: i64 = 1001;

/// The pickles at the beginning of a file.
pub(super) struct Stream<'a> {
    pub(super) object: Pickle<'a>,
    keys: Vec<&'a str>,
    /// Where the first storage begins.
    storages: u64,
}

impl<'a> Stream<'a> {
    pub(super) fn parse(head: &'a [u8]) -> Result<Stream<'a>, Problem> {
        let mut at = 0;
        let mut next = || {
            let (pickle, length) = Pickle::parse(&head[at..])?;
            at += length;
            Ok::<_, Problem>(pickle)
        };
        let magic = next()?;
        if !matches!(magic.get(magic.root()), Value::Long(magic) if *magic == MAGIC) {
            return Err("a Python pickle, but not one of torch.save: save a state_dict with PyTorch".into());
        }
        let version = next()?;
        if !matches!(version.get(version.root()), Value::Int(VERSION)) {
            return Err(format!("a PyTorch file of an unknown version: expected {VERSION}"));
        }
        let machine = next()?;
        let mut facts = machine.entries(machine.root()).into_iter().flatten();
        if facts.any(|(name, value)| name == "little_endian" && matches!(machine.get(value), Value::Bool(false))) {
            return Err("a PyTorch file of a big-endian machine: save it again on another".into());
        }
        let object = next()?;
        let names = next()?;
        let Value::List(ids) = names.get(names.root()) else { return Err("expected a list of storages".into()) };
        let keys: Option<Vec<&str>> = ids.iter().map(|&id| names.text(id)).collect();
        let keys = keys.ok_or("a storage whose name is not text")?;
        Ok(Stream { object, keys, storages: at as u64 })
    }

    /// Where each storage's bytes begin, by name, once the storages are known to fill the rest of the file exactly.
    pub(super) fn places<R: Read + Seek>(&self, source: &mut Source<R>) -> Result<HashMap<&'a str, u64>, Problem> {
        let mut claims: HashMap<&str, &Storage> = HashMap::new();
        for storage in self.object.storages() {
            let first = *claims.entry(storage.key).or_insert(storage);
            if (first.element, first.elements) != (storage.element, storage.elements) {
                return Err(format!("storage '{}' has two types or two lengths", printable(storage.key)));
            }
        }
        let mut places = HashMap::new();
        let mut at = self.storages;
        for &key in &self.keys {
            let name = printable(key);
            let storage = claims.get(key).ok_or_else(|| format!("storage '{name}' is of no known type"))?;
            let elements = le(&source.read(at, 8)?, 0, 8);
            if elements != storage.elements as u64 {
                return Err(format!("storage '{name}' has {elements} elements: expected {}", storage.elements));
            }
            if places.insert(key, at + 8).is_some() {
                return Err(format!("two storages are called '{name}'"));
            }
            // Held against the file's end when the next one is read, or below.
            at = at.saturating_add(8).saturating_add(storage.bytes());
        }
        match source.length() {
            length if at > length => Err(format!("truncated: expected {at} bytes, the file has {length}")),
            length if at < length => Err(format!("{} stray bytes after the last storage", length - at)),
            _ => Ok(places),
        }
    }
}
